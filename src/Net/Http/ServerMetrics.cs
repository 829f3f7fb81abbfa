// ServerMetrics: /metrics of one member, under etcd's names, kinds, labels, buckets and help texts.
//
// Why        Hot paths bump plain numbers (Base/Figures.cs); here they get their names. What etcd has and this server
//            measures otherwise, or not yet, is listed by name in tests/Cluster/MetricsTests.
// Thread     Built once; pages are written by any thread.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Cairn.Net.Peer;
using Cairn.Net.Rpc;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>The page of one member, and what only its pages count.</summary>
internal sealed class ServerMetrics
{
    private readonly MetricsPage _page = new();
    private readonly Lock _checksLock = new();
    private readonly SortedDictionary<string, (bool Good, long Passed, long Failed)> _checks = new(StringComparer.Ordinal);
    private long _healthGood;
    private long _healthBad;
    private long _scrapes;
    private long _scrapesInFlight;

    public ServerMetrics(MemberPort port, HostOptions options, RpcServerState rpc, PeerMetrics peers)
    {
        ProcessFigures.AddTo(_page);
        AddServer(port.Member, options);
        AddHealth();
        AddScrapes();
        StoreMetrics.AddTo(_page, port);
        WatchMetrics.AddTo(_page, port);
        DiskMetrics.AddTo(_page, port);
        RpcMetrics.AddTo(_page, rpc, options.ExtensiveMetrics);
        peers.AddTo(_page);
        AddLeases(port.Member);
        AbsentMetrics.AddTo(_page);
    }

    /// <summary>Counts an answer of <c>/health</c>.</summary>
    public void CountHealth(bool good)
        => _ = good ? Interlocked.Increment(ref _healthGood) : Interlocked.Increment(ref _healthBad);

    /// <summary>Counts a check of <c>/livez</c> or <c>/readyz</c>.</summary>
    public void CountCheck(string type, string name, bool good)
    {
        string labels = MetricsWriter.Labels(("type", type), ("name", name));
        lock (_checksLock)
        {
            (_, long passed, long failed) = _checks.GetValueOrDefault(labels);
            _checks[labels] = (good, passed + (good ? 1 : 0), failed + (good ? 0 : 1));
        }
    }

    /// <summary>The page of this moment.</summary>
    public ReadOnlyMemory<byte> Write()
    {
        _ = Interlocked.Increment(ref _scrapesInFlight);
        try
        {
            return _page.Write();
        }
        finally
        {
            _ = Interlocked.Decrement(ref _scrapesInFlight);
            _ = Interlocked.Increment(ref _scrapes);
        }
    }

    internal static string Hex(ulong id) => id.ToString("x", CultureInfo.InvariantCulture);

    private void AddLeases(Member member)
    {
        _page.Counter("etcd_debugging_lease_granted_total", "The total number of granted leases.",
            () => member.LeaseFigures.Granted);
        _page.Histogram("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", member.LeaseFigures.Ttls);
        _page.Counter("etcd_debugging_lease_revoked_total", "The total number of revoked leases.",
            () => member.LeaseFigures.Revoked);
        _page.Counter("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.",
            () => member.LeaseFigures.Renewed);
        _page.Counter("etcd_debugging_server_lease_expired_total", "The total number of expired leases.",
            () => member.LeaseFigures.Expired);
    }

