// WalFormat: the only place that knows names, numbers and limits of the log's files. Pure.
//
// A segment is a run of frames, each on an 8-byte border:
//   u64 little-endian   low 56 bits: record length n; top byte: 0, or 0x80 | p for p bytes of padding
//   n bytes             walpb.Record { 1 type, 2 crc, 3 data }, fields 1 and 2 always written
//   p bytes             zeros
// The crc of a record is CRC-32C over the data bytes of every record since the first segment, its own included;
// a crc record has no data and carries the running value over from the segment before.
// Source: etcd server/storage/wal (encoder.go, decoder.go), as described by the project's storage notes.
using System;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>walpb record types.</summary>
internal enum RecordType : byte
{
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

/// <summary>Names and constants.</summary>
internal static class WalFormat
{
    public const int FrameHeaderBytes = 8;
    public const int SectorBytes = 512;

    /// <summary>
    /// Field of a HardState record that etcd skips: every byte of this segment below the value was durable when the
    /// record was encoded. A value above the record's own offset is not ours and means nothing.
    /// </summary>
    public const int SyncedUpToField = 1000;

    /// <summary>
    /// Second such field, only in the head of a segment made by a start: the segment repeats every entry and snapshot
    /// record that stands in the segment before it at or above this offset. Damage there is no loss.
    /// </summary>
    public const int RepeatsFromField = 1001;

    /// <summary>No segment is longer than one batch above its nominal size; offsets in it fit an int.</summary>
    public const long MaxSegmentBytes = int.MaxValue - 4096;

    public const string SegmentSuffix = ".wal";
    public const string TemporarySuffix = ".tmp";
    public const string BrokenSuffix = ".broken";

    private const byte LayoutCheck = FrameHeaderBytes == sizeof(ulong) ? 0 : -1;

    public const int SegmentNameLength = 16 + 1 + 16 + 4;

    /// <summary>SEQUENCE-INDEX.wal, both as 16 hexadecimal digits.</summary>
    public static string SegmentName(ulong sequence, ulong firstIndex)
    {
        Span<char> name = stackalloc char[SegmentNameLength];
        WriteSegmentName(name, sequence, firstIndex);
        return name.ToString();
    }

    /// <summary>The same into <see cref="SegmentNameLength"/> characters.</summary>
    public static void WriteSegmentName(Span<char> name, ulong sequence, ulong firstIndex)
    {
        _ = sequence.TryFormat(name, out int first, "x16", CultureInfo.InvariantCulture);
        name[16] = '-';
        _ = firstIndex.TryFormat(name[17..], out int second, "x16", CultureInfo.InvariantCulture);
        SegmentSuffix.CopyTo(name[33..]);
        Invariant.Check(first == 16 && second == 16, "a segment's name has its length");
    }

    /// <summary>Reads a segment name; false for anything else.</summary>
    public static bool TryParseSegmentName(string name, out ulong sequence, out ulong firstIndex)
    {
        sequence = firstIndex = 0;
        return name.EndsWith(SegmentSuffix, StringComparison.Ordinal) &&
            TryParsePair(name.AsSpan(0, name.Length - SegmentSuffix.Length), out sequence, out firstIndex);
    }

    /// <summary>Reads HEX16-HEX16.</summary>
    public static bool TryParsePair(ReadOnlySpan<char> text, out ulong first, out ulong second)
    {
        first = second = 0;
        return text.Length == 33 && text[16] == '-' &&
            ulong.TryParse(text[..16], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out first) &&
            ulong.TryParse(text[17..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out second);
    }

    public static string Join(string directory, string name) =>
        directory.EndsWith('/') ? directory + name : directory + "/" + name;
}
