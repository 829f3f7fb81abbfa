// Corruption checks, force-new-cluster, reconfiguration checks: members that have to find out what is wrong.
using System;
using System.Globalization;
using System.IO;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;
using Node = Cairn.Core.Tests.Server.PolledCluster.Node;

namespace Cairn.Core.Tests.Server;

public sealed class ClusterCheckTests
{
    [Fact]
    public void PeriodicCheck_OneMemberPatched_RaisesCorruptForIt()
    {
        using var cluster = new PolledCluster(3, options => options with { CorruptCheckMs = 1000 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(ErrorCode.None, leader.PutAndWait("k" + i.ToString(CultureInfo.InvariantCulture), "value"));
        }

        cluster.Pass(3_000_000_000);
        Assert.False(leader.Member!.Alarms.HasCorrupt, cluster.Describe());
        Node bad = cluster.Nodes.Find(node => node != leader)!;
        ulong id = bad.Member!.Id;
        bad.Kill();
        Patch(bad.Options.DataDir);
        bad.Start();
        cluster.Settle();
        cluster.RunReal(() => cluster.Leader?.Member!.Alarms.HasCorrupt == true, "the alarm");
        Alarm alarm = Assert.Single(cluster.Leader!.Member!.Alarms.Alarms.ToArray());
        Assert.Equal(new Alarm(id, AlarmKind.Corrupt), alarm);
        Assert.Equal(ErrorCode.Corrupt, cluster.Leader.PutAndWait("k", "v"));
    }

    [Fact]
    public void InitialCheck_PatchedMember_RefusesToStart()
    {
        using var cluster = new PolledCluster(3, options => options with { InitialCorruptCheck = true });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        Assert.Equal(ErrorCode.None, leader.PutAndWait("k", "value"));
        cluster.Pass(1_000_000_000);
        Node bad = cluster.Nodes.Find(node => node != leader)!;
        bad.Kill();
        bad.Start();
        cluster.RunReal(() => bad.Member!.Ready.IsCompleted, "a good member gets ready");
        ulong id = bad.Member!.Id;
        cluster.Pass(500_000_000);
        bad.Kill();
        Patch(bad.Options.DataDir);
        bad.Start();
        cluster.RunReal(() => bad.Member!.Stopped.IsCompleted, "the bad one stops");
        Assert.Equal($"{id:x} found data inconsistency with peers", bad.Member!.StopReason);
        Assert.True(bad.Member.IsStartRefused);
        Assert.False(bad.Member.Ready.IsCompleted);
    }

    [Fact]
    public void CompactHashCheck_OneMemberPatched_RaisesCorruptForIt()
    {
        using var cluster = new PolledCluster(
            3, options => options with { CompactHashCheck = true, CompactHashCheckMs = 1000 });
        cluster.StartAll();
        Node leader = cluster.WaitForLeader();
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(ErrorCode.None, leader.PutAndWait("k", "value" + i.ToString(CultureInfo.InvariantCulture)));
        }

        cluster.Pass(1_000_000_000);
        Node bad = cluster.Nodes.Find(node => node != leader)!;
        ulong id = bad.Member!.Id;
        bad.Kill();
        Patch(bad.Options.DataDir);
        bad.Start();
        cluster.Settle();
        long revision = cluster.Leader!.Member!.Status.Revision; // the patched one included
        PolledCluster.Write compaction = cluster.Leader.Propose(RequestKind.Compaction, Requests.Compaction(revision, true));
        cluster.Run(() => compaction.IsCompleted, "compaction");
        Assert.Equal(ErrorCode.None, compaction.End());
        cluster.RunReal(() => cluster.Leader?.Member!.Alarms.HasCorrupt == true, "the alarm");
        Assert.Equal(new Alarm(id, AlarmKind.Corrupt), Assert.Single(cluster.Leader!.Member!.Alarms.Alarms.ToArray()));
    }

    [Fact]
    public void ForceNewCluster_SurvivorOfThree_ServesAloneAndGrowsAgain()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        Node survivor = cluster.Nodes[0];
        Assert.Equal(ErrorCode.None, cluster.WaitForLeader().PutAndWait("kept", "v"));
        cluster.Settle();
        ulong id = survivor.Member!.Id, clusterId = survivor.Member.ClusterId;
        foreach (Node node in cluster.Nodes)
        {
            node.Kill();
        }

