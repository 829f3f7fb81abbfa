// Node: one changed page in memory: an array of entries that point at their bytes, wherever these are: in the map
// (unchanged ones), in the transaction's arena, or in memory the caller lent. Bytes move only when pages are built.
//
// Why        Appending is one copy and one array slot; deleting moves slots, not bytes; nothing is garbage: the
//            objects and their arrays go back to a pool at the end of the transaction.
// Thread     tree.
// Invariants keys ascend; Bytes is the sum of what the entries need in a page, without the page header;
//            a child's Parent is the node whose entry names it.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Btree;

/// <summary>An element of a leaf or a branch.</summary>
internal unsafe struct NodeEntry
{
    public byte* Key;
    public byte* Value; // leaf
    public ulong ChildPage; // branch
    public int KeyLength;
    public int ValueLength; // leaf
    public uint Flags; // leaf
    public int Child; // branch: index of the changed child in the writer's table; 0 = unchanged

    public readonly ReadOnlySpan<byte> KeySpan => new(Key, KeyLength);

    public readonly ReadOnlySpan<byte> ValueSpan => new(Value, ValueLength);

    public readonly long Bytes => PageFormat.ElementBytes + (long)KeyLength + ValueLength;
}

internal sealed unsafe class Node : IDisposable
{
    private const int FirstCapacity = 32;
    private NodeEntry* _entries;
    private int _capacity;

    public Node(int id) => Id = id;

    /// <summary>Place in the writer's table; kept for the node's life.</summary>
    public int Id { get; }

    public bool IsLeaf { get; set; }

    public Node? Parent { get; set; }

    public TreeBucket Bucket { get; set; } = null!;

    /// <summary>The page this node replaces; 0 if it is new.</summary>
    public ulong Page { get; set; }

    public uint Pages { get; set; }

    /// <summary>Run taken in advance for this node's next pages; 0 if the commit chooses.</summary>
    public ulong Place { get; set; }

    public uint PlacePages { get; set; }

    /// <summary>Had deletions: may be too empty.</summary>
    public bool IsUnbalanced { get; set; }

    /// <summary>Was merged away.</summary>
    public bool IsDead { get; set; }

    public int Count { get; private set; }

    public long Bytes { get; private set; }

    public ref NodeEntry this[int index] => ref _entries[index];

    public Span<NodeEntry> Entries => new(_entries, Count);

    /// <summary>Makes a pooled node new.</summary>
    public void Begin(TreeBucket bucket, Node? parent, bool isLeaf)
    {
        Bucket = bucket;
        Parent = parent;
        IsLeaf = isLeaf;
        Page = 0;
        Pages = 0;
        Place = 0;
        PlacePages = 0;
        IsUnbalanced = false;
        IsDead = false;
        Count = 0;
        Bytes = 0;
    }

    /// <summary>Takes over the elements of a verified page; they keep pointing into it.</summary>
    public void Load(byte* page)
    {
        int count = PageFormat.Count(page);
        Reserve(count);
        long bytes = 0;
        for (int i = 0; i < count; i++)
        {
            ref NodeEntry entry = ref _entries[i];
            entry = default;
            ReadOnlySpan<byte> key;
            if (IsLeaf)
            {
                key = PageFormat.LeafKey(page, i);
                entry.Flags = PageFormat.LeafFlags(page, i);
                entry.Value = PageFormat.LeafValue(page, i, out entry.ValueLength);
            }
            else
            {
                key = PageFormat.BranchKey(page, i);
                entry.ChildPage = PageFormat.BranchChild(page, i);
            }

            // SAFETY: the key lies in the map or in a page of the map, which does not move.
            entry.Key = (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(key));
            entry.KeyLength = key.Length;
            bytes += entry.Bytes;
        }

        Count = count;
        Bytes = bytes;
    }

