// PageFormat: the only place that knows where the bytes of a page are. Pure functions over pointers.
//
// Layout (little-endian, no alignment promised: an inline bucket may start at any byte)
//   page     id u64 | flags u16 | count u16 | overflow u32 | element table | keys and values | ... | tail
//   branch   pos u32 | key size u32 | child page u64             one element; pos counts from the element itself
//   leaf     flags u32 | pos u32 | key size u32 | value size u32
//   bucket   root page u64 | sequence u64 [ | inline page when root = 0 ]     the value of a leaf element with flag 1
//   tail     "CrnP" | CRC-32C of everything before the tail      ours; only where eight bytes are left, else absent
// Source    bbolt's file format, version 2. The tail is an addition that bbolt neither reads nor minds.
// SAFETY    Callers pass pointers to pages that PageCheck has accepted: then every element lies inside the page.
using System;
using System.Runtime.CompilerServices;
using Cairn.Base;

namespace Cairn.Btree;

internal static unsafe class PageFormat
{
    public const int HeaderBytes = 16;
    public const int ElementBytes = 16;
    public const int BucketBytes = 16;
    public const int TailBytes = 8;
    public const int KeyBytesMax = 32768;
    public const int ElementsMax = 0xFFFE;
    public const uint TailMagic = 0x506E7243; // "CrnP"

    public const ushort Branch = 0x01;
    public const ushort Leaf = 0x02;
    public const ushort Meta = 0x04;
    public const ushort Freelist = 0x10;

    /// <summary>Leaf element flag: the value is a bucket.</summary>
    public const uint BucketFlag = 0x01;

    /// <summary>Deeper than any tree of 2^48 pages; a walk that gets here runs in a circle.</summary>
    public const int DepthMax = 32;

    private const byte LayoutCheck = HeaderBytes == 8 + 2 + 2 + 4 && ElementBytes == 16 ? 0 : -1;

    public static ulong Id(byte* page) => Unsafe.ReadUnaligned<ulong>(page);

    public static ushort Flags(byte* page) => Unsafe.ReadUnaligned<ushort>(page + 8);

    public static int Count(byte* page) => Unsafe.ReadUnaligned<ushort>(page + 10);

    public static uint Overflow(byte* page) => Unsafe.ReadUnaligned<uint>(page + 12);

    public static bool IsLeaf(byte* page) => (Flags(page) & Leaf) != 0;

    public static void WriteHeader(byte* page, ulong id, ushort flags, int count, uint overflow)
    {
        Unsafe.WriteUnaligned(page, id);
        Unsafe.WriteUnaligned(page + 8, flags);
        Unsafe.WriteUnaligned(page + 10, (ushort)count);
        Unsafe.WriteUnaligned(page + 12, overflow);
    }

    public static byte* Element(byte* page, int index) => page + HeaderBytes + ((nint)index * ElementBytes);

    public static ReadOnlySpan<byte> BranchKey(byte* page, int index)
    {
        byte* element = Element(page, index);
        return new ReadOnlySpan<byte>(element + ReadUInt32(element), (int)ReadUInt32(element + 4));
    }

    public static ulong BranchChild(byte* page, int index) => Unsafe.ReadUnaligned<ulong>(Element(page, index) + 8);

    public static uint LeafFlags(byte* page, int index) => ReadUInt32(Element(page, index));

    public static ReadOnlySpan<byte> LeafKey(byte* page, int index)
    {
        byte* element = Element(page, index);
        return new ReadOnlySpan<byte>(element + ReadUInt32(element + 4), (int)ReadUInt32(element + 8));
    }

    public static ReadOnlySpan<byte> LeafValue(byte* page, int index) =>
        new(LeafValue(page, index, out int length), length);

    public static byte* LeafValue(byte* page, int index, out int length)
    {
        byte* element = Element(page, index);
        length = (int)ReadUInt32(element + 12);
        return element + ReadUInt32(element + 4) + ReadUInt32(element + 8);
    }

    public static uint ReadUInt32(byte* at) => Unsafe.ReadUnaligned<uint>(at);

    public static ulong ReadUInt64(byte* at) => Unsafe.ReadUnaligned<ulong>(at);

    /// <summary>The child of a branch page that covers a key: the last one whose key is not greater, else the first.</summary>
    public static int SearchBranch(byte* page, ReadOnlySpan<byte> key)
    {
        int low = 0;
        int high = Count(page);
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (BranchKey(page, middle).SequenceCompareTo(key) <= 0)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low == 0 ? 0 : low - 1;
    }

    /// <summary>The first element of a leaf page at or after a key; may be the count.</summary>
    public static int SearchLeaf(byte* page, ReadOnlySpan<byte> key, out bool exact)
    {
        int low = 0;
        int high = Count(page);
        exact = false;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            int order = LeafKey(page, middle).SequenceCompareTo(key);
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

    /// <summary>Puts magic and checksum into the last eight bytes of a finished page (all its overflow included).</summary>
    public static void Seal(byte* page, long bytes)
    {
        byte* tail = page + bytes - TailBytes;
        Unsafe.WriteUnaligned(tail, TailMagic);
        Unsafe.WriteUnaligned(tail + 4, Checksum(page, bytes));
    }

    public static uint Checksum(byte* page, long bytes)
    {
        uint crc = 0;
        long left = bytes - TailBytes;
        while (left > 0)
        {
            int part = (int)Math.Min(left, 1 << 30);
            crc = Crc32C.Append(crc, new ReadOnlySpan<byte>(page, part));
            page += part;
            left -= part;
        }

        return crc;
    }
}
