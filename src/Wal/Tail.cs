// Tail: decides what the end of the last segment means. Pure.
//
//   what stands at the first bad offset p        segment of ours (last state marked)   segment of etcd
//   a state behind p says "synced up to > p"     corrupt                               corrupt
//   end of file or zero word, zeros behind       clean                                 clean
//   zero word, something behind                  torn                                  clean, junk is zeroed
//   frame longer than the file                   torn                                  torn
//   bad frame with an all-zero sector piece      torn                                  torn
//   bad frame otherwise                          torn                                  corrupt
//   crc record against the segment before        corrupt                               corrupt
//   intact record that makes no sense            corrupt                               corrupt
//
// Why the mark decides: the WAL thread writes batch n+1 only when batch n is durable, and every batch ends with a
// state record that says up to where. So damage above the largest mark is a batch that was never acknowledged, and
// damage below it is loss of something that may have been. Valid frames behind a hole are no proof of anything else
// than what their marks say: the pages of one unsynced batch may reach the disk in any order.
// Blind spot: the last batch has no later witness until the WAL thread, after a quiet moment, states it once more.
using System;
using System.Buffers.Binary;
using System.Globalization;

namespace Cairn.Wal;

/// <summary>What to do with the last segment.</summary>
internal enum TailVerdict : byte
{
    /// <summary>Nothing but zeros behind the last record.</summary>
    Clean,

    /// <summary>Something unimportant behind the last record: remove it without a word.</summary>
    Junk,

    /// <summary>A write that never completed: copy the file aside, cut.</summary>
    Torn,

    /// <summary>Refuse to start.</summary>
    Corrupt,
}

internal static class Tail
{
    /// <summary>Judges the end of a scan of the last segment.</summary>
    /// <param name="image">The segment.</param>
    /// <param name="scan">How its scan ended.</param>
    /// <param name="found">For <see cref="TailVerdict.Corrupt"/>: what was found.</param>
    public static TailVerdict Judge(SegmentImage image, in SegmentScan scan, out string found)
    {
        found = "";
        if (scan.Fault != null)
        {
            found = scan.Fault;
            return TailVerdict.Corrupt;
        }

        if (scan.Status == FrameStatus.ChainBroken)
        {
            found = "the checksum carried over from the segment before does not match its content";
            return TailVerdict.Corrupt;
        }

        int witness = LargestMarkBehind(image.Bytes, scan.End, image.UsedEnd);
        if (witness > scan.End)
        {
            found = string.Create(
                CultureInfo.InvariantCulture,
                $"{Describe(scan.Status)}, but a later record says that everything below offset {witness} had been synced: the data was damaged after it was written");
            return TailVerdict.Corrupt;
        }

        switch (scan.Status)
        {
            case FrameStatus.End:
                return image.UsedEnd <= scan.End ? TailVerdict.Clean
                    : scan.Marked == true ? TailVerdict.Torn
                    : TailVerdict.Junk;
            case FrameStatus.CutShort:
                return TailVerdict.Torn;
            default:
                if (scan.Marked == true || FrameReader.IsTorn(image.Bytes, scan.End))
                {
                    return TailVerdict.Torn;
                }

                found = "checksum mismatch (walpb: crc mismatch) in a record that was written completely";
                return TailVerdict.Corrupt;
        }
    }

    /// <summary>What a scan's end looks like to an operator.</summary>
    public static string Describe(FrameStatus status) => status switch
    {
        FrameStatus.Record => "a record",
        FrameStatus.End => "no record where one must be",
        FrameStatus.CutShort => "a record longer than the rest of the file",
        FrameStatus.Bad => "a record that does not match its checksum (walpb: crc mismatch)",
        FrameStatus.ChainBroken => "a checksum that does not match the segment before",
        _ => throw new ArgumentOutOfRangeException(nameof(status)),
    };

    /// <summary>
    /// Looks at every 8-byte border behind an offset for a state record of ours. The chain is broken there, so the
    /// record is known by its exact form: a canonical frame whose mark is not above its own offset.
    /// </summary>
    private static int LargestMarkBehind(ReadOnlySpan<byte> file, int offset, int usedEnd)
    {
        int largest = -1;
        int at = (offset + 7) & ~7;
        while (at + WalFormat.FrameHeaderBytes <= usedEnd)
        {
            ulong word = BinaryPrimitives.ReadUInt64LittleEndian(file[at..]);
            if (word == 0)
            {
                // Zeros are skipped quickly: most of a segment is prepared space.
                int next = file[at..usedEnd].IndexOfAnyExcept((byte)0);
                if (next < 0)
                {
                    break;
                }

                at += next & ~7;
                continue;
            }

            ulong length = word & 0x00FF_FFFF_FFFF_FFFF;
            if (length is >= 14 and <= 80 &&
                FrameReader.TryFrame(file, at, out WalRecord record, out int end) == FrameStatus.Record &&
                record.Type == RecordType.State &&
                IsCanonical(file[at..end], record, out long mark) && mark <= at)
            {
                largest = Math.Max(largest, (int)mark);
                at = end;
                continue;
            }

            at += 8;
        }

        return largest;
    }

    private static bool IsCanonical(ReadOnlySpan<byte> frame, in WalRecord record, out long mark)
    {
        if (!FrameReader.TryState(record.Data, out WalHardState state, out mark) || mark < 0)
        {
            return false;
        }

        Span<byte> expected = stackalloc byte[128];
        int length = StateFrame.Write(expected, record.Crc, state, mark);
        return frame.SequenceEqual(expected[..length]);
    }
}

/// <summary>The exact frame of a marked state record, written the slow and obvious way for comparison.</summary>
internal static class StateFrame
{
    public static int Write(Span<byte> into, uint crc, in WalHardState state, long mark)
    {
        Base.ProtoWriter inner = new(new byte[64]);
        inner.WriteVarintField(1, state.Term);
        inner.WriteVarintField(2, state.Vote);
        inner.WriteVarintField(3, state.Commit);
        inner.WriteVarintField(WalFormat.SyncedUpToField, (ulong)mark);
        Base.ProtoWriter writer = new(into[WalFormat.FrameHeaderBytes..]);
        writer.WriteVarintField(1, (ulong)RecordType.State);
        writer.WriteVarintField(2, crc);
        writer.WriteBytesField(3, inner.Written);
        int padding = -writer.Position & 7;
        into.Slice(WalFormat.FrameHeaderBytes + writer.Position, padding).Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(
            into, (uint)writer.Position | (padding == 0 ? 0 : (ulong)(0x80 | padding) << 56));
        return WalFormat.FrameHeaderBytes + writer.Position + padding;
    }
}
