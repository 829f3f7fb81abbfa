// BootstrapTests: how a member begins: every row of the table, and the checks with the words of a real etcd 3.5.30, asked with
// the same options.
using System;
using System.Collections.Generic;
using System.Net;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Bootstrap;
using Xunit;

namespace Cairn.Net.Tests.Bootstrap;

public sealed class BootstrapTests
{
    private const InitialClusterState New = InitialClusterState.New;
    private const InitialClusterState Existing = InitialClusterState.Existing;

    // behaviour: WAL, state, initial-cluster, DNS, token, forced -> what.
    [Theory]
    [InlineData(false, New, true, false, false, false, "NewStatic")]
    [InlineData(false, New, true, false, false, true, "NewStatic")]
    [InlineData(false, New, false, true, false, false, "NewFromDns")]
    [InlineData(false, New, false, false, true, false, "NewFromToken")]
    [InlineData(false, New, false, false, false, false, "Refuse")]
    [InlineData(false, Existing, true, false, false, false, "Join")]
    [InlineData(false, Existing, false, true, false, false, "Join")]
    [InlineData(false, Existing, true, false, true, false, "Refuse")]
    [InlineData(true, New, true, false, false, false, "Restart")]
    [InlineData(true, Existing, true, false, false, false, "Restart")]
    [InlineData(true, New, false, true, false, false, "Restart")]
    [InlineData(true, Existing, false, false, true, false, "Restart")]
    [InlineData(true, New, true, false, false, true, "RestartAlone")]
    [InlineData(true, Existing, false, false, true, true, "RestartAlone")]
    public void Table_EveryRow_DecidesAsEtcd(
        bool wal, InitialClusterState state, bool cluster, bool dns, bool token, bool forced, string expected)
    {
        BootstrapDecision decision = BootstrapDecision.Of(new BootstrapFacts(wal, state, cluster, dns, token, forced));
        Assert.Equal(expected, decision.Kind.ToString());
        Assert.Equal(expected == "Refuse", decision.Refusal.Length != 0);
        Assert.Equal(wal && (dns || token), decision.Warning.Length != 0);
    }

    [Fact]
    public void Refusals_AreInEtcdsWords()
    {
        Assert.Equal(
            "discovery URL should not be set when joining existing initial cluster",
            BootstrapDecision.Of(new BootstrapFacts(false, Existing, true, false, true, false)).Refusal);
        Assert.Equal(
            "initial cluster unset and no discovery endpoints found",
            BootstrapDecision.Of(new BootstrapFacts(false, New, false, false, false, false)).Refusal);
    }

    // Each text is what etcd 3.5.30 logged as "discovery failed" for these options.
    [Theory]
    [InlineData("m1=http://127.0.0.1:42380", null)]
    [InlineData("m2=http://127.0.0.1:42380", "couldn't find local name \"m1\" in the initial cluster configuration")]
    [InlineData("m1=http://127.0.0.1:42380,m2=http://127.0.0.1:42380", "initial cluster m1=http://127.0.0.1:42380,m2=http://127.0.0.1:42380 has duplicate url")]
    [InlineData("m1=http://127.0.0.1:42381", "--initial-cluster has m1=http://127.0.0.1:42381 but missing from --initial-advertise-peer-urls=http://127.0.0.1:42380 (resolved urls: \"http://127.0.0.1:42380\" != \"http://127.0.0.1:42381\")")]
    [InlineData("m1=http://localhost:42380", "--initial-cluster has m1=http://localhost:42380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:42380 (resolved urls: \"http://127.0.0.1:42380\" != \"http://localhost:42380\")")]
    [InlineData("m1=http://one.example:42380", null)]
    [InlineData("m1=http://two.example:42380", "--initial-cluster has m1=http://two.example:42380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:42380 (resolved urls: \"http://127.0.0.1:42380\" != \"http://10.0.0.2:42380\")")]
    public async Task NewCluster_IsChecked(string cluster, string? expected)
        => Assert.Equal(expected, await ClusterChecks.CheckNewAsync(Options("m1", cluster), ResolveAsync, CancellationToken.None));

