// RaftActor.Waiters: who waits for which entry, and what they are told when it takes too long. Raft thread.
//
// By index   proposals this member appended as leader. The entry at an index may be replaced by a later leader's: a slot
//            knows the term of its entry, and is told "outcome unknown" when another entry stands there.
// By id      proposals sent to the leader. When an entry with that request id is committed here, the slot waits for its
//            index like the others. A leader takes only what was addressed to its own term. So when an entry of a later
//            term is committed here, and none of an earlier one had the id, the proposal was lost with its leader and can
//            never come back: it goes to the next leader, once more, as if it had just come. What stands in a snapshot
//            that was received has no known outcome: its caller is told so.
// Deadlines  looked at ten times a second. A slot that passed its own is told: ContextDeadlineExceeded when it was
//            never appended (no leader), one of etcd's three timeouts when its outcome is unknown.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

internal sealed unsafe partial class RaftActor
{
    private readonly RequestSlot?[] _waiters = new RequestSlot?[MaxInFlight];
    private readonly Dictionary<ulong, RequestSlot> _forwarded = new(MaxInFlight);
    private readonly List<ulong> _expired = new(64);
    private readonly SlotQueue _heldChanges = new(64);
    private ulong _heldAtApplied;
    private const long KeptBytesMax = 64 << 20;
    private long _keptBytes;
    private ulong _highestWaiter;
    private ulong _forwardedTerm = ulong.MaxValue; // the lowest of those in _forwarded
    private ulong _seenEpoch;

    private bool CanRetryChange => _heldChanges.Count > 0 && _core.Applied > _heldAtApplied;

    private void Await(RequestSlot slot, ulong index, ulong term)
    {
        slot.Index = index;
        slot.EntryTerm = term;
        ref RequestSlot? waiter = ref _waiters[index % MaxInFlight];
        Invariant.Check(waiter is null, "one waiter an index");
        waiter = slot;
        _highestWaiter = Math.Max(_highestWaiter, index);
    }

    /// <summary>Who waits for a committed entry; it is found at its index afterwards.</summary>
    private RequestSlot? WaiterOf(in RaftEntry entry)
    {
        ref RequestSlot? waiter = ref _waiters[entry.Index % MaxInFlight];
        if (waiter is not null && (waiter.Index != entry.Index || waiter.EntryTerm != entry.Term))
        {
            LoseWaiter(ref waiter);
        }

        if (waiter is null && _forwarded.Count > 0 && entry.Length > 0
            && TryReadId(in entry, out ulong id) && TakeForwarded(id) is { } slot)
        {
            slot.ReleasePayload();
            Await(slot, entry.Index, entry.Term);
        }

        return waiter;
    }

    private static bool TryReadId(in RaftEntry entry, out ulong id)
    {
        id = 0;
        if (entry.Type == EntryType.Normal)
        {
            return InternalRaftRequest.TryReadId(entry.Payload, out id);
        }

        if (entry.Type == EntryType.ConfChange && ConfChange.TryParse(entry.Payload, out ConfChange change))
        {
            id = change.Id;
        }

        return id != 0;
    }

    /// <summary>Lets go of everybody whose entry is at or below what is applied.</summary>
    private void DropWaiters(ulong from, ulong to)
    {
        for (ulong i = to - from > MaxInFlight ? to - MaxInFlight + 1 : from + 1; i <= to; i++)
        {
            ref RequestSlot? waiter = ref _waiters[i % MaxInFlight];
            if (waiter is not null && waiter.Index <= to)
            {
                waiter.DropReference();
                waiter = null;
            }
        }
    }

    /// <summary>After messages: entries that callers wait for may have been replaced by another leader's.</summary>
    private void FindLostWaiters()
    {
        if (_core.TruncationEpoch == _seenEpoch)
        {
            return;
        }

        _seenEpoch = _core.TruncationEpoch;
        ulong last = Math.Min(_highestWaiter, _core.Applied + MaxInFlight);
        for (ulong i = _core.Applied + 1; i <= last; i++)
        {
            ref RequestSlot? waiter = ref _waiters[i % MaxInFlight];
            if (waiter is null || waiter.Index != i || i <= _core.Applying)
            {
                continue;
            }

            if (_core.TryGetTerm(i, out ulong term) != LogAnswer.Ready || term != waiter.EntryTerm)
            {
                LoseWaiter(ref waiter);
            }
        }
    }

    /// <summary>Remembers a proposal the transport has taken, and its bytes in case its leader is lost.</summary>
    private void Keep(RequestSlot slot, ulong term)
    {
        slot.EntryTerm = term;
        _forwarded[slot.Id] = slot;
        if (_keptBytes + slot.PayloadLength > KeptBytesMax)
        {
            slot.ReleasePayload();
        }

        _keptBytes += slot.PayloadLength;
    }

    private RequestSlot? TakeForwarded(ulong id)
    {
        if (!_forwarded.Remove(id, out RequestSlot? slot))
        {
            return null;
        }

        _keptBytes -= slot.PayloadLength;
        return slot;
    }

