// ReadQueue: linearizable reads that wait. Owned by the core.
//
// Why        A read may be served at index i once the leader has proved that it still led after the read arrived. The
//            proof is a counter of the reads accepted in this term: every leader frame carries it, every voter echoes
//            the highest it saw, and the value a quorum has echoed confirms all reads up to it. Request ids of callers
//            take no part: a retried id once confirmed a stale read (etcd #20418).
// Two kinds  Parked reads arrived before the leader committed an entry of its own term (its commit index may lag what
//            the former leader acknowledged); they are accepted when that happens. Pending reads wait for the quorum.
// Memory     Arrays that double when full; no allocation once they have their size.
using System;

namespace Cairn.Core.Raft;

internal sealed class ReadQueue
{
    private Pending[] _pending = new Pending[64];
    private int _head;
    private int _count;
    private ulong[] _parked = new ulong[64];
    private int _parkedCount;
    private ReadState[] _done = new ReadState[64];
    private int _doneHead;
    private int _doneCount;

    /// <summary>Reads accepted in this term so far.</summary>
    public ulong Counter { get; private set; }

    /// <summary>Contexts waiting for the first commit of this term.</summary>
    public ReadOnlySpan<ulong> Parked => _parked.AsSpan(0, _parkedCount);

    public bool HasPending => _count > 0;

    public void Park(ulong context)
    {
        if (_parkedCount == _parked.Length)
        {
            Array.Resize(ref _parked, _parked.Length * 2);
        }

        _parked[_parkedCount++] = context;
    }

    public void ClearParked() => _parkedCount = 0;

    /// <summary>Accepts a read at an index; returns its counter.</summary>
    public ulong Accept(ulong context, ulong index)
    {
        if (_count == _pending.Length)
        {
            var larger = new Pending[_pending.Length * 2];
            for (int i = 0; i < _count; i++)
            {
                larger[i] = _pending[(_head + i) & (_pending.Length - 1)];
            }

            _pending = larger;
            _head = 0;
        }

        Counter++;
        _pending[(_head + _count++) & (_pending.Length - 1)] = new Pending(context, index, Counter);
        return Counter;
    }

    /// <summary>A quorum has echoed this counter: every read up to it is confirmed.</summary>
    public void Confirm(ulong counter)
    {
        while (_count > 0 && _pending[_head].Counter <= counter)
        {
            ref Pending read = ref _pending[_head];
            Finish(new ReadState(read.Context, read.Index, true));
            _head = (_head + 1) & (_pending.Length - 1);
            _count--;
        }
    }

    /// <summary>A read confirmed without waiting in the queue.</summary>
    public void Finish(ReadState read)
    {
        if (_doneCount == _done.Length)
        {
            var larger = new ReadState[_done.Length * 2];
            for (int i = 0; i < _doneCount; i++)
            {
                larger[i] = _done[(_doneHead + i) & (_done.Length - 1)];
            }

            _done = larger;
            _doneHead = 0;
        }

        _done[(_doneHead + _doneCount++) & (_done.Length - 1)] = read;
    }

    /// <summary>Term or role changed: every waiting read fails, the counter starts again.</summary>
    public void Reset()
    {
        for (; _count > 0; _count--)
        {
            Finish(new ReadState(_pending[_head].Context, 0, false));
            _head = (_head + 1) & (_pending.Length - 1);
        }

        for (int i = 0; i < _parkedCount; i++)
        {
            Finish(new ReadState(_parked[i], 0, false));
        }

        _parkedCount = 0;
        Counter = 0;
    }

    /// <summary>Takes a finished read.</summary>
    public bool TryTake(out ReadState read)
    {
        if (_doneCount == 0)
        {
            read = default;
            return false;
        }

        read = _done[_doneHead];
        _doneHead = (_doneHead + 1) & (_done.Length - 1);
        _doneCount--;
        return true;
    }

    private readonly record struct Pending(ulong Context, ulong Index, ulong Counter);
}
