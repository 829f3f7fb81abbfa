// LockService: v3lockpb.Lock. Decode, hand over, encode; the logic is Core's (Coordination/Locks.cs). Any I/O thread.
using System;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Coordination;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Lock and unlock.</summary>
internal sealed class LockService(MemberPort port)
{
    private readonly Locks _locks = new(port.Member, port.Clock);

    /// <summary>LockRequest {1 name, 2 lease} to LockResponse {1 header, 2 key}.</summary>
    public async ValueTask LockAsync(RpcCall call)
    {
        bool read = TryRead(call.Request, out byte[] name, out long lease);
        call.ReleaseRequest();
        ErrorCode refusal = read ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        var caller = new LongCall(call, port);
        Answer(call, caller, await _locks.LockAsync(caller, name, lease), withKey: true);
    }

    /// <summary>UnlockRequest {1 key} to UnlockResponse {1 header}.</summary>
    public async ValueTask UnlockAsync(RpcCall call)
    {
        bool read = TryRead(call.Request, out byte[] key, out _, hasLease: false);
        call.ReleaseRequest();
        ErrorCode refusal = read ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        var caller = new LongCall(call, port);
        Answer(call, caller, await _locks.UnlockAsync(caller, key), withKey: false);
    }

    private static void Answer(RpcCall call, LongCall caller, in LockResult result, bool withKey)
    {
        if (result.Outcome != ErrorCode.None)
        {
            caller.Fail(result.Outcome);
            return;
        }

        if (call.IsOver)
        {
            return; // nobody reads it; the status is that of the end
        }

        byte[] body = new byte[ProtoSize.BytesField(1, result.Header.Length)
            + (withKey ? ProtoSize.BytesFieldIfSet(2, result.Key.Length) : 0)];
        var writer = new ProtoWriter(body);
        writer.WriteBytesField(1, result.Header);
        if (withKey)
        {
            writer.WriteBytesFieldIfSet(2, result.Key);
        }

        call.Write(body);
    }

    private static bool TryRead(ReadOnlySpan<byte> request, out byte[] bytes, out long lease, bool hasLease = true)
    {
        bytes = [];
        lease = 0;
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                bytes = reader.ReadBytes().ToArray();
            }
            else if (reader.Field == 2 && hasLease)
            {
                lease = reader.ReadInt64();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }
}
