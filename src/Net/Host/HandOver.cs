// HandOver: how connections that our HTTP/2 engine does not serve (HTTP/1.1, later TLS) get to Kestrel: it asks its transport
// for connections, and this transport waits for sockets that the engine has accepted.
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Cairn.Net.Http2;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Host;

/// <summary>A transport that accepts nothing by itself. One listener takes all sockets.</summary>
internal sealed class HandOver(ILoggerFactory loggers, ConnectionGate gate) : IConnectionListenerFactory
{
    /// <summary>Counts the connections, these included, until they end.</summary>
    public ConnectionGate Gate { get; } = gate;

    private readonly Channel<Socket> _sockets = Channel.CreateUnbounded<Socket>();

    /// <summary>Gives a connected socket away. Any thread; never blocks.</summary>
    public void Give(Socket socket)
    {
        if (!_sockets.Writer.TryWrite(socket))
        {
            socket.Dispose();
            Gate.Leave();
        }
    }

    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
        => new(new Listener(this, endpoint, new SocketConnectionContextFactory(new SocketConnectionFactoryOptions(), loggers.CreateLogger("kestrel"))));

    private sealed class Listener(HandOver owner, EndPoint endPoint, SocketConnectionContextFactory factory) : IConnectionListener
    {
        public EndPoint EndPoint { get; } = endPoint;

        public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
        {
            while (await owner._sockets.Reader.WaitToReadAsync(cancellationToken))
            {
                if (owner._sockets.Reader.TryRead(out Socket? socket))
                {
                    ConnectionContext connection = factory.Create(socket);
                    _ = connection.ConnectionClosed.UnsafeRegister(static gate => ((ConnectionGate)gate!).Leave(), owner.Gate);
                    return connection;
                }
            }

            return null;
        }

        public ValueTask UnbindAsync(CancellationToken cancellationToken = default)
        {
            _ = owner._sockets.Writer.TryComplete();
            return ValueTask.CompletedTask;
        }

        public ValueTask DisposeAsync()
        {
            _ = owner._sockets.Writer.TryComplete();
            while (owner._sockets.Reader.TryRead(out Socket? socket))
            {
                socket.Dispose();
                owner.Gate.Leave();
            }

            factory.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
