// AbsentMetrics: families that etcd's page always has and that are zero here by the nature of things: parts of etcd
// that its server never uses either (the proxy's, the v2 store's), and counts of what this server does not do yet.
// A part that is built adds its family itself, before this; then the zero here no longer counts.
using Cairn.Base;

namespace Cairn.Net.Http;

/// <summary>Zeros under etcd's names.</summary>
internal static class AbsentMetrics
{
    private static readonly (string Name, MetricKind Kind, string Help)[] s_all =
    [
        ("etcd_grpc_proxy_cache_hits_total", MetricKind.Gauge, "Total number of cache hits"),
        ("etcd_grpc_proxy_cache_keys_total", MetricKind.Gauge, "Total number of keys/ranges cached"),
        ("etcd_grpc_proxy_cache_misses_total", MetricKind.Gauge, "Total number of cache misses"),
        ("etcd_grpc_proxy_events_coalescing_total", MetricKind.Counter, "Total number of events coalescing"),
        ("etcd_grpc_proxy_watchers_coalescing_total", MetricKind.Gauge, "Total number of current watchers coalescing"),
        ("etcd_debugging_store_expires_total", MetricKind.Counter, "Total number of expired keys."),
        ("etcd_debugging_store_watch_requests_total", MetricKind.Counter, "Total number of incoming watch requests (new or reestablished)."),
        ("etcd_debugging_store_watchers", MetricKind.Gauge, "Count of currently active watchers."),
        ("etcd_debugging_mvcc_events_total", MetricKind.Counter, "Total number of events sent by this member."),
        ("etcd_debugging_mvcc_pending_events_total", MetricKind.Gauge, "Total number of pending events to be sent."),
        ("etcd_debugging_mvcc_slow_watcher_total", MetricKind.Gauge, "Total number of unsynced slow watchers."),
        ("etcd_debugging_mvcc_watch_stream_total", MetricKind.Gauge, "Total number of watch streams."),
        ("etcd_debugging_mvcc_watcher_total", MetricKind.Gauge, "Total number of watchers."),
        ("etcd_server_heartbeat_send_failures_total", MetricKind.Counter,
            "The total number of leader heartbeat send failures (likely overloaded from slow disk)."),
        ("etcd_server_learner_promote_successes", MetricKind.Counter,
            "The total number of successful learner promotions while this member is leader."),
        ("etcd_server_read_indexes_failed_total", MetricKind.Counter, "The total number of failed read indexes seen."),
        ("etcd_server_slow_read_indexes_total", MetricKind.Counter,
            "The total number of pending read indexes not in sync with leader's or timed out read index requests."),
        ("etcd_server_snapshot_apply_in_progress_total", MetricKind.Gauge,
            "1 if the server is applying the incoming snapshot. 0 if none."),
    ];

    public static void AddTo(MetricsPage page)
    {
        foreach ((string name, MetricKind kind, string help) in s_all)
        {
            page.ZeroUnlessKnown(name, help, kind);
        }

        page.EmptyUnlessKnown(
            "etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing .snap.db file",
            Distribution.Doubling(1_000_000, 14));
        page.EmptyUnlessKnown(
            "etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save",
            Distribution.Doubling(100_000_000, 10));
    }
}
