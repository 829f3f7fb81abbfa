// RaftSuccessionTests: changes of configuration after which nobody could lead, if nothing were done about it (decision 0061).
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Xunit;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftSuccessionTests
{
    [Theory]
    [InlineData(ConfChangeType.RemoveNode)]
    [InlineData(ConfChangeType.AddLearnerNode)]
    public void Leader_LosesItsVoteBeforeOthersKnow_LeadsOnUntilAnotherCan(ConfChangeType type)
    {
        using RaftCluster cluster = Led(2);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node other = cluster[3 - leader.Id];
        CommitUnheard(cluster, leader, other, type);
        Assert.False(leader.Core.Configuration.IsVoter(leader.Id));
        Assert.True(other.Core.Configuration.IsVoter(leader.Id));
        Assert.Equal(RaftRole.Leader, leader.Core.Role);
        ulong last = leader.Core.LastIndex;
        leader.Propose([1, 2, 3, 4]);
        Assert.Equal(last, leader.Core.LastIndex); // nothing that a successor would have to wait for

        cluster.Settle(60);
        Assert.Equal(other, cluster.Leader);
        Assert.NotEqual(RaftRole.Leader, leader.Core.Role);
        Assert.False(other.Core.Configuration.IsVoter(leader.Id));
        ulong commit = other.Core.Commit;
        cluster.Propose(other);
        cluster.Settle(5);
        Assert.True(other.Core.Commit > commit, "the new leader commits");
    }

    [Theory]
    [InlineData(ConfChangeType.RemoveNode)]
    [InlineData(ConfChangeType.AddLearnerNode)]
    public void Leader_LosesItsVoteAndItsMemory_StandsInForTheOneItHoldsUp(ConfChangeType type)
    {
        using RaftCluster cluster = Led(2);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node other = cluster[3 - leader.Id];
        CommitUnheard(cluster, leader, other, type);
        leader.Core.FlushCommit();
        _ = leader.Take();
        _ = leader.Sync(int.MaxValue);
        cluster.Network.Clear();
        leader.Crash(0);
        _ = leader.Apply(int.MaxValue); // the log again, and with it the change
        Assert.False(leader.Core.Configuration.IsVoter(leader.Id));
        Assert.True(leader.Core.LastIndex > other.Core.LastIndex, "the other cannot win");

        cluster.Settle(200);
        Assert.Equal(other, cluster.Leader);
        Assert.False(other.Core.Configuration.IsVoter(leader.Id));
    }

    [Fact]
    public void Learner_PromotedWithoutKnowing_StandsInWithTheLongestLog()
    {
        using var cluster = new RaftCluster(1, 1, 5);
        cluster.Settle(40);
        RaftCluster.Node leader = cluster[1], learner = cluster[2];
        var promote = new ConfChangeV2 { Steps = [(ConfChangeType.AddNode, 2)] };
        leader.Propose(promote.ToBytes(), EntryType.ConfChangeV2);
        _ = leader.Flow();
        Assert.True(leader.Core.Configuration.IsVoter(2));
        leader.Core.FlushCommit();
        _ = leader.Take();
        _ = leader.Sync(int.MaxValue);

        // Entries that the learner makes durable and the leader's disk never gets.
        cluster.Propose(leader);
        cluster.Propose(leader);
        _ = leader.Take();
        while (cluster.Network.Count > 0)
        {
            RaftCluster.Packet packet = cluster.Network[0];
            if (packet.Message.To == 1)
            {
                cluster.Network.RemoveAt(0); // it never hears that they arrived
                continue;
            }

            RaftMessage message = packet.Message;
            message.Commit = 1; // and the learner not that it votes now
            cluster.Network[0] = packet with { Message = message };
            cluster.Deliver(0, keep: false);
            _ = learner.Take();
            _ = learner.Sync(int.MaxValue);
            _ = leader.Take();
        }

        leader.Crash(0);
        _ = leader.Apply(int.MaxValue);
        Assert.True(leader.Core.Configuration.IsVoter(2) && !learner.Core.Configuration.IsVoter(2), "they differ about it");
        Assert.True(learner.Core.LastIndex > leader.Core.LastIndex, "and the learner has more");

        cluster.Settle(200);
        Assert.NotNull(cluster.Leader);
        Assert.True(learner.Core.Configuration.IsVoter(2));
        Assert.Equal(leader.Core.LastIndex, learner.Core.LastIndex);
    }

    [Fact]
    public void Learner_InAHealthyCluster_NeverStands()
    {
        using var cluster = new RaftCluster(3, 1, 7);
        cluster.Settle(40);
        RaftCluster.Node learner = cluster[4];
        ulong term = cluster.Leader!.Core.Term;
        for (int i = 0; i < 5; i++)
        {
            learner.Core.ForgetLeader();
            cluster.Settle(30);
        }

        Assert.Equal((term, RaftRole.Follower), (cluster.Leader!.Core.Term, learner.Core.Role));

        // With nobody to hear it asks nobody either: only a vote that it must refuse makes it stand.
        learner.Tick(100);
        _ = learner.Take();
        Assert.DoesNotContain(cluster.Network, p => p.Message.From == 4 && p.Message.Type is MessageType.Vote or MessageType.PreVote);
        cluster.Network.Clear();
    }

    private static RaftCluster Led(int voters)
    {
        var cluster = new RaftCluster(voters, 0, 11);
        cluster.Settle(60);
        Assert.NotNull(cluster.Leader);
        return cluster;
    }

    /// <summary>The leader commits and applies the loss of its vote; the other has the entry, but neither what follows nor the commit.</summary>
    private static void CommitUnheard(RaftCluster cluster, RaftCluster.Node leader, RaftCluster.Node other, ConfChangeType type)
    {
        var change = new ConfChangeV2 { Steps = [(type, leader.Id)] };
        leader.Propose(change.ToBytes(), EntryType.ConfChangeV2);
        _ = leader.Take();
        _ = leader.Sync(int.MaxValue);
        while (cluster.Network.Count > 0)
        {
            cluster.Deliver(0, keep: false);
        }

        cluster.Propose(leader); // two entries nobody else gets
        cluster.Propose(leader);
        _ = leader.Take();
        _ = leader.Sync(int.MaxValue);
        cluster.Network.Clear();
        _ = other.Take();
        _ = other.Sync(int.MaxValue);
        while (cluster.Network.Count > 0)
        {
            cluster.Deliver(0, keep: false); // its acknowledgement of the change
        }

        _ = leader.Apply(int.MaxValue);
        _ = leader.Take();
        cluster.Network.Clear();
    }
}
