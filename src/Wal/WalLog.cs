// WalLog: an open log: its segments, the position of the next record, and the slot of the prepared next segment.
//
// Thread     built by the opening thread, then: fields of the writer belong to wal; the prepared slot is swapped
//            between walfill (puts) and wal (takes); ReadEntries is for any thread.
// Invariants Synced <= Position <= length of the file in use; bytes at and above Position are zero.
using System;
using System.Threading;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>The segments of one member and the position where the next record goes.</summary>
public sealed class WalLog : IDisposable
{
    private readonly byte[] _metadata;
    private PreparedSegment? _prepared; // put by walfill, taken by wal, both with one interlocked instruction
    private Filling? _filling; // written by wal, read by walfill
    private ulong _releaseIndex;
    private long _position;

    internal WalLog(IFileSystem files, string directory, byte[] metadata, WalOptions options, SparseIndex index, SegmentTable segments)
    {
        Files = files;
        Directory = directory;
        _metadata = metadata;
        Options = options;
        Index = index;
        Segments = segments;
    }

    /// <summary>The log directory.</summary>
    public string Directory { get; }

    /// <summary>Metadata bytes as recorded.</summary>
    public ReadOnlyMemory<byte> Metadata => _metadata;

    /// <summary>Last entry that is in the files and durable (or the start snapshot). Any thread.</summary>
    public ulong LastIndex => Index.LastIndex;

    internal IFileSystem Files { get; }

    internal WalOptions Options { get; }

    internal SparseIndex Index { get; }

    internal SegmentTable Segments { get; }

    /// <summary>The segment in use (wal).</summary>
    internal IFile File { get; private set; } = null!;

    /// <summary>Its sequence number (wal).</summary>
    internal ulong Sequence { get; private set; }

    /// <summary>Where the next frame goes (wal writes it, walfill looks how far it is).</summary>
    internal long Position
    {
        get => Volatile.Read(ref _position);
        set => Volatile.Write(ref _position, value);
    }

    /// <summary>Below this offset the segment is durable (wal).</summary>
    internal long Synced { get; set; }

    /// <summary>End of the head of the segment: a segment with nothing behind it is not cut (wal).</summary>
    internal long HeadEnd { get; private set; }

    /// <summary>Running checksum (wal).</summary>
    internal uint Crc { get; set; }

    /// <summary>Last entry written or snapshot taken over (wal).</summary>
    internal ulong LastWritten { get; set; }

    /// <summary>The last hard state written (wal).</summary>
    internal WalHardState State { get; set; }

    /// <summary>Zeros still being put into the segment in use; null when it was prepared in full.</summary>
    internal Filling? CurrentFilling => Volatile.Read(ref _filling);

    /// <summary>Wakes the fill thread after a cut.</summary>
    internal IWaker? FillWaker { get; set; }

    /// <summary>
    /// Reads entries back from segment files: <paramref name="lo"/> inclusive, <paramref name="hi"/> exclusive, at
    /// least one if there is any, stopping after <paramref name="maxBytes"/>. Blocks on the disk: for a slow thread.
    /// What raft replaces meanwhile may be delivered in its old form: the caller compares terms with what it knows.
    /// </summary>
    public WalReadStatus ReadEntries(ulong lo, ulong hi, long maxBytes, WalEntryBuffer into) =>
        WalReader.Read(this, lo, hi, maxBytes, into);

    /// <summary>Closes and unlocks everything and removes the prepared next segment. The actors must have ended.</summary>
    public void Dispose()
    {
        Segments.CloseAll();
        PreparedSegment? prepared = TakePrepared();
        if (prepared != null)
        {
            prepared.Segment.File.Dispose();
            WalDirectory.RemoveTemporaries(Files, Directory, Options.Warn);
        }
    }

    /// <summary>Makes a durable, named segment the one in use.</summary>
    /// <param name="segment">Named, locked, its head durable.</param>
    /// <param name="previousEnd">Used length of the segment before, which walfill truncates; -1 if there is nothing to do.</param>
    /// <param name="headEnd">See <see cref="HeadEnd"/>.</param>
    /// <param name="filling">Its space still to be filled with zeros, or null.</param>
    internal void Use(Segment segment, long previousEnd, long headEnd, Filling? filling)
    {
        Segments.Add(segment, previousEnd);
        File = segment.File;
        Sequence = segment.Sequence;
        HeadEnd = headEnd;
        Volatile.Write(ref _filling, filling);
    }

    /// <summary>walfill: true while a prepared segment waits.</summary>
    internal bool HasPrepared => Volatile.Read(ref _prepared) != null;

    /// <summary>walfill: offers a complete next segment.</summary>
    internal void OfferPrepared(PreparedSegment prepared) =>
        Invariant.Check(Interlocked.CompareExchange(ref _prepared, prepared, null) == null, "one segment is prepared at a time");

    /// <summary>wal: takes the prepared segment, if there is one.</summary>
    internal PreparedSegment? TakePrepared() => Interlocked.Exchange(ref _prepared, null);

    /// <summary>wal: entries at or below may go.</summary>
    internal void RequestRelease(ulong index)
    {
        if (index > Volatile.Read(ref _releaseIndex))
        {
            Volatile.Write(ref _releaseIndex, index);
            FillWaker?.Wake();
        }
    }

    /// <summary>walfill: the highest index released so far.</summary>
    internal ulong ReleaseIndex => Volatile.Read(ref _releaseIndex);
}

/// <summary>A file of zeros, allocated and locked, still under a temporary name.</summary>
/// <param name="Segment">Open for writing, not yet named.</param>
/// <param name="TemporaryPath">Its name until it is taken into use.</param>
/// <param name="Filling">Null when every byte was written; else what is left to fill.</param>
internal sealed record PreparedSegment(Segment Segment, string TemporaryPath, Filling? Filling);

/// <summary>A segment in use whose space walfill is still turning into real zeros.</summary>
internal sealed record Filling(IFile File, FillFrontier Frontier);
