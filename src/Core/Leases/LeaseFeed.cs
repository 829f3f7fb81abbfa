// LeaseFeed: tells the raft thread, which owns the deadlines, what the store thread has applied to leases.
//
// Thread     Store produces (as the lessor's observer), raft consumes.
// Order      An entry's event is in the ring before its answer is given, and raft drains the ring before it looks a lease
//            up: so whoever has an answer finds the lease.
// Full       The store applies nothing while an event waits for room (IsReady): a grant or a revoke makes one event, and
//            for one of them there is room then. A checkpoint entry or a new state makes many; what does not fit waits in
//            the spill queue, in order.
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>What happened to a lease.</summary>
internal enum LeaseEventKind : byte
{
    Granted,
    Revoked,
    Checkpointed,

    /// <summary>All leases are gone: another state is told from here on.</summary>
    Cleared,
}

/// <summary>One change. Seconds: granted time; Remaining: of a checkpoint, 0 for none.</summary>
internal readonly record struct LeaseEvent(LeaseEventKind Kind, long Id, long Seconds, long Remaining);

/// <summary>The ring and its counters.</summary>
internal sealed class LeaseFeed : ILeaseObserver
{
    private const int Capacity = 4096;

    private readonly SpscRing<LeaseEvent> _ring = new(Capacity);
    private readonly Queue<LeaseEvent> _spill = new();
    private bool _hasNews;
    private bool _starved;
    private long _granted;
    private long _revoked;

    /// <summary>Store: nothing waits for room and one more event fits.</summary>
    internal bool IsReady
    {
        get
        {
            if (_spill.Count == 0 && _ring.Count < Capacity)
            {
                return true;
            }

            Volatile.Write(ref _starved, true);
            Interlocked.MemoryBarrier();
            Flush();
            return _spill.Count == 0 && _ring.Count < Capacity;
        }
    }

    /// <summary>Grants applied since the start.</summary>
    internal long GrantCount => Volatile.Read(ref _granted);

    /// <summary>Revokes applied since the start.</summary>
    internal long RevokeCount => Volatile.Read(ref _revoked);

    /// <summary>The granted times, seconds: 1, 2, 4 … 2^23. Store writes, anybody reads.</summary>
    internal OwnedDistribution Ttls { get; } = new(Distribution.Doubling(1, 24), 1);

    /// <summary>Raft: takes the next event.</summary>
    internal bool TryTake(out LeaseEvent item) => _ring.TryDequeue(out item);

    /// <summary>Raft, after taking: true once when the store waits for room.</summary>
    internal bool TakeStarved()
    {
        if (!Volatile.Read(ref _starved))
        {
            return false;
        }

        Volatile.Write(ref _starved, false);
        return true;
    }

    /// <summary>Store, after a batch: true once when raft should be woken to look at what is new.</summary>
    internal bool TakeNews()
    {
        Flush();
        bool news = _hasNews;
        _hasNews = false;
        return news;
    }

    /// <summary>Store: another state has taken the place of this one.</summary>
    internal void Replaced(Lessor leases)
    {
        Tell(new LeaseEvent(LeaseEventKind.Cleared, 0, 0, 0));
        var all = new List<LeaseInfo>(leases.Count);
        leases.CopyTo(all);
        foreach (LeaseInfo lease in Mutations.Is(Mutation.LeasesForgottenOnInstall) ? [] : all)
        {
            Tell(new LeaseEvent(LeaseEventKind.Granted, lease.Id, lease.Ttl, lease.RemainingTtl));
        }
    }

    /// <inheritdoc/>
    public void Granted(long id, long ttlSeconds)
    {
        Ttls.Observe(ttlSeconds);
        Volatile.Write(ref _granted, _granted + 1);
        Tell(new LeaseEvent(LeaseEventKind.Granted, id, ttlSeconds, 0));
    }

    /// <inheritdoc/>
    public void Revoked(long id)
    {
        Volatile.Write(ref _revoked, _revoked + 1);
        Tell(new LeaseEvent(LeaseEventKind.Revoked, id, 0, 0));
    }

    /// <inheritdoc/>
    public void Checkpointed(long id, long remainingTtlSeconds) =>
        Tell(new LeaseEvent(LeaseEventKind.Checkpointed, id, 0, remainingTtlSeconds));

    private void Tell(in LeaseEvent item)
    {
        _hasNews = true;
        if (_spill.Count > 0 || !_ring.TryEnqueue(in item))
        {
            _spill.Enqueue(item);
        }
    }

    private void Flush()
    {
        while (_spill.TryPeek(out LeaseEvent item) && _ring.TryEnqueue(in item))
        {
            _ = _spill.Dequeue();
            _hasNews = true;
        }
    }
}
