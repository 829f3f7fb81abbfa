// Http2Loop: one thread that owns the connections given to it: waits for all of them at once, reads, runs handlers, sends.
//
// Pass       wait → each connection that has something: one read, all its frames, its handlers → what other threads posted
//            → one send for each connection that has answers.
// Blocking   A put that is alone in the member is carried through log and store by this thread (Base/Carrier), fdatasync
//            included, if nothing else is waiting for this thread. Whether somebody had to wait meanwhile is looked at
//            afterwards, and then nothing is carried here for a while, twice as long each time (CarryPolicy). Nothing else waits.
// Posting    A lock-free stack of calls, taken whole; the thread is woken by an event descriptor only when it sleeps.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http2;

/// <summary>The actor of an I/O thread. Its poll waits in the kernel, so it has a wake of its own.</summary>
internal sealed unsafe class Http2Loop : IActor, IDisposable
{
    /// <summary>What one connection may bring in one turn; bytes.</summary>
    public const int TurnBytes = 32 * 1024;

    private const int ReceiveBytes = TurnBytes + Http2Protocol.FrameHeadBytes + Http2Protocol.DefaultFrameSize;

    private const int Batch = 128;
    private const int FirstConnectionTag = 64;
    private const int SpareCallsMax = 4096;
    private const long AcceptPauseNs = 100_000_000;
    private const int FullOfDescriptors = 24;
    private const int SystemFullOfDescriptors = 23;

    private readonly Epoll _epoll = new(Batch);
    private readonly IClock _clock;
    private readonly Action<Socket> _giveAway;
    private readonly ConcurrentQueue<(int Socket, bool Sniffs)> _adopted = new();
    private readonly List<Listener> _listeners = [];
    private readonly List<Http2Connection?> _connections = [];
    private readonly Stack<int> _free = new();
    private readonly List<Http2Connection> _dirty = [];
    private readonly Stack<Http2Call> _spare = new();
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly int _event;
    private CarryPolicy _carries = new();
    private int _early; // events taken from the kernel by a look aside, not yet served
    private bool _others; // more connections of this pass wait for their turn
    private Http2Call? _posted;
    private int _sleeping;
    private int _threadId;
    private int _count;
    private ulong _generation = 1;
    private bool _roomToAccept;
    private long _lookNs = long.MaxValue;
    private long _acceptNs;
    private volatile bool _draining;
    private volatile bool _aborting;
    private volatile bool _ended;
    private bool _drainBegun;

    public Http2Loop(
        RpcServerState server, Http2Limits limits, NativePool pool, IClock clock, ConnectionGate gate, Action<Socket> giveAway)
    {
        Server = server;
        Gate = gate;
        Limits = limits;
        Pool = pool;
        _clock = clock;
        _giveAway = giveAway;
        Head = new RequestHead(Http2Limits.HeaderListMax);
        Scratch = new byte[(2 * Http2Limits.HeaderListMax) + 8192];
        Received = (byte*)NativeMemory.Alloc(ReceiveBytes);
        _event = SocketCalls.NewEvent();
        Invariant.Check(_epoll.TryAdd(_event, EpollEvents.Readable, 0), "the event descriptor can be watched");
    }

    /// <summary>Where accepted connections go next; set before the thread starts.</summary>
    public Func<Http2Loop>? Choose { get; set; }

    public string RoleName => "io";

    /// <summary>Never: the poll itself waits.</summary>
    public long NextDeadlineNs => long.MaxValue;

    public RpcServerState Server { get; }

    public Http2Limits Limits { get; }

    /// <summary>Counts the connections of all loops.</summary>
    public ConnectionGate Gate { get; }

    /// <summary>A write may be carried now: nobody is known to wait for this thread.</summary>
    public bool MayBlock => !_others && _carries.MayCarry(NowNs);

    public NativePool Pool { get; }

    public RequestHead Head { get; }

    public byte[] Scratch { get; }

    public TextCache Texts { get; } = new();

    /// <summary>The receive buffer.</summary>
    public byte* Received { get; }

    /// <summary>Time of this pass.</summary>
    public long NowNs { get; private set; }

    /// <summary>The caller is the loop's thread.</summary>
    public bool IsHere => Environment.CurrentManagedThreadId == _threadId;

    /// <summary>Completes when <see cref="BeginDrain"/> was called and the last connection has gone.</summary>
    public Task Drained => _drained.Task;

    /// <summary>Accepts from a listening, non-blocking socket. Before the thread starts.</summary>
    public void Listen(Socket socket, bool isTcp, bool sniffs)
    {
        var listener = new Listener(socket, isTcp, sniffs);
        _listeners.Add(listener);
        Invariant.Check(_listeners.Count < FirstConnectionTag, "a server has fewer addresses than tags");
        Invariant.Check(
            _epoll.TryAdd((int)socket.Handle, EpollEvents.Readable, (ulong)_listeners.Count), "a listener can be watched");
    }

