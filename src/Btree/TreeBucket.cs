// TreeBucket: one bucket as the open transaction sees it: changed pages as nodes, the others still in the map.
//
// Why        Ascending puts and deletes hit the same leaf again and again, so the last leaf is remembered: a put
//            behind the last key of the rightmost leaf, or inside the range of the remembered one, descends nothing.
// Thread     tree.
// Invariants Root is null until something in this bucket changes. A node that grows beyond EntriesMax is split in
//            memory, so that random puts stay cheap however many come before the commit.
using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>A bucket as the open transaction sees it; valid until the transaction ends or the bucket is deleted.</summary>
public sealed unsafe class TreeBucket
{
    private const int EntriesMax = 1024;
    private const int KeptMax = 32;
    private readonly TreeWriter _writer;
    private readonly List<TreeBucket> _children = new(); // opened or created in this transaction
    private readonly List<TreeBucket>? _kept; // top only: handles to be used again for the same names
    private readonly byte[] _name;
    private long _serial; // of the transaction it belongs to
    private Node? _lastLeaf;
    private bool _lastLeafIsRightmost;
    private double _fillPercent = 0.5;
    private bool _deleted;

    internal TreeBucket(TreeWriter writer, TreeBucket? parent, byte[] name)
    {
        _writer = writer;
        Parent = parent;
        _name = name;
        _kept = parent is null ? new List<TreeBucket>() : null;
    }

    /// <summary>How full split pages are made, 0.1 to 1.0; 0.5 unless set. 0.9 suits ascending keys,
    /// and deletes of such: what a deletion merges is cut again at this. Counts for this transaction.</summary>
    public double FillPercent
    {
        get => _fillPercent;
        set => _fillPercent = Math.Clamp(value, 0.1, 1.0);
    }

    internal TreeBucket? Parent { get; }

    internal Node? Root { get; set; }

    /// <summary>Page of the committed tree; 0 for a new or inline bucket.</summary>
    internal ulong RootPage { get; set; }

    internal byte* InlinePage { get; set; }

    internal ulong Sequence { get; private set; }

    internal ReadOnlySpan<byte> Name => _name;

    internal List<TreeBucket> Children => _children;

    /// <summary>Counts changes; a cursor compares it.</summary>
    internal int Version { get; private set; }

    internal TreeWriter Writer => _writer;

