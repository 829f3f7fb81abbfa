// StoreMetrics: the names of what the store and the services above it count.
using System;
using Cairn.Core.Mvcc;
using Cairn.Core.Server;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>The metrics of keys and values.</summary>
internal static class StoreMetrics
{
    public static void AddTo(MetricsPage page, MemberPort port)
    {
        Member member = port.Member;
        Func<StoreFigures> store = () => port.Store.Figures;
        page.Counter("etcd_mvcc_put_total", "Total number of puts seen by this member.", () => store().Puts);
        page.Counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", () => store().Deletes);
        page.Counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.", () => store().Ranges);
        page.Counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.", () => store().Txns);
        page.Gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", () => store().LiveKeys);
        page.Gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.",
            () => store().PutBytes);
        page.Gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", () => member.Status.Revision);
        page.Gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
            () => member.Status.CompactRevision);
        page.Counter("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.",
            () => store().CompactedKeys);
        page.Gauge("etcd_debugging_mvcc_db_compaction_last",
            "The unix time of the last db compaction. Resets to 0 on start.", () => store().LastCompaction);
        page.Add("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            "Bucketed histogram of db compaction pause duration.", MetricKind.Histogram,
            writer => writer.Samples("", store().CompactionPause));
        page.Add("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            "Bucketed histogram of db compaction total duration.", MetricKind.Histogram,
            writer => writer.Samples("", store().CompactionTotal));
        page.Add("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
            "Bucketed histogram of index compaction pause duration.", MetricKind.Histogram,
            writer => writer.Samples("", store().IndexPause));
        page.Gauge("etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.", () => member.Status.DbSizeBytes);
        page.Gauge("etcd_mvcc_db_total_size_in_use_in_bytes",
            "Total size of the underlying database logically in use in bytes.", () => member.Status.DbSizeInUseBytes);
        page.Gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions",
            () => member.Tree.OpenPins);
        page.Histogram("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", port.Figures.Hash);
        page.Histogram("etcd_mvcc_hash_rev_duration_seconds",
            "The latency distribution of storage hash by revision operation.", port.Figures.HashKv);
        page.Add("etcd_server_range_duration_seconds", "The latency distributions of txn.Range", MetricKind.Histogram, writer =>
        {
            // As with every label set, only what has occurred.
            Span<long> counts = stackalloc long[port.Figures.GoodRanges.Bounds.Length + 1];
            _ = port.Figures.BadRanges.Read(counts);
            if (counts.ContainsAnyExcept(0))
            {
                writer.Samples("success=\"false\"", port.Figures.BadRanges);
            }

            _ = port.Figures.GoodRanges.Read(counts);
            if (counts.ContainsAnyExcept(0))
            {
                writer.Samples("success=\"true\"", port.Figures.GoodRanges);
            }
        });
    }
}
