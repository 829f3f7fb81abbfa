// Http2Limits: what one connection may make us hold or do; every number on purpose. Immutable.
using System;
using Cairn.Net.Host;

namespace Cairn.Net.Http2;

/// <summary>Limits of the engine.</summary>
internal sealed class Http2Limits
{
    /// <summary>What may be under way on one connection. Given back as it arrives, so no stream can block the others, bytes.</summary>
    public const int ConnectionWindow = 8 * 1024 * 1024;

    /// <summary>Largest header list; tokens travel in headers and are far smaller. Also the largest encoded block, bytes.</summary>
    public const int HeaderListMax = 64 * 1024;

    /// <summary>CONTINUATION frames of one block; an honest client needs four for the largest list.</summary>
    public const int ContinuationsMax = 16;

    /// <summary>Answers waiting in a connection's send buffer before streams have to wait, bytes.</summary>
    public const int SendHigh = 256 * 1024;

    /// <summary>Replies (pings, settings) pile up to here before the connection is no longer read, bytes.</summary>
    public const int SendStop = SendHigh + (64 * 1024);

    /// <summary>Answer bytes of one stream its handler may have waiting before a flush waits, bytes.</summary>
    public const int StreamHigh = 256 * 1024;

    /// <summary>A waiting flush ends when so few are left, bytes.</summary>
    public const int StreamLow = 64 * 1024;

    /// <summary>Frames that cost us something and give the client nothing (see Http2Connection.Annoy): how many may come at once.</summary>
    public const int AnnoyanceMax = 10_000;

    /// <summary>How many of them are forgiven each second.</summary>
    public const int AnnoyancePerSecond = 5_000;

    /// <summary>A stream that is reset sooner than this, without an answer, was not waited for.</summary>
    public const long HastyNs = 50_000_000;

    /// <summary>A stop's first GOAWAY: how long the client may take to have read it.</summary>
    public const long WarningNs = 1_000_000_000;

    /// <summary>How long a connection that was ended may take to read why.</summary>
    public const long LingerNs = 2_000_000_000;

    /// <summary>Requests larger than this, and packed ones, are looked at by the pool instead of the loop, bytes.</summary>
    public const int LightRequest = 64 * 1024;

    /// <summary>Pings too soon that are forgiven; gRPC servers end a connection at the next.</summary>
    public const int PingStrikesMax = 2;

    /// <summary>Pings without any stream under way may come this often.</summary>
    public const long PingIdleNs = 2L * 3600 * 1_000_000_000;

    private const uint StreamsMax = 1 << 20;

    public Http2Limits(FrontEndLimits limits)
    {
        MaxStreams = (int)Math.Clamp(limits.MaxConcurrentStreams, 1, StreamsMax);
        HeaderPatienceNs = Nanoseconds(limits.HeaderPatience);
        HandshakePatienceNs = Nanoseconds(limits.HandshakePatience);

        // etcd hands the two options to gRPC only if both are set, and the third only if it is; then gRPC's own hold, which
        // pings no more often than once a second.
        bool given = limits.KeepAliveInterval > TimeSpan.Zero && limits.KeepAliveTimeout > TimeSpan.Zero;
        KeepAliveNs = given ? Math.Max(Nanoseconds(limits.KeepAliveInterval), 1_000_000_000) : 2L * 3600 * 1_000_000_000;
        KeepAliveTimeoutNs = given ? Nanoseconds(limits.KeepAliveTimeout) : 20_000_000_000;
        PingMinNs = limits.KeepAliveMinTime > TimeSpan.Zero ? Nanoseconds(limits.KeepAliveMinTime) : 300_000_000_000;
        StreamWindow = (int)Math.Max(2 << 20, Math.Min(limits.MaxMessageBytes + (64L << 10), int.MaxValue - 1));
        BufferedMax = Math.Max(64L << 20, 4L * limits.MaxMessageBytes);
    }

    /// <summary>From connect to the first bytes of a request; also for one header block.</summary>
    public long HeaderPatienceNs { get; }

    /// <summary>From the first bytes of HTTP/2 to the client's settings.</summary>
    public long HandshakePatienceNs { get; }

    /// <summary>Calls of one connection at once, those included whose client has gone but whose handler still runs.</summary>
    public int MaxStreams { get; }

    /// <summary>Silence after which we ping.</summary>
    public long KeepAliveNs { get; }

    /// <summary>How long the answer may take.</summary>
    public long KeepAliveTimeoutNs { get; }

    /// <summary>Shortest interval at which a client may ping while streams are under way.</summary>
    public long PingMinNs { get; }

    /// <summary>
    /// What a client may send on one stream before it is read, bytes. The largest message fits, so that one that is not
    /// complete never waits for a window.
    /// </summary>
    public int StreamWindow { get; }

    /// <summary>Bytes of requests not yet handled that one connection may make us hold.</summary>
    public long BufferedMax { get; }

    private static long Nanoseconds(TimeSpan time) => time.Ticks >= long.MaxValue / 100 ? long.MaxValue / 2 : time.Ticks * 100;
}
