// ServerMetrics: /metrics of one member, under etcd's names, on a registry of its own.
//
// Why        Hot paths bump plain counters (RpcMethod, MemberStatus); the registry is filled from them only when
//            somebody looks. What is measured here at all is what exists so far.
// Thread     Any; a page is written under a lock, because two at once would both fill the registry.
using System;
using System.Globalization;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Cairn.Net.Rpc;
using Cairn.Net.Services;
using Prometheus;

namespace Cairn.Net.Http;

/// <summary>The registry and what fills it.</summary>
internal sealed class ServerMetrics : IDisposable
{
    private readonly CollectorRegistry _registry;
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly MetricFactory _make;
    private readonly MemberPort _port;
    private readonly RpcServerState _rpc;
    private readonly ProcessFigures _process;

    private readonly Counter _healthGood;
    private readonly Counter _healthBad;
    private readonly Gauge _check;
    private readonly Counter _checks;
    private readonly Gauge _clusterVersion;
    private readonly Gauge _alarms;
    private readonly Counter _received;
    private readonly Counter _sent;
    private readonly Counter _started;
    private readonly Counter _handled;
    private readonly Counter _messagesReceived;
    private readonly Counter _messagesSent;
    private readonly Counter _clients;
    private readonly Gauge _hasLeader;
    private readonly Gauge _isLeader;
    private readonly Gauge _isLearner;
    private readonly Counter _leaderChanges;
    private readonly Gauge _applied;
    private readonly Gauge _committed;
    private readonly Gauge _pending;
    private readonly Counter _failed;
    private readonly Counter _slowApplies;
    private readonly Gauge _quota;
    private readonly Gauge _size;
    private readonly Gauge _sizeInUse;
    private readonly Gauge _revision;
    private readonly Gauge _compactRevision;

    public ServerMetrics(CollectorRegistry registry, MemberPort port, HostOptions options, RpcServerState rpc)
    {
        _registry = registry;
        _port = port;
        _rpc = rpc;
        _make = Metrics.WithCustomRegistry(_registry);
        _process = new ProcessFigures(_make);

        _hasLeader = Gauge("etcd_server_has_leader", "1 if this member knows a leader.");
        _isLeader = Gauge("etcd_server_is_leader", "1 if this member leads.");
        _isLearner = Gauge("etcd_server_is_learner", "1 if this member is a learner.");
        _leaderChanges = Count("etcd_server_leader_changes_seen_total", "Changes of leader seen.");
        _applied = Gauge("etcd_server_proposals_applied_total", "Index of the last applied entry.");
        _committed = Gauge("etcd_server_proposals_committed_total", "Index of the last committed entry.");
        _pending = Gauge("etcd_server_proposals_pending", "Proposals that wait for their outcome.");
        _failed = Count("etcd_server_proposals_failed_total", "Proposals that failed.");
        _slowApplies = Count("etcd_server_slow_apply_total", "Entries whose apply took longer than the warning time.");
        _quota = Gauge("etcd_server_quota_backend_bytes", "Database size at which writes are refused.");
        _size = Gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the database.");
        _sizeInUse = Gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the database without its free pages.");
        _revision = Gauge("etcd_debugging_mvcc_current_revision", "Current revision.");
        _compactRevision = Gauge("etcd_debugging_mvcc_compact_revision", "Last compacted revision.");
        _received = Count("etcd_network_client_grpc_received_bytes_total", "Bytes of request messages from clients.");
        _sent = Count("etcd_network_client_grpc_sent_bytes_total", "Bytes of answer messages to clients.");
        _healthGood = Count("etcd_server_health_success", "Good answers of /health.");
        _healthBad = Count("etcd_server_health_failures", "Bad answers of /health.");
        _check = _make.CreateGauge("etcd_server_healthcheck", "Last outcome of each health check.", "type", "name");
        _checks = _make.CreateCounter("etcd_server_healthchecks_total", "Health checks run.", "type", "name", "status");
        _clusterVersion = _make.CreateGauge("etcd_cluster_version", "1 for the cluster version.", "cluster_version");
        _alarms = _make.CreateGauge("etcd_debugging_server_alarms", "1 for each raised alarm.", "server_id", "alarm_type");

        Label("etcd_server_id", "1 for the id of this member.", "server_id", Hex(port.Member.Id));
        Label("etcd_server_version", "1 for the version this server behaves as.", "server_version", options.Member.ServerVersion);
        Label("etcd_server_go_version", "1 for the runtime.", "server_go_version", ".NET " + Environment.Version);
        Label("cairn_version", "1 for Cairn's own version.", "version", options.CairnVersion);

        _clients = _make.CreateCounter(
            "etcd_server_client_requests_total", "Calls by client version.", "type", "client_api_version");
        _started = _make.CreateCounter("grpc_server_started_total", "Calls started.", "grpc_type", "grpc_service", "grpc_method");
        _handled = _make.CreateCounter(
            "grpc_server_handled_total", "Calls ended, by status.", "grpc_type", "grpc_service", "grpc_method", "grpc_code");
        _messagesReceived = _make.CreateCounter(
            "grpc_server_msg_received_total", "Messages received.", "grpc_type", "grpc_service", "grpc_method");
        _messagesSent = _make.CreateCounter(
            "grpc_server_msg_sent_total", "Messages sent.", "grpc_type", "grpc_service", "grpc_method");
        if (options.ExtensiveMetrics)
        {
            TimeCalls();
        }
    }

