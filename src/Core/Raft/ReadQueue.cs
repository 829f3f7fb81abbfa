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
using Cairn.Base;

namespace Cairn.Core.Raft;

internal sealed class ReadQueue
{
    private Pending[] _pending = new Pending[64];
    private int _head;
    private int _count;
    private ParkedRead[] _parked = new ParkedRead[64];
    private int _parkedCount;
    private RemoteRead[] _remote = [];
    private int _remoteCount;
    private ReadState[] _done = new ReadState[64];
    private int _doneHead;
    private int _doneCount;

    /// <summary>Reads accepted in this term so far.</summary>
    public ulong Counter { get; private set; }

    /// <summary>Reads of other members that were confirmed and have to be told.</summary>
    public ReadOnlySpan<RemoteRead> Remote => _remote.AsSpan(0, _remoteCount);

    public bool HasPending => _count > 0;

    /// <summary>Keeps a read until the first commit of this term.</summary>
    /// <param name="context">The requester's number.</param>
    /// <param name="origin">The member that asked; 0 for this one.</param>
    /// <param name="boot">Its boot number.</param>
    public void Park(ulong context, ulong origin = 0, ulong boot = 0)
    {
        if (_parkedCount == _parked.Length)
        {
            Array.Resize(ref _parked, _parked.Length * 2);
        }

        _parked[_parkedCount++] = new ParkedRead(context, origin, boot);
    }

    /// <summary>The first own commit: parked reads run at it, those of a sole voter at once.</summary>
    public void AcceptParked(ulong index, bool isConfirmed)
    {
        for (int i = 0; i < _parkedCount; i++)
        {
            ParkedRead read = _parked[i];
            if (isConfirmed)
            {
                Finish(new Pending(read.Context, index, 0, read.Origin, read.Boot));
            }
            else
            {
                _ = Accept(read.Context, index, read.Origin, read.Boot);
            }
        }

        _parkedCount = 0;
    }

    public void ClearRemote() => _remoteCount = 0;

    /// <summary>Accepts a read at an index; returns its counter.</summary>
    public ulong Accept(ulong context, ulong index, ulong origin = 0, ulong boot = 0)
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

        if (!Mutations.Is(Mutation.ReadJoinsRunningRound) || _count == 0)
        {
            Counter++;
        }

        _pending[(_head + _count++) & (_pending.Length - 1)] = new Pending(context, index, Counter, origin, boot);
        return Counter;
    }

    /// <summary>A quorum has echoed this counter: every read up to it is confirmed.</summary>
    public void Confirm(ulong counter)
    {
        while (_count > 0 && _pending[_head].Counter <= counter)
        {
            Finish(_pending[_head]);
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
            if (_pending[_head].Origin == 0)
            {
                Finish(new ReadState(_pending[_head].Context, 0, false));
            }

            _head = (_head + 1) & (_pending.Length - 1);
        }

        for (int i = 0; i < _parkedCount; i++)
        {
            if (_parked[i].Origin == 0)
            {
                Finish(new ReadState(_parked[i].Context, 0, false));
            }
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

    private void Finish(in Pending read)
    {
        if (read.Origin == 0)
        {
            Finish(new ReadState(read.Context, read.Index, true));
            return;
        }

        if (_remoteCount == _remote.Length)
        {
            Array.Resize(ref _remote, Math.Max(16, _remote.Length * 2));
        }

        _remote[_remoteCount++] = new RemoteRead(read.Context, read.Index, read.Origin, read.Boot);
    }

    /// <summary>A confirmed read of another member. One that fails is not told: its requester sees the change itself.</summary>
    internal readonly record struct RemoteRead(ulong Context, ulong Index, ulong Origin, ulong Boot);

    private readonly record struct ParkedRead(ulong Context, ulong Origin, ulong Boot);

    private readonly record struct Pending(ulong Context, ulong Index, ulong Counter, ulong Origin, ulong Boot);
}
