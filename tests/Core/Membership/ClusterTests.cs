// Ids, JSON, validation of membership changes and the v2 store, against facts of etcd and against themselves.
using System;
using System.Buffers;
using System.IO;
using System.Text;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using Cairn.Core.Tests.Support;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Membership;

public sealed class ClusterTests
{
    [Fact]
    public void Ids_OfKnownClusters_AreEtcds()
    {
        ulong member = MemberIds.OfBootstrapMember(["http://127.0.0.1:42380"], "ex-token");
        Assert.Equal(5500742928634797826UL, member);
        Assert.Equal("4c56908ca604df02", MemberIds.ToText(member));
        Assert.Equal(11507229961509184217UL, MemberIds.OfCluster([member]));
        Assert.Equal("b35dfa36dac878f", MemberIds.ToText(807797601195558799));

        ulong[] three =
        [
            MemberIds.OfBootstrapMember(["http://127.0.0.1:43482"], "held-3"),
            MemberIds.OfBootstrapMember(["http://127.0.0.1:43480"], "held-3"),
            MemberIds.OfBootstrapMember(["http://127.0.0.1:43481"], "held-3"),
        ];
        Assert.Equal(7961770119913255871UL, MemberIds.OfCluster(three));
    }

    [Fact]
    public void MemberJson_OfARealLog_IsWrittenByteForByte()
    {
        const string Full =
            """{"id":5500742928634797826,"peerURLs":["http://127.0.0.1:42380"],"name":"ex1","clientURLs":["http://127.0.0.1:42379"]}""";
        Assert.Equal(Full, Text(ClusterMember.ParseJson(Encoding.UTF8.GetBytes(Full)).ToJson()));
        var odd = new ClusterMember
        {
            Id = ulong.MaxValue,
            Name = "a<b>&\"\\\u2028\t\u0001é\u007f",
            IsLearner = true,
        };
        Assert.Equal(
            "{\"id\":18446744073709551615,\"peerURLs\":null,\"isLearner\":true,"
            + "\"name\":\"a\\u003cb\\u003e\\u0026\\\"\\\\\\u2028\\t\\u0001é\u007f\"}",
            Text(odd.ToJson()));
    }

    [Fact]
    public void MemberJson_AnyMember_ReadsBackAsItWas()
    {
        Gen<string[]> urls = Gen.String.Where(static text => IsWellFormed(text)).Array[0, 3];
        Gen.Select(Gen.ULong, Gen.String.Where(static text => IsWellFormed(text)), urls, urls, Gen.Bool).Sample((id, name, peers, clients, learner) =>
        {
            var member = new ClusterMember { Id = id, Name = name, PeerUrls = peers, ClientUrls = clients, IsLearner = learner };
            ClusterMember read = ClusterMember.ParseJson(member.ToJson(), out bool isPromote);
            Assert.False(isPromote);
            Assert.Equal((id, name, learner), (read.Id, read.Name, read.IsLearner));
            Assert.Equal(peers, read.PeerUrls);
            Assert.Equal(clients, read.ClientUrls);
        });
    }

    [Fact]
    public void ConfStateJson_IsEtcds()
    {
        var output = new ArrayBufferWriter<byte>();
        ConfStateJson.Write(output, [5500742928634797826]);
        Assert.Equal("""{"voters":[5500742928634797826],"auto_leave":false}""", Text(output.WrittenSpan));
        output.ResetWrittenCount();
        ConfStateJson.Write(output, [1, ulong.MaxValue], [3], [4], [5], autoLeave: true);
        Assert.Equal(
            """{"voters":[1,18446744073709551615],"learners":[3],"voters_outgoing":[4],"learners_next":[5],"auto_leave":true}""",
            Text(output.WrittenSpan));
    }

