// MvccStore, hashes: HashKV and Hash, for the corruption checks and for tests. Any thread, but long.
//
// HashKV walks all revisions in order: those in the pinned pages, then the frozen buffer, then the active one. It
// takes a new pin every 4 MiB or so, so that pages and index memory are not held for its whole length; a compaction
// accepted meanwhile changes what may have been deleted, so the walk then starts over.
using System;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    private const long HashBytesPerPin = 4 << 20;

    /// <summary>HashKV at a revision (0 = current). Pins by itself; long: not on an I/O thread.</summary>
    public ErrorCode HashKv(long revision, out HashKvResult result)
    {
        try
        {
            return WalkRevisions(revision, out result);
        }
        catch (Exception exception) when (exception is InvariantException or TreeCorruptException)
        {
            _fatal.Stop("HashKV met state that cannot be: the member's data or memory is damaged", exception);
            throw;
        }
    }

    private ErrorCode WalkRevisions(long revision, out HashKvResult result)
    {
        while (true)
        {
            ViewPin pin = Pin();
            if (pin.Owner != this)
            {
                Unpin(pin); // this store was replaced: the hash is that of its successor
                return pin.Owner.WalkRevisions(revision, out result);
            }

            long compact = pin.CompactRevision;
            long current = pin.Revision;
            if (revision > 0 && _compactionHashes.TryGet(revision, out long previous, out uint remembered))
            {
                Unpin(pin);
                result = new HashKvResult(remembered, revision, previous, current);
                return ErrorCode.None;
            }

            result = default;
            if (revision > 0 && revision < compact)
            {
                Unpin(pin);
                return ErrorCode.Compacted;
            }

            if (revision > current)
            {
                Unpin(pin);
                return ErrorCode.FutureRev;
            }

            long at = revision == 0 ? current : revision;
            var hasher = new RevisionHasher(at, compact, RevisionHasher.KeepsAny(_index, at, forCompaction: false));
            long nextMain = 0;
            long nextSub = 0;
            bool finished;
            while (true)
            {
                finished = HashSlice(pin.View, ref hasher, ref nextMain, ref nextSub);
                Unpin(pin);
                if (finished)
                {
                    break;
                }

                pin = Pin();
                if (pin.Owner != this || pin.CompactRevision != compact)
                {
                    Unpin(pin);
                    break;
                }
            }

            if (finished)
            {
                result = new HashKvResult(hasher.Value, at, compact, current);
                return ErrorCode.None;
            }
        }
    }

    /// <summary>Compactions whose hashes are remembered, newest first; any thread.</summary>
    public long[] CompactionHashRevisions() => _compactionHashes.Revisions();

    /// <summary>Hash over all buckets of the durable tree (freeze and wait first). Long: not on an I/O thread.</summary>
    public uint Hash()
    {
        TreePin pin = _tree.Pin();
        try
        {
            uint crc = 0;
            var reader = new TreeReader(_tree, pin.Root);
            for (int i = 0; i < BucketNames.Count; i++) // in byte order of the names
            {
                ReadOnlySpan<byte> name = BucketNames.Get((BucketId)i);
                crc = Crc32C.Append(crc, name);
                if (!reader.TryGetBucket(name, out BucketReader bucket))
                {
                    continue;
                }

                TreeCursor cursor = bucket.Cursor();
                for (bool more = cursor.First(); more; more = cursor.Next())
                {
                    if ((BucketId)i == BucketId.Meta && IsLeftOutOfHash(cursor.Key))
                    {
                        continue;
                    }

                    crc = Crc32C.Append(Crc32C.Append(crc, cursor.Key), cursor.Value);
                }
            }

            return crc;
        }
        catch (TreeCorruptException exception)
        {
            _fatal.Stop("Hash met a damaged page", exception);
            throw;
        }
        finally
        {
            _tree.Unpin(pin);
        }
    }

    private static bool IsLeftOutOfHash(ReadOnlySpan<byte> metaKey) =>
        metaKey.SequenceEqual("consistent_index"u8) || metaKey.SequenceEqual("term"u8) || metaKey.SequenceEqual("storageVersion"u8);

    /// <summary>Adds revisions from a place on until the budget is used up; true at the end.</summary>
    private bool HashSlice(in View view, ref RevisionHasher hasher, ref long nextMain, ref long nextSub)
    {
        long budget = HashBytesPerPin;
        long pagesEnd = view.Frozen is null ? view.Active.FirstMain : view.Frozen.FirstMain;
        if (nextMain < pagesEnd)
        {
            Span<byte> from = stackalloc byte[RevisionKey.TombstoneSize];
            int length = RevisionKey.Write(from, nextMain, nextSub, tombstone: false);
            TreeCursor cursor = view.Pages.Cursor();
            for (bool more = cursor.Seek(from[..length]); more; more = cursor.Next())
            {
                Invariant.Check(RevisionKey.TryRead(cursor.Key, out long main, out long sub, out bool tombstone), "keys of the bucket are revisions");
                if (main > hasher.Revision)
                {
                    return true;
                }

                // The pinned pages may already hold what the View still takes from a buffer: the same bytes, so
                // either will do, but only once.
                if (main >= pagesEnd)
                {
                    break;
                }

                if (budget <= 0)
                {
                    nextMain = main;
                    nextSub = sub;
                    return false;
                }

                budget -= cursor.Value.Length + 64;
                Add(ref hasher, main, sub, tombstone, cursor.Key, cursor.Value);
            }

            nextMain = pagesEnd;
            nextSub = 0;
        }

        return HashBuffers(view, ref hasher, ref nextMain, ref nextSub, budget);
    }

    private bool HashBuffers(in View view, ref RevisionHasher hasher, ref long nextMain, ref long nextSub, long budget)
    {
        long last = Math.Min(hasher.Revision, view.Revision);
        while (nextMain <= last)
        {
            bool active = nextMain >= view.Active.FirstMain;
            WriteBuffer buffer = active ? view.Active : view.Frozen!;
            long count = active
                ? buffer.ChangesOf(nextMain, view.Revision, view.ActiveRevisions)
                : buffer.ChangesOf(nextMain, view.Active.FirstMain - 1, buffer.Revisions);
            for (; nextSub < count; nextSub++)
            {
                if (budget <= 0)
                {
                    return false;
                }

                Change* change = buffer.Find(nextMain, (int)nextSub);
                ReadOnlySpan<byte> key = Change.Key(change);
                budget -= change->ValueLength + 64;
                ReadOnlySpan<byte> value = new(Change.Value(change), change->ValueLength);
                Add(ref hasher, nextMain, nextSub, key.Length == RevisionKey.TombstoneSize, key, value);
            }

            nextMain++;
            nextSub = 0;
        }

        return true;
    }

    private void Add(
        ref RevisionHasher hasher, long main, long sub, bool tombstone, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        bool kept = false;
        if (main <= hasher.CompactRevision)
        {
            Invariant.Check(KeyValue.TryParse(value, out KeyValue pair), "a stored pair parses");
            KeyRecord* record = _index.Find(pair.Key);
            if (!hasher.AsksKeep(main))
            {
                // The keep set is empty and its rule off, so what counts is what the compaction left. Buffers, and pages
                // its deletes have not reached yet, still hold more than that.
                if (record == null || !KeyHistory.KeptByCompaction(record, hasher.CompactRevision, main, (int)sub))
                {
                    return;
                }
            }
            else
            {
                kept = record != null && KeyHistory.KeptByHash(record, hasher.Revision, main, (int)sub);
            }
        }

        hasher.Add(main, tombstone, kept, key, value);
    }
}
