// PartitionTests: real processes on a network that is cut, one-way, slow or lossy (Weather.cs), and clients whose history has to
// have an explanation (Recorder.cs). The majority goes on, whoever is cut off refuses, and what comes back disturbs nobody.
//
// Terms      A member that is cut off must not raise its term (pre-vote), and healing must not start a storm of elections: not
//            more than two, and one for each election timeout that passes, since a loaded machine may lose a leader by itself.
//            With CAIRN_TIMES=1: not more than two.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Cluster;

public sealed class PartitionTests(ITestOutputHelper output)
{
    private const int ElectionMs = 1000;

    [Fact]
    public async Task Three_UnderCutsAndOneWayLinks_StayOneStore()
    {
        await using Members members = new("cuts", 3);
        await using Weather weather = new(members);
        await members.Start();
        await weather.Learn(members);
        await using Recorder clients = new(members, 2);
        clients.Start();
        await clients.More(20, [.. members.All]);

        // The leader alone: the others elect one, it steps down and says that it has none, and its term stays what it was.
        ClusterMember leader = await members.Leader();
        ClusterMember[] rest = [.. members.All.Where(m => m != leader)];
        long before = await Term(leader);
        weather.Isolate(leader);
        await clients.More(30, rest);
        await UntilNoLeader(leader, members);
        Assert.Equal(before, await Term(leader));
        await Healed(weather, members, clients, "leader cut off");

        // A follower alone: nobody notices but its own clients.
        leader = await members.Leader();
        ClusterMember follower = members.All.First(m => m != leader);
        before = await Term(follower);
        weather.Isolate(follower);
        await clients.More(30, [.. members.All.Where(m => m != follower)]);
        await UntilNoLeader(follower, members);
        Assert.Equal(before, await Term(follower));
        await Healed(weather, members, clients, "follower cut off");

        // A follower that does not hear the leader, which hears it: without pre-vote it would depose the leader for ever.
        leader = await members.Leader();
        follower = members.All.First(m => m != leader);
        before = await Term(follower);
        weather.Set((from, to) => new Sky(IsCut: from == leader && to == follower));
        await UntilNoLeader(follower, members);
        await clients.More(30, [.. members.All.Where(m => m != follower)]);
        await Healed(weather, members, clients, "follower deaf for the leader");

        // A leader nobody hears: it hears of its successor.
        leader = await members.Leader();
        weather.Set((from, to) => new Sky(IsCut: from == leader));
        await clients.More(30, [.. members.All.Where(m => m != leader)]);
        Assert.NotSame(leader, await members.Leader());
        await Healed(weather, members, clients, "leader dumb");

        // A leader that hears nobody: it must find out by itself and go, or nobody could write any more.
        leader = await members.Leader();
        weather.Set((from, to) => new Sky(IsCut: to == leader));
        await clients.More(30, [.. members.All.Where(m => m != leader)]);
        Assert.NotSame(leader, await members.Leader());
        await Healed(weather, members, clients, "leader deaf");

        await Judge(members, clients);
    }

    [Fact]
    public async Task Three_OnASlowAndLossyNetwork_StayOneStore()
    {
        await using Members members = new("slow", 3);
        await using Weather weather = new(members);
        await members.Start();
        await weather.Learn(members);
        await using Recorder clients = new(members, 3);
        clients.Start();
        await clients.More(10, [.. members.All]);

        weather.Set(static (_, _) => new Sky(DelayMs: 200));
        await clients.More(8, [.. members.All]);
        await Healed(weather, members, clients, "200 ms each way");

        // Some third of all segments is lost: a leader may change now and then, but everybody gets on.
        weather.Set(static (_, _) => new Sky(LossPercent: 30));
        await clients.More(6, [.. members.All]);
        await Healed(weather, members, clients, "30 % loss");
        await Judge(members, clients);
    }

    [Fact]
    public async Task Five_CutInTwo_TheThreeGoOn()
    {
        await using Members members = new("five", 5);
        await using Weather weather = new(members);
        await members.Start();
        await weather.Learn(members);
        await using Recorder clients = new(members, 1);
        clients.Start();
        await clients.More(10, [.. members.All]);
        ClusterMember leader = await members.Leader();
        ClusterMember other = members.All.First(m => m != leader);
        ClusterMember[] three = [.. members.All.Where(m => m != leader && m != other)];
        long before = await Term(leader);
        weather.Isolate(leader, other);
        await clients.More(20, three);
        await UntilNoLeader(leader, members);
        await UntilNoLeader(other, members);
        Assert.Equal(before, await Term(leader));
        Assert.Equal(before, await Term(other));
        await Healed(weather, members, clients, "two of five cut off");

        // Two dead, a third away and back: three are enough, two are not.
        await three[0].Kill();
        await three[1].Kill();
        ClusterMember[] left = [leader, other, three[2]];
        await clients.More(20, left);
        await members.Restart(three[0]);
        await members.Restart(three[1]);
        await clients.More(10, [.. members.All]);
        await Judge(members, clients);
    }

    private static async Task<long> Term(ClusterMember member) =>
        Schema.Number(await member.Running.Client.Ok(Grpc.Status, new Pb()), "raftTerm");

    /// <summary>Waits until a member refuses writes because it knows of no leader.</summary>
    private static async Task UntilNoLeader(ClusterMember member, Members members)
    {
        long limit = Environment.TickCount64 + 60_000;
        while (true)
        {
            // A read at an old state costs nothing and tells whether there is a leader.
            Answer answer = await member.Running.Client.Call(
                Grpc.Range, new Pb().Text(1, "x").Flag(7, true).Bytes, [KeyValuePair.Create("hasleader", "true")]);
            if (answer.Code != 0)
            {
                Assert.Equal((14, "etcdserver: no leader"), (answer.Code, answer.Message));
                return;
            }

            Assert.True(Environment.TickCount64 < limit, $"{member.Name} still has a leader after 60 s\n{members.Logs()}");
            await Task.Delay(20);
        }
    }

    /// <summary>Heals, waits until everybody's clients get answers, and counts the elections that took.</summary>
    private async Task Healed(Weather weather, Members members, Recorder clients, string what)
    {
        long term = 0;
        foreach (ClusterMember member in members.All)
        {
            term = Math.Max(term, await Term(member));
        }

        long healed = Environment.TickCount64;
        weather.Heal();
        await clients.More(10, [.. members.All]);
        long took = Environment.TickCount64 - healed;
        long after = await Term(await members.Leader());
        output.WriteLine($"{what}: term {term} to {after} in {took} ms after it was healed");
        long allowed = 2 + (Tools.Setting("CAIRN_TIMES", 0) != 0 ? 0 : (Environment.TickCount64 - healed) / ElectionMs);
        Assert.True(after - term <= allowed, $"{what}: term {term} to {after} in {took} ms after it was healed\n{members.Logs()}");
    }

    private async Task Judge(Members members, Recorder clients)
    {
        (int operations, int open) = await clients.Judge();
        output.WriteLine($"{operations} operations, {open} of them without an answer; {clients.Failures}");
        await members.RequireEqualHashes();
    }
}
