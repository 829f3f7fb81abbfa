// ColdReads: reads whose pages have to come from the disk, on a few threads of their own.
//
// Why        A thread that serves clients must not wait for a disk, and a managed thread stuck in a page fault stalls
//            every collection (design: page faults). So the I/O thread tries a read without waiting, and what turns
//            out cold comes here, where each page is made resident by a call that has left managed code.
// Threads    cold (MemberOptions.ColdReaders of them). Any thread queues; full queues refuse: too many requests.
// Ownership  An item holds a pipeline reference to its slot, and the request in the slot's payload.
using System;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>What a cold read is.</summary>
public enum ColdReadKind : byte
{
    /// <summary>The payload is a RangeRequest.</summary>
    Range,

    /// <summary>The payload is a TxnRequest of ranges only.</summary>
    Txn,

    /// <summary>An <see cref="IColdRead"/>.</summary>
    Other,
}

/// <summary>A read with a state of its own.</summary>
public interface IColdRead
{
    /// <summary>Reads on a thread that may wait; the slot's Response is this call's to write.</summary>
    ErrorCode Read(RequestSlot slot);
}

/// <summary>One queued read.</summary>
internal struct ColdRead
{
    public RequestSlot Slot;
    public ColdReadKind Kind;
    public IColdRead? Other;
}

/// <summary>The pool: picks a reader with room.</summary>
internal sealed class ColdReads
{
    private readonly ColdReader[] _readers;
    private int _next;
    private long _count;

    internal ColdReads(ColdReader[] readers) => _readers = readers;

    /// <summary>Reads taken over so far.</summary>
    internal long Count => Volatile.Read(ref _count);

    internal bool TryEnqueue(in ColdRead read)
    {
        uint first = (uint)Interlocked.Increment(ref _next);
        for (uint i = 0; i < _readers.Length; i++)
        {
            if (_readers[(first + i) % (uint)_readers.Length].TryEnqueue(read))
            {
                Interlocked.Increment(ref _count);
                return true;
            }
        }

        return false;
    }

    /// <summary>Ends everything queued: nobody polls the readers any more, or the member stops.</summary>
    internal void Fail()
    {
        foreach (ColdReader reader in _readers)
        {
            reader.Fail();
        }
    }
}

/// <summary>One of the threads.</summary>
internal sealed class ColdReader : IActor
{
    private const int QueueLength = 256;

    private readonly MpscRing<ColdRead> _queue = new(QueueLength);
    private readonly Func<MvccStore> _store; // a snapshot of the leader may replace it
    private readonly Func<HeaderFields> _header;
    private readonly MemberCounters _counters;
    private readonly IWaker _self;

    internal ColdReader(Func<MvccStore> store, Func<HeaderFields> header, MemberCounters counters, IWaker self)
    {
        _store = store;
        _header = header;
        _counters = counters;
        _self = self;
    }

    /// <inheritdoc/>
    public string RoleName => "cold";

    /// <inheritdoc/>
    public long NextDeadlineNs => long.MaxValue;

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (!_queue.TryDequeue(out ColdRead read))
        {
            return false;
        }

        RequestSlot slot = read.Slot;
        if (slot.TryClaim())
        {
            slot.CompleteClaimed(_counters.StoreStopped ? ErrorCode.Stopped : Run(slot, read));
        }

        slot.DropReference();
        return true;
    }

    internal bool TryEnqueue(in ColdRead read)
    {
        bool queued = _queue.TryEnqueue(read);
        if (queued)
        {
            _self.Wake();
        }

        return queued;
    }

    internal void Fail()
    {
        while (_queue.TryDequeue(out ColdRead read))
        {
            _ = read.Slot.TryComplete(ErrorCode.Stopped);
            read.Slot.DropReference();
        }
    }

    private ErrorCode Run(RequestSlot slot, in ColdRead read)
    {
        if (read.Kind == ColdReadKind.Other)
        {
            return read.Other!.Read(slot);
        }

        MvccStore store = _store();
        ViewPin pin = store.Pin();
        try
        {
            return read.Kind == ColdReadKind.Txn
                ? store.ReadTxn(slot.Payload, pin, _header(), ref slot.Response)
                : store.Range(slot.Payload, pin, _header(), ref slot.Response);
        }
        finally
        {
            store.Unpin(pin);
        }
    }
}