    [Fact]
    public void Changes_ThatAreNotAllowed_AreRefusedByName()
    {
        var buckets = new MemoryBuckets();
        var cluster = new Cluster(1, 9);
        Assert.Equal(ErrorCode.None, Add(cluster, buckets, 1, "http://a:1"));
        Assert.Equal(ErrorCode.MemberExists, Add(cluster, buckets, 1, "http://b:1"));
        Assert.Equal(ErrorCode.PeerUrlExists, Add(cluster, buckets, 2, "http://a:1"));
        Assert.Equal(ErrorCode.None, Add(cluster, buckets, 2, "http://b:1", learner: true));
        Assert.Equal(ErrorCode.TooManyLearners, Add(cluster, buckets, 3, "http://c:1", learner: true));
        Assert.Equal(ErrorCode.MemberNotLearner, Promote(cluster, buckets, 1));
        Assert.Equal(ErrorCode.MemberNotFound, Promote(cluster, buckets, 7));
        Assert.Equal(ErrorCode.None, Promote(cluster, buckets, 2));
        Assert.Equal(ErrorCode.PeerUrlExists, Update(cluster, buckets, 2, "http://a:1"));
        Assert.Equal(ErrorCode.None, Update(cluster, buckets, 2, "http://b:2"));
        Assert.Equal(ErrorCode.MemberNotFound, Update(cluster, buckets, 8, "http://z:1"));
        Assert.Equal(ErrorCode.None, cluster.ApplyConfChange(MembershipChange.RemoveNode, 2, default, buckets));
        Assert.Equal(ErrorCode.MemberNotFound, cluster.ApplyConfChange(MembershipChange.RemoveNode, 2, default, buckets));
        Assert.Equal(ErrorCode.MemberNotFound, Add(cluster, buckets, 2, "http://q:1"));
        Assert.Equal("31 = 7b226964223a312c22706565725552" + "4c73223a5b22687474703a2f2f613a31225d7d\n", buckets.Dump(BucketId.Members));
        Assert.Equal("32 = 72656d6f766564\n", buckets.Dump(BucketId.MembersRemoved));
        Assert.True(cluster.View.IsRemoved(2));
    }

    [Fact]
    public void Update_OfALearner_KeepsItALearnerWithItsName()
    {
        var buckets = new MemoryBuckets();
        var cluster = new Cluster(1, 9);
        Add(cluster, buckets, 5, "http://a:1", learner: true);
        Publish(cluster, buckets, 5, "five");
        Update(cluster, buckets, 5, "http://b:1");
        ClusterMember member = Assert.Single(cluster.View.Members.ToArray());
        Assert.True(member.IsLearner);
        Assert.Equal("five", member.Name);
        Assert.Equal(["http://b:1"], member.PeerUrls);
    }

    [Fact]
    public void Entries_ThatTheTreeHolds_ChangeMemoryOnly()
    {
        var cluster = new Cluster(1, 9);
        Assert.Equal(ErrorCode.None, Add(cluster, null, 1, "http://a:1"));
        Publish(cluster, null, 1, "one");
        cluster.ApplyClusterVersion(Requests.Message((1, "3.5.0"u8.ToArray())), null);
        cluster.ApplyDowngrade(Requests.Message((1, 1UL), (2, "3.4.0"u8.ToArray())), null);
        Assert.Equal("one", cluster.View.Members[0].Name);
        Assert.Equal("3.5.0", cluster.View.Version);
        Assert.Equal(new DowngradeInfo(true, "3.4.0"), cluster.View.Downgrade);
    }

    [Fact]
    public void Downgrade_InItsBucket_IsEtcdsJson()
    {
        var buckets = new MemoryBuckets();
        var cluster = new Cluster(1, 9);
        cluster.ApplyDowngrade(Requests.Message((1, 1UL), (2, "3.5.0"u8.ToArray())), buckets);
        cluster.ApplyClusterVersion(Requests.Message((1, "3.6.0"u8.ToArray())), buckets);
        Assert.Equal("""{"target-version":"3.5.0","enabled":true}""", Text(buckets[BucketId.Cluster]["646f776e6772616465"]));
        var again = new Cluster(1, 9);
        again.RestoreFromBuckets(buckets, takeMembers: true);
        Assert.Equal(new DowngradeInfo(true, "3.5.0"), again.View.Downgrade);
        Assert.Equal("3.6.0", again.View.Version);
        cluster.ApplyDowngrade([], buckets);
        Assert.Equal("""{"target-version":"","enabled":false}""", Text(buckets[BucketId.Cluster]["646f776e6772616465"]));
    }

