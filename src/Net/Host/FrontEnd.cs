// FrontEnd: one bare Kestrel with its listeners: no host builder, no hosting pipeline, nothing by reflection.
//
// Why        The pipeline around Kestrel costs start-up time, allocations per request and half of the executable;
//            a server is IHttpApplication plus endpoints.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Http;
using Cairn.Net.Http2;
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
    private readonly BoundSockets _sockets;
    private readonly Http2Server? _http2;

    /// <param name="limits">What clients may do.</param>
    /// <param name="rpc">gRPC, or null for pages alone.</param>
    /// <param name="pages">Pages, or null for gRPC alone.</param>
    /// <param name="sockets">Has every address given to <see cref="Listen"/> bound.</param>
    /// <param name="loggers">For Kestrel's own lines.</param>
    /// <param name="engine">Who serves HTTP/2.</param>
    /// <param name="fatal">Told when a thread of our own engine fails.</param>
    /// <param name="loops">Threads of our own engine; null for as many as suit the machine.</param>
    public FrontEnd(
        FrontEndLimits limits, RpcServerState? rpc, HttpHandler? pages, BoundSockets sockets, ILoggerFactory loggers,
        Http2Engine engine, IFatal fatal, int? loops = null)
    {
        _sockets = sockets;
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
        Microsoft.AspNetCore.Connections.IConnectionListenerFactory listeners;
        if (rpc is not null && engine == Http2Engine.Cairn)
        {
            // The engine accepts; what is not HTTP/2 goes on to Kestrel.
            var gate = new ConnectionGate(limits.MaxConnections ?? long.MaxValue);
            var handOver = new HandOver(loggers, gate);
            _http2 = new Http2Server(rpc, new Cairn.Net.Http2.Http2Limits(limits), loops ?? Http2Server.DefaultLoops, fatal, gate, handOver.Give);
            listeners = handOver;
        }
        else
        {
            listeners = new SocketTransportFactory(Options.Create(transport), loggers);
        }

        _server = new KestrelServer(Options.Create(_options), listeners, loggers);
    }

    /// <summary>Adds an address; before <see cref="StartAsync"/>.</summary>
    public void Listen(ListenUrl url)
    {
        System.Net.EndPoint endPoint = BoundSockets.EndPointOf(url);
        _http2?.Listen(_sockets.Take(endPoint));
        _options.Listen(endPoint, Configure);
    }

    /// <summary>Starts answering on every address.</summary>
    public async Task StartAsync(CancellationToken cancelled)
    {
        await _server.StartAsync(_application, cancelled);
        _http2?.Start();
    }

    /// <summary>Stops accepting, asks HTTP/2 clients to go, and waits for running calls until cancelled.</summary>
    public async Task StopAsync(CancellationToken cancelled)
    {
        if (_http2 is not null)
        {
            await _http2.StopAsync(cancelled);
        }

        await _server.StopAsync(cancelled);
    }

    public ValueTask DisposeAsync()
    {
        _server.Dispose();
        _http2?.Dispose();
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
