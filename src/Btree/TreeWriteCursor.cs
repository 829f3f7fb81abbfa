// TreeWriteCursor: an ordered walk over a bucket with the open transaction's changes: nodes where changed, else pages.
// Thread   tree.
using System;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>A position in a bucket as the open transaction sees it; any change of the bucket asks for a new seek.</summary>
public sealed unsafe class TreeWriteCursor
{
    private TreeBucket _bucket = null!; // set by Begin, before anybody else has the cursor
    private readonly Frame[] _path = new Frame[PageFormat.DepthMax + 1];
    private int _depth = -1; // of the leaf; -1 = nowhere
    private int _version;

    internal TreeWriteCursor()
    {
    }

    /// <summary>True if the cursor stands on an entry.</summary>
    public bool IsValid => _depth >= 0 && (uint)_path[_depth].Index < (uint)_path[_depth].Count && _version == _bucket.Version;

    /// <summary>Valid until the next change in this transaction.</summary>
    public ReadOnlySpan<byte> Key
    {
        get
        {
            if (!IsValid)
            {
                return default;
            }

            ref Frame leaf = ref _path[_depth];
            return leaf.Node is null ? PageFormat.LeafKey(leaf.Page, leaf.Index) : leaf.Node[leaf.Index].KeySpan;
        }
    }

    /// <summary>Valid until the next change in this transaction; empty for a nested bucket.</summary>
    public ReadOnlySpan<byte> Value
    {
        get
        {
            if (!IsValid || IsBucket)
            {
                return default;
            }

            ref Frame leaf = ref _path[_depth];
            return leaf.Node is null ? PageFormat.LeafValue(leaf.Page, leaf.Index) : leaf.Node[leaf.Index].ValueSpan;
        }
    }

    public bool IsBucket
    {
        get
        {
            if (!IsValid)
            {
                return false;
            }

            ref Frame leaf = ref _path[_depth];
            uint flags = leaf.Node is null ? PageFormat.LeafFlags(leaf.Page, leaf.Index) : leaf.Node[leaf.Index].Flags;
            return flags == PageFormat.BucketFlag;
        }
    }

    public bool First()
    {
        Start();
        DescendToEdge(last: false);
        return IsValid || Next();
    }

    public bool Last()
    {
        Start();
        DescendToEdge(last: true);
        return IsValid || Prev();
    }

    /// <summary>Moves to the first entry whose key is at or after <paramref name="key"/>.</summary>
    public bool Seek(ReadOnlySpan<byte> key)
    {
        Start();
        while (!_path[_depth].IsLeaf)
        {
            ref Frame frame = ref _path[_depth];
            frame.Index = frame.Node is null ? PageFormat.SearchBranch(frame.Page, key) : frame.Node.SearchChild(key);
            Push();
        }

        ref Frame leaf = ref _path[_depth];
        leaf.Index = leaf.Node is null ? PageFormat.SearchLeaf(leaf.Page, key, out _) : leaf.Node.LowerBound(key, out _);
        return IsValid || Next();
    }

    public bool Next()
    {
        CheckVersion();
        if (_depth < 0)
        {
            return false;
        }

        int leaf = _depth;
        if (_path[leaf].Index + 1 < _path[leaf].Count)
        {
            _path[leaf].Index++;
            return true;
        }

        for (int level = leaf - 1; level >= 0; level--)
        {
            if (_path[level].Index + 1 < _path[level].Count)
            {
                _path[level].Index++;
                _depth = level;
                Push();
                DescendToEdge(last: false);
                if (IsValid)
                {
                    return true;
                }

                level = _depth; // an emptied leaf: go on behind it
            }
        }

        _depth = -1;
        return false;
    }

    public bool Prev()
    {
        CheckVersion();
        if (_depth < 0)
        {
            return false;
        }

        int leaf = _depth;
        if (_path[leaf].Index > 0)
        {
            _path[leaf].Index--;
            return true;
        }

        for (int level = leaf - 1; level >= 0; level--)
        {
            if (_path[level].Index > 0)
            {
                _path[level].Index--;
                _depth = level;
                Push();
                DescendToEdge(last: true);
                if (IsValid)
                {
                    return true;
                }

                level = _depth;
            }
        }

        _depth = -1;
        return false;
    }

    /// <summary>Removes the entry and moves to the next one; returns <see cref="IsValid"/>.</summary>
    public bool DeleteCurrent()
    {
        Invariant.Check(IsValid, "the cursor stands on an entry");
        ReadOnlySpan<byte> current = Key; // points to the map or the arena, which a delete does not touch
        _bucket.Delete(current);
        return Seek(current);
    }

    internal void Begin(TreeBucket bucket)
    {
        _bucket = bucket;
        _depth = -1;
    }

    private void Start()
    {
        _bucket.AssertUsable();
        _version = _bucket.Version;
        _depth = 0;
        _path[0] = _bucket.Root is not null ? FrameOf(_bucket.Root)
            : FrameOf(_bucket.InlinePage != null ? _bucket.InlinePage : Page(_bucket.RootPage));
    }

    private void DescendToEdge(bool last)
    {
        while (true)
        {
            ref Frame frame = ref _path[_depth];
            frame.Index = last ? frame.Count - 1 : 0;
            if (frame.IsLeaf)
            {
                return;
            }

            Push();
        }
    }

    private void Push()
    {
        Frame frame = _path[_depth];
        if (_depth == PageFormat.DepthMax)
        {
            throw _bucket.Writer.Tree.Map.Corrupt(_bucket.RootPage, new PageFault(0, "depth of the tree", $"at most {PageFormat.DepthMax} levels", "more"));
        }

        Frame child;
        if (frame.Node is null)
        {
            child = FrameOf(Page(PageFormat.BranchChild(frame.Page, frame.Index)));
        }
        else
        {
            ref NodeEntry entry = ref frame.Node[frame.Index];
            child = entry.Child != 0 ? FrameOf(_bucket.Writer.NodeAt(entry.Child)) : FrameOf(Page(entry.ChildPage));
        }

        _path[++_depth] = child;
    }

    private byte* Page(ulong id) => _bucket.Writer.Tree.Map.Page(id, _bucket.Writer.Base.HighWater);

    private void CheckVersion() =>
        Invariant.Check(_depth < 0 || _version == _bucket.Version, "a cursor seeks again after its bucket changed");

    private static Frame FrameOf(Node node) => new() { Node = node, Count = node.Count, IsLeaf = node.IsLeaf };

    private static Frame FrameOf(byte* page) => new() { Page = page, Count = PageFormat.Count(page), IsLeaf = PageFormat.IsLeaf(page) };

    private struct Frame
    {
        public Node? Node;
        public byte* Page;
        public int Index;
        public int Count;
        public bool IsLeaf;
    }
}
