// ElectionService: v3electionpb.Election. Decode, hand over, encode; the logic is Core's (Coordination/Elections.cs). Any I/O
// thread.
using System;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Coordination;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Campaign, proclaim, leader, observe, resign.</summary>
internal sealed class ElectionService(MemberPort port)
{
    private readonly Elections _elections = new(port.Member, port.Clock);

    /// <summary>CampaignRequest {1 name, 2 lease, 3 value} to CampaignResponse {1 header, 2 leader}.</summary>
    public async ValueTask CampaignAsync(RpcCall call)
    {
        if (Begin(call, TryReadCampaign(call.Request, out byte[] name, out long lease, out byte[] value)))
        {
            var caller = new LongCall(call, port);
            Answer(call, caller, await _elections.CampaignAsync(caller, name, lease, value));
        }
    }

    /// <summary>ProclaimRequest {1 leader, 2 value} to ProclaimResponse {1 header}.</summary>
    public async ValueTask ProclaimAsync(RpcCall call)
    {
        if (Begin(call, TryReadLeader(call.Request, hasValue: true, out LeaderKey? leader, out byte[] value)))
        {
            var caller = new LongCall(call, port);
            Answer(call, caller, leader is null
                ? new ElectionResult(ErrorCode.MissingLeaderKey, [], null, [])
                : await _elections.ProclaimAsync(caller, leader, value));
        }
    }

    /// <summary>ResignRequest {1 leader} to ResignResponse {1 header}.</summary>
    public async ValueTask ResignAsync(RpcCall call)
    {
        if (Begin(call, TryReadLeader(call.Request, hasValue: false, out LeaderKey? leader, out _)))
        {
            var caller = new LongCall(call, port);
            Answer(call, caller, leader is null
                ? new ElectionResult(ErrorCode.MissingLeaderKey, [], null, [])
                : await _elections.ResignAsync(caller, leader));
        }
    }

    /// <summary>LeaderRequest {1 name} to LeaderResponse {1 header, 2 kv}.</summary>
    public async ValueTask LeaderAsync(RpcCall call)
    {
        if (Begin(call, TryReadName(call.Request, out byte[] name)))
        {
            var caller = new LongCall(call, port);
            Answer(call, caller, await _elections.LeaderAsync(caller, name));
        }
    }

    /// <summary>LeaderRequest {1 name} to a stream of LeaderResponse {1 header, 2 kv}.</summary>
    public async ValueTask ObserveAsync(RpcCall call)
    {
        if (Begin(call, TryReadName(call.Request, out byte[] name)))
        {
            var caller = new LongCall(call, port);
            ErrorCode outcome = await _elections.ObserveAsync(caller, name, new Observer(call, port));
            if (outcome != ErrorCode.None)
            {
                caller.Fail(outcome);
            }
        }
    }

    private bool Begin(RpcCall call, bool read)
    {
        call.ReleaseRequest();
        ErrorCode refusal = read ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
        }

        return refusal == ErrorCode.None;
    }

    private static void Answer(RpcCall call, LongCall caller, in ElectionResult result)
    {
        if (result.Outcome != ErrorCode.None)
        {
            caller.Fail(result.Outcome);
        }
        else if (!call.IsOver)
        {
            call.Write(Encode(result.Header, result.Leader, result.Pair));
        }
    }

    /// <summary>Field 1 is the header, field 2 a LeaderKey {1 name, 2 key, 3 rev, 4 lease} or a KeyValue, if there is one.</summary>
    private static byte[] Encode(byte[] header, LeaderKey? leader, byte[] pair)
    {
        int inner = leader is null ? pair.Length
            : ProtoSize.BytesFieldIfSet(1, leader.Name.Length) + ProtoSize.BytesFieldIfSet(2, leader.Key.Length)
                + ProtoSize.VarintFieldIfSet(3, (ulong)leader.Revision) + ProtoSize.VarintFieldIfSet(4, (ulong)leader.Lease);
        byte[] body = new byte[ProtoSize.BytesField(1, header.Length) + ProtoSize.BytesFieldIfSet(2, inner)];
        var writer = new ProtoWriter(body);
        writer.WriteBytesField(1, header);
        if (leader is null)
        {
            writer.WriteBytesFieldIfSet(2, pair);
            return body;
        }

        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)inner);
        writer.WriteBytesFieldIfSet(1, leader.Name);
        writer.WriteBytesFieldIfSet(2, leader.Key);
        writer.WriteVarintFieldIfSet(3, (ulong)leader.Revision);
        writer.WriteVarintFieldIfSet(4, (ulong)leader.Lease);
        return body;
    }

    private static bool TryReadCampaign(ReadOnlySpan<byte> request, out byte[] name, out long lease, out byte[] value)
    {
        name = value = [];
        lease = 0;
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    name = reader.ReadBytes().ToArray();
                    break;
                case 2:
                    lease = reader.ReadInt64();
                    break;
                case 3:
                    value = reader.ReadBytes().ToArray();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    private static bool TryReadName(ReadOnlySpan<byte> request, out byte[] name)
    {
        name = [];
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                name = reader.ReadBytes().ToArray();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }

    private static bool TryReadLeader(ReadOnlySpan<byte> request, bool hasValue, out LeaderKey? leader, out byte[] value)
    {
        leader = null;
        value = [];
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                if (!TryReadLeaderKey(reader.ReadBytes(), ref leader))
                {
                    reader.Fail();
                }
            }
            else if (reader.Field == 2 && hasValue)
            {
                value = reader.ReadBytes().ToArray();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }

    // A field that comes twice is merged, as protobuf does with messages.
    private static bool TryReadLeaderKey(ReadOnlySpan<byte> bytes, ref LeaderKey? leader)
    {
        leader ??= new LeaderKey([], [], 0, 0);
        var reader = new MessageReader(bytes);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    leader = leader with { Name = reader.ReadBytes().ToArray() };
                    break;
                case 2:
                    leader = leader with { Key = reader.ReadBytes().ToArray() };
                    break;
                case 3:
                    leader = leader with { Revision = reader.ReadInt64() };
                    break;
                case 4:
                    leader = leader with { Lease = reader.ReadInt64() };
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    /// <summary>Writes what an observer is told; waits while its client does not read.</summary>
    private sealed class Observer(RpcCall call, MemberPort port) : ILeaderSink
    {
        public ValueTask<bool> TellAsync(byte[] header, long revision, byte[] pair)
        {
            call.Write(Encode(header.Length == 0 ? HeaderAt(revision) : header, null, pair));
            return call.FlushAsync();
        }

        private byte[] HeaderAt(long revision)
        {
            ResponseHeader header = port.Header(revision);
            byte[] field = new byte[header.FieldSize];
            var writer = new ProtoWriter(field);
            header.WriteField(ref writer);
            return field[^header.Size..];
        }
    }
}
