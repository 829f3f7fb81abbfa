// HostOptions: what a host is told: one member, and where and how it is served. Immutable. This and Host are the
// embedding API; the executable fills it from flags, tests fill it by hand.
using System.Collections.Generic;
using Cairn.Core.Server;

namespace Cairn.Net.Host;

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

    public FrontEndLimits Limits { get; init; } = new();

    /// <summary>Origins that browsers may call from; <c>*</c> for all.</summary>
    public IReadOnlyList<string> Cors { get; init; } = ["*"];

    /// <summary>Host names accepted in cleartext HTTP/1.1 requests; <c>*</c> for all.</summary>
    public IReadOnlyList<string> HostWhitelist { get; init; } = ["*"];

    /// <summary>Adds the histogram of call durations to the metrics.</summary>
    public bool ExtensiveMetrics { get; init; }

    /// <summary>Cairn's own version, for the log and a metric.</summary>
    public string CairnVersion { get; init; } = "";

    /// <summary>Actors poll without sleeping; for machines with cores to spare.</summary>
    public bool BusyPoll { get; init; }
}
