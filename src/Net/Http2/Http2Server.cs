// Http2Server: the loops of one front end and their threads. Connections are dealt out in turn.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http2;

/// <summary>Accepts and serves HTTP/2 without TLS until stopped.</summary>
internal sealed class Http2Server : IDisposable
{
    private readonly Http2Loop[] _loops;
    private readonly ActorThread[] _threads;
    private int _next;

    /// <param name="server">Table and limits of calls.</param>
    /// <param name="limits">Limits of connections.</param>
    /// <param name="loops">How many threads.</param>
    /// <param name="fatal">Told when a loop fails.</param>
    /// <param name="gate">Limits the connections; a connection given away leaves it when its new owner says so.</param>
    /// <param name="giveAway">Takes connections that do not speak HTTP/2; called on a loop's thread, must not block.</param>
    public Http2Server(
        RpcServerState server, Http2Limits limits, int loops, IFatal fatal, ConnectionGate gate, Action<Socket> giveAway)
    {
        var pool = new NativePool();
        _loops = new Http2Loop[loops];
        _threads = new ActorThread[loops];
        for (int i = 0; i < loops; i++)
        {
            _loops[i] = new Http2Loop(server, limits, pool, SystemClock.Instance, gate, giveAway);
            _threads[i] = new ActorThread(_loops[i], SystemClock.Instance, fatal);
        }

        _loops[0].Choose = Choose;
        gate.Freed = _loops[0].RoomToAccept;
    }

    /// <summary>Half the cores, at least one: the member's own threads need the others.</summary>
    public static int DefaultLoops => Math.Clamp(Environment.ProcessorCount / 2, 1, 8);

    /// <summary>Accepts from a bound socket, which becomes the server's. Before <see cref="Start"/>.</summary>
    public void Listen(Socket socket)
    {
        socket.Blocking = false;
        _loops[0].Listen(socket, socket.AddressFamily != AddressFamily.Unix, sniffs: true);
    }

    public void Start()
    {
        foreach (ActorThread thread in _threads)
        {
            thread.Start();
        }
    }

    /// <summary>Stops accepting, asks clients to go, waits for running calls until cancelled, then cuts what is left.</summary>
    public async Task StopAsync(CancellationToken cancelled)
    {
        var drained = new List<Task>();
        foreach (Http2Loop loop in _loops)
        {
            loop.BeginDrain();
            drained.Add(loop.Drained);
        }

        Task all = Task.WhenAll(drained);
        try
        {
            await all.WaitAsync(cancelled);
        }
        catch (OperationCanceledException)
        {
            foreach (Http2Loop loop in _loops)
            {
                loop.Abort();
            }

            await all;
        }
    }

    /// <summary>Ends the threads. After the member has stopped: until then handlers may still come back to them.</summary>
    public void Dispose()
    {
        for (int i = 0; i < _loops.Length; i++)
        {
            _loops[i].End();
            _threads[i].Stop();
            _loops[i].Dispose();
        }
    }

    private Http2Loop Choose() => _loops[(uint)_next++ % (uint)_loops.Length];
}
