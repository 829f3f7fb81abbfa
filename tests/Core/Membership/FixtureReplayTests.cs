// A killed etcd leaves its state in the log: replaying it must give the buckets byte for byte that etcd wrote, and
// refuse the entries that etcd refused.
using System.Collections.Generic;
using System.IO;
using System.Text;
using Cairn.Core.Auth;
using Cairn.Core.Leases;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Membership;

public sealed class FixtureReplayTests
{
    private static readonly BucketId[] Small =
    [
        BucketId.Alarm, BucketId.Auth, BucketId.AuthRoles, BucketId.AuthUsers, BucketId.Cluster, BucketId.Lease,
        BucketId.Members, BucketId.MembersRemoved,
    ];

    [Fact]
    public void Replay_SingleFixture_GivesEtcdsBuckets()
    {
        using Replay replay = ReplayAll(Fixture.Single);

        AssertBuckets(Fixture.Single, replay);
        Assert.Empty(replay.Refused);
        Assert.Equal(12UL, replay.Auth.Revision);
        Assert.False(replay.Auth.IsEnabled);
        Assert.True(replay.Lessor.TryGet(0x296a2053dd59104, out LeaseInfo lease));
        Assert.Equal(36000, lease.Ttl);
        Assert.Equal("3.5.0", replay.Cluster.View.Version);
        ClusterMember member = Assert.Single(replay.Cluster.View.Members.ToArray());
        Assert.Equal(0x17257a3c92e60296UL, member.Id);
        Assert.Equal("m1", member.Name);
        Assert.Equal(["http://127.0.0.1:43380"], member.PeerUrls);
        Assert.Equal(["http://127.0.0.1:43379"], member.ClientUrls);
    }

    [Fact]
    public void Replay_AuthFixture_RefusesWhatEtcdRefused()
    {
        using Replay replay = ReplayAll(Fixture.Auth);

        AssertBuckets(Fixture.Auth, replay);
        Assert.True(replay.Auth.IsEnabled);
        Assert.Equal(8UL, replay.Auth.Revision);
        Assert.Equal(ErrorCode.PermissionDenied, replay.Refused[58]);
    }

    [Fact]
    public void Restore_FromEtcdsBuckets_EqualsReplay()
    {
        foreach (string directory in new[] { Fixture.Single, Fixture.Auth })
        {
            using Replay replay = ReplayAll(directory);
            MemoryBuckets buckets = MemoryBuckets.From(new PlainBolt(Path.Combine(directory, "member/snap/db")));
            using var lessor = new Lessor(2, 3);
            lessor.Restore(buckets);
            var auth = new AuthStore();
            auth.Restore(buckets);
            var cluster = Cluster.ReadBuckets(buckets);

            Assert.Equal(replay.Lessor.Count, lessor.Count);
            Assert.Equal(replay.Auth.Revision, auth.Revision);
            Assert.Equal(replay.Auth.IsEnabled, auth.IsEnabled);
            Assert.Equal(replay.Auth.View.UserCount, auth.View.UserCount);
            Assert.Equal(replay.Auth.View.RoleCount, auth.View.RoleCount);
            Assert.Equal(replay.Cluster.View.Version, cluster.Version);
            Assert.Equal(
                replay.Cluster.View.Members[0].ToJson(),
                Assert.Single(cluster.Members.ToArray()).ToJson());
        }
    }

    [Fact]
    public void Snapshot_OfEtcd35_IsReadInFull()
    {
        string file = Path.Combine(Fixture.Single, "member/snap/0000000000000002-000000000000025a.snap");
        byte[] json = SnapshotData(File.ReadAllBytes(file));
        var cluster = new Cluster(0, 0);
        V2StoreContents contents = cluster.RestoreFromSnapshot(json);

        Assert.False(contents.HasUserData);
        Assert.Equal("3.5.0", cluster.View.Version);
        ClusterMember member = Assert.Single(cluster.View.Members.ToArray());
        Assert.Equal(0x17257a3c92e60296UL, member.Id);
        Assert.Equal("m1", member.Name);
        Assert.Equal(["http://127.0.0.1:43380"], member.PeerUrls);
        Assert.Equal(["http://127.0.0.1:43379"], member.ClientUrls);
    }

    private static byte[] SnapshotData(byte[] file)
    {
        // snappb.Snapshot {2 data = raftpb.Snapshot {1 data}}
        byte[] outer = Field(file, 2);
        return Field(outer, 1);

        static byte[] Field(byte[] message, int field)
        {
            var reader = new Base.ProtoReader(message);
            while (reader.NextField())
            {
                if (reader.Field == field)
                {
                    return reader.ReadBytes().ToArray();
                }

                reader.Skip();
            }

            throw new InvalidDataException();
        }
    }

    private static Replay ReplayAll(string directory)
    {
        var replay = new Replay();
        replay.Auth.EnsureRevision(replay.Buckets);
        List<PlainEntry> entries = PlainWal.ReadEntries(Path.Combine(directory, "member/wal"));
        Assert.Equal(1UL, entries[0].Index);
        foreach (PlainEntry entry in entries)
        {
            replay.Apply(entry);
        }

        return replay;
    }

    private static void AssertBuckets(string directory, Replay replay)
    {
        MemoryBuckets expected = MemoryBuckets.From(new PlainBolt(Path.Combine(directory, "member/snap/db")));
        foreach (BucketId bucket in Small)
        {
            string name = Encoding.ASCII.GetString(BucketNames.Get(bucket));
            Assert.Equal(name + "\n" + expected.Dump(bucket), name + "\n" + replay.Buckets.Dump(bucket));
        }
    }
}
