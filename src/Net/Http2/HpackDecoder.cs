// HpackDecoder: header blocks of one connection, RFC 7541. Feeds each header to a RequestHead; allocates nothing.
//
// Thread     the connection's loop. The scratch memory is the loop's and holds the strings of one header at a time.
using System;

namespace Cairn.Net.Http2;

/// <summary>Decodes header blocks; keeps the dynamic table between them.</summary>
internal sealed class HpackDecoder
{
    private readonly HpackTable _table = new();

    /// <summary>The table, for tests.</summary>
    public HpackTable Table => _table;

    /// <summary>Decodes a complete block.</summary>
    /// <param name="block">The fragments of HEADERS and CONTINUATION, joined.</param>
    /// <param name="scratch">At least twice as large as the block, and 8 KiB.</param>
    /// <param name="head">Takes the headers; those beyond its limit are counted only.</param>
    /// <returns>False when the block is malformed: the connection cannot go on (COMPRESSION_ERROR).</returns>
    public bool TryDecode(ReadOnlySpan<byte> block, Span<byte> scratch, RequestHead head)
    {
        bool sizeAllowed = true;
        while (!block.IsEmpty)
        {
            byte first = block[0];
            if ((first & 0x80) != 0)
            {
                if (!TryReadInteger(ref block, 7, out int index) || !TryGet(index, out HeaderName known, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value))
                {
                    return false;
                }

                head.Add(known, name, value);
            }
            else if ((first & 0xe0) == 0x20)
            {
                if (!sizeAllowed || !TryReadInteger(ref block, 5, out int size) || size > HpackTable.Limit)
                {
                    return false;
                }

                _table.Resize(size);
                continue;
            }
            else if (!TryReadLiteral(ref block, (first & 0x40) != 0, scratch, head))
            {
                return false;
            }

            sizeAllowed = false;
        }

        return true;
    }

    /// <summary>Reads an integer of RFC 7541 section 5.1 off the front.</summary>
    public static bool TryReadInteger(scoped ref ReadOnlySpan<byte> source, int prefixBits, out int value)
    {
        int mask = (1 << prefixBits) - 1;
        value = source[0] & mask;
        source = source[1..];
        if (value < mask)
        {
            return true;
        }

        // Five more bytes at most, and never beyond 2^28: no table or string is that large.
        for (int shift = 0; shift <= 28; shift += 7)
        {
            if (source.IsEmpty)
            {
                return false;
            }

            byte next = source[0];
            source = source[1..];
            long sum = value + ((long)(next & 0x7f) << shift);
            if (sum > 1 << 28)
            {
                return false;
            }

            value = (int)sum;
            if ((next & 0x80) == 0)
            {
                return true;
            }
        }

        return false;
    }

    private bool TryReadLiteral(ref ReadOnlySpan<byte> block, bool indexed, Span<byte> scratch, RequestHead head)
    {
        if (!TryReadInteger(ref block, indexed ? 6 : 4, out int index))
        {
            return false;
        }

        HeaderName known;
        ReadOnlySpan<byte> name;
        if (index == 0)
        {
            if (!TryReadString(ref block, ref scratch, out name))
            {
                return false;
            }

            known = HeaderNames.Find(name);
        }
        else
        {
            if (!TryGet(index, out known, out name, out _))
            {
                return false;
            }

            if (indexed && index > HeaderNames.StaticCount)
            {
                // The insertion may drop or move the entry the name comes from.
                name.CopyTo(scratch);
                name = scratch[..name.Length];
                scratch = scratch[name.Length..];
            }
        }

        if (!TryReadString(ref block, ref scratch, out ReadOnlySpan<byte> value))
        {
            return false;
        }

        head.Add(known, name, value);
        if (indexed)
        {
            _table.Insert(known, name, value);
        }

        return true;
    }

    private static bool TryReadString(
        scoped ref ReadOnlySpan<byte> block, scoped ref Span<byte> scratch, out ReadOnlySpan<byte> text)
    {
        text = default;
        if (block.IsEmpty)
        {
            return false;
        }

        bool packed = (block[0] & 0x80) != 0;
        if (!TryReadInteger(ref block, 7, out int length) || length > block.Length)
        {
            return false;
        }

        text = block[..length];
        block = block[length..];
        if (!packed)
        {
            return true;
        }

        if (!Huffman.TryDecode(text, scratch, out int written))
        {
            return false;
        }

        text = scratch[..written];
        scratch = scratch[written..];
        return true;
    }

    private bool TryGet(int index, out HeaderName known, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        if (index > HeaderNames.StaticCount)
        {
            return _table.TryGet(index - HeaderNames.StaticCount - 1, out known, out name, out value);
        }

        if (index == 0)
        {
            known = HeaderName.Other;
            name = default;
            value = default;
            return false;
        }

        known = HeaderNames.StaticKnown(index);
        name = HeaderNames.StaticName(index);
        value = HeaderNames.StaticValue(index);
        return true;
    }
}
