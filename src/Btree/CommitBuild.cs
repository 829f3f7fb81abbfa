// CommitBuild: turns the changed nodes into a list of page images: merge what became too empty, cut what became too
// full, choose pages, bottom up. No bytes are moved here; an image is built when it is written.
//
// Rules of shape (any valid tree would do; these give pages like bbolt's)
//   merge   a node that had deletions and is under a quarter page or below its minimum of entries; a leaf under half
//           a page also when it and a neighbour fit three quarters of a page (bbolt does not: after a compaction
//           that leaves every leaf at a third, its file keeps three times the pages)
//   cut     a node that does not fit its page, at fill percent; a leaf entry of four pages or more stands alone, so
//           that its neighbours can change without rewriting it
//   inline  a bucket of one leaf, without nested buckets, at most a quarter page: kept in its parent's entry
// Thread    tree.
// Invariants a parent is built after its children: it holds their pages and first keys.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>One page (with its overflow) to be written: a range of a node's entries.</summary>
internal readonly record struct PageImage(ulong Page, uint Pages, int Node, int First, int Count);

internal sealed unsafe class CommitBuild : IDisposable
{
    private const int LoneEntryPages = 4;
    private readonly TreeWriter _writer;
    private readonly Tree _tree;
    private readonly NativeList<PageImage> _images = new();
    private readonly NativeList<NodeEntry> _pieces = new(); // a stack: each level takes its children's off
    private readonly List<PendingRun> _pendingRuns = new();

    public CommitBuild(TreeWriter writer)
    {
        _writer = writer;
        _tree = writer.Tree;
    }

    /// <summary>What to write, ascending by page.</summary>
    public ReadOnlySpan<PageImage> Images => _images.Items;

    /// <summary>The stored free list's page; none by default.</summary>
    public ulong FreelistPage { get; private set; }

    public uint FreelistPages { get; private set; }

    /// <summary>What the merging part of the last <see cref="Run"/> took, nanoseconds.</summary>
    public long RebalanceNs { get; private set; }

    /// <summary>Builds everything and returns the state that will be durable.</summary>
    public TreeRoot Run()
    {
        _images.Truncate(0);
        long start = _tree.Options.Clock?.NowNs ?? 0;
        Rebalance();
        RebalanceNs = (_tree.Options.Clock?.NowNs ?? 0) - start;
        TreeBucket top = _writer.Top;
        BuildChildren(top);
        ulong rootPage = top.Root is null ? top.RootPage : BuildTree(top);
        if (_tree.StoredFreelistPages != 0)
        {
            _writer.GiveUp(_writer.Base.FreelistPage, _tree.StoredFreelistPages);
        }

        _writer.GiveBackPlaces(); // of nodes that were merged away
        TakeFreelistPages();
        _tree.Free.TrimEnd();
        _images.Items.Sort(static (a, b) => a.Page.CompareTo(b.Page));
        return new TreeRoot(_writer.TxId, rootPage, top.Sequence, _tree.Free.HighWater, FreelistPage);
    }

    /// <summary>Writes the image's bytes, tail included.</summary>
    public void Render(in PageImage image, byte* target)
    {
        Node node = _writer.NodeAt(image.Node);
        long bytes = (long)image.Pages * _tree.PageSize;
        long end = RenderEntries(node, image.First, image.Count, image.Page, image.Pages - 1, target);
        byte* rest = target + end;
        System.Runtime.CompilerServices.Unsafe.InitBlockUnaligned(rest, 0, (uint)(bytes - end));
        if (_tree.Options.PageChecksums && end <= bytes - PageFormat.TailBytes)
        {
            PageFormat.Seal(target, bytes);
        }
    }

    /// <summary>Every page that will be free once this commit is the only state: free, pending and given up now.</summary>
    public void RenderFreelist(byte* target)
    {
        int capacity = checked((int)(FreelistPages * _tree.PageSize));
        new Span<byte>(target, capacity).Clear();
        _pendingRuns.Clear();
        _tree.Pending.CopyTo(_pendingRuns);
        foreach (TreeWriter.PageRun run in _writer.GivenUp)
        {
            _pendingRuns.Add(new PendingRun(run.Page, run.Pages, 0, 0));
        }

        long count = FreelistCount();
        ulong* ids = (ulong*)(target + PageFormat.HeaderBytes);
        if (count >= 0xFFFF)
        {
            *ids++ = (ulong)count;
        }

        long written = 0;
        for (ulong page = _tree.Free.NextFree(0); page < _tree.Free.HighWater; page = _tree.Free.NextFree(page + 1))
        {
            ids[written++] = page;
        }

        foreach (PendingRun run in _pendingRuns)
        {
            for (uint i = 0; i < run.Pages; i++)
            {
                ids[written++] = run.Page + i;
            }
        }

        Invariant.Check(written == count, "the free list holds every free page once");
        new Span<ulong>(ids, (int)count).Sort();
        PageFormat.WriteHeader(target, FreelistPage, PageFormat.Freelist, (int)Math.Min(count, 0xFFFF), FreelistPages - 1);
    }

