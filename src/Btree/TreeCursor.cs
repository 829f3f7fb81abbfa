// TreeCursor: an ordered walk, both ways, over one bucket of a pinned root. A value type with its path inside, so a
// range read allocates nothing; each page of the path is made resident as it is entered.
// Thread   any one thread at a time that holds the pin.
using System;
using System.Runtime.CompilerServices;

namespace Cairn.Btree;

/// <summary>A position in a bucket of a pinned root. A mutable struct: keep it in a local or a field, do not copy.</summary>
public unsafe struct TreeCursor
{
    private readonly BucketReader _bucket;
    private Path _path;
    private int _depth; // of the leaf in the path; -1 = nowhere
    private byte* _leaf;
    private int _index;
    private int _count;

    internal TreeCursor(in BucketReader bucket)
    {
        _bucket = bucket;
        _depth = -1;
    }

    /// <summary>True if the cursor stands on an entry.</summary>
    public readonly bool IsValid => _depth >= 0 && (uint)_index < (uint)_count;

    /// <summary>Valid while the root is pinned.</summary>
    public readonly ReadOnlySpan<byte> Key => IsValid ? PageFormat.LeafKey(_leaf, _index) : default;

    /// <summary>Valid while the root is pinned; empty for a nested bucket.</summary>
    public readonly ReadOnlySpan<byte> Value => IsValid && !IsBucket ? PageFormat.LeafValue(_leaf, _index) : default;

    public readonly bool IsBucket => IsValid && PageFormat.LeafFlags(_leaf, _index) == PageFormat.BucketFlag;

    /// <summary>Opens the nested bucket at the cursor.</summary>
    public readonly bool TryGetBucket(out BucketReader bucket)
    {
        bucket = IsBucket ? BucketReader.FromValue(_bucket.Map, _bucket.HighWater, PageFormat.LeafValue(_leaf, _index, out _)) : default;
        return IsBucket;
    }

    public bool First()
    {
        Descend(_bucket.RootPage(), 0, last: false);
        return IsValid || Next();
    }

    public bool Last()
    {
        Descend(_bucket.RootPage(), 0, last: true);
        return IsValid || Prev();
    }

    /// <summary>Moves to the first entry whose key is at or after <paramref name="key"/>.</summary>
    public bool Seek(ReadOnlySpan<byte> key)
    {
        byte* page = _bucket.RootPage();
        int depth = 0;
        while (!PageFormat.IsLeaf(page))
        {
            int index = PageFormat.SearchBranch(page, key);
            page = Enter(page, depth++, index);
        }

        SetLeaf(page, depth);
        _index = PageFormat.SearchLeaf(page, key, out _);
        return IsValid || Next();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Next()
    {
        if (_depth >= 0 && _index + 1 < _count)
        {
            _index++;
            return true;
        }

        return NextLeaf();
    }

    public bool Prev()
    {
        if (_depth >= 0 && _index > 0)
        {
            _index = Math.Min(_index, _count) - 1;
            return _index >= 0 || PrevLeaf();
        }

        return PrevLeaf();
    }

    private bool NextLeaf()
    {
        for (int level = _depth - 1; level >= 0; level--)
        {
            ref Frame frame = ref _path[level];
            if (frame.Index + 1 < PageFormat.Count(frame.Page))
            {
                Descend(Enter(frame.Page, level, frame.Index + 1), level + 1, last: false);
                if (IsValid)
                {
                    return true;
                }

                level = _depth; // an empty leaf (no correct writer leaves one): go on behind it
            }
        }

        _index = _count;
        _depth = _depth < 0 ? -1 : _depth;
        return false;
    }

    private bool PrevLeaf()
    {
        for (int level = _depth - 1; level >= 0; level--)
        {
            ref Frame frame = ref _path[level];
            if (frame.Index > 0)
            {
                Descend(Enter(frame.Page, level, frame.Index - 1), level + 1, last: true);
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

    private void Descend(byte* page, int depth, bool last)
    {
        while (!PageFormat.IsLeaf(page))
        {
            page = Enter(page, depth++, last ? PageFormat.Count(page) - 1 : 0);
        }

        SetLeaf(page, depth);
        _index = last ? _count - 1 : 0;
    }

    private byte* Enter(byte* page, int depth, int index)
    {
        if (depth >= PageFormat.DepthMax)
        {
            throw BucketReader.TooDeep(_bucket.Map, page);
        }

        _path[depth] = new Frame(page, index);
        return _bucket.Map.Page(PageFormat.BranchChild(page, index), _bucket.HighWater);
    }

    private void SetLeaf(byte* page, int depth)
    {
        _leaf = page;
        _depth = depth;
        _count = PageFormat.Count(page);
    }

    private readonly struct Frame
    {
        public readonly byte* Page;
        public readonly int Index;

        public Frame(byte* page, int index)
        {
            Page = page;
            Index = index;
        }
    }

    [InlineArray(PageFormat.DepthMax)]
    private struct Path
    {
        private Frame _first;
    }
}
