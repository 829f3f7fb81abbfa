// TreeReader: point reads on one pinned root. Plain value types over the map; nothing is allocated, nothing locked.
// Thread   any thread that holds the pin.
using System;
using System.Runtime.CompilerServices;

namespace Cairn.Btree;

/// <summary>Reads one pinned root. Any thread that holds the pin; nothing is allocated.</summary>
public readonly unsafe struct TreeReader
{
    private readonly BucketReader _top;

    public TreeReader(Tree tree, in TreeRoot root) => _top = new BucketReader(tree.Map, root.HighWater, root.RootPage, null, root.Sequence);

    /// <summary>Finds a bucket of the top level.</summary>
    public bool TryGetBucket(ReadOnlySpan<byte> name, out BucketReader bucket) => _top.TryGetBucket(name, out bucket);

    /// <summary>Walks the names of the top level.</summary>
    public TreeCursor Cursor() => _top.Cursor();
}

/// <summary>Reads one bucket of a pinned root; may be kept as long as the pin.</summary>
public readonly unsafe struct BucketReader
{
    private readonly PageMap _map;
    private readonly ulong _highWater;
    private readonly ulong _rootPage;
    private readonly byte* _inlinePage; // in the parent's leaf; null when the bucket has pages of its own

    internal BucketReader(PageMap map, ulong highWater, ulong rootPage, byte* inlinePage, ulong sequence)
    {
        _map = map;
        _highWater = highWater;
        _rootPage = rootPage;
        _inlinePage = inlinePage;
        Sequence = sequence;
    }

    /// <summary>bbolt's per-bucket counter; etcd leaves it 0.</summary>
    public ulong Sequence { get; }

    internal PageMap Map => _map;

    internal ulong HighWater => _highWater;

    internal bool IsInline => _inlinePage != null;

    internal ulong RootNumber => _rootPage;

    /// <summary>Finds a value; the span is valid while the root is pinned. False for a nested bucket's name.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value)
    {
        if (TryFind(key, out byte* leaf, out int index) && PageFormat.LeafFlags(leaf, index) == 0)
        {
            value = PageFormat.LeafValue(leaf, index);
            return true;
        }

        value = default;
        return false;
    }

    /// <summary>Opens a nested bucket.</summary>
    public bool TryGetBucket(ReadOnlySpan<byte> name, out BucketReader bucket)
    {
        if (TryFind(name, out byte* leaf, out int index) && PageFormat.LeafFlags(leaf, index) == PageFormat.BucketFlag)
        {
            bucket = FromValue(_map, _highWater, PageFormat.LeafValue(leaf, index, out _));
            return true;
        }

        bucket = default;
        return false;
    }

    public TreeCursor Cursor() => new(this);

    /// <summary>
    /// As <see cref="TryGet"/>, but gives up where it would have to wait for the disk: then the read belongs on a
    /// thread that may (design: page faults).
    /// </summary>
    /// <param name="key">What to look up.</param>
    /// <param name="value">Resident as well.</param>
    /// <param name="isCold">True: not found out, the result is false.</param>
    public bool TryGetNow(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out bool isCold)
    {
        value = default;
        isCold = false;
        byte* page = _inlinePage != null ? _inlinePage : _map.PageNow(_rootPage, _highWater);
        for (int depth = 0; page != null && !PageFormat.IsLeaf(page); depth++)
        {
            if (depth > PageFormat.DepthMax)
            {
                throw TooDeep(_map, page);
            }

            page = _map.PageNow(PageFormat.BranchChild(page, PageFormat.SearchBranch(page, key)), _highWater);
        }

        if (page == null)
        {
            isCold = true;
            return false;
        }

        int index = PageFormat.SearchLeaf(page, key, out bool exact);
        if (!exact || PageFormat.LeafFlags(page, index) != 0)
        {
            return false;
        }

        value = PageFormat.LeafValue(page, index);
        return true;
    }

    internal static BucketReader FromValue(PageMap map, ulong highWater, byte* value)
    {
        ulong root = PageFormat.ReadUInt64(value);
        return new BucketReader(map, highWater, root, root == 0 ? value + PageFormat.BucketBytes : null, PageFormat.ReadUInt64(value + 8));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal byte* RootPage() => _inlinePage != null ? _inlinePage : _map.Page(_rootPage, _highWater);

    private bool TryFind(ReadOnlySpan<byte> key, out byte* leaf, out int index)
    {
        byte* page = RootPage();
        for (int depth = 0; !PageFormat.IsLeaf(page); depth++)
        {
            if (depth > PageFormat.DepthMax)
            {
                throw TooDeep(_map, page);
            }

            page = _map.Page(PageFormat.BranchChild(page, PageFormat.SearchBranch(page, key)), _highWater);
        }

        leaf = page;
        index = PageFormat.SearchLeaf(page, key, out bool exact);
        return exact;
    }

    internal static TreeCorruptException TooDeep(PageMap map, byte* page) =>
        map.Corrupt(PageFormat.Id(page), new PageFault(0, "depth of the tree", $"at most {PageFormat.DepthMax} levels", "more"));
}
