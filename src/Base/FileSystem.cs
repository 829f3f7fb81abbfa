// FileSystem: the files a member lives on, as the cores see them.
//
// Two ways to write: synchronous calls (open, recovery, cold paths) and submit/complete (the WAL and tree
// actors, which must be Poll-able). In production Submit performs the operation before it returns; in the
// simulator it completes later, may be torn, lost or failed, and the owner is woken.
// Failure: every failed call throws FileSystemException (synchronous) or sets FileOperation.Error (submitted).
// Nobody retries a failed sync (the kernel has marked the pages clean; a second call would report success).
using System;

namespace Cairn.Base;

/// <summary>How to open a file.</summary>
public enum FileOpenMode
{
    /// <summary>Must exist; reading only.</summary>
    Read,

    /// <summary>Must exist; reading and writing.</summary>
    ReadWrite,

    /// <summary>Reading and writing; made when absent.</summary>
    OpenOrCreate,

    /// <summary>Reading and writing; made, or emptied when it exists.</summary>
    CreateOrTruncate,
}

/// <summary>The two lock families etcd uses; they do not see each other.</summary>
public enum FileLockKind
{
    /// <summary>flock(2), exclusive (the tree file).</summary>
    Flock,

    /// <summary>Open-file-description write lock through fcntl (WAL segments).</summary>
    OpenFileDescription,
}

/// <summary>A failed call on a file or directory.</summary>
public sealed class FileSystemException : Exception
{
    public FileSystemException(string operation, string path, int errno, string description)
        : base($"{operation} {path}: {description}")
    {
        Operation = operation;
        Path = path;
        Errno = errno;
    }

    /// <summary>The call, such as <c>fdatasync</c>.</summary>
    public string Operation { get; }

    /// <summary>The file or directory.</summary>
    public string Path { get; }

    /// <summary>The system's error number.</summary>
    public int Errno { get; }

    /// <summary>No room on the device, or none left of the user's share of it.</summary>
    public bool IsDiskFull => Errno is Libc.NoSpace or Libc.OverDiskQuota;
}

/// <summary>Directories and names.</summary>
public interface IFileSystem
{
    /// <summary>Opens a file. <paramref name="unixMode"/> counts only when it is made (subject to umask).</summary>
    IFile Open(string path, FileOpenMode mode, int unixMode = 0x180 /* 0600 */);

    bool FileExists(string path);

    bool DirectoryExists(string path);

    /// <summary>Makes a directory and its missing parents, mode 0700.</summary>
    void CreateDirectory(string path);

    /// <summary>Names (not paths) of everything in the directory, sorted by ordinal.</summary>
    string[] List(string directory);

    /// <summary>Renames a file or directory, replacing an existing file.</summary>
    void Rename(string from, string to);

    /// <summary>The same for a new name put together by the caller, where the file system can do without a string.</summary>
    void Rename(string from, string directory, ReadOnlySpan<char> name) =>
        Rename(from, string.Concat(directory, directory.EndsWith('/') ? "" : "/", name));

    void DeleteFile(string path);

    /// <summary>Removes a directory with everything in it.</summary>
    void DeleteDirectory(string path);

    /// <summary>fsync of the directory: makes creations, renames and removals in it durable.</summary>
    void SyncDirectory(string path);
}

/// <summary>An open file. One owner for writing; reads and the map may be used by many threads.</summary>
public unsafe interface IFile : IDisposable
{
    string Path { get; }

    /// <summary>Current length in bytes (fstat).</summary>
    long Length { get; }

    /// <summary>Reads until the buffer is full or the file ends; returns the bytes read.</summary>
    int Read(long offset, Span<byte> buffer);

    /// <summary>Writes all of it (short writes and EINTR are handled inside).</summary>
    void Write(long offset, ReadOnlySpan<byte> data);

    /// <summary>fdatasync.</summary>
    void Sync();

    /// <summary>ftruncate, either way; new bytes are zero.</summary>
    void SetLength(long length);

    /// <summary>fallocate(mode 0), or ftruncate where the file system cannot.</summary>
    void Allocate(long offset, long length);

    /// <summary>Gives the blocks of a range back; reads give zeros. A file system without it does nothing.</summary>
    void PunchHole(long offset, long length);

    /// <summary>Starts write-back of a range without waiting (sync_file_range); pacing only, never durability.</summary>
    void StartWriteback(long offset, long length);

    /// <summary>Takes an exclusive lock without waiting; false if somebody else holds it. Held until closed.</summary>
    bool TryLock(FileLockKind kind);

    /// <summary>
    /// Maps the file once, read-only and shared, into a reservation that never moves. Only bytes below
    /// <see cref="Length"/> may be touched. The map lives until the file is disposed.
    /// </summary>
    byte* Map(long reserveBytes);

    /// <summary>Makes mapped bytes resident in a call that leaves managed code (MADV_POPULATE_READ).</summary>
    void Populate(long offset, long length);

    /// <summary>
    /// True if <see cref="Populate"/> of these bytes would not wait for the disk: all of them are in the page cache.
    /// A guess, right at the moment of the call. A file that never waits says true.
    /// </summary>
    bool IsResident(long offset, long length) => true;

    /// <summary>Starts an operation; see the file header.</summary>
    void Submit(FileOperation operation);
}

/// <summary>A submitted write or sync. Made once per use site, reused after completion; owned by one actor.</summary>
public sealed unsafe class FileOperation
{
    private int _count;

    public FileOperation(int maxSegments)
    {
        Segments = new FileSegment[maxSegments];
    }

    /// <summary>Pointer and length pairs to write one after the other from <see cref="Offset"/>.</summary>
    public FileSegment[] Segments { get; }

    public int Count => _count;

    public long Offset { get; private set; }

    public bool IsSync { get; private set; }

    /// <summary>0, or the error number once completed.</summary>
    public int Error { get; private set; }

    /// <summary>Set with release semantics by the file when the operation has ended.</summary>
    public bool IsCompleted => System.Threading.Volatile.Read(ref _completed);

    /// <summary>Woken at completion when the operation did not end inside Submit. May be null.</summary>
    public IWaker? Owner { get; set; }

    private bool _completed = true;

    /// <summary>Begins a new write at an offset.</summary>
    public void PrepareWrite(long offset)
    {
        Invariant.Check(IsCompleted, "a file operation was reused before it ended");
        _completed = false;
        _count = 0;
        Offset = offset;
        IsSync = false;
        Error = 0;
    }

    /// <summary>Becomes an fdatasync of everything written before Submit.</summary>
    public void PrepareSync()
    {
        PrepareWrite(0);
        IsSync = true;
    }

    /// <summary>Adds bytes; they must stay valid and unchanged until completion. False when full.</summary>
    public bool TryAdd(byte* data, int length)
    {
        if (_count == Segments.Length)
        {
            return false;
        }

        Segments[_count++] = new FileSegment(data, length);
        return true;
    }

    /// <summary>Called by the file, once.</summary>
    public void Complete(int error)
    {
        Error = error;
        System.Threading.Volatile.Write(ref _completed, true);
    }
}

/// <summary>Native bytes; laid out as struct iovec.</summary>
public readonly unsafe struct FileSegment
{
    public readonly byte* Data;
    public readonly nint Length;

    public FileSegment(byte* data, int length)
    {
        Data = data;
        Length = length;
    }
}
