// A whole member behind real sockets: what the recorded calls do not cover.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Cairn.Core.Tests.Support;
using Cairn.Net.Host;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;
using static Cairn.Net.Tests.ProtoBytes;

namespace Cairn.Net.Tests;

public sealed class HostTests
{
    private const string Kv = "/etcdserverpb.KV/";
    private const string Maintenance = "/etcdserverpb.Maintenance/";

    [Fact]
    public async Task Member_StoppedAndStarted_KeepsWhatWasAcknowledged()
    {
        string directory = MemberFixture.NewDirectory();
        try
        {
            await using (MemberFixture first = await MemberFixture.StartAsync(directory: directory))
            {
                for (int i = 0; i < 50; i++)
                {
                    Assert.Equal(0, (await first.Client.CallAsync(Kv + "Put", Put("k" + i, "v" + i))).Code);
                }
            }

            await using MemberFixture second = await MemberFixture.StartAsync(directory: directory);
            byte[] answer = (await second.Client.CallAsync(Kv + "Range", Message(Text(1, "k"), Text(2, "l")))).Single;
            Assert.Equal(50, NumberOf(answer, 4));
            Assert.Equal(51, NumberOf(AllOf(answer, 1)[0], 3));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public async Task Reads_OfPagesOnTheDisk_AreAnsweredByThreadsThatMayWait()
    {
        var files = new ColdFiles();
        await using MemberFixture member = await MemberFixture.StartAsync(host: o => o with { FileSystem = files });
        string value = new('v', 5000);
        for (int i = 0; i < 40; i++)
        {
            Assert.Equal(0, (await member.Client.CallAsync(Kv + "Put", Put($"k{i:d2}", value))).Code);
        }

        // Status waits until the buffer is in the pages.
        Assert.Equal(0, (await member.Client.CallAsync(Maintenance + "Status", [])).Code);
        Member core = member.Host.Member;

        core.Store.Tree.ForgetResidency();
        long before = core.ColdReadCount;
        byte[] answer = (await member.Client.CallAsync(Kv + "Range", Text(1, "k07"))).Single;
        Assert.Equal(1, NumberOf(answer, 4));
        Assert.Equal(before, core.ColdReadCount); // in the page cache: nobody has to wait

        files.IsCold = true;
        core.Store.Tree.ForgetResidency();
        answer = (await member.Client.CallAsync(Kv + "Range", Text(1, "k07"))).Single;
        Assert.Equal(1, NumberOf(answer, 4));
        Assert.Equal(before + 1, core.ColdReadCount);

        core.Store.Tree.ForgetResidency();
        answer = (await member.Client.CallAsync(Kv + "Range", Message(Text(1, "k"), Text(2, "l"), Number(6, 4)))).Single; // by value
        Assert.Equal(40, NumberOf(answer, 4));
        Assert.Equal(40, AllOf(answer, 2).Count);
        Assert.Equal(before + 2, core.ColdReadCount);

        // Compare a value, then read another key.
        core.Store.Tree.ForgetResidency();
        byte[] compare = Message(Number(2, 3), Text(3, "k01"), Text(7, value));
        byte[] txn = Message(Bytes(1, compare), Bytes(2, Bytes(1, Text(1, "k39"))));
        answer = (await member.Client.CallAsync(Kv + "Txn", txn)).Single;
        Assert.Equal(1, NumberOf(answer, 2));
        Assert.Equal(before + 3, core.ColdReadCount);

        core.Store.Tree.ForgetResidency();
        GrpcAnswer stream = await member.Client.CallAsync(Kv + "RangeStream", Message(Text(1, "k"), Text(2, "l")));
        Assert.Equal(0, stream.Code);
        int pairs = 0;
        foreach (byte[] message in stream.Messages)
        {
            pairs += AllOf(AllOf(message, 1)[0], 2).Count;
        }

        Assert.Equal(40, pairs);
        Assert.True(core.ColdReadCount > before + 3);

        // Keys alone need no page.
        core.Store.Tree.ForgetResidency();
        before = core.ColdReadCount;
        answer = (await member.Client.CallAsync(Kv + "Range", Message(Text(1, "k"), Text(2, "l"), Number(9, 1)))).Single;
        Assert.Equal(40, NumberOf(answer, 4));
        Assert.Equal(before, core.ColdReadCount);
    }

    [Fact]
    public async Task Members_TwoInOneProcess_DoNotMeet()
    {
        await using MemberFixture a = await MemberFixture.StartAsync();
        await using MemberFixture b = await MemberFixture.StartAsync();
        await a.Client.CallAsync(Kv + "Put", Put("x", "a"));
        byte[] answer = (await b.Client.CallAsync(Kv + "Range", Text(1, "x"))).Single;
        Assert.Equal(0, NumberOf(answer, 4));
    }

    [Fact]
    public async Task Directory_InUse_RefusesTheSecondMember()
    {
        await using MemberFixture first = await MemberFixture.StartAsync();
        MemberStartException e = await Assert.ThrowsAsync<MemberStartException>(
            () => MemberFixture.StartAsync(directory: first.Directory));
        Assert.Contains(first.Directory, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Port_InUse_RefusesBeforeTheDirectoryIsTouched()
    {
        using var busy = new TcpListener(IPAddress.Loopback, 0);
        busy.Start();
        int port = ((IPEndPoint)busy.LocalEndpoint).Port;
        _ = ListenUrl.TryParse($"http://127.0.0.1:{port}", out ListenUrl url, out _);
        string directory = MemberFixture.NewDirectory();
        ListenException e = await Assert.ThrowsAsync<ListenException>(
            () => MemberFixture.StartAsync(host: o => o with { ListenClientUrls = [url] }, directory: directory));
        Assert.Equal($"listen tcp 127.0.0.1:{port}: bind: address already in use", e.Message);
        Assert.False(Directory.Exists(directory));
    }

    [Fact]
    public async Task RangeStream_ManyKeys_EqualsOneRange()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(o => o with { UnsafeNoSync = true });
        byte[] value = new byte[300];
        for (int i = 0; i < 300; i++)
        {
            await member.Client.CallAsync(Kv + "Put", Message(Text(1, $"s{i:D4}"), Bytes(2, value)));
        }

        foreach ((long limit, long expected, bool more) in new[] { (0L, 300L, false), (25, 25, true), (300, 300, false), (7, 7, true) })
        {
            byte[] request = Message(Text(1, "s"), Text(2, "t"), Number(3, limit));
            byte[] whole = (await member.Client.CallAsync(Kv + "Range", request)).Single;
            GrpcAnswer stream = await member.Client.CallAsync(Kv + "RangeStream", request);
            Assert.Equal(0, stream.Code);
            var kvs = new List<byte[]>();
            for (int i = 0; i < stream.Messages.Count; i++)
            {
                byte[] part = Assert.Single(AllOf(stream.Messages[i], 1));
                bool last = i == stream.Messages.Count - 1;
                kvs.AddRange(AllOf(part, 2));
                Assert.Equal(last ? 1 : 0, AllOf(part, 1).Count);
                Assert.Equal(last ? 300 : 0, NumberOf(part, 4));
                Assert.Equal(last && more ? 1 : 0, NumberOf(part, 3));
            }

            Assert.Equal(AllOf(whole, 2), kvs);
            Assert.Equal(expected, kvs.Count);
            Assert.InRange(AllOf(AllOf(stream.Messages[0], 1)[0], 2).Count, 1, 10);
        }
    }

    [Theory]
    [InlineData(5, 2, "RangeStream does not support custom sort orders")]
    [InlineData(6, 3, "RangeStream does not support custom sort orders")]
    [InlineData(10, 1, "RangeStream does not support revision filters")]
    public async Task RangeStream_WithOptions_IsUnimplemented(int field, long number, string message)
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        GrpcAnswer answer = await member.Client.CallAsync(Kv + "RangeStream", Message(Text(1, "a"), Number(field, number)));
        Assert.Equal((12, message), (answer.Code, answer.Message));
    }

    [Fact]
    public async Task RangeStream_CountOnlyAndNothing_GiveOneMessage()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        await member.Client.CallAsync(Kv + "Put", Put("a", "b"));
        byte[] count = (await member.Client.CallAsync(Kv + "RangeStream", Message(Text(1, "a"), Number(9, 1)))).Single;
        Assert.Equal(1, NumberOf(AllOf(count, 1)[0], 4));
        byte[] nothing = (await member.Client.CallAsync(Kv + "RangeStream", Text(1, "zz"))).Single;
        Assert.Empty(AllOf(AllOf(nothing, 1)[0], 2));
        Assert.Equal(3, (await member.Client.CallAsync(Kv + "RangeStream", [])).Code);
        Assert.Equal(11, (await member.Client.CallAsync(Kv + "RangeStream", Message(Text(1, "a"), Number(4, 99)))).Code);
    }

    [Fact]
    public async Task Snapshot_Stream_EndsWithTheSumOfItsBytes()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        await member.Client.CallAsync(Kv + "Put", Message(Text(1, "big"), Bytes(2, new byte[200_000])));
        GrpcAnswer answer = await member.Client.CallAsync(Maintenance + "Snapshot", []);
        Assert.Equal(0, answer.Code);
        using var image = new MemoryStream();
        for (int i = 0; i < answer.Messages.Count - 1; i++)
        {
            byte[] blob = Assert.Single(AllOf(answer.Messages[i], 3));
            Assert.InRange(blob.Length, 1, 32 * 1024);
            image.Write(blob);
        }

        byte[] all = image.ToArray();
        long sent = 0;
        for (int i = 0; i < answer.Messages.Count - 1; i++)
        {
            sent += AllOf(answer.Messages[i], 3)[0].Length;
            Assert.Equal(all.Length - sent, NumberOf(answer.Messages[i], 2));
        }

        Assert.Equal(SHA256.HashData(all), AllOf(answer.Messages[^1], 3)[0]);
        Assert.Equal(0, all.Length % 4096);
        Assert.InRange(all.Length, 200_000, 10_000_000);
    }

