// FrontEnd: one bare Kestrel with its listeners: no host builder, no hosting pipeline, nothing by reflection.
//
// Why        The pipeline around Kestrel costs start-up time, allocations per request and half of the executable;
//            a server is IHttpApplication plus endpoints.
// Failure    A port that cannot be bound throws from StartAsync, before anything is served.
using System;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Rpc;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Cairn.Net.Host;

/// <summary>Listens and serves until stopped.</summary>
internal sealed class FrontEnd : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    private readonly KestrelServer _server;
    private readonly KestrelServerOptions _options;
    private readonly FrontEndApplication _application;

    public FrontEnd(FrontEndLimits limits, RpcServerState? rpc, HttpHandler? pages, ILoggerFactory loggers)
    {
        _application = new FrontEndApplication(rpc, pages);
        _options = new KestrelServerOptions
        {
            AddServerHeader = false,
            AllowAlternateSchemes = true,
            AllowSynchronousIO = false,
            ApplicationServices = NoServices.Instance,
        };
        limits.ApplyTo(_options.Limits);
        var sockets = new SocketTransportOptions { NoDelay = true, Backlog = 4096 };
        _server = new KestrelServer(
            Options.Create(_options),
            new SocketTransportFactory(Options.Create(sockets), loggers),
            loggers);
    }

    /// <summary>Adds an address; before <see cref="StartAsync"/>.</summary>
    public void Listen(ListenUrl url)
    {
        if (url.IsUnix)
        {
            _options.ListenUnixSocket(url.Host, Configure);
        }
        else if (url.Host == "localhost")
        {
            _options.ListenLocalhost(url.Port, Configure);
        }
        else
        {
            _options.Listen(IPAddress.Parse(url.Host), url.Port, Configure);
        }
    }

    /// <summary>Binds every address and starts answering.</summary>
    public Task StartAsync(CancellationToken cancelled) => _server.StartAsync(_application, cancelled);

    /// <summary>Stops accepting, asks HTTP/2 clients to go, and waits for running calls until cancelled.</summary>
    public Task StopAsync(CancellationToken cancelled) => _server.StopAsync(cancelled);

    public ValueTask DisposeAsync()
    {
        _server.Dispose();
        return ValueTask.CompletedTask;
    }

    private static void Configure(ListenOptions endpoint)
    {
        endpoint.Protocols = HttpProtocols.Http1AndHttp2;
        endpoint.Use(next => new ProtocolSniffer(next, Patience).OnConnectionAsync);
    }

    private sealed class NoServices : IServiceProvider
    {
        public static readonly NoServices Instance = new();

        public object? GetService(Type serviceType) => null;
    }
}
