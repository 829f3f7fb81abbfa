// KestrelExchange: what Kestrel keeps for us with each of its stream objects, from request to request.
// FrontEndApplication: the whole "application" Kestrel runs: gRPC on HTTP/2, pages on HTTP/1.1. No hosting
// pipeline, no dependency injection, no middleware between the two.
using System;
using System.IO.Pipelines;
using System.Threading.Tasks;
using Cairn.Net.Http;
using Cairn.Net.Rpc;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Abstractions;
using Microsoft.AspNetCore.Http.Features;

namespace Cairn.Net.Host;

/// <summary>Per stream object state; made once, reused by Kestrel.</summary>
internal sealed class KestrelExchange(IFeatureCollection features)
{
    private KestrelCall? _rpc;

    public IFeatureCollection Features { get; } = features;

    public KestrelCall Rpc(RpcServerState server) => _rpc ??= new KestrelCall(server, Features);
}

/// <summary>Routes by protocol version.</summary>
internal sealed class FrontEndApplication(RpcServerState? rpc, HttpHandler? pages) : IHttpApplication<KestrelExchange>
{
    public KestrelExchange CreateContext(IFeatureCollection contextFeatures)
        => contextFeatures is IHostContextContainer<KestrelExchange> container
            ? container.HostContext ??= new KestrelExchange(contextFeatures)
            : new KestrelExchange(contextFeatures);

    public void DisposeContext(KestrelExchange context, Exception? exception)
    {
    }

    public Task ProcessRequestAsync(KestrelExchange context)
    {
        if (rpc is not null
            && (pages is null || context.Features.GetRequiredFeature<IHttpRequestFeature>().Protocol == "HTTP/2"))
        {
            return context.Rpc(rpc).RunAsync();
        }

        return ServePageAsync(context.Features);
    }

    private async Task ServePageAsync(IFeatureCollection features)
    {
        IHttpRequestFeature request = features.GetRequiredFeature<IHttpRequestFeature>();
        string target = request.RawTarget;
        int query = target.IndexOf('?', StringComparison.Ordinal);
        var call = new HttpCall(
            request.Method,
            query < 0 ? target : target[..query],
            query < 0 ? "" : target[(query + 1)..],
            request.Headers.Host.ToString(),
            request.Headers.AcceptEncoding.ToString(),
            request.Headers.Origin.ToString());
        await pages!(call);

        IHttpResponseFeature response = features.GetRequiredFeature<IHttpResponseFeature>();
        response.StatusCode = call.Status;
        foreach (var header in call.Headers)
        {
            response.Headers[header.Key] = header.Value;
        }

        response.Headers.ContentLength = call.Body.Length;
        if (call.Body.Length != 0 && call.Method != "HEAD")
        {
            PipeWriter body = features.GetRequiredFeature<IHttpResponseBodyFeature>().Writer;
            await body.WriteAsync(call.Body);
        }
    }
}