    private void AddServer(Member member, HostOptions options)
    {
        _page.Gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.",
            () => member.Status.Leader == 0 ? 0 : 1);
        _page.Gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            () => member.Status.Leader == member.Id ? 1 : 0);
        _page.Gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            () => member.Status.IsLearner ? 1 : 0);
        _page.Counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", () => member.Status.LeaderChanges);
        _page.Gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.",
            () => member.Status.AppliedIndex);
        _page.Gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.",
            () => member.Status.CommittedIndex);
        _page.Gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.",
            () => member.Status.PendingProposals);
        _page.Counter("etcd_server_proposals_failed_total", "The total number of failed proposals seen.",
            () => member.Status.ProposalsFailed);
        _page.Counter("etcd_server_slow_apply_total",
            "The total number of slow apply requests (likely overloaded from slow disk).", () => member.Status.SlowApplies);
        _page.Gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.",
            () => member.Options.EffectiveQuotaBytes);
        _page.Gauge("etcd_debugging_auth_revision", "The current revision of auth store.", () => member.AuthRevision);
        _page.Info("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            "server_id", Hex(member.Id));
        _page.Info("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.",
            "server_version", options.Member.ServerVersion);
        _page.Info("etcd_server_go_version",
            "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
            "server_go_version", ".NET " + Environment.Version);
        _page.Info("cairn_version", "Cairn's own version.", "version", options.CairnVersion);
        _page.Add("etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version",
            MetricKind.Gauge, writer =>
            {
                string version = member.ClusterView.Version;
                if (version.Length != 0)
                {
                    writer.Sample(MetricsWriter.Labels(("cluster_version", version[..version.LastIndexOf('.')])), 1);
                }
            });
        _page.Add("etcd_debugging_server_alarms", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
            MetricKind.Gauge, writer =>
            {
                foreach (Alarm alarm in member.Alarms.Alarms)
                {
                    writer.Sample(
                        MetricsWriter.Labels(("server_id", Hex(alarm.MemberId)), ("alarm_type", MaintenanceService.NameOf(alarm.Kind))), 1);
                }
            });
        _page.Add("etcd_server_feature_enabled", "Whether or not a feature is enabled. 1 is enabled, 0 is not.", MetricKind.Gauge,
            writer =>
            {
                foreach (FeatureState feature in options.Features)
                {
                    writer.Sample(MetricsWriter.Labels(("name", feature.Name), ("stage", feature.Stage)), feature.IsEnabled ? 1 : 0);
                }
            });
        _page.Add("etcd_server_apply_duration_seconds", "The latency distributions of v2 apply called by backend.",
            MetricKind.Histogram, writer =>
            {
                foreach ((Core.Protocol.RequestKind kind, bool success, Distribution durations) in member.ApplyFigures.All())
                {
                    // v2 entries are written by publishing a member's attributes, which is a PUT.
                    bool isV2 = kind == Core.Protocol.RequestKind.V2;
                    writer.Samples(
                        MetricsWriter.Labels(
                            ("version", isV2 ? "v2" : "v3"), ("op", isV2 ? "PUT" : kind.ToString()), ("success", success ? "true" : "false")),
                        durations);
                }
            });
    }

    private void AddHealth()
    {
        _page.Counter("etcd_server_health_success", "The total number of successful health checks",
            () => Volatile.Read(ref _healthGood));
        _page.Counter("etcd_server_health_failures", "The total number of failed health checks",
            () => Volatile.Read(ref _healthBad));
        _page.Add("etcd_server_healthcheck", "The result of each kind of healthcheck.", MetricKind.Gauge, writer =>
        {
            lock (_checksLock)
            {
                foreach ((string labels, (bool good, _, _)) in _checks)
                {
                    writer.Sample(labels, good ? 1 : 0);
                }
            }
        });
        _page.Add("etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", MetricKind.Counter, writer =>
        {
            lock (_checksLock)
            {
                foreach ((string labels, (_, long passed, long failed)) in _checks)
                {
                    // name, status, type is the order of the names.
                    int type = labels.IndexOf(",type=", StringComparison.Ordinal);
                    if (failed != 0)
                    {
                        writer.Sample(labels.Insert(type, ",status=\"error\""), failed);
                    }

                    if (passed != 0)
                    {
                        writer.Sample(labels.Insert(type, ",status=\"success\""), passed);
                    }
                }
            }
        });
    }

    private void AddScrapes()
    {
        _page.Gauge("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.",
            () => Volatile.Read(ref _scrapesInFlight));
        _page.Add("promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.", MetricKind.Counter, writer =>
        {
            writer.Sample("code=\"200\"", Volatile.Read(ref _scrapes));
            writer.Sample("code=\"500\"", 0);
            writer.Sample("code=\"503\"", 0);
        });
    }
}
