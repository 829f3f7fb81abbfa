// WalActor: the fsync pipeline. Owned by the WAL thread; raft enqueues and reads DurableSequence.
using System;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Takes all queued units, writes them with one call, syncs once, publishes how far the log is durable.</summary>
public sealed class WalActor : IActor
{
    public WalActor(WalLog log, IClock clock, IFatal fatal, IWalObserver? observer = null)
    {
        throw new NotImplementedException();
    }

    public string RoleName => "wal";

    public long NextDeadlineNs => throw new NotImplementedException();

    /// <summary>Woken whenever <see cref="DurableSequence"/> has moved: raft. Set before the first unit.</summary>
    public IWaker? Completed { get; set; }

    /// <summary>Wakes this actor's own thread; <see cref="TryEnqueue"/> calls it. Set before the first unit.</summary>
    public IWaker? Self { get; set; }

    /// <summary>Units up to this sequence are durable. Any thread.</summary>
    public ulong DurableSequence => throw new NotImplementedException();

    /// <summary>Queues a unit; false when the queue is full (poll DurableSequence, try again). Raft thread only.</summary>
    public bool TryEnqueue(in WalUnit unit) => throw new NotImplementedException();

    public bool Poll(long nowNs) => throw new NotImplementedException();

    /// <summary>Writes and syncs whatever is queued, and the last commit. After the thread has ended, before disposal.</summary>
    public void Flush() => throw new NotImplementedException();
}
