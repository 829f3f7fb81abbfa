// ShrinkWalk: online shrinking. Walks the committed tree and relocates what lies beyond the target mark, so that the
// end of the file becomes free and is cut.
//
// Why        Relocation by ordinary copy-on-write: no second file, no pause, nothing a crash could leave half done.
// Target     used pages + slack. It does not depend on where the used pages lie, so it stays while nobody writes.
// Rounds     A round walks all buckets once and moves every run beyond the target into a gap below it. Where gaps are
//            too small for a large run, a window below the target is emptied (its runs go to other gaps or, for a
//            while, behind the end), and the next round fills it. What is left after that settles as low as it can.
// End        With nobody writing, shrinking ends, because each step does one of these, and none can go on for ever:
//            it moves runs from beyond the target to below it, or, settling, lower (no other leaf moves up; branches
//            above the moved page may, but those are fewer at each level up to the one root); it goes on in the
//            round by at least one subtree; it waits for pins, a hundred times in a row at most; it begins to empty
//            a window, each behind the one before; it begins to settle, once. Beside writers the number of rounds
//            is bounded as well.
// The walk touches branch pages (and bucket directories) only; leaves are judged by their numbers in the branches.
// Thread     tree.
using System;

namespace Cairn.Btree;

internal unsafe ref struct ShrinkWalk
{
    private const int BranchesMax = 256;
    private const int StalledStepsMax = 100;
    private const int RoundsMax = 500;
    private const int WindowPagesMin = 256;
    private const int WindowShare = 64; // a window is at least this part of the file: so many windows at most
    private const int WindowRuns = 16; // and holds so many of the largest runs: what they leave over is small
    private const int WindowGain = 16; // a window of which less than this part is free is not worth emptying
    private readonly TreeWriter _writer;
    private readonly Tree _tree;
    private readonly ShrinkPosition _position;
    private ulong _target;
    private int _budget;
    private int _branchesLeft;
    private bool _stopped;

    public ShrinkWalk(TreeWriter writer, int maxPages)
    {
        _writer = writer;
        _tree = writer.Tree;
        _position = _tree.Shrink;
        _budget = maxPages;
        _branchesLeft = BranchesMax;
    }

    /// <summary>One step; true while there is more to gain.</summary>
    public bool Run()
    {
        bool more = Step() && _position.Rounds < RoundsMax;
        if (!more)
        {
            _position.Reset();
            _tree.Free.Avoid(0, 0);
        }

        return more;
    }

    private bool Step()
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
        if (!_position.IsEmptying)
        {
            // The paths above the moved pages are rewritten too and need room as well.
            _budget = (int)Math.Min(_budget, _tree.Free.CountBelow(_target) / 2);
            if (_budget <= 0)
            {
                return _tree.Pending.Count > 0 ? Wait() : _tree.IsTrimPending;
            }
        }

        WalkTop();
        if (_stopped || _position.MovedInThisRound)
        {
            _position.StalledSteps = 0;
        }

        return _stopped || EndRound(highWater, slack);
    }

    private bool EndRound(ulong highWater, long slack)
    {
        bool moved = _position.MovedInThisRound;
        uint blocked = _position.BlockedPages;
        _position.EndRound();
        if (_position.IsEmptying)
        {
            _position.IsEmptying = false; // the next round fills the window; until then nobody else takes from it
            return true;
        }

        if (moved || _tree.Free.IsFree(highWater - 1))
        {
            return true;
        }

        if (_tree.Pending.Count > slack)
        {
            return Wait();
        }

        if (blocked > 0 && !_position.IsSettling)
        {
            _position.IsSettling = !FindWindow(blocked);
            return true;
        }

        return _tree.IsTrimPending;
    }

    /// <summary>
    /// Pinned states see the pages. Somebody who reads an old state for long (a download) is not waited for: what it
    /// holds can be had another time.
    /// </summary>
    private readonly bool Wait() => ++_position.StalledSteps < StalledStepsMax;

    /// <summary>The next stretch of pages below the target to empty.</summary>
    private readonly bool FindWindow(uint blocked)
    {
        FreePages free = _tree.Free;
        ulong size = Math.Max(Math.Max(WindowPagesMin, WindowRuns * (ulong)blocked), _target / WindowShare);
        ulong from = _position.WindowTo;
        while ((from = free.NextFree(from)) + blocked <= _target)
        {
            ulong to = Math.Min(from + size, _target);
            if ((ulong)free.CountWithin(from, to) * WindowGain >= to - from)
            {
                _position.WindowFrom = from;
                _position.WindowTo = to;
                _position.IsEmptying = true;
                free.Avoid(from, to);
                return true;
            }

            from = to;
        }

        return false;
    }

    private void WalkTop()
    {
        BucketReader top = Committed(_writer.Base.RootPage, null);
        TreeCursor cursor = top.Cursor();
        if (IsLeaving(_writer.Base.RootPage, 0))
        {
            Move(_writer.Top, default, _writer.Base.RootPage);
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
            if (IsLeaving(id, PageFormat.Overflow(page)))
            {
                Move(bucket, count == 0 ? default : PageFormat.LeafKey(page, 0), id);
            }

            WalkNested(bucket, page, count);
            return;
        }

        if (_branchesLeft-- <= 0 || depth > PageFormat.DepthMax)
        {
            Stop(name, PageFormat.BranchKey(page, 0));
            return;
        }

        if (IsLeaving(id, PageFormat.Overflow(page)))
        {
            Move(bucket, PageFormat.BranchKey(page, 0), id);
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
                if (IsLeaving(child, 0))
                {
                    Move(bucket, PageFormat.BranchKey(page, i), child);
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

    /// <summary>Moves a run: out of the window to wherever the commit finds room, else to below the target.</summary>
    private void Move(TreeBucket bucket, ReadOnlySpan<byte> key, ulong id)
    {
        uint pages = PageFormat.Overflow(_tree.Map.Page(id, _writer.Base.HighWater)) + 1;
        bool moved = _position.IsEmptying ? bucket.NodeForWrite(key, id) is not null
            : Relocation.Move(_writer, bucket, key, id, _position.IsSettling ? id : _target);
        if (moved)
        {
            _budget -= (int)pages;
            _position.MovedInThisRound = true;
        }
        else if (!_position.IsEmptying)
        {
            _position.BlockedPages = Math.Max(_position.BlockedPages, pages);
        }
    }

    /// <summary>The run is to be moved in this round. A window begins with a free page, so no run reaches into it.</summary>
    private readonly bool IsLeaving(ulong id, uint overflow) => _position.IsEmptying
        ? id >= _position.WindowFrom && id < _position.WindowTo
        : id + overflow >= _target;

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
