// PeerInbox: the door for what peers say: a bounded ring any thread puts messages into and the raft thread empties.
//
// Ownership  The block of entries moves with the message; what does not fit is dropped here and its block returned.
// Bound      By count (the ring) and by bytes of entries: a leader that is faster than this member's raft thread is
//            slowed down by its window, not by our memory.
using System.Threading;
using Cairn.Base;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>A message that has arrived, with the entries it came with.</summary>
internal unsafe struct InboundMessage
{
    public RaftMessage Message;

    /// <summary>Laid out by <see cref="EntryFrame"/>, or null.</summary>
    public NativeBlock* Entries;
}

/// <summary>Queues messages of peers for the raft thread.</summary>
internal sealed unsafe class PeerInbox(NativePool pool, IWaker raft)
{
    private const int Capacity = 8192;
    private const long MaxBytes = 256L << 20;

    private readonly MpscRing<InboundMessage> _ring = new(Capacity);
    private long _bytes;
    private long _dropped;

    /// <summary>Messages dropped because raft did not keep up.</summary>
    internal long Dropped => Volatile.Read(ref _dropped);

    internal NativePool Pool => pool;

    /// <summary>Any thread.</summary>
    internal bool TryPut(in RaftMessage message, NativeBlock* entries)
    {
        int length = entries is null ? 0 : entries->Length;
        bool fits = Interlocked.Add(ref _bytes, length) <= MaxBytes;
        if (fits && _ring.TryEnqueue(new InboundMessage { Message = message, Entries = entries }))
        {
            raft.Wake();
            return true;
        }

        Interlocked.Add(ref _bytes, -length);
        Interlocked.Increment(ref _dropped);
        if (entries is not null)
        {
            pool.Return(entries);
        }

        return false;
    }

    /// <summary>The raft thread; the block, if any, is the caller's now.</summary>
    internal bool TryTake(out InboundMessage message)
    {
        if (!_ring.TryDequeue(out message))
        {
            return false;
        }

        if (message.Entries is not null)
        {
            Interlocked.Add(ref _bytes, -message.Entries->Length);
        }

        return true;
    }

    /// <summary>Drops everything. Nobody puts anything in any more.</summary>
    internal void Clear()
    {
        while (TryTake(out InboundMessage message))
        {
            if (message.Entries is not null)
            {
                pool.Return(message.Entries);
            }
        }
    }
}
