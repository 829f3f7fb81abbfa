// Several members in one process: elections, replication, reads, failures, snapshots, membership.
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Xunit;
using Node = Cairn.Core.Tests.Server.PolledCluster.Node;

namespace Cairn.Core.Tests.Server;

public sealed class ClusterTests
{
    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Cluster_Started_ElectsServesAndAgrees(int members)
    {
        using var cluster = new PolledCluster(members);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        for (int i = 0; i < 20; i++)
        {
            Node at = cluster.Nodes[i % members];
            Assert.Equal(ErrorCode.None, at.PutAndWait("k" + i.ToString(CultureInfo.InvariantCulture), "v"));
        }

        foreach (Node node in cluster.Nodes)
        {
            Assert.Equal("v", node.Get("k19"));
            Assert.Equal(members, node.Member!.ClusterView.Members.Length);
            Assert.Equal("3.5.0", node.Member.ClusterView.Version);
            Assert.All(node.Member.ClusterView.Members.ToArray(), member => Assert.NotEmpty(member.Name));
        }

        cluster.AssertSame();
        Assert.Equal(leader, cluster.Leader);
    }

    [Fact]
    public void Follower_ReadAfterAcknowledgedWrite_SeesIt()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        for (int i = 0; i < 30; i++)
        {
            string value = i.ToString(CultureInfo.InvariantCulture);
            Assert.Equal(ErrorCode.None, leader.PutAndWait("k", value));
            Assert.Equal(value, follower.Get("k"));
        }
    }

    [Fact]
    public void Leader_Killed_AnotherServesAndNothingAcknowledgedIsLost()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        for (int round = 0; round < 4; round++)
        {
            Node leader = cluster.WaitForLeader();
            string key = "k" + round.ToString(CultureInfo.InvariantCulture);
            Assert.Equal(ErrorCode.None, leader.PutAndWait(key, "v"));
            leader.Kill();
            Node next = cluster.WaitForLeader(leader);
            Assert.Equal("v", next.Get(key));
            Assert.Equal(ErrorCode.None, next.PutAndWait(key, "w"));
            leader.Start();
            cluster.Settle();
            Assert.Equal("w", leader.Get(key));
        }

        cluster.AssertSame();
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Leader_WhoseProcessEnds_IsReplacedBeforeAnElectionTimeout(int members)
    {
        using var cluster = new PolledCluster(members);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Assert.Equal(ErrorCode.None, leader.PutAndWait("k", "v"));
        cluster.Settle();
        ulong term = leader.Member!.Status.Term;
        long killed = cluster.Clock.NowNs;
        leader.Kill();
        Node next = cluster.WaitForLeader(leader);
        long electionNs = next.Options.ElectionMs * 1_000_000L;
        Assert.InRange(cluster.Clock.NowNs - killed, 0, electionNs - 1);
        Assert.Equal(term + 1, next.Member!.Status.Term);
        Assert.Equal(ErrorCode.None, next.PutAndWait("k", "w"));
    }

    [Fact]
    public void Leader_ThatSomeTakeForDead_StaysLeader()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Assert.Equal(ErrorCode.None, leader.PutAndWait("k", "v"));
        cluster.Settle();
        ulong term = leader.Member!.Status.Term;
        Node mistaken = cluster.Nodes.Find(node => node != leader)!;
        mistaken.Member!.Gone(leader.Member.Id);
        long until = cluster.Clock.NowNs + (3L * leader.Options.ElectionMs * 1_000_000);
        cluster.Run(() => cluster.Clock.NowNs >= until, "three election timeouts");
        Assert.Equal((term, leader.Member.Id), (leader.Member.Status.Term, mistaken.Member.Status.Leader));
        Assert.Equal(ErrorCode.None, mistaken.PutAndWait("k", "w"));
    }

    [Fact]
    public void Write_ForwardedToALeaderThatDies_GoesToTheNext_AndIsDoneOnce()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        Assert.Equal(ErrorCode.None, follower.PutAndWait("k", "before"));
        long revision = follower.Member!.Status.Revision;
        int lost = 0;
        ulong from = follower.Member.Id;
        cluster.Network.Schedule = (sender, _, lane, _, action) =>
        {
            // Of a follower only forwarded proposals are bulk.
            if (sender == from && lane == PeerLane.Bulk)
            {
                lost++;
                return;
            }

            action();
        };
        PolledCluster.Write write = follower.Put("k", "after");
        cluster.Run(() => lost > 0, "the proposal is on its way");
        cluster.Network.Schedule = null;
        Assert.False(write.IsCompleted);
        leader.Kill();
        long killed = cluster.Clock.NowNs;
        cluster.Run(() => write.IsCompleted, "the write is done");
        Assert.Equal(ErrorCode.None, write.End());
        Assert.InRange(cluster.Clock.NowNs - killed, 0, (2L * follower.Options.ElectionMs * 1_000_000) - 1);
        Assert.Equal("after", follower.Get("k"));
        Assert.Equal(revision + 1, follower.Member.Status.Revision);
        leader.Start();
        cluster.Settle();
        cluster.AssertSame();
    }

    [Fact]
    public void Leader_CutOff_StepsDownAndItsWritesAreNotServed()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node old = cluster.WaitForLeader();
        cluster.Network.Isolate(old.Member!.Id);
        PolledCluster.Write lost = old.Put("k", "lost");
        Node next = cluster.WaitForLeader(old);
        Assert.Equal(ErrorCode.None, next.PutAndWait("k", "kept"));
        cluster.Run(() => old.Member!.Status.Leader != old.Member.Id, "the old leader steps down");
        cluster.Network.Isolate(old.Member.Id, cut: false);
        cluster.Run(() => lost.IsCompleted, "the lost write is told");
        Assert.Contains(lost.End(), new[]
        {
            ErrorCode.TimeoutDueToLeaderFail, ErrorCode.TimeoutDueToConnectionLost, ErrorCode.Timeout,
        });
        cluster.Settle();
        Assert.Equal("kept", old.Get("k"));
        cluster.AssertSame();
    }

    [Fact]
    public void Minority_Alone_RefusesInEtcdsWords()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node alone = cluster.Nodes.Find(node => node != leader)!;
        cluster.Network.Isolate(alone.Member!.Id);
        cluster.Run(() => alone.Member.Status.Leader == 0, "it knows no leader");
        PolledCluster.Write write = alone.Put("k", "v");
        RequestSlot slot = alone.Member.Rent();
        ValueTask<ErrorCode> read = alone.Member.ReadIndexAsync(slot);
        cluster.Run(() => write.IsCompleted && slot.IsCompleted, "both are refused");
        Assert.Equal(ErrorCode.ContextDeadlineExceeded, write.End());
        Assert.Equal(ErrorCode.Timeout, slot.Outcome);
        Assert.False(read.IsCompleted && !slot.IsCompleted);
        alone.Member.Return(slot);
    }

    [Fact]
    public void Follower_BehindMemory_CatchesUpFromLogFiles()
    {
        using var cluster = new PolledCluster(3, options => options with { CatchupEntries = 64, SnapshotCount = 1_000_000 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node away = cluster.Nodes.Find(node => node != leader)!;
        away.Kill();
        PutMany(cluster, leader, 600);
        away.Start();
        cluster.Settle();
        Assert.Equal(0, cluster.Network.SnapshotsSent);
        cluster.AssertSame();
    }

    [Fact]
    public void Leader_Restarted_ServesALaggardFromLogFilesWithoutASnapshot()
    {
        using var cluster = new PolledCluster(3, options => options with { SnapshotCount = 1_000_000 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node away = cluster.Nodes.Find(node => node != leader)!;
        Node other = cluster.Nodes.Find(node => node != leader && node != away)!;
        away.Kill();
        PutMany(cluster, leader, 200);
        cluster.Pass(1_000_000_000); // the tree has them too
        leader.Kill();
        other.Kill();
        leader.Start();
        other.Start();
        cluster.WaitForLeader();
        away.Start();
        cluster.Settle();
        Assert.Equal(0, cluster.Network.SnapshotsSent);
        cluster.AssertSame();
    }

    [Fact]
    public void Follower_BehindTheLog_GetsASnapshotWithoutRestart()
    {
        using var cluster = new PolledCluster(3, options => options with { CatchupEntries = 10, SnapshotCount = 50, BatchLimit = 30 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node away = cluster.Nodes.Find(node => node != leader)!;
        Assert.Equal(ErrorCode.None, leader.PutAndWait("before", "x"));
        cluster.Settle();
        cluster.Network.Isolate(away.Member!.Id);
        PutMany(cluster, leader, 400);
        cluster.Pass(500_000_000); // freezes, snapshots, compaction of the log
        ViewPin old = away.Member.Store.Pin();
        long oldRevision = old.Revision;
        MvccStore oldStore = away.Member.Store;
        cluster.Network.Isolate(away.Member.Id, cut: false);
        cluster.Settle();
        Assert.Equal(1, cluster.Network.SnapshotsSent);
        Assert.NotSame(oldStore, away.Member.Store);
        cluster.AssertSame("after the snapshot");

        // A reader that began before finishes on the old state; a new pin through the old store is one of the new.
        var output = new Base.NativeBuffer(new Base.NativePool(1 << 16));
        Assert.Equal(ErrorCode.None, away.Member.Store.Range(Requests.Range("before"), old, away.Member.Header, ref output));
        Assert.Equal("x", Requests.FirstValue(output.WrittenSpan));
        output.Free();
        Assert.Equal(oldRevision, old.Revision);
        away.Member.Store.Unpin(old);
        cluster.Pass(200_000_000);
        ViewPin fresh = oldStore.Pin();
        Assert.Equal(away.Member.Status.Revision, fresh.Revision);
        oldStore.Unpin(fresh);

        // It goes on as any other, also over a restart.
        Assert.Equal(ErrorCode.None, away.PutAndWait("after", "y"));
        PutMany(cluster, away, 120);
        away.Kill();
        away.Start();
        cluster.Settle();
        Assert.Equal("y", away.Get("after"));
        cluster.AssertSame("after a restart");
    }

    [Fact]
    public void Learner_AddedPromotedRemoved_FollowsTheRules()
    {
        using var cluster = new PolledCluster(3, options => options with { CatchupEntries = 10, SnapshotCount = 50 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        PutMany(cluster, leader, 200);
        ulong id = cluster.Add(PolledCluster.Url(3), isLearner: true);
        Assert.Equal(ErrorCode.LearnerNotReady, cluster.Await(leader.Member!.PromoteMemberAsync(id, long.MaxValue), "too early"));

        Node learner = cluster.Join(id);
        learner.Start();
        cluster.Run(() => learner.Member!.Ready.IsCompleted, "the learner has published itself");
        cluster.AssertSame("with a learner");
        Assert.True(learner.Member!.IsLearner);

        Node follower = cluster.Nodes.Find(node => node != leader && node != learner)!;
        Assert.Equal(ErrorCode.None, cluster.Await(follower.Member!.PromoteMemberAsync(id, long.MaxValue), "promote through a follower"));
        cluster.Settle();
        Assert.False(learner.Member.IsLearner);
        Assert.Equal(ErrorCode.MemberNotLearner, cluster.Await(leader.Member.PromoteMemberAsync(id, long.MaxValue), "twice"));
        Assert.Equal(ErrorCode.None, cluster.Await(leader.Member.MoveLeaderAsync(id, cluster.Clock.NowNs + 10_000_000_000), "move"));
        cluster.Run(() => cluster.Leader == learner, "the new voter leads");
        Assert.Equal(ErrorCode.None, learner.PutAndWait("by-the-new", "v"));

        // The leader is removed: another takes over first, then it stops itself and says why.
        Assert.Equal(ErrorCode.None, cluster.Await(learner.Member.RemoveMemberAsync(id, long.MaxValue), "remove"));
        cluster.RunReal(() => learner.Member.Stopped.IsCompleted, "the removed member stops");
        Assert.Equal("the member has been permanently removed from the cluster", learner.Member.StopReason);
        learner.Kill();
        cluster.Nodes.Remove(learner);
        leader = cluster.WaitForLeader();
        Assert.Equal(3, leader.Member!.ClusterView.Members.Length);
        Assert.True(leader.Member.ClusterView.IsRemoved(id));
        Assert.Equal(ErrorCode.MemberNotFound, cluster.Await(leader.Member.RemoveMemberAsync(id, long.MaxValue), "again"));
        cluster.AssertSame();
    }

    [Fact]
    public void Cluster_OfOne_GrowsToThree()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Assert.Equal(ErrorCode.None, cluster.Nodes[0].PutAndWait("first", "v"));
        for (int i = 1; i < 3; i++)
        {
            Node added = cluster.Join(cluster.Add(PolledCluster.Url(i), isLearner: false));
            added.Start();
            cluster.Run(() => added.Member!.Ready.IsCompleted, "ready");
            Assert.Equal("v", added.Get("first"));
        }

        cluster.AssertSame();
    }

    [Fact]
    public void Leader_StoppedCleanly_HandsOverFirst()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        ulong term = leader.Member!.Status.Term;
        leader.Member.BeginStop();
        long started = cluster.Clock.NowNs;
        cluster.Run(() => cluster.Leader is { } next && next != leader, "another leads");
        Assert.True(cluster.Clock.NowNs - started < 900_000_000, "no election timeout was waited for");
        Assert.Equal(term + 1, cluster.Leader!.Member!.Status.Term);
        cluster.RunReal(() => leader.Member.Stopped.IsCompleted, "stopped");
        leader.Kill();
        Assert.Equal(ErrorCode.None, cluster.Leader.PutAndWait("k", "v"));
        leader.Start();
        cluster.AssertSame();
    }

    [Fact]
    public void Leader_WhoseDiskStandsStill_HandsOverWithinAnElectionTimeout()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        leader.Stalled = "wal";
        PolledCluster.Write pending = leader.Put("k", "v");
        long started = cluster.Clock.NowNs;
        Node next = cluster.WaitForLeader(leader);
        Assert.True(cluster.Clock.NowNs - started < 1_500_000_000, "the hand-over does not wait for anybody's timeout");
        Assert.True(leader.Member!.Status.LogStallHandovers > 0);
        Assert.Equal(ErrorCode.None, next.PutAndWait("after", "w"));
        leader.Stalled = null;
        cluster.Run(() => pending.IsCompleted, "the write of the stalled leader is answered");
        _ = pending.End();
        cluster.Settle();
        Assert.Equal("v", leader.Get("k"));
        cluster.AssertSame();
    }

    [Fact]
    public void Everybody_KilledAtOnce_ComesBackWithEverythingAcknowledged()
    {
        using var cluster = new PolledCluster(3, options => options with { CatchupEntries = 20, SnapshotCount = 60 });
        cluster.StartAll();
        for (int round = 0; round < 3; round++)
        {
            PutMany(cluster, cluster.WaitForLeader(), 90);
            string key = "k" + round.ToString(CultureInfo.InvariantCulture);
            Assert.Equal(ErrorCode.None, cluster.Leader!.PutAndWait(key, "v"));
            foreach (Node node in cluster.Nodes)
            {
                node.Kill();
            }

            foreach (Node node in cluster.Nodes)
            {
                node.Start();
            }

            Assert.Equal("v", cluster.WaitForLeader().Get(key));
        }

        cluster.AssertSame();
    }

    [Fact]
    public void Duplicates_OfForwardedWrites_AreAppliedOnce()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Node follower = cluster.Nodes.Find(node => node != leader)!;
        cluster.Network.Repeat = message => message.Type == MessageType.Propose ? 2 : 0;
        long before = leader.Member!.Status.Revision;
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(ErrorCode.None, follower.PutAndWait("k", "v"));
        }

        cluster.Settle();
        Assert.Equal(before + 10, leader.Member.Status.Revision);
    }

    private static void PutMany(PolledCluster cluster, Node at, int count)
    {
        var writes = new Queue<PolledCluster.Write>();
        string filler = new('x', 200);
        for (int i = 0; i < count; i++)
        {
            writes.Enqueue(at.Put("key" + (i % 50).ToString(CultureInfo.InvariantCulture), filler));
            while (writes.Count > 16 || (i == count - 1 && writes.Count > 0))
            {
                PolledCluster.Write write = writes.Dequeue();
                cluster.Run(() => write.IsCompleted, "put");
                Assert.Equal(ErrorCode.None, write.End());
            }
        }
    }
}
