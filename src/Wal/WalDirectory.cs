// WalDirectory: making, opening and looking into a log directory. Called once, by the thread that starts a member.
//
// Opening goes in this order, so that a refusal leaves the disk as it was and a crash at any point can be repeated:
//   1. lock and read every segment from the one that holds the start snapshot; judge the last one's end (Tail)
//   2. torn: copy the segment to NAME.broken, as etcd does
//   3. truncate the last segment behind its last good record, sync
//   4. make the next segment under a temporary name: a head that says what it repeats, then every record above
//      syncedUpTo again (all of them if the segment has no mark); sync, rename, sync the directory
//   5. write the repeated bytes of the old segment over themselves, sync
// Why 4: what was read may exist only in the page cache. After a failed sync its pages count as clean, and syncing
// them again reports success for nothing. So nothing that was read may be acted on before step 4 has ended.
// Why 5: etcd wants every segment to be a whole link of the checksum chain. It comes after 4 because a power cut can
// tear what is being overwritten; a start after that finds the damage at or above what the next segment repeats.
using System;
using System.Collections.Generic;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Entry points to a log on disk.</summary>
public static unsafe class WalDirectory
{
    /// <summary>True if the directory holds any segment: the member has data.</summary>
    public static bool Exists(IFileSystem files, string directory)
    {
        if (!files.DirectoryExists(directory))
        {
            return false;
        }

        foreach (string name in files.List(directory))
        {
            if (name.EndsWith(WalFormat.SegmentSuffix, StringComparison.Ordinal))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Makes a fresh log that appears under its name only when complete and durable.</summary>
    /// <param name="files">File system.</param>
    /// <param name="directory">The final directory; its <c>.tmp</c> sibling is used and replaced.</param>
    /// <param name="metadata">etcdserverpb.Metadata bytes, repeated at the head of every segment.</param>
    /// <param name="options">Tunables.</param>
    /// <exception cref="WalException">The directory exists and is not empty.</exception>
    /// <exception cref="FileSystemException">The disk said no.</exception>
    public static WalLog Create(IFileSystem files, string directory, ReadOnlySpan<byte> metadata, WalOptions options)
    {
        directory = Trim(directory);
        RefuseUsed(files, directory);
        string temporary = directory + WalFormat.TemporarySuffix;
        if (files.DirectoryExists(temporary))
        {
            files.DeleteDirectory(temporary);
        }

        files.CreateDirectory(temporary);
        string name = WalFormat.SegmentName(0, 0);
        using RecordEncoder head = new(4096);
        head.Begin(0);
        head.AppendCrc();
        head.AppendRaw(RecordType.Metadata, metadata);
        head.AppendSnapshot(0, 0, null, 0);

        // etcd would stop here. The empty state says that the segment is ours, so that a torn first batch is judged so.
        head.AppendState(default, 0);
        IFile file = NewFile(files, WalFormat.Join(temporary, name), head.Written, options);
        try
        {
            files.SyncDirectory(temporary);
            if (files.DirectoryExists(directory))
            {
                files.DeleteDirectory(directory);
            }

            files.Rename(temporary, directory);
            files.SyncDirectory(Parent(directory));
        }
        catch
        {
            file.Dispose();
            throw;
        }

        WalLog log = new(files, directory, metadata.ToArray(), options, new SparseIndex(), new SegmentTable())
        {
            Position = head.Length,
            Synced = head.Length,
            Crc = head.Crc,
        };
        Segment segment = new(0, 0, WalFormat.Join(directory, name), file);
        log.Use(segment, previousEnd: -1, head.Length, FillingFor(file, head.Length, options));
        return log;
    }

    /// <summary>
    /// Locks and reads the log from a snapshot on, repairs a torn tail, and starts a new segment that repeats what was
    /// not known to be durable. When it returns, everything in <paramref name="recovery"/> is durable.
    /// </summary>
    /// <param name="files">File system.</param>
    /// <param name="directory">The log directory.</param>
    /// <param name="start">Snapshot to read from; entries at or below its index are not delivered.</param>
    /// <param name="options">Tunables.</param>
    /// <param name="recovery">What the log holds.</param>
    /// <param name="inspect">
    /// Sees the recovery when everything is read and nothing is changed yet; an exception from it refuses the open and
    /// leaves the disk as it was. The bytes may still be only in the page cache: judge them, do not act on them.
    /// </param>
    /// <exception cref="WalCorruptException">Synced data is damaged; nothing was changed.</exception>
    /// <exception cref="WalLockedException">Another process uses the log.</exception>
    /// <exception cref="WalException">The log does not reach back to the start, or is not a log.</exception>
    /// <exception cref="FileSystemException">The disk said no.</exception>
    public static WalLog OpenForAppend(
        IFileSystem files,
        string directory,
        WalSnapshotMark start,
        WalOptions options,
        out WalRecovery recovery,
        Action<WalRecovery>? inspect = null)
    {
        directory = Trim(directory);
        List<SegmentFile> names = SegmentFiles(files, directory, options.Warn);
        int first = FirstNeeded(names, start, directory);
        WalRecovery result = new();
        SegmentTable table = new();
        SegmentImage? last = null;
        try
        {
            SparseIndex index = new();
            index.SetLast(start.Index);
            LogScan scan = new(start, result, index);
            SegmentScan end = default;
            for (int i = first; i < names.Count; i++)
            {
                SegmentImage next = LockAndLoad(files, names[i], table);
                if (last != null)
                {
                    result.Own(last.Detach());
                    RequireWhole(last, end, next, scan, result.Warn);
                }

                last = next;
                end = scan.Read(last, names[i].Sequence);
            }

            TailVerdict verdict = Tail.Judge(last!, end, out string found);
            if (verdict == TailVerdict.Corrupt)
            {
                throw new WalCorruptException(last!.Path, end.End, found);
            }

            Complete(scan, result, last!, end, start);
            inspect?.Invoke(result);
            RemoveTemporaries(files, directory, options.Warn);
            if (verdict == TailVerdict.Torn)
            {
                KeepBroken(files, directory, last!);
                result.Repaired = true;
                result.Warn(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{last!.Path}: {Tail.Describe(end.Status)} at offset {end.End}: the last write did not complete before a crash; cut there, a copy is kept as {last.Path}{WalFormat.BrokenSuffix}"));
            }

            IFile lastFile = table.Last.File;
            lastFile.SetLength(end.End);
            lastFile.Sync();
            WalLog log = Continue(files, directory, options, table, index, scan, last!, end, names[^1].Sequence, start);
            Settle(lastFile, last!, end);
            result.Own(last!.Detach());
            recovery = result;
            return log;
        }
        catch
        {
            last?.Dispose();
            table.CloseAll();
            result.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Snapshot records of all segments present that lie at or below the last commit, oldest first: only snapshots
    /// matching one of them (index and term) may be used. Index 0 is included. Changes nothing and takes no lock.
    /// </summary>
    /// <exception cref="WalCorruptException">A segment other than the last is damaged.</exception>
    public static List<WalSnapshotMark> ValidSnapshots(IFileSystem files, string directory)
    {
        directory = Trim(directory);
        List<SegmentFile> names = SegmentFiles(files, directory, warn: null);
        RequireConsecutive(names, 0, directory);
        LogScan scan = new(default, recovery: null, index: null);
        SegmentScan end = default;
        SegmentImage? last = null;
        try
        {
            foreach (SegmentFile name in names)
            {
                using IFile file = files.Open(name.Path, FileOpenMode.Read);
                SegmentImage next = SegmentImage.Load(file, name.Path);
                if (last != null)
                {
                    last.Dispose();
                    RequireWhole(last, end, next, scan, warn: null);
                }

                last = next;
                end = scan.Read(last, name.Sequence);
            }
        }
        finally
        {
            last?.Dispose();
        }

        ulong commit = scan.State.Commit;
        scan.Snapshots.RemoveAll(mark => mark.Index > commit);
        return scan.Snapshots;
    }

    /// <summary>Makes a segment file with its head, durable under the given (temporary) name, locked.</summary>
    internal static IFile NewFile(IFileSystem files, string path, ReadOnlySpan<byte> head, WalOptions options)
    {
        IFile file = files.Open(path, FileOpenMode.CreateOrTruncate);
        try
        {
            if (!file.TryLock(FileLockKind.OpenFileDescription))
            {
                throw new WalLockedException(path);
            }

            file.Allocate(0, options.SegmentBytes);
            if (!head.IsEmpty)
            {
                file.Write(0, head);
                ZeroAhead(file, head.Length, options);
                file.Sync();
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The rest of a fresh segment, for walfill; the first slack is zero already or belongs to the appender.</summary>
    internal static Filling? FillingFor(IFile file, int headLength, WalOptions options) =>
        new(file, new FillFrontier(headLength + FillFrontier.SlackBytes, options.SegmentBytes));

    /// <summary>Deletes prepared segments that a crash left behind. Only while the log is locked.</summary>
    internal static void RemoveTemporaries(IFileSystem files, string directory, Action<string>? warn)
    {
        foreach (string name in files.List(directory))
        {
            if (name.EndsWith(WalFormat.TemporarySuffix, StringComparison.Ordinal))
            {
                try
                {
                    files.DeleteFile(WalFormat.Join(directory, name));
                }
                catch (FileSystemException e)
                {
                    warn?.Invoke($"a left-over file of the log could not be removed: {e.Message}");
                }
            }
        }
    }

    /// <summary>The segments of a directory, ascending; names that are neither segments nor temporary are reported.</summary>
    internal static List<SegmentFile> SegmentFiles(IFileSystem files, string directory, Action<string>? warn)
    {
        List<SegmentFile> found = [];
        foreach (string name in files.List(directory))
        {
            if (WalFormat.TryParseSegmentName(name, out ulong sequence, out ulong firstIndex))
            {
                found.Add(new SegmentFile(sequence, firstIndex, WalFormat.Join(directory, name)));
            }
            else if (!name.EndsWith(WalFormat.TemporarySuffix, StringComparison.Ordinal))
            {
                warn?.Invoke($"{WalFormat.Join(directory, name)}: not a segment of the log, ignored");
            }
        }

        if (found.Count == 0)
        {
            throw new WalException($"{directory}: no log segment found (NAME.wal)");
        }

        return found;
    }

    private static int FirstNeeded(List<SegmentFile> names, WalSnapshotMark start, string directory)
    {
        for (int i = names.Count - 1; i >= 0; i--)
        {
            if (names[i].FirstIndex <= start.Index)
            {
                RequireConsecutive(names, i, directory);
                return i;
            }
        }

        throw new WalException(string.Create(
            CultureInfo.InvariantCulture,
            $"{directory}: the log begins at index {names[0].FirstIndex}, after the snapshot at index {start.Index} it must continue from: segments are missing; bring them back or restore this member from a snapshot"));
    }

    private static void RequireConsecutive(List<SegmentFile> names, int first, string directory)
    {
        for (int i = first + 1; i < names.Count; i++)
        {
            if (names[i].Sequence != names[i - 1].Sequence + 1)
            {
                throw new WalException(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{directory}: segment {names[i - 1].Sequence + 1:x16} is missing between {names[i - 1].Path} and {names[i].Path}; bring it back or restore this member from a snapshot"));
            }
        }
    }

    private static SegmentImage LockAndLoad(IFileSystem files, in SegmentFile name, SegmentTable table)
    {
        IFile file = files.Open(name.Path, FileOpenMode.ReadWrite);
        table.Add(new Segment(name.Sequence, name.FirstIndex, name.Path, file), previousEnd: -1);
        if (!file.TryLock(FileLockKind.OpenFileDescription))
        {
            throw new WalLockedException(name.Path);
        }

        return SegmentImage.Load(file, name.Path);
    }

    /// <summary>
    /// A segment that is not the last was synced when it was closed, so damage in it is corruption. One exception: what
    /// a start repeats in the next segment may be lost here, because that start could not trust it either.
    /// </summary>
    private static void RequireWhole(SegmentImage image, in SegmentScan end, SegmentImage next, LogScan scan, Action<string>? warn)
    {
        bool whole = end.Status == FrameStatus.End &&
            (FrameReader.TryFrame(next.Bytes, 0, out WalRecord crc, out _) != FrameStatus.Record || crc.Crc == scan.Crc);
        if (whole)
        {
            return;
        }

        long repeats = FrameReader.RepeatsFrom(next.Bytes);
        if (repeats >= 0 && repeats <= end.End && end.Fault == null)
        {
            scan.AcceptNextChain();
            warn?.Invoke(string.Create(
                CultureInfo.InvariantCulture,
                $"{image.Path}: {Tail.Describe(end.Status)} at offset {end.End}; {next.Path} repeats everything from offset {repeats} on, nothing is lost"));
            return;
        }

        if (end.Status != FrameStatus.End)
        {
            throw new WalCorruptException(
                image.Path,
                end.End,
                (end.Fault ?? Tail.Describe(end.Status)) + " in a segment that was closed, and therefore synced, long ago");
        }

        throw new WalCorruptException(
            image.Path,
            end.End,
            $"the records end here, but the checksum at the head of {next.Path} says that there were more");
    }

    /// <summary>Checks what can be checked before anything is changed, and fills in the result.</summary>
    private static void Complete(LogScan scan, WalRecovery result, SegmentImage last, in SegmentScan end, WalSnapshotMark start)
    {
        if (scan.Metadata == null)
        {
            throw new WalCorruptException(last.Path, end.End, "no metadata record in the log");
        }

        // The position behind the last entry, or the start if the log has nothing newer.
        ulong lastIndex = result.Entries.IsEmpty ? start.Index : result.Entries[^1].Index;
        if (scan.State.Commit > lastIndex)
        {
            throw new WalCorruptException(last.Path, end.End, string.Create(
                CultureInfo.InvariantCulture,
                $"the hard state says that index {scan.State.Commit} was committed, but the log ends at index {lastIndex}: committed entries are missing"));
        }

        result.Metadata = scan.Metadata;
        result.HardState = scan.State;
        result.LastIndex = lastIndex;
        result.StartFound = scan.StartFound || start.Index == 0;
        if (!result.StartFound)
        {
            result.Warn(string.Create(
                CultureInfo.InvariantCulture, $"the log has no record of the snapshot at index {start.Index} it is read from"));
        }
    }

    private static void KeepBroken(IFileSystem files, string directory, SegmentImage last)
    {
        using IFile copy = files.Open(last.Path + WalFormat.BrokenSuffix, FileOpenMode.CreateOrTruncate);
        copy.Write(0, last.Bytes[..last.UsedEnd]);
        copy.SetLength(last.Length);
        copy.Sync();
        files.SyncDirectory(directory);
    }

    /// <summary>Step 5 of the file header.</summary>
    private static void Settle(IFile file, SegmentImage last, in SegmentScan end)
    {
        if (end.Marked == true && end.SyncedUpTo < end.End && !Mutations.Is(Mutation.RecoveredTailNotSettled))
        {
            file.Write(end.SyncedUpTo, last.Bytes[end.SyncedUpTo..end.End]);
            file.Sync();
        }
    }

    /// <summary>Step 4 of the file header.</summary>
    private static WalLog Continue(
        IFileSystem files, string directory, WalOptions options, SegmentTable table, SparseIndex index, LogScan scan,
        SegmentImage last, in SegmentScan end, ulong lastSequence, WalSnapshotMark start)
    {
        ulong sequence = lastSequence + 1;
        int repeatsFrom = end.Marked == true ? Math.Min(end.SyncedUpTo, end.End) : 0;
        using RecordEncoder head = new(1 << 16);
        head.Begin(scan.Crc);
        head.AppendCrc();
        head.AppendRaw(RecordType.Metadata, scan.Metadata);
        head.AppendState(scan.State, 0, repeatsFrom);
        Repeat(head, last.Bytes[..end.End], repeatsFrom, start);

        ulong firstIndex = scan.LastIndex + 1;
        string temporary = WalFormat.Join(directory, "0" + WalFormat.TemporarySuffix);
        string path = WalFormat.Join(directory, WalFormat.SegmentName(sequence, firstIndex));
        IFile file = NewFile(files, temporary, head.Written, options);
        try
        {
            files.Rename(temporary, path);
            files.SyncDirectory(directory);

            // The process that made the directory may have died before its name was durable.
            files.SyncDirectory(Parent(directory));
        }
        catch
        {
            file.Dispose();
            throw;
        }

        WalLog log = new(files, directory, scan.Metadata!, options, index, table)
        {
            Position = head.Length,
            Synced = head.Length,
            Crc = head.Crc,
            LastWritten = scan.LastIndex,
            State = scan.State,
        };
        log.Use(new Segment(sequence, firstIndex, path, file), previousEnd: -1, head.Length, FillingFor(file, head.Length, options));
        return log;
    }

    /// <summary>
    /// Records from an offset on again, in their order. The last state stands in the head already; entries that the
    /// start snapshot covers are not needed. An entry that a later one replaced is left out: behind the whole log it
    /// would stand after a gap, and nobody, etcd neither, would read on.
    /// </summary>
    private static void Repeat(RecordEncoder head, ReadOnlySpan<byte> last, int from, WalSnapshotMark start)
    {
        List<(ulong Index, long Offset)> surviving = [];
        FrameReader reader = new(last, 0, 0, verify: false);
        while (reader.Read(out WalRecord record) == FrameStatus.Record)
        {
            if (record.Type == RecordType.Entry && FrameReader.TryEntry(record.Data, out _, out ulong index, out _, out _))
            {
                while (surviving.Count > 0 && surviving[^1].Index >= index)
                {
                    surviving.RemoveAt(surviving.Count - 1);
                }

                surviving.Add((index, record.Offset));
            }
        }

        int next = 0;
        reader = new FrameReader(last, 0, 0, verify: false);
        while (reader.Read(out WalRecord record) == FrameStatus.Record)
        {
            bool needed = record.Type == RecordType.Snapshot;
            if (next < surviving.Count && surviving[next].Offset == record.Offset)
            {
                needed = surviving[next].Index > start.Index;
                next++;
            }

            if (needed && record.Offset >= from)
            {
                head.AppendRaw(record.Type, record.Data);
            }
        }
    }

    private static void ZeroAhead(IFile file, int from, WalOptions options)
    {
        byte[] zeros = new byte[64 << 10];
        long end = Math.Min(options.SegmentBytes, (long)from + FillFrontier.SlackBytes);
        for (long at = from; at < end; at += zeros.Length)
        {
            file.Write(at, zeros.AsSpan(0, (int)Math.Min(zeros.Length, end - at)));
        }
    }

    private static void RefuseUsed(IFileSystem files, string directory)
    {
        if (!files.DirectoryExists(directory))
        {
            return;
        }

        foreach (string name in files.List(directory))
        {
            if (!name.EndsWith(WalFormat.TemporarySuffix, StringComparison.Ordinal))
            {
                throw new WalException(
                    $"{directory}: cannot make a new log here, it holds {name}; move it away or give another --wal-dir");
            }
        }
    }

    private static string Trim(string directory) => directory.Length > 1 ? directory.TrimEnd('/') : directory;

    private static string Parent(string directory)
    {
        int slash = directory.LastIndexOf('/');
        return slash > 0 ? directory[..slash] : slash == 0 ? "/" : ".";
    }
}

/// <summary>A segment's name taken apart.</summary>
internal readonly record struct SegmentFile(ulong Sequence, ulong FirstIndex, string Path);