    [Fact]
    public async Task Status_TellsWhatThisMemberIs()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        await member.Client.CallAsync(Kv + "Put", Put("a", "b"));
        byte[] status = (await member.Client.CallAsync(Maintenance + "Status", [])).Single;
        Assert.Equal("3.6.14", Encoding.ASCII.GetString(AllOf(status, 2)[0]));
        Assert.Equal((long)member.Host.Member.Id, NumberOf(status, 4));
        Assert.InRange(NumberOf(status, 3), 4096, 1 << 20);
        Assert.InRange(NumberOf(status, 9), 1, NumberOf(status, 3));
        Assert.Equal(2L << 30, NumberOf(status, 12));
        Assert.Empty(AllOf(status, 8));
        Assert.Single(AllOf(status, 13));
        Assert.Equal(NumberOf(status, 5), NumberOf(status, 7));
        Assert.Equal(2, NumberOf(AllOf(status, 1)[0], 3));
    }

    [Fact]
    public async Task Quota_Passed_RefusesPutsAndShowsEverywhere()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(o => o with { QuotaBytes = 400_000, BatchIntervalMs = 10 });
        GrpcAnswer answer;
        int rounds = 0;
        do
        {
            answer = await member.Client.CallAsync(Kv + "Put", Message(Text(1, "k" + rounds), Bytes(2, new byte[50_000])));
        }
        while (answer.Code == 0 && rounds++ < 1000);
        Assert.Equal((8, "etcdserver: mvcc: database space exceeded"), (answer.Code, answer.Message));

        // The refusal raises the alarm through the log; a linearizable call behind it sees it.
        byte[] alarms = [];
        for (int i = 0; i < 500 && AllOf(alarms, 2).Count == 0; i++)
        {
            alarms = (await member.Client.CallAsync(Maintenance + "Alarm", [])).Single;
        }

        Assert.Single(AllOf(alarms, 2));
        Assert.Equal("memberID:" + member.Host.Member.Id + " alarm:NOSPACE ",
            Encoding.ASCII.GetString(AllOf((await member.Client.CallAsync(Maintenance + "Status", [])).Single, 8)[0]));
        Assert.Equal(8, (await member.Client.CallAsync("/etcdserverpb.Lease/LeaseGrant", Number(1, 100))).Code);
        Assert.Equal(0, (await member.Client.CallAsync(Kv + "DeleteRange", Text(1, "k1"))).Code);
        Assert.Equal((503, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"), await GetAsync(member.Port, "/health"));
        Assert.Equal(200, (await GetAsync(member.Port, "/health?exclude=NOSPACE")).Status);
        Assert.Equal(200, (await GetAsync(member.Port, "/readyz")).Status);
    }

    [Fact]
    public async Task Corrupt_Raised_FailsReadiness()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        byte[] raise = Message(Number(1, 1), Number(2, (long)member.Host.Member.Id), Number(3, 2));
        Assert.Equal(0, (await member.Client.CallAsync(Maintenance + "Alarm", raise)).Code);
        Assert.Equal((15, "etcdserver: corrupt cluster"), Outcome(await member.Client.CallAsync(Kv + "Put", Put("a", "b"))));
        Assert.Equal(0, (await member.Client.CallAsync(Kv + "Range", Text(1, "a"))).Code);
        (int status, string body) = await GetAsync(member.Port, "/readyz");
        Assert.Equal(503, status);
        Assert.StartsWith("[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n", body, StringComparison.Ordinal);
        Assert.EndsWith("\n\n", body, StringComparison.Ordinal);
        Assert.Equal(200, (await GetAsync(member.Port, "/livez")).Status);
        Assert.Equal((503, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n"), await GetAsync(member.Port, "/health"));
    }

    [Fact]
    public async Task Leases_UnaryCalls_Work()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        byte[] grant = (await member.Client.CallAsync("/etcdserverpb.Lease/LeaseGrant", Number(1, 600))).Single;
        long id = NumberOf(grant, 2);
        Assert.True(id > 0);
        await member.Client.CallAsync(Kv + "Put", Message(Text(1, "l"), Text(2, "v"), Number(3, id)));
        byte[] left = (await member.Client.CallAsync("/etcdserverpb.Lease/LeaseTimeToLive", Message(Number(1, id), Number(2, 1)))).Single;
        Assert.InRange(NumberOf(left, 3), 590, 600);
        Assert.Equal(600, NumberOf(left, 4));
        Assert.Equal("l", Encoding.ASCII.GetString(Assert.Single(AllOf(left, 5))));
        byte[] leases = (await member.Client.CallAsync("/etcdserverpb.Lease/LeaseLeases", [])).Single;
        Assert.Equal(id, NumberOf(Assert.Single(AllOf(leases, 2)), 1));
        Assert.Equal(0, (await member.Client.CallAsync("/etcdserverpb.Lease/LeaseRevoke", Number(1, id))).Code);
        Assert.Equal((5, "etcdserver: requested lease not found"),
            Outcome(await member.Client.CallAsync("/etcdserverpb.Lease/LeaseRevoke", Number(1, id))));
        Assert.Equal(0, NumberOf((await member.Client.CallAsync(Kv + "Range", Text(1, "l"))).Single, 4));
        Assert.Equal(-1, NumberOf((await member.Client.CallAsync("/etcdserverpb.Lease/LeaseTimeToLive", Number(1, id))).Single, 3));
    }

    [Theory]
    [InlineData("/etcdserverpb.Auth/AuthEnable")]
    [InlineData("/etcdserverpb.Auth/UserAdd")]
    [InlineData("/etcdserverpb.Auth/RoleList")]
    public async Task Service_OfALaterPart_IsUnimplemented(string path)
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        Assert.Equal(12, (await member.Client.CallAsync(path, [])).Code);
    }

    [Theory]
    [InlineData("Maintenance/Status")]
    [InlineData("Maintenance/Snapshot")]
    [InlineData("Maintenance/Alarm")]
    [InlineData("Maintenance/Hash")]
    [InlineData("Maintenance/HashKV")]
    [InlineData("Maintenance/Defragment")]
    [InlineData("Cluster/MemberList")]
    [InlineData("Lease/LeaseGrant")]
    [InlineData("Lease/LeaseLeases")]
    [InlineData("KV/RangeStream")]
    [InlineData("KV/Compact")]
    public async Task Request_ThatIsNoMessage_IsInternal(string method)
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        Assert.Equal(13, (await member.Client.CallAsync("/etcdserverpb." + method, [0xff])).Code);
    }

    [Fact]
    public async Task Defragment_AnswersWithoutHeader_AndKeepsTheData()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(o => o with { UnsafeNoSync = true });
        for (int i = 0; i < 40; i++)
        {
            await member.Client.CallAsync(Kv + "Put", Message(Text(1, "k"), Bytes(2, new byte[50_000])));
        }

        await member.Client.CallAsync(Kv + "Compact", Message(Number(1, 41), Number(2, 1)));
        long size = long.MaxValue;
        for (int i = 0; i < 5 && size > 600_000; i++)
        {
            // Pages that a pinned View still reaches stay for the next call.
            GrpcAnswer defragmented = await member.Client.CallAsync(Maintenance + "Defragment", []);
            Assert.Equal(0, defragmented.Code);
            Assert.Empty(defragmented.Single);
            size = NumberOf((await member.Client.CallAsync(Maintenance + "Status", [])).Single, 3);
        }

        Assert.InRange(size, 50_000, 600_000);
        Assert.Equal(1, NumberOf((await member.Client.CallAsync(Kv + "Range", Text(1, "k"))).Single, 4));
    }

    [Fact]
    public async Task LargeAnswer_ArrivesWhole()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(o => o with { UnsafeNoSync = true });
        byte[] value = new byte[1_000_000];
        new Random(1).NextBytes(value);
        for (int i = 0; i < 12; i++)
        {
            Assert.Equal(0, (await member.Client.CallAsync(Kv + "Put", Message(Text(1, "b" + i), Bytes(2, value)))).Code);
        }

        byte[] answer = (await member.Client.CallAsync(Kv + "Range", Message(Text(1, "b"), Text(2, "c")))).Single;
        List<byte[]> kvs = AllOf(answer, 2);
        Assert.Equal(12, kvs.Count);
        Assert.All(kvs, kv => Assert.Equal(value, AllOf(kv, 5)[0]));
    }

    [Fact]
    public async Task Health_Service_KnowsTheServerAlone()
    {
        await using MemberFixture member = await MemberFixture.StartAsync();
        Assert.Equal([0x08, 0x01], (await member.Client.CallAsync("/grpc.health.v1.Health/Check", [])).Single);
        Assert.Equal((5, "unknown service"),
            Outcome(await member.Client.CallAsync("/grpc.health.v1.Health/Check", Text(1, "etcdserverpb.KV"))));
        GrpcAnswer watch = await member.Client.CallAsync("/grpc.health.v1.Health/Watch", [], ("grpc-timeout", "200m"));
        Assert.Equal([0x08, 0x01], Assert.Single(watch.Messages));
        Assert.Equal(4, watch.Code);
    }

    [Fact]
    public async Task Listeners_Split_ServeTheirOwnProtocolOnly()
    {
        _ = ListenUrl.TryParse("http://127.0.0.1:" + FreePort(), out ListenUrl pages, out _);
        _ = ListenUrl.TryParse("http://127.0.0.1:" + FreePort(), out ListenUrl metrics, out _);
        _ = ListenUrl.TryParse("http://127.0.0.1:" + FreePort(), out ListenUrl peers, out _);
        await using MemberFixture member = await MemberFixture.StartAsync(host: o => o with
        {
            ListenClientHttpUrls = [pages],
            ListenMetricsUrls = [metrics],
            ListenPeerUrls = [peers],
        });
        Assert.Equal(0, (await member.Client.CallAsync(Kv + "Put", Put("a", "b"))).Code);
        Assert.Equal(400, (await GetAsync(member.Port, "/version")).Status);
        Assert.Equal(0, (await member.Client.CallAsync(Kv + "Range", Text(1, "a"))).Code);
        Assert.Equal(200, (await GetAsync(pages.Port, "/version")).Status);
        Assert.Equal(200, (await GetAsync(metrics.Port, "/health")).Status);
        Assert.Equal(404, (await GetAsync(metrics.Port, "/version")).Status);
        Assert.Equal(404, (await GetAsync(pages.Port, "/members")).Status);
        (int status, string body) = await GetAsync(peers.Port, "/members");
        Assert.Equal(200, status);
        Assert.Equal(
            "[{\"id\":" + member.Host.Member.Id + ",\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"default\",\"clientURLs\":[\"http://localhost:2379\"]}]\n",
            body);
    }

    [Fact]
    public async Task UnixSocket_Serves()
    {
        string path = Path.Combine(Path.GetTempPath(), "cairn-" + Guid.NewGuid().ToString("N")[..8] + ".sock");
        _ = ListenUrl.TryParse("unix://" + path, out ListenUrl unix, out _);
        await using MemberFixture member = await MemberFixture.StartAsync(host: o => o with { ListenClientUrls = [o.ListenClientUrls[0], unix] });
        using var handler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancelled) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancelled);
                return new NetworkStream(socket, ownsSocket: true);
            },
        };
        using var http = new HttpClient(handler);
        Assert.Contains("3.6.14", await http.GetStringAsync(new Uri("http://x/version")), StringComparison.Ordinal);
        File.Delete(path);
    }

    [Fact]
    public async Task HostWhitelist_Stranger_IsMisdirected()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(host: o => o with { HostWhitelist = ["good.example"], Cors = ["http://a.example"] });
        Assert.Equal(421, (await GetAsync(member.Port, "/version", ("Host", "bad.example"))).Status);
        Assert.Equal(200, (await GetAsync(member.Port, "/version", ("Host", "good.example:80"))).Status);
        Assert.Equal(200, (await GetAsync(member.Port, "/version")).Status);
    }

    [Fact]
    public async Task Metrics_Page_CountsCalls()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(host: o => o with { ExtensiveMetrics = true });
        await member.Client.CallAsync(Kv + "Put", Put("a", "b"), ("client-api-version", "3.6.14"));
        await member.Client.CallAsync(Kv + "Put", []);
        string page = (await GetAsync(member.Port, "/metrics")).Body;
        Assert.Contains("grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("{grpc_code=\"InvalidArgument\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_server_client_requests_total{client_api_version=\"3.6.14\",type=\"unary\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("grpc_server_handling_seconds_count{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 2\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_server_has_leader 1\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_cluster_version{cluster_version=\"3.5\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_server_version{server_version=\"3.6.14\"} 1\n", page, StringComparison.Ordinal);
        Assert.Contains("etcd_disk_wal_fsync_duration_seconds_count", page, StringComparison.Ordinal);
        Assert.Contains("process_resident_memory_bytes ", page, StringComparison.Ordinal);
        Assert.Contains("grpc_server_started_total{grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0\n", page, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Stop_WithCallsUnderWay_AnswersOrCutsEachOfThem()
    {
        MemberFixture member = await MemberFixture.StartAsync();
        var calls = new List<Task<GrpcAnswer>>();
        using var client = new GrpcClient(member.Port);
        for (int i = 0; i < 200; i++)
        {
            calls.Add(client.CallAsync(Kv + "Put", Put("k" + i, "v")));
        }

        await member.DisposeAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));
        foreach (Task<GrpcAnswer> call in calls)
        {
            try
            {
                GrpcAnswer answer = await call.WaitAsync(TimeSpan.FromSeconds(20));
                Assert.Contains(answer.Code, new[] { 0, 14, 1, 2 });
            }
            catch (HttpRequestException)
            {
                // Cut off: the outcome is unknown, as with a real server.
            }
        }
    }

    [Fact]
    public void Open_BadDirectory_NamesIt()
    {
        string file = MemberFixture.NewDirectory();
        File.WriteAllText(file, "not a directory");
        try
        {
            var options = new HostOptions { Member = new MemberOptions { DataDir = file } };
            Exception e = Assert.ThrowsAny<Exception>(() => MemberHost.Open(options, NullLoggerFactory.Instance, Cairn.Net.Tests.NoFatal.Instance));
            Assert.IsType<MemberStartException>(e);
            Assert.Contains(file, e.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static (int, string) Outcome(GrpcAnswer answer) => (answer.Code, answer.Message);

    private static byte[] Put(string key, string value) => Message(Text(1, key), Text(2, value));

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static async Task<(int Status, string Body)> GetAsync(int port, string path, params (string Name, string Value)[] headers)
    {
        using var http = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Get, $"http://127.0.0.1:{port}{path}");
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        using HttpResponseMessage response = await http.SendAsync(request);
        return ((int)response.StatusCode, await response.Content.ReadAsStringAsync());
    }
}
