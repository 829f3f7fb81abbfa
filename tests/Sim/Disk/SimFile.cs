// SimFile: an open simulated file. Synchronous calls act at once; submitted ones in simulated time.
using System;
using Cairn.Base;

namespace Cairn.Simulation;

internal sealed unsafe class SimFile(SimFileSystem files, SimInode inode, string path) : IFile
{
    private bool _closed;

    public string Path => path;

    public long Length
    {
        get
        {
            files.ThrowIfDead();
            return inode.Length;
        }
    }

    public int Read(long offset, Span<byte> buffer)
    {
        files.ThrowIfDead();
        return inode.Read(offset, buffer);
    }

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        files.ThrowIfDead();
        ThrowIfError("pwrite", TryWrite(offset, data));
    }

    public void Sync() => ThrowIfError("fdatasync", TrySync(inode.PendingCount));

    public void SetLength(long length)
    {
        files.ThrowIfDead();
        ThrowIfFull("ftruncate", length);
        bool cut = files.OnInterruptibleEvent();
        inode.SetLength(length);
        ThrowIf(cut);
    }

    public void Allocate(long offset, long length)
    {
        if (offset + length > Length)
        {
            ThrowIfFull("fallocate", offset + length);
            bool cut = files.OnInterruptibleEvent();
            inode.SetLength(offset + length);
            ThrowIf(cut);
        }
    }

    public void PunchHole(long offset, long length)
    {
        bool cut = files.OnInterruptibleEvent();
        inode.PunchHole(offset, length);
        ThrowIf(cut);
    }

    public void StartWriteback(long offset, long length) => files.ThrowIfDead();

    public bool TryLock(FileLockKind kind)
    {
        files.ThrowIfDead();
        ref object? holder = ref inode.Locks[(int)kind];
        if (holder is not null && holder != this)
        {
            return false;
        }

        holder = this;
        return true;
    }

    public byte* Map(long reserveBytes)
    {
        files.ThrowIfDead();
        return inode.Map(reserveBytes);
    }

    public void Populate(long offset, long length) => files.ThrowIfDead();

    public void Submit(FileOperation operation)
    {
        files.ThrowIfDead();
        if (files.Scheduler is not { } scheduler)
        {
            operation.Complete(operation.IsSync ? TrySync(inode.PendingCount) : TryWrite(operation.Offset, Gather(operation)));
            return;
        }

        // What a sync covers, and what a write holds, is decided now; when it ends, by the scheduler.
        int covered = inode.PendingCount;
        WriteInFlight? write = operation.IsSync ? null : new WriteInFlight(inode, operation.Offset, Gather(operation));
        if (write is not null)
        {
            files.InFlight.Add(write);
        }

        scheduler.After(scheduler.DrawDiskNs(operation.IsSync), () =>
        {
            if (files.IsDead)
            {
                return;
            }

            if (write is null)
            {
                operation.Complete(TrySync(Math.Min(covered, inode.PendingCount)));
            }
            else
            {
                SimCheck.That(write.Data.AsSpan().SequenceEqual(Gather(operation)), $"{path}: bytes changed while a write ran");
                files.InFlight.Remove(write);
                operation.Complete(TryWrite(write.Offset, write.Data));
            }

            operation.Owner?.Wake();
        });
    }

    public void Dispose()
    {
        if (!_closed)
        {
            _closed = true;
            for (int i = 0; i < inode.Locks.Length; i++)
            {
                if (inode.Locks[i] == this)
                {
                    inode.Locks[i] = null;
                }
            }
        }
    }

    private static byte[] Gather(FileOperation operation)
    {
        long length = 0;
        for (int i = 0; i < operation.Count; i++)
        {
            length += operation.Segments[i].Length;
        }

        byte[] data = new byte[length];
        int at = 0;
        for (int i = 0; i < operation.Count; i++)
        {
            FileSegment segment = operation.Segments[i];
            new ReadOnlySpan<byte>(segment.Data, (int)segment.Length).CopyTo(data.AsSpan(at));
            at += (int)segment.Length;
        }

        return data;
    }

    private int TryWrite(long offset, ReadOnlySpan<byte> data)
    {
        if (!files.HasSpaceFor(inode, offset + data.Length))
        {
            return SimFileSystem.NoSpace;
        }

        bool cut = files.OnInterruptibleEvent();
        inode.Write(offset, data);
        ThrowIf(cut);
        return 0;
    }

    private int TrySync(int covered)
    {
        files.OnEvent();
        if (files.OnSync())
        {
            inode.FailSync(covered, files.Random);
            return SimFileSystem.InputOutputError;
        }

        if (!files.IsLie(path))
        {
            inode.Sync(covered);
        }

        return 0;
    }

    private static void ThrowIf(bool cut)
    {
        if (cut)
        {
            throw new PowerLossException();
        }
    }

    private void ThrowIfFull(string operation, long length)
    {
        if (!files.HasSpaceFor(inode, length))
        {
            ThrowIfError(operation, SimFileSystem.NoSpace);
        }
    }

    private void ThrowIfError(string operation, int error)
    {
        if (error != 0)
        {
            throw new FileSystemException(
                operation, path, error, error == SimFileSystem.NoSpace ? "No space left on device" : "Input/output error");
        }
    }
}
