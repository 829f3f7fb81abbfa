// WalDirectory: making, opening and looking into a log directory. Called once, by the thread that starts a member.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Entry points to a log on disk.</summary>
public static class WalDirectory
{
    /// <summary>True if the directory holds any segment: the member has data.</summary>
    public static bool Exists(IFileSystem files, string directory) => throw new NotImplementedException();

    /// <summary>Makes a fresh log that appears under its name only when complete and durable.</summary>
    /// <param name="files">File system.</param>
    /// <param name="directory">The final directory; its <c>.tmp</c> sibling is used and replaced.</param>
    /// <param name="metadata">etcdserverpb.Metadata bytes, repeated at the head of every segment.</param>
    /// <param name="options">Tunables.</param>
    public static WalLog Create(
        IFileSystem files, string directory, ReadOnlySpan<byte> metadata, WalOptions options) =>
        throw new NotImplementedException();

    /// <summary>
    /// Locks and reads the log from a snapshot on, repairs a torn tail, and starts a new segment that repeats what was
    /// not known to be durable. When it returns, everything in <paramref name="recovery"/> is durable.
    /// </summary>
    /// <exception cref="WalCorruptException">Synced data is damaged; nothing was changed.</exception>
    /// <exception cref="WalLockedException">Another process uses the log.</exception>
    public static WalLog OpenForAppend(
        IFileSystem files, string directory, WalSnapshotMark start, WalOptions options, out WalRecovery recovery) =>
        throw new NotImplementedException();

    /// <summary>
    /// Snapshot records of all segments present that lie at or below the last commit, oldest first: only snapshots
    /// matching one of them (index and term) may be used. Index 0 is included.
    /// </summary>
    public static List<WalSnapshotMark> ValidSnapshots(IFileSystem files, string directory) =>
        throw new NotImplementedException();
}
