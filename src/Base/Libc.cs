// Libc: the few system calls the runtime does not offer, or offers with results swallowed. Every caller checks
// the result. 64-bit Linux only (off_t is 64 bits); the syscall numbers of futex differ per architecture.
using System.Runtime.InteropServices;

namespace Cairn.Base;

internal static unsafe partial class Libc
{
    public const int ReadOnly = 0;
    public const int ReadWrite = 2;
    public const int Create = 0x40;
    public const int Truncate = 0x200;
    public const int CloseOnExec = 0x80000;
    public const int Directory = 0x10000;

    public const int ProtRead = 1;
    public const int MapShared = 1;
    public const int MapNoReserve = 0x4000;
    public const int AdviseRandom = 1;
    public const int AdvisePopulateRead = 22;

    public const int AllocateKeepSize = 1;
    public const int AllocatePunchHole = 2;
    public const int SyncFileRangeWrite = 2;

    public const int LockExclusive = 2;
    public const int LockNonBlocking = 4;
    public const int LockUnlock = 8;
    public const int SetOpenFileDescriptionLock = 37;

    public const int NotPermitted = 1;
    public const int Interrupted = 4;
    public const int Again = 11;
    public const int Access = 13;
    public const int Invalid = 22;
    public const int NoSpace = 28;
    public const int NameTooLong = 36;
    public const int NotSupported = 95;
    public const int OverDiskQuota = 122;

    public const int UsageOfSelf = 0;

    public const int FutexWaitPrivate = 128;
    public const int FutexWakePrivate = 129;

    public static readonly nint FutexNumber =
        RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 98 : 202;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    public static partial nint Pread(int fd, byte* buffer, nint count, long offset);

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    public static partial nint Pwrite(int fd, byte* buffer, nint count, long offset);

    [LibraryImport("libc", EntryPoint = "pwritev", SetLastError = true)]
    public static partial nint Pwritev(int fd, FileSegment* segments, int count, long offset);

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    public static partial int Fdatasync(int fd);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    public static partial int Fsync(int fd);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    public static partial int Ftruncate(int fd, long length);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Fallocate(int fd, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "sync_file_range", SetLastError = true)]
    public static partial int SyncFileRange(int fd, long offset, long length, uint flags);

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    public static partial long Lseek(int fd, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "flock", SetLastError = true)]
    public static partial int Flock(int fd, int operation);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int FcntlLock(int fd, int command, FileLock* description);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial byte* Mmap(nint address, nint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Munmap(byte* address, nint length);

    [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
    public static partial int Madvise(byte* address, nint length, int advice);

    [LibraryImport("libc", EntryPoint = "mincore", SetLastError = true)]
    public static partial int Mincore(byte* address, nint length, byte* residency);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Rename(string from, string to);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true)]
    public static partial int Rename(byte* from, byte* to);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint Futex(nint number, int* word, int operation, int value, TimeSpec* timeout, nint unused, int unused3);

    [LibraryImport("libc", EntryPoint = "getrusage", SetLastError = true)]
    public static partial int GetResourceUsage(int who, ResourceUsage* usage);

    /// <summary>struct rusage, of which one field is of use here.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 144)]
    public struct ResourceUsage
    {
        [FieldOffset(72)]
        public long MajorFaults;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct FileLock
    {
        public short Type; // F_WRLCK is 1
        public short Whence; // SEEK_SET is 0
        public long Start;
        public long Length; // 0: to the end, however long
        public int Pid; // must be 0 for open-file-description locks
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}
