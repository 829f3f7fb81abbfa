// MetaPage: the two pages 0 and 1 that say where everything else is. Pure.
//
// A commit with number T writes page T mod 2 and nothing else in place, so the state before it stays intact.
// Layout    after the page header: magic u32 | version u32 | page size u32 | flags u32 | root page u64 |
//           root sequence u64 | freelist page u64 | high-water mark u64 | txid u64 | FNV-1a of these 56 bytes
using System;
using System.Buffers.Binary;
using System.Globalization;

namespace Cairn.Btree;

/// <summary>The fields of one valid meta page.</summary>
internal readonly struct MetaPage
{
    public const uint Magic = 0xED0CDAED;
    public const uint Version = 2;
    public const ulong NoFreelist = ulong.MaxValue;
    public const int Bytes = PageFormat.HeaderBytes + 64;

    public int PageSize { get; init; }

    public ulong RootPage { get; init; }

    public ulong Sequence { get; init; }

    public ulong FreelistPage { get; init; }

    public ulong HighWater { get; init; }

    public ulong TxId { get; init; }

    /// <summary>Writes header and fields; the rest of the page must be zero already.</summary>
    public void Write(Span<byte> page, ulong id)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(page, id);
        BinaryPrimitives.WriteUInt16LittleEndian(page[8..], PageFormat.Meta);
        BinaryPrimitives.WriteUInt16LittleEndian(page[10..], 0);
        BinaryPrimitives.WriteUInt32LittleEndian(page[12..], 0);
        Span<byte> meta = page[PageFormat.HeaderBytes..];
        BinaryPrimitives.WriteUInt32LittleEndian(meta, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(meta[4..], Version);
        BinaryPrimitives.WriteInt32LittleEndian(meta[8..], PageSize);
        BinaryPrimitives.WriteUInt32LittleEndian(meta[12..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[16..], RootPage);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[24..], Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[32..], FreelistPage);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[40..], HighWater);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[48..], TxId);
        BinaryPrimitives.WriteUInt64LittleEndian(meta[56..], Fnv1A(meta[..56]));
    }

    /// <summary>Reads a meta; on failure says which rule is broken, what it wants and what is there.</summary>
    public static bool TryRead(ReadOnlySpan<byte> page, out MetaPage meta, out (string What, string Expected, string Found) fault)
    {
        meta = default;
        if (page.Length < Bytes)
        {
            fault = ("meta page", $"{Bytes} bytes", $"{page.Length} bytes");
            return false;
        }

        ReadOnlySpan<byte> m = page[PageFormat.HeaderBytes..Bytes];
        uint magic = BinaryPrimitives.ReadUInt32LittleEndian(m);
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(m[4..]);
        ulong checksum = BinaryPrimitives.ReadUInt64LittleEndian(m[56..]);
        ulong computed = Fnv1A(m[..56]);
        if (magic != Magic)
        {
            fault = ("meta magic", Hex(Magic), Hex(magic));
            return false;
        }

        if (version != Version)
        {
            fault = ("meta format version", Version.ToString(CultureInfo.InvariantCulture), version.ToString(CultureInfo.InvariantCulture));
            return false;
        }

        if (checksum != computed)
        {
            fault = ("meta checksum", Hex(computed), Hex(checksum));
            return false;
        }

        int pageSize = BinaryPrimitives.ReadInt32LittleEndian(m[8..]);
        if (pageSize < 512 || pageSize > 1 << 24 || (pageSize & (pageSize - 1)) != 0)
        {
            fault = ("meta page size", "a power of two from 512 to 16 MiB", pageSize.ToString(CultureInfo.InvariantCulture));
            return false;
        }

        meta = new MetaPage
        {
            PageSize = pageSize,
            RootPage = BinaryPrimitives.ReadUInt64LittleEndian(m[16..]),
            Sequence = BinaryPrimitives.ReadUInt64LittleEndian(m[24..]),
            FreelistPage = BinaryPrimitives.ReadUInt64LittleEndian(m[32..]),
            HighWater = BinaryPrimitives.ReadUInt64LittleEndian(m[40..]),
            TxId = BinaryPrimitives.ReadUInt64LittleEndian(m[48..]),
        };
        fault = default;
        return true;
    }

    private static string Hex(ulong value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);

    private static ulong Fnv1A(ReadOnlySpan<byte> data)
    {
        ulong hash = 0xcbf29ce484222325;
        foreach (byte b in data)
        {
            hash = (hash ^ b) * 0x100000001b3;
        }

        return hash;
    }
}