    /// <summary>Stops accepting and asks every client to go.</summary>
    public void BeginDrain()
    {
        _draining = true;
        SocketCalls.Signal(_event);
    }

    /// <summary>Cuts every connection.</summary>
    public void Abort()
    {
        _aborting = true;
        SocketCalls.Signal(_event);
    }

    /// <summary>Makes the thread's polls idle, so that it can be stopped.</summary>
    public void End()
    {
        _ended = true;
        SocketCalls.Signal(_event);
    }

    /// <summary>Gives the descriptors back; the thread has ended.</summary>
    public void Dispose()
    {
        foreach (Listener listener in _listeners)
        {
            listener.Socket.Dispose();
        }

        _epoll.Dispose();
    }

    /// <summary>A connection has ended, so another one may be accepted. Any thread.</summary>
    public void RoomToAccept()
    {
        Volatile.Write(ref _roomToAccept, true);
        SocketCalls.Signal(_event);
    }

    /// <summary>A connection of another loop's listener.</summary>
    public void Adopt(int socket, bool sniffs)
    {
        _adopted.Enqueue((socket, sniffs));
        SocketCalls.Signal(_event);
    }

    /// <summary>Has <see cref="Http2Call.OnSignals"/> run on this thread soon. Any thread; a call not posted already.</summary>
    public void Post(Http2Call call)
    {
        Http2Call? head = Volatile.Read(ref _posted);
        while (true)
        {
            call.NextPosted = head;
            Http2Call? seen = Interlocked.CompareExchange(ref _posted, call, head);
            if (ReferenceEquals(seen, head))
            {
                break;
            }

            head = seen;
        }

        if (Volatile.Read(ref _sleeping) != 0 && Interlocked.Exchange(ref _sleeping, 0) != 0)
        {
            SocketCalls.Signal(_event);
        }
    }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (_ended)
        {
            return false;
        }

        _threadId = Environment.CurrentManagedThreadId;
        int ready = _early > 0 ? _early : Sleep(nowNs);
        _early = 0;
        NowNs = _clock.NowNs;
        int carried = Carrier.RunsHere;
        for (int i = 0; i < ready; i++)
        {
            (EpollEvents events, ulong tag) = _epoll[i];
            _others = i + 1 < ready;
            Dispatch(events, tag);
        }

        if (Carrier.RunsHere != carried)
        {
            // Before the answer leaves, so whoever is there now had to wait.
            _early = _epoll.Wait(0);
            _carries.Carried(_clock.NowNs - NowNs, _early > 0, NowNs);
        }

        while (_adopted.TryDequeue(out (int Socket, bool Sniffs) adopted))
        {
            Admit(adopted.Socket, adopted.Sniffs);
        }

        RunPosted();
        if (_draining)
        {
            Drain();
        }

        if (Volatile.Read(ref _roomToAccept))
        {
            Volatile.Write(ref _roomToAccept, false);
            if (_acceptNs != 0)
            {
                PauseListeners(false);
            }
        }

        if (NowNs >= _lookNs || (_acceptNs != 0 && NowNs >= _acceptNs))
        {
            LookAround();
        }