    /// <summary>An entry of this term is committed, and everything before it has been looked at.</summary>
    private void LoseForwarded(ulong term)
    {
        if (_forwarded.Count == 0 || term <= _forwardedTerm)
        {
            return;
        }

        _forwardedTerm = ulong.MaxValue;
        foreach ((ulong id, RequestSlot slot) in _forwarded)
        {
            if (slot.EntryTerm < term)
            {
                _expired.Add(id);
            }
            else
            {
                _forwardedTerm = Math.Min(_forwardedTerm, slot.EntryTerm);
            }
        }

        foreach (ulong id in _expired)
        {
            RequestSlot? slot = TakeForwarded(id);
            if (slot!.PayloadLength != 0 && !slot.IsDecided)
            {
                slot.ProposedNs = 0;
                Defer(slot);
            }
            else
            {
                LoseWaiter(ref slot);
            }
        }

        _expired.Clear();
    }

    private void FailForwarded()
    {
        foreach (RequestSlot slot in _forwarded.Values)
        {
            RequestSlot? lost = slot;
            LoseWaiter(ref lost);
        }

        _forwarded.Clear();
        _keptBytes = 0;
    }

    private void LoseWaiter(ref RequestSlot? waiter)
    {
        if (waiter!.TryComplete(ErrorCode.TimeoutDueToLeaderFail))
        {
            System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
        }

        waiter.DropReference();
        waiter = null;
    }

    private void Scan(long nowNs)
    {
        if (nowNs < _nextScanNs)
        {
            return;
        }

        _nextScanNs = nowNs + ScanNs;
        Expire(_control, nowNs);
        Expire(_normal, nowNs);
        Expire(_heldChanges, nowNs);
        _reads.Expire(nowNs);
        ulong last = Math.Min(Math.Max(_core.LastIndex, _highestWaiter), _core.Applied + MaxInFlight);
        for (ulong i = _core.Applied + 1; i <= last; i++)
        {
            RequestSlot? slot = _waiters[i % MaxInFlight];
            if (slot is not null && slot.DeadlineNs <= nowNs && slot.TryComplete(TimeoutOf(slot, nowNs)))
            {
                System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
            }
        }

        foreach ((ulong id, RequestSlot slot) in _forwarded)
        {
            if (slot.DeadlineNs <= nowNs || slot.IsDecided)
            {
                _expired.Add(id);
            }
        }

        foreach (ulong id in _expired)
        {
            RequestSlot? slot = TakeForwarded(id);
            if (slot!.TryComplete(TimeoutOf(slot, nowNs)))
            {
                System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
            }

            slot.DropReference();
        }

        _expired.Clear();
    }

    /// <summary>etcd's three texts for a request whose outcome is unknown (behaviour.md §2.1).</summary>
    private ErrorCode TimeoutOf(RequestSlot slot, long nowNs)
    {
        long started = slot.ProposedNs;
        long elected = _counters.LeaderElectedNs;
        if (started > elected - (2L * _options.ElectionMs * 1_000_000) && started < elected)
        {
            return ErrorCode.TimeoutDueToLeaderFail;
        }

        if (_leader == _core.Id)
        {
            return IsQuorumConnectedSince(started) ? ErrorCode.Timeout : ErrorCode.TimeoutDueToConnectionLost;
        }

        long since = _leader == 0 ? started : _wiring.Peers.ActiveSince(_leader);
        return since != 0 && since <= started ? ErrorCode.Timeout : ErrorCode.TimeoutDueToConnectionLost;
    }

    private bool IsQuorumConnectedSince(long whenNs)
    {
        int connected = 0;
        foreach (ulong id in _core.Configuration.Incoming)
        {
            long since = id == _core.Id ? 1 : _wiring.Peers.ActiveSince(id);
            connected += since != 0 && since <= whenNs ? 1 : 0;
        }

        return connected >= (_core.Configuration.Incoming.Length / 2) + 1;
    }

    /// <summary>Slots that were never appended: what etcd answers is the deadline of its own context.</summary>
    private void Expire(SlotQueue queue, long nowNs)
    {
        for (int i = 0; i < queue.Count; i++)
        {
            if (queue[i].DeadlineNs <= nowNs && queue[i].TryComplete(ErrorCode.ContextDeadlineExceeded))
            {
                System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
            }
        }

        while (queue.Count > 0 && queue[0].IsDecided)
        {
            queue.Dequeue().DropReference();
        }
    }

    private void FailWaiters(ErrorCode outcome)
    {
        for (ulong i = _core.Applied + 1; i <= Math.Min(_highestWaiter, _core.Applied + MaxInFlight); i++)
        {
            _ = _waiters[i % MaxInFlight]?.TryComplete(outcome);
        }

        foreach (RequestSlot slot in _forwarded.Values)
        {
            _ = slot.TryComplete(outcome);
            slot.DropReference();
        }

        _forwarded.Clear();
        _keptBytes = 0;
    }

    private void FailAll(ErrorCode outcome)
    {
        FailWaiters(outcome);
        Refuse(_intake.Control, _control);
        Refuse(_intake.Normal, _normal);
        Refuse(null, _heldChanges);
        _reads.Fail(outcome);
        _leases.Fail(outcome);
        FailMoves(outcome);
    }

    private static void Refuse(MpscRing<RequestSlot>? ring, SlotQueue queue)
    {
        do
        {
            while (queue.Count > 0)
            {
                RequestSlot slot = queue.Dequeue();
                _ = slot.TryComplete(ErrorCode.Stopped);
                slot.DropReference();
            }
        }
        while (ring is not null && Drain(ring, queue));
    }
}
