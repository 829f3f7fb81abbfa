// ShrinkWalk: online shrinking. Walks the committed tree and marks what lies beyond the target mark as changed, so
// that this very commit rewrites it; the allocator places it low, and the end of the file becomes free.
//
// Why        Relocation by ordinary copy-on-write: no second file, no pause, nothing a crash could leave half done.
// The walk touches branch pages (and bucket directories) only; leaves are judged by their numbers in the branches.
// Where it stopped is kept as a bucket name and a key, which survive whatever commits come in between.
// Thread     tree.
using System;

namespace Cairn.Btree;

/// <summary>Where the next step goes on.</summary>
internal sealed class ShrinkPosition
{
    public byte[] Bucket { get; set; } = [];

    public byte[] Key { get; set; } = [];

    /// <summary>Something was moved since the walk last began at the first bucket.</summary>
    public bool MovedInThisRound { get; set; }

    /// <summary>Steps in a row that moved nothing while the mark stood still: pins hold the pages.</summary>
    public int StalledSteps { get; set; }

    /// <summary>Mark at the last step.</summary>
    public ulong HighWater { get; set; }
}

internal unsafe ref struct ShrinkWalk
{
    private const int BranchesMax = 256;
    private const int StalledStepsMax = 100;
    private readonly TreeWriter _writer;
    private readonly Tree _tree;
    private readonly ShrinkPosition _position;
    private ulong _target;
    private int _budget;
    private int _branchesLeft;
    private bool _stopped;
    private bool _moved;

    public ShrinkWalk(TreeWriter writer, int maxPages)
    {
        _writer = writer;
        _tree = writer.Tree;
        _position = _tree.Shrink;
        _budget = maxPages;
        _branchesLeft = BranchesMax;
    }

    public bool Run()
    {
        bool more = Walk();
        bool stalled = more && !_moved && _tree.Free.HighWater >= _position.HighWater;
        _position.StalledSteps = stalled ? _position.StalledSteps + 1 : 0;
        _position.HighWater = _tree.Free.HighWater;
        if (_position.StalledSteps >= StalledStepsMax)
        {
            // Somebody reads an old state for long (a download). What it holds can be had another time.
            _position.StalledSteps = 0;
            return false;
        }

        return more;
    }

    private bool Walk()
    {
        ulong highWater = _tree.Free.HighWater;
        long unused = _tree.Free.Count + _tree.Pending.Count;

        // A commit needs some free pages to copy into: the last few are not chased.
        long slack = Math.Max(16, (long)highWater / 256);
        if (unused <= slack)
        {
            return _tree.IsTrimPending;
        }

        _target = highWater - (ulong)(unused - slack);
        long room = _tree.Free.CountBelow(_target);
        _budget = (int)Math.Min(_budget, room / 2); // the paths above the moved pages are rewritten too
        if (_budget <= 0)
        {
            return _tree.Pending.Count > 0; // pinned states hold the low pages; a later call will find them free
        }

        bool fromStart = _position.Bucket.Length == 0;
        _position.MovedInThisRound &= !fromStart;
        WalkTop();
        if (_stopped)
        {
            return true;
        }

        _position.Bucket = [];
        _position.Key = [];
        bool markWillSink = _tree.Free.IsFree(highWater - 1);
        return _position.MovedInThisRound || markWillSink || _tree.Pending.Count > slack || _tree.IsTrimPending;
    }

    private void WalkTop()
    {
        BucketReader top = Committed(_writer.Base.RootPage, null);
        TreeCursor cursor = top.Cursor();
        if (_writer.Base.RootPage >= _target)
        {
            Move(_writer.Top, default);
        }

        byte[] resumeBucket = _position.Bucket;
        byte[] resumeKey = _position.Key;
        for (bool more = cursor.Seek(resumeBucket); more && !_stopped; more = cursor.Next())
        {
            if (!cursor.TryGetBucket(out BucketReader bucket))
            {
                continue;
            }

            ReadOnlySpan<byte> startKey = cursor.Key.SequenceEqual(resumeBucket) ? resumeKey : default;
            WalkBucket(_writer.Top, cursor.Key, bucket, startKey, isNamed: true);
        }
    }

    private void WalkBucket(TreeBucket parent, ReadOnlySpan<byte> name, in BucketReader committed, ReadOnlySpan<byte> startKey, bool isNamed)
    {
        // The walk sees the committed tree; the bucket may be gone in this transaction.
        if (committed.IsInline || !parent.TryGetBucket(name, out TreeBucket? bucket))
        {
            return;
        }

        WalkPage(bucket, isNamed ? name : default, committed, committed.RootNumber, startKey, 0);
    }

    private void WalkPage(TreeBucket bucket, ReadOnlySpan<byte> name, in BucketReader committed, ulong id, ReadOnlySpan<byte> startKey, int depth)
    {
        byte* page = _tree.Map.Page(id, _writer.Base.HighWater);
        int count = PageFormat.Count(page);
        if (PageFormat.IsLeaf(page))
        {
            if (IsBeyond(id, PageFormat.Overflow(page)))
            {
                Move(bucket, count == 0 ? default : PageFormat.LeafKey(page, 0));
            }

            WalkNested(bucket, page, count);
            return;
        }

        if (_branchesLeft-- <= 0 || depth > PageFormat.DepthMax)
        {
            Stop(name, PageFormat.BranchKey(page, 0));
            return;
        }

        if (IsBeyond(id, PageFormat.Overflow(page)))
        {
            Move(bucket, PageFormat.BranchKey(page, 0));
        }

        // Siblings are of one kind in every tree that grew by splits; if not, some pages stay where they are.
        int first = startKey.IsEmpty ? 0 : PageFormat.SearchBranch(page, startKey);
        bool leavesBelow = PageFormat.IsLeaf(_tree.Map.Page(PageFormat.BranchChild(page, first), _writer.Base.HighWater));
        for (int i = first; i < count && !_stopped; i++)
        {
            ulong child = PageFormat.BranchChild(page, i);
            if (_budget <= 0)
            {
                Stop(name, PageFormat.BranchKey(page, i));
                return;
            }

            if (leavesBelow && !_tree.HasDeepBuckets)
            {
                if (child >= _target)
                {
                    Move(bucket, PageFormat.BranchKey(page, i));
                }
            }
            else
            {
                WalkPage(bucket, name, committed, child, i == first ? startKey : default, depth + 1);
            }
        }
    }

    private void WalkNested(TreeBucket bucket, byte* page, int count)
    {
        for (int i = 0; _tree.HasDeepBuckets && i < count; i++)
        {
            if (PageFormat.LeafFlags(page, i) == PageFormat.BucketFlag)
            {
                byte* value = PageFormat.LeafValue(page, i, out _);
                BucketReader nested = BucketReader.FromValue(_tree.Map, _writer.Base.HighWater, value);
                WalkBucket(bucket, PageFormat.LeafKey(page, i), nested, default, isNamed: false);
            }
        }
    }

    /// <summary>Marks the path to a key as changed; the commit rewrites all of it.</summary>
    private void Move(TreeBucket bucket, ReadOnlySpan<byte> key)
    {
        Node leaf = bucket.LeafForWrite(key);
        _budget -= (int)Math.Max(1, leaf.Pages);
        _position.MovedInThisRound = true;
        _moved = true;
    }

    private readonly bool IsBeyond(ulong id, uint overflow) => id + overflow >= _target;

    /// <summary>Remembers where to go on. Inside nested buckets (no name) the enclosing bucket is begun again.</summary>
    private void Stop(ReadOnlySpan<byte> name, ReadOnlySpan<byte> key)
    {
        _stopped = true;
        if (!name.IsEmpty)
        {
            _position.Bucket = name.ToArray();
            _position.Key = key.ToArray();
        }
    }

    private readonly BucketReader Committed(ulong rootPage, byte* inlinePage) =>
        new(_tree.Map, _writer.Base.HighWater, rootPage, inlinePage, 0);
}
