// TreeWalk: visits everything reachable from one root, marks its pages, and checks what a single page cannot show:
// that no page has two owners, that keys stay within the bounds their parent gives, that nothing runs in a circle.
//
// At open it stops at the first fault (the file is refused) and its marks tell which pages are free. For a check it
// collects faults and goes on beside them.
// Thread    any, with the root pinned.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Cairn.Btree;

internal sealed unsafe class TreeWalk : IDisposable
{
    private const int BucketDepthMax = 64;
    private const int ErrorsMax = 100;
    private readonly PageMap _map;
    private readonly ulong _highWater;
    private readonly List<string>? _errors;
    private ulong* _reached;

    /// <param name="map">The file.</param>
    /// <param name="highWater">Mark of the root to walk.</param>
    /// <param name="errors">Where faults go; null throws the first one.</param>
    public TreeWalk(PageMap map, ulong highWater, List<string>? errors)
    {
        _map = map;
        _highWater = highWater;
        _errors = errors;
        _reached = (ulong*)NativeMemory.AllocZeroed((nuint)(highWater / 64) + 1, sizeof(ulong));
    }

    /// <summary>Pages marked, overflow included.</summary>
    public long Pages { get; private set; }

    public long Entries { get; private set; }

    public long Buckets { get; private set; }

    /// <summary>A bucket inside a named bucket was seen (etcd has none).</summary>
    public bool HasDeepBuckets { get; private set; }

    public bool IsReached(ulong page) => (_reached[page >> 6] >> (int)(page & 63) & 1) != 0;

    /// <summary>Walks the tree of the root bucket and all buckets in it.</summary>
    public void Run(ulong rootPage) => Tree(rootPage, default, default, 0, 0);

    /// <summary>Marks pages owned by something else than a tree (a stored free list).</summary>
    public void Mark(ulong page, ulong pages)
    {
        for (ulong p = page; p < page + pages; p++)
        {
            if (IsReached(p))
            {
                Fault(p, new PageFault(0, "owner of the page", "one parent", "a second reference from page " + page.ToString(CultureInfo.InvariantCulture)));
                continue;
            }

            _reached[p >> 6] |= 1UL << (int)(p & 63);
            Pages++;
        }
    }

    /// <summary>Reports a fault as this walk does.</summary>
    public void Fault(ulong page, PageFault fault)
    {
        TreeCorruptException exception = _map.Corrupt(page, fault);
        if (_errors is null)
        {
            throw exception;
        }

        if (_errors.Count < ErrorsMax)
        {
            _errors.Add(exception.Message);
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_reached);
        _reached = null;
    }

    private void Tree(ulong id, ReadOnlySpan<byte> lower, ReadOnlySpan<byte> upper, int depth, int bucketDepth)
    {
        if (depth > PageFormat.DepthMax)
        {
            Fault(id, new PageFault(0, "depth of the tree", $"at most {PageFormat.DepthMax} levels", "more"));
            return;
        }

        PageFault? fault = _map.TryPage(id, _highWater, out byte* page);
        if (fault is not null)
        {
            Fault(id, fault);
            return;
        }

        if (IsReached(id))
        {
            Fault(id, new PageFault(0, "owner of the page", "one parent", "two"));
            return;
        }

        Mark(id, PageFormat.Overflow(page) + 1UL);
        int count = PageFormat.Count(page);
        bool isLeaf = PageFormat.IsLeaf(page);
        if (count > 0)
        {
            ReadOnlySpan<byte> first = isLeaf ? PageFormat.LeafKey(page, 0) : PageFormat.BranchKey(page, 0);
            ReadOnlySpan<byte> last = isLeaf ? PageFormat.LeafKey(page, count - 1) : PageFormat.BranchKey(page, count - 1);
            if (first.SequenceCompareTo(lower) < 0)
            {
                Fault(id, new PageFault(PageFormat.HeaderBytes, "first key", "not before its parent's " + PageCheck.Show(lower), PageCheck.Show(first)));
            }

            if (!upper.IsEmpty && last.SequenceCompareTo(upper) >= 0)
            {
                Fault(id, new PageFault(PageFormat.HeaderBytes, "last key", "before its parent's next " + PageCheck.Show(upper), PageCheck.Show(last)));
            }
        }

        if (isLeaf)
        {
            Leaf(id, page, count, bucketDepth);
            return;
        }

        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> next = i + 1 < count ? PageFormat.BranchKey(page, i + 1) : upper;
            Tree(PageFormat.BranchChild(page, i), PageFormat.BranchKey(page, i), next, depth + 1, bucketDepth);
        }
    }

    private void Leaf(ulong id, byte* page, int count, int bucketDepth)
    {
        for (int i = 0; i < count; i++)
        {
            if (PageFormat.LeafFlags(page, i) == 0)
            {
                Entries++;
                continue;
            }

            Buckets++;
            HasDeepBuckets |= bucketDepth > 0;
            if (bucketDepth == BucketDepthMax)
            {
                Fault(id, new PageFault(0, "depth of nested buckets", $"at most {BucketDepthMax}", "more"));
                return;
            }

            byte* value = PageFormat.LeafValue(page, i, out _);
            ulong root = PageFormat.ReadUInt64(value);
            if (root == 0)
            {
                Entries += PageFormat.Count(value + PageFormat.BucketBytes);
            }
            else
            {
                Tree(root, default, default, 0, bucketDepth + 1);
            }
        }
    }
}
