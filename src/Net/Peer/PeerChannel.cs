// PeerChannel: one connection between members, in clear or under TLS, in the three ways the lanes use one: blocking reads beside
// sends that never wait (urgent), a duplex pipe (bulk), blocking both ways (snapshots, handshakes).
//
// Errors     whatever goes wrong below comes out as SocketException, so that the lanes do not care what carries them.
// Threads    one reads, one sends. End may be called by anybody.
using System;
using System.IO;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Tls;
using Pipelines.Sockets.Unofficial;

namespace Cairn.Net.Peer;

/// <summary>A connection.</summary>
internal sealed class PeerChannel : IDisposable
{
    /// <summary>Encrypted at once; beyond, the rest waits for the next send.</summary>
    private const int EncryptBytes = 64 << 10;

    private readonly SslStream? _tls;
    private readonly TlsWire? _wire;

    private PeerChannel(Socket socket, SslStream? tls, TlsWire? wire)
    {
        Socket = socket;
        _tls = tls;
        _wire = wire;
    }

    /// <summary>For time-outs and addresses; never read or written past this channel.</summary>
    public Socket Socket { get; }

    /// <summary>The kernel has not taken everything yet, though no caller has anything left.</summary>
    public bool HasLeft => _wire is { Left: > 0 };

    /// <summary>A connection in clear.</summary>
    public static PeerChannel Clear(Socket socket) => new(socket, null, null);

    /// <summary>Shakes hands with who has connected; blocks until the deadline at the longest. Disposes the socket when it fails.</summary>
    /// <exception cref="TlsException">He is not believed, or does not speak TLS.</exception>
    public static PeerChannel Accept(Socket socket, TlsEndpoint endpoint, IClock clock, long deadlineNs)
    {
        var wire = new TlsWire(socket, clock) { DeadlineNs = deadlineNs };
        return new PeerChannel(socket, endpoint.Accept(wire, (socket.RemoteEndPoint as IPEndPoint)?.Address), wire);
    }

    /// <summary>Shakes hands with whom this side has dialled.</summary>
    /// <exception cref="TlsException">Not believed, or no TLS there.</exception>
    public static PeerChannel Dial(Socket socket, TlsEndpoint endpoint, string host, IClock clock, long deadlineNs)
    {
        var wire = new TlsWire(socket, clock) { DeadlineNs = deadlineNs };
        return new PeerChannel(socket, endpoint.Connect(wire, host), wire);
    }

    /// <summary>The handshakes are over: from here on the socket's own time-outs count, and sends do not wait.</summary>
    /// <param name="sendsNow">The urgent lane: <see cref="SendNow"/> is used, not <see cref="SendAll"/>.</param>
    public void Settle(bool sendsNow)
    {
        if (_wire is not null)
        {
            _wire.DeadlineNs = 0;
            _wire.IsBuffered = sendsNow;
        }
    }

    /// <summary>Blocks until something has come; 0 at the end.</summary>
    /// <exception cref="SocketException">Reset, silent for the socket's time, or damaged.</exception>
    public int Receive(Span<byte> into)
    {
        if (_tls is null)
        {
            return Socket.Receive(into);
        }

        try
        {
            return _tls.Read(into);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            throw Translated(e);
        }
    }

    /// <summary>Receives exactly so many bytes; false when the connection ends before.</summary>
    /// <exception cref="SocketException">As <see cref="Receive"/>.</exception>
    public bool ReceiveAll(Span<byte> into)
    {
        while (!into.IsEmpty)
        {
            int count = Receive(into);
            if (count == 0)
            {
                return false;
            }

            into = into[count..];
        }

        return true;
    }

    /// <summary>Sends everything; blocks.</summary>
    /// <exception cref="SocketException">The other side is gone or takes nothing in the socket's time.</exception>
    public void SendAll(ReadOnlySpan<byte> bytes)
    {
        if (_tls is null)
        {
            while (!bytes.IsEmpty)
            {
                bytes = bytes[Socket.Send(bytes)..];
            }

            return;
        }

        try
        {
            _tls.Write(bytes);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            throw Translated(e);
        }
    }

    /// <summary>Sends what can be sent without waiting.</summary>
    /// <returns>Bytes taken, 0 when none could be; negative when the connection is gone.</returns>
    public int SendNow(ReadOnlySpan<byte> bytes)
    {
        if (_tls is null)
        {
            return SocketCalls.SendNow((int)Socket.SafeHandle.DangerousGetHandle(), bytes);
        }

        try
        {
            if (!_wire!.Empty())
            {
                return -1;
            }

            if (_wire.Left != 0 || bytes.IsEmpty)
            {
                return 0;
            }

            int count = Math.Min(bytes.Length, EncryptBytes);
            _tls.Write(bytes[..count]);
            return _wire.Empty() ? count : -1;
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            return -1;
        }
    }

    /// <summary>Sends a few bytes from the pool; for HTTP.</summary>
    public async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancelled)
    {
        if (_tls is not null)
        {
            await _tls.WriteAsync(bytes, cancelled).ConfigureAwait(false);
            await _tls.ShutdownAsync().ConfigureAwait(false);
        }

        while (_tls is null && !bytes.IsEmpty)
        {
            bytes = bytes[await Socket.SendAsync(bytes, SocketFlags.None, cancelled).ConfigureAwait(false)..];
        }

        Socket.Shutdown(SocketShutdown.Send);
    }

    /// <summary>The bulk lane's pipes. Once, instead of all other ways to read and send.</summary>
    public IDuplexPipe OpenPipe(PipeOptions sending, PipeOptions receiving) => _tls is null
        ? SocketConnection.Create(Socket, sending, receiving, SocketConnectionOptions.ZeroLengthReads)
        : StreamConnection.GetDuplex(_tls, sending, receiving);

    /// <summary>Ends the connection: whoever waits for it comes back. <see cref="Dispose"/> still has to follow.</summary>
    public void End()
    {
        try
        {
            Socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The other side was faster.
        }
    }

    /// <summary>Ends and closes.</summary>
    public void Cut()
    {
        End();
        Dispose();
    }

    public void Dispose()
    {
        Socket.Dispose();
        _tls?.Dispose();
    }

    private static SocketException Translated(Exception e)
    {
        for (Exception? cause = e; cause is not null; cause = cause.InnerException)
        {
            if (cause is SocketException socket)
            {
                return socket;
            }
        }

        while (e.InnerException is { } inner)
        {
            e = inner;
        }

        return new SocketException((int)SocketError.ConnectionAborted, "TLS: " + e.Message);
    }
}