    [Fact]
    public async Task Urls_WithNamesThatComeUpLate_AreWaitedFor_UntilTheDeadline()
    {
        int asked = 0;
        NameResolver late = (host, cancelled) => new ValueTask<IPAddress?>(++asked < 2 ? null : IPAddress.Loopback);
        Assert.Null(await PeerUrls.CompareAsync(["http://127.0.0.1:1"], ["http://late.example:1"], late, CancellationToken.None));
        using var passed = new CancellationTokenSource();
        await passed.CancelAsync();
        NameResolver never = (host, cancelled) => new ValueTask<IPAddress?>((IPAddress?)null);
        Assert.Equal("context deadline exceeded", await PeerUrls.CompareAsync(["http://127.0.0.1:1"], ["http://no.example:1"], never, passed.Token));
    }

    [Fact]
    public async Task Join_TakesIdsOfTheRunningCluster_ByUrlsNotByNames()
    {
        var remote = new RemoteCluster(77, [
            new ClusterMember { Id = 5, Name = "x", PeerUrls = ["http://127.0.0.1:1"], ClientUrls = ["http://c"] },
            new ClusterMember { Id = 9, PeerUrls = ["http://10.0.0.1:2", "http://127.0.0.1:2"] },
        ]);
        MemberOptions options = Options("b", "b=http://127.0.0.1:2,b=http://one.example:3,a=http://127.0.0.1:1");
        (JoinedCluster? joined, string error) = await ClusterChecks.MatchAsync(options, remote, ResolveAsync, CancellationToken.None);
        Assert.Null(joined);
        Assert.Contains("PeerURLs: no match found for existing member (9, [http://10.0.0.1:2 http://127.0.0.1:2])", error, StringComparison.Ordinal);

        options = Options("b", "b=http://127.0.0.1:2,b=http://ten.example:2,a=http://127.0.0.1:1");
        (joined, error) = await ClusterChecks.MatchAsync(options, remote, ResolveAsync, CancellationToken.None);
        Assert.Equal("", error);
        Assert.Equal((77UL, 9UL), (joined!.ClusterId, joined.LocalId));
        Assert.Equal([5UL, 9UL], new[] { joined.Members[0].Id, joined.Members[1].Id });
    }

    // The text is etcd 3.5.30's for this very situation.
    [Theory]
    [InlineData("m1=http://127.0.0.1:42380,m2=http://127.0.0.1:52380,m3=http://127.0.0.1:1", "member count is unequal")]
    [InlineData("m1=http://127.0.0.1:42380,m2=http://127.0.0.1:52380", "PeerURLs: no match found for existing member (7b623f4cacd57637, [http://127.0.0.1:52390]), last resolver error (resolved urls: \"http://127.0.0.1:52390\" != \"http://127.0.0.1:52380\")")]
    public async Task Join_WithAnotherMemberList_IsRefusedInEtcdsWords(string cluster, string reason)
    {
        var remote = new RemoteCluster(0xdc50b8daae93b3e0, [
            new ClusterMember { Id = 0x7b623f4cacd57637, PeerUrls = ["http://127.0.0.1:52390"] },
            new ClusterMember { Id = 0x667880157b8812c8, Name = "m1", PeerUrls = ["http://127.0.0.1:42380"], ClientUrls = ["http://127.0.0.1:42379"] },
        ]);
        (_, string error) = await ClusterChecks.MatchAsync(Options("m2", cluster), remote, ResolveAsync, CancellationToken.None);
        Assert.Equal(
            "error validating peerURLs {ClusterID:dc50b8daae93b3e0 Members:[&{ID:7b623f4cacd57637 RaftAttributes:{PeerURLs:[http://127.0.0.1:52390] "
            + "IsLearner:false} Attributes:{Name: ClientURLs:[]}} &{ID:667880157b8812c8 RaftAttributes:{PeerURLs:[http://127.0.0.1:42380] "
            + "IsLearner:false} Attributes:{Name:m1 ClientURLs:[http://127.0.0.1:42379]}}] RemovedMemberIDs:[]}: " + reason,
            error);
    }

    [Theory]
    [InlineData("3.5.0", false, true)]
    [InlineData("3.6.0", false, true)]
    [InlineData("3.0.0", false, true)]
    [InlineData("3.7.0", false, false)]
    [InlineData("4.0.0", false, false)]
    [InlineData("not_decided", false, false)]
    [InlineData("", false, false)]
    [InlineData("3.7.0", true, true)]
    [InlineData("3.6.0", true, false)]
    [InlineData("3.6.0;3.7.0", false, false)]
    [InlineData("not_decided;3.6.0", false, true)]
    public void Versions_OfTheOthers_DecideWhetherToJoin(string clusters, bool downgrading, bool expected)
    {
        var answers = new List<RemoteVersions>();
        foreach (string cluster in clusters.Split(';'))
        {
            answers.Add(new RemoteVersions("3.6.14", cluster));
        }

        Assert.Equal(expected, ClusterChecks.AreCompatible("3.6.14", answers, downgrading));
    }

