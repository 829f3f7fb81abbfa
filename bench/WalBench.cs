// WalBench: what does the log cost the WAL thread, apart from the disk?
//
// Question   CPU per 300-byte entry in batches of 64 through WalActor: ring, size, encode, checksum, one write, one
//            sync call. The file system does nothing, so the number is our own code.
// Prior      Below 1 µs an entry (design budget), no managed allocation.
using System;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Wal;

namespace Cairn.Bench;

internal static unsafe class WalBench
{
    private const int Batch = 64;
    private const int PayloadBytes = 300;

    public static int Run()
    {
        string directory = Path.Combine(Path.GetTempPath(), "cairn-walbench-" + Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        Directory.CreateDirectory(directory);
        try
        {
            Measure("encode only (no system calls)", new NullDisk(PosixFileSystem.Instance), directory + "/null", batches: 40_000);
            Measure("with write and fdatasync", PosixFileSystem.Instance, directory + "/real", batches: 2_000);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }

        return 0;
    }

    private static void Measure(string title, IFileSystem files, string directory, int batches)
    {
        // Segments so large that no cut falls into the measured part.
        WalOptions options = new() { SegmentBytes = 1 << 30 };
        using WalLog log = WalDirectory.Create(files, directory, [0x08, 0x01], options);
        SystemClock clock = SystemClock.Instance;
        using WalActor actor = new(log, clock, new Fatal());
        byte* payload = (byte*)NativeMemory.AllocZeroed(PayloadBytes);
        WalEntry* entries = (WalEntry*)NativeMemory.Alloc((nuint)(Batch * sizeof(WalEntry)));
        ulong index = 0;
        ulong sequence = 0;
        for (int round = 0; round < 5; round++)
        {
            long allocated = GC.GetAllocatedBytesForCurrentThread();
            TimeSpan cpu = Process.GetCurrentProcess().UserProcessorTime;
            long start = Stopwatch.GetTimestamp();
            allocated = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < batches; i++)
            {
                for (int j = 0; j < Batch; j++)
                {
                    entries[j] = new WalEntry { Term = 2, Index = ++index, Data = payload, Length = PayloadBytes };
                }

                actor.TryEnqueue(new WalUnit
                {
                    Sequence = ++sequence, Entries = entries, EntryCount = Batch, HasHardState = true, Term = 2, Vote = 1, Commit = index - Batch,
                });
                while (actor.DurableSequence != sequence)
                {
                    actor.Poll(clock.NowNs);
                }
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
            double wall = Stopwatch.GetElapsedTime(start).TotalMicroseconds / (batches * Batch);
            double user = (Process.GetCurrentProcess().UserProcessorTime - cpu).TotalMicroseconds / (batches * Batch);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{title}: {wall:F3} µs wall, {user:F3} µs user CPU an entry, {allocated} bytes allocated in {batches * Batch} entries"));
            if (log.LastIndex > 1_500_000)
            {
                break; // the null disk pretends to hold more than a segment can
            }
        }

        NativeMemory.Free(payload);
        NativeMemory.Free(entries);
    }

    private sealed class Fatal : IFatal
    {
        [DoesNotReturn]
        public void Stop(string message, Exception? cause = null) => throw new InvalidOperationException(message, cause);
    }

    /// <summary>The real file system for names, nothing for data.</summary>
    private sealed class NullDisk(IFileSystem inner) : IFileSystem
    {
        public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180) => new NullFile(inner.Open(path, mode, unixMode));

        public bool FileExists(string path) => inner.FileExists(path);

        public bool DirectoryExists(string path) => inner.DirectoryExists(path);

        public void CreateDirectory(string path) => inner.CreateDirectory(path);

        public string[] List(string directory) => inner.List(directory);

        public void Rename(string from, string to) => inner.Rename(from, to);

        public void DeleteFile(string path) => inner.DeleteFile(path);

        public void DeleteDirectory(string path) => inner.DeleteDirectory(path);

        public void SyncDirectory(string path) => inner.SyncDirectory(path);
    }

    private sealed class NullFile(IFile inner) : IFile
    {
        public string Path => inner.Path;

        public long Length => inner.Length;

        public int Read(long offset, Span<byte> buffer) => inner.Read(offset, buffer);

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
        }

        public void Sync()
        {
        }

        public void SetLength(long length) => inner.SetLength(length);

        public void Allocate(long offset, long length) => inner.SetLength(offset + length);

        public void PunchHole(long offset, long length)
        {
        }

        public void StartWriteback(long offset, long length)
        {
        }

        public bool TryLock(FileLockKind kind) => inner.TryLock(kind);

        public byte* Map(long reserveBytes) => inner.Map(reserveBytes);

        public void Populate(long offset, long length)
        {
        }

        public void Submit(FileOperation operation) => operation.Complete(0);

        public void Dispose() => inner.Dispose();
    }
}
