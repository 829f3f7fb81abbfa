// ClusterTests: three and more real processes on loopback. They form, elect, and serve at every member; lose nothing when one is
// killed, frozen, cut off or away; grow, shrink and come back from disaster.
//
// Longer on demand: CAIRN_KILL_ROUNDS=20 (kills of the leader), CAIRN_AWAY_WRITES=50000 (writes while a follower is away). With
// CAIRN_TIMES=1 the times to the next acknowledged write are held to the limits of the product; without it they are only printed,
// since a loaded machine says nothing about them.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading.Tasks;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Cluster;

public sealed class ClusterTests(ITestOutputHelper output)
{
    private const int ElectionMs = 1000;

    [Fact]
    public async Task Three_FormAndElect_AndServeEverythingAtAnyMember()
    {
        await using Members members = new("form", 3);
        await members.Start();
        for (int i = 0; i < 3; i++)
        {
            await members[i].Running.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + i).Text(2, "v" + i));

            // Linearizable, at the two others: what was acknowledged is seen.
            foreach (ClusterMember other in members.All)
            {
                List<string> lines = await other.Running.Client.Ok(Grpc.Range, new Pb().Text(1, "k" + i));
                Assert.Equal(1, Schema.Number(lines, "count"));
            }
        }

        await members.RequireEqualHashes();
        ClusterMember leader = await members.Leader();
        ClusterMember follower = members.All.First(m => m != leader);
        Finished list = await Ctl(follower.Endpoint, "member list");
        Assert.Equal(3, list.Out.Split('\n').Count(l => l.Contains(", started, ", StringComparison.Ordinal)));
        Finished status = await Ctl(follower.Endpoint, "endpoint status --cluster");
        Assert.Equal(1, status.Out.Split('\n').Count(l => l.Contains(", true, false, ", StringComparison.Ordinal)));
        Finished health = await Ctl(follower.Endpoint, "endpoint health --cluster");
        Assert.True(health.ExitCode == 0, health + members.Logs());
        Finished hashes = await Ctl(follower.Endpoint, "endpoint hashkv --cluster");
        Assert.Single(hashes.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(", ")[1]).Distinct());

        string to = Schema.Value(await follower.Running.Client.Ok(Grpc.Status, new Pb()), "header.member_id");
        Answer refused = await follower.Running.Client.Call(Grpc.MoveLeader, new Pb().Number(1, (long)ulong.Parse(to)));
        Assert.Equal((9, "etcdserver: not leader"), (refused.Code, refused.Message));
        Finished moved = await Ctl(members.Endpoints, "move-leader " + ulong.Parse(to).ToString("x"));
        Assert.True(moved.Out.StartsWith("Leadership transferred from ", StringComparison.Ordinal), moved + members.Logs());
        Assert.Same(follower, await members.Leader());
        await members[0].Running.Client.Ok(Grpc.Put, new Pb().Text(1, "after").Text(2, "the move"));
    }

    [Fact]
    public async Task Leader_KilledUnderLoad_LosesNothing_AndComesBack()
    {
        int rounds = Tools.Setting("CAIRN_KILL_ROUNDS", 3);
        await using Members members = new("kill", 3);
        await members.Start();
        await using RetryingWriters writers = new(members, 8);
        writers.Start();
        await writers.More(100);
        List<long> times = [];
        for (int round = 0; round < rounds; round++)
        {
            ClusterMember leader = await members.Leader();
            long killed = Environment.TickCount64;
            await leader.Kill();
            times.Add(await Probe(members) - killed);
            await writers.More(50);
            await members.Restart(leader);
            await writers.More(50);
        }

        await writers.Stop();
        await members.RequireEqualHashes();
        await writers.Check();
        Report("killed leader to next acknowledged write", times, 1.5, 4);
    }

    [Fact]
    public async Task Leader_Frozen_IsReplaced_AndComesBackAsAFollower()
    {
        await using Members members = new("freeze", 3);
        await members.Start();
        await using RetryingWriters writers = new(members, 4);
        writers.Start();
        await writers.More(50);
        ClusterMember leader = await members.Leader();
        leader.Running.Signal(19);
        long frozen = Environment.TickCount64;
        await writers.More(1);
        output.WriteLine($"frozen leader to next acknowledged write: {writers.LastAcknowledged - frozen} ms");
        await writers.More(50);
        Assert.NotSame(leader, await members.Leader());
        leader.Running.Signal(18);
        await writers.More(50);
        await writers.Stop();
        await members.RequireEqualHashes();
        await writers.Check();
    }

    [Fact]
    public async Task Members_RestartedOneByOne_NeverStopTheLoad()
    {
        await using Members members = new("roll", 3);
        await members.Start();
        await using RetryingWriters writers = new(members, 6);
        writers.Start();
        foreach (ClusterMember member in members.All)
        {
            await writers.More(100);
            await member.Stop();
            await writers.More(100);
            await members.Restart(member);
        }

        await writers.More(100);
        await writers.Stop();
        await members.RequireEqualHashes();
        await writers.Check();
    }

    [Theory]
    [InlineData("from the log", "200000", "200000")]
    [InlineData("by a snapshot", "100", "10")]
    public async Task Follower_Away_CatchesUpWhileWritesGoOn(string how, string snapshotCount, string catchup)
    {
        int away = Tools.Setting("CAIRN_AWAY_WRITES", 6000);
        await using Members members = new("away", 3, "--snapshot-count", snapshotCount, "--snapshot-catchup-entries", catchup);
        await members.Start();
        await using RetryingWriters writers = new(members, 8);
        writers.Start();
        await writers.More(20);
        ClusterMember leader = await members.Leader();
        ClusterMember follower = members.All.First(m => m != leader);
        await follower.Stop();
        await writers.More(away, seconds: 300);
        await members.Restart(follower);
        await writers.More(50);
        await writers.Stop();
        await members.RequireEqualHashes();
        await writers.Check();
        bool received = follower.Running.Log.Contains("receiving database snapshot", StringComparison.Ordinal);
        Assert.True(received == (how == "by a snapshot"), $"{how}: received a snapshot: {received}\n{members.Logs()}");
        const string Name = "etcd_network_snapshot_receive_total_duration_seconds_count{From=";
        PlainHttp.Reply page = await PlainHttp.Send(follower.ClientPort, "GET", "/metrics", [], []);
        Assert.Equal(received, System.Text.Encoding.UTF8.GetString(page.Body).Contains(Name, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Minority_CutOff_RefusesWhatItCannotKnow_AndTheMajorityGoesOn()
    {
        await using Members members = new("cut", 3);
        List<Proxy> proxies = [];
        foreach (ClusterMember member in members.All)
        {
            Proxy proxy = new(member.PeerPort);
            proxies.Add(proxy);
            member.PeerUrl = proxy.Url;
        }

        try
        {
            await members.Start();
            ClusterMember old = await members.Leader();
            List<ClusterMember> rest = members.All.Where(m => m != old).ToList();
            ulong id = ulong.Parse(Schema.Value(await old.Running.Client.Ok(Grpc.Status, new Pb()), "header.member_id"));
            foreach (Proxy proxy in proxies)
            {
                bool own = proxy.Url == old.PeerUrl;
                proxy.Block(from => own || from == id);
            }

            // The majority elects and goes on; the one alone refuses reads and writes with etcd's words, but serves old data.
            await Until(async () => (await rest[0].Running.Client.Call(Grpc.Put, new Pb().Text(1, "a").Text(2, "1"))).Code == 0, members);
            Task<Answer> write = old.Running.Client.Call(Grpc.Put, new Pb().Text(1, "b").Text(2, "1"));
            Task<Answer> read = old.Running.Client.Call(Grpc.Range, new Pb().Text(1, "a"));
            Answer local = await old.Running.Client.Call(Grpc.Range, new Pb().Text(1, "a").Flag(7, true));
            Assert.Equal(0, local.Code);
            Answer[] refused = await Task.WhenAll(write, read);
            Assert.Contains(refused[0].Message, new[]
            {
                "context deadline exceeded", "etcdserver: request timed out",
                "etcdserver: request timed out, possibly due to previous leader failure",
                "etcdserver: request timed out, possibly due to connection lost", "etcdserver: leader changed",
            });
            Assert.Contains(refused[1].Message, new[] { "etcdserver: request timed out", "etcdserver: leader changed", "context deadline exceeded" });
            Answer noLeader = await old.Running.Client.Call(
                Grpc.Put, new Pb().Text(1, "c").Bytes, [KeyValuePair.Create("hasleader", "true")]);
            Assert.Equal((14, "etcdserver: no leader"), (noLeader.Code, noLeader.Message));

            ClusterMember leader = await members.Leader();
            long term = Schema.Number(await leader.Running.Client.Ok(Grpc.Status, new Pb()), "raftTerm");
            foreach (Proxy proxy in proxies)
            {
                proxy.Heal();
            }

            await Until(async () => (await old.Running.Client.Call(Grpc.Put, new Pb().Text(1, "d").Text(2, "1"))).Code == 0, members);
            await members.RequireEqualHashes();

            // With pre-vote the one that came back does not disturb; a loaded machine may cause an election or two by itself.
            long after = Schema.Number(await (await members.Leader()).Running.Client.Ok(Grpc.Status, new Pb()), "raftTerm");
            Assert.InRange(after - term, 0, 3);
        }
        finally
        {
            foreach (Proxy proxy in proxies)
            {
                await proxy.DisposeAsync();
            }
        }
    }

    [Fact]
    public async Task Cluster_GrowsFromOneToThree_ReplacesADeadMember_AndShrinks_UnderLoad()
    {
        await using Members members = new("grow", 1);
        await members.Start();
        await using RetryingWriters writers = new(members, 3);
        writers.Start();
        await writers.More(20);
        ClusterMember two = members.New("m2");
        await Add(members, members[0], two, learner: true);
        await Until(async () => (await Ctl(members[0].Endpoint, "member promote " + await IdOf(members, two))).ExitCode == 0, members);
        ClusterMember three = members.New("m3");
        await Add(members, members[0], three, learner: false);
        await writers.More(50);
        await members.RequireEqualHashes();

        // A member dies for ever: removed, and another takes its place.
        await two.Kill();
        await writers.More(20);
        await Until(async () => (await Ctl(members[0].Endpoint, "member remove " + await IdOf(members, two))).ExitCode == 0, members);
        members.All.Remove(two);
        ClusterMember four = members.New("m4");
        await Add(members, members[0], four, learner: false);
        await writers.More(50);
        await members.RequireEqualHashes();

        // And back to one: a removed member stops itself and says why.
        foreach (ClusterMember gone in new[] { four, three })
        {
            await Until(async () => (await Ctl(members[0].Endpoint, "member remove " + await IdOf(members, gone))).ExitCode == 0, members);
            Assert.Equal(0, await gone.Running.Exit(60));
            Assert.Contains("the member has been permanently removed from the cluster", gone.Running.Log, StringComparison.Ordinal);
            members.All.Remove(gone);
            await gone.DisposeAsync();
        }

        await writers.More(20);
        await writers.Stop();
        await writers.Check();
        await two.DisposeAsync();
    }

    [Fact]
    public async Task Survivor_OfADisaster_IsMadeAClusterOfItsOwn_AndGrowsAgain()
    {
        await using Members members = new("disaster", 3);
        await members.Start();
        await using RetryingWriters writers = new(members, 4);
        writers.Start();
        await writers.More(200);
        await writers.Stop();
        await members.RequireEqualHashes();
        ClusterMember survivor = members[0];
        await members[1].Kill();
        await members[2].Kill();
        await survivor.Kill();
        members.All.RemoveRange(1, 2);
        await members.Restart(survivor, "--force-new-cluster");
        Assert.Single(await survivor.Running.Client.Ok(Grpc.MemberList, new Pb()), l => l.Contains(".ID = ", StringComparison.Ordinal));
        await writers.Check();
        await survivor.Stop();
        await members.Restart(survivor);
        await Add(members, survivor, members.New("m4"), learner: false);
        await survivor.Running.Client.Ok(Grpc.Put, new Pb().Text(1, "after").Text(2, "1"));
        await members.RequireEqualHashes();
    }

    [Fact]
    public async Task Directories_OfThreeEtcdMembers_RunUnderCairn_AndBack()
    {
        await using Members members = new("both", 3);
        await members.Start(Tools.Etcd35);
        for (int i = 0; i < 60; i++)
        {
            await members[i % 3].Running.Client.Ok(Grpc.Put, new Pb().Text(1, "etcd/" + (i % 20)).Text(2, "v" + i));
        }

        await members[0].Running.Client.Ok(Grpc.Compact, new Pb().Number(1, 30));
        await members.RequireEqualHashes();
        foreach (string? program in new[] { null, Tools.Etcd35 })
        {
            foreach (ClusterMember member in members.All)
            {
                await member.Stop();
            }

            await members.Start(program);
            for (int i = 0; i < 3; i++)
            {
                string key = (program is null ? "cairn/" : "again/") + i;
                await members[i].Running.Client.Ok(Grpc.Put, new Pb().Text(1, key).Text(2, "v"));
            }

            await members.RequireEqualHashes();
            List<string> all = await members[0].Running.Client.Ok(Grpc.Range, new Pb().Text(1, "a").Text(2, "z").Flag(9, true));
            Assert.Equal(program is null ? 23 : 26, Schema.Number(all, "count"));
        }
    }

    [Fact]
    public async Task Members_ThatRegisterAtAnEtcd_FormTheirCluster()
    {
        using TempFolder folder = new();
        await using ServerProcess registry = await ServerProcess.Etcd(folder["registry"]);
        await registry.Client.Ok(Grpc.Put, new Pb().Text(1, "/_etcd/registry/tok/_config/size").Text(2, "3"));
        await using Members members = new("tok", 3);
        foreach (ClusterMember member in members.All)
        {
            member.Start(
                "", flags: ["--discovery-token", "tok", "--discovery-endpoints", $"http://127.0.0.1:{registry.ClientPort}"]);
        }

        foreach (ClusterMember member in members.All)
        {
            await member.Running.WaitUntilServing();
        }

        List<string> list = await members[0].Running.Client.Ok(Grpc.MemberList, new Pb().Flag(1, true));
        Assert.Equal(3, list.Count(l => l.Contains(".ID = ", StringComparison.Ordinal)));
        await members.RequireEqualHashes();
    }

    /// <summary>When a put first succeeds at a running member: short calls, so that none waits for a proposal that was lost.</summary>
    private static async Task<long> Probe(Members members)
    {
        long limit = Environment.TickCount64 + 60_000;
        for (int turn = 0; ; turn++)
        {
            Assert.True(Environment.TickCount64 < limit, "nothing is acknowledged for 60 s\n" + members.Logs());
            ClusterMember[] running = [.. members.Running];
            try
            {
                Answer answer = await running[turn % running.Length].Running.Client.Call(
                    Grpc.Put, new Pb().Text(1, "probe").Bytes, null, TimeSpan.FromMilliseconds(100));
                if (answer.Code == 0)
                {
                    return Environment.TickCount64;
                }
            }
            catch (Exception e) when (e is System.Net.Http.HttpRequestException or OperationCanceledException)
            {
                // Not yet.
            }

            await Task.Delay(5);
        }
    }

    private static async Task Add(Members members, ClusterMember at, ClusterMember added, bool learner)
    {
        string line = $"member add {added.Name} --peer-urls={added.PeerUrl}{(learner ? " --learner" : "")}";
        Finished done = new(1, "", "");
        await Until(
            async () =>
            {
                // Refused while links are young ("unhealthy cluster"): as an operator would, try again.
                done = await Ctl(at.Endpoint, line);
                return done.ExitCode == 0;
            },
            members);
        Assert.Contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\"", done.Out, StringComparison.Ordinal);
        string cluster = done.Out.Split('\n').Single(l => l.StartsWith("ETCD_INITIAL_CLUSTER=", StringComparison.Ordinal)).Split('"')[1];
        added.Start(cluster, "existing");
        if (!learner)
        {
            await added.Running.WaitUntilServing();
        }
    }

    private static async Task<string> IdOf(Members members, ClusterMember member)
    {
        Finished list = await Ctl(members[0].Endpoint, "member list");
        return list.Out.Split('\n').Single(l => l.Contains(", " + member.PeerUrl + ",", StringComparison.Ordinal)).Split(',')[0];
    }

    private static Task<Finished> Ctl(string endpoints, string line) => Tools.Run(
        Tools.Etcdctl35, [.. line.Split(' '), "--endpoints=" + endpoints], environment: [KeyValuePair.Create("ETCDCTL_API", "3")]);

    private static async Task Until(Func<Task<bool>> done, Members members)
    {
        long limit = Environment.TickCount64 + 60_000;
        while (!await done())
        {
            Assert.True(Environment.TickCount64 < limit, "not within 60 s\n" + members.Logs());
            await Task.Delay(100);
        }
    }

    private void Report(string what, List<long> times, double median, double worst)
    {
        times.Sort();
        string line = $"{what}: {string.Join(' ', times)} ms";
        output.WriteLine(line);
        Debug.WriteLine(line);
        if (Tools.Setting("CAIRN_TIMES", 0) != 0)
        {
            Assert.True(times[times.Count / 2] <= median * ElectionMs && times[^1] <= worst * ElectionMs, line);
        }
    }
}
