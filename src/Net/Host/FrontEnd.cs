// FrontEnd: one bare Kestrel with its listeners: no host builder, no hosting pipeline, nothing by reflection.
//
// Why        The pipeline around Kestrel costs start-up time, allocations per request and half of the executable;
//            a server is IHttpApplication plus endpoints.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Http;
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
    private readonly bool _hasPages;

    /// <param name="limits">What clients may do.</param>
    /// <param name="rpc">gRPC, or null for pages alone.</param>
    /// <param name="pages">Pages, or null for gRPC alone.</param>
    /// <param name="sockets">Has every address given to <see cref="Listen"/> bound.</param>
    /// <param name="loggers">For Kestrel's own lines.</param>
    public FrontEnd(
        FrontEndLimits limits, RpcServerState? rpc, HttpHandler? pages, BoundSockets sockets, ILoggerFactory loggers)
    {
        _application = new FrontEndApplication(rpc, pages);
        _hasPages = pages is not null;
        _options = new KestrelServerOptions
        {
            AddServerHeader = false,
            AllowAlternateSchemes = true,
            AllowSynchronousIO = false,
            ApplicationServices = NoServices.Instance,
        };
        limits.ApplyTo(_options.Limits);
        var transport = new SocketTransportOptions { NoDelay = true, CreateBoundListenSocket = sockets.Take };
        _server = new KestrelServer(
            Options.Create(_options),
            new SocketTransportFactory(Options.Create(transport), loggers),
            loggers);
    }

    /// <summary>Adds an address; before <see cref="StartAsync"/>.</summary>
    public void Listen(ListenUrl url) => _options.Listen(BoundSockets.EndPointOf(url), Configure);

    /// <summary>Starts answering on every address.</summary>
    public Task StartAsync(CancellationToken cancelled) => _server.StartAsync(_application, cancelled);

    /// <summary>Stops accepting, asks HTTP/2 clients to go, and waits for running calls until cancelled.</summary>
    public Task StopAsync(CancellationToken cancelled) => _server.StopAsync(cancelled);

    public ValueTask DisposeAsync()
    {
        _server.Dispose();
        return ValueTask.CompletedTask;
    }

    private void Configure(ListenOptions endpoint)
    {
        if (!_hasPages)
        {
            // gRPC alone: an HTTP/1.x request gets 400 and the reason.
            endpoint.Protocols = HttpProtocols.Http2;
            return;
        }

        endpoint.Protocols = HttpProtocols.Http1AndHttp2;
        endpoint.Use(next => new ProtocolSniffer(next, Patience).OnConnectionAsync);
    }

    private sealed class NoServices : IServiceProvider
    {
        public static readonly NoServices Instance = new();

        public object? GetService(Type serviceType) => null;
    }
}
