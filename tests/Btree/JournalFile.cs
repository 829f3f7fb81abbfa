// JournalFile: a real file that writes down what is done to it, so that a test can cut the power anywhere; it can also
// hold submitted operations back and make one fail.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Btree.Tests;

internal enum StepKind
{
    Write,
    Length,
    Hole,
    Sync,
}

internal sealed record FileStep(StepKind Kind, long Offset, byte[] Bytes, long Length);

/// <summary>The POSIX file system with every opened file journaled.</summary>
internal sealed class JournalFileSystem : IFileSystem
{
    private readonly PosixFileSystem _inner = new();

    public List<FileStep> Steps { get; } = new();

    /// <summary>Submitted operations wait in the file until <see cref="JournalFile.CompleteHeld"/>.</summary>
    public bool HoldsSubmitted { get; set; }

    /// <summary>The how-manieth sync or write from now on fails; 0 = none.</summary>
    public int FailAfter { get; set; }

    public JournalFile? Last { get; private set; }

    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180) => Last = new JournalFile(this, _inner.Open(path, mode, unixMode));

    public bool FileExists(string path) => _inner.FileExists(path);

    public bool DirectoryExists(string path) => _inner.DirectoryExists(path);

    public void CreateDirectory(string path) => _inner.CreateDirectory(path);

    public string[] List(string directory) => _inner.List(directory);

    public void Rename(string from, string to) => _inner.Rename(from, to);

    public void DeleteFile(string path) => _inner.DeleteFile(path);

    public void DeleteDirectory(string path) => _inner.DeleteDirectory(path);

    public void SyncDirectory(string path) => _inner.SyncDirectory(path);
}

internal sealed unsafe class JournalFile : IFile
{
    private readonly JournalFileSystem _owner;
    private readonly IFile _inner;
    private readonly Queue<FileOperation> _held = new();

    public JournalFile(JournalFileSystem owner, IFile inner)
    {
        _owner = owner;
        _inner = inner;
    }

    public string Path => _inner.Path;

    public long Length => _inner.Length;

    public List<long> Writebacks { get; } = new();

    public int Held => _held.Count;

    public int Read(long offset, Span<byte> buffer) => _inner.Read(offset, buffer);

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        Fail("pwrite");
        _owner.Steps.Add(new FileStep(StepKind.Write, offset, data.ToArray(), 0));
        _inner.Write(offset, data);
    }

    public void Sync()
    {
        Fail("fdatasync");
        _owner.Steps.Add(new FileStep(StepKind.Sync, 0, [], 0));
    }

    public void SetLength(long length)
    {
        _owner.Steps.Add(new FileStep(StepKind.Length, 0, [], length));
        _inner.SetLength(length);
    }

    public void Allocate(long offset, long length)
    {
        Fail("fallocate");
        _owner.Steps.Add(new FileStep(StepKind.Length, 0, [], Math.Max(Length, offset + length)));
        _inner.Allocate(offset, length);
    }

    public void PunchHole(long offset, long length)
    {
        _owner.Steps.Add(new FileStep(StepKind.Hole, offset, [], length));
        _inner.PunchHole(offset, length);
    }

    public void StartWriteback(long offset, long length)
    {
        Writebacks.Add(length);
        _inner.StartWriteback(offset, length);
    }

    public bool TryLock(FileLockKind kind) => _inner.TryLock(kind);

    public byte* Map(long reserveBytes) => _inner.Map(reserveBytes);

    public void Populate(long offset, long length) => _inner.Populate(offset, length);

    public void Submit(FileOperation operation)
    {
        _held.Enqueue(operation);
        if (!_owner.HoldsSubmitted)
        {
            CompleteHeld();
        }
    }

    public void CompleteHeld()
    {
        FileOperation operation = _held.Dequeue();
        try
        {
            long offset = operation.Offset;
            for (int i = 0; i < operation.Count; i++)
            {
                FileSegment segment = operation.Segments[i];
                Write(offset, new ReadOnlySpan<byte>(segment.Data, (int)segment.Length));
                offset += segment.Length;
            }

            if (operation.IsSync)
            {
                Sync();
            }

            operation.Complete(0);
        }
        catch (FileSystemException e)
        {
            operation.Complete(e.Errno);
        }
    }

    public void Dispose() => _inner.Dispose();

    private void Fail(string operation)
    {
        if (_owner.FailAfter > 0 && --_owner.FailAfter == 0)
        {
            throw new FileSystemException(operation, Path, 5, "Input/output error");
        }
    }
}
