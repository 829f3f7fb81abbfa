// FrameReader: forward scan over the bytes of one segment, and the decoders of what records hold. Pure.
//
// Nothing is read outside the span, and no length is believed before it is compared with what is left. A reader that
// met anything but a record stays where it is: the caller decides what the damage means.
using System;
using System.Buffers.Binary;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>What stands at the reader's position.</summary>
internal enum FrameStatus : byte
{
    /// <summary>A record; the reader has moved behind it.</summary>
    Record,

    /// <summary>The file's end, or a length word of zero: nothing more was written here.</summary>
    End,

    /// <summary>The frame says it is longer than the file.</summary>
    CutShort,

    /// <summary>The frame does not decode, or its checksum is not that of the chain.</summary>
    Bad,

    /// <summary>A crc record that contradicts the segment before.</summary>
    ChainBroken,
}

/// <summary>One record; the data lives as long as the segment's bytes.</summary>
internal ref struct WalRecord
{
    public RecordType Type;

    public uint Crc;

    public ReadOnlySpan<byte> Data;

    /// <summary>Where the frame starts in the segment.</summary>
    public int Offset;
}

/// <summary>Reads frames one after the other.</summary>
internal ref struct FrameReader
{
    private readonly ReadOnlySpan<byte> _file;
    private readonly bool _verify;

    /// <param name="file">The segment from its first byte.</param>
    /// <param name="crc">Running checksum before <paramref name="position"/>.</param>
    /// <param name="position">Where to start.</param>
    /// <param name="verify">False: the bytes have been verified before.</param>
    public FrameReader(ReadOnlySpan<byte> file, uint crc, int position = 0, bool verify = true)
    {
        _file = file;
        _verify = verify;
        Crc = crc;
        Position = position;
    }

    /// <summary>Offset of the next frame.</summary>
    public int Position { get; private set; }

    /// <summary>Running checksum before <see cref="Position"/>.</summary>
    public uint Crc { get; private set; }

    /// <summary>The next record, or why there is none.</summary>
    public FrameStatus Read(out WalRecord record)
    {
        FrameStatus status = TryFrame(_file, Position, out record, out int next);
        if (status != FrameStatus.Record)
        {
            return status;
        }

        uint crc = Crc;
        if (record.Type == RecordType.Crc)
        {
            if (_verify && crc != 0 && crc != record.Crc)
            {
                return FrameStatus.ChainBroken;
            }

            crc = record.Crc;
        }
        else if (_verify)
        {
            crc = Crc32C.Append(crc, record.Data);
            if (crc != record.Crc)
            {
                return FrameStatus.Bad;
            }
        }
        else
        {
            crc = record.Crc;
        }

        Crc = crc;
        Position = next;
        return FrameStatus.Record;
    }

    /// <summary>Decodes the frame at an offset without looking at the checksum.</summary>
    public static FrameStatus TryFrame(ReadOnlySpan<byte> file, int offset, out WalRecord record, out int next)
    {
        record = default;
        next = offset;
        int left = file.Length - offset;
        if (left == 0)
        {
            return FrameStatus.End;
        }

        if (left < WalFormat.FrameHeaderBytes)
        {
            return FrameStatus.CutShort;
        }

        ulong word = BinaryPrimitives.ReadUInt64LittleEndian(file[offset..]);
        if (word == 0)
        {
            return FrameStatus.End;
        }

        ulong length = word & 0x00FF_FFFF_FFFF_FFFF;
        int padding = (word >> 63) != 0 ? (int)(word >> 56) & 7 : 0;
        if (length + (ulong)padding > (ulong)(left - WalFormat.FrameHeaderBytes))
        {
            return FrameStatus.CutShort;
        }

        int body = (int)length + padding;
        if ((body & 7) != 0 || !TryRecord(file.Slice(offset + WalFormat.FrameHeaderBytes, (int)length), out record))
        {
            return FrameStatus.Bad;
        }

        record.Offset = offset;
        next = offset + WalFormat.FrameHeaderBytes + body;
        return FrameStatus.Record;
    }

    /// <summary>
    /// etcd's sign of a torn write: cut at sector borders of the file, at least one piece of the frame's body is
    /// zeros only. Call only for a frame that is <see cref="FrameStatus.Bad"/>.
    /// </summary>
    public static bool IsTorn(ReadOnlySpan<byte> file, int offset)
    {
        ulong word = BinaryPrimitives.ReadUInt64LittleEndian(file[offset..]);
        int padding = (word >> 63) != 0 ? (int)(word >> 56) & 7 : 0;
        int start = offset + WalFormat.FrameHeaderBytes;
        int end = start + (int)(word & 0x00FF_FFFF_FFFF_FFFF) + padding;
        while (start < end)
        {
            int border = Math.Min(end, (start / WalFormat.SectorBytes * WalFormat.SectorBytes) + WalFormat.SectorBytes);
            if (!file[start..border].ContainsAnyExcept((byte)0))
            {
                return true;
            }

            start = border;
        }

        return false;
    }

    public static bool TryEntry(ReadOnlySpan<byte> data, out ulong term, out ulong index, out byte type, out ReadOnlySpan<byte> payload)
    {
        ProtoReader reader = new(data);
        ulong kind = 0;
        bool foreign = false;
        term = index = 0;
        payload = default;
        while (reader.NextField())
        {
            switch (reader.Field, reader.Wire)
            {
                case (1, WireType.Varint):
                    kind = reader.ReadVarint();
                    break;
                case (2, WireType.Varint):
                    term = reader.ReadVarint();
                    break;
                case (3, WireType.Varint):
                    index = reader.ReadVarint();
                    break;
                case (4, WireType.Bytes):
                    payload = reader.ReadBytes();
                    break;
                case ( >= 1 and <= 4, _):
                    reader.Fail();
                    break;
                default:
                    foreign = true;
                    reader.Skip();
                    break;
            }
        }

        // The checksum does not cover a record's type, so the content has to prove it: raft has no entry of term 0,
        // a ConfChange always has a body, and no entry has fields beyond the four.
        type = (byte)kind;
        return !reader.Failed && kind <= 2 && term != 0 && !foreign && (kind != 1 || !payload.IsEmpty);
    }

    /// <summary>A hard state; <paramref name="syncedUpTo"/> is -1 when the record carries no mark.</summary>
    public static bool TryState(ReadOnlySpan<byte> data, out WalHardState state, out long syncedUpTo)
    {
        ProtoReader reader = new(data);
        ulong term = 0;
        ulong vote = 0;
        ulong commit = 0;
        bool foreign = false;
        syncedUpTo = -1;
        while (reader.NextField())
        {
            switch (reader.Field, reader.Wire)
            {
                case (1, WireType.Varint):
                    term = reader.ReadVarint();
                    break;
                case (2, WireType.Varint):
                    vote = reader.ReadVarint();
                    break;
                case (3, WireType.Varint):
                    commit = reader.ReadVarint();
                    break;
                case (WalFormat.SyncedUpToField, WireType.Varint):
                    syncedUpTo = (long)Math.Min(reader.ReadVarint(), long.MaxValue);
                    break;
                case ( >= 1 and <= 3, _):
                    reader.Fail();
                    break;
                case (4, _):
                    foreign = true;
                    reader.Skip();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        // As for entries: an entry read as a state has a fourth field, or term 0 beside other values.
        state = new WalHardState(term, vote, commit);
        return !reader.Failed && !foreign && (term != 0 || state.IsEmpty);
    }

    /// <summary>The offset from which a segment repeats the one before it, or -1; reads its head only.</summary>
    public static long RepeatsFrom(ReadOnlySpan<byte> file)
    {
        FrameReader head = new(file, 0);
        for (int i = 0; i < 3 && head.Read(out WalRecord record) == FrameStatus.Record; i++)
        {
            if (record.Type != RecordType.State)
            {
                continue;
            }

            ProtoReader reader = new(record.Data);
            while (reader.NextField())
            {
                if (reader.Field == WalFormat.RepeatsFromField && reader.Wire == WireType.Varint)
                {
                    return (long)Math.Min(reader.ReadVarint(), long.MaxValue);
                }

                reader.Skip();
            }
        }

        return -1;
    }

    public static bool TrySnapshot(ReadOnlySpan<byte> data, out ulong index, out ulong term, out ReadOnlySpan<byte> confState)
    {
        ProtoReader reader = new(data);
        index = term = 0;
        confState = default;
        while (reader.NextField())
        {
            switch (reader.Field, reader.Wire)
            {
                case (1, WireType.Varint):
                    index = reader.ReadVarint();
                    break;
                case (2, WireType.Varint):
                    term = reader.ReadVarint();
                    break;
                case (3, WireType.Bytes):
                    confState = reader.ReadBytes();
                    break;
                case ( >= 1 and <= 3, _):
                    reader.Fail();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    private static bool TryRecord(ReadOnlySpan<byte> bytes, out WalRecord record)
    {
        record = default;
        ProtoReader reader = new(bytes);
        ulong type = 0;
        while (reader.NextField())
        {
            switch (reader.Field, reader.Wire)
            {
                case (1, WireType.Varint):
                    type = reader.ReadVarint();
                    break;
                case (2, WireType.Varint):
                    record.Crc = (uint)reader.ReadVarint();
                    break;
                case (3, WireType.Bytes):
                    record.Data = reader.ReadBytes();
                    break;
                case ( >= 1 and <= 3, _):
                    reader.Fail();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        record.Type = (RecordType)type;
        return !reader.Failed && type is >= (ulong)RecordType.Metadata and <= (ulong)RecordType.Snapshot &&
            (type != (ulong)RecordType.Crc || record.Data.IsEmpty);
    }
}
