// OptionEffectTests: options of the front end do what they say, seen from outside, on the published executable.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class OptionEffectTests
{
    private const byte Settings = 4;
    private const byte Ping = 6;
    private const byte Ack = 1;

    /// <summary>
    /// An idle client that answers is pinged again and again and kept; one that falls silent is cut off.
    /// </summary>
    [Theory]
    [InlineData("kestrel")]
    [InlineData("cairn")]
    public async Task KeepAlive_IdleClient_IsPingedAndKeptUntilItAnswersNoMore(string engine)
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(
            folder["data"], null, "--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=5s", "--experimental-http2-engine=" + engine);
        using TcpClient client = new();
        NetworkStream stream = await Open(client, server);
        for (int pings = 0; pings < 3;)
        {
            (byte type, byte flags, byte[] body) = await ReadFrame(stream);
            if (type == Settings && (flags & Ack) == 0)
            {
                await stream.WriteAsync(new byte[] { 0, 0, 0, Settings, Ack, 0, 0, 0, 0 });
            }
            else if (type == Ping && ++pings < 3)
            {
                Assert.Equal(0, flags & Ack);
                Assert.Equal(8, body.Length);
                await stream.WriteAsync((byte[])[0, 0, 8, Ping, Ack, 0, 0, 0, 0, .. body]);
            }
        }

        // The third one is not answered: whatever is still said, the end follows.
        await Assert.ThrowsAnyAsync<IOException>(async () =>
        {
            while (true)
            {
                (byte type, _, _) = await ReadFrame(stream);
                Assert.NotEqual(Ping, type);
            }
        });
    }

    [Fact]
    public async Task SlowUnaryCall_LongerThanTheOption_IsLogged()
    {
        using TempFolder folder = new();
        await using ServerProcess slow = await ServerProcess.Cairn(folder["slow"], null, "--warning-unary-request-duration=1ns");
        await slow.Client.Ok(Grpc.Put, new Pb().Text(1, "a").Text(2, "b"));
        await slow.Stop();
        Assert.Contains("request stats", slow.Log, StringComparison.Ordinal);
        Assert.Contains("/etcdserverpb.KV/Put", slow.Log, StringComparison.Ordinal);

        await using ServerProcess patient = await ServerProcess.Cairn(folder["patient"], null, "--warning-unary-request-duration=1h");
        await patient.Client.Ok(Grpc.Put, new Pb().Text(1, "a").Text(2, "b"));
        await patient.Stop();
        Assert.DoesNotContain("request stats", patient.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task MaxConcurrentStreams_Given_IsAnnouncedToClients()
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], null, "--max-concurrent-streams=7");
        using TcpClient client = new();
        NetworkStream stream = await Open(client, server);
        (byte type, _, byte[] body) = await ReadFrame(stream);
        Assert.Equal(Settings, type);
        uint streams = 0;
        for (int at = 0; at + 6 <= body.Length; at += 6)
        {
            if (BinaryPrimitives.ReadUInt16BigEndian(body.AsSpan(at)) == 3)
            {
                streams = BinaryPrimitives.ReadUInt32BigEndian(body.AsSpan(at + 2));
            }
        }

        Assert.Equal(7u, streams);
    }

    [Fact]
    public async Task Connections_MoreThanDescriptorsAllow_WaitUntilOthersEnd()
    {
        // 150 descriptors are the server's own, as in etcd; 40 are for clients.
        const int Allowed = 40, Beyond = 8, Others = 5;
        using TempFolder folder = new();
        string script = folder["limited"];
        await File.WriteAllTextAsync(script, "#!/bin/sh\nulimit -n 190\nexec '" + Tools.Cairn + "' \"$@\"\n");
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        await using ServerProcess server = await ServerProcess.Start(script, folder["data"]);
        List<(TcpClient Client, Task<bool> Answer)> asked = [];
        try
        {
            for (int i = 0; i < Allowed + Beyond; i++)
            {
                TcpClient client = new();
                await client.ConnectAsync(IPAddress.Loopback, server.ClientPort);
                await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes("GET /version HTTP/1.1\r\nHost: x\r\n\r\n"));
                asked.Add((client, Answered(client.GetStream())));
            }

            // The server accepts in order; some places may be others', of the fixture's own client for instance.
            for (int i = 0; i < Allowed - Others; i++)
            {
                Assert.True(await asked[i].Answer);
            }

            Assert.DoesNotContain(asked.GetRange(Allowed, Beyond), a => a.Answer.IsCompleted);

            // Nobody was turned away: each one that goes lets the next one in.
            for (int i = Allowed - Others; i < asked.Count; i++)
            {
                asked[i - (Allowed - Others)].Client.Dispose();
                Assert.True(await asked[i].Answer);
            }
        }
        finally
        {
            asked.ForEach(a => a.Client.Dispose());
        }
    }

    [Fact]
    public async Task DebugVars_HasTheFieldsOfEtcds()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        using JsonDocument ours = await Vars(cairn);
        using JsonDocument theirs = await Vars(etcd);
        foreach (JsonProperty property in theirs.RootElement.EnumerateObject())
        {
            Assert.True(ours.RootElement.TryGetProperty(property.Name, out JsonElement value), property.Name);
            Assert.Equal(property.Value.ValueKind, value.ValueKind);
        }

        JsonElement raft = ours.RootElement.GetProperty("raft.status"), their = theirs.RootElement.GetProperty("raft.status");
        foreach (string name in new[] { "id", "lead", "raftState", "leadtransferee" })
        {
            Assert.Equal(their.GetProperty(name).GetString(), raft.GetProperty(name).GetString());
        }
    }

    private static async Task<JsonDocument> Vars(ServerProcess server)
    {
        PlainHttp.Reply reply = await PlainHttp.Send(server.ClientPort, "GET", "/debug/vars", [], []);
        Assert.Equal(200, reply.Status);
        return JsonDocument.Parse(reply.Body);
    }

    private static async Task<bool> Answered(NetworkStream stream)
    {
        byte[] answer = new byte[4096];
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        try
        {
            return await stream.ReadAsync(answer, limit.Token) > 0;
        }
        catch (IOException)
        {
            return false; // reset
        }
    }

    private static async Task<NetworkStream> Open(TcpClient client, ServerProcess server)
    {
        await client.ConnectAsync(IPAddress.Loopback, server.ClientPort);
        NetworkStream stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        await stream.WriteAsync(new byte[] { 0, 0, 0, Settings, 0, 0, 0, 0, 0 });
        return stream;
    }

    private static async Task<(byte Type, byte Flags, byte[] Body)> ReadFrame(NetworkStream stream)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        byte[] head = new byte[9];
        await stream.ReadExactlyAsync(head, limit.Token);
        byte[] body = new byte[(head[0] << 16) | (head[1] << 8) | head[2]];
        await stream.ReadExactlyAsync(body, limit.Token);
        return (head[3], head[4], body);
    }
}
