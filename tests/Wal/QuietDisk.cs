// QuietDisk: the real file system with writes and syncs that do nothing, to measure what the log itself costs.
using System;
using Cairn.Base;

namespace Cairn.Wal.Tests;

internal sealed class QuietDisk(IFileSystem inner) : IFileSystem
{
    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180) => new QuietFile(inner.Open(path, mode, unixMode));

    public bool FileExists(string path) => inner.FileExists(path);

    public bool DirectoryExists(string path) => inner.DirectoryExists(path);

    public void CreateDirectory(string path) => inner.CreateDirectory(path);

    public string[] List(string directory) => inner.List(directory);

    public void Rename(string from, string to) => inner.Rename(from, to);

    public void DeleteFile(string path) => inner.DeleteFile(path);

    public void DeleteDirectory(string path) => inner.DeleteDirectory(path);

    public void SyncDirectory(string path) => inner.SyncDirectory(path);

    private sealed unsafe class QuietFile(IFile inner) : IFile
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
