// MvccStore, open: from a tree file to an index, before any thread runs.
//
// The bucket of revisions is in revision order and its keys come in any order; see IndexLoader. Source: storage.md §2, §6.3, §9.
using System;
using System.Buffers.Binary;
using System.IO;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    /// <summary>Makes missing buckets (first start), scans <c>key</c>, builds the index, resumes a compaction.</summary>
    /// <exception cref="InvalidDataException">A key or value of the file is not what it must be.</exception>
    public static MvccStore Open(Tree tree, MvccOptions options, IFatal fatal)
    {
        CreateMissingBuckets(tree);
        var store = new MvccStore(tree, options, fatal);
        try
        {
            store.Load();
        }
        catch
        {
            store.Dispose();
            throw;
        }

        return store;
    }

    /// <summary>Attaches every live key that carries a lease. After the leases themselves are restored.</summary>
    public void RestoreLeases(ILeaseBook leases)
    {
        View now = Current();
        var cursor = new KeyCursor(_index);
        for (bool more = cursor.Seek(default); more; more = cursor.Next())
        {
            if (KeyHistory.TryGetLive(cursor.Current, long.MaxValue, out KeyState state) && state.IsLeased)
            {
                leases.Attach(TxnCompare.LeaseOf(now, state), KeyRecord.Key(cursor.Current));
            }
        }
    }

    /// <summary>Reads a bucket of the durable tree; open only.</summary>
    public void ForEach<TVisitor>(BucketId bucket, ref TVisitor visitor)
        where TVisitor : struct, IBucketVisitor
    {
        TreePin pin = _tree.Pin();
        try
        {
            if (!new TreeReader(_tree, pin.Root).TryGetBucket(BucketNames.Get(bucket), out BucketReader reader))
            {
                return;
            }

            TreeCursor cursor = reader.Cursor();
            for (bool more = cursor.First(); more; more = cursor.Next())
            {
                visitor.Visit(cursor.Key, cursor.Value);
            }
        }
        finally
        {
            _tree.Unpin(pin);
        }
    }

    private static void CreateMissingBuckets(Tree tree)
    {
        bool missing = false;
        TreePin pin = tree.Pin();
        try
        {
            var reader = new TreeReader(tree, pin.Root);
            for (int i = 0; i < BucketNames.Count; i++)
            {
                missing |= !reader.TryGetBucket(BucketNames.Get((BucketId)i), out _);
            }
        }
        finally
        {
            tree.Unpin(pin);
        }

        if (missing)
        {
            TreeWriter writer = tree.BeginWrite();
            for (int i = 0; i < BucketNames.Count; i++)
            {
                _ = writer.CreateBucketIfMissing(BucketNames.Get((BucketId)i));
            }

            writer.Commit();
        }
    }

    private void Load()
    {
        PinTree();
        LoadMeta(out long scheduled, out long finished);
        _compactRevision = finished;
        _finishedCompactRevision = finished;
        using (var loader = new IndexLoader(_index))
        {
            TreeCursor cursor = _pages.Cursor();
            for (bool more = cursor.First(); more; more = cursor.Next())
            {
                LoadRevision(loader, cursor.Key, cursor.Value);
            }

            loader.Flush();
            Figures.Loaded(loader.LiveKeys);
        }

        _revision = Math.Max(_revision, Math.Max(finished, scheduled));
        _active.Reset(++_bufferSerial, _revision + 1);
        _active.FirstView = 1;
        _index.Reclaimer.IsExclusive = false;
        if (scheduled > finished && !Mutations.Is(Mutation.CompactionNotResumed))
        {
            // Accepted but not carried out: it goes on. No hash is remembered for it.
            _compactRevision = scheduled;
            _compactions.Enqueue(new Compaction { Revision = scheduled, Previous = finished, Serial = 0, RememberHash = false });
        }

        PublishView();
        foreach (Compaction resumed in _compactions)
        {
            resumed.View = _views.Published;
        }
    }

    private void LoadMeta(out long scheduled, out long finished)
    {
        scheduled = -1;
        finished = -1;
        Invariant.Check(
            new TreeReader(_tree, _pin.Root).TryGetBucket(BucketNames.Get(BucketId.Meta), out BucketReader meta), "bucket meta exists");
        if (meta.TryGet("consistent_index"u8, out ReadOnlySpan<byte> value))
        {
            _durableIndex = ReadUInt64(value, "consistent_index");
            _frozenIndex = _durableIndex;
        }

        if (meta.TryGet("term"u8, out value))
        {
            _durableTerm = ReadUInt64(value, "term");
        }

        if (meta.TryGet("finishedCompactRev"u8, out value) && !RevisionKey.TryRead(value, out finished, out _, out _))
        {
            throw new InvalidDataException($"{_tree.Path}: finishedCompactRev is no revision");
        }

        if (meta.TryGet("scheduledCompactRev"u8, out value) && !RevisionKey.TryRead(value, out scheduled, out _, out _))
        {
            throw new InvalidDataException($"{_tree.Path}: scheduledCompactRev is no revision");
        }
    }

    private ulong ReadUInt64(ReadOnlySpan<byte> value, string name) => value.Length == 8
        ? BinaryPrimitives.ReadUInt64BigEndian(value)
        : throw new InvalidDataException($"{_tree.Path}: {name} has {value.Length} bytes, expected 8");

    private void LoadRevision(IndexLoader loader, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        if (!RevisionKey.TryRead(key, out long main, out long sub, out bool tombstone)
            || (ulong)sub >= 1u << 30
            || !Protocol.KeyValue.TryParse(value, out Protocol.KeyValue pair))
        {
            throw new InvalidDataException($"{_tree.Path}: entry {Convert.ToHexString(key)} of bucket key cannot be read");
        }

        _revision = Math.Max(_revision, main);
        loader.Add(pair.Key, main, KeyHistoryWriter.Pack((int)sub, tombstone, pair.Lease != 0), pair.CreateRevision, pair.Version);
    }
}
