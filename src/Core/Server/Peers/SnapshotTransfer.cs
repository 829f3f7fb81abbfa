// SnapshotTransfer: the two ends of a snapshot on its way to a peer. The transport moves bytes between them.
//
// Image      The tree file as of one durable commit (Btree ReadImage), nothing else: index, term, configuration and
//            members are in it, and the message repeats the first three.
// Checksum   CRC-32C over all bytes, given at the end; a short, long or different image is thrown away.
// Pace       NextReadNs says when the next piece may be read, so that a snapshot leaves room on disk and link.
using System;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>The sender's end. One thread at a time; may touch the disk.</summary>
public interface ISnapshotSource : IDisposable
{
    /// <summary>The message to be sent with it: To, Index, LogTerm, Term and SnapshotState are those of the image.</summary>
    RaftMessage Message { get; }

    long TotalBytes { get; }

    /// <summary>Bytes read so far.</summary>
    long Position { get; }

    /// <summary>CRC-32C of everything read so far.</summary>
    uint Checksum { get; }

    /// <summary>Monotonic ns before which nothing more should be read; the pace of the transfer.</summary>
    long NextReadNs { get; }

    /// <summary>Reads the next bytes; 0 at the end.</summary>
    int Read(Span<byte> destination, long nowNs);
}

/// <summary>The receiver's end. One thread at a time; writes to the disk and waits for it.</summary>
public interface ISnapshotSink : IDisposable
{
    /// <summary>Takes the next bytes; false when the transfer is hopeless (disk full, too long): stop and dispose.</summary>
    bool Write(ReadOnlySpan<byte> chunk);

    /// <summary>
    /// Everything was sent. Checks it, makes it durable under its name and delivers the message to raft.
    /// </summary>
    /// <returns>False when length, checksum or content are not right; the file is gone then.</returns>
    bool Complete(uint checksum);
}