    [Fact]
    public void LostDirectory_OfAMemberThatHasBeenHere_MayNotBeginAnew()
    {
        var running = new RemoteCluster(1, [new ClusterMember { Id = 0x866e9665bbc7041f, ClientUrls = ["http://c"] }, new ClusterMember { Id = 6 }]);
        Assert.Equal("member 866e9665bbc7041f has already been bootstrapped", ClusterChecks.CheckNotBootstrapped(0x866e9665bbc7041f, running));
        Assert.Null(ClusterChecks.CheckNotBootstrapped(6, running)); // never published: it has not been here
        Assert.Null(ClusterChecks.CheckNotBootstrapped(0x866e9665bbc7041f, null));
    }

    [Theory]
    [InlineData("[{\"id\":7383792418829112008,\"peerURLs\":[\"http://127.0.0.1:42380\"],\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:42379\"]}]\n", 1)]
    [InlineData("[]", 0)]
    [InlineData("[{\"id\":1},{\"id\":18446744073709551615,\"isLearner\":true,\"peerURLs\":null}]", 2)]
    [InlineData("{}", -1)]
    [InlineData("[{\"id\":-1}]", -1)]
    [InlineData("[{\"id\":1}", -1)]
    [InlineData("", -1)]
    public void Members_AsPeersGiveThem_AreRead(string json, int expected)
    {
        bool read = ClusterProbe.TryParseMembers(Encoding.UTF8.GetBytes(json), out List<ClusterMember> members);
        Assert.Equal(expected, read ? members.Count : -1);
    }

    [Fact]
    public async Task SrvRecords_GiveTheOwnName_AndNumbersToTheOthers()
    {
        var options = Options("me", "x=http://127.0.0.1:1") with { InitialAdvertisePeerUrls = ["http://10.0.0.1:2380"] };
        SrvTarget[] targets =
        [
            new("http", "two.example", 2380), new("http", "ten.example", 2380), new("http", "one.example", 2380),
        ];
        List<InitialMember> members = await SrvDiscovery.NameAsync(options, targets, ResolveAsync, CancellationToken.None);
        Assert.Equal("0=http://two.example:2380 me=http://ten.example:2380 1=http://one.example:2380", Show(members));
        await Assert.ThrowsAsync<MemberStartException>(() => SrvDiscovery.NameAsync(options, targets[..1], ResolveAsync, CancellationToken.None));
        SrvTarget[] secure = [new("https", "ten.example", 2380)];
        await Assert.ThrowsAsync<MemberStartException>(() => SrvDiscovery.NameAsync(options, secure, ResolveAsync, CancellationToken.None));
    }

    [Fact]
    public async Task Registry_OfThree_GivesAllTheSameCluster_AndRefusesTheFourth()
    {
        var registry = new FakeRegistry();
        registry.Put("/_etcd/registry/t/_config/size", "3");
        Task<List<InitialMember>>[] joining = new Task<List<InitialMember>>[3];
        for (int i = 0; i < 3; i++)
        {
            joining[i] = Discovery(registry).JoinAsync((ulong)i + 1, $"m{i}=http://h:{i + 1},m{i}=http://g:{i + 1}", CancellationToken.None);
        }

        List<InitialMember>[] clusters = await Task.WhenAll(joining).WaitAsync(TimeSpan.FromSeconds(30));
        foreach (List<InitialMember> cluster in clusters)
        {
            Assert.Equal(Show(clusters[0]), Show(cluster));
            Assert.Equal(3, cluster.Count);
        }

        MemberStartException full = await Assert.ThrowsAsync<MemberStartException>(
            () => Discovery(registry).JoinAsync(4, "m4=http://h:4", CancellationToken.None));
        Assert.Equal("discovery: cluster is full", full.Message);

        // One of the three that died before it made its files comes back under its id.
        Assert.Equal(Show(clusters[0]), Show(await Discovery(registry).JoinAsync(2, "m1=http://h:2,m1=http://g:2", CancellationToken.None)));
    }

