// DiskMetrics: the names of what log, snapshot files and database file cost.
using Cairn.Core.Server;
using Cairn.Net.Services;
using Cairn.Wal;

namespace Cairn.Net.Http;

/// <summary>The metrics of the disk.</summary>
internal static class DiskMetrics
{
    public static void AddTo(MetricsPage page, MemberPort port)
    {
        Member member = port.Member;
        WalFigures wal = member.WalFigures;
        page.Histogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", wal.Sync);
        page.Histogram("etcd_disk_wal_write_duration_seconds", "The latency distributions of write called by WAL.", wal.Write);
        page.Gauge("etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.", () => wal.Bytes);

        SnapFigures snap = member.SnapFigures;
        page.Histogram("etcd_snap_fsync_duration_seconds", "The latency distributions of fsync called by snap.", snap.Sync);
        page.Histogram("etcd_debugging_snap_save_total_duration_seconds",
            "The total latency distributions of save called by snapshot.", snap.Save);
        page.Histogram("etcd_debugging_snap_save_marshalling_duration_seconds",
            "The marshalling cost distributions of save called by snapshot.", snap.Marshal);

        page.Add("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend.",
            MetricKind.Histogram, writer => writer.Samples("", member.Tree.Figures.Commit));
        page.Add("etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
            "The latency distributions of commit.rebalance called by bboltdb backend.",
            MetricKind.Histogram, writer => writer.Samples("", member.Tree.Figures.Rebalance));
        page.Add("etcd_debugging_disk_backend_commit_spill_duration_seconds",
            "The latency distributions of commit.spill called by bboltdb backend.",
            MetricKind.Histogram, writer => writer.Samples("", member.Tree.Figures.Spill));
        page.Add("etcd_debugging_disk_backend_commit_write_duration_seconds",
            "The latency distributions of commit.write called by bboltdb backend.",
            MetricKind.Histogram, writer => writer.Samples("", member.Tree.Figures.Write));
        page.Histogram("etcd_disk_backend_defrag_duration_seconds",
            "The latency distribution of backend defragmentation.", port.Figures.Defragment);
        page.Histogram("etcd_disk_backend_snapshot_duration_seconds",
            "The latency distribution of backend snapshots.", port.Figures.Snapshot);
        page.Gauge("etcd_disk_defrag_inflight",
            "Whether or not defrag is active on the member. 1 means active, 0 means not.", () => port.Figures.Defragmenting);
    }
}
