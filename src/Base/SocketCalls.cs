// SocketCalls: sends and waits on sockets that the runtime's Socket does not offer: a send that never blocks on a socket
// whose reader does, and one wait for many sockets without the thread pool.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Base;

/// <summary>A socket to wait for, in the kernel's layout (struct pollfd).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PollEntry
{
    public int Descriptor;
    public short Wanted;
    public short Seen;
}

/// <summary>Socket calls by descriptor. The caller keeps the descriptor open.</summary>
public static unsafe partial class SocketCalls
{
    /// <summary>Something can be read or accepted.</summary>
    public const short Readable = 1;

    private const int DontWait = 0x40;
    private const int NoSignal = 0x4000;
    private const int EventNonBlocking = 0x800;

    /// <summary>Sends what the kernel takes at once.</summary>
    /// <returns>Bytes sent; 0 when the buffer is full; negative when the connection is gone.</returns>
    public static int SendNow(int descriptor, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            while (true)
            {
                nint sent = Send(descriptor, start, bytes.Length, DontWait | NoSignal);
                if (sent >= 0)
                {
                    return (int)sent;
                }

                int error = Marshal.GetLastPInvokeError();
                if (error == Libc.Interrupted)
                {
                    continue;
                }

                return error == Libc.Again ? 0 : -1;
            }
        }
    }

    /// <summary>Waits until an entry has something to say or the time has passed. Returns how many have; 0 on time-out.</summary>
    public static int Wait(Span<PollEntry> entries, int milliseconds)
    {
        fixed (PollEntry* start = entries)
        {
            int ready = Poll(start, (nuint)entries.Length, milliseconds);
            return ready < 0 ? 0 : ready;
        }
    }

    /// <summary>A descriptor that becomes readable by <see cref="Signal"/>; close it with <see cref="Close"/>.</summary>
    public static int NewEvent()
    {
        int descriptor = EventFd(0, Libc.CloseOnExec | EventNonBlocking);
        Invariant.Check(descriptor >= 0, "an event descriptor can be made");
        return descriptor;
    }

    public static void Signal(int descriptor)
    {
        ulong one = 1;
        _ = Write(descriptor, (byte*)&one, 8);
    }

    /// <summary>Makes an event unreadable again.</summary>
    public static void Clear(int descriptor)
    {
        ulong value;
        _ = Read(descriptor, (byte*)&value, 8);
    }

    public static void Close(int descriptor) => _ = Libc.Close(descriptor);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    private static partial nint Send(int descriptor, byte* bytes, nint count, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int Poll(PollEntry* entries, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int EventFd(uint value, int flags);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint Write(int descriptor, byte* bytes, nint count);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint Read(int descriptor, byte* bytes, nint count);
}
