// PeerCall: small questions between members: lease renewals, member lists, hashes, promotions. Not the raft protocol.
//
// Use        var call = new PeerCall(kind, peer, body, deadline); member.Call(call); then await call.Completion, or look
//            at IsCompleted (actors and the simulator poll, they never await).
// Answering  Member.Serve(kind, handler): the handler runs on a thread of the transport, must not wait, and answers the
//            PeerRequest exactly once, then or later, from any thread.
// Limits     Bodies are at most MaxBodyBytes; a call lost with its link ends as Unreachable: its outcome is unknown.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>What is asked. Numbers go over the wire; never reuse one.</summary>
public enum PeerCallKind : byte
{
    None = 0,

    /// <summary>Renew a lease at the leader (helper of Lease.KeepAlive).</summary>
    LeaseRenew = 1,

    /// <summary>Remaining time of a lease at the leader.</summary>
    LeaseTimeToLive = 2,

    /// <summary>Members, cluster id and version, for a member that joins.</summary>
    MemberList = 3,

    /// <summary>HashKV at a revision.</summary>
    HashKv = 4,

    /// <summary>Promote a learner: only the leader can tell whether it is ready.</summary>
    PromoteMember = 5,

    /// <summary>Server and cluster version.</summary>
    Version = 6,

    /// <summary>Hashes taken at compactions.</summary>
    CompactHashes = 7,
}

/// <summary>How a call ended.</summary>
public enum PeerCallOutcome : byte
{
    Pending = 0,

    /// <summary>The peer answered; look at Error and Response.</summary>
    Answered,

    /// <summary>No link, link lost or deadline passed. The peer may have acted.</summary>
    Unreachable,
}

/// <summary>A question to one peer. Completed exactly once, by the transport.</summary>
public sealed class PeerCall
{
    /// <summary>Longest request or answer.</summary>
    public const int MaxBodyBytes = 1 << 20;

    private TaskCompletionSource? _completion;
    private int _outcome;

    /// <param name="kind">What is asked.</param>
    /// <param name="to">Member id.</param>
    /// <param name="request">Body; not changed until the call is completed.</param>
    /// <param name="deadlineNs">Monotonic; the transport gives up then.</param>
    public PeerCall(PeerCallKind kind, ulong to, ReadOnlyMemory<byte> request, long deadlineNs)
    {
        Invariant.Check(request.Length <= MaxBodyBytes, "a call is small");
        Kind = kind;
        To = to;
        Request = request;
        DeadlineNs = deadlineNs;
    }

    public PeerCallKind Kind { get; }

    public ulong To { get; }

    public ReadOnlyMemory<byte> Request { get; }

    public long DeadlineNs { get; }

    public PeerCallOutcome Outcome => (PeerCallOutcome)Volatile.Read(ref _outcome);

    public bool IsCompleted => Outcome != PeerCallOutcome.Pending;

    /// <summary>What the peer refused with; None when it did not.</summary>
    public ErrorCode Error { get; private set; }

    /// <summary>The answer's body.</summary>
    public ReadOnlyMemory<byte> Response { get; private set; }

    /// <summary>Woken at completion, for actors. May be null.</summary>
    public IWaker? Waker { get; init; }

    /// <summary>For those who await. Continuations run on the thread pool.</summary>
    public Task Completion
    {
        get
        {
            var fresh = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            TaskCompletionSource source = Interlocked.CompareExchange(ref _completion, fresh, null) ?? fresh;
            if (IsCompleted)
            {
                _ = source.TrySetResult();
            }

            return source.Task;
        }
    }

    /// <summary>Called by the transport; later calls change nothing.</summary>
    public void Complete(PeerCallOutcome outcome, ErrorCode error = ErrorCode.None, ReadOnlyMemory<byte> response = default)
    {
        lock (this)
        {
            if (IsCompleted)
            {
                return;
            }

            Error = error;
            Response = response;
            Volatile.Write(ref _outcome, (int)outcome);
        }

        Interlocked.MemoryBarrier();
        _ = Volatile.Read(ref _completion)?.TrySetResult();
        Waker?.Wake();
    }
}

/// <summary>A question from a peer. The transport makes it and sends what <see cref="Reply"/> is given.</summary>
public abstract class PeerRequest
{
    public required PeerCallKind Kind { get; init; }

    /// <summary>Who asks: the member its link belongs to, 0 for one that is not a member yet.</summary>
    public required ulong From { get; init; }

    public required ReadOnlyMemory<byte> Body { get; init; }

    /// <summary>Answers. Exactly once, from any thread; a link lost meanwhile is nobody's error.</summary>
    public abstract void Reply(ErrorCode error, ReadOnlyMemory<byte> body);
}
