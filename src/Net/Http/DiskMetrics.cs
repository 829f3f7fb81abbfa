// DiskMetrics: what the WAL thread tells about its syncs, under etcd's names. Observing allocates nothing and waits
// for nobody.
using Cairn.Wal;
using Prometheus;

namespace Cairn.Net.Http;

/// <summary>Histogram of fdatasync, bytes written.</summary>
internal sealed class DiskMetrics : IWalObserver
{
    private readonly Histogram _sync;
    private readonly Gauge _written;

    public DiskMetrics(CollectorRegistry registry)
    {
        MetricFactory make = Metrics.WithCustomRegistry(registry);
        _sync = make.CreateHistogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "Durations of the log's fdatasync.",
            new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(0.001, 2, 14) });
        _written = make.CreateGauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.");
    }

    public void Synced(long syncNs, long bytes, int units)
    {
        _sync.Observe(syncNs / 1e9);
        _written.Inc(bytes);
    }
}
