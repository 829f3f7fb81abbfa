// KeyCursor: walks the key index in ascending order. Any thread that has a View pinned; lives on its stack.
using System;
using System.Runtime.CompilerServices;

namespace Cairn.Core.Mvcc;

/// <summary>A position in the index. Keys inserted or removed behind its back do not disturb it.</summary>
internal unsafe ref struct KeyCursor
{
    private readonly KeyIndex _index;
    private PathNodes _nodes;
    private PathSlots _slots;
    private int _depth;

    public KeyCursor(KeyIndex index)
    {
        _index = index;
    }

    /// <summary>The record under the cursor; null when it has run past the end.</summary>
    public KeyRecord* Current { get; private set; }

    /// <summary>Moves to the first key at or after the given one.</summary>
    public bool Seek(ReadOnlySpan<byte> key)
    {
        IndexNode* node = _index.Root;
        _depth = 0;
        int known = 0;
        while (node->Level > 0)
        {
            int slot = IndexNode.ChildFor(node, key, ref known);
            _nodes[_depth] = (nint)node;
            _slots[_depth] = slot;
            _depth++;
            node = IndexNode.Child(node, slot);
        }

        int position = IndexNode.LowerBound(node, key, known, out _);
        return Settle(node, position);
    }

    /// <summary>Moves on; false at the end.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Next()
    {
        IndexNode* leaf = (IndexNode*)_nodes[_depth];
        int position = _slots[_depth] + 1;
        if (position < leaf->Count)
        {
            _slots[_depth] = position;
            Current = (KeyRecord*)IndexNode.Slots(leaf)[position];
            return true;
        }

        return Settle(leaf, position);
    }

    private bool Settle(IndexNode* leaf, int position)
    {
        while (position >= leaf->Count)
        {
            // Up to the first branch with a child to the right, then down along the left edge.
            int level = _depth - 1;
            while (level >= 0 && _slots[level] + 1 >= ((IndexNode*)_nodes[level])->Count)
            {
                level--;
            }

            if (level < 0)
            {
                Current = null;
                return false;
            }

            _slots[level]++;
            IndexNode* node = IndexNode.Child((IndexNode*)_nodes[level], _slots[level]);
            _depth = level + 1;
            while (node->Level > 0)
            {
                _nodes[_depth] = (nint)node;
                _slots[_depth] = 0;
                _depth++;
                node = IndexNode.Child(node, 0);
            }

            leaf = node;
            position = 0;
        }

        _nodes[_depth] = (nint)leaf;
        _slots[_depth] = position;
        Current = (KeyRecord*)IndexNode.Slots(leaf)[position];
        return true;
    }

    [InlineArray(KeyIndex.DepthMax)]
    private struct PathNodes
    {
        private nint _element;
    }

    [InlineArray(KeyIndex.DepthMax)]
    private struct PathSlots
    {
        private int _element;
    }
}
