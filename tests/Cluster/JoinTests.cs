// JoinTests: a member joins a cluster that holds much and is busy: by a snapshot, while writes go on; and one that is killed at any
// moment of its joining, and started again.
//
// Longer on demand: CAIRN_SNAPSHOT_MIB=1024. With CAIRN_TIMES=1 the writes meanwhile may take twice as long as before (p99).
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Cluster;

public sealed class JoinTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Snapshot_ToAJoiningMember_LeavesWritesAlone()
    {
        int megabytes = Tools.Setting("CAIRN_SNAPSHOT_MIB", 48);
        await using Members members = new("big", 2, "--quota-backend-bytes", "8000000000", "--snapshot-count", "500", "--snapshot-catchup-entries", "10");
        await members.Start();
        await Fill(members, megabytes * 2);
        using CancellationTokenSource idle = new(TimeSpan.FromSeconds(megabytes >= 512 ? 20 : 1));
        List<double> before = await Probe(members[0], idle.Token);

        ClusterMember third = members.New("m3");
        string cluster = await Add(members, third);
        using CancellationTokenSource joined = new();
        Task<List<double>> probing = Probe(members[0], joined.Token);
        long began = Environment.TickCount64;
        third.Start(cluster, "existing");
        await Serves(third, members, megabytes >= 512 ? 280 : 60);
        await joined.CancelAsync();
        List<double> meanwhile = await probing;
        double seconds = (Environment.TickCount64 - began) / 1000.0;
        await Writers.Until(() => third.Running.Log.Contains("receiving database snapshot", StringComparison.Ordinal));
        await members.RequireEqualHashes();
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"{megabytes} MiB in {seconds:f1} s; puts before: {before.Count}, p50 {At(before, 50):f2} ms, p99 {At(before, 99):f2} ms; "
            + $"meanwhile: {meanwhile.Count}, p50 {At(meanwhile, 50):f2} ms, p99 {At(meanwhile, 99):f2} ms, longest {meanwhile[^1]:f1} ms");
        output.WriteLine(line);
        Assert.True(Tools.Setting("CAIRN_TIMES", 0) == 0 || At(meanwhile, 99) <= 2 * At(before, 99), line);
    }

    [Fact]
    public async Task Joiner_KilledAtAnyMoment_ComesInWhenItIsStartedAgain()
    {
        await using Members members = new("kills", 2, "--snapshot-count", "100", "--snapshot-catchup-entries", "10");
        await members.Start();
        await Fill(members, 40);
        ClusterMember third = members.New("m3");
        string cluster = await Add(members, third);
        foreach (int milliseconds in new[] { 15, 30, 60, 120, 250 })
        {
            third.Start(cluster, "existing");
            await Task.Delay(milliseconds);
            await third.Kill();
        }

        third.Start(cluster, "existing");
        await Serves(third, members, 60);
        await third.Running.Client.Ok(Grpc.Put, new Pb().Text(1, "there").Text(2, "at last"));
        await members.RequireEqualHashes();
    }

    private static double At(List<double> sorted, int percent) => sorted.Count == 0 ? 0 : sorted[Math.Min(sorted.Count - 1, sorted.Count * percent / 100)];

    /// <summary>Half a mebibyte each.</summary>
    private static async Task Fill(Members members, int keys)
    {
        int next = -1;
        byte[] value = new byte[512 << 10];
        new Random(1).NextBytes(value);
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async i =>
        {
            using Grpc client = new("http://" + members[i % members.All.Count].Endpoint);
            for (int key; (key = Interlocked.Increment(ref next)) < keys;)
            {
                Answer answer = await client.Call(Grpc.Put, new Pb().Text(1, "fill/" + key).Data(2, value));
                Assert.True(answer.Code == 0, answer + members.Logs());
            }
        }));

        // And small ones, so that the log begins far behind them.
        for (int i = 0; i < 700; i++)
        {
            await members[0].Running.Client.Ok(Grpc.Put, new Pb().Text(1, "small").Text(2, "x"));
        }
    }

    /// <summary>One client's puts, one after another; their times in ms, sorted.</summary>
    private static async Task<List<double>> Probe(ClusterMember member, CancellationToken stop)
    {
        using Grpc client = new("http://" + member.Endpoint);
        byte[] put = new Pb().Text(1, "probe").Text(2, new string('x', 256)).Bytes;
        List<double> times = [];
        while (!stop.IsCancellationRequested)
        {
            long began = Stopwatch.GetTimestamp();
            Answer answer = await client.Call(Grpc.Put, put);
            Assert.True(answer.Code == 0, answer.ToString());
            times.Add(Stopwatch.GetElapsedTime(began).TotalMilliseconds);
        }

        times.Sort();
        return times;
    }

    private static async Task Serves(ClusterMember member, Members members, int seconds)
    {
        for (long limit = Environment.TickCount64 + (seconds * 1000L); ; await Task.Delay(20))
        {
            try
            {
                // At the member itself, and not before it has everything: a linearizable read.
                Answer answer = await member.Running.Client.Call(Grpc.Range, new Pb().Text(1, "small").Bytes, null, TimeSpan.FromSeconds(5));
                if (answer.Code == 0)
                {
                    return;
                }
            }
            catch (Exception e) when (e is System.Net.Http.HttpRequestException or OperationCanceledException)
            {
                // Not yet.
            }

            Assert.True(member.Running.IsRunning && Environment.TickCount64 < limit, "does not serve\n" + members.Logs());
        }
    }

    private static async Task<string> Add(Members members, ClusterMember added)
    {
        for (long limit = Environment.TickCount64 + 60_000; ; await Task.Delay(100))
        {
            Finished done = await Tools.Run(
                Tools.Etcdctl35, ["member", "add", added.Name, "--peer-urls=" + added.PeerUrl, "--endpoints=" + members[0].Endpoint],
                environment: [KeyValuePair.Create("ETCDCTL_API", "3")]);
            if (done.ExitCode == 0)
            {
                return done.Out.Split('\n').Single(l => l.StartsWith("ETCD_INITIAL_CLUSTER=", StringComparison.Ordinal)).Split('"')[1];
            }

            Assert.True(Environment.TickCount64 < limit, done + members.Logs());
        }
    }
}
