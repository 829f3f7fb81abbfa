// BoundSockets: addresses bound before the member opens its data, so that a busy port ends the start before
// anything is touched, and clients that connect early wait in the backlog instead of being refused.
using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;

namespace Cairn.Net.Host;

/// <summary>Listening sockets by end point, handed to Kestrel when it starts.</summary>
internal sealed class BoundSockets : IDisposable
{
    private const int Backlog = 4096;

    private readonly Dictionary<string, Socket> _bound = new(StringComparer.Ordinal);

    /// <summary>Binds and listens.</summary>
    /// <exception cref="ListenException">The address is busy or not this machine's.</exception>
    public void Bind(ListenUrl url)
    {
        EndPoint endPoint = EndPointOf(url);
        Socket? socket = null;
        try
        {
            if (endPoint is UnixDomainSocketEndPoint)
            {
                socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                System.IO.File.Delete(url.Host);
            }
            else
            {
                socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            }

            socket.Bind(endPoint);
            socket.Listen(Backlog);
        }
        catch (SocketException e)
        {
            socket?.Dispose();
            string reason = e.SocketErrorCode switch
            {
                SocketError.AddressAlreadyInUse => "bind: address already in use",
                SocketError.AddressNotAvailable => "bind: cannot assign requested address",
                SocketError.AccessDenied => "bind: permission denied",
                _ => e.Message,
            };
            throw new ListenException("listen " + (url.IsUnix ? "unix " : "tcp ") + url.Authority + ": " + reason, e);
        }

        _bound[endPoint.ToString()!] = socket;
    }

    /// <summary>The port a URL was bound to; differs from the URL's when that is 0.</summary>
    public int PortOf(ListenUrl url)
        => _bound.TryGetValue(EndPointOf(url).ToString()!, out Socket? socket) && socket.LocalEndPoint is IPEndPoint bound
            ? bound.Port
            : url.Port;

    /// <summary>Gives a bound socket away.</summary>
    public Socket Take(EndPoint endPoint)
        => _bound.Remove(endPoint.ToString()!, out Socket? socket)
            ? socket
            : throw new InvalidOperationException("not bound: " + endPoint);

    /// <summary>Where a URL listens.</summary>
    public static EndPoint EndPointOf(ListenUrl url)
        => url.IsUnix ? new UnixDomainSocketEndPoint(url.Host)
            : new IPEndPoint(url.Host == "localhost" ? IPAddress.Loopback : IPAddress.Parse(url.Host), url.Port);

    /// <summary>Closes what was not taken.</summary>
    public void Dispose()
    {
        foreach (Socket socket in _bound.Values)
        {
            socket.Dispose();
        }

        _bound.Clear();
    }
}