    public void Dispose()
    {
        _images.Dispose();
        _pieces.Dispose();
    }

    private long FreelistCount()
    {
        long count = _tree.Free.Count + _tree.Pending.Count;
        foreach (TreeWriter.PageRun run in _writer.GivenUp)
        {
            count += run.Pages;
        }

        return count;
    }

    private void TakeFreelistPages()
    {
        FreelistPage = MetaPage.NoFreelist;
        FreelistPages = 0;
        if (_tree.Options.StoreFreelist)
        {
            // One id more than needed at most: the pages taken here leave the list.
            long bytes = PageFormat.HeaderBytes + (8 * (FreelistCount() + 1));
            FreelistPages = checked((uint)((bytes + _tree.PageSize - 1) / _tree.PageSize));
            FreelistPage = Take(FreelistPages);
        }
    }

    private void Rebalance()
    {
        for (int i = 1; i < _writer.NodeCount; i++)
        {
            Node node = _writer.NodeAt(i);
            node.Bucket.ForgetLastLeaf();
            Rebalance(node);
        }
    }

    private void Rebalance(Node start)
    {
        Node node = start;
        while (node.IsUnbalanced && !node.IsDead)
        {
            node.IsUnbalanced = false;
            Node? parent = node.Parent;
            if (node.Bytes + PageFormat.HeaderBytes > _tree.PageSize / 4 && node.Count > (node.IsLeaf ? 1 : 2))
            {
                if (parent is null || !TryMergeIfSmall(node, parent))
                {
                    return;
                }

                parent.IsUnbalanced = true;
                node = parent;
                continue;
            }

            if (parent is null)
            {
                if (!PullUpOnlyChild(node))
                {
                    return;
                }

                continue;
            }

            int index = parent.IndexOfChild(node.Id);
            Invariant.Check(index >= 0, "a node's parent names it");
            if (node.Count == 0)
            {
                parent.Remove(index);
                _writer.GiveUp(node);
                node.IsDead = true;
            }
            else if (parent.Count > 1 && !TryMerge(node, parent, index, intoLeft: index > 0))
            {
                return;
            }

            parent.IsUnbalanced = true;
            node = parent;
        }
    }

    /// <summary>A root branch with one child becomes that child; true if it should be looked at again.</summary>
    private bool PullUpOnlyChild(Node root)
    {
        if (root.IsLeaf || root.Count > 1)
        {
            return false;
        }

        if (root.Count == 0)
        {
            root.IsLeaf = true;
            return false;
        }

        Node child = root.Bucket.ChildNode(root, 0);
        root.Clear();
        root.IsLeaf = child.IsLeaf;
        root.Absorb(child, before: false);
        _writer.AdoptChildren(root);
        _writer.GiveUp(child);
        child.IsDead = true;
        root.IsUnbalanced = true;
        return true;
    }

    private bool TryMergeIfSmall(Node node, Node parent)
    {
        long budget = (_tree.PageSize * 3L / 4) - node.Bytes - PageFormat.HeaderBytes;
        if (!node.IsLeaf || node.Bytes + PageFormat.HeaderBytes > _tree.PageSize / 2)
        {
            return false;
        }

        int index = parent.IndexOfChild(node.Id);
        if (index > 0 && EntryBytes(parent, index - 1) <= budget)
        {
            return TryMerge(node, parent, index, intoLeft: true);
        }

        return index + 1 < parent.Count && EntryBytes(parent, index + 1) <= budget && TryMerge(node, parent, index, intoLeft: false);
    }

