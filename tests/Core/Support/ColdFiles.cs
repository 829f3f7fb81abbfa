// ColdFiles: the real file system that on demand says of every mapped byte that it would have to come from the disk.
using System;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Tests.Support;

internal sealed unsafe partial class ColdFiles : IFileSystem
{
    private const int AdvisePageOut = 21;
    private readonly PosixFileSystem _inner = PosixFileSystem.Instance;
    private int _populates;
    private ColdFile? _mapped;

    /// <summary>Nothing is in the page cache.</summary>
    public bool IsCold { get; set; }

    /// <summary>How often pages were asked for.</summary>
    public int Populates => Volatile.Read(ref _populates);

    /// <summary>
    /// Takes the mapped file's pages out of memory, as a memory limit would: the next visit reads the disk. While it is open.
    /// </summary>
    public void Evict()
    {
        if (_mapped is { Base: not null } file)
        {
            _ = Madvise(file.Base, (nint)file.Length, AdvisePageOut);
        }
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Madvise(byte* address, nint length, int advice);

    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180) => new ColdFile(this, _inner.Open(path, mode, unixMode));

    public bool FileExists(string path) => _inner.FileExists(path);

    public bool DirectoryExists(string path) => _inner.DirectoryExists(path);

    public void CreateDirectory(string path) => _inner.CreateDirectory(path);

    public string[] List(string directory) => _inner.List(directory);

    public void Rename(string from, string to) => _inner.Rename(from, to);

    public void DeleteFile(string path) => _inner.DeleteFile(path);

    public void DeleteDirectory(string path) => _inner.DeleteDirectory(path);

    public void SyncDirectory(string path) => _inner.SyncDirectory(path);

    private sealed class ColdFile(ColdFiles owner, IFile inner) : IFile
    {
        public string Path => inner.Path;

        public long Length => inner.Length;

        public int Read(long offset, Span<byte> buffer) => inner.Read(offset, buffer);

        public void Write(long offset, ReadOnlySpan<byte> data) => inner.Write(offset, data);

        public void Sync() => inner.Sync();

        public void SetLength(long length) => inner.SetLength(length);

        public void Allocate(long offset, long length) => inner.Allocate(offset, length);

        public void PunchHole(long offset, long length) => inner.PunchHole(offset, length);

        public void StartWriteback(long offset, long length) => inner.StartWriteback(offset, length);

        public bool TryLock(FileLockKind kind) => inner.TryLock(kind);

        public byte* Base { get; private set; }

        public byte* Map(long reserveBytes)
        {
            Base = inner.Map(reserveBytes);
            owner._mapped = this;
            return Base;
        }

        public void Populate(long offset, long length)
        {
            Interlocked.Increment(ref owner._populates);
            inner.Populate(offset, length);
        }

        public bool IsResident(long offset, long length) => !owner.IsCold && inner.IsResident(offset, length);

        public void Submit(FileOperation operation) => inner.Submit(operation);

        public void Dispose() => inner.Dispose();
    }
}