        cluster.Nodes.RemoveRange(1, 2);
        survivor.Options = survivor.Options with { ForceNewCluster = true };
        survivor.Start();
        cluster.Run(() => survivor.Member!.Ready.IsCompleted, "ready");
        Assert.Equal((id, clusterId), (survivor.Member!.Id, survivor.Member.ClusterId));
        Assert.Single(survivor.Member.ClusterView.Members.ToArray());
        Assert.Equal("v", survivor.Get("kept"));
        Assert.Equal(ErrorCode.None, survivor.PutAndWait("new", "w"));
        survivor.Options = survivor.Options with { ForceNewCluster = false };
        survivor.Kill();
        survivor.Start();
        cluster.Run(() => survivor.Member!.Ready.IsCompleted, "ready");
        Assert.Equal("w", survivor.Get("new"));
        cluster.WaitForLeader();
        Node added = cluster.Join(cluster.Add(PolledCluster.Url(7), isLearner: false));
        added.Start();
        cluster.Run(() => added.Member!.Ready.IsCompleted, "the added one");
        Assert.Equal("w", added.Get("new"));
    }

    [Fact]
    public void ReconfigChecks_FollowEtcdsArithmetic()
    {
        static ClusterView View(int started, int voters, int learners = 0)
        {
            var cluster = new Cluster(1, 1, maxLearners: 9);
            for (int i = 1; i <= voters + learners; i++)
            {
                var member = new ClusterMember
                {
                    Id = (ulong)i,
                    PeerUrls = [PolledCluster.Url(i)],
                    Name = i <= started ? "m" : "",
                    IsLearner = i > voters,
                };
                _ = cluster.ApplyConfChange(MembershipChange.AddNode, (ulong)i, member.ToJson(), null);
            }

            return cluster.View;
        }

        static ReconfigChecks Checks(ClusterView view, params ulong[] connected) =>
            new(view, 1, id => Array.IndexOf(connected, id) >= 0);

        Assert.Equal(ErrorCode.None, Checks(View(1, 1)).Add(isLearner: false));
        Assert.Equal(ErrorCode.MemberNotEnoughStarted, Checks(View(1, 2), 2).Add(isLearner: false));
        Assert.Equal(ErrorCode.None, Checks(View(3, 3), 2, 3).Add(isLearner: false));
        Assert.Equal(ErrorCode.Unhealthy, Checks(View(3, 3), 2).Add(isLearner: false));
        Assert.Equal(ErrorCode.Unhealthy, Checks(View(3, 3), 2).Add(isLearner: true));
        Assert.Equal(ErrorCode.None, Checks(View(5, 5), 2, 3, 4).Add(isLearner: false));

        Assert.Equal(ErrorCode.None, Checks(View(3, 3), 2, 3).Remove(3));
        Assert.Equal(ErrorCode.None, Checks(View(3, 3), 2).Remove(3)); // it is down already
        Assert.Equal(ErrorCode.Unhealthy, Checks(View(3, 3), 3).Remove(3));
        Assert.Equal(ErrorCode.MemberNotEnoughStarted, Checks(View(1, 2), 2).Remove(1));
        Assert.Equal(ErrorCode.MemberNotEnoughStarted, Checks(View(1, 1)).Remove(1));
        Assert.Equal(ErrorCode.None, Checks(View(3, 3, 1)).Remove(4));
        Assert.Equal(ErrorCode.None, Checks(View(3, 3, 1)).Promote(4));
    }

    /// <summary>Changes one byte of the newest stored value, as a failing disk or an editor would.</summary>
    private static void Patch(string dataDir)
    {
        var fatal = new TestFatal();
        string path = Path.Combine(dataDir, "member", "snap", "db");
        using Tree tree = Tree.Open(
            PosixFileSystem.Instance, path, new TreeOptions { ReserveBytes = 64 << 20, NoSync = true }, fatal);
        byte[] key, value;
        TreePin pin = tree.Pin();
        var reader = new TreeReader(tree, pin.Root);
        Assert.True(reader.TryGetBucket("key"u8, out BucketReader bucket));
        TreeCursor cursor = bucket.Cursor();
        Assert.True(cursor.Last());
        key = cursor.Key.ToArray();
        value = cursor.Value.ToArray();
        tree.Unpin(pin);
        int at = value.AsSpan().IndexOf("value"u8);
        Assert.True(at > 0);
        value[at] = (byte)'V';
        TreeWriter writer = tree.BeginWrite();
        writer.CreateBucketIfMissing("key"u8).Put(key, value);
        writer.Commit();
    }
}
