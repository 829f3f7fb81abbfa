// MemberTests: one real member over its life: how it starts and says so, how it stops, what it does when it is full, and the
// two streams a client can ask it for.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class MemberTests
{
    [Fact]
    public async Task Start_Log_IsJsonAndSaysWhenClientsCanCome()
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
        await server.ReadyLine.WaitAsync(TimeSpan.FromSeconds(10));
        await server.Stop();
        string[] lines = server.Log.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.NotEmpty(lines);
        foreach (string line in lines)
        {
            using JsonDocument json = JsonDocument.Parse(line);
            Assert.Contains(json.RootElement.GetProperty("level").GetString(), new[] { "debug", "info", "warn", "error", "fatal" });
            Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", json.RootElement.GetProperty("ts").GetString());
            Assert.NotEmpty(json.RootElement.GetProperty("caller").GetString()!);
            Assert.NotEmpty(json.RootElement.GetProperty("msg").GetString()!);
        }
    }

    [Fact]
    public async Task Terminate_UnderLoad_EndsCleanlyAndKeepsWhatWasAcknowledged()
    {
        using TempFolder folder = new();
        Writers writers = new("t");
        string first = "";
        for (int round = 0; round < 5; round++)
        {
            await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
            await writers.Check(server);
            int before = writers.Acknowledged;
            Task load = writers.Run(server, count: 4);
            await Writers.Until(() => writers.Acknowledged > before + 50 || load.IsCompleted);
            int exit = await server.Stop();

            // As etcd does: it cleans up, then lets the signal have its way.
            Assert.True(exit == 128 + 15, $"exit code {exit}\n{server.Tail()}");
            await load;
            first = first.Length == 0 ? server.Log : first;
        }

        await using ServerProcess last = await ServerProcess.Cairn(folder["data"]);
        await writers.Check(last);
    }

    [Fact]
    public async Task Restart_ManyTimes_KeepsTermRisingAndTheStoreAsItWas()
    {
        using TempFolder folder = new();
        string described = "";
        long term = 1;
        for (int round = 0; round < 4; round++)
        {
            await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
            List<string> status = await server.Client.Ok(Grpc.Status, new Pb());
            Assert.True(Schema.Number(status, "raftTerm") > term);
            term = Schema.Number(status, "raftTerm");
            string now = await Keyspace.Describe(server);
            Assert.True(round == 0 || now == described, $"before {described}\nnow    {now}");
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + round).Text(2, "v"));
            described = await Keyspace.Describe(server);
            await server.Stop();
        }
    }

    [Fact]
    public async Task Quota_Reached_RefusesWritesUntilRoomIsMadeAndTheAlarmDisarmed()
    {
        // Both servers walk the same path; how many writes fit before depends on the pages, the path does not.
        using TempFolder folder = new();
        foreach (string program in new[] { Tools.Etcd35, Tools.Cairn })
        {
            string name = Path.GetFileName(program);
            await using ServerProcess server = await ServerProcess.Start(program, folder[name], null, "--quota-backend-bytes=4194304");
            byte[] value = new byte[100_000];
            Answer answer;
            int writes = 0;
            do
            {
                answer = await server.Client.Call(Grpc.Put, new Pb().Text(1, "fill" + (writes % 3)).Data(2, value));
                Assert.True(++writes < 400, $"{name}: the quota never refuses");
            }
            while (answer.Code == 0);

            Assert.Equal("8 etcdserver: mvcc: database space exceeded", $"{answer.Code} {answer.Message}");
            await Writers.Until(() => Alarms(server).Contains("NOSPACE", StringComparison.Ordinal));
            Assert.Equal("8", (await server.Client.Call(Grpc.Put, new Pb().Text(1, "small"))).Code.ToString(System.Globalization.CultureInfo.InvariantCulture));
            Assert.Equal(8, (await server.Client.Call(Grpc.LeaseGrant, new Pb().Number(1, 100))).Code);
            Assert.Equal(8, (await server.Client.Call(Grpc.Txn, new Pb().Message(2, new Pb().Message(2, new Pb().Text(1, "small"))))).Code);
            List<string> range = await server.Client.Ok(Grpc.Range, new Pb().Text(1, "fill0"));
            Assert.Equal(1, Schema.Number(range, "count"));
            List<string> status = await server.Client.Ok(Grpc.Status, new Pb());
            Assert.Contains("alarm:NOSPACE", Schema.Value(status, "errors[0]"), StringComparison.Ordinal);

            List<string> deleted = await server.Client.Ok(Grpc.DeleteRange, new Pb().Text(1, "fill0"));
            await server.Client.Ok(Grpc.Compact, new Pb().Number(1, Schema.Number(deleted, "header.revision")).Flag(2, true));
            Assert.Equal(0, (await server.Client.Call(Grpc.Defragment, new Pb().Bytes, null, TimeSpan.FromSeconds(60))).Code);
            status = await server.Client.Ok(Grpc.Status, new Pb());
            Assert.True(Schema.Number(status, "dbSize") < 2 << 20, $"{name}: {Schema.Number(status, "dbSize")} bytes after defragmentation");
            await server.Client.Ok(Grpc.Alarm, new Pb().Number(1, 2).Number(2, (long)ulong.Parse(Schema.Value(status, "header.member_id"), System.Globalization.CultureInfo.InvariantCulture)).Number(3, 1));
            Assert.Equal("", Alarms(server));
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "small").Text(2, "again"));
        }
    }

    [Fact]
    public async Task Snapshot_Stream_IsTheFileInChunksWithItsHash()
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
        for (int i = 0; i < 30; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + i).Data(2, new byte[10_000]));
        }

        Answer answer = await server.Client.Call(Grpc.Snapshot, new Pb());
        Assert.Equal(0, answer.Code);
        using MemoryStream image = new();
        List<List<string>> messages = answer.Messages.Select(m => Schema.Lines("SnapshotResponse", m)).ToList();
        long total = -1;
        for (int i = 0; i < answer.Messages.Count; i++)
        {
            byte[] blob = Blob(answer.Messages[i]);
            Assert.InRange(blob.Length, 1, 32 * 1024);
            if (i == answer.Messages.Count - 1)
            {
                Assert.Equal(Convert.ToHexString(SHA256.HashData(image.ToArray())), Convert.ToHexString(blob));
                Assert.Equal(0, Schema.Number(messages[i], "remaining_bytes"));
                break;
            }

            image.Write(blob);
            long remaining = Schema.Number(messages[i], "remaining_bytes");
            total = total < 0 ? remaining + blob.Length : total;
            Assert.Equal(total - image.Length, remaining);
        }

        Assert.Equal(0, image.Length % 4096);
        Assert.Equal(0xED0CDAEDu, BinaryPrimitives.ReadUInt32LittleEndian(image.ToArray().AsSpan(16)));
    }

    [Fact]
    public async Task RangeStream_AnyRange_CarriesWhatRangeCarries()
    {
        if (Tools.SubjectIsEtcd)
        {
            return;
        }

        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
        Random random = new(11);
        for (int i = 0; i < 300; i++)
        {
            byte[] value = new byte[random.Next(0, 9000)];
            random.NextBytes(value);
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, $"k/{random.Next(200):d3}").Data(2, value));
        }

        Pb[] ranges =
        [
            new Pb().Text(1, "k/").Text(2, "k0"),
            new Pb().Text(1, "k/").Text(2, "k0").Number(3, 25),
            new Pb().Text(1, "k/").Text(2, "k0").Number(4, 150),
            new Pb().Text(1, "k/").Text(2, "k0").Flag(8, true),
            new Pb().Text(1, "k/").Text(2, "k0").Flag(9, true),
            new Pb().Text(1, "k/007"),
            new Pb().Text(1, "none"),
            new Pb().Data(1, [0]).Data(2, [0]).Flag(7, true),
        ];
        foreach (Pb range in ranges)
        {
            Answer whole = await server.Client.Call(Grpc.Range, range);
            Answer stream = await server.Client.Call(Grpc.RangeStream, range);
            Assert.True(stream.Code == 0, stream.ToString());
            List<string> expected = whole.Lines(Grpc.Range);
            MemoryStream joined = new();
            foreach (byte[] chunk in stream.Messages)
            {
                // RangeStreamResponse.range_response: the chunks' fields one after the other are the whole answer's.
                Cairn.Base.ProtoReader reader = new(chunk);
                while (reader.NextField())
                {
                    Assert.Equal(1, reader.Field);
                    joined.Write(reader.ReadBytes());
                }
            }

            List<string> now = Schema.Lines("RangeResponse", joined.ToArray());

            // 3.7 answers keys_only from the index alone and leaves the lease out; no key here has one.
            Assert.Equal(expected, now);
        }

        Answer sorted = await server.Client.Call(Grpc.RangeStream, new Pb().Text(1, "k/").Text(2, "k0").Number(5, 2));
        Assert.Equal("12 RangeStream does not support custom sort orders", $"{sorted.Code} {sorted.Message.Replace("etcdserver: ", "", StringComparison.Ordinal)}");
        Answer filtered = await server.Client.Call(Grpc.RangeStream, new Pb().Text(1, "k/").Text(2, "k0").Number(10, 2));
        Assert.Equal("12 RangeStream does not support revision filters", $"{filtered.Code} {filtered.Message.Replace("etcdserver: ", "", StringComparison.Ordinal)}");
    }

    private static string Alarms(ServerProcess server)
    {
        Answer answer = server.Client.Call(Grpc.Alarm, new Pb()).GetAwaiter().GetResult();
        Assert.Equal(0, answer.Code);
        return string.Join(',', answer.Lines(Grpc.Alarm).Where(l => l.Contains("].alarm = 1", StringComparison.Ordinal)).Select(_ => "NOSPACE"));
    }

    private static byte[] Blob(byte[] snapshotResponse)
    {
        Cairn.Base.ProtoReader reader = new(snapshotResponse);
        while (reader.NextField())
        {
            if (reader.Field == 3)
            {
                return reader.ReadBytes().ToArray();
            }

            reader.Skip();
        }

        return [];
    }
}
