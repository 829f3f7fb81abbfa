// HostOptions: what a host is told: one member, and where and how it is served. Immutable. This and Host are the
// embedding API; the executable fills it from flags, tests fill it by hand.
using System.Collections.Generic;
using Cairn.Core.Server;

namespace Cairn.Net.Host;

/// <summary>Where a new cluster learns its members when <c>--initial-cluster</c> does not say. At most one of the two.</summary>
public sealed record DiscoveryOptions
{
    /// <summary>DNS domain with SRV records; empty for none.</summary>
    public string SrvDomain { get; init; } = "";

    /// <summary>Suffix of the service names asked for; empty for none.</summary>
    public string SrvName { get; init; } = "";

    /// <summary>Name server to ask instead of the system's, for tests; null for the system's.</summary>
    public System.Net.IPEndPoint? NameServer { get; init; }

    /// <summary>Token of a new cluster at another etcd; empty for none.</summary>
    public string Token { get; init; } = "";

    /// <summary>Client addresses of that etcd, as URLs.</summary>
    public IReadOnlyList<string> Endpoints { get; init; } = [];

    public System.TimeSpan DialTimeout { get; init; } = System.TimeSpan.FromSeconds(2);

    public System.TimeSpan RequestTimeout { get; init; } = System.TimeSpan.FromSeconds(5);

    /// <summary>Neither DNS nor another etcd is asked.</summary>
    public bool IsNone => SrvDomain.Length == 0 && Token.Length == 0;
}

/// <summary>Who serves HTTP/2 without TLS.</summary>
public enum Http2Engine
{
    /// <summary>ASP.NET's server.</summary>
    Kestrel,

    /// <summary>Our own (src/Net/Http2).</summary>
    Cairn,
}

/// <summary>Settings of one hosted member.</summary>
public sealed record HostOptions
{
    /// <summary>The member itself.</summary>
    public required MemberOptions Member { get; init; }

    /// <summary>Where clients connect: gRPC and HTTP/1.1, or gRPC alone when <see cref="ListenClientHttpUrls"/> is given.</summary>
    public IReadOnlyList<ListenUrl> ListenClientUrls { get; init; } = [];

    /// <summary>HTTP/1.1 alone.</summary>
    public IReadOnlyList<ListenUrl> ListenClientHttpUrls { get; init; } = [];

    /// <summary>Where other members connect.</summary>
    public IReadOnlyList<ListenUrl> ListenPeerUrls { get; init; } = [];

    /// <summary>Metrics and health pages alone.</summary>
    public IReadOnlyList<ListenUrl> ListenMetricsUrls { get; init; } = [];

    public DiscoveryOptions Discovery { get; init; } = new();

    /// <summary>Certificates for the peer port and for dialling peers.</summary>
    public Cairn.Net.Tls.TlsOptions PeerTls { get; init; } = new();

    /// <summary>Silence after which a connection from a peer is given up.</summary>
    public System.TimeSpan PeerReadTimeout { get; init; } = System.TimeSpan.FromSeconds(5);

    /// <summary>How long a write to a peer may make no progress.</summary>
    public System.TimeSpan PeerWriteTimeout { get; init; } = System.TimeSpan.FromSeconds(5);

    public FrontEndLimits Limits { get; init; } = new();

    /// <summary><c>--experimental-http2-engine</c>.</summary>
    public Http2Engine Engine { get; init; } = Http2Engine.Cairn;

    /// <summary>Origins that browsers may call from; <c>*</c> for all.</summary>
    public IReadOnlyList<string> Cors { get; init; } = ["*"];

    /// <summary>Host names accepted in cleartext HTTP/1.1 requests; <c>*</c> for all.</summary>
    public IReadOnlyList<string> HostWhitelist { get; init; } = ["*"];

    /// <summary>Adds the histogram of call durations to the metrics.</summary>
    public bool ExtensiveMetrics { get; init; }

    /// <summary>Unary calls that take longer are logged, ns.</summary>
    public long WarningUnaryNs { get; init; } = 300_000_000;

    /// <summary>Also serve two methods that do nothing, to weigh the others against.</summary>
    public bool NullMethods { get; init; }

    /// <summary>etcd's feature gates as they are set, for the metrics.</summary>
    public IReadOnlyList<FeatureState> Features { get; init; } = [];

    /// <summary>Cairn's own version, for the log and a metric.</summary>
    public string CairnVersion { get; init; } = "";

    /// <summary>Where the data directory lies; another than the system's is for tests.</summary>
    public Cairn.Base.IFileSystem FileSystem { get; init; } = Cairn.Base.PosixFileSystem.Instance;

    /// <summary>Actors poll without sleeping; for machines with cores to spare.</summary>
    public bool BusyPoll { get; init; }
}
