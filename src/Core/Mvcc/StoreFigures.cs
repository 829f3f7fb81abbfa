// StoreFigures: what a store has done, for the metrics page, counted as etcd counts.
//
// Rules      A put, a delete range and a range count one each, however many keys they touch. A transaction (of etcd's
//            store, not of the API) that did more than one of them counts as a txn. An API txn is two of those: one
//            that looks (compares, checks of ignore_value), one that acts. prev_kv, ignore_value and ignore_lease
//            each cost their operation one range. Read from etcd's own numbers; tests/Cluster compares them.
// Threads    Puts to LiveKeys: store. Compaction: btree. Reads on views: any.
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>Counters of one store.</summary>
public sealed class StoreFigures
{
    private readonly StripedCounter _viewRanges = new();
    private readonly StripedCounter _viewTxns = new();
    private long _puts;
    private long _deletes;
    private long _ranges;
    private long _txns;
    private long _putBytes;
    private long _liveKeys;
    private long _compactedKeys;
    private long _lastCompaction;
    private int _openRanges;
    private int _openChanges;

    /// <summary>Put operations.</summary>
    public long Puts => Volatile.Read(ref _puts);

    /// <summary>Delete-range operations.</summary>
    public long Deletes => Volatile.Read(ref _deletes);

    /// <summary>Range operations, on views and in the log.</summary>
    public long Ranges => Volatile.Read(ref _ranges) + _viewRanges.Value;

    /// <summary>Transactions of more than one operation.</summary>
    public long Txns => Volatile.Read(ref _txns) + _viewTxns.Value;

    /// <summary>Bytes of keys and values put.</summary>
    public long PutBytes => Volatile.Read(ref _putBytes);

    /// <summary>Keys that exist at the newest revision.</summary>
    public long LiveKeys => Volatile.Read(ref _liveKeys);

    /// <summary>Revisions deleted by compactions.</summary>
    public long CompactedKeys => Volatile.Read(ref _compactedKeys);

    /// <summary>Seconds since 1970 at which the last compaction's deletes were durable; 0 before any.</summary>
    public long LastCompaction => Volatile.Read(ref _lastCompaction);

    /// <summary>Duration of each batch of a compaction (btree).</summary>
    public OwnedDistribution CompactionPause { get; } = new(Distribution.Doubling(1_000_000, 13), 1e6);

    /// <summary>Duration of whole compactions, from the first batch until the last is durable (btree).</summary>
    public OwnedDistribution CompactionTotal { get; } = new(Distribution.Doubling(100_000_000, 14), 1e6);

    /// <summary>Longest slice of each sweep of the index (store).</summary>
    public OwnedDistribution IndexPause { get; } = new(Distribution.Doubling(500_000, 14), 1e6);

    // ---- store thread ----

    internal void Put(int keyAndValue)
    {
        Volatile.Write(ref _puts, _puts + 1);
        Volatile.Write(ref _putBytes, _putBytes + keyAndValue);
        _openChanges++;
    }

    internal void Delete()
    {
        Volatile.Write(ref _deletes, _deletes + 1);
        _openChanges++;
    }

    internal void Range(int count = 1)
    {
        Volatile.Write(ref _ranges, _ranges + count);
        _openRanges += count;
    }

    /// <summary>Ends a transaction of the store: it counts if it did more than one thing.</summary>
    internal void End()
    {
        if (_openRanges + _openChanges > 1)
        {
            Volatile.Write(ref _txns, _txns + 1);
        }

        _openRanges = 0;
        _openChanges = 0;
    }

    internal void KeyAppeared() => Volatile.Write(ref _liveKeys, _liveKeys + 1);

    internal void KeyWent() => Volatile.Write(ref _liveKeys, _liveKeys - 1);

    internal void Loaded(long liveKeys) => Volatile.Write(ref _liveKeys, liveKeys);

    // ---- btree thread ----

    internal void Compacted(int deletes) => Volatile.Write(ref _compactedKeys, _compactedKeys + deletes);

    internal void CompactionEnded(long unixSeconds) => Volatile.Write(ref _lastCompaction, unixSeconds);

    // ---- any thread ----

    internal void ViewRange() => _viewRanges.Add(1);

    internal void ViewTxn(int ranges)
    {
        _viewRanges.Add(ranges);
        if (ranges > 1)
        {
            _viewTxns.Add(1);
        }
    }
}
