// MvccStore, compaction: accept, then carry out in the background, one compaction after the other.
//
// Steps      1. accepted: reads below it fail from the next View on; the marker is in the write buffer.
//            2. the buffer that holds the marker is durable, so every revision concerned is in the tree, and no pin
//               older than the compaction's View is left (the grace period), and watchers have read that far.
//            3. the tree actor deletes revisions, batch by batch, and writes the finished marker.
//            4. the index is swept in slices between applies: histories are cut, dead keys removed.
//            Compactions accepted while one runs are carried out as one.
//            The next one starts after that: its keep set must come from an index that the sweep of a later
//            compaction has not touched, or the remembered hash would be wrong.
// Thread     store. Source: behaviour.md §2.8, storage.md §6.2, §6.3.
using System;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    private const int SweepSlice = 256;
    private readonly Queue<Compaction> _compactions = new();
    private readonly CompactionHashes _compactionHashes = new();
    private Compaction? _lastCompaction; // the newest accepted one, finished or not
    private NativeBuffer _sweepKey; // first key the next slice of the sweep looks at
    private long _committedSerial; // newest buffer that is durable
    private long _longestSweepNs; // of the sweep under way

    /// <summary>
    /// Accepts a compaction: reads below it fail from the next published View on. A caller that asked for
    /// <c>physical</c> is answered once <see cref="FinishedCompactRevision"/> has reached its revision.
    /// </summary>
    public ErrorCode Compact(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output)
    {
        if (!CompactionRequest.TryParse(request, out CompactionRequest compaction))
        {
            return ErrorCode.MalformedRequest;
        }

        long revision = compaction.Revision;
        if (revision <= _compactRevision)
        {
            return ErrorCode.Compacted;
        }

        if (revision > _revision)
        {
            return ErrorCode.FutureRev;
        }

        ref Compaction? waiting = ref _lastCompaction;
        bool isNext = _compactions.Count == 1; // nothing runs before it
        if (waiting is { Step: CompactionStep.Accepted, RememberHash: false } && (!isNext || waiting.Serial == _active.Serial))
        {
            // It has not begun and nobody will ask for its hash: the newer one does its work as well. But one that waits
            // for nothing but its buffer's commit is left alone: pushed on by every newer one it might never begin.
            waiting.Revision = revision;
        }
        else
        {
            waiting = new Compaction
            {
                Revision = revision,
                Previous = _compactRevision,
                RememberHash = _compactRevision == _finishedCompactRevision,
            };
            _compactions.Enqueue(waiting);
        }

        waiting.Serial = _active.Serial;
        waiting.View = _views.Published + 1;
        Volatile.Write(ref _compactRevision, revision);
        Figures.Range(); // by which etcd learns the revision of its answer
        Figures.End();
        Span<byte> marker = stackalloc byte[RevisionKey.TombstoneSize];
        int length = RevisionKey.Write(marker, revision, 0, tombstone: false);
        Put(BucketId.Meta, "scheduledCompactRev"u8, marker[..length]);
        if (context.WantsResponse)
        {
            ResponseHeader header = Header(context, _revision);
            var writer = new ProtoWriter(output.GetSpan(HeaderResponseWriter.Size(header)));
            HeaderResponseWriter.Write(ref writer, header);
            output.Advance(writer.Position);
        }

        return ErrorCode.None;
    }

    /// <summary>Called on the store thread, within <see cref="Work"/>, when a compaction's deletes are durable.</summary>
    public Action<long>? CompactionFinished { get; set; }

    private bool AdvanceCompaction()
    {
        if (!_compactions.TryPeek(out Compaction? current))
        {
            return false;
        }

        switch (current.Step)
        {
            case CompactionStep.Accepted:
                if (_committedSerial < current.Serial
                    || _views.Published < current.View
                    || (WatchFloor < current.Revision && !Mutations.Is(Mutation.CompactionOvertakesWatchers))
                    || _views.LowestPin() < current.View)
                {
                    return false;
                }

                bool queued = _commands.TryEnqueue(new TreeCommand
                {
                    CompactRevision = current.Revision,
                    PreviousCompactRevision = current.Previous,
                    RememberHash = current.RememberHash,
                });
                Invariant.Check(queued, "the tree actor's ring has room for every command there can be");
                _treeActor.Waker?.Wake();
                current.Step = CompactionStep.Deleting;
                return true;
            case CompactionStep.Deleting:
                return false;
            case CompactionStep.Sweeping:
                if (Sweep(current.Revision))
                {
                    _ = _compactions.Dequeue();
                }

                return true;
            default:
                throw new InvalidOperationException("unknown step");
        }
    }

    private void FinishCompaction(in TreeReport report)
    {
        Compaction current = _compactions.Peek();
        Invariant.Check(
            current.Step == CompactionStep.Deleting && current.Revision == report.CompactRevision, "compactions end in order");
        if (current.RememberHash)
        {
            _compactionHashes.Add(current.Revision, current.Previous, report.Hash);
        }

        Volatile.Write(ref _finishedCompactRevision, current.Revision);
        current.Step = CompactionStep.Sweeping;
        _sweepKey.Reset();
        CompactionFinished?.Invoke(current.Revision);
    }

    /// <summary>Cuts the histories of the next few keys; true when the last key has been seen.</summary>
    private bool Sweep(long revision)
    {
        long before = _options.Clock?.NowNs ?? 0;
        bool done = SweepSome(revision);
        _longestSweepNs = Math.Max(_longestSweepNs, (_options.Clock?.NowNs ?? 0) - before);
        if (done)
        {
            Figures.IndexPause.Observe(_longestSweepNs);
            _longestSweepNs = 0;
        }

        return done;
    }

    private bool SweepSome(long revision)
    {
        var cursor = new KeyCursor(_index);
        bool more = cursor.Seek(_sweepKey.WrittenSpan);
        for (int i = 0; i < SweepSlice && more; i++)
        {
            KeyRecord* record = cursor.Current;
            if (_index.Histories.Compact(record, revision))
            {
                more = cursor.Next();
                continue;
            }

            // The cursor walks nodes that stay as they are; the removal makes new ones.
            more = cursor.Next();
            _index.Remove(KeyRecord.Key(record));
        }

        if (!more)
        {
            return true;
        }

        _sweepKey.Reset();
        _sweepKey.Write(KeyRecord.Key(cursor.Current));
        return false;
    }

    private enum CompactionStep : byte
    {
        Accepted,
        Deleting,
        Sweeping,
    }

    private sealed class Compaction
    {
        public long Revision;
        public long Previous;
        public long Serial; // the buffer that holds its marker
        public long View; // the first View that refuses reads below it
        public bool RememberHash;
        public CompactionStep Step;
    }
}

/// <summary>Hashes computed by finished compactions, newest ten. Any thread; a lock, since nobody asks often.</summary>
internal sealed class CompactionHashes
{
    private const int Kept = 10;
    private readonly Lock _lock = new();
    private readonly List<(long Revision, long Previous, uint Hash)> _hashes = new(Kept + 1);

    public void Add(long revision, long previous, uint hash)
    {
        lock (_lock)
        {
            _hashes.Add((revision, previous, hash));
            if (_hashes.Count > Kept)
            {
                _hashes.RemoveAt(0);
            }
        }
    }

    /// <summary>Newest first.</summary>
    public long[] Revisions()
    {
        lock (_lock)
        {
            long[] revisions = new long[_hashes.Count];
            for (int i = 0; i < revisions.Length; i++)
            {
                revisions[i] = _hashes[revisions.Length - 1 - i].Revision;
            }

            return revisions;
        }
    }

    public bool TryGet(long revision, out long previous, out uint hash)
    {
        lock (_lock)
        {
            foreach ((long remembered, long before, uint value) in _hashes)
            {
                if (remembered == revision)
                {
                    previous = before;
                    hash = value;
                    return true;
                }
            }
        }

        previous = 0;
        hash = 0;
        return false;
    }
}
