// PeerDialer: one outgoing connection up to the end of its handshake, with blocking calls and time limits. Runs on the
// threads of links and snapshots, never on the pool: while the pool is busy, lost connections must still come back.
using System;
using System.Net;
using System.Net.Sockets;
using Cairn.Net.Host;
using Cairn.Net.Tls;

namespace Cairn.Net.Peer;

/// <summary>How a dial ended: a connection and what the other side said, a refusal, or an error.</summary>
internal sealed record DialOutcome(PeerChannel? Channel, PeerHello? Welcome, PeerRefusal Refusal, string Error)
{
    /// <summary>Its host answered that nobody listens there.</summary>
    public bool IsRefusedByHost { get; init; }

    public static DialOutcome Failed(string error) => new(null, null, default, error);
}

/// <summary>Connects and shakes hands.</summary>
internal static class PeerDialer
{
    /// <summary>Blocks for at most three times the timeout, and as long as a name server takes.</summary>
    /// <param name="options">Clock and TLS.</param>
    /// <param name="url">Peer URL.</param>
    /// <param name="hello">What this side says.</param>
    /// <param name="timeout">For the connection, for the handshake, and for that of TLS.</param>
    /// <param name="made">Told of the socket before anything blocks, so that another thread can close it.</param>
    public static DialOutcome Dial(PeerTransportOptions options, string url, PeerHello hello, TimeSpan timeout, Action<Socket> made)
    {
        Socket? socket = null;
        try
        {
            if (!ListenUrl.TryParse(url, out ListenUrl address, out string problem))
            {
                return DialOutcome.Failed(problem);
            }

            EndPoint endPoint = Resolve(address);
            socket = endPoint is UnixDomainSocketEndPoint
                ? new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
                : new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            made(socket);
            if (!Connect(socket, endPoint, timeout))
            {
                socket.Dispose();
                return DialOutcome.Failed("dial " + address.Authority + ": i/o timeout");
            }

            int milliseconds = (int)timeout.TotalMilliseconds;
            socket.SendTimeout = milliseconds;
            socket.ReceiveTimeout = milliseconds;
            PeerChannel channel = address.IsSecure
                ? PeerChannel.Dial(socket, options.Tls, address.Host, options.Clock, options.Clock.NowNs + (timeout.Ticks * 100))
                : PeerChannel.Clear(socket);
            channel.Settle(sendsNow: false);
            socket.ReceiveTimeout = milliseconds;
            channel.SendAll(PeerFrame.Preface);
            channel.SendAll(PeerHandshake.Frame(hello, FrameType.Hello));
            DialOutcome answer = ReadAnswer(channel);
            if (answer.Channel is null)
            {
                channel.Dispose();
            }

            return answer;
        }
        catch (TlsException e)
        {
            socket?.Dispose();
            return DialOutcome.Failed(e.Message);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            socket?.Dispose();
            bool refused = e is SocketException { SocketErrorCode: SocketError.ConnectionRefused };
            return DialOutcome.Failed(e switch
            {
                SocketException { SocketErrorCode: SocketError.ConnectionRefused } => "connection refused",
                SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock } => "no answer within the time-out",
                _ => e.Message,
            }) with { IsRefusedByHost = refused };
        }
    }

    private static EndPoint Resolve(ListenUrl address)
    {
        if (address.IsUnix)
        {
            return new UnixDomainSocketEndPoint(address.Host);
        }

        if (IPAddress.TryParse(address.Host, out IPAddress? ip))
        {
            return new IPEndPoint(ip, address.Port);
        }

        IPAddress[] addresses = Dns.GetHostAddresses(address.Host);
        foreach (IPAddress candidate in addresses)
        {
            if (candidate.AddressFamily == AddressFamily.InterNetwork)
            {
                return new IPEndPoint(candidate, address.Port);
            }
        }

        return addresses.Length == 0
            ? throw new SocketException((int)SocketError.HostNotFound)
            : new IPEndPoint(addresses[0], address.Port);
    }

    private static bool Connect(Socket socket, EndPoint endPoint, TimeSpan timeout)
    {
        socket.Blocking = false;
        try
        {
            socket.Connect(endPoint);
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.InProgress)
        {
            if (!socket.Poll(timeout, SelectMode.SelectWrite))
            {
                return false;
            }

            int error = (int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error)!;
            if (error != 0)
            {
                throw new SocketException(error);
            }
        }

        socket.Blocking = true;
        return true;
    }

    private static DialOutcome ReadAnswer(PeerChannel channel)
    {
        Span<byte> header = stackalloc byte[PeerFrame.HeaderBytes];
        if (!channel.ReceiveAll(header))
        {
            return DialOutcome.Failed("the other side closed the connection: it may be stopping, or no member at all");
        }

        if (!PeerFrame.TryReadHeader(header, ConnectionLane.Urgent, out FrameHeader head)
            || head.Type is not (FrameType.Welcome or FrameType.Refuse))
        {
            return DialOutcome.Failed("whoever listens there does not speak Cairn's peer protocol");
        }

        byte[] body = new byte[head.Length];
        if (!channel.ReceiveAll(body) || !PeerFrame.IsIntact(header, body))
        {
            return DialOutcome.Failed("a damaged handshake");
        }

        if (head.Type == FrameType.Refuse)
        {
            return PeerHandshake.TryRead(body, out PeerRefusal refusal)
                ? new DialOutcome(null, null, refusal, refusal.Text)
                : DialOutcome.Failed("a refusal that cannot be read");
        }

        return PeerHandshake.TryRead(body, out PeerHello? welcome)
            ? new DialOutcome(channel, welcome, default, "")
            : DialOutcome.Failed("a handshake that cannot be read");
    }
}
