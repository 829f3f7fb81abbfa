// Leases of a whole cluster on one thread with a clock that only the test moves: raft.md §3.5, L1 to L6.
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;
using static Cairn.Core.Tests.Server.PolledCluster;

namespace Cairn.Core.Tests.Server;

public sealed class LeaseTests
{
    private const long Second = 1_000_000_000;

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Lease_NotRenewed_EndsInOneRevisionEverywhere(int members)
    {
        using var cluster = new PolledCluster(members);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node other = cluster.Nodes.Find(node => node != leader) ?? leader;
        Grant(cluster, other, 7, 2);
        foreach (string key in new[] { "b", "a", "c" })
        {
            Put(cluster, other, key, 7);
        }

        cluster.Settle();
        long before = leader.Member!.Status.Revision;
        cluster.Pass(Second * 3 / 2);
        Assert.Equal("v", leader.Read("a"));
        cluster.Run(() => leader.Read("a") is null, "the lease's end", 2 * Second);
        cluster.AssertSame();
        Assert.Equal(before + 1, leader.Member.Status.Revision);
        cluster.Run(() => cluster.Nodes.TrueForAll(static node => node.Member!.Leases.Count == 0), "the clocks have heard");
        foreach (Node node in cluster.Nodes)
        {
            Assert.Null(node.Read("b"));
            Assert.Equal(node == leader ? 1 : 0, node.Member!.LeaseFigures.Expired);
            Assert.Equal((1, 1), (node.Member.LeaseFigures.Granted, node.Member.LeaseFigures.Revoked));
        }
    }

    [Fact]
    public void Renewal_ThroughAnyMember_KeepsTheLeaseAndOnlyThat()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        Grant(cluster, leader, 7, 2);
        Put(cluster, leader, "k", 7);
        for (int i = 0; i < 8; i++)
        {
            cluster.Pass(Second);
            Assert.Equal((ErrorCode.None, 2L), Renew(cluster, i % 2 == 0 ? follower : leader, 7));
            Assert.Equal("v", leader.Read("k"));
        }