    /// <summary>The child that covers a key: the last whose key is not greater, else the first.</summary>
    public int SearchChild(ReadOnlySpan<byte> key)
    {
        int index = LowerBound(key, out bool exact);
        return exact ? index : Math.Max(0, index - 1);
    }

    /// <summary>The first entry at or after a key; may be the count.</summary>
    public int LowerBound(ReadOnlySpan<byte> key, out bool exact)
    {
        int low = 0;
        int high = Count;
        exact = false;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            int order = _entries[middle].KeySpan.SequenceCompareTo(key);
            if (order < 0)
            {
                low = middle + 1;
            }
            else
            {
                exact |= order == 0;
                high = middle;
            }
        }

        return low;
    }

    public int IndexOfChild(int id)
    {
        for (int i = 0; i < Count; i++)
        {
            if (_entries[i].Child == id)
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>Opens a slot.</summary>
    public void Insert(int index, in NodeEntry entry)
    {
        Reserve(Count + 1);
        new Span<NodeEntry>(_entries + index, Count - index).CopyTo(new Span<NodeEntry>(_entries + index + 1, Count - index));
        _entries[index] = entry;
        Count++;
        Bytes += entry.Bytes;
    }

    /// <summary>Replaces one entry by several.</summary>
    public void Replace(int index, ReadOnlySpan<NodeEntry> entries)
    {
        int more = entries.Length - 1;
        Reserve(Count + more);
        Bytes -= _entries[index].Bytes;
        int after = Count - index - 1;
        new Span<NodeEntry>(_entries + index + 1, after).CopyTo(new Span<NodeEntry>(_entries + index + 1 + more, after));
        entries.CopyTo(new Span<NodeEntry>(_entries + index, entries.Length));
        Count += more;
        foreach (ref readonly NodeEntry entry in entries)
        {
            Bytes += entry.Bytes;
        }
    }

    public void Remove(int index)
    {
        Bytes -= _entries[index].Bytes;
        Count--;
        new Span<NodeEntry>(_entries + index + 1, Count - index).CopyTo(new Span<NodeEntry>(_entries + index, Count - index));
    }

    public void SetValue(int index, byte* value, int length)
    {
        ref NodeEntry entry = ref _entries[index];
        Bytes += length - entry.ValueLength;
        entry.Value = value;
        entry.ValueLength = length;
    }

    /// <summary>Puts the entries of another node behind (or before) this one's.</summary>
    public void Absorb(Node other, bool before)
    {
        Reserve(Count + other.Count);
        Span<NodeEntry> own = new(_entries, Count);
        if (before)
        {
            own.CopyTo(new Span<NodeEntry>(_entries + other.Count, Count));
        }

        other.Entries.CopyTo(new Span<NodeEntry>(_entries + (before ? 0 : Count), other.Count));
        Count += other.Count;
        Bytes += other.Bytes;
        other.Clear();
    }

    /// <summary>Moves the entries from an index on to an empty node.</summary>
    public void SplitTo(Node right, int index)
    {
        ReadOnlySpan<NodeEntry> moved = new(_entries + index, Count - index);
        right.Reserve(moved.Length);
        moved.CopyTo(new Span<NodeEntry>(right._entries, moved.Length));
        right.Count = moved.Length;
        long bytes = 0;
        foreach (ref readonly NodeEntry entry in moved)
        {
            bytes += entry.Bytes;
        }

        right.Bytes = bytes;
        Count = index;
        Bytes -= bytes;
    }

    public void Clear()
    {
        Count = 0;
        Bytes = 0;
    }

    public void Dispose()
    {
        NativeMemory.Free(_entries);
        _entries = null;
        _capacity = 0;
    }

    private void Reserve(int count)
    {
        if (count <= _capacity)
        {
            return;
        }

        int capacity = Math.Max(FirstCapacity, Math.Max(count, _capacity * 2));
        _entries = (NodeEntry*)NativeMemory.Realloc(_entries, (nuint)capacity * (nuint)sizeof(NodeEntry));
        _capacity = capacity;
    }
}
