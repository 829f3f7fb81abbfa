// PosixFileSystem: names and directories over plain system calls. Any thread.
using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace Cairn.Base;

/// <summary>Production <see cref="IFileSystem"/>.</summary>
public sealed class PosixFileSystem : IFileSystem
{
    public static readonly PosixFileSystem Instance = new();

    public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180)
    {
        int flags = Libc.CloseOnExec | mode switch
        {
            FileOpenMode.Read => Libc.ReadOnly,
            FileOpenMode.ReadWrite => Libc.ReadWrite,
            FileOpenMode.OpenOrCreate => Libc.ReadWrite | Libc.Create,
            FileOpenMode.CreateOrTruncate => Libc.ReadWrite | Libc.Create | Libc.Truncate,
            _ => throw new ArgumentOutOfRangeException(nameof(mode)),
        };

        int fd;
        do
        {
            fd = Libc.Open(path, flags, unixMode);
        }
        while (fd < 0 && Marshal.GetLastPInvokeError() == Libc.Interrupted);
        return fd >= 0
            ? new PosixFile(path, fd)
            : throw Posix.Failure("open", path, Marshal.GetLastPInvokeError());
    }

    public bool FileExists(string path) => File.Exists(path);

    public bool DirectoryExists(string path) => Directory.Exists(path);

    public void CreateDirectory(string path) => Translate("mkdir", path, static p =>
        Directory.CreateDirectory(p, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute));

    public string[] List(string directory)
    {
        string[] names = [];
        Translate("opendir", directory, p =>
        {
            names = Directory.GetFileSystemEntries(p);
            for (int i = 0; i < names.Length; i++)
            {
                names[i] = Path.GetFileName(names[i]);
            }
        });
        Array.Sort(names, StringComparer.Ordinal);
        return names;
    }

    public void Rename(string from, string to)
    {
        if (Libc.Rename(from, to) != 0)
        {
            throw Posix.Failure("rename", from + " -> " + to, Marshal.GetLastPInvokeError());
        }
    }

    public unsafe void Rename(string from, string directory, ReadOnlySpan<char> name)
    {
        const int PathMax = 4096; // the system's own limit, the final zero included
        byte* oldPath = stackalloc byte[PathMax];
        byte* newPath = stackalloc byte[PathMax];
        int oldLength = 0;
        int newLength = 0;
        bool fits = Append(from, oldPath, ref oldLength) && Append(directory, newPath, ref newLength)
            && (directory.EndsWith('/') || Append("/", newPath, ref newLength)) && Append(name, newPath, ref newLength);
        if (!fits || Libc.Rename(oldPath, newPath) != 0)
        {
            string names = string.Concat(from, " -> ", directory, "/") + name.ToString();
            throw Posix.Failure("rename", names, fits ? Marshal.GetLastPInvokeError() : Libc.NameTooLong);
        }

        // Always leaves a zero behind.
        static bool Append(ReadOnlySpan<char> text, byte* path, ref int length)
        {
            if (!Encoding.UTF8.TryGetBytes(text, new Span<byte>(path + length, PathMax - 1 - length), out int written))
            {
                return false;
            }

            length += written;
            path[length] = 0;
            return true;
        }
    }

    public void DeleteFile(string path) => Translate("unlink", path, static p =>
    {
        if (!File.Exists(p))
        {
            throw new FileNotFoundException("no such file or directory", p);
        }

        File.Delete(p);
    });

    public void DeleteDirectory(string path) =>
        Translate("rmdir", path, static p => Directory.Delete(p, recursive: true));

    public void SyncDirectory(string path)
    {
        int fd = Libc.Open(path, Libc.ReadOnly | Libc.Directory | Libc.CloseOnExec, 0);
        if (fd < 0)
        {
            throw Posix.Failure("open", path, Marshal.GetLastPInvokeError());
        }

        int result;
        int errno = 0;
        do
        {
            result = Libc.Fsync(fd);
            errno = result == 0 ? 0 : Marshal.GetLastPInvokeError();
        }
        while (errno == Libc.Interrupted);
        _ = Libc.Close(fd);
        if (errno != 0)
        {
            throw Posix.Failure("fsync", path, errno);
        }
    }

    private static void Translate(string operation, string path, Action<string> action)
    {
        try
        {
            action(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FileSystemException(operation, path, e.HResult, e.Message);
        }
    }
}

/// <summary>Error texts.</summary>
internal static class Posix
{
    public static FileSystemException Failure(string operation, string path, int errno) =>
        new(operation, path, errno, Marshal.GetPInvokeErrorMessage(errno) + " (errno " + errno.ToString(System.Globalization.CultureInfo.InvariantCulture) + ")");
}
