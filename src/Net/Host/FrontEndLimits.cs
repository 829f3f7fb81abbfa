// FrontEndLimits: what one client may make the server hold. Every Kestrel limit is set here on purpose, with the
// reason beside it; nothing is left to the framework's defaults, which are meant for web sites.
using System;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Cairn.Net.Host;

/// <summary>Limits of the client front end.</summary>
public sealed record FrontEndLimits
{
    /// <summary>The room above <c>--max-request-bytes</c> that the gRPC layer allows (etcd's constant), bytes.</summary>
    public const int RequestOverheadBytes = 512 * 1024;

    /// <summary>A stream window that lets one request of default size through without waiting for updates, bytes.</summary>
    private const int StreamWindowBytes = 2 * 1024 * 1024;

    /// <summary>Bytes of requests one connection may have in flight, bytes.</summary>
    private const int ConnectionWindowBytes = 8 * 1024 * 1024;

    /// <summary>Largest accepted <c>--max-concurrent-streams</c>: Kestrel tracks twice this many closed streams.</summary>
    private const uint StreamsMax = 1 << 20;

    /// <summary>
    /// Longer than any process lives. Not Kestrel's own "infinite": it adds that to the time of now, the sum overflows, and
    /// every idle connection is sent away within a second (.NET 10.0).
    /// </summary>
    private static readonly TimeSpan s_never = TimeSpan.FromDays(3650);

    /// <summary><c>--max-request-bytes</c>.</summary>
    public uint MaxRequestBytes { get; init; } = 1572864;

    /// <summary><c>--max-concurrent-streams</c>, per connection.</summary>
    public uint MaxConcurrentStreams { get; init; } = uint.MaxValue;

    /// <summary><c>--grpc-keepalive-interval</c>: ping a connection idle this long; zero never.</summary>
    public TimeSpan KeepAliveInterval { get; init; } = TimeSpan.FromHours(2);

    /// <summary><c>--grpc-keepalive-timeout</c>: close when the ping is not answered; zero: no pings.</summary>
    public TimeSpan KeepAliveTimeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>From connect to the head of a request: etcd's five minutes against slow-header attacks.</summary>
    public TimeSpan HeaderPatience { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>From the first bytes of HTTP/2 to its settings: gRPC's two minutes. Our own engine only.</summary>
    public TimeSpan HandshakePatience { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary><c>--grpc-keepalive-min-time</c>: clients may not ping more often. Enforced by our own engine only.</summary>
    public TimeSpan KeepAliveMinTime { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Connections one group of listeners may hold; null for no limit.</summary>
    public long? MaxConnections { get; init; }

    /// <summary>Largest request message in bytes.</summary>
    public int MaxMessageBytes => (int)Math.Min(int.MaxValue - 16L, (long)MaxRequestBytes + RequestOverheadBytes);

    internal void ApplyTo(KestrelServerLimits limits)
    {
        // Whole bodies are limited per message (a stream may carry any number of them).
        limits.MaxRequestBodySize = null;

        // A slow client is back-pressured by HTTP/2 windows; etcd never cuts it off, and a snapshot over a thin
        // line or an idle watch is slow by nature.
        limits.MinRequestBodyDataRate = null;
        limits.MinResponseDataRate = null;

        // etcd keeps idle connections open. A client that died is found by the pings below and by TCP keep-alive.
        limits.KeepAliveTimeout = s_never;

        limits.RequestHeadersTimeout = HeaderPatience;

        // Tokens (JWT) travel in headers; 64 KiB is far above any of them.
        limits.MaxRequestHeadersTotalSize = 64 * 1024;
        limits.MaxRequestHeaderCount = 128;
        limits.MaxRequestLineSize = 16 * 1024;
        limits.Http2.MaxRequestHeaderFieldSize = 32 * 1024;

        // What one answer may hold in memory before its handler must wait for the client.
        limits.MaxResponseBufferSize = 256 * 1024;
        limits.MaxConcurrentConnections = MaxConnections;
        limits.MaxConcurrentUpgradedConnections = 0;

        limits.Http2.MaxStreamsPerConnection = (int)Math.Clamp(MaxConcurrentStreams, 1, StreamsMax);
        limits.Http2.InitialStreamWindowSize = StreamWindowBytes;
        limits.Http2.InitialConnectionWindowSize = ConnectionWindowBytes;
        limits.Http2.MaxFrameSize = 16 * 1024;
        limits.Http2.HeaderTableSize = 4096;
        if (KeepAliveInterval > TimeSpan.Zero && KeepAliveTimeout > TimeSpan.Zero)
        {
            limits.Http2.KeepAlivePingDelay = Bounded(KeepAliveInterval);
            limits.Http2.KeepAlivePingTimeout = Bounded(KeepAliveTimeout);
        }
    }

    /// <summary>Kestrel takes no less than a second.</summary>
    private static TimeSpan Bounded(TimeSpan asked)
        => asked < TimeSpan.FromSeconds(1) ? TimeSpan.FromSeconds(1) : asked > s_never ? s_never : asked;
}
