// Proxy: TCP in the middle of the way to one member's peer port. It reads who dials out of the handshake (the member id stands
// 36 bytes after the start), and may turn some away, or swallow everything in silence while connections stay.
using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Cluster;

internal sealed class Proxy : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentDictionary<TcpClient, byte> _open = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly int _target;
    private readonly Task _accepting;
    private Func<ulong, bool> _blocks = static _ => false;
    private volatile bool _isSilent;

    public Proxy(int targetPort)
    {
        _target = targetPort;
        _listener.Start();
        _accepting = Accept();
    }

    public string Url => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>Turns away whom the rule says (by member id, 0 for HTTP), and ends what is open.</summary>
    public void Block(Func<ulong, bool> rule)
    {
        Volatile.Write(ref _blocks, rule);
        CloseAll();
    }

    /// <summary>Swallows everything without a word.</summary>
    public void Silence() => _isSilent = true;

    /// <summary>Passes bytes again; what was swallowed is lost, so old connections end.</summary>
    public void Heal()
    {
        Volatile.Write(ref _blocks, static _ => false);
        _isSilent = false;
        CloseAll();
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        CloseAll();
        await _accepting;
        _stop.Dispose();
    }

    private void CloseAll()
    {
        foreach (TcpClient client in _open.Keys)
        {
            client.Close();
        }

        _open.Clear();
    }

    private async Task Accept()
    {
        try
        {
            while (!_stop.IsCancellationRequested)
            {
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _ = Join(client);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Stopped.
        }
    }

    private async Task Join(TcpClient client)
    {
        TcpClient server = new() { NoDelay = true };
        client.NoDelay = true;
        try
        {
            _open[client] = 0;
            _open[server] = 0;
            byte[] first = new byte[44];
            int count = await client.GetStream().ReadAtLeastAsync(first, 1, false, _stop.Token);
            if (count > 0 && first[0] == 0xF3 && count < first.Length)
            {
                count += await client.GetStream().ReadAtLeastAsync(first.AsMemory(count), first.Length - count, false, _stop.Token);
            }

            ulong from = count == first.Length && first[0] == 0xF3 ? BinaryPrimitives.ReadUInt64LittleEndian(first.AsSpan(36)) : 0;
            if (count == 0 || Volatile.Read(ref _blocks)(from))
            {
                throw new OperationCanceledException();
            }

            await server.ConnectAsync(IPAddress.Loopback, _target, _stop.Token);
            await server.GetStream().WriteAsync(first.AsMemory(0, count), _stop.Token);
            await Task.WhenAny(Pump(client, server), Pump(server, client));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException or IOException or InvalidOperationException)
        {
            // Turned away, or nobody there.
        }

        client.Close();
        server.Close();
        _open.TryRemove(client, out _);
        _open.TryRemove(server, out _);
    }

    private async Task Pump(TcpClient from, TcpClient to)
    {
        byte[] buffer = new byte[64 << 10];
        try
        {
            int count;
            while ((count = await from.GetStream().ReadAsync(buffer, _stop.Token)) > 0)
            {
                if (!_isSilent)
                {
                    await to.GetStream().WriteAsync(buffer.AsMemory(0, count), _stop.Token);
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            // One side ended.
        }
    }
}