        Assert.Equal((ErrorCode.LeaseNotFound, 0L), Renew(cluster, follower, 99));
        Assert.Equal((ErrorCode.LeaseNotFound, 0L), Renew(cluster, leader, 99));
        Assert.Equal(LeaseRenewal.NotPrimary, follower.Member!.TryRenewLease(7, out _));
        cluster.Run(() => leader.Read("k") is null, "the lease's end", 4 * Second);
        Assert.Equal((ErrorCode.LeaseNotFound, 0L), Renew(cluster, follower, 7));
    }

    [Fact]
    public void Grant_AnsweredByAFollower_CanBeRenewedAtOnceEverywhere()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        for (long id = 1; id <= 40; id++)
        {
            Grant(cluster, id % 2 == 0 ? follower : leader, id, 60);
            Assert.Equal((ErrorCode.None, 60L), Renew(cluster, id % 3 == 0 ? follower : leader, id));
        }
    }

    [Fact]
    public void LeaderChange_EveryLease_GetsItsTimeAgainOnce()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Grant(cluster, leader, 7, 5);
        Put(cluster, leader, "k", 7);
        cluster.Settle();
        cluster.Pass(4 * Second);
        leader.Kill();
        Node next = cluster.WaitForLeader(leader);
        cluster.Run(() => next.Member!.Leases.IsPrimary, "the new leader decides");
        long from = cluster.Clock.NowNs;
        cluster.Pass(5 * Second);
        Assert.Equal("v", next.Read("k"));
        cluster.Run(() => next.Read("k") is null, "the lease's end", 3 * Second);
        Assert.InRange(cluster.Clock.NowNs - from, 6 * Second - 1, 7 * Second);
    }

    [Fact]
    public void Leader_CutOff_NeitherRenewsNorRevokes()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node old = cluster.WaitForLeader();
        Grant(cluster, old, 7, 3);
        Put(cluster, old, "k", 7);
        cluster.Settle();
        ulong oldId = old.Member!.Id;
        cluster.Network.Isolate(oldId);
        Node next = cluster.WaitForLeader(old);
        cluster.Run(() => next.Member!.Leases.IsPrimary, "the new leader decides");

        // Kept alive at the new leader for longer than the old one would have given it.
        for (int i = 0; i < 10; i++)
        {
            cluster.Pass(Second);
            Assert.Equal((ErrorCode.None, 3L), Renew(cluster, next, 7));
            Assert.NotEqual(LeaseRenewal.Renewed, old.Member.TryRenewLease(7, out _));
            Assert.Equal("v", old.Read("k"));
        }

        cluster.Network.Isolate(oldId, false);
        Assert.Equal((ErrorCode.None, 3L), Renew(cluster, next, 7));
        cluster.Pass(2 * Second);
        Assert.Equal("v", next.Read("k"));
        cluster.AssertSame();
        cluster.Run(() => old.Read("k") is null, "the lease's end", 10 * Second);
        cluster.AssertSame();
    }

    [Fact]
    public void Renewal_WithoutALeader_EndsAsEtcdSays()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Grant(cluster, leader, 7, 60);
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        foreach (Node node in cluster.Nodes)
        {
            if (node != follower)
            {
                node.Kill();
            }
        }

        cluster.Run(() => follower.Member!.Status.Leader == 0, "no leader");
        Assert.Equal((ErrorCode.NoLeader, 0L), Renew(cluster, follower, 7, hurry: true));

        // The list needs nobody else.
        Assert.Equal(1, follower.Member!.Leases.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Checkpoints_NewLeader_GivesTheRemainingTimeOnly(bool checkpoints)
    {
        using var cluster = new PolledCluster(3, options => options with
        {
            LeaseCheckpoint = checkpoints,
            LeaseCheckpointPersist = checkpoints,
            LeaseCheckpointIntervalMs = 2000,
        });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Grant(cluster, leader, 7, 20);
        Grant(cluster, leader, 8, 20);
        cluster.Pass(11 * Second);
        Assert.Equal((ErrorCode.None, 20L), Renew(cluster, leader, 8)); // clears its checkpoint first
        cluster.Settle();
        leader.Kill();
        Node next = cluster.WaitForLeader(leader);
        cluster.Run(() => next.Member!.Leases.IsPrimary, "the new leader decides");
        Assert.True(next.Member!.Leases.TryGet(7, cluster.Clock.NowNs, out LeaseTime time));
        Assert.InRange(time.RemainingMs, checkpoints ? 4_000 : 20_500, checkpoints ? 12_001 : 21_001);
        Assert.True(next.Member.Leases.TryGet(8, cluster.Clock.NowNs, out time));
        Assert.InRange(time.RemainingMs, 16_000, 21_001);
    }

    [Fact]
    public void ManyLeases_EndingTogether_AreGoneSoonWhileOthersWrite()
    {
        const int Leases = 3000;
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Node node = cluster.WaitForLeader();
        List<Write> grants = [];
        for (int i = 1; i <= Leases; i++)
        {
            grants.Add(node.Propose(RequestKind.LeaseGrant, Requests.Numbers(5, i)));
        }

        cluster.Run(() => grants.TrueForAll(static grant => grant.IsCompleted), "grants");
        grants.ForEach(static grant => Assert.Equal(ErrorCode.None, grant.End()));
        cluster.Pass(4 * Second);
        Assert.Equal(Leases, node.Member!.Leases.Count);

        // A flood of writes, none of which may keep the leases alive.
        List<Write> puts = [];
        long limit = cluster.Clock.NowNs + (4 * Second);
        while (node.Member.Leases.Count > 0 && cluster.Clock.NowNs < limit)
        {
            for (int i = 0; i < 64; i++)
            {
                puts.Add(node.Put("flood", "v"));
            }

            _ = cluster.PollOnce();
            cluster.Clock.NowNs += 100_000;
        }

        Assert.Equal(0, node.Member.Leases.Count);
        Assert.Equal(Leases, node.Member.LeaseFigures.Expired);
        cluster.Run(() => puts.TrueForAll(static put => put.IsCompleted), "puts");
        puts.ForEach(static put => put.End());
    }

    [Fact]
    public void Restart_OfTheOnlyMember_GivesEachLeaseItsTimeAgain()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Node node = cluster.WaitForLeader();
        Grant(cluster, node, 7, 4);
        Put(cluster, node, "k", 7);
        cluster.Pass(3 * Second);
        node.Stop();
        node.Start();
        cluster.Run(() => node.Member!.Leases.IsPrimary, "decides again");
        cluster.Pass(4 * Second);
        Assert.Equal("v", node.Read("k"));
        cluster.Run(() => node.Read("k") is null, "the lease's end", 2 * Second);
    }

    [Fact]
    public void TimeToLive_MoreKeysThanMembersSayToEachOther_AreListedByEveryMember()
    {
        const int Keys = 20;
        string filler = new('k', 100_000); // together twice what one answer between members may hold
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Grant(cluster, leader, 7, 600);
        for (int i = 0; i < Keys; i++)
        {
            Put(cluster, leader, i.ToString("d2", CultureInfo.InvariantCulture) + filler, 7);
        }

        foreach (Node node in cluster.Nodes)
        {
            byte[] answer = TimeToLive(cluster, node, 7, keys: true);
            Assert.Equal((7UL, 600UL), (Requests.Varint(answer, 2), Requests.Varint(answer, 4)));
            Assert.InRange(Requests.Varint(answer, 3), 500UL, 600UL);
            Assert.Equal(node.Member!.Id, Requests.Varint(Requests.Field(answer, 1), 2));
            var found = new HashSet<string>();
            var reader = new ProtoReader(answer);
            while (reader.NextField())
            {
                if (reader.Field == 5)
                {
                    found.Add(System.Text.Encoding.Latin1.GetString(reader.ReadBytes()));
                }
                else
                {
                    reader.Skip();
                }
            }

            Assert.Equal(Keys, found.Count);
            Assert.All(found, key => Assert.EndsWith(filler, key, System.StringComparison.Ordinal));
            byte[] unknown = TimeToLive(cluster, node, 8, keys: true);
            Assert.Equal(ulong.MaxValue, Requests.Varint(unknown, 3));
            Assert.Null(Requests.Field(unknown, 5));
        }
    }

    private static byte[] TimeToLive(PolledCluster cluster, Node node, long id, bool keys)
    {
        RequestSlot slot = node.Member!.Rent();
        Task<ErrorCode> asking = node.Member.LeaseTimeToLiveAsync(
            slot, new StoreQuery(StoreQueryKind.LeaseTimeToLive, id, keys), cluster.Clock.NowNs + (60 * Second)).AsTask();
        Assert.Equal(ErrorCode.None, cluster.Await(asking, "time to live"));
        byte[] answer = slot.Response.WrittenSpan.ToArray();
        node.Member.Return(slot);
        return answer;
    }

    private static void Grant(PolledCluster cluster, Node node, long id, long ttl)
    {
        Write grant = node.Propose(RequestKind.LeaseGrant, Requests.Numbers(ttl, id));
        cluster.Run(() => grant.IsCompleted, "grant " + id.ToString(CultureInfo.InvariantCulture));
        Assert.Equal(ErrorCode.None, grant.End());
    }

    private static void Put(PolledCluster cluster, Node node, string key, long lease)
    {
        Write put = node.Propose(RequestKind.Put, Requests.Put(key, "v", lease));
        cluster.Run(() => put.IsCompleted, "put " + key);
        Assert.Equal(ErrorCode.None, put.End());
    }

    private static (ErrorCode Outcome, long Ttl) Renew(PolledCluster cluster, Node node, long id, bool hurry = false)
    {
        Task<(ErrorCode Outcome, long TtlSeconds)> renewing =
            node.Member!.RenewLeaseAsync(id, cluster.Clock.NowNs + (7 * Second)).AsTask();

        // What awaits runs on the pool. Time goes on as outside, or a leader that nobody needs to wait for would let leases
        // end while a busy machine schedules the pool; a wait for a leader that does not come goes faster.
        long last = SystemClock.Instance.NowNs, giveUp = last + (60 * Second);
        while (!renewing.IsCompleted)
        {
            if (!cluster.PollOnce())
            {
                System.Threading.Thread.Sleep(0);
            }

            long now = SystemClock.Instance.NowNs;
            cluster.Clock.NowNs += (now - last) * (hurry ? 20 : 1);
            last = now;
            Assert.True(now < giveUp, "nothing came of a renewal\n" + cluster.Describe());
        }

        return renewing.Result;
    }
}
