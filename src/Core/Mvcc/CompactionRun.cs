// CompactionRun: carries out one compaction inside the tree: deletes revisions in batches, hashes them on the way.
//
// Why        etcd deletes 1000 revisions, commits, rests; the same here, but as a slice of whatever commit is being
//            prepared. The batches resume from a revision, so nothing is held between them. Commits of large buffers take
//            long; a slice that comes late may do as much as those that were due meanwhile, or writers would leave
//            compaction behind for good.
// Keep rule  A revision stays if it is the newest at or below the compaction for its key; a tombstone only if it is
//            exactly at the compaction (storage.md §6.3). The key index answers that; it is swept afterwards.
// Thread     btree.
using System;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

/// <summary>The compaction under way, if any; reused.</summary>
internal sealed unsafe class CompactionRun
{
    private const int DueSlicesMax = 64;
    private readonly MvccStore _store;
    private readonly int _deletesPerSlice;
    private readonly long _pauseNs;
    private long _lastSliceNs;
    private readonly IClock? _clock;
    private long _startNs;
    private long _nextMain; // where the next slice starts
    private long _nextSub;
    private TreeWriteCursor? _cursor; // the object only; each slice seeks
    private RevisionHasher _hasher;
    private bool _hashes;

    public CompactionRun(MvccStore store, MvccOptions options)
    {
        _store = store;
        _deletesPerSlice = options.CompactionBatchLimit;
        _pauseNs = options.CompactionPauseNs;
        _clock = options.Clock;
    }

    public bool IsActive { get; private set; }

    /// <summary>The compaction's revision.</summary>
    public long Revision { get; private set; }

    /// <summary>Hash of the revision, once finished, if it was asked for.</summary>
    public uint Hash => _hasher.Value;

    /// <summary>Revisions the last slice deleted.</summary>
    public int SliceDeletes { get; private set; }

    /// <summary>When the next slice may run, monotonic ns.</summary>
    public long NextSliceNs { get; private set; }

    public void Start(long revision, long previous, bool rememberHash)
    {
        Invariant.Check(!IsActive, "one compaction at a time");
        IsActive = true;
        _startNs = _clock?.NowNs ?? 0;
        Revision = revision;
        NextSliceNs = 0;
        _lastSliceNs = 0;
        _nextMain = 0;
        _nextSub = 0;
        _hashes = rememberHash;
        if (_hashes)
        {
            ViewPin pin = _store.Pin();
            bool keepsAny = RevisionHasher.KeepsAny(_store.Index, revision, forCompaction: true);
            _store.Unpin(pin);
            _hasher = new RevisionHasher(revision, previous, keepsAny);
        }
    }

    /// <summary>Deletes the next revisions in an open transaction.</summary>
    /// <returns>True if it was the last slice; the finished marker is then in the transaction too.</returns>
    public bool Slice(TreeBucket keys, TreeBucket meta, long nowNs)
    {
        ViewPin pin = _store.Pin();
        long due = _lastSliceNs == 0 ? 1 : Math.Clamp((nowNs - _lastSliceNs) / Math.Max(_pauseNs, 1), 1, DueSlicesMax);
        _lastSliceNs = nowNs;
        long before = _clock?.NowNs ?? 0;
        bool finished = Delete(keys, (int)Math.Min(int.MaxValue / 16, _deletesPerSlice * due));
        _store.Unpin(pin);
        _store.Figures.CompactionPause.Observe((_clock?.NowNs ?? 0) - before);
        _store.Figures.Compacted(SliceDeletes);
        Span<byte> marker = stackalloc byte[RevisionKey.TombstoneSize];
        if (finished)
        {
            int length = RevisionKey.Write(marker, Revision, 0, tombstone: false);
            meta.Put("finishedCompactRev"u8, marker[..length]);
            NextSliceNs = long.MaxValue; // until the marker's commit is durable
        }
        else
        {
            NextSliceNs = nowNs + (SliceDeletes == 0 ? _pauseNs / 10 : _pauseNs);
        }

        return finished;
    }

    public void End()
    {
        IsActive = false;
        if (_clock is not null)
        {
            _store.Figures.CompactionTotal.Observe(_clock.NowNs - _startNs);
            _store.Figures.CompactionEnded(_clock.UnixMilliseconds / 1000);
        }
    }

    public void Dispose() => IsActive = false;

    private bool Delete(TreeBucket keys, int deletesMax)
    {
        KeyIndex index = _store.Index;
        TreeWriteCursor cursor = _cursor = keys.Cursor(_cursor);
        Span<byte> from = stackalloc byte[RevisionKey.TombstoneSize];
        int length = RevisionKey.Write(from, _nextMain, _nextSub, tombstone: false);
        SliceDeletes = 0;
        int seen = 0;
        for (bool more = cursor.Seek(from[..length]); more;)
        {
            Invariant.Check(RevisionKey.TryRead(cursor.Key, out long main, out long sub, out bool tombstone), "keys of the bucket are revisions");
            if (main > Revision)
            {
                return true;
            }

            if (SliceDeletes >= deletesMax || seen >= 10 * deletesMax)
            {
                _nextMain = main;
                _nextSub = sub;
                return false;
            }

            seen++;
            Invariant.Check(Protocol.KeyValue.TryParse(cursor.Value, out Protocol.KeyValue pair), "a stored pair parses");
            KeyRecord* record = index.Find(pair.Key);
            bool kept = record != null && KeyHistory.KeptByCompaction(record, Revision, main, (int)sub);
            if (_hashes)
            {
                _hasher.Add(main, tombstone, kept, cursor.Key, cursor.Value);
            }

            if (kept)
            {
                more = cursor.Next();
            }
            else
            {
                SliceDeletes++;
                more = cursor.DeleteCurrent();
            }
        }

        return true;
    }
}