    /// <summary>Counts an answer of <c>/health</c>.</summary>
    public void CountHealth(bool good) => (good ? _healthGood : _healthBad).Inc();

    /// <summary>Counts a check of <c>/livez</c> or <c>/readyz</c>.</summary>
    public void CountCheck(string type, string name, bool good)
    {
        _check.WithLabels(type, name).Set(good ? 1 : 0);
        _checks.WithLabels(type, name, good ? "success" : "error").Inc();
    }

    /// <summary>Writes the page.</summary>
    public async Task WriteAsync(Stream target)
    {
        await _one.WaitAsync();
        try
        {
            Fill();
            await _registry.CollectAndExportAsTextAsync(target, ExpositionFormat.PrometheusText, CancellationToken.None);
        }
        finally
        {
            _one.Release();
        }
    }

    public void Dispose() => _one.Dispose();

    private static string Hex(ulong id) => id.ToString("x", CultureInfo.InvariantCulture);

    private void Fill()
    {
        Member member = _port.Member;
        MemberStatus status = member.Status;
        _hasLeader.Set(status.Leader == 0 ? 0 : 1);
        _isLeader.Set(status.Leader == member.Id ? 1 : 0);
        _isLearner.Set(status.IsLearner ? 1 : 0);
        _leaderChanges.IncTo(status.LeaderChanges);
        _applied.Set(status.AppliedIndex);
        _committed.Set(status.CommittedIndex);
        _pending.Set(status.PendingProposals);
        _failed.IncTo(status.ProposalsFailed);
        _slowApplies.IncTo(status.SlowApplies);
        _quota.Set(member.Options.EffectiveQuotaBytes);
        _size.Set(status.DbSizeBytes);
        _sizeInUse.Set(status.DbSizeInUseBytes);
        _revision.Set(status.Revision);
        _compactRevision.Set(status.CompactRevision);
        _received.IncTo(Volatile.Read(ref _rpc.BytesReceived));
        _sent.IncTo(Volatile.Read(ref _rpc.BytesSent));
        FillMembership(member);
        FillCalls();
        _process.Fill();
    }

    private void FillMembership(Member member)
    {
        foreach (string[] labels in _clusterVersion.GetAllLabelValues())
        {
            _clusterVersion.RemoveLabelled(labels);
        }

        string version = member.ClusterView.Version;
        if (version.Length != 0)
        {
            _clusterVersion.WithLabels(version[..version.LastIndexOf('.')]).Set(1);
        }

        foreach (string[] labels in _alarms.GetAllLabelValues())
        {
            _alarms.RemoveLabelled(labels);
        }

        foreach (Alarm alarm in member.Alarms.Alarms)
        {
            _alarms.WithLabels(Hex(alarm.MemberId), MaintenanceService.NameOf(alarm.Kind)).Set(1);
        }
    }

    private void TimeCalls()
    {
        Histogram durations = _make.CreateHistogram(
            "grpc_server_handling_seconds",
            "Durations of calls.",
            ["grpc_type", "grpc_service", "grpc_method"],
            new HistogramConfiguration { Buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] });
        foreach (RpcMethod method in _rpc.Table.Methods)
        {
            method.Timer = new CallTimer(durations.WithLabels(method.KindLabel, method.Service, method.Name));
        }
    }

    private void FillCalls()
    {
        foreach ((string version, long unary, long stream) in _rpc.Clients.All())
        {
            if (unary != 0)
            {
                _clients.WithLabels("unary", version).IncTo(unary);
            }

            if (stream != 0)
            {
                _clients.WithLabels("stream", version).IncTo(stream);
            }
        }

        foreach (RpcMethod method in _rpc.Table.Methods)
        {
            _started.WithLabels(method.KindLabel, method.Service, method.Name).IncTo(method.Started);
            _messagesReceived.WithLabels(method.KindLabel, method.Service, method.Name).IncTo(method.MessagesReceived);
            _messagesSent.WithLabels(method.KindLabel, method.Service, method.Name).IncTo(method.MessagesSent);
            for (int code = 0; code < RpcCodes.Count; code++)
            {
                _handled.WithLabels(method.KindLabel, method.Service, method.Name, RpcCodes.Name((RpcCode)code))
                    .IncTo(method.Handled((RpcCode)code));
            }
        }
    }

    private Gauge Gauge(string name, string help) => _make.CreateGauge(name, help);

    private Counter Count(string name, string help) => _make.CreateCounter(name, help);

    private void Label(string name, string help, string label, string value)
        => _make.CreateGauge(name, help, label).WithLabels(value).Set(1);

    private sealed class CallTimer(Histogram.Child histogram) : IRpcTimer
    {
        public void Observe(double seconds) => histogram.Observe(seconds);
    }
}
