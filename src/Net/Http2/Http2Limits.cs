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
    public const int AnnoyancePerSecond = 1_000;

    /// <summary>From connect to the first bytes of a request; also for one header block: etcd's five minutes.</summary>
    public const long HeaderPatienceNs = 300_000_000_000;

    /// <summary>How long a connection that was ended may take to read why.</summary>
    public const long LingerNs = 2_000_000_000;

    /// <summary>Pings too soon that are forgiven; gRPC servers end a connection at the next.</summary>
    public const int PingStrikesMax = 2;

    /// <summary>Pings without any stream under way may come this often.</summary>
    public const long PingIdleNs = 2L * 3600 * 1_000_000_000;

    private const uint StreamsMax = 1 << 20;

    public Http2Limits(FrontEndLimits limits)
    {
        MaxStreams = (int)Math.Clamp(limits.MaxConcurrentStreams, 1, StreamsMax);
        KeepAliveNs = limits.KeepAliveInterval > TimeSpan.Zero ? limits.KeepAliveInterval.Ticks * 100 : long.MaxValue;
        KeepAliveTimeoutNs = Math.Max(limits.KeepAliveTimeout.Ticks * 100, 1_000_000);
        PingMinNs = Math.Max(0, limits.KeepAliveMinTime.Ticks * 100);
        StreamWindow = (int)Math.Max(2 << 20, Math.Min(limits.MaxMessageBytes + (64L << 10), int.MaxValue - 1));
        BufferedMax = Math.Max(64L << 20, 4L * limits.MaxMessageBytes);
    }

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
}