    [Theory]
    [InlineData(null, "discovery: size key not found")]
    [InlineData("0", "discovery: size key is bad")]
    [InlineData("-1", "discovery: size key is bad")]
    [InlineData("three", "discovery: size key is bad")]
    public async Task Registry_WithoutASize_IsRefused(string? size, string expected)
    {
        var registry = new FakeRegistry();
        if (size is not null)
        {
            registry.Put("/_etcd/registry/t/_config/size", size);
        }

        MemberStartException refused = await Assert.ThrowsAsync<MemberStartException>(
            () => Discovery(registry).JoinAsync(1, "m=http://h:1", CancellationToken.None));
        Assert.Equal(expected, refused.Message);
    }

    [Fact]
    public async Task Registry_ThatIsDown_IsTriedAgainAfterLongerAndLongerWaits()
    {
        var registry = new FakeRegistry { Failures = 4 };
        registry.Put("/_etcd/registry/t/_config/size", "1");
        var waits = new List<double>();
        var discovery = new TokenDiscovery(registry, "t", _ => { }, (time, _) =>
        {
            waits.Add(time.TotalSeconds);
            return Task.CompletedTask;
        });
        Assert.Equal("m=http://h:1", Show(await discovery.JoinAsync(1, "m=http://h:1", CancellationToken.None)));
        Assert.Equal([1, 2, 4, 8], waits);
    }

    [Theory]
    [InlineData("m=http://h:1,n=http://h:2")]
    [InlineData("http://h:1")]
    [InlineData("m=nonsense")]
    [InlineData("")]
    public void Registry_WithNonsense_IsRefused(string value)
        => Assert.Throws<MemberStartException>(() => TokenDiscovery.Parse([new RegistryKey([], Encoding.UTF8.GetBytes(value), 1)]));

    private static TokenDiscovery Discovery(FakeRegistry registry)
        => new(registry, "t", _ => { }, (_, cancelled) => Task.Delay(1, cancelled));

    private static string Show(List<InitialMember> members)
        => string.Join(' ', members.ConvertAll(member => member.Name + "=" + string.Join('+', member.PeerUrls)));

    private static ValueTask<IPAddress?> ResolveAsync(string host, CancellationToken cancelled)
        => new(host switch
        {
            "one.example" => IPAddress.Loopback,
            "two.example" => new IPAddress([10, 0, 0, 2]),
            "ten.example" => new IPAddress([10, 0, 0, 1]),
            _ => null,
        });

    private static MemberOptions Options(string name, string cluster)
    {
        var members = new List<InitialMember>();
        foreach (string pair in cluster.Split(','))
        {
            string[] parts = pair.Split('=');
            int known = members.FindIndex(member => member.Name == parts[0]);
            if (known < 0)
            {
                members.Add(new InitialMember(parts[0], [parts[1]]));
            }
            else
            {
                members[known] = new InitialMember(parts[0], [.. members[known].PeerUrls, parts[1]]);
            }
        }

        return new MemberOptions
        {
            DataDir = "/nowhere", Name = name, InitialCluster = members, InitialAdvertisePeerUrls = ["http://127.0.0.1:42380"],
        };
    }

    private sealed class FakeRegistry : IRegistry
    {
        private readonly SortedDictionary<string, (byte[] Value, long Revision)> _keys = new(StringComparer.Ordinal);
        private readonly Lock _lock = new();
        private long _revision = 1;

        public int Failures { get; set; }

        public void Put(string key, string value)
        {
            lock (_lock)
            {
                long created = _keys.TryGetValue(key, out (byte[] Value, long Revision) old) ? old.Revision : ++_revision;
                _keys[key] = (Encoding.UTF8.GetBytes(value), created);
            }
        }

        public Task<List<RegistryKey>> GetAsync(byte[] key, bool isPrefix, CancellationToken cancelled)
        {
            if (Failures-- > 0)
            {
                throw new RegistryException("down");
            }

            string wanted = Encoding.UTF8.GetString(key);
            var found = new List<RegistryKey>();
            lock (_lock)
            {
                foreach ((string name, (byte[] value, long revision)) in _keys)
                {
                    if (isPrefix ? name.StartsWith(wanted, StringComparison.Ordinal) : name == wanted)
                    {
                        found.Add(new RegistryKey(Encoding.UTF8.GetBytes(name), value, revision));
                    }
                }
            }

            return Task.FromResult(found);
        }

        public Task PutAsync(byte[] key, byte[] value, CancellationToken cancelled)
        {
            Put(Encoding.UTF8.GetString(key), Encoding.UTF8.GetString(value));
            return Task.CompletedTask;
        }
    }
}
