// PageCheck: whether the bytes of one branch or leaf page can be believed. Pure.
//
// Every length and position is compared with the page before it is followed, so that readers behind it can use
// plain pointers. It runs once for each page after it was mapped or rewritten (see PageMap), not at each visit.
// Rules across pages (bounds given by the parent, pages referenced twice) belong to TreeWalk.
using System;
using System.Globalization;

namespace Cairn.Btree;

/// <summary>A broken rule and where in the page it was seen.</summary>
internal sealed record PageFault(long OffsetInPage, string What, string Expected, string Found);

internal static unsafe class PageCheck
{
    /// <summary>The header alone: enough to know how many pages belong to it.</summary>
    public static PageFault? Header(byte* page, ulong id, ulong highWater)
    {
        if (PageFormat.Id(page) != id)
        {
            return new PageFault(0, "page id", Text(id), Text(PageFormat.Id(page)));
        }

        ushort flags = PageFormat.Flags(page);
        if (flags is not (PageFormat.Branch or PageFormat.Leaf))
        {
            return new PageFault(8, "page flags", "1 (branch) or 2 (leaf)", Text(flags));
        }

        if (PageFormat.Overflow(page) >= highWater - id)
        {
            return new PageFault(12, "overflow pages", $"less than {highWater - id}, the distance to the high-water mark", Text(PageFormat.Overflow(page)));
        }

        return null;
    }

    /// <summary>Elements and checksum of a page whose header is good; <paramref name="bytes"/> includes the overflow.</summary>
    public static PageFault? Body(byte* page, long bytes, ulong highWater)
    {
        PageFault? fault = PageFormat.IsLeaf(page)
            ? LeafElements(page, bytes, highWater, isInline: false, out long end)
            : BranchElements(page, bytes, highWater, out end);
        if (fault is not null)
        {
            return fault;
        }

        byte* tail = page + bytes - PageFormat.TailBytes;
        if (end <= bytes - PageFormat.TailBytes && PageFormat.ReadUInt32(tail) == PageFormat.TailMagic)
        {
            uint computed = PageFormat.Checksum(page, bytes);
            uint stored = PageFormat.ReadUInt32(tail + 4);
            if (stored != computed)
            {
                return new PageFault(bytes - 4, "page checksum", "0x" + computed.ToString("x8", CultureInfo.InvariantCulture), "0x" + stored.ToString("x8", CultureInfo.InvariantCulture));
            }
        }

        return null;
    }

    private static PageFault? BranchElements(byte* page, long bytes, ulong highWater, out long end)
    {
        int count = PageFormat.Count(page);
        end = PageFormat.HeaderBytes + ((long)count * PageFormat.ElementBytes);
        if (count is 0 or > PageFormat.ElementsMax || end > bytes)
        {
            return new PageFault(10, "branch element count", $"1 to {Room(bytes)}", Text((ulong)count));
        }

        long table = end;
        ReadOnlySpan<byte> previous = default;
        for (int i = 0; i < count; i++)
        {
            long at = PageFormat.HeaderBytes + ((long)i * PageFormat.ElementBytes);
            byte* element = page + at;
            PageFault? fault = Key(at, PageFormat.ReadUInt32(element), PageFormat.ReadUInt32(element + 4), 0, table, bytes);
            if (fault is not null)
            {
                return fault;
            }

            ReadOnlySpan<byte> key = PageFormat.BranchKey(page, i);
            if (i > 0 && previous.SequenceCompareTo(key) >= 0)
            {
                return Order(at, previous, key);
            }

            ulong child = PageFormat.BranchChild(page, i);
            if (child < 2 || child >= highWater)
            {
                return new PageFault(at + 8, "child page", $"2 to {highWater - 1}", Text(child));
            }

            previous = key;
            end = Math.Max(end, at + PageFormat.ReadUInt32(element) + key.Length);
        }

        return null;
    }