        FlushDirty();
        return true;
    }

    /// <summary>The connection has something to send.</summary>
    public void MarkDirty(Http2Connection connection)
    {
        if (!connection.IsDirty)
        {
            connection.IsDirty = true;
            _dirty.Add(connection);
        }
    }

    /// <summary>The connection's next deadline may have become earlier.</summary>
    public void LookAt(Http2Connection connection)
    {
        _lookNs = Math.Min(_lookNs, connection.OnTime(NowNs));
    }

    public void Watch(int socket, EpollEvents events, ulong tag) => _epoll.Modify(socket, events, tag);

    /// <summary>Hands a socket to the other engine. False when it could not be; then it is still the caller's to close.</summary>
    public bool GiveAway(int socket)
    {
        _epoll.Remove(socket);
        var handle = new SafeSocketHandle(socket, ownsHandle: true);
        Socket given;
        try
        {
            given = new Socket(handle);
        }
        catch (SocketException)
        {
            handle.SetHandleAsInvalid(); // still the caller's
            return false;
        }

        _giveAway(given);
        return true;
    }

    /// <summary>The connection is closed.</summary>
    public void Forget(Http2Connection connection)
    {
        int index = (int)(connection.Tag & 0xffffffff) - FirstConnectionTag;
        _connections[index] = null;
        _free.Push(index);
        _count--;
    }

    public Http2Call Rent() => _spare.TryPop(out Http2Call? call) ? call : new Http2Call(this);

    public void Return(Http2Call call)
    {
        if (_spare.Count < SpareCallsMax)
        {
            _spare.Push(call);
        }
    }

    private int Sleep(long nowNs)
    {
        long wait = Math.Min(_lookNs, _acceptNs == 0 ? long.MaxValue : _acceptNs) - nowNs;
        int milliseconds = _lookNs == long.MaxValue && _acceptNs == 0 ? -1 : (int)Math.Clamp((wait + 999_999) / 1_000_000, 0, 60_000);
        _ = Interlocked.Exchange(ref _sleeping, 1);
        if (Volatile.Read(ref _posted) is not null)
        {
            milliseconds = 0;
        }

        int ready = _epoll.Wait(milliseconds);
        Volatile.Write(ref _sleeping, 0);
        return ready;
    }

    private void Dispatch(EpollEvents events, ulong tag)
    {
        if (tag == 0)
        {
            SocketCalls.Clear(_event);
        }
        else if (tag < FirstConnectionTag)
        {
            Accept(_listeners[(int)tag - 1]);
        }
        else
        {
            int index = (int)(tag & 0xffffffff) - FirstConnectionTag;
            if (_connections[index] is { } connection && connection.Tag == tag)
            {
                connection.OnEvents(events);
            }
        }
    }

    private void Accept(Listener listener)
    {
        for (int i = 0; i < Batch && !_drainBegun; i++)
        {
            if (Gate.MustWait())
            {
                PauseListeners(true);
                return;
            }

            int socket = Epoll.Accept((int)listener.Socket.Handle, out int error);
            if (socket < 0)
            {
                if (error is FullOfDescriptors or SystemFullOfDescriptors)
                {
                    // The backlog holds them meanwhile.
                    PauseListeners(true);
                }

                return;
            }

            Gate.Enter();
            Epoll.Prepare(socket, listener.IsTcp);
            Http2Loop target = Choose?.Invoke() ?? this;
            if (ReferenceEquals(target, this))
            {
                Admit(socket, listener.Sniffs);
            }
            else
            {
                target.Adopt(socket, listener.Sniffs);
            }
        }
    }

    private void PauseListeners(bool pause)
    {
        _acceptNs = pause ? NowNs + AcceptPauseNs : 0;
        for (int i = 0; i < _listeners.Count; i++)
        {
            _epoll.Modify((int)_listeners[i].Socket.Handle, pause ? EpollEvents.None : EpollEvents.Readable, (ulong)i + 1);
        }
    }

    private void Admit(int socket, bool sniffs)
    {
        if (_aborting || _drainBegun)
        {
            SocketCalls.Close(socket);
            Gate.Leave();
            return;
        }

        if (!_free.TryPop(out int index))
        {
            index = _connections.Count;
            _connections.Add(null);
        }

        ulong tag = (_generation++ << 32) | (uint)(index + FirstConnectionTag);
        var connection = new Http2Connection(this, socket, tag, sniffs);
        _connections[index] = connection;
        _count++;
        if (!_epoll.TryAdd(socket, EpollEvents.Readable | EpollEvents.PeerClosed | EpollEvents.EdgeTriggered, tag))
        {
            connection.Close();
            return;
        }

        LookAt(connection);
    }

    private void RunPosted()
    {
        Http2Call? newest = Interlocked.Exchange(ref _posted, null);
        Http2Call? oldest = null;
        while (newest is not null)
        {
            Http2Call? next = newest.NextPosted;
            newest.NextPosted = oldest;
            oldest = newest;
            newest = next;
        }

        while (oldest is not null)
        {
            Http2Call? next = oldest.NextPosted;
            oldest.NextPosted = null;
            oldest.OnSignals();
            oldest = next;
        }
    }

    private void FlushDirty()
    {
        for (int i = 0; i < _dirty.Count; i++)
        {
            Http2Connection connection = _dirty[i];
            connection.IsDirty = false;
            connection.Flush();
        }

        _dirty.Clear();
    }

    private void LookAround()
    {
        if (_acceptNs != 0 && NowNs >= _acceptNs)
        {
            PauseListeners(false);
        }

        long next = _acceptNs == 0 ? long.MaxValue : _acceptNs;
        for (int i = 0; i < _connections.Count; i++)
        {
            if (_connections[i] is { } connection)
            {
                next = Math.Min(next, connection.OnTime(NowNs));
            }
        }

        // Deadlines are not exact; not more than ten rounds a second.
        _lookNs = next == long.MaxValue ? next : Math.Max(next, NowNs + AcceptPauseNs);
    }

    private void Drain()
    {
        if (!_drainBegun)
        {
            _drainBegun = true;
            foreach (Listener listener in _listeners)
            {
                _epoll.Remove((int)listener.Socket.Handle);
                listener.Socket.Dispose();
            }

            _acceptNs = 0;
            foreach (Http2Connection? connection in _connections.ToArray())
            {
                connection?.BeginShutdown();
            }
        }

        if (_aborting)
        {
            foreach (Http2Connection? connection in _connections.ToArray())
            {
                connection?.Close();
            }
        }

        if (_count == 0)
        {
            _drained.TrySetResult();
        }
    }

    private sealed record Listener(Socket Socket, bool IsTcp, bool Sniffs);
}
