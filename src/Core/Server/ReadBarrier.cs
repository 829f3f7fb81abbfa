// ReadBarrier: linearizable reads that could not be answered at once. Owned by the raft thread.
//
// One question to raft stands for every read queued before it (behaviour.md §3). The queue is first in, first out:
//   [ confirmed: their index is known, they wait for apply | asked: one context is out | not asked yet ]
// A read that comes while a question is out joins the next one. Contexts are never reused.
// Retries    A question without answer is asked again every 500 ms; an answer to any of its tries counts, for each try was
//            made after the reads came. A question that failed because another member leads now ends its reads with
//            "leader changed"; one that failed for any other reason is asked again.
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>Batches read-index requests.</summary>
internal sealed class ReadBarrier
{
    private const long RetryNs = 500_000_000;

    private readonly RaftCore _core;
    private readonly MpscRing<RequestSlot> _ring;
    private readonly SlotQueue _slots = new(16384);
    private int _confirmed;
    private int _asked;
    private ulong _context;
    private ulong _firstContext; // of the question that is out
    private ulong _askedLeader;
    private ulong _askedTerm;
    private long _retryAtNs;

    internal ReadBarrier(RaftCore core, MpscRing<RequestSlot> ring)
    {
        _core = core;
        _ring = ring;
    }

    internal int Count => _slots.Count;

    /// <summary>Takes new reads and asks raft about them if no question is out.</summary>
    internal bool Ask(long nowNs)
    {
        bool any = false;
        while (!_slots.IsFull && _ring.TryDequeue(out RequestSlot slot))
        {
            _slots.Enqueue(slot);
            any = true;
        }

        int fresh = _slots.Count - _confirmed - _asked;
        if (_asked > 0)
        {
            if (nowNs >= _retryAtNs)
            {
                _retryAtNs = nowNs + RetryNs;
                if (_core.ReadIndex(++_context, out ulong again) == ReadIndexResult.Ready)
                {
                    int asked = _asked;
                    _asked = 0;
                    Confirm(asked, again);
                    return true;
                }
            }

            return any;
        }

        // Without a leader it is asked again in a while, or at once when there is one.
        bool mayAsk = any || nowNs >= _retryAtNs || _core.Leader != _askedLeader;
        if (fresh == 0 || !mayAsk)
        {
            return any;
        }

        _askedLeader = _core.Leader;
        _askedTerm = _core.Term;
        _firstContext = _context + 1;
        _retryAtNs = nowNs + RetryNs;
        switch (_core.ReadIndex(++_context, out ulong index))
        {
            case ReadIndexResult.Ready:
                Confirm(fresh, index);
                return true;
            case ReadIndexResult.Waiting:
                _asked = fresh;
                return true;
            default:
                return any;
        }
    }

    /// <summary>When to look again without a wake; monotonic ns.</summary>
    internal long NextDeadlineNs => _slots.Count > _confirmed ? _retryAtNs : long.MaxValue;

    /// <summary>Takes raft's answers and completes the reads whose index is applied.</summary>
    internal bool Finish(ulong applied)
    {
        bool any = false;
        while (_core.TryTakeRead(out ReadState read))
        {
            if (read.Context < _firstContext || _asked == 0)
            {
                continue; // an answer to a question nobody waits for any more
            }

            bool isOtherLeader = _core.Leader != 0 && (_core.Leader != _askedLeader || _core.Term != _askedTerm);
            if (!read.IsConfirmed && !isOtherLeader && read.Context != _context)
            {
                continue; // a later try is still out
            }

            any = true;
            int asked = _asked;
            _asked = 0;
            if (read.IsConfirmed)
            {
                Confirm(asked, read.Index);
            }
            else if (isOtherLeader)
            {
                for (int i = 0; i < asked; i++)
                {
                    _ = _slots[_confirmed + i].TryComplete(ErrorCode.LeaderChanged);
                    _slots[_confirmed + i].Index = 0;
                }

                _confirmed += asked; // they are decided; the loop below lets them go
            }
        }

        while (_confirmed > 0 && (_slots[0].Index <= applied || _slots[0].IsDecided || Mutations.Is(Mutation.ReadServedBeforeApplied)))
        {
            RequestSlot slot = _slots.Dequeue();
            _confirmed--;
            _ = slot.TryComplete(ErrorCode.None);
            slot.DropReference();
            any = true;
        }

        return any;
    }

    /// <summary>Tells reads that waited too long.</summary>
    internal void Expire(long nowNs)
    {
        for (int i = 0; i < _slots.Count; i++)
        {
            if (_slots[i].DeadlineNs <= nowNs)
            {
                _ = _slots[i].TryComplete(ErrorCode.Timeout);
            }
        }

        while (_slots.Count > 0 && _slots[0].IsDecided)
        {
            _slots.Dequeue().DropReference();
            if (_confirmed > 0)
            {
                _confirmed--;
            }
            else if (_asked > 0)
            {
                _asked--;
            }
        }
    }

    internal void Fail(ErrorCode outcome)
    {
        do
        {
            while (_slots.Count > 0)
            {
                RequestSlot slot = _slots.Dequeue();
                _ = slot.TryComplete(outcome);
                slot.DropReference();
            }

            _confirmed = _asked = 0;
            while (!_slots.IsFull && _ring.TryDequeue(out RequestSlot fresh))
            {
                _slots.Enqueue(fresh);
            }
        }
        while (_slots.Count > 0);
    }

    private void Confirm(int count, ulong index)
    {
        for (int i = 0; i < count; i++)
        {
            _slots[_confirmed + i].Index = index;
        }

        _confirmed += count;
    }
}
