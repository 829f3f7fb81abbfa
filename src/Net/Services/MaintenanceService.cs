// MaintenanceService: the unary calls of etcdserverpb.Maintenance. Cold: allocates freely. Any I/O thread; hashes
// run on the slow thread.
using System;
using System.Globalization;
using System.Text;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Status, alarm, hash, defragment.</summary>
internal sealed class MaintenanceService(MemberPort port, SlowWorker slow)
{
    public RpcStep Alarm(RpcCall call)
    {
        if (!AlarmRequest.TryParse(call.Request, out AlarmRequest alarm))
        {
            call.Fail(ErrorCode.MalformedRequest);
            return RpcStep.Done;
        }

        ErrorCode refusal = port.Admit(call);

        // An unknown action crashes etcd; here it is an error like that of Downgrade.
        if (refusal == ErrorCode.None && alarm.Action is < 0 or > 2)
        {
            refusal = ErrorCode.UnknownMethod;
        }

        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return RpcStep.Done;
        }

        RequestSlot slot = port.Rent(call);
        slot.Lane = ProposalLane.Control;
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.Alarm, alarm.Size));
        alarm.Write(ref writer);
        return port.Propose(call, slot);
    }

    public async ValueTask StatusAsync(RpcCall call)
    {
        ErrorCode refusal = MemberPort.IsMessage(call.Request)
            ? port.Admit(call, learnerMayServe: true)
            : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        // So that the sizes tell what has been acknowledged. A member that cannot freeze still tells what it knows.
        await FreezeAsync(call);
        call.Write(EncodeStatus());
    }

    public async ValueTask DefragmentAsync(RpcCall call)
    {
        ErrorCode outcome = MemberPort.IsMessage(call.Request) ? port.Admit(call) : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome == ErrorCode.None)
        {
            long start = port.Clock.NowNs;
            port.Figures.BeginDefragment();
            try
            {
                await port.Member.DefragmentAsync();
            }
            finally
            {
                port.Figures.EndDefragment(port.Clock.NowNs - start);
            }

            call.Write([]);
        }
        else
        {
            call.Fail(outcome);
        }
    }

    /// <summary>MoveLeaderRequest {1 targetID}; the answer is empty, also of a header.</summary>
    public async ValueTask MoveLeaderAsync(RpcCall call)
    {
        bool valid = TryReadRevision(call.Request, out long number);
        ulong target = (ulong)number;
        call.ReleaseRequest();
        ErrorCode outcome = valid ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (outcome == ErrorCode.None && port.Member.Status.Leader != port.Member.Id)
        {
            outcome = ErrorCode.NotLeader;
        }

        if (outcome == ErrorCode.None)
        {
            // 0 names nobody here; the member itself would take it for "whoever is best".
            outcome = target == 0 ? ErrorCode.BadLeaderTransferee : await port.Member.MoveLeaderAsync(target, port.Deadline(call));
        }

        if (outcome != ErrorCode.None)
        {
            call.Fail(port.Explain(call, outcome));
            return;
        }

        call.Write([]);
    }

    public async ValueTask HashAsync(RpcCall call)
    {
        ErrorCode outcome = MemberPort.IsMessage(call.Request) ? port.Admit(call) : ErrorCode.MalformedRequest;
        call.ReleaseRequest();
        if (outcome == ErrorCode.None)
        {
            outcome = await FreezeAsync(call);
        }

        Task<uint>? hashing = outcome == ErrorCode.None ? slow.TryRun(() => Timed(port.Figures.Hash, port.Store.Hash)) : null;
        if (hashing is null)
        {
            call.Fail(outcome == ErrorCode.None ? ErrorCode.TooManyRequests : port.Explain(call, outcome));
            return;
        }

        uint hash = await hashing;
        ResponseHeader header = port.Header(port.Member.Status.Revision);
        byte[] body = new byte[header.FieldSize + ProtoSize.VarintFieldIfSet(2, hash)];
        var writer = new ProtoWriter(body);
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, hash);
        call.Write(body);
    }

    public async ValueTask HashKvAsync(RpcCall call)
    {
        bool valid = TryReadRevision(call.Request, out long revision);
        call.ReleaseRequest();
        ErrorCode outcome = valid ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (outcome != ErrorCode.None)
        {
            call.Fail(outcome);
            return;
        }

        Task<(ErrorCode Outcome, HashKvResult Result)>? hashing = slow.TryRun(() =>
        {
            ErrorCode error = ErrorCode.None;
            HashKvResult result = Timed(port.Figures.HashKv, () =>
            {
                error = port.Store.HashKv(revision, out HashKvResult hash);
                return hash;
            });
            return (error, result);
        });
        if (hashing is null)
        {
            call.Fail(ErrorCode.TooManyRequests);
            return;
        }

        (outcome, HashKvResult hash) = await hashing;
        if (outcome != ErrorCode.None)
        {
            call.Fail(outcome);
            return;
        }

        ResponseHeader header = port.Header(hash.CurrentRevision);
        byte[] body = new byte[header.FieldSize
            + ProtoSize.VarintFieldIfSet(2, hash.Hash)
            + ProtoSize.VarintFieldIfSet(3, (ulong)hash.CompactRevision)
            + ProtoSize.VarintFieldIfSet(4, (ulong)hash.HashRevision)];
        var writer = new ProtoWriter(body);
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, hash.Hash);
        writer.WriteVarintFieldIfSet(3, (ulong)hash.CompactRevision);
        writer.WriteVarintFieldIfSet(4, (ulong)hash.HashRevision);
        call.Write(body);
    }

    /// <summary>An alarm as etcd prints it in Status: text form of the message, with its trailing blank.</summary>
    internal static string Describe(Alarm alarm)
    {
        string text = alarm.MemberId == 0
            ? ""
            : "memberID:" + alarm.MemberId.ToString(CultureInfo.InvariantCulture) + " ";
        return text + (alarm.Kind == AlarmKind.None ? "" : "alarm:" + NameOf(alarm.Kind) + " ");
    }

    /// <summary>The enum name on the wire.</summary>
    internal static string NameOf(AlarmKind kind) => (int)kind switch
    {
        1 => "NOSPACE",
        2 => "CORRUPT",
        var other => other.ToString(CultureInfo.InvariantCulture),
    };

    private static bool TryReadRevision(ReadOnlySpan<byte> request, out long revision)
    {
        revision = 0;
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                revision = reader.ReadInt64();
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }

    private T Timed<T>(SharedDistribution durations, Func<T> work)
    {
        long start = port.Clock.NowNs;
        T result = work();
        durations.Observe(port.Clock.NowNs - start);
        return result;
    }

    private async ValueTask<ErrorCode> FreezeAsync(RpcCall call)
    {
        RequestSlot slot = port.Rent(call);
        try
        {
            return await port.Member.FreezeAndWaitAsync(slot);
        }
        finally
        {
            port.Member.Return(slot);
        }
    }

    private byte[] EncodeStatus()
    {
        Member member = port.Member;
        MemberStatus status = member.Status;
        ResponseHeader header = port.Header(status.Revision);
        byte[] version = Encoding.UTF8.GetBytes(member.Options.ServerVersion);
        byte[] storage = Encoding.UTF8.GetBytes(member.StorageVersion);
        DowngradeInfo downgrade = member.ClusterView.Downgrade;
        byte[] target = Encoding.UTF8.GetBytes(downgrade.TargetVersion);
        long quota = member.Options.QuotaBytes == 0 ? member.Options.EffectiveQuotaBytes : member.Options.QuotaBytes;
        var body = new ProtoText();
        body.Bytes(1, HeaderBytes(header));
        body.BytesIfSet(2, version);
        body.VarintIfSet(3, (ulong)status.DbSizeBytes);
        body.VarintIfSet(4, status.Leader);
        body.VarintIfSet(5, status.CommittedIndex);
        body.VarintIfSet(6, status.Term);
        body.VarintIfSet(7, status.AppliedIndex);
        if (status.Leader == 0)
        {
            body.Bytes(8, "etcdserver: no leader"u8);
        }

        foreach (Alarm alarm in member.Alarms.Alarms)
        {
            body.Bytes(8, Encoding.UTF8.GetBytes(Describe(alarm)));
        }

        body.VarintIfSet(9, (ulong)status.DbSizeInUseBytes);
        body.VarintIfSet(10, status.IsLearner ? 1u : 0);
        body.BytesIfSet(11, storage);
        body.VarintIfSet(12, (ulong)quota);
        var info = new ProtoText();
        info.VarintIfSet(1, downgrade.Enabled ? 1u : 0);
        info.BytesIfSet(2, target);
        body.Bytes(13, info.Written);
        return body.Written.ToArray();
    }

    private static byte[] HeaderBytes(ResponseHeader header)
    {
        byte[] field = new byte[header.FieldSize];
        var writer = new ProtoWriter(field);
        header.WriteField(ref writer);

        // The field is tag, length, body; a header is shorter than 128 bytes, so its length is one byte.
        return field[2..];
    }
}
