// MetricsTests: /metrics beside a real etcd's: every family of etcd's page is there under the same name, kind, help text,
// labels and buckets, or its difference is named here with the reason; and the same requests move the same numbers.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class MetricsTests
{
    /// <summary>What etcd 3.5 shows and Cairn does not: name or prefix, and why.</summary>
    private static readonly (string Name, string Why)[] s_etcdOnly =
    [
        ("go_", "describe the Go runtime; Cairn's collector is under dotnet_gc_*"),
        ("etcd_debugging_mvcc_range_total", "an alias that 3.6 has dropped"),
        ("etcd_debugging_store_reads_total", "labelled: appears when the v2 store is used, which 3.6 and Cairn do not"),
        ("etcd_debugging_store_writes_total", "the same"),
    ];

    /// <summary>What Cairn shows and etcd 3.5 does not.</summary>
    private static readonly (string Name, string Why)[] s_cairnOnly =
    [
        ("cairn_", "Cairn's own"),
        ("dotnet_gc_", "Cairn's runtime"),
        ("etcd_server_range_duration_seconds", "new in 3.6"),
        ("etcd_server_feature_enabled", "new in 3.6"),
        ("etcd_debugging_server_alarms", "new in 3.6"),
        ("etcd_network_", "of peers and their snapshots; etcd shows them once there is a peer"),
    ];

    /// <summary>
    /// What exactly the same requests must move exactly as far on both servers; the requests are those of <see cref="Run"/>.
    /// </summary>
    private static readonly string[] s_equal =
    [
        "etcd_mvcc_put_total",
        "etcd_mvcc_delete_total",
        "etcd_mvcc_range_total",
        "etcd_mvcc_txn_total",
        "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_lease_granted_total",
        "etcd_debugging_lease_revoked_total",
        "etcd_debugging_lease_ttl_total_count",
        "etcd_debugging_lease_ttl_total_sum",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "etcd_debugging_mvcc_current_revision",
        "etcd_debugging_mvcc_compact_revision",
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count",
        "etcd_server_proposals_failed_total",
        "etcd_mvcc_hash_duration_seconds_count",
        "etcd_mvcc_hash_rev_duration_seconds_count",
        "etcd_disk_backend_defrag_duration_seconds_count",
        "etcd_disk_backend_snapshot_duration_seconds_count",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_server_health_success",
        "etcd_server_quota_backend_bytes",
        "etcd_server_is_leader",
        "etcd_server_has_leader",
        "etcd_server_id",
    ];

    [Fact]
    public async Task Page_BesideEtcds_HasItsFamiliesKindsHelpLabelsAndBuckets()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"], null, "--metrics=extensive");
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--metrics=extensive");
        Page ours = await Used(cairn), theirs = await Used(etcd);
        List<string> differences = [];
        foreach (string name in theirs.Families.Keys.Where(name => !Is(name, s_etcdOnly)))
        {
            if (!ours.Families.TryGetValue(name, out Family? our))
            {
                differences.Add(name + ": missing");
                continue;
            }

            Family their = theirs.Families[name];
            Compare(differences, name + ": kind", our.Kind, their.Kind);
            Compare(differences, name + ": help", our.Help, their.Help);
            Compare(differences, name + ": label names", Text(our.LabelNames), Text(their.LabelNames));
            Compare(differences, name + ": buckets", Text(our.Buckets), Text(their.Buckets));
        }

        foreach (string name in ours.Families.Keys.Where(name => !theirs.Families.ContainsKey(name) && !Is(name, s_cairnOnly)))
        {
            differences.Add(name + ": not in etcd's page");
        }

        // Every method of etcd's is counted from the start, with every code.
        string[] calls = [.. theirs.Labels("grpc_server_started_total").Except(ours.Labels("grpc_server_started_total"))];
        Assert.True(calls.Length == 0, "methods that are not counted:\n" + string.Join('\n', calls));
        string[] codes = [.. theirs.Labels("grpc_server_handled_total").Except(ours.Labels("grpc_server_handled_total"))];
        Assert.True(codes.Length == 0, "codes that are not counted:\n" + string.Join('\n', codes));
        Assert.True(differences.Count == 0, string.Join('\n', differences));

        // A name on a list of differences that no longer differs would hide the next one.
        Assert.All(s_etcdOnly, entry => Assert.Contains(theirs.Families.Keys, name => name.StartsWith(entry.Name, StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Numbers_AfterTheSameRequests_HaveMovedAsEtcds()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        Dictionary<string, double> ours = await Moved(cairn), theirs = await Moved(etcd);
        List<string> differences = [];
        foreach (string name in s_equal)
        {
            Compare(differences, name, Number(ours, name), Number(theirs, name));
        }

        foreach (string sample in theirs.Keys.Where(key => key.StartsWith("grpc_server_", StringComparison.Ordinal) && theirs[key] != 0))
        {
            Compare(differences, sample, Number(ours, sample), Number(theirs, sample));
        }

        // 3.5 publishes its attributes through the v2 store; ranges outside transactions are no applies in either.
        foreach (string sample in theirs.Keys.Where(key =>
            key.StartsWith("etcd_server_apply_duration_seconds_count", StringComparison.Ordinal)
            && key.Contains("version=\"v3\"", StringComparison.Ordinal) && theirs[key] != 0))
        {
            Compare(differences, sample, Number(ours, sample), Number(theirs, sample));
        }

        Assert.True(differences.Count == 0, string.Join('\n', differences));

        // 3.6: one for each range that is answered outside a transaction (the last of them by /health), by success.
        Assert.Equal(6, ours["etcd_server_range_duration_seconds_count{success=\"true\"}"]);
        Assert.Equal(1, ours["etcd_server_range_duration_seconds_count{success=\"false\"}"]);

        // What cannot be equal has still to have moved.
        foreach (string name in new[]
        {
            "etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_wal_fsync_duration_seconds_sum",
            "etcd_disk_wal_write_duration_seconds_count", "etcd_disk_wal_write_bytes_total",
            "etcd_disk_backend_commit_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_sum",
            "etcd_debugging_disk_backend_commit_write_duration_seconds_sum", "etcd_debugging_disk_backend_commit_spill_duration_seconds_sum",
            "etcd_debugging_disk_backend_commit_rebalance_duration_seconds_count",
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
            "etcd_network_client_grpc_sent_bytes_total", "etcd_server_proposals_applied_total",
            "etcd_server_proposals_committed_total", "process_cpu_seconds_total", "dotnet_gc_allocated_bytes_total",
            "promhttp_metric_handler_requests_total{code=\"200\"}",
        })
        {
            Assert.True(ours[name] > 0, name + " has not moved");
        }

        Assert.True(ours["etcd_debugging_mvcc_db_compaction_last"] > 1.7e9, "the time of the last compaction is not the wall clock's");
        Assert.Equal(0, ours["etcd_disk_defrag_inflight"]);
    }

    [Fact]
    public async Task SnapshotFile_Saved_IsTimed()
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], null, "--snapshot-count=10");
        for (int i = 0; i < 40; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + i).Text(2, "v"));
        }

        long limit = Environment.TickCount64 + 30_000;
        Page page;
        do
        {
            Assert.True(Environment.TickCount64 < limit, "no snapshot file was counted within 30 s");
            page = await Get(server);
        }
        while (page.Samples["etcd_snap_fsync_duration_seconds_count"] == 0
            || page.Samples["etcd_debugging_snap_save_total_duration_seconds_count"] == 0);

        Assert.True(page.Samples["etcd_debugging_snap_save_marshalling_duration_seconds_count"] > 0);
        Assert.True(page.Samples["etcd_debugging_snap_save_total_duration_seconds_sum"] > 0);
    }

    /// <summary>Every label set that needs a request to appear.</summary>
    private static async Task<Page> Used(ServerProcess server)
    {
        await server.Client.Ok(Grpc.Put, new Pb().Text(1, "a").Text(2, "b"));
        await PlainHttp.Send(server.ClientPort, "GET", "/readyz", [], []);
        return await Get(server);
    }

    /// <summary>Requests of every kind that the store counts, and how far each sample moved.</summary>
    private static async Task<Dictionary<string, double>> Moved(ServerProcess server)
    {
        Dictionary<string, double> before = (await Get(server)).Samples;
        await Run(server);
        Dictionary<string, double> after = (await Get(server)).Samples;

        // Gauges of the present are taken as they are.
        return after.ToDictionary(
            pair => pair.Key,
            pair => pair.Key.EndsWith("_total", StringComparison.Ordinal) || pair.Key.Contains("_total{", StringComparison.Ordinal)
                || pair.Key.Contains("_count", StringComparison.Ordinal) || pair.Key.EndsWith("_health_success", StringComparison.Ordinal)
                ? pair.Value - before.GetValueOrDefault(pair.Key)
                : pair.Value);
    }

    private static async Task Run(ServerProcess server)
    {
        Grpc client = server.Client;
        Pb Put(string key, string value) => new Pb().Text(1, key).Text(2, value);
        Pb Op(int kind, Pb request) => new Pb().Message(kind, request);
        Pb Exists(string key) => new Pb().ExplicitNumber(1, 1).ExplicitNumber(2, 0).Text(3, key).ExplicitNumber(4, 0);
        for (int i = 0; i < 20; i++)
        {
            await client.Ok(Grpc.Put, Put("k" + (i % 12), new string('v', i)));
        }

        await client.Ok(Grpc.Put, Put("k1", "p").Flag(4, true));
        await client.Ok(Grpc.Put, new Pb().Text(1, "k1").Flag(5, true));
        await client.Ok(Grpc.Put, Put("k1", "w").Flag(6, true));
        await client.Call(Grpc.Put, new Pb().Text(1, "absent").Flag(5, true));
        await client.Call(Grpc.Put, Put("k1", "w").Number(3, 4711));
        await client.Call(Grpc.Put, new Pb());
        for (int i = 0; i < 4; i++)
        {
            await client.Ok(Grpc.Range, new Pb().Text(1, "k" + i));
        }

        await client.Ok(Grpc.Range, new Pb().Text(1, "k").Text(2, "l").Flag(9, true).Flag(7, true));
        await client.Call(Grpc.Range, new Pb().Text(1, "k").Number(4, 1_000_000));
        await client.Ok(Grpc.DeleteRange, new Pb().Text(1, "k0"));
        await client.Ok(Grpc.DeleteRange, new Pb().Text(1, "k0"));
        await client.Ok(Grpc.DeleteRange, new Pb().Text(1, "k10").Text(2, "k12").Flag(3, true));
        await client.Ok(Grpc.Txn, new Pb().Message(1, Exists("k1")).Message(2, Op(2, Put("k1", "t"))));
        await client.Ok(Grpc.Txn, new Pb().Message(1, Exists("k1")).Message(1, Exists("nope")).Message(1, Exists("k2"))
            .Message(2, Op(2, Put("k1", "t"))).Message(3, Op(2, Put("k2", "u"))).Message(3, Op(1, new Pb().Text(1, "k3"))));
        await client.Ok(Grpc.Txn, new Pb().Message(2, Op(2, Put("k3", "t").Flag(4, true))).Message(2, Op(3, new Pb().Text(1, "k4").Flag(3, true)))
            .Message(2, Op(2, new Pb().Text(1, "k5").Flag(5, true))));
        await client.Ok(Grpc.Txn, new Pb().Message(1, Exists("k1")).Message(2, Op(1, new Pb().Text(1, "k1"))).Message(2, Op(1, new Pb().Text(1, "k2"))));
        await client.Ok(Grpc.Txn, new Pb().Message(2, Op(1, new Pb().Text(1, "k1"))));
        await client.Ok(Grpc.Txn, new Pb().Message(2, Op(4, new Pb().Message(1, Exists("k1")).Message(2, Op(2, Put("nested", "x"))))));
        await client.Call(Grpc.Txn, new Pb().Message(2, Op(2, new Pb().Text(1, "absent").Flag(5, true))));
        await client.Ok(Grpc.LeaseGrant, new Pb().Number(1, 600).Number(2, 77));
        await client.Ok(Grpc.Put, Put("leased1", "x").Number(3, 77));
        await client.Ok(Grpc.Put, Put("leased2", "x").Number(3, 77));
        await client.Ok(Grpc.LeaseRevoke, new Pb().Number(1, 77));
        List<string> last = await client.Ok(Grpc.Put, Put("last", "x"));
        await client.Ok(Grpc.Compact, new Pb().Number(1, Schema.Number(last, "header.revision")).Flag(2, true));
        await client.Ok(Grpc.HashKv, new Pb());
        await client.Ok(Grpc.Hash, new Pb());
        await client.Ok(Grpc.Defragment, new Pb());
        Answer snapshot = await client.Call(Grpc.Snapshot, []);
        Assert.Equal(0, snapshot.Code);
        await client.Call("/etcdserverpb.KV/Nope", []);
        PlainHttp.Reply health = await PlainHttp.Send(server.ClientPort, "GET", "/health", [], []);
        Assert.Equal(200, health.Status);
    }

    private static async Task<Page> Get(ServerProcess server)
    {
        PlainHttp.Reply reply = await PlainHttp.Send(server.ClientPort, "GET", "/metrics", [], []);
        Assert.Equal(200, reply.Status);
        return new Page(Encoding.UTF8.GetString(reply.Body));
    }

    private static bool Is(string name, (string Name, string Why)[] list) =>
        list.Any(entry => entry.Name.EndsWith('_') ? name.StartsWith(entry.Name, StringComparison.Ordinal) : name == entry.Name);

    private static void Compare(List<string> differences, string what, string ours, string theirs)
    {
        if (ours != theirs)
        {
            differences.Add($"{what}\n  cairn: {ours}\n  etcd:  {theirs}");
        }
    }

    private static string Number(Dictionary<string, double> samples, string name) =>
        samples.TryGetValue(name, out double value) ? value.ToString("R", CultureInfo.InvariantCulture)
            : samples.Keys.FirstOrDefault(key => key.StartsWith(name + "{", StringComparison.Ordinal)) is string labelled ? labelled
            : "missing";

    private static string Text(IEnumerable<string> words) => string.Join(' ', words);

    private sealed record Family(string Kind, string Help)
    {
        public SortedSet<string> LabelNames { get; } = new(StringComparer.Ordinal);

        /// <summary>Upper ends in the order they were written, once.</summary>
        public List<string> Buckets { get; } = [];
    }

    /// <summary>A parsed page. Strict: a line that is not of the text form fails the test.</summary>
    private sealed class Page
    {
        public Page(string text)
        {
            Assert.EndsWith("\n", text, StringComparison.Ordinal);
            string help = "";
            Family? family = null;
            string name = "";
            foreach (string line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                string[] words = line.Split(' ');
                if (line.StartsWith("# HELP ", StringComparison.Ordinal))
                {
                    help = string.Join(' ', words[3..]);
                }
                else if (line.StartsWith("# TYPE ", StringComparison.Ordinal))
                {
                    name = words[2];
                    family = new Family(words[3], help);
                    Families.Add(name, family);
                }
                else
                {
                    Assert.True(family is not null && line.StartsWith(name, StringComparison.Ordinal), line);
                    int space = line.LastIndexOf(' ');
                    Sample(family!, name, line[..space]);
                    string number = line[(space + 1)..];
                    Samples.Add(line[..space], number == "+Inf" ? double.PositiveInfinity : double.Parse(number, CultureInfo.InvariantCulture));
                }
            }
        }

        public Dictionary<string, Family> Families { get; } = new(StringComparer.Ordinal);

        public Dictionary<string, double> Samples { get; } = new(StringComparer.Ordinal);

        public IEnumerable<string> Labels(string family) =>
            Samples.Keys.Where(key => key.StartsWith(family + "{", StringComparison.Ordinal));

        private static void Sample(Family family, string name, string sample)
        {
            int open = sample.IndexOf('{', StringComparison.Ordinal);
            if (open < 0)
            {
                return;
            }

            // No label value of either server holds a comma or an equals sign.
            foreach (string pair in sample[(open + 1)..^1].Split(','))
            {
                string[] parts = pair.Split('=');
                family.LabelNames.Add(parts[0]);
                if (parts[0] == "le" && sample.StartsWith(name + "_bucket", StringComparison.Ordinal) && !family.Buckets.Contains(parts[1]))
                {
                    family.Buckets.Add(parts[1]);
                }
            }
        }
    }
}
