// Epoll: one wait for many descriptors, and the calls on non-blocking stream sockets that a loop of our own needs.
//
// Thread     Whoever owns the loop; Close may come from another thread once the loop has ended.
// Layout     struct epoll_event is packed on x86-64 (12 bytes) and padded elsewhere (16 bytes); it is read by offset.
using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Cairn.Base;

/// <summary>What <see cref="Epoll"/> waits for, and what it saw.</summary>
[Flags]
public enum EpollEvents : uint
{
    None = 0,
    Readable = 1,
    Writable = 4,

    /// <summary>Seen only.</summary>
    Error = 8,

    /// <summary>Seen only: both sides are closed.</summary>
    HangUp = 16,

    /// <summary>The peer will send no more.</summary>
    PeerClosed = 0x2000,

    /// <summary>Seen once per arrival instead of as long as it lasts.</summary>
    EdgeTriggered = 1u << 31,
}

/// <summary>A set of descriptors, each with a tag of the owner's choice.</summary>
public sealed unsafe partial class Epoll : IDisposable
{
    private const int Add = 1;
    private const int Delete = 2;
    private const int Change = 3;
    private const int CloseOnExec = 0x80000;
    private const int NonBlocking = 0x800;
    private const int Interrupted = 4;
    private const int Peek = 2;
    private const int DontWait = 0x40;
    private const int Tcp = 6;
    private const int TcpNoDelay = 1;
    private const int SocketLevel = 1;
    private const int KeepAlive = 9;

    private static readonly int s_dataAt = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;
    private static readonly int s_size = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;

    private readonly byte[] _events;
    private readonly int _descriptor;
    private bool _closed;

    /// <param name="batch">How many events one wait may return.</param>
    public Epoll(int batch)
    {
        _events = GC.AllocateArray<byte>(batch * 16, pinned: true);
        Batch = batch;
        _descriptor = EpollCreate(CloseOnExec);
        Invariant.Check(_descriptor >= 0, "an epoll descriptor can be made");
    }

    /// <summary>How many events one wait may return.</summary>
    public int Batch { get; }

    /// <summary>Starts watching a descriptor. False when the kernel refuses (too many watches).</summary>
    public bool TryAdd(int descriptor, EpollEvents events, ulong tag) => Control(Add, descriptor, events, tag) == 0;

    /// <summary>Changes what is watched for.</summary>
    public void Modify(int descriptor, EpollEvents events, ulong tag) => _ = Control(Change, descriptor, events, tag);

    /// <summary>Stops watching a descriptor that stays open.</summary>
    public void Remove(int descriptor) => _ = Control(Delete, descriptor, EpollEvents.None, 0);

    /// <summary>Waits; 0 when the time has passed or a signal came.</summary>
    /// <param name="milliseconds">Longest wait; negative for ever.</param>
    public int Wait(int milliseconds)
    {
        fixed (byte* events = _events)
        {
            int seen = EpollWait(_descriptor, events, Batch, milliseconds);
            return seen < 0 ? 0 : seen;
        }
    }

    /// <summary>One event of the last wait.</summary>
    public (EpollEvents Events, ulong Tag) this[int index]
    {
        get
        {
            ReadOnlySpan<byte> entry = _events.AsSpan(index * s_size, s_size);
            return ((EpollEvents)BinaryPrimitives.ReadUInt32LittleEndian(entry),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[s_dataAt..]));
        }
    }

    public void Dispose()
    {
        if (!_closed)
        {
            _closed = true;
            SocketCalls.Close(_descriptor);
        }
    }

    /// <summary>Takes the next connection, non-blocking and closed on exec.</summary>
    /// <param name="listener">A non-blocking listening socket.</param>
    /// <param name="error">The error number when there is none.</param>
    /// <returns>A descriptor, or negative.</returns>
    public static int Accept(int listener, out int error)
    {
        int descriptor = Accept4(listener, null, null, NonBlocking | CloseOnExec);
        error = descriptor < 0 ? Marshal.GetLastPInvokeError() : 0;
        return descriptor;
    }

    /// <summary>Sends at once what is written, and lets the kernel look after peers that vanished.</summary>
    public static void Prepare(int descriptor, bool isTcp)
    {
        int on = 1;
        _ = SetSocketOption(descriptor, SocketLevel, KeepAlive, &on, 4);
        if (isTcp)
        {
            _ = SetSocketOption(descriptor, Tcp, TcpNoDelay, &on, 4);
        }
    }

    /// <summary>Reads what is there.</summary>
    /// <returns>Bytes; 0 at the end of the stream; -1 when nothing is there yet; -2 when the connection is broken.</returns>
    public static int Receive(int descriptor, byte* buffer, int count, bool peek = false)
    {
        while (true)
        {
            nint received = Recv(descriptor, buffer, count, DontWait | (peek ? Peek : 0));
            if (received >= 0)
            {
                return (int)received;
            }

            int error = Marshal.GetLastPInvokeError();
            if (error != Interrupted)
            {
                return error == Libc.Again ? -1 : -2;
            }
        }
    }

    /// <summary>Tells the peer that nothing more will come; reading goes on.</summary>
    public static void EndWriting(int descriptor) => _ = Shutdown(descriptor, 1);

    private int Control(int operation, int descriptor, EpollEvents events, ulong tag)
    {
        byte* entry = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(entry, 4), (uint)events);
        BinaryPrimitives.WriteUInt64LittleEndian(new Span<byte>(entry + s_dataAt, 8), tag);
        return EpollControl(_descriptor, operation, descriptor, entry);
    }

    [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
    private static partial int EpollCreate(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
    private static partial int EpollControl(int epoll, int operation, int descriptor, byte* entry);

    [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
    private static partial int EpollWait(int epoll, byte* entries, int count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    private static partial int Accept4(int listener, byte* address, int* length, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    private static partial nint Recv(int descriptor, byte* buffer, nint count, int flags);

    [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
    private static partial int Shutdown(int descriptor, int how);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetSocketOption(int descriptor, int level, int option, int* value, int length);
}
