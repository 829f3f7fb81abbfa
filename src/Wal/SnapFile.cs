// SnapFile: etcd's .snap files: snappb.Snapshot { 1 crc, 2 data } around raftpb.Snapshot { 1 data, 2 metadata
// { 1 conf_state, 2 index, 3 term } }, crc being plain CRC-32C of the inner message.
//
// Thread     whoever takes snapshots, and the opening thread. Holds no state.
// Order      a file is durable, name included, before the WAL thread is given its snapshot record; a file without a
//            record is never used. So a half-written one needs no temporary name: it has no record.
using System;
using System.Collections.Generic;
using System.Globalization;
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
    private const string Suffix = ".snap";
    private const string DatabaseSuffix = ".snap.db";
    private const int UnixMode = 0x1B6; // 0666, less the umask, as etcd makes them

    /// <summary>TERM-INDEX.snap, both as 16 hexadecimal digits.</summary>
    public static string Name(ulong term, ulong index) =>
        string.Create(CultureInfo.InvariantCulture, $"{term:x16}-{index:x16}{Suffix}");

    /// <summary>Writes <c>TERM-INDEX.snap</c> and makes file and directory durable.</summary>
    /// <exception cref="FileSystemException">The disk said no; what is left of the file is harmless.</exception>
    public static void Save(
        IFileSystem files, string directory, ulong term, ulong index, ReadOnlySpan<byte> confState, ReadOnlySpan<byte> data,
        IClock? clock = null, SnapFigures? figures = null)
    {
        long start = clock?.NowNs ?? 0;
        byte[] bytes = Encode(term, index, confState, data);
        long encoded = clock?.NowNs ?? 0;
        long synced = 0;
        using (IFile file = files.Open(WalFormat.Join(directory, Name(term, index)), FileOpenMode.CreateOrTruncate, UnixMode))
        {
            file.Write(0, bytes);
            long written = clock?.NowNs ?? 0;
            file.Sync();
            synced = (clock?.NowNs ?? 0) - written;
        }

        files.SyncDirectory(directory);
        figures?.Marshal.Observe(encoded - start);
        figures?.Sync.Observe(synced);
        figures?.Save.Observe((clock?.NowNs ?? 0) - start);
    }

    /// <summary>
    /// The newest file that reads well and matches one of the usable records; null when there is none. Files that do
    /// not read are renamed to <c>.broken</c> and reported.
    /// </summary>
    /// <param name="files">File system.</param>
    /// <param name="directory">The snap directory.</param>
    /// <param name="usable">From <see cref="WalDirectory.ValidSnapshots"/>.</param>
    /// <param name="warn">Receives one line for each broken file.</param>
    public static SnapContents? LoadNewest(
        IFileSystem files, string directory, IReadOnlyList<WalSnapshotMark> usable, Action<string>? warn)
    {
        string[] names = files.List(directory);
        for (int i = names.Length - 1; i >= 0; i--)
        {
            if (!names[i].EndsWith(Suffix, StringComparison.Ordinal) ||
                !WalFormat.TryParsePair(names[i].AsSpan(0, names[i].Length - Suffix.Length), out ulong term, out ulong index))
            {
                continue;
            }

            // The name decides before the content: a file that no record vouches for is left alone.
            if (!Contains(usable, term, index))
            {
                continue;
            }

            string path = WalFormat.Join(directory, names[i]);
            if (TryLoad(files, path, out SnapContents? contents, out string fault) &&
                contents.Term == term && contents.Index == index)
            {
                return contents;
            }

            files.Rename(path, path + WalFormat.BrokenSuffix);
            warn?.Invoke($"{path}: {(fault.Length > 0 ? fault : "its content is that of another snapshot")}; renamed to {names[i]}{WalFormat.BrokenSuffix}, trying an older one");
        }

        return null;
    }

    /// <summary>Reads one file.</summary>
    /// <param name="files">File system.</param>
    /// <param name="path">The file.</param>
    /// <param name="contents">What it holds.</param>
    /// <param name="fault">Why it does not read.</param>
    public static bool TryLoad(
        IFileSystem files, string path, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out SnapContents? contents, out string fault)
    {
        contents = null;
        using IFile file = files.Open(path, FileOpenMode.Read);
        long length = file.Length;
        if (length is 0 or > int.MaxValue / 2)
        {
            fault = string.Create(CultureInfo.InvariantCulture, $"a snapshot of {length} bytes");
            return false;
        }

        byte[] bytes = new byte[length];
        if (file.Read(0, bytes) != bytes.Length)
        {
            fault = "it could not be read to its end";
            return false;
        }

        return TryDecode(bytes, out contents, out fault);
    }

    /// <summary>Keeps the newest <paramref name="keep"/> files of each kind (.snap, .snap.db); 0 keeps all.</summary>
    public static void Purge(IFileSystem files, string directory, int keep, Action<string>? warn)
    {
        if (keep <= 0)
        {
            return;
        }

        string[] names = files.List(directory);
        PurgeKind(files, directory, names, DatabaseSuffix, keep, warn);
        PurgeKind(files, directory, names, Suffix, keep, warn);
    }

    internal static byte[] Encode(ulong term, ulong index, ReadOnlySpan<byte> confState, ReadOnlySpan<byte> data)
    {
        int metadata = ProtoSize.BytesField(1, confState.Length) + ProtoSize.VarintField(2, index) + ProtoSize.VarintField(3, term);
        int inner = (data.IsEmpty ? 0 : ProtoSize.BytesField(1, data.Length)) + ProtoSize.BytesField(2, metadata);
        byte[] message = new byte[inner];
        ProtoWriter writer = new(message);
        writer.WriteBytesFieldIfSet(1, data);
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)metadata);
        writer.WriteBytesField(1, confState);
        writer.WriteVarintField(2, index);
        writer.WriteVarintField(3, term);
        uint crc = Crc32C.Compute(message);
        byte[] file = new byte[ProtoSize.VarintField(1, crc) + ProtoSize.BytesField(2, inner)];
        ProtoWriter outer = new(file);
        outer.WriteVarintField(1, crc);
        outer.WriteBytesField(2, message);
        return file;
    }

    internal static bool TryDecode(
        ReadOnlySpan<byte> bytes, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out SnapContents? contents, out string fault)
    {
        contents = null;
        fault = "it does not decode";
        ProtoReader outer = new(bytes);
        uint crc = 0;
        ReadOnlySpan<byte> message = default;
        while (outer.NextField())
        {
            switch (outer.Field, outer.Wire)
            {
                case (1, WireType.Varint):
                    crc = (uint)outer.ReadVarint();
                    break;
                case (2, WireType.Bytes):
                    message = outer.ReadBytes();
                    break;
                case ( >= 1 and <= 2, _):
                    outer.Fail();
                    break;
                default:
                    outer.Skip();
                    break;
            }
        }

        if (outer.Failed)
        {
            return false;
        }

        if (crc == 0 || message.IsEmpty)
        {
            fault = "it is empty";
            return false;
        }

        if (Crc32C.Compute(message) != crc)
        {
            fault = string.Create(CultureInfo.InvariantCulture, $"checksum mismatch: {crc:x8} recorded, {Crc32C.Compute(message):x8} found");
            return false;
        }

        return TryMessage(message, out contents);
    }

    private static bool TryMessage(
        ReadOnlySpan<byte> message, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out SnapContents? contents)
    {
        contents = null;
        ReadOnlySpan<byte> data = default;
        ReadOnlySpan<byte> metadata = default;
        ProtoReader reader = new(message);
        while (reader.NextField())
        {
            switch (reader.Field, reader.Wire)
            {
                case (1, WireType.Bytes):
                    data = reader.ReadBytes();
                    break;
                case (2, WireType.Bytes):
                    metadata = reader.ReadBytes();
                    break;
                case ( >= 1 and <= 2, _):
                    reader.Fail();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        ReadOnlySpan<byte> confState = default;
        ulong index = 0;
        ulong term = 0;
        ProtoReader inner = new(metadata);
        while (inner.NextField())
        {
            switch (inner.Field, inner.Wire)
            {
                case (1, WireType.Bytes):
                    confState = inner.ReadBytes();
                    break;
                case (2, WireType.Varint):
                    index = inner.ReadVarint();
                    break;
                case (3, WireType.Varint):
                    term = inner.ReadVarint();
                    break;
                case ( >= 1 and <= 3, _):
                    inner.Fail();
                    break;
                default:
                    inner.Skip();
                    break;
            }
        }

        if (reader.Failed || inner.Failed)
        {
            return false;
        }

        contents = new SnapContents { Index = index, Term = term, ConfState = confState.ToArray(), Data = data.ToArray() };
        return true;
    }

    private static bool Contains(IReadOnlyList<WalSnapshotMark> usable, ulong term, ulong index)
    {
        for (int i = 0; i < usable.Count; i++)
        {
            if (usable[i].Index == index && usable[i].Term == term)
            {
                return true;
            }
        }

        return false;
    }

    private static void PurgeKind(
        IFileSystem files, string directory, string[] names, string suffix, int keep, Action<string>? warn)
    {
        int count = 0;
        for (int i = names.Length - 1; i >= 0; i--)
        {
            if (!names[i].EndsWith(suffix, StringComparison.Ordinal) || ++count <= keep)
            {
                continue;
            }

            try
            {
                files.DeleteFile(WalFormat.Join(directory, names[i]));
            }
            catch (FileSystemException e)
            {
                warn?.Invoke($"an old snapshot was not removed: {e.Message}");
            }
        }
    }
}