    [Fact]
    public void Attributes_OfUnknownAndRemovedMembers_AreToldApart()
    {
        var buckets = new MemoryBuckets();
        var cluster = new Cluster(1, 9);
        Add(cluster, buckets, 1, "http://a:1");
        Add(cluster, buckets, 2, "http://b:1");
        cluster.ApplyConfChange(MembershipChange.RemoveNode, 2, default, buckets);
        Publish(cluster, buckets, 2, "gone");
        Assert.Throws<InvalidDataException>(() => Publish(cluster, buckets, 3, "never"));
        Assert.Throws<InvalidDataException>(() => cluster.ApplyClusterVersion(Requests.Message((1, "3.5"u8.ToArray())), buckets));
    }

    [Fact]
    public void V2Requests_OtherThanTheThree_AreRefused()
    {
        var cluster = new Cluster(1, 9);
        Add(cluster, null, 0x4c56908ca604df02, "http://a:1");
        ApplyV2(cluster, "PUT", "/0/members/4c56908ca604df02/attributes", """{"name":"ex1","clientURLs":["http://c:1"]}""");
        ApplyV2(cluster, "PUT", "/0/version", "3.5.0");
        ApplyV2(cluster, "SYNC", "", "");
        Assert.Equal("ex1", cluster.View.Members[0].Name);
        Assert.Equal("3.5.0", cluster.View.Version);
        Assert.Throws<InvalidDataException>(() => ApplyV2(cluster, "PUT", "/1/user", "data"));
        Assert.Throws<InvalidDataException>(() => ApplyV2(cluster, "DELETE", "/0/version", ""));
    }

    [Fact]
    public void V2Store_Written_ReadsBackAndHoldsEverything35Needs()
    {
        var cluster = new Cluster(1, 9);
        Add(cluster, null, 1, "http://a:1");
        Add(cluster, null, 2, "http://b<:1", learner: true);
        Add(cluster, null, 3, "http://c:1");
        Publish(cluster, null, 1, "one");
        cluster.ApplyConfChange(MembershipChange.RemoveNode, 3, default, null);
        cluster.ApplyClusterVersion(Requests.Message((1, "3.5.0"u8.ToArray())), null);
        var output = new ArrayBufferWriter<byte>();
        cluster.WriteV2Store(output);

        var again = new Cluster(1, 9);
        V2StoreContents contents = again.RestoreFromSnapshot(output.WrittenSpan);
        Assert.False(contents.HasUserData);
        Assert.Equal("3.5.0", again.View.Version);
        Assert.Equal([3UL], again.View.Removed.ToArray());
        Assert.Equal(2, again.View.Members.Length);
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(cluster.View.Members[i].ToJson(), again.View.Members[i].ToJson());
        }

