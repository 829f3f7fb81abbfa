// MemoryDisk: a small file system in memory that can lose power. It keeps, for every file, what is durable and the
// writes since the last sync; a crash keeps, loses or tears each unsynced sector on its own, and keeps a prefix of
// the unsynced directory changes. The full disk of the simulator lives in tests/Simulation; this one is for the log.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Cairn.Base;

namespace Cairn.Wal.Tests;

internal sealed class PowerLossException() : Exception("power lost");

internal sealed unsafe class MemoryDisk : IFileSystem
{
    private const int Sector = 512;

    private readonly List<(string Kind, string From, string To, Node? Node)> _journal = [];
    private readonly Queue<Action> _waiting = [];
    private Dictionary<string, Node> _names = [];
    private Dictionary<string, Node> _durableNames = [];

    /// <summary>Operations that changed something so far.</summary>
    public int Operations { get; private set; }

    /// <summary>The operation at which power is lost, or at which <see cref="FailErrno"/> is reported.</summary>
    public int StopAt { get; set; } = int.MaxValue;

    /// <summary>Not 0: the operation fails with this number instead of losing power.</summary>
    public int FailErrno { get; set; }

    /// <summary>Restricts <see cref="StopAt"/> to one kind of operation, null for all.</summary>
    public string? OnlyKind { get; set; }

    /// <summary>Every later operation of the kind fails too.</summary>
    public bool Sticky { get; set; }

    /// <summary>Submitted operations wait for <see cref="CompleteNext"/>.</summary>
    public bool Deferred { get; set; }

    /// <summary>Submitted and not yet performed.</summary>
    public int Waiting => _waiting.Count;

    /// <summary>Counts operations of <see cref="OnlyKind"/>.</summary>
    public int Counted { get; private set; }

    /// <summary>What happens to everything unsynced when the power goes.</summary>
    public void LosePower(Random random)
    {
        Dictionary<string, Node> names = new(_durableNames);
        int kept = random.Next(_journal.Count + 1);
        foreach ((string kind, string from, string to, Node? node) in _journal.Take(kept))
        {
            Apply(names, kind, from, to, node);
        }

        foreach (Node node in names.Values.Concat(_names.Values).Distinct())
        {
            node.LosePower(random);
        }

        _names = names;
        _durableNames = new(names);
        _journal.Clear();
    }

    /// <summary>Performs the oldest submitted operation.</summary>
    public void CompleteNext() => _waiting.Dequeue()();

    /// <summary>A process crash: what was written stays readable, nothing more is durable; locks are gone.</summary>
    public void CrashProcess()
    {
        foreach (Node node in _names.Values)
        {
            node.Locked = false;
        }
    }

    /// <summary>Everything as it can be read now, for comparison.</summary>
    public SortedDictionary<string, byte[]> Image()
    {
        SortedDictionary<string, byte[]> image = new(StringComparer.Ordinal);
        foreach ((string path, Node node) in _names)
        {
            if (!node.IsDirectory)
            {
                image[path] = [.. node.Content.AsSpan(0, node.Length)];
            }
        }

        return image;
    }