    private static PageFault? LeafElements(byte* page, long bytes, ulong highWater, bool isInline, out long end)
    {
        int count = PageFormat.Count(page);
        end = PageFormat.HeaderBytes + ((long)count * PageFormat.ElementBytes);
        if (count > PageFormat.ElementsMax || end > bytes)
        {
            return new PageFault(10, "leaf element count", $"0 to {Room(bytes)}", Text((ulong)count));
        }

        long table = end;
        ReadOnlySpan<byte> previous = default;
        for (int i = 0; i < count; i++)
        {
            long at = PageFormat.HeaderBytes + ((long)i * PageFormat.ElementBytes);
            byte* element = page + at;
            uint flags = PageFormat.ReadUInt32(element);
            if (flags > (isInline ? 0u : PageFormat.BucketFlag))
            {
                return new PageFault(at, "leaf element flags", isInline ? "0 (an inline bucket holds no bucket)" : "0 or 1", Text(flags));
            }

            uint valueBytes = PageFormat.ReadUInt32(element + 12);
            PageFault? fault = Key(at, PageFormat.ReadUInt32(element + 4), PageFormat.ReadUInt32(element + 8), valueBytes, table, bytes);
            if (fault is not null)
            {
                return fault;
            }

            ReadOnlySpan<byte> key = PageFormat.LeafKey(page, i);
            if (i > 0 && previous.SequenceCompareTo(key) >= 0)
            {
                return Order(at, previous, key);
            }

            if (flags == PageFormat.BucketFlag)
            {
                byte* value = PageFormat.LeafValue(page, i, out int length);
                fault = Bucket(value, length, highWater);
                if (fault is not null)
                {
                    return fault with { OffsetInPage = fault.OffsetInPage + (value - page) };
                }
            }

            previous = key;
            end = Math.Max(end, at + PageFormat.ReadUInt32(element + 4) + key.Length + valueBytes);
        }

        return null;
    }

    private static PageFault? Bucket(byte* value, int length, ulong highWater)
    {
        if (length < PageFormat.BucketBytes)
        {
            return new PageFault(0, "bucket header", $"{PageFormat.BucketBytes} bytes", $"{length} bytes");
        }

        ulong root = PageFormat.ReadUInt64(value);
        if (root != 0)
        {
            return root >= 2 && root < highWater ? null : new PageFault(0, "bucket root page", $"2 to {highWater - 1}", Text(root));
        }

        byte* page = value + PageFormat.BucketBytes;
        long bytes = length - PageFormat.BucketBytes;
        if (bytes < PageFormat.HeaderBytes)
        {
            return new PageFault(PageFormat.BucketBytes, "inline page", $"at least {PageFormat.HeaderBytes} bytes", $"{bytes} bytes");
        }

        if (PageFormat.Flags(page) != PageFormat.Leaf)
        {
            return new PageFault(PageFormat.BucketBytes + 8, "inline page flags", "2 (leaf)", Text(PageFormat.Flags(page)));
        }

        PageFault? fault = LeafElements(page, bytes, highWater, isInline: true, out _);
        return fault is null ? null : fault with { OffsetInPage = fault.OffsetInPage + PageFormat.BucketBytes };
    }

    private static PageFault? Key(long at, uint position, uint keyBytes, uint valueBytes, long table, long bytes)
    {
        if (keyBytes is 0 or > PageFormat.KeyBytesMax)
        {
            return new PageFault(at, "key size", $"1 to {PageFormat.KeyBytesMax}", Text(keyBytes));
        }

        long start = at + position;
        if (start < table || valueBytes > int.MaxValue || start + keyBytes + valueBytes > bytes)
        {
            return new PageFault(at, "key and value position", $"inside {table} to {bytes} of the page", $"{start} to {start + keyBytes + valueBytes}");
        }

        return null;
    }

    private static PageFault Order(long at, ReadOnlySpan<byte> previous, ReadOnlySpan<byte> key) =>
        new(at, "key order", "a key after " + Show(previous), Show(key));

    internal static string Show(ReadOnlySpan<byte> key) =>
        key.Length <= 40 ? Convert.ToHexStringLower(key) : Convert.ToHexStringLower(key[..40]) + "...";

    private static long Room(long bytes) =>
        Math.Min(PageFormat.ElementsMax, (bytes - PageFormat.HeaderBytes) / PageFormat.ElementBytes);

    private static string Text(ulong value) => value.ToString(CultureInfo.InvariantCulture);
}
