// StoreModel: a whole key-value store with revisions as an immutable value, after the model of etcd's robustness suite.
//
// Every response carries the revision, which couples all keys, so histories are checked as one; revisions say so much
// that the search is near to linear.
using System;
using System.Collections.Generic;

namespace Cairn.Simulation;

/// <summary>What the search drives: states are immutable values.</summary>
internal interface IHistoryModel<TState>
    where TState : class, IEquatable<TState>
{
    TState Start { get; }

    /// <summary>The state after an operation, or null when it could not have answered so.</summary>
    TState? Step(TState state, HistoryOperation operation);
}

internal sealed class StoreState : IEquatable<StoreState>
{
    private readonly int _hash;

    public StoreState(long revision, long compacted, StorePair[] pairs)
    {
        Revision = revision;
        Compacted = compacted;
        Pairs = pairs;
        ulong hash = ((ulong)revision * 0x9E3779B97F4A7C15) ^ (ulong)compacted;
        foreach (StorePair pair in pairs)
        {
            hash = (hash ^ (ulong)pair.Modified ^ ((ulong)pair.Version << 32)) * 0xff51afd7ed558ccd;
            foreach (char c in pair.Key)
            {
                hash = (hash ^ c) * 1099511628211;
            }
        }

        _hash = (int)(hash ^ (hash >> 32));
    }

    public static StoreState Empty { get; } = new(1, -1, []);

    public long Revision { get; }

    /// <summary>-1: never. Compacting at 0 is accepted.</summary>
    public long Compacted { get; }

    /// <summary>Ascending by key.</summary>
    public StorePair[] Pairs { get; }

    public bool Equals(StoreState? other) => other is not null && other._hash == _hash && other.Revision == Revision
        && other.Compacted == Compacted && Pairs.AsSpan().SequenceEqual(other.Pairs);

    public override bool Equals(object? obj) => Equals(obj as StoreState);

    public override int GetHashCode() => _hash;

    public StorePair? Find(string key)
    {
        foreach (StorePair pair in Pairs)
        {
            if (pair.Key == key)
            {
                return pair;
            }
        }

        return null;
    }
}

internal sealed class StoreModel : IHistoryModel<StoreState>
{
    public static StoreModel Instance { get; } = new();

    public StoreState Start => StoreState.Empty;

    public StoreState? Step(StoreState state, HistoryOperation operation)
    {
        (StoreState next, StoreResponse predicted) = Apply(state, operation.Request);
        if (operation.Response is not { } response)
        {
            return next;
        }

        StoreRequest request = operation.Request;
        if (request.Kind == StoreRequestKind.Compact && response.Error == predicted.Error)
        {
            return next; // the revision in its header is not compared
        }

        if (request.Kind == StoreRequestKind.Range && request.Revision > 0 && request.Revision < state.Revision
            && predicted.Error == StoreError.None)
        {
            // An older revision: that it was there is all this model knows; its content is checked by the ledger.
            return response.Error == StoreError.None && response.Revision == state.Revision ? state : null;
        }

        return predicted.IsSame(response) ? next : null;
    }

    /// <summary>What a store does, and answers.</summary>
    public static (StoreState Next, StoreResponse Response) Apply(StoreState state, StoreRequest request) => request.Kind switch
    {
        StoreRequestKind.Range => (state, Range(state, request)),
        StoreRequestKind.Compact => Compact(state, request),
        _ => Txn(state, request),
    };

    private static StoreResponse Range(StoreState state, StoreRequest request)
    {
        if (request.Revision > state.Revision)
        {
            return new StoreResponse { Error = StoreError.FutureRevision };
        }

        if (request.Revision > 0 && request.Revision < state.Compacted)
        {
            return new StoreResponse { Error = StoreError.Compacted };
        }

        return new StoreResponse
        {
            Revision = state.Revision, IsSuccess = true, Results = [Read(state.Pairs, request.Read!, request.Limit)],
        };
    }

    private static (StoreState Next, StoreResponse Response) Compact(StoreState state, StoreRequest request)
    {
        if (request.Revision <= state.Compacted)
        {
            return (state, new StoreResponse { Error = StoreError.Compacted });
        }

        return request.Revision > state.Revision
            ? (state, new StoreResponse { Error = StoreError.FutureRevision })
            : (new StoreState(state.Revision, request.Revision, state.Pairs), new StoreResponse { Revision = state.Revision, IsSuccess = true });
    }

    private static (StoreState Next, StoreResponse Response) Txn(StoreState state, StoreRequest request)
    {
        bool holds = true;
        foreach (StoreCompare compare in request.Compares)
        {
            holds &= Holds(state, compare);
        }

        StoreOp[] operations = holds ? request.Success : request.Failure;
        var pairs = new List<StorePair>(state.Pairs);
        long next = state.Revision + 1;
        bool changed = false;
        var results = new StoreOpResult[operations.Length];
        for (int i = 0; i < operations.Length; i++)
        {
            StoreOp operation = operations[i];
            switch (operation.Kind)
            {
                case StoreOpKind.Put:
                    changed = true;
                    Put(pairs, operation, next);
                    results[i] = StoreOpResult.Nothing;
                    break;
                case StoreOpKind.Delete:
                    int deleted = pairs.RemoveAll(pair => Contains(operation, pair.Key));
                    changed |= deleted > 0;
                    results[i] = new StoreOpResult(deleted, []);
                    break;
                default:
                    results[i] = Read([.. pairs], operation, 0);
                    break;
            }
        }

        StoreState after = changed ? new StoreState(next, state.Compacted, [.. pairs]) : state;
        return (after, new StoreResponse { Revision = after.Revision, IsSuccess = holds, Results = results });
    }

    private static void Put(List<StorePair> pairs, StoreOp operation, long revision)
    {
        int at = pairs.FindIndex(pair => string.CompareOrdinal(pair.Key, operation.Key) >= 0);
        if (at >= 0 && pairs[at].Key == operation.Key)
        {
            pairs[at] = pairs[at] with { Value = operation.Value, Modified = revision, Version = pairs[at].Version + 1 };
        }
        else
        {
            pairs.Insert(at < 0 ? pairs.Count : at, new StorePair(operation.Key, operation.Value, revision, revision, 1));
        }
    }

    private static StoreOpResult Read(StorePair[] pairs, StoreOp operation, long limit)
    {
        StorePair[] found = Array.FindAll(pairs, pair => Contains(operation, pair.Key));
        long count = found.Length;
        return new StoreOpResult(count, limit > 0 && limit < count ? found[..(int)limit] : found);
    }

    private static bool Contains(StoreOp operation, string key) => operation.End.Length == 0
        ? key == operation.Key
        : string.CompareOrdinal(key, operation.Key) >= 0 && (operation.End == "\0" || string.CompareOrdinal(key, operation.End) < 0);

    private static bool Holds(StoreState state, StoreCompare compare)
    {
        StorePair pair = state.Find(compare.Key) ?? default;
        if (compare.Field == CompareField.Value && pair.Version == 0)
        {
            return false; // an absent key has no value to compare
        }

        int order = compare.Field switch
        {
            CompareField.Version => pair.Version.CompareTo(compare.Number),
            CompareField.Modified => pair.Modified.CompareTo(compare.Number),
            CompareField.Created => pair.Created.CompareTo(compare.Number),
            _ => string.CompareOrdinal(pair.Value, compare.Value),
        };
        return compare.Sign switch
        {
            CompareSign.Equal => order == 0,
            CompareSign.NotEqual => order != 0,
            CompareSign.Greater => order > 0,
            _ => order < 0,
        };
    }
}