    /// <summary>Changes durable bytes behind everybody's back.</summary>
    public void Corrupt(string path, int offset, Action<Memory<byte>> change) =>
        change(_names[path].Content.AsMemory(offset));

    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180)
    {
        if (!_names.TryGetValue(path, out Node? node))
        {
            if (mode is FileOpenMode.Read or FileOpenMode.ReadWrite)
            {
                throw new FileSystemException("open", path, 2, "no such file");
            }

            Step("name", path);
            node = new Node();
            Journal("add", path, "", node);
        }
        else if (mode == FileOpenMode.CreateOrTruncate)
        {
            Step("name", path);
            node.SetLength(0);
        }

        return new Handle(this, path, node);
    }

    public bool FileExists(string path) => _names.TryGetValue(path, out Node? node) && !node.IsDirectory;

    public bool DirectoryExists(string path) => _names.TryGetValue(path, out Node? node) && node.IsDirectory;

    public void CreateDirectory(string path)
    {
        if (!DirectoryExists(path))
        {
            Step("name", path);
            Journal("add", path, "", new Node { IsDirectory = true });
        }
    }

    public string[] List(string directory)
    {
        string prefix = directory + "/";
        string[] names = [.. _names.Keys.Where(k => k.StartsWith(prefix, StringComparison.Ordinal)).Select(k => k[prefix.Length..]).Where(k => !k.Contains('/'))];
        Array.Sort(names, StringComparer.Ordinal);
        return names;
    }

    public void Rename(string from, string to)
    {
        Step("name", from);
        Journal("rename", from, to, null);
    }

    public void DeleteFile(string path)
    {
        Step("name", path);
        Journal("delete", path, "", null);
    }

    public void DeleteDirectory(string path)
    {
        Step("name", path);
        Journal("delete", path, "", null);
    }

    public void SyncDirectory(string path)
    {
        Step("syncdir", path);
        foreach ((string kind, string from, string to, Node? node) in _journal)
        {
            Apply(_durableNames, kind, from, to, node);
        }

        _journal.Clear();
    }

    private static void Apply(Dictionary<string, Node> names, string kind, string from, string to, Node? node)
    {
        switch (kind)
        {
            case "add":
                names[from] = node!;
                break;
            case "delete":
                foreach (string name in names.Keys.Where(k => k == from || k.StartsWith(from + "/", StringComparison.Ordinal)).ToArray())
                {
                    names.Remove(name);
                }

                break;
            case "rename":
                foreach (string name in names.Keys.Where(k => k == from || k.StartsWith(from + "/", StringComparison.Ordinal)).ToArray())
                {
                    names[to + name[from.Length..]] = names[name];
                    names.Remove(name);
                }

                break;
            default:
                throw new InvalidOperationException(kind);
        }
    }

    private void Journal(string kind, string from, string to, Node? node)
    {
        _journal.Add((kind, from, to, node));
        Apply(_names, kind, from, to, node);
    }

    /// <summary>Counts a changing operation and stops there if it is the chosen one.</summary>
    private void Step(string kind, string path)
    {
        Operations++;
        if (OnlyKind != null && OnlyKind != kind)
        {
            return;
        }

        if (++Counted == StopAt || (Sticky && Counted > StopAt))
        {
            throw FailErrno == 0 ? new PowerLossException() : new FileSystemException(kind, path, FailErrno, "injected");
        }
    }

    private sealed class Node
    {
        private readonly List<(int Offset, byte[]? Data, int Length)> _pending = []; // Data null: a change of length
        private byte[] _durable = [];
        private int _durableLength;

        public bool IsDirectory { get; init; }

        public bool Locked { get; set; }

        public byte[] Content { get; private set; } = [];

        public int Length { get; private set; }

        public void Write(int offset, ReadOnlySpan<byte> data)
        {
            _pending.Add((offset, data.ToArray(), 0));
            byte[] content = Content;
            int length = Length;
            Put(ref content, ref length, offset, data);
            (Content, Length) = (content, length);
        }

        public void SetLength(int length)
        {
            _pending.Add((0, null, length));
            byte[] content = Content;
            int now = Length;
            Cut(ref content, ref now, length);
            (Content, Length) = (content, now);
        }

        public void Sync()
        {
            foreach ((int offset, byte[]? data, int length) in _pending)
            {
                if (data == null)
                {
                    Cut(ref _durable, ref _durableLength, length);
                }
                else
                {
                    Put(ref _durable, ref _durableLength, offset, data);
                }
            }

            _pending.Clear();
        }

        /// <summary>The kernel's answer to a failed write-back: the pages count as clean, the disk never had them.</summary>
        public void ForgetPending() => _pending.Clear();

        public void LosePower(Random random)
        {
            foreach ((int offset, byte[]? data, int length) in _pending)
            {
                if (data == null)
                {
                    if (random.Next(2) == 0)
                    {
                        Cut(ref _durable, ref _durableLength, length);
                    }

                    continue;
                }

                bool all = random.Next(4) == 0;
                for (int at = offset; at < offset + data.Length;)
                {
                    int end = Math.Min(offset + data.Length, ((at / Sector) + 1) * Sector);
                    int fate = all ? 0 : random.Next(8);
                    byte[] sector = data[(at - offset)..(end - offset)];
                    if (fate < 4)
                    {
                        Put(ref _durable, ref _durableLength, at, sector);
                    }
                    else if (fate == 4)
                    {
                        Put(ref _durable, ref _durableLength, at, sector.AsSpan(0, random.Next(sector.Length)));
                    }
                    else if (fate == 5)
                    {
                        random.NextBytes(sector.AsSpan(random.Next(sector.Length)));
                        Put(ref _durable, ref _durableLength, at, sector);
                    }

                    at = end;
                }
            }

            _pending.Clear();
            Locked = false;
            Content = (byte[])_durable.Clone();
            Length = _durableLength;
        }

        private static void Put(ref byte[] content, ref int length, int offset, ReadOnlySpan<byte> data)
        {
            int end = offset + data.Length;
            if (content.Length < end)
            {
                Array.Resize(ref content, Math.Max(end, content.Length * 2));
            }

            data.CopyTo(content.AsSpan(offset));
            length = Math.Max(length, end);
        }

        private static void Cut(ref byte[] content, ref int length, int target)
        {
            Array.Resize(ref content, Math.Max(content.Length, target));
            if (target < length)
            {
                content.AsSpan(target).Clear();
            }

            length = target;
        }
    }

    private sealed class Handle(MemoryDisk disk, string path, Node node) : IFile
    {
        private bool _holdsLock;

        public string Path => path;

        public long Length => node.Length;

        public int Read(long offset, Span<byte> buffer)
        {
            int count = (int)Math.Clamp(node.Length - offset, 0, buffer.Length);
            node.Content.AsSpan((int)offset, count).CopyTo(buffer);
            return count;
        }

        public void Write(long offset, ReadOnlySpan<byte> data)
        {
            // A power cut during a write leaves some of it behind.
            int before = disk.Counted;
            try
            {
                disk.Step("write", path);
            }
            catch (PowerLossException)
            {
                node.Write((int)offset, data);
                throw;
            }

            Assert(before <= disk.Counted);
            node.Write((int)offset, data);
        }

        public void Sync()
        {
            try
            {
                disk.Step("sync", path);
            }
            catch (FileSystemException)
            {
                node.ForgetPending();
                throw;
            }

            node.Sync();
        }

        public void SetLength(long length)
        {
            disk.Step("length", path);
            node.SetLength((int)length);
        }

        public void Allocate(long offset, long length)
        {
            disk.Step("allocate", path);
            if (offset + length > node.Length)
            {
                node.SetLength((int)(offset + length));
            }
        }

        public void PunchHole(long offset, long length) => throw new NotSupportedException();

        public void StartWriteback(long offset, long length)
        {
        }

        public bool TryLock(FileLockKind kind)
        {
            if (node.Locked)
            {
                return false;
            }

            return _holdsLock = node.Locked = true;
        }

        public byte* Map(long reserveBytes) => throw new NotSupportedException();

        public void Populate(long offset, long length) => throw new NotSupportedException();

        public void Submit(FileOperation operation)
        {
            if (disk.Deferred)
            {
                disk._waiting.Enqueue(() => Perform(operation));
            }
            else
            {
                Perform(operation);
            }
        }

        private void Perform(FileOperation operation)
        {
            try
            {
                if (operation.IsSync)
                {
                    Sync();
                }
                else
                {
                    using MemoryStream all = new();
                    for (int i = 0; i < operation.Count; i++)
                    {
                        all.Write(new ReadOnlySpan<byte>(operation.Segments[i].Data, (int)operation.Segments[i].Length));
                    }

                    Write(operation.Offset, all.ToArray());
                }

                operation.Complete(0);
            }
            catch (FileSystemException e)
            {
                operation.Complete(e.Errno);
            }
        }

        public void Dispose()
        {
            if (_holdsLock)
            {
                node.Locked = false;
            }
        }

        private static void Assert(bool condition) => Xunit.Assert.True(condition);
    }
}
