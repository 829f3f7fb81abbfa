// KvModel: what a store must hold and answer, kept as dictionaries and lists: every version of every key, every event, leases
// and their keys. Entries are applied to it once, in the order of the log; members are compared with it.
//
// It forgets nothing at compactions, so it can judge reads and watches at any revision; whether a member may still answer
// them is judged by Compacted.
using System;
using System.Collections.Generic;

namespace Cairn.Simulation;

/// <summary>One change as watchers see it.</summary>
internal sealed record KvEvent(long Revision, bool IsDelete, string Key, string Value, long Created, long Version, long Lease);

internal sealed class KvModel
{
    private readonly SortedDictionary<string, List<KvEvent>> _keys = new(StringComparer.Ordinal);

    public long Revision { get; private set; } = 1;

    /// <summary>-1: never.</summary>
    public long Compacted { get; private set; } = -1;

    /// <summary>Every change, by revision, then in the order of the request.</summary>
    public List<KvEvent> Events { get; } = [];

    /// <summary>Granted leases: their time in seconds and their keys.</summary>
    public SortedDictionary<long, (long Ttl, SortedSet<string> Keys)> Leases { get; } = [];

    /// <summary>Applies a request that is in the log, and says what it must answer.</summary>
    public StoreResponse Apply(StoreRequest request)
    {
        switch (request.Kind)
        {
            case StoreRequestKind.Compact:
                return Compact(request.Revision);
            case StoreRequestKind.LeaseGrant:
                return Leases.TryAdd(request.Lease, (request.Ttl, new SortedSet<string>(StringComparer.Ordinal)))
                    ? Plain() : Error(StoreError.LeaseExists);
            case StoreRequestKind.LeaseRevoke:
                return Revoke(request.Lease);
            default:
                return Txn(request);
        }
    }

    /// <summary>What a range answers at a revision, compacted or not.</summary>
    public StoreOpResult ReadAt(StoreOp operation, long limit, long revision)
    {
        var found = new List<StorePair>();
        long count = 0;
        if (operation.End.Length == 0)
        {
            Take(operation.Key);
        }
        else
        {
            foreach (string key in _keys.Keys)
            {
                if (string.CompareOrdinal(key, operation.Key) >= 0 && string.CompareOrdinal(key, operation.End) < 0)
                {
                    Take(key);
                }
            }
        }

        return new StoreOpResult(count, [.. found]);

        void Take(string key)
        {
            if (At(key, revision) is { IsDelete: false } held)
            {
                count++;
                if (limit == 0 || found.Count < limit)
                {
                    found.Add(new StorePair(key, held.Value, held.Created, held.Revision, held.Version));
                }
            }
        }
    }

    /// <summary>The newest version at a revision; null if the key was never there.</summary>
    public KvEvent? At(string key, long revision)
    {
        if (_keys.TryGetValue(key, out List<KvEvent>? versions))
        {
            for (int i = versions.Count - 1; i >= 0; i--)
            {
                if (versions[i].Revision <= revision)
                {
                    return versions[i];
                }
            }
        }

        return null;
    }

    /// <summary>Place in <see cref="Events"/> of the first change at or above a revision.</summary>
    public int FirstEvent(long revision)
    {
        int low = 0;
        int high = Events.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (Events[middle].Revision < revision)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }

    private static StoreResponse Error(StoreError error) => new() { Error = error };

    private StoreResponse Plain() => new() { Revision = Revision, IsSuccess = true };

    private StoreResponse Compact(long revision)
    {
        if (revision <= Compacted)
        {
            return Error(StoreError.Compacted);
        }

        if (revision > Revision)
        {
            return Error(StoreError.FutureRevision);
        }

        Compacted = revision;
        return Plain();
    }

    private StoreResponse Revoke(long id)
    {
        if (!Leases.Remove(id, out (long Ttl, SortedSet<string> Keys) lease))
        {
            return Error(StoreError.LeaseNotFound);
        }

        if (lease.Keys.Count > 0)
        {
            long next = Revision + 1;
            foreach (string key in lease.Keys)
            {
                Add(new KvEvent(next, true, key, string.Empty, 0, 0, 0));
            }

            Revision = next;
        }

        return Plain();
    }

    private StoreResponse Txn(StoreRequest request)
    {
        bool holds = true;
        foreach (StoreCompare compare in request.Compares)
        {
            long modified = At(compare.Key, Revision) is { IsDelete: false } held ? held.Revision : 0;
            holds &= compare.Sign == CompareSign.Equal ? modified == compare.Number : modified > compare.Number;
        }

        StoreOp[] operations = holds ? request.Success : request.Failure;
        foreach (StoreOp operation in operations)
        {
            if (operation.Kind == StoreOpKind.Put && operation.Lease != 0 && !Leases.ContainsKey(operation.Lease))
            {
                return Error(StoreError.LeaseNotFound);
            }
        }

        long next = Revision + 1;
        bool changed = false;
        var results = new StoreOpResult[operations.Length];
        for (int i = 0; i < operations.Length; i++)
        {
            StoreOp operation = operations[i];
            switch (operation.Kind)
            {
                case StoreOpKind.Put:
                    changed = true;
                    KvEvent? held = At(operation.Key, next);
                    bool isNew = held is null || held.IsDelete;
                    Detach(operation.Key, held);
                    Add(new KvEvent(
                        next, false, operation.Key, operation.Value, isNew ? next : held!.Created, isNew ? 1 : held!.Version + 1,
                        operation.Lease));
                    if (operation.Lease != 0)
                    {
                        _ = Leases[operation.Lease].Keys.Add(operation.Key);
                    }

                    results[i] = StoreOpResult.Nothing;
                    break;
                case StoreOpKind.Delete:
                    StorePair[] deleted = ReadAt(operation, 0, next).Pairs;
                    foreach (StorePair pair in deleted)
                    {
                        Detach(pair.Key, At(pair.Key, next));
                        Add(new KvEvent(next, true, pair.Key, string.Empty, 0, 0, 0));
                    }

                    changed |= deleted.Length > 0;
                    results[i] = new StoreOpResult(deleted.Length, []);
                    break;
                default:
                    results[i] = ReadAt(operation, 0, next);
                    break;
            }
        }

        Revision = changed ? next : Revision;
        return new StoreResponse { Revision = Revision, IsSuccess = holds, Results = results };
    }

    private void Detach(string key, KvEvent? held)
    {
        if (held is { IsDelete: false } && held.Lease != 0 && Leases.TryGetValue(held.Lease, out (long Ttl, SortedSet<string> Keys) lease))
        {
            _ = lease.Keys.Remove(key);
        }
    }

    private void Add(KvEvent change)
    {
        if (!_keys.TryGetValue(change.Key, out List<KvEvent>? versions))
        {
            _keys.Add(change.Key, versions = []);
        }

        versions.Add(change);
        Events.Add(change);
    }
}
