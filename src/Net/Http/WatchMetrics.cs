// WatchMetrics: the names of what watchers cost, filled from the hub's plain counters when somebody looks.
using Cairn.Core.Mvcc.Watch;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>The metrics of watch streams: etcd's, then our own for the limits of <see cref="WatchOptions"/>.</summary>
internal static class WatchMetrics
{
    public static void AddTo(MetricsPage page, MemberPort port)
    {
        WatchFigures figures = port.Member.Watch.Figures;
        page.Gauge("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", () => figures.Streams);
        page.Gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", () => figures.Watchers);
        page.Gauge("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", () => figures.SlowWatchers);
        page.Counter("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", () => figures.Events);
        page.Gauge("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.", () => figures.PendingEvents);
        page.Gauge("cairn_watch_pending_bytes", "Bytes of watch responses that wait for their clients.", () => figures.PendingBytes);
        page.Counter("cairn_watch_stream_limit_hits_total",
            "Times a watcher fell behind because its stream had its limit of bytes waiting.", () => figures.StreamLimitHits);
        page.Counter("cairn_watch_history_passes_total", "Passes over history for watchers that are behind.", () => figures.CatchUpPasses);
    }
}
