// ConnectionGate: how many connections the listeners of one front end may hold. Those beyond wait in the kernel's backlog until
// one of the others ends, as behind etcd's listener; nobody is turned away.
//
// Thread     Enter and IsFull: the loop that accepts. Leave: any thread (a loop, Kestrel).
// Wake       The acceptor says that it waits, then looks again; who leaves counts down, then looks whether somebody waits. Both by
//            full fences, so one of the two sees the other.
using System;
using System.Threading;

namespace Cairn.Net.Http2;

/// <summary>A count with a limit.</summary>
internal sealed class ConnectionGate(long max)
{
    private long _count;
    private int _waiting;

    /// <summary>Wakes the acceptor; set before the first connection.</summary>
    public Action? Freed { get; set; }

    /// <summary>Connections held.</summary>
    public long Count => Interlocked.Read(ref _count);

    /// <summary>True: accept nothing; <see cref="Freed"/> is called when there is room.</summary>
    public bool MustWait()
    {
        if (Count < max)
        {
            return false;
        }

        _ = Interlocked.Exchange(ref _waiting, 1);
        if (Count >= max)
        {
            return true;
        }

        _ = Interlocked.Exchange(ref _waiting, 0);
        return false;
    }

    /// <summary>Counts a connection.</summary>
    public void Enter() => Interlocked.Increment(ref _count);

    /// <summary>A connection has ended.</summary>
    public void Leave()
    {
        Interlocked.Decrement(ref _count);
        if (Interlocked.Exchange(ref _waiting, 0) != 0)
        {
            Freed?.Invoke();
        }
    }
}
