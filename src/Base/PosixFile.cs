// PosixFile: one open file over plain system calls with every result checked.
//
// Why not FileStream or RandomAccess: .NET's flush treats EROFS, EINVAL and ENOTSUP as success, so a file system
// that went read-only after an error would look synced.
// Thread   one writer; reads and the map by anybody. Dispose only when nobody reads any more.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Base;

/// <summary>Production <see cref="IFile"/>.</summary>
internal sealed unsafe class PosixFile : IFile
{
    private readonly int _fd;
    private byte* _map;
    private long _mapBytes;
    private bool _closed;
    private bool _flocked;

    public PosixFile(string path, int fd)
    {
        Path = path;
        _fd = fd;
    }

    public string Path { get; }

    public long Length
    {
        get
        {
            long end = Libc.Lseek(_fd, 0, 2);
            return end >= 0 ? end : throw Error("lseek");
        }
    }

    public int Read(long offset, Span<byte> buffer)
    {
        int done = 0;
        fixed (byte* start = buffer)
        {
            while (done < buffer.Length)
            {
                nint read = Libc.Pread(_fd, start + done, buffer.Length - done, offset + done);
                if (read == 0)
                {
                    break;
                }

                if (read < 0)
                {
                    if (Marshal.GetLastPInvokeError() == Libc.Interrupted)
                    {
                        continue;
                    }

                    throw Error("pread");
                }

                done += (int)read;
            }
        }

        return done;
    }

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        fixed (byte* start = data)
        {
            int errno = WriteAll(start, data.Length, offset);
            if (errno != 0)
            {
                throw Posix.Failure("pwrite", Path, errno);
            }
        }
    }

    public void Sync()
    {
        int errno = SyncOnce();
        if (errno != 0)
        {
            throw Posix.Failure("fdatasync", Path, errno);
        }
    }

    public void SetLength(long length)
    {
        while (Libc.Ftruncate(_fd, length) != 0)
        {
            if (Marshal.GetLastPInvokeError() != Libc.Interrupted)
            {
                throw Error("ftruncate");
            }
        }
    }

    public void Allocate(long offset, long length)
    {
        while (Libc.Fallocate(_fd, 0, offset, length) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno == Libc.NotSupported)
            {
                if (Length < offset + length)
                {
                    SetLength(offset + length);
                }

                return;
            }

            if (errno != Libc.Interrupted)
            {
                throw Posix.Failure("fallocate", Path, errno);
            }
        }
    }

    public void PunchHole(long offset, long length)
    {
        int mode = Libc.AllocatePunchHole | Libc.AllocateKeepSize;
        while (Libc.Fallocate(_fd, mode, offset, length) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno == Libc.NotSupported)
            {
                return;
            }

            if (errno != Libc.Interrupted)
            {
                throw Posix.Failure("fallocate(punch hole)", Path, errno);
            }
        }
    }

    public void StartWriteback(long offset, long length)
    {
        // Only a hint: a file system without it (ENOSYS, ESPIPE, EINVAL) is merely less smooth, and a real write
        // error shows at the next fdatasync, which is checked.
        _ = Libc.SyncFileRange(_fd, offset, length, Libc.SyncFileRangeWrite);
    }

    public bool TryLock(FileLockKind kind)
    {
        while (true)
        {
            int result;
            if (kind == FileLockKind.Flock)
            {
                result = Libc.Flock(_fd, Libc.LockExclusive | Libc.LockNonBlocking);
            }
            else
            {
                Libc.FileLock description = default;
                description.Type = 1;
                result = Libc.FcntlLock(_fd, Libc.SetOpenFileDescriptionLock, &description);
            }

            if (result == 0)
            {
                _flocked |= kind == FileLockKind.Flock;
                return true;
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno is Libc.Again or Libc.Access)
            {
                return false;
            }

            if (errno != Libc.Interrupted)
            {
                throw Posix.Failure("lock", Path, errno);
            }
        }
    }

    public byte* Map(long reserveBytes)
    {
        Invariant.Check(_map == null, "a file is mapped once");
        byte* map = Libc.Mmap(0, (nint)reserveBytes, Libc.ProtRead, Libc.MapShared | Libc.MapNoReserve, _fd, 0);
        if ((nint)map == -1)
        {
            throw Error("mmap");
        }

        _map = map;
        _mapBytes = reserveBytes;
        return map;
    }

    public void Populate(long offset, long length)
    {
        long first = offset & ~4095L;
        while (Libc.Madvise(_map + first, (nint)(offset + length - first), Libc.AdvisePopulateRead) != 0)
        {
            // EINVAL on kernels before 5.14: then the first touch faults, which is slower but right. Anything else
            // (a sector that cannot be read) would be a SIGBUS at the first touch: an error here can be answered.
            int errno = Marshal.GetLastPInvokeError();
            if (errno is Libc.Invalid or Libc.Again)
            {
                return;
            }

            if (errno != Libc.Interrupted)
            {
                throw Posix.Failure("madvise(populate)", Path, errno);
            }
        }
    }

    public bool IsResident(long offset, long length)
    {
        const int PagesPerCall = 512;
        const long PageBytes = 4096; // where the system's are larger, mincore refuses and the caller's next call decides
        byte* residency = stackalloc byte[PagesPerCall];
        long end = offset + length;
        for (long at = offset & ~(PageBytes - 1); at < end; at += PagesPerCall * PageBytes)
        {
            int pages = (int)Math.Min(PagesPerCall, (end - at + PageBytes - 1) / PageBytes);
            if (Libc.Mincore(_map + at, (nint)(pages * PageBytes), residency) != 0)
            {
                return true; // cannot be told
            }

            // Bit 0 says resident; the others are reserved.
            for (int i = 0; i < pages; i++)
            {
                if ((residency[i] & 1) == 0)
                {
                    return false;
                }
            }
        }

        return true;
    }

    public void Submit(FileOperation operation)
    {
        int errno = operation.IsSync ? SyncOnce() : WriteSegments(operation);
        operation.Complete(errno);
    }

    public void Dispose()
    {
        if (_closed)
        {
            return;
        }

        _closed = true;
        if (_map != null)
        {
            _ = Libc.Munmap(_map, (nint)_mapBytes);
            _map = null;
        }

        if (_flocked)
        {
            // Closing is not enough: a child that another thread is just starting holds the same lock until it execs.
            _ = Libc.Flock(_fd, Libc.LockUnlock);
        }

        _ = Libc.Close(_fd);
    }

    private int SyncOnce()
    {
        while (Libc.Fdatasync(_fd) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Libc.Interrupted)
            {
                return errno;
            }
        }

        return 0;
    }

    private int WriteSegments(FileOperation operation)
    {
        const int MaxPerCall = 1024; // IOV_MAX
        long offset = operation.Offset;
        int index = 0;
        fixed (FileSegment* segments = operation.Segments)
        {
            while (index < operation.Count)
            {
                int count = Math.Min(operation.Count - index, MaxPerCall);
                nint written = Libc.Pwritev(_fd, segments + index, count, offset);
                if (written < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    if (errno == Libc.Interrupted)
                    {
                        continue;
                    }

                    return errno;
                }

                offset += written;
                while (index < operation.Count && written >= segments[index].Length)
                {
                    written -= segments[index].Length;
                    index++;
                }

                if (written > 0)
                {
                    // A short write inside a segment: finish that segment alone, then go on with vectors.
                    nint rest = segments[index].Length - written;
                    int errno = WriteAll(segments[index].Data + written, rest, offset);
                    if (errno != 0)
                    {
                        return errno;
                    }

                    offset += rest;
                    index++;
                }
            }
        }

        return 0;
    }

    private int WriteAll(byte* data, nint length, long offset)
    {
        while (length > 0)
        {
            nint written = Libc.Pwrite(_fd, data, length, offset);
            if (written < 0)
            {
                int errno = Marshal.GetLastPInvokeError();
                if (errno == Libc.Interrupted)
                {
                    continue;
                }

                return errno;
            }

            data += written;
            offset += written;
            length -= written;
        }

        return 0;
    }

    private FileSystemException Error(string operation) =>
        Posix.Failure(operation, Path, Marshal.GetLastPInvokeError());
}