        Assert.Contains(
            "\"/0/members/1/raftAttributes\",\"Value\":\"{\\\"peerURLs\\\":[\\\"http://a:1\\\"]}\",\"Children\":null",
            Text(output.WrittenSpan),
            StringComparison.Ordinal);
    }

    [Fact]
    public void V2Store_CutAnywhere_IsRefusedWithItsOwnError()
    {
        var cluster = new Cluster(1, 9);
        Add(cluster, null, 1, "http://a:1");
        Publish(cluster, null, 1, "one");
        var output = new ArrayBufferWriter<byte>();
        cluster.WriteV2Store(output);
        byte[] json = output.WrittenSpan.ToArray();
        for (int length = 0; length < json.Length; length++)
        {
            Assert.Throws<InvalidDataException>(() => V2Store.Read(json.AsSpan(0, length)));
        }

        for (int i = 0; i < json.Length; i++)
        {
            byte[] damaged = (byte[])json.Clone();
            damaged[i] ^= 0x15;
            OnlyItsOwnError(() => V2Store.Read(damaged));
        }
    }

    [Fact]
    public void V2Store_DeepOrHuge_IsBounded()
    {
        string deep = string.Concat(System.Linq.Enumerable.Repeat("{\"Root\":", 100_000));
        Assert.Throws<InvalidDataException>(() => V2Store.Read(Encoding.UTF8.GetBytes(deep)));
        const string UserData = """{"Root":{"Path":"/","Children":{"1":{"Children":{"k":{"Value":"v","Children":null}}},"0":{"Children":{"version":{"Value":"3.5.0"}}}}}}""";
        V2StoreContents contents = V2Store.Read(Encoding.UTF8.GetBytes(UserData));
        Assert.True(contents.HasUserData);
        Assert.Equal("3.5.0", contents.Version);
    }

    [Fact]
    public void Messages_AnyBytes_AreReadOrRefusedWithTheirOwnError() =>
        Gen.Byte.Array[0, 60].Sample(bytes =>
        {
            var cluster = new Cluster(1, 9);
            OnlyItsOwnError(() => cluster.ApplyClusterVersion(bytes, null));
            OnlyItsOwnError(() => cluster.ApplyMemberAttributes(bytes, null));
            OnlyItsOwnError(() => cluster.ApplyDowngrade(bytes, null));
            OnlyItsOwnError(() => cluster.ApplyConfChange(MembershipChange.AddNode, 1, bytes, null));
            new AlarmStore().Apply(bytes, new MemoryBuckets(), new ArrayBufferWriter<byte>());
            _ = RequestChecks.QuotaCost(RequestKind.Txn, bytes);
        });

    private static void OnlyItsOwnError(Action action)
    {
        try
        {
            action();
        }
        catch (InvalidDataException)
        {
        }
    }

    private static ErrorCode Add(Cluster cluster, IBucketWriter? buckets, ulong id, string url, bool learner = false) =>
        cluster.ApplyConfChange(
            learner ? MembershipChange.AddLearnerNode : MembershipChange.AddNode,
            id,
            new ClusterMember { Id = id, PeerUrls = [url], IsLearner = learner }.ToJson(),
            buckets);

    private static ErrorCode Promote(Cluster cluster, IBucketWriter buckets, ulong id) => cluster.ApplyConfChange(
        MembershipChange.AddNode, id, Encoding.UTF8.GetBytes($$"""{"id":{{id}},"peerURLs":null,"isPromote":true}"""), buckets);

    private static ErrorCode Update(Cluster cluster, IBucketWriter buckets, ulong id, string url) => cluster.ApplyConfChange(
        MembershipChange.UpdateNode, id, Encoding.UTF8.GetBytes($$"""{"id":{{id}},"peerURLs":["{{url}}"]}"""), buckets);

    private static void Publish(Cluster cluster, IBucketWriter? buckets, ulong id, string name) =>
        cluster.ApplyMemberAttributes(
            Requests.Message((1, id), (2, Requests.Message((1, Encoding.UTF8.GetBytes(name))))), buckets);

    private static void ApplyV2(Cluster cluster, string method, string path, string value)
    {
        var request = new V2Request
        {
            Method = Encoding.UTF8.GetBytes(method),
            Path = Encoding.UTF8.GetBytes(path),
            Val = Encoding.UTF8.GetBytes(value),
        };
        cluster.ApplyV2(request, null);
    }

    private static bool IsWellFormed(string text)
    {
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value == 0xFFFD)
            {
                return false;
            }
        }

        return true;
    }

    private static string Text(ReadOnlySpan<byte> utf8) => Encoding.UTF8.GetString(utf8);
}