    internal bool HasChanges
    {
        get
        {
            if (Root is not null)
            {
                return true;
            }

            foreach (TreeBucket child in _children)
            {
                if (child.HasChanges)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Sets a value. Key 1..32768 bytes; both are copied.</summary>
    /// <exception cref="InvalidOperationException">The key names a nested bucket.</exception>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        AssertUsable();
        CheckKey(key);
        PutEntry(key, _writer.Arena.Copy(value), value.Length, 0);
    }

    /// <summary>The same without copying the value: it must stay unchanged until the commit has ended.</summary>
    public void PutBorrowed(ReadOnlySpan<byte> key, byte* value, int valueLength)
    {
        AssertUsable();
        CheckKey(key);
        _writer.NoteBorrowed(valueLength);
        PutEntry(key, value, valueLength, 0);
    }

    /// <summary>Removes a key; false if it is absent.</summary>
    /// <exception cref="InvalidOperationException">The key names a nested bucket.</exception>
    public bool Delete(ReadOnlySpan<byte> key)
    {
        AssertUsable();
        Node? leaf = RememberedLeaf(key);
        if (leaf is null)
        {
            // Absent keys must not cost a rewrite of their path.
            if (!TryFind(key, out Found found))
            {
                return false;
            }

            leaf = found.Node ?? LeafForWrite(key);
        }

        int index = leaf.LowerBound(key, out bool exact);
        if (!exact)
        {
            return false;
        }

        if (leaf[index].Flags != 0)
        {
            throw Incompatible();
        }

        RemoveEntry(leaf, index);
        return true;
    }

    /// <summary>Finds a value; the span is valid until the next change in this transaction.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value)
    {
        AssertUsable();
        if (TryFind(key, out Found found) && found.Flags == 0)
        {
            value = new ReadOnlySpan<byte>(found.Value, found.ValueLength);
            return true;
        }

        value = default;
        return false;
    }

    /// <summary>Opens a nested bucket.</summary>
    public bool TryGetBucket(ReadOnlySpan<byte> name, [NotNullWhen(true)] out TreeBucket? bucket)
    {
        AssertUsable();
        foreach (TreeBucket child in _children)
        {
            if (child.Name.SequenceEqual(name))
            {
                bucket = child;
                return true;
            }
        }

        if (!TryFind(name, out Found found) || found.Flags != PageFormat.BucketFlag)
        {
            bucket = null;
            return false;
        }

        ulong root = PageFormat.ReadUInt64(found.Value);
        byte* inlinePage = root == 0 ? found.Value + PageFormat.BucketBytes : null;
        bucket = Child(name, root, inlinePage, PageFormat.ReadUInt64(found.Value + 8));
        return true;
    }

    /// <summary>Makes a nested bucket.</summary>
    /// <exception cref="InvalidOperationException">The name is taken, by a bucket or a key.</exception>
    public TreeBucket CreateBucket(ReadOnlySpan<byte> name)
    {
        AssertUsable();
        CheckKey(name);
        if (TryFind(name, out _))
        {
            throw new InvalidOperationException("a bucket or key of this name exists");
        }

        // The entry holds an empty inline bucket until the commit replaces it.
        const int Empty = PageFormat.BucketBytes + PageFormat.HeaderBytes;
        byte* value = _writer.Arena.Take(Empty);
        new Span<byte>(value, Empty).Clear();
        PageFormat.WriteHeader(value + PageFormat.BucketBytes, 0, PageFormat.Leaf, 0, 0);
        PutEntry(name, value, Empty, PageFormat.BucketFlag);

        TreeBucket bucket = Child(name, 0, value + PageFormat.BucketBytes, 0);
        bucket.RootNode();
        if (Parent is not null)
        {
            _writer.Tree.HasDeepBuckets = true;
        }

        return bucket;
    }

    public TreeBucket CreateBucketIfMissing(ReadOnlySpan<byte> name) =>
        TryGetBucket(name, out TreeBucket? bucket) ? bucket : CreateBucket(name);

    /// <summary>Removes a nested bucket with everything in it; false if there is none.</summary>
    public bool DeleteBucket(ReadOnlySpan<byte> name)
    {
        if (!TryGetBucket(name, out TreeBucket? bucket))
        {
            return false;
        }

        bucket.GiveUpAll();
        bucket._deleted = true;
        _children.Remove(bucket);
        _kept?.Remove(bucket); // whoever still has the handle keeps a dead one
        Node leaf = LeafForWrite(name);
        RemoveEntry(leaf, leaf.LowerBound(name, out _));
        return true;
    }

    /// <summary>A cursor over the bucket with this transaction's changes; any change makes it invalid until it seeks.</summary>
    /// <param name="reused">A cursor no longer needed, of any bucket or transaction, to be this one. May be null.</param>
    public TreeWriteCursor Cursor(TreeWriteCursor? reused = null)
    {
        AssertUsable();
        reused ??= new TreeWriteCursor();
        reused.Begin(this);
        return reused;
    }

    internal void AssertUsable() =>
        Invariant.Check(_writer.IsOpen && _writer.Serial == _serial && !_deleted, "a bucket handle ends with its transaction");

    /// <summary>Makes it a bucket of the transaction that begins or is open.</summary>
    internal void Begin(ulong rootPage, byte* inlinePage, ulong sequence)
    {
        _serial = _writer.Serial;
        _children.Clear();
        _lastLeaf = null;
        _lastLeafIsRightmost = false;
        _fillPercent = 0.5;
        Root = null;
        RootPage = rootPage;
        InlinePage = inlinePage;
        Sequence = sequence;
        Version++;
    }

    /// <summary>The root as a node; from then on the bucket counts as changed.</summary>
    internal Node RootNode()
    {
        if (Root is not null)
        {
            return Root;
        }

        if (RootPage != 0)
        {
            return Root = _writer.LoadNode(this, null, RootPage);
        }

        // SAFETY: the inline page was verified with the leaf that holds it, or made by CreateBucket.
        Root = _writer.NewNode(this, null, isLeaf: true);
        Root.Load(InlinePage);
        return Root;
    }

    /// <summary>The child of a branch node as a node.</summary>
    internal Node ChildNode(Node node, int index)
    {
        ref NodeEntry entry = ref node[index];
        if (entry.Child != 0)
        {
            return _writer.NodeAt(entry.Child);
        }

        Node child = _writer.LoadNode(this, node, entry.ChildPage);
        entry.Child = child.Id;
        return child;
    }

    /// <summary>The leaf that covers a key, changed from root to leaf.</summary>
    internal Node LeafForWrite(ReadOnlySpan<byte> key)
    {
        Node node = RootNode();
        bool rightmost = true;
        int depth = 0;
        while (!node.IsLeaf)
        {
            if (++depth > PageFormat.DepthMax)
            {
                throw _writer.Tree.Map.Corrupt(RootPage, new PageFault(0, "depth of the tree", $"at most {PageFormat.DepthMax} levels", "more"));
            }

            int index = node.SearchChild(key);
            rightmost &= index == node.Count - 1;
            node = ChildNode(node, index);
        }

        _lastLeaf = node;
        _lastLeafIsRightmost = rightmost;
        return node;
    }

    /// <summary>The node that replaces a page on the path to a key, changed from the root to it; null if it has gone.</summary>
    internal Node? NodeForWrite(ReadOnlySpan<byte> key, ulong page)
    {
        Node node = RootNode();
        for (int depth = 0; node.Page != page; depth++)
        {
            if (node.IsLeaf || node.Count == 0 || depth > PageFormat.DepthMax)
            {
                return null;
            }

            node = ChildNode(node, node.SearchChild(key));
        }

        return node;
    }

    /// <summary>Replaces the stored header (and inline page) of a nested bucket.</summary>
    internal void SetBucketValue(ReadOnlySpan<byte> name, byte* value, int length)
    {
        Node leaf = LeafForWrite(name);
        int index = leaf.LowerBound(name, out bool exact);
        Invariant.Check(exact && leaf[index].Flags == PageFormat.BucketFlag, "an open bucket has its entry");
        leaf.SetValue(index, value, length);
    }

    internal void ForgetLastLeaf() => _lastLeaf = null;

    /// <summary>Looks a key up without changing anything.</summary>
    internal bool TryFind(ReadOnlySpan<byte> key, out Found found)
    {
        found = default;
        PageMap map = _writer.Tree.Map;
        ulong highWater = _writer.Base.HighWater;
        Node? node = Root;
        byte* page = null;
        for (int depth = 0; node is not null && !node.IsLeaf; depth++)
        {
            int child = node.SearchChild(key);
            ref NodeEntry entry = ref node[child];
            if (entry.Child != 0)
            {
                node = _writer.NodeAt(entry.Child);
            }
            else
            {
                node = null;
                page = map.Page(entry.ChildPage, highWater);
            }
        }

        int index;
        bool exact;
        if (node is not null)
        {
            index = node.LowerBound(key, out exact);
            if (exact)
            {
                ref NodeEntry entry = ref node[index];
                found = new Found { Node = node, Flags = entry.Flags, Value = entry.Value, ValueLength = entry.ValueLength };
                map.Warm(entry.Value, entry.ValueLength, highWater);
            }

            return exact;
        }

        page = page != null ? page : InlinePage != null ? InlinePage : map.Page(RootPage, highWater);
        for (int depth = 0; !PageFormat.IsLeaf(page); depth++)
        {
            if (depth > PageFormat.DepthMax)
            {
                throw BucketReader.TooDeep(map, page);
            }

            page = map.Page(PageFormat.BranchChild(page, PageFormat.SearchBranch(page, key)), highWater);
        }

        index = PageFormat.SearchLeaf(page, key, out exact);
        if (exact)
        {
            byte* value = PageFormat.LeafValue(page, index, out int length);
            found = new Found { Flags = PageFormat.LeafFlags(page, index), Value = value, ValueLength = length };
        }

        return exact;
    }

    /// <summary>
    /// A handle for a bucket in this one. Those of the top level are kept from transaction to transaction, each for
    /// its name alone: a handle somebody held too long is either refused or names the bucket he meant.
    /// </summary>
    private TreeBucket Child(ReadOnlySpan<byte> name, ulong rootPage, byte* inlinePage, ulong sequence)
    {
        TreeBucket? child = null;
        if (_kept is not null)
        {
            foreach (TreeBucket kept in _kept)
            {
                if (kept.Name.SequenceEqual(name))
                {
                    child = kept;
                    break;
                }
            }
        }

        if (child is null)
        {
            child = new TreeBucket(_writer, this, name.ToArray());
            if (_kept is not null && _kept.Count < KeptMax)
            {
                _kept.Add(child);
            }
        }

        child.Begin(rootPage, inlinePage, sequence);
        _children.Add(child);
        return child;
    }

    private static void CheckKey(ReadOnlySpan<byte> key)
    {
        if (key.Length is 0 or > PageFormat.KeyBytesMax)
        {
            throw new ArgumentException($"a key has 1 to {PageFormat.KeyBytesMax} bytes, not {key.Length}", nameof(key));
        }
    }

    private static InvalidOperationException Incompatible() => new("the key names a bucket, or the bucket's name a key");

    /// <summary>The leaf of the last operation if the key lies inside its range.</summary>
    private Node? RememberedLeaf(ReadOnlySpan<byte> key)
    {
        Node? leaf = _lastLeaf;
        if (leaf is null || leaf.Count == 0)
        {
            return null;
        }

        return leaf[leaf.Count - 1].KeySpan.SequenceCompareTo(key) >= 0 && leaf[0].KeySpan.SequenceCompareTo(key) <= 0 ? leaf : null;
    }

    private void PutEntry(ReadOnlySpan<byte> key, byte* value, int valueLength, uint flags)
    {
        Version++;
        Node? leaf = _lastLeaf;
        int index;
        bool exact = false;
        int order = leaf is null || leaf.Count == 0 ? -1 : key.SequenceCompareTo(leaf[leaf.Count - 1].KeySpan);
        if (order > 0 && _lastLeafIsRightmost)
        {
            index = leaf!.Count;
        }
        else
        {
            leaf = order <= 0 ? RememberedLeaf(key) : null;
            leaf ??= LeafForWrite(key);
            index = leaf.LowerBound(key, out exact);
        }

        if (exact)
        {
            if (leaf[index].Flags != flags)
            {
                throw Incompatible();
            }

            leaf.SetValue(index, value, valueLength);
            return;
        }

        NodeEntry entry = new()
        {
            Key = _writer.Arena.Copy(key),
            KeyLength = key.Length,
            Value = value,
            ValueLength = valueLength,
            Flags = flags,
        };
        if (leaf.Count < EntriesMax)
        {
            leaf.Insert(index, entry);
            return;
        }

        // Ascending keys leave full nodes behind; others are cut in the middle.
        Node right = _writer.NewNode(this, leaf.Parent, isLeaf: true);
        int cut = index == leaf.Count ? index : leaf.Count / 2;
        leaf.SplitTo(right, cut);
        if (index >= cut)
        {
            right.Insert(index - cut, entry);
        }
        else
        {
            leaf.Insert(index, entry);
        }

        LinkRight(leaf, right);
        _lastLeaf = _lastLeafIsRightmost ? right : null;
    }

    /// <summary>Gives a node that was split off its place in the parent, which may have to split in turn.</summary>
    private void LinkRight(Node left, Node right)
    {
        while (true)
        {
            Node? parent = left.Parent;
            if (parent is null)
            {
                parent = _writer.NewNode(this, null, isLeaf: false);
                parent.Insert(0, new NodeEntry { Key = left[0].Key, KeyLength = left[0].KeyLength, Child = left.Id });
                left.Parent = parent;
                Root = parent;
            }

            int index = parent.IndexOfChild(left.Id) + 1;
            parent.Insert(index, new NodeEntry { Key = right[0].Key, KeyLength = right[0].KeyLength, Child = right.Id });
            right.Parent = parent;
            if (parent.Count <= EntriesMax)
            {
                return;
            }

            Node upper = _writer.NewNode(this, parent.Parent, isLeaf: false);
            parent.SplitTo(upper, parent.Count / 2);
            _writer.AdoptChildren(upper);
            left = parent;
            right = upper;
        }
    }

    private void RemoveEntry(Node leaf, int index)
    {
        Version++;
        leaf.Remove(index);
        leaf.IsUnbalanced = true;
    }

    /// <summary>Gives up every page of this bucket and of the buckets in it.</summary>
    private void GiveUpAll()
    {
        if (Root is not null)
        {
            GiveUpNode(Root);
        }
        else if (RootPage != 0)
        {
            GiveUpPage(RootPage, 0);
        }
    }

    private void GiveUpNode(Node node)
    {
        _writer.GiveUp(node);
        node.IsDead = true;
        foreach (ref NodeEntry entry in node.Entries)
        {
            if (!node.IsLeaf && entry.Child != 0)
            {
                GiveUpNode(_writer.NodeAt(entry.Child));
            }
            else if (!node.IsLeaf)
            {
                GiveUpPage(entry.ChildPage, 0);
            }
            else if (entry.Flags == PageFormat.BucketFlag)
            {
                GiveUpNested(entry.KeySpan);
            }
        }
    }

    private void GiveUpPage(ulong id, int depth)
    {
        byte* page = _writer.Tree.Map.Page(id, _writer.Base.HighWater);
        if (depth > PageFormat.DepthMax)
        {
            throw BucketReader.TooDeep(_writer.Tree.Map, page);
        }

        _writer.GiveUp(id, PageFormat.Overflow(page) + 1);
        int count = PageFormat.Count(page);
        for (int i = 0; i < count; i++)
        {
            if (!PageFormat.IsLeaf(page))
            {
                GiveUpPage(PageFormat.BranchChild(page, i), depth + 1);
            }
            else if (PageFormat.LeafFlags(page, i) == PageFormat.BucketFlag)
            {
                GiveUpNested(PageFormat.LeafKey(page, i));
            }
        }
    }

    private void GiveUpNested(ReadOnlySpan<byte> name)
    {
        bool exists = TryGetBucket(name, out TreeBucket? bucket);
        Invariant.Check(exists, "a bucket entry opens");
        bucket!.GiveUpAll();
        bucket._deleted = true;
    }

    /// <summary>What a lookup found.</summary>
    internal struct Found
    {
        public Node? Node; // null: in the map
        public byte* Value;
        public int ValueLength;
        public uint Flags;
    }
}
