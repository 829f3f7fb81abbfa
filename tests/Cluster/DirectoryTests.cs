// DirectoryTests: one data directory, two servers. Cairn opens what etcd left, etcd opens what Cairn left, and both find the
// same store in it.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class DirectoryTests
{
    private static readonly Identity s_single = new("m1", "fixture-single", "http://127.0.0.1:43380", "http://127.0.0.1:43379");
    private static readonly Identity s_auth = new("auth1", "fixture-auth", "http://127.0.0.1:43380", "http://127.0.0.1:43379");

    [Fact]
    public async Task SingleFixture_OpenedByCairn_HoldsWhatEtcdSaid()
    {
        using TempFolder folder = new();
        await Unpack("etcd-3.5-single", folder.Path);
        using JsonDocument expect = Expect("etcd-3.5-single");
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["etcd-3.5-single"], s_single, "--snapshot-count=300");
        await CheckStore(cairn, expect.RootElement.GetProperty("after_restart"));
        Answer below = await cairn.Client.Call(Grpc.HashKv, new Pb().Number(1, 735));
        Assert.Equal("11 etcdserver: mvcc: required revision has been compacted", $"{below.Code} {below.Message}");

        foreach (JsonProperty lease in expect.RootElement.GetProperty("leases").EnumerateObject())
        {
            long id = long.Parse(lease.Name, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            List<string> lines = await cairn.Client.Ok(Grpc.LeaseTimeToLive, new Pb().Number(1, id).Flag(2, true));
            Assert.Equal(lease.Value.GetProperty("granted-ttl").GetInt64(), Schema.Number(lines, "grantedTTL"));
            Assert.Equal(
                lease.Value.GetProperty("keys").EnumerateArray().Select(k => Schema.Show(k.GetBytesFromBase64())).Order(StringComparer.Ordinal),
                lines.Where(l => l.StartsWith("keys[", StringComparison.Ordinal)).Select(l => l[(l.IndexOf('=', StringComparison.Ordinal) + 2)..]).Order(StringComparer.Ordinal));
        }

        List<string> members = await cairn.Client.Ok(Grpc.MemberList, new Pb());
        Assert.Equal("1667873637591810710", Schema.Value(members, "members[0].ID"));
        Assert.Equal("\"m1\"", Schema.Value(members, "members[0].name"));
        Assert.Equal("11876663053762073683", Schema.Value(members, "header.cluster_id"));
        List<string> status = await cairn.Client.Ok(Grpc.Status, new Pb());
        Assert.Equal(3, Schema.Number(status, "raftTerm"));
        Assert.True(Schema.Number(status, "raftIndex") > 824);
    }

    [Fact]
    public async Task AuthFixture_OpenedByCairn_HoldsWhatEtcdSaid()
    {
        using TempFolder folder = new();
        await Unpack("etcd-3.5-auth", folder.Path);
        using JsonDocument expect = Expect("etcd-3.5-auth");
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["etcd-3.5-auth"], s_auth);
        await CheckStore(cairn, expect.RootElement.GetProperty("after_restart"), await Root(cairn));
        List<string> members = await cairn.Client.Ok(Grpc.MemberList, new Pb(), await Root(cairn));
        Assert.Equal("807797601195558799", Schema.Value(members, "members[0].ID"));
        Assert.Equal("\"auth1\"", Schema.Value(members, "members[0].name"));
    }

    [Theory]
    [InlineData("etcd-3.5-single")]
    [InlineData("etcd-3.5-auth")]
    public async Task Fixture_WrittenByCairnThenEtcdThenCairn_StaysOneStore(string fixture)
    {
        using TempFolder folder = new();
        await Unpack(fixture, folder.Path);
        await ThereAndBack(folder[fixture], fixture == "etcd-3.5-auth" ? s_auth : s_single, ["--snapshot-count=300"], startWithCairn: true);
    }

    [Theory]
    [InlineData(10_000)]
    [InlineData(100)]
    public async Task FreshCairnDirectory_StartedByEtcd_IsEtcds(int snapshotCount)
    {
        using TempFolder folder = new();
        await ThereAndBack(folder["data"], Identity.Default, [$"--snapshot-count={snapshotCount}"], startWithCairn: true);
    }

    [Fact]
    public async Task FreshEtcdDirectory_StartedByCairn_IsCairns()
    {
        using TempFolder folder = new();
        await ThereAndBack(folder["data"], Identity.Default, ["--snapshot-count=100"], startWithCairn: false);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task KilledDirectory_OpenedByTheOther_HoldsEveryAcknowledgedWrite(bool killEtcd)
    {
        using TempFolder folder = new();
        string first = killEtcd ? Tools.Etcd35 : Tools.Cairn, second = killEtcd ? Tools.Cairn : Tools.Etcd35;
        Writers writers = new("k");
        await using (ServerProcess server = await ServerProcess.Start(first, folder["data"]))
        {
            // A lease, and changes of its attachments, are replayed from the log too.
            await server.Client.Ok(Grpc.LeaseGrant, new Pb().Number(1, 36_000).Number(2, 42));
            Task load = writers.Run(server, count: 4);
            await Writers.Until(() => writers.Acknowledged > 300);
            await server.KillHard();
            await load;
        }

        await using ServerProcess other = await ServerProcess.Start(second, folder["data"]);
        await writers.Check(other);
        string there = await Keyspace.Describe(other);
        await other.Stop();
        await using ServerProcess again = await ServerProcess.Start(first, folder["data"]);
        Assert.Equal(there, await Keyspace.Describe(again));
    }

    /// <summary>
    /// Where auth is enabled, etcd judges every entry it replays. What was acknowledged here and is only in the log must
    /// pass that judgement there.
    /// </summary>
    [Fact]
    public async Task AuthFixture_WrittenAndKilled_ReplaysUnderEtcdToTheSameStore()
    {
        using TempFolder folder = new();
        await Unpack("etcd-3.5-auth", folder.Path);
        string data = folder["etcd-3.5-auth"];
        await using (ServerProcess cairn = await ServerProcess.Cairn(data, s_auth))
        {
            KeyValuePair<string, string>[] token = await Root(cairn);
            for (int i = 0; i < 20; i++)
            {
                await cairn.Client.Ok(Grpc.Put, new Pb().Text(1, $"/logged/{i:d2}").Text(2, "v"), token);
            }

            await cairn.Client.Ok(Grpc.Put, new Pb().Text(1, "/logged/last").Text(2, "v"), token);
            await cairn.KillHard();
        }

        await using ServerProcess etcd = await ServerProcess.Start(Tools.Etcd35, data, s_auth);
        KeyValuePair<string, string>[] root = await Root(etcd);
        List<string> deleted = await etcd.Client.Ok(Grpc.DeleteRange, new Pb().Text(1, "/logged/last"), root);
        Assert.Equal(1, Schema.Number(deleted, "deleted"));
        List<string> there = await etcd.Client.Ok(Grpc.Range, new Pb().Text(1, "/logged/").Text(2, "/logged0"), root);
        Assert.Equal(20, Schema.Number(there, "count"));
    }

    [Fact]
    public async Task Snapshot_SavedFromCairn_IsAcceptedAndRestoredByEtcdsOwnTool()
    {
        using TempFolder folder = new();
        string before;
        await using (ServerProcess cairn = await ServerProcess.Cairn(folder["data"]))
        {
            await Write(cairn, "a", null);
            await Write(cairn, "b", null);
            before = await Keyspace.Describe(cairn);
            Finished saved = await Tools.Run(Tools.Etcdctl35, ["--endpoints", cairn.Endpoint, "snapshot", "save", folder["backup.db"]]);
            Assert.True(saved.ExitCode == 0, saved.ToString());
        }

        await RestoreAndStart(folder, folder["backup.db"], Identity.Default, async server => Assert.Equal(before, await Keyspace.Describe(server)));
    }

    [Fact]
    public async Task SnapshotFixture_RestoredByEtcdsTool_OpensInBoth()
    {
        using TempFolder folder = new();
        await RestoreAndStart(folder, Path.Combine(Tools.Fixtures, "etcd-3.5.snapshot.db"), s_single, async server =>
        {
            Assert.Equal((4143167794, 736), await server.HashKv(800));
            Assert.Equal((71145581, 736), await server.HashKv(756));
        });
    }

    private static async Task RestoreAndStart(TempFolder folder, string snapshot, Identity identity, Func<ServerProcess, Task> check)
    {
        Finished status = await Tools.Run(Tools.Etcdutl35, ["snapshot", "status", snapshot, "-w", "json"]);
        Assert.True(status.ExitCode == 0, status.ToString());
        using (JsonDocument json = JsonDocument.Parse(status.Out))
        {
            Assert.True(json.RootElement.GetProperty("totalKey").GetInt64() > 0);
        }

        foreach (string program in new[] { Tools.Etcd35, Tools.Cairn })
        {
            string data = folder["restored-" + Path.GetFileName(program)];
            Finished restored = await Tools.Run(Tools.Etcdutl35,
            [
                "snapshot", "restore", snapshot, "--data-dir", data, "--name", identity.Name,
                "--initial-cluster", $"{identity.Name}={identity.PeerUrl}", "--initial-cluster-token", identity.Token,
                "--initial-advertise-peer-urls", identity.PeerUrl,
            ]);
            Assert.True(restored.ExitCode == 0, restored.ToString());
            await using ServerProcess server = await ServerProcess.Start(program, data, identity);
            await check(server);
            await Write(server, "restored", null);
            if (Tools.SubjectIsEtcd)
            {
                return;
            }
        }
    }

    private static async Task ThereAndBack(string data, Identity identity, string[] options, bool startWithCairn)
    {
        string expected = "";
        List<string> seen = [];
        for (int turn = 0; turn < 4; turn++)
        {
            bool cairn = (turn % 2 == 0) == startWithCairn;
            await using ServerProcess server = await ServerProcess.Start(cairn ? Tools.Cairn : Tools.Etcd35, data, identity, options);
            KeyValuePair<string, string>[] token = identity == s_auth ? await Root(server) : [];
            string found = await Keyspace.Describe(server, token);
            if (turn > 0)
            {
                Assert.Equal(expected, found);
            }

            List<string> members = await server.Client.Ok(Grpc.MemberList, new Pb(), token);
            seen.Add(string.Join(", ", members.Where(l => l.StartsWith("members[", StringComparison.Ordinal))));
            await Write(server, $"turn{turn}", token);
            expected = await Keyspace.Describe(server, token);
            await server.Stop();
        }

        // Who and where the member is does not depend on who serves it.
        Assert.Single(seen.Distinct());
    }

    /// <summary>Some of everything: puts and re-puts, a lease with keys, a transaction, deletes, a compaction.</summary>
    private static async Task Write(ServerProcess server, string prefix, KeyValuePair<string, string>[]? token)
    {
        for (int i = 0; i < 120; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, $"{prefix}/{i % 70:d3}").Text(2, $"value {i}"), token);
        }

        List<string> granted = await server.Client.Ok(Grpc.LeaseGrant, new Pb().Number(1, 36_000), token);
        await server.Client.Ok(Grpc.Put, new Pb().Text(1, prefix + "/leased").Text(2, "x").Number(3, Schema.Number(granted, "ID")), token);
        await server.Client.Ok(Grpc.Txn, new Pb()
            .Message(2, new Pb().Message(2, new Pb().Text(1, prefix + "/t1").Text(2, "1")))
            .Message(2, new Pb().Message(2, new Pb().Text(1, prefix + "/t2").Text(2, "2")))
            .Message(2, new Pb().Message(3, new Pb().Text(1, prefix + "/00").Text(2, prefix + "/01"))), token);
        List<string> deleted = await server.Client.Ok(Grpc.DeleteRange, new Pb().Text(1, prefix + "/020").Text(2, prefix + "/030"), token);
        long revision = Schema.Number(deleted, "header.revision");
        Assert.Equal(10, Schema.Number(deleted, "deleted"));
        await server.Client.Ok(Grpc.Compact, new Pb().Number(1, revision - 20).Flag(2, true), token);
    }

    private static async Task CheckStore(ServerProcess server, JsonElement expect, KeyValuePair<string, string>[]? token = null)
    {
        foreach (JsonProperty entry in expect.GetProperty("hashkv").EnumerateObject())
        {
            long revision = long.Parse(entry.Name.Split(' ')[0], CultureInfo.InvariantCulture);
            (long hash, long compacted) = await server.HashKv(revision, token);
            Assert.Equal(
                (entry.Name, entry.Value.GetProperty("hash").GetInt64(), entry.Value.GetProperty("compact_revision").GetInt64()),
                (entry.Name, hash, compacted));
        }

        foreach (JsonProperty entry in expect.GetProperty("digests").EnumerateObject())
        {
            (int keys, string digest) = await Keyspace.Digest(server, long.Parse(entry.Name, CultureInfo.InvariantCulture), token);
            Assert.Equal((entry.Name, entry.Value.GetProperty("keys").GetInt32(), entry.Value.GetProperty("sha256").GetString()), (entry.Name, keys, digest));
        }
    }

    /// <summary>Root's token where authentication is served; nothing where it is not yet.</summary>
    private static async Task<KeyValuePair<string, string>[]> Root(ServerProcess server)
    {
        Answer answer = await server.Client.Call(Grpc.Authenticate, new Pb().Text(1, "root").Text(2, "rootpw"));
        return answer.Code == 0 ? [KeyValuePair.Create("token", Schema.Value(answer.Lines(Grpc.Authenticate), "token").Trim('"'))] : [];
    }

    private static async Task Unpack(string fixture, string into)
    {
        Finished tar = await Tools.Run("tar", ["--sparse", "-xzf", Path.Combine(Tools.Fixtures, fixture + ".tar.gz"), "-C", into]);
        Assert.True(tar.ExitCode == 0, tar.ToString());
    }

    private static JsonDocument Expect(string fixture) =>
        JsonDocument.Parse(File.ReadAllText(Path.Combine(Tools.Fixtures, fixture + ".expect.json"), Encoding.UTF8));
}
