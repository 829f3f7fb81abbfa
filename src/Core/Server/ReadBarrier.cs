// ReadBarrier: linearizable reads that could not be answered at once. Owned by the raft thread.
//
// One question to raft stands for every read queued before it (behaviour.md §3). The queue is first in, first out:
//   [ confirmed: their index is known, they wait for apply | asked: one context is out | not asked yet ]
// A read that comes while a question is out joins the next one. Contexts are never reused.
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
        if (fresh == 0 || _asked > 0 || (nowNs < _retryAtNs && !any))
        {
            return any;
        }

        switch (_core.ReadIndex(++_context, out ulong index))
        {
            case ReadIndexResult.Ready:
                Confirm(fresh, index);
                _retryAtNs = 0;
                return true;
            case ReadIndexResult.Waiting:
                _asked = fresh;
                _retryAtNs = 0;
                return true;
            default:
                _retryAtNs = nowNs + RetryNs;
                return any;
        }
    }

    /// <summary>Takes raft's answers and completes the reads whose index is applied.</summary>
    internal bool Finish(ulong applied)
    {
        bool any = false;
        while (_core.TryTakeRead(out ReadState read))
        {
            if (read.Context != _context || _asked == 0)
            {
                continue; // an answer to a question nobody waits for any more
            }

            any = true;
            int asked = _asked;
            _asked = 0;
            if (read.IsConfirmed)
            {
                Confirm(asked, read.Index);
            }
            else
            {
                for (int i = 0; i < asked; i++)
                {
                    _ = _slots[_confirmed + i].TryComplete(ErrorCode.LeaderChanged);
                    _slots[_confirmed + i].Index = 0;
                }

                _confirmed += asked; // they are decided; the loop below lets them go
            }
        }

        while (_confirmed > 0 && (_slots[0].Index <= applied || _slots[0].IsDecided))
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