    /// <summary>What a child's entries need, without loading it as a node; never too small.</summary>
    private long EntryBytes(Node parent, int index)
    {
        ref NodeEntry entry = ref parent[index];
        if (entry.Child != 0)
        {
            return _writer.NodeAt(entry.Child).Bytes;
        }

        byte* page = _tree.Map.Page(entry.ChildPage, _writer.Base.HighWater);
        int count = PageFormat.Count(page);
        if (!PageFormat.IsLeaf(page) || PageFormat.Overflow(page) != 0 || count == 0)
        {
            return long.MaxValue / 2;
        }

        // Elements are packed in order, so the last one ends where the data ends.
        byte* value = PageFormat.LeafValue(page, count - 1, out int length);
        return value + length - page - PageFormat.HeaderBytes;
    }

    private bool TryMerge(Node node, Node parent, int index, bool intoLeft)
    {
        int siblingIndex = intoLeft ? index - 1 : index + 1;
        if (parent[siblingIndex].Child == 0)
        {
            byte* page = _tree.Map.Page(parent[siblingIndex].ChildPage, _writer.Base.HighWater);
            if (PageFormat.IsLeaf(page) && PageFormat.Overflow(page) >= LoneEntryPages)
            {
                return false; // a few small entries are not worth rewriting a large value for
            }
        }

        Node sibling = node.Bucket.ChildNode(parent, siblingIndex);
        if (node.IsLeaf != sibling.IsLeaf)
        {
            return false; // a shape no correct writer makes, but valid
        }

        Node left = intoLeft ? sibling : node;
        Node right = intoLeft ? node : sibling;
        left.Absorb(right, before: false);
        _writer.AdoptChildren(left);
        parent.Remove(intoLeft ? index : index + 1);
        _writer.GiveUp(right);
        right.IsDead = true;
        return true;
    }

    /// <summary>Builds the changed buckets inside a bucket and stores their new headers in it.</summary>
    private void BuildChildren(TreeBucket bucket)
    {
        foreach (TreeBucket child in bucket.Children)
        {
            if (!child.HasChanges)
            {
                continue;
            }

            BuildChildren(child);
            Node root = child.Root!;
            byte* value;
            int length = PageFormat.BucketBytes;
            if (IsInlineable(root))
            {
                length += PageFormat.HeaderBytes + (int)root.Bytes;
                value = _writer.Arena.Take(length);
                System.Runtime.CompilerServices.Unsafe.WriteUnaligned(value, 0UL);
                RenderEntries(root, 0, root.Count, 0, 0, value + PageFormat.BucketBytes);
                _writer.GiveUp(root);
            }
            else
            {
                value = _writer.Arena.Take(length);
                System.Runtime.CompilerServices.Unsafe.WriteUnaligned(value, BuildTree(child));
            }

            System.Runtime.CompilerServices.Unsafe.WriteUnaligned(value + 8, child.Sequence);
            bucket.SetBucketValue(child.Name, value, length);
        }
    }

