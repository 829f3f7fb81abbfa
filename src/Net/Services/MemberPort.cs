// MemberPort: what every service needs of the member: admission, deadlines, headers, and answers from slots.
//
// Thread  any I/O thread; immutable.
using System;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>The services' side of one member.</summary>
internal sealed class MemberPort
{
    /// <summary>Answers above this are sent in parts, so that the connection's buffer stays small; bytes.</summary>
    private const int PartBytes = 128 * 1024;

    private static readonly RpcResume Sent = static (_, _, _) => RpcStep.Done;
    private readonly RpcResume _finish;

    public MemberPort(Member member, IClock clock)
    {
        Member = member;
        Clock = clock;
        _finish = (call, slot, outcome) => Finish(call, (RequestSlot)slot, outcome);
    }

    /// <summary>Continues a call whose slot is being awaited with <see cref="Finish"/>.</summary>
    public RpcResume Ended => _finish;

    public Member Member { get; }

    public MvccStore Store => Member.Store;

    public IClock Clock { get; }

    /// <summary>What the services themselves measure.</summary>
    public ServiceFigures Figures { get; } = new();

    public int MaxTxnOps => Member.Options.MaxTxnOps;

    /// <summary>
    /// What is refused before the request is looked at, in etcd's order: learners, then hasleader, then a client
    /// version that is no text. Costs a few header look-ups.
    /// </summary>
    public ErrorCode Admit(RpcCall call, bool learnerMayServe = false)
    {
        if (!learnerMayServe && Member.IsLearner)
        {
            return ErrorCode.NotSupportedForLearner;
        }

        if (call.RequiresLeader && Member.Status.Leader == 0)
        {
            return ErrorCode.NoLeader;
        }

        return ErrorCode.None;
    }

    /// <summary><see cref="Admit"/> and then the quota, which etcd looks at before it looks at the fields.</summary>
    public ErrorCode AdmitWrite(RpcCall call, RequestKind kind)
    {
        ErrorCode refusal = Admit(call);
        return refusal == ErrorCode.None ? Member.CheckQuota(kind, call.Request) : refusal;
    }

    /// <summary>The deadline to hand to the member: the client's when it is earlier than the server's own limit.</summary>
    public long Deadline(RpcCall call)
        => Math.Min(call.DeadlineNs, call.ReceivedNs + Member.Options.RequestTimeoutNs);

    /// <summary>Fields of a response header that the store adds its revision to.</summary>
    public HeaderFields Header() => Member.Header;

    /// <summary>A complete header with a given revision.</summary>
    public ResponseHeader Header(long revision) => new()
    {
        ClusterId = Member.ClusterId,
        MemberId = Member.Id,
        Revision = revision,
        RaftTerm = Member.Header.RaftTerm,
    };

    /// <summary>True if the bytes are a message at all: the check of requests that have no fields.</summary>
    public static bool IsMessage(ReadOnlySpan<byte> request)
    {
        var reader = new MessageReader(request);
        while (reader.NextField())
        {
            reader.Skip();
        }

        return !reader.Failed;
    }

    /// <summary>Answers a range from the newest View into the slot, and times it. May wait for the disk.</summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, RequestSlot slot)
    {
        long start = Clock.NowNs;
        ViewPin pin = Store.Pin();
        try
        {
            ErrorCode outcome = Store.Range(request, pin, Header(), ref slot.Response);
            Figures.Range(outcome, Clock.NowNs - start);
            return outcome;
        }
        finally
        {
            Store.Unpin(pin);
        }
    }

    /// <summary>Rents a slot for a call.</summary>
    public RequestSlot Rent(RpcCall call)
    {
        RequestSlot slot = Member.Rent();
        slot.ReceivedNs = call.ReceivedNs;
        return slot;
    }

    /// <summary>Proposes what is in the slot; then answers with what came back and gives the slot back.</summary>
    public RpcStep Propose(RpcCall call, RequestSlot slot)
    {
        call.ReleaseRequest();
        return new RpcStep(Member.ProposeAsync(slot, Deadline(call)), _finish, slot);
    }

    /// <summary>Ends a call with the outcome of its slot: the response body or the refusal. Takes the slot over.</summary>
    public RpcStep Finish(RpcCall call, RequestSlot slot, ErrorCode outcome)
    {
        if (outcome != ErrorCode.None)
        {
            call.Fail(Explain(call, outcome));
        }
        else if (slot.Response.Length <= PartBytes)
        {
            call.Write(slot.Response.WrittenSpan);
            slot.SentNs = Clock.NowNs;
        }
        else
        {
            return new RpcStep(SendAndReturnAsync(call, slot), Sent, slot);
        }

        Member.Return(slot);
        return RpcStep.Done;
    }

    /// <summary>
    /// The same for a client whose own deadline passed: gRPC says so itself, the server's limits have other words.
    /// </summary>
    public ErrorCode Explain(RpcCall call, ErrorCode outcome)
        => outcome == ErrorCode.Timeout && call.DeadlineNs <= Clock.NowNs ? ErrorCode.ContextDeadlineExceeded : outcome;

    /// <summary>Sends the slot's response body as the answer message. The slot stays the caller's.</summary>
    public async ValueTask AnswerAsync(RpcCall call, RequestSlot slot) => _ = await SendInPartsAsync(call, slot);

    private async ValueTask<ErrorCode> SendAndReturnAsync(RpcCall call, RequestSlot slot)
    {
        try
        {
            return await SendInPartsAsync(call, slot);
        }
        finally
        {
            Member.Return(slot);
        }
    }

    private async ValueTask<ErrorCode> SendInPartsAsync(RpcCall call, RequestSlot slot)
    {
        int total = slot.Response.Length;
        call.BeginMessage(total);
        for (int offset = 0; offset < total; offset += PartBytes)
        {
            call.Append(slot.Response.WrittenSpan.Slice(offset, Math.Min(PartBytes, total - offset)));
            if (!await call.FlushAsync())
            {
                call.Fail(RpcCode.Canceled, "context canceled");
                break;
            }
        }

        slot.SentNs = Clock.NowNs;
        return ErrorCode.None;
    }
}
