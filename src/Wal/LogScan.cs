// LogScan: reads segments in order and keeps what a member needs from them. Pure but for its own memory.
//
// The rules are etcd's ReadAll: a later entry with an index already seen replaces it and everything after it; the
// last hard state wins; all metadata records are the same bytes; a snapshot record at the start index has its term.
// What the end of a scan means (clean, torn, corrupt) is decided by Tail, not here.
using System;
using System.Collections.Generic;
using System.Globalization;

namespace Cairn.Wal;

/// <summary>How a segment's scan ended.</summary>
/// <param name="Status">Never <see cref="FrameStatus.Record"/>.</param>
/// <param name="End">End of the last good record.</param>
/// <param name="Marked">True if the last state record before the end carries our mark, null if there is no state record.</param>
/// <param name="SyncedUpTo">The largest mark seen in the segment.</param>
/// <param name="Fault">A record that is intact and yet makes no sense; null in all usual cases.</param>
internal readonly record struct SegmentScan(FrameStatus Status, int End, bool? Marked, int SyncedUpTo, string? Fault);

/// <summary>Collects over all segments.</summary>
internal sealed class LogScan
{
    private readonly WalSnapshotMark _start;
    private readonly WalRecovery? _recovery;
    private readonly SparseIndex? _index;
    private SparsePoint _lastPoint;
    private byte[]? _metadata;
    private ulong _lastRead;

    /// <param name="start">Entries at or below its index are left out.</param>
    /// <param name="recovery">Receives the entries; null to look at everything else only.</param>
    /// <param name="index">Receives where the entries stand; may be null.</param>
    public LogScan(WalSnapshotMark start, WalRecovery? recovery, SparseIndex? index)
    {
        _start = start;
        _recovery = recovery;
        _index = index;
        LastIndex = start.Index;
    }

    /// <summary>Running checksum at the end of the last segment.</summary>
    public uint Crc { get; private set; }

    public WalHardState State { get; private set; }

    public ulong LastIndex { get; private set; }

    public bool StartFound { get; private set; }

    public byte[]? Metadata => _metadata;

    /// <summary>Every snapshot record seen, in file order.</summary>
    public List<WalSnapshotMark> Snapshots { get; } = [];

    /// <summary>Lets the next segment's crc record say where the chain stands: it repeats what the last one lost.</summary>
    public void AcceptNextChain() => Crc = 0;

    /// <summary>Reads one segment to its end or its first damage.</summary>
    public unsafe SegmentScan Read(SegmentImage image, ulong sequence)
    {
        FrameReader reader = new(image.Bytes, Crc);
        bool? marked = null;
        int syncedUpTo = 0;
        for (int number = 0; ; number++)
        {
            uint crcBefore = reader.Crc;
            FrameStatus status = reader.Read(out WalRecord record);
            if (status != FrameStatus.Record)
            {
                Crc = reader.Crc;
                return new SegmentScan(status, reader.Position, marked, syncedUpTo, null);
            }

            string? fault = Misplaced(record.Type, number);
            switch (record.Type)
            {
                case var _ when fault != null:
                    break;
                case RecordType.Metadata:
                    fault = OnMetadata(record.Data);
                    break;
                case RecordType.Entry:
                    fault = OnEntry(record, image.Data, sequence, crcBefore);
                    break;
                case RecordType.State:
                    if (FrameReader.TryState(record.Data, out WalHardState state, out long mark) && state.Term >= State.Term)
                    {
                        // A mark from the future of its own record was copied here by somebody else.
                        State = state;
                        marked = mark >= 0 && mark <= record.Offset;
                        syncedUpTo = marked.Value ? Math.Max(syncedUpTo, (int)mark) : syncedUpTo;
                    }
                    else
                    {
                        fault = "a hard state with a good checksum makes no sense";
                    }

                    break;
                case RecordType.Snapshot:
                    fault = OnSnapshot(record.Data);
                    break;
                case RecordType.Crc:
                    break;
            }

            if (fault != null)
            {
                return new SegmentScan(FrameStatus.Bad, record.Offset, marked, syncedUpTo, fault);
            }
        }
    }

    /// <summary>A segment opens with a crc record and a metadata record, and has no other of the two.</summary>
    private static string? Misplaced(RecordType type, int number)
    {
        bool right = number switch
        {
            0 => type == RecordType.Crc,
            1 => type == RecordType.Metadata,
            _ => type is not (RecordType.Crc or RecordType.Metadata),
        };
        return right ? null : string.Create(CultureInfo.InvariantCulture, $"record {number} of the segment has type {(int)type}, which no segment has there");
    }

    private string? OnMetadata(ReadOnlySpan<byte> data)
    {
        if (_metadata == null)
        {
            _metadata = data.ToArray();
            return null;
        }

        return data.SequenceEqual(_metadata) ? null : "metadata differs from that of an earlier segment: files of two logs are mixed";
    }

    private unsafe string? OnEntry(in WalRecord record, byte* image, ulong sequence, uint crcBefore)
    {
        if (!FrameReader.TryEntry(record.Data, out ulong term, out ulong index, out byte type, out ReadOnlySpan<byte> payload))
        {
            return "an entry with a good checksum makes no sense";
        }

        if (index <= _start.Index)
        {
            return null;
        }

        // A gap in the middle of the log is what a lost record looks like; terms never fall along the log.
        if (_recovery != null && !_recovery.Accepts(index, term, _start.Index))
        {
            return string.Create(CultureInfo.InvariantCulture, $"entry {index} of term {term} does not follow the entries before it");
        }

        if (_index != null)
        {
            if (SparseIndex.Wants(_lastPoint, sequence, record.Offset, index, _lastRead))
            {
                _lastPoint = new SparsePoint(index, sequence, record.Offset, crcBefore, _lastRead);
                _index.Add(_lastPoint);
            }

            _index.SetLast(index);
        }

        _lastRead = index;
        LastIndex = index;
        if (_recovery == null)
        {
            return null;
        }

        // SAFETY: the payload is a slice of the image, whose memory the recovery takes over and keeps.
        WalEntry entry = new() { Term = term, Index = index, Type = type, Length = payload.Length };
        if (payload.Length != 0)
        {
            ref byte first = ref System.Runtime.InteropServices.MemoryMarshal.GetReference(payload);
            entry.Data = (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref first);
            System.Diagnostics.Debug.Assert(entry.Data >= image + record.Offset, "payloads lie inside the image");
        }

        _recovery.Place(entry, _start.Index);
        return null;
    }

    private string? OnSnapshot(ReadOnlySpan<byte> data)
    {
        if (!FrameReader.TrySnapshot(data, out ulong index, out ulong term, out ReadOnlySpan<byte> confState))
        {
            return "a snapshot record with a good checksum does not decode";
        }

        Snapshots.Add(new WalSnapshotMark(index, term) { ConfState = confState.ToArray() });
        if (index != _start.Index)
        {
            return null;
        }

        StartFound |= term == _start.Term;
        return term == _start.Term
            ? null
            : string.Create(CultureInfo.InvariantCulture, $"snapshot record {index} has term {term}, the snapshot that was loaded has term {_start.Term}");
    }
}
