// SnapFile: etcd's .snap files. Called by the slow side of the store thread and at start. Holds no state.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>What a <c>.snap</c> file holds.</summary>
public sealed class SnapContents
{
    /// <summary>Last raft index contained.</summary>
    public ulong Index { get; init; }

    /// <summary>Term of that entry.</summary>
    public ulong Term { get; init; }

    /// <summary>raftpb.ConfState bytes.</summary>
    public byte[] ConfState { get; init; } = [];

    /// <summary>The v2 store as JSON.</summary>
    public byte[] Data { get; init; } = [];
}

/// <summary>Saving, loading and purging snapshot files.</summary>
public static class SnapFile
{
    /// <summary>Writes <c>TERM-INDEX.snap</c> and makes file and directory durable.</summary>
    public static void Save(
        IFileSystem files, string directory, ulong term, ulong index, ReadOnlySpan<byte> confState, ReadOnlySpan<byte> data) =>
        throw new NotImplementedException();

    /// <summary>
    /// The newest file that reads well and matches one of the usable records; null when there is none. Files that do
    /// not read are renamed to <c>.broken</c> and reported.
    /// </summary>
    public static SnapContents? LoadNewest(
        IFileSystem files, string directory, IReadOnlyList<WalSnapshotMark> usable, Action<string>? warn) =>
        throw new NotImplementedException();

    /// <summary>Keeps the newest <paramref name="keep"/> files of each kind (.snap, .snap.db); 0 keeps all.</summary>
    public static void Purge(IFileSystem files, string directory, int keep, Action<string>? warn) =>
        throw new NotImplementedException();
}