    private bool IsInlineable(Node root)
    {
        if (!root.IsLeaf || PageFormat.HeaderBytes + root.Bytes > _tree.PageSize / 4)
        {
            return false;
        }

        foreach (ref readonly NodeEntry entry in root.Entries)
        {
            if (entry.Flags != 0)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Places the nodes of one bucket; returns its new root page.</summary>
    private ulong BuildTree(TreeBucket bucket)
    {
        Node root = bucket.Root!;
        while (true)
        {
            int first = _pieces.Count;
            Build(root);
            ReadOnlySpan<NodeEntry> pieces = _pieces.Items[first..];
            if (pieces.Length == 1)
            {
                ulong page = pieces[0].ChildPage;
                _pieces.Truncate(first);
                return page;
            }

            Node above = _writer.NewNode(bucket, null, isLeaf: false);
            foreach (ref readonly NodeEntry piece in pieces)
            {
                above.Insert(above.Count, piece);
            }

            _pieces.Truncate(first);
            root = above;
        }
    }

    /// <summary>Places a node and everything changed below it; leaves its pieces on the stack.</summary>
    private void Build(Node node)
    {
        if (!node.IsLeaf)
        {
            int i = 0;
            while (i < node.Count)
            {
                int child = node[i].Child;
                if (child == 0)
                {
                    i++;
                    continue;
                }

                int first = _pieces.Count;
                Build(_writer.NodeAt(child));
                ReadOnlySpan<NodeEntry> pieces = _pieces.Items[first..];
                node.Replace(i, pieces);
                i += pieces.Length;
                _pieces.Truncate(first);
            }
        }

        _writer.GiveUp(node);
        Cut(node);
    }

    private void Cut(Node node)
    {
        int first = 0;
        long left = node.Bytes;
        do
        {
            int end = EndOfPiece(node, first, left, out long bytes);
            uint pages = checked((uint)((PageFormat.HeaderBytes + bytes + _tree.PageSize - 1) / _tree.PageSize));
            ulong page = Place(node, pages);
            _images.Add(new PageImage(page, pages, node.Id, first, end - first));
            NodeEntry piece = default;
            if (end > first)
            {
                piece.Key = node[first].Key;
                piece.KeyLength = node[first].KeyLength;
            }

            piece.ChildPage = page;
            _pieces.Add(piece);
            left -= bytes;
            first = end;
        }
        while (first < node.Count);
    }

    private int EndOfPiece(Node node, int first, long left, out long bytes)
    {
        int pageSize = _tree.PageSize;
        bytes = left;
        if (PageFormat.HeaderBytes + left < pageSize)
        {
            return node.Count;
        }

        double threshold = pageSize * node.Bucket.FillPercent;
        int last = Math.Min(node.Count, first + PageFormat.ElementsMax);
        int latest = node.IsLeaf ? last : Math.Min(last, node.Count - 2); // a branch leaves two for its right part
        long sum = PageFormat.HeaderBytes;
        int i = first;
        for (; i < last; i++)
        {
            long next = node[i].Bytes;
            int taken = i - first;
            if (node.IsLeaf ? IsLeafFull(taken, sum, next, threshold) : taken >= 2 && i <= latest && sum + next > threshold)
            {
                break;
            }

            sum += next;
        }

        bytes = sum - PageFormat.HeaderBytes;
        return i;
    }

    private bool IsLeafFull(int taken, long sum, long next, double threshold)
    {
        if (taken == 0)
        {
            return false;
        }

        long lone = (long)LoneEntryPages * _tree.PageSize;
        if (sum >= lone || next >= lone)
        {
            return true;
        }

        // Two entries of between one and four pages waste less together than alone.
        bool fitsAlone = next + PageFormat.HeaderBytes <= _tree.PageSize;
        return sum + next > threshold && (fitsAlone || taken >= 2);
    }

    /// <summary>The run taken in advance if it fits this first piece, else the lowest that does.</summary>
    private ulong Place(Node node, uint pages)
    {
        ulong place = node.Place;
        if (place == 0 || node.PlacePages != pages)
        {
            _writer.GiveBackPlace(node);
            return Take(pages);
        }

        node.Place = 0;
        return place;
    }

    private ulong Take(uint pages)
    {
        if (!_tree.Free.TryTake(pages, out ulong page))
        {
            _tree.Fatal.Stop($"{_tree.Path}: the file would grow beyond the {_tree.Map.ReserveBytes} bytes of address space reserved for it; start with a larger quota");
        }

        return page;
    }

    /// <summary>Header, element table, keys and values; returns the bytes used.</summary>
    private long RenderEntries(Node node, int first, int count, ulong id, uint overflow, byte* target)
    {
        ulong highWater = _writer.Base.HighWater;
        PageMap map = _tree.Map;
        PageFormat.WriteHeader(target, id, node.IsLeaf ? PageFormat.Leaf : PageFormat.Branch, count, overflow);
        byte* data = PageFormat.Element(target, count);
        for (int i = 0; i < count; i++)
        {
            ref NodeEntry entry = ref node[first + i];
            byte* element = PageFormat.Element(target, i);
            uint position = (uint)(data - element);
            map.Warm(entry.Key, entry.KeyLength, highWater);
            entry.KeySpan.CopyTo(new Span<byte>(data, entry.KeyLength));
            data += entry.KeyLength;
            if (node.IsLeaf)
            {
                Write(element, entry.Flags);
                Write(element + 4, position);
                Write(element + 8, (uint)entry.KeyLength);
                Write(element + 12, (uint)entry.ValueLength);
                map.Warm(entry.Value, entry.ValueLength, highWater);
                entry.ValueSpan.CopyTo(new Span<byte>(data, entry.ValueLength));
                data += entry.ValueLength;
            }
            else
            {
                Write(element, position);
                Write(element + 4, (uint)entry.KeyLength);
                System.Runtime.CompilerServices.Unsafe.WriteUnaligned(element + 8, entry.ChildPage);
            }
        }

        return data - target;

        static void Write(byte* at, uint value) => System.Runtime.CompilerServices.Unsafe.WriteUnaligned(at, value);
    }
}
