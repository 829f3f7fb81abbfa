// IndexNode: one node of the key index's B+tree, and the search inside it.
//
// Layout     32 bytes of header, then three arrays of Capacity entries:
//              Heads  8 bytes of each key after the node's common prefix, big-endian, padded with zeros
//              Slots  leaf: KeyRecord*; branch: IndexNode*
//              Bounds branch only: lower bound of each child (KeyBound*); Bounds[0] is null = no bound
//            Comparing heads settles nearly every step of the search without touching a key; the header holds the
//            end of the common prefix, and the search remembers what the levels above have proven, so the prefix
//            is compared without touching a key as well.
// Threads    A node never changes once readers can reach it, except a branch's Slots: a child is replaced by a
//            release-store, and the range of keys a slot stands for never changes. Everything else is a copy.
using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Cairn.Core.Mvcc;

/// <summary>A separator between two children. The bytes follow the struct.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KeyBound
{
    public int Length;

    public static ReadOnlySpan<byte> Key(KeyBound* bound) => new((byte*)bound + sizeof(KeyBound), bound->Length);

    public static int Bytes(int length) => sizeof(KeyBound) + length;
}

/// <summary>Header of a node; see the file header for what follows it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct IndexNode
{
    public const int CapacityMax = 64;
    public const int HeaderBytes = 32;
    public const int TailMax = 16;

    public int Count;

    /// <summary>Entries the arrays have room for.</summary>
    public short Capacity;

    /// <summary>0 = leaf.</summary>
    public short Level;

    /// <summary>Bytes all keys (branch: all bounds but the first) have in common; 0 for fewer than two.</summary>
    public int PrefixLength;

    public int Reserved;

    /// <summary>The last bytes of the common prefix, right-aligned.</summary>
    public fixed byte Tail[TailMax];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong* Heads(IndexNode* node) => (ulong*)((byte*)node + HeaderBytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static nint* Slots(IndexNode* node) => (nint*)((byte*)node + HeaderBytes + node->Capacity * 8);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static KeyBound** Bounds(IndexNode* node) => (KeyBound**)((byte*)node + HeaderBytes + node->Capacity * 16);

    public static int Bytes(int capacity, bool isLeaf) => HeaderBytes + capacity * (isLeaf ? 16 : 24);

    public static int Bytes(IndexNode* node) => Bytes(node->Capacity, node->Level == 0);

    /// <summary>Key of a leaf's entry, or bound of a branch's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ReadOnlySpan<byte> KeyAt(IndexNode* node, int i) =>
        node->Level == 0 ? KeyRecord.Key((KeyRecord*)Slots(node)[i]) : KeyBound.Key(Bounds(node)[i]);

    /// <summary>The child as it is now.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static IndexNode* Child(IndexNode* node, int i) => (IndexNode*)Volatile.Read(ref Slots(node)[i]);

    /// <summary>First entry of the node that has a key: a branch's slot 0 has none.</summary>
    public static int FirstKeyed(IndexNode* node) => node->Level == 0 ? 0 : 1;

    /// <summary>The eight bytes at an offset of a key, as a number that orders like them.</summary>
    public static ulong HeadOf(ReadOnlySpan<byte> key, int offset)
    {
        if (key.Length - offset >= 8)
        {
            return BinaryPrimitives.ReadUInt64BigEndian(key[offset..]);
        }

        ulong head = 0;
        for (int i = offset; i < key.Length; i++)
        {
            head |= (ulong)key[i] << (56 - (i - offset) * 8);
        }

        return head;
    }

    /// <summary>Leaf: the first entry at or after the key.</summary>
    /// <param name="leaf">The leaf whose range holds the key.</param>
    /// <param name="key">What is looked for.</param>
    /// <param name="known">Leading bytes of the key that every key of the leaf is known to share.</param>
    /// <param name="found">The entry is the key itself.</param>
    public static int LowerBound(IndexNode* leaf, ReadOnlySpan<byte> key, int known, out bool found) =>
        Search(leaf, 0, key, known, out found);

    /// <summary>Branch: the child whose range holds the key.</summary>
    /// <param name="branch">The branch whose range holds the key.</param>
    /// <param name="key">What is looked for.</param>
    /// <param name="known">In and out: leading bytes of the key that all keys below are known to share. Start with 0.</param>
    public static int ChildFor(IndexNode* branch, ReadOnlySpan<byte> key, ref int known)
    {
        int position = Search(branch, 1, key, known, out bool found);
        int slot = found ? position : position - 1;
        if (slot > 0 && slot < branch->Count - 1 && branch->PrefixLength > known)
        {
            known = branch->PrefixLength; // both bounds of the child begin with it, so all between them does
        }

        return slot;
    }

    /// <summary>Computes prefix and heads from the keys, after slots and bounds are in place.</summary>
    public static void Summarize(IndexNode* node)
    {
        int first = FirstKeyed(node);
        int prefix = node->Count - first >= 2
            ? KeyAt(node, first).CommonPrefixLength(KeyAt(node, node->Count - 1))
            : 0;
        node->PrefixLength = prefix;
        if (prefix > 0)
        {
            int tail = Math.Min(prefix, TailMax);
            KeyAt(node, first)[(prefix - tail)..prefix].CopyTo(new Span<byte>(node->Tail + TailMax - tail, tail));
        }

        ulong* heads = Heads(node);
        for (int i = first; i < node->Count; i++)
        {
            heads[i] = HeadOf(KeyAt(node, i), prefix);
        }
    }

    private static int Search(IndexNode* node, int first, ReadOnlySpan<byte> key, int known, out bool found)
    {
        found = false;
        int count = node->Count;
        if (first >= count)
        {
            return first;
        }

        int prefix = node->PrefixLength;
        if (prefix > known)
        {
            int unproven = prefix - known;
            ReadOnlySpan<byte> common = unproven <= TailMax
                ? new ReadOnlySpan<byte>(node->Tail + TailMax - unproven, unproven)
                : KeyAt(node, first)[known..prefix];
            ReadOnlySpan<byte> mine = key[known..Math.Min(prefix, key.Length)];
            int order = mine.SequenceCompareTo(common[..mine.Length]);
            if (order > 0)
            {
                return count;
            }

            if (order < 0 || key.Length < prefix)
            {
                return first;
            }
        }

        ulong head = HeadOf(key, prefix);
        ulong* heads = Heads(node);
        int low = first;
        int high = count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            ulong at = heads[middle];
            if (at < head)
            {
                low = middle + 1;
            }
            else if (at > head)
            {
                high = middle;
            }
            else
            {
                // Same eight bytes (or padding that looks the same): the keys decide.
                int order = KeyAt(node, middle)[prefix..].SequenceCompareTo(key[prefix..]);
                if (order == 0)
                {
                    found = true;
                    return middle;
                }

                if (order < 0)
                {
                    low = middle + 1;
                }
                else
                {
                    high = middle;
                }
            }
        }

        return low;
    }
}
