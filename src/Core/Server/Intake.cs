// Intake: the door of the write path. Any thread puts slots in; the raft thread takes them out.
//
// Admission (behaviour.md §2.1), in order: stopping, size, the gap between committed and applied, room in the ring.
// Two rings with limits of their own: control requests are never behind client writes.
// Closing    A producer looks at _closed after its enqueue and the wake (a full fence); raft sets it before its last
//            drain. So a slot is either drained by raft or completed by its own producer, never left behind.
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>Queues proposals and linearizable reads for the raft thread.</summary>
internal sealed class Intake
{
    /// <summary>Largest distance between committed and applied at which proposals are still taken.</summary>
    internal const ulong MaxGapBetweenApplyAndCommitIndex = 5000;

    private const int NormalCapacity = 8192;
    private const int ControlCapacity = 1024;
    private const int ReadCapacity = 16384;

    private readonly MemberOptions _options;
    private readonly MemberCounters _counters;
    private readonly IClock _clock;
    private readonly IWaker _raft;
    private bool _closed;

    internal Intake(MemberOptions options, MemberCounters counters, IClock clock, IWaker raft, SlotPool slots)
    {
        _options = options;
        _counters = counters;
        _clock = clock;
        _raft = raft;
        Slots = slots;
    }

    internal SlotPool Slots { get; }

    internal MpscRing<RequestSlot> Normal { get; } = new(NormalCapacity);

    internal MpscRing<RequestSlot> Control { get; } = new(ControlCapacity);

    internal MpscRing<RequestSlot> Reads { get; } = new(ReadCapacity);

    /// <summary>No proposal or read is taken any more.</summary>
    internal bool IsClosed => Volatile.Read(ref _closed);

    internal void Close()
    {
        Volatile.Write(ref _closed, true);
        Interlocked.MemoryBarrier();
        _raft.Wake();
    }

    /// <summary>Something waits for the raft thread.</summary>
    internal void WakeRaft() => _raft.Wake();

    /// <summary>Submits a proposal; None means the slot will be completed later.</summary>
    internal ErrorCode Propose(RequestSlot slot, long deadlineNs)
    {
        if (slot.PayloadLength > _options.MaxRequestBytes)
        {
            return ErrorCode.RequestTooLarge;
        }

        if (_counters.CommittedIndex > _counters.AppliedIndex + MaxGapBetweenApplyAndCommitIndex)
        {
            return ErrorCode.TooManyRequests;
        }

        slot.BeginFlight();
        ErrorCode refusal = Submit(slot, slot.Lane == ProposalLane.Control ? Control : Normal, deadlineNs);
        if (refusal != ErrorCode.None)
        {
            slot.EndFlight();
        }

        return refusal;
    }

    /// <summary>Submits a linearizable read barrier; None means the slot will be completed later.</summary>
    internal ErrorCode Read(RequestSlot slot, long deadlineNs) => Submit(slot, Reads, deadlineNs);

    private ErrorCode Submit(RequestSlot slot, MpscRing<RequestSlot> ring, long deadlineNs)
    {
        if (IsClosed)
        {
            return ErrorCode.Stopped;
        }

        slot.Submit(deadlineNs == 0 ? _clock.NowNs + _options.RequestTimeoutNs : deadlineNs);
        if (!ring.TryEnqueue(slot))
        {
            slot.Withdraw();
            return ErrorCode.TooManyRequests;
        }

        _raft.Wake();
        if (IsClosed)
        {
            // Raft may have drained for the last time before our enqueue; completing twice is harmless.
            _ = slot.TryComplete(ErrorCode.Stopped);
        }

        return ErrorCode.None;
    }
}
