// BadInputTests: what a server must survive, from the wire and from the disk.
//
// Wire: the same bytes go to Cairn and to etcd; code and text must be equal (texts of parse errors aside). Disk: a directory
// that cannot be served is refused with one line an operator can act on, and not a byte of it is changed.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class BadInputTests
{
    [Fact]
    public async Task Wire_BadStreams_AreRefusedAsEtcdRefusesThem()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        byte[] put = new Pb().Text(1, "k").Text(2, "v").Bytes;
        List<(string What, string Method, byte[] Stream, KeyValuePair<string, string>[] Metadata)> cases =
        [
            ("no message", Grpc.Put, [], []),
            ("half a frame header", Grpc.Put, [0, 0, 0], []),
            ("a frame longer than the stream", Grpc.Put, [0, 0, 0, 0, 9, 1, 2], []),
            ("a frame far longer than allowed", Grpc.Put, [0, 0x7f, 0xff, 0xff, 0xff, 1, 2], []),
            ("a frame with the high bit in its length", Grpc.Put, [0, 0xff, 0xff, 0xff, 0xff, 1, 2], []),
            ("compressed without an encoding", Grpc.Put, Frame(put, 1), []),
            ("compressed with an encoding nobody has", Grpc.Put, Frame(put, 1), [KeyValuePair.Create("grpc-encoding", "nope")]),
            ("a reserved flag", Grpc.Put, Frame(put, 2), []),
            ("unknown service", "/nope.Nope/Put", Frame(put, 0), []),
            ("unknown method", "/etcdserverpb.KV/Nope", Frame(put, 0), []),
            ("malformed method", "/Put", Frame(put, 0), []),
            ("method in other letters", "/etcdserverpb.KV/put", Frame(put, 0), []),
            ("a message that is a group", Grpc.Put, Frame([0x0b, 0x0c], 0), []),
            ("a group that does not end", Grpc.Put, Frame([0x1b, 0x08], 0), []),
            ("tag zero", Grpc.Put, Frame([0x00, 0x01], 0), []),
            ("an endless varint", Grpc.Put, Frame([0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 0), []),
            ("a length beyond the message", Grpc.Put, Frame([0x0a, 0x7f, 0x61], 0), []),
            ("a length that is negative", Grpc.Put, Frame([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 0), []),
            ("a txn nested a thousand deep", Grpc.Txn, Frame(Nested(1000), 0), []),
        ];
        List<string> differences = [];
        foreach ((string what, string method, byte[] stream, KeyValuePair<string, string>[] metadata) in cases)
        {
            string ours = await Outcome(cairn, method, stream, metadata), theirs = await Outcome(etcd, method, stream, metadata);
            if (ours != theirs)
            {
                differences.Add($"{what}\n  cairn: {ours}\n  etcd:  {theirs}");
            }

            // Whatever it was, the next caller is served.
            await cairn.Client.Ok(Grpc.Put, new Pb().Text(1, "alive").Text(2, what));
        }

        Assert.True(differences.Count == 0, string.Join('\n', differences));
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/json")]
    public async Task Wire_WrongContentType_IsNotServedAsGrpc(string contentType)
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        try
        {
            Answer answer = await cairn.Client.CallRaw(Grpc.Put, Frame(new Pb().Text(1, "k").Bytes, 0), null, null, contentType);
            Assert.NotEqual(0, answer.Code);
        }
        catch (HttpRequestException)
        {
            // etcd closes such a connection.
        }

        using Grpc fresh = new(cairn.Url);
        List<string> range = await fresh.Ok(Grpc.Range, new Pb().Text(1, "k"));
        Assert.Equal(0, Schema.Number(range, "count"));
    }

    [Fact]
    public async Task Wire_GarbageOnTheSocket_LeavesTheServerServing()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        Random random = new(3);
        for (int i = 0; i < 40; i++)
        {
            byte[] garbage = new byte[random.Next(1, 4000)];
            random.NextBytes(garbage);
            byte[] start = (i % 4) switch
            {
                0 => [],
                1 => Encoding.ASCII.GetBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
                2 => Encoding.ASCII.GetBytes("PRI * HTT"),
                _ => Encoding.ASCII.GetBytes("POST /etcdserverpb.KV/Put HTTP/1.1\r\n"),
            };
            using System.Net.Sockets.TcpClient client = new();
            await client.ConnectAsync("127.0.0.1", cairn.ClientPort);
            try
            {
                await client.GetStream().WriteAsync(start.Concat(garbage).ToArray());
            }
            catch (IOException)
            {
                // It hung up on us, as it should.
            }
        }

        await cairn.Client.Ok(Grpc.Put, new Pb().Text(1, "alive").Text(2, "yes"));
        Assert.True(cairn.IsRunning);
    }

    [Fact]
    public async Task Directory_InUse_IsRefusedAndItsOwnerGoesOn()
    {
        using TempFolder folder = new();
        await using ServerProcess owner = await ServerProcess.Cairn(folder["data"]);
        await owner.Client.Ok(Grpc.Put, new Pb().Text(1, "k").Text(2, "v"));
        await using ServerProcess second = ServerProcess.Launch(Tools.Cairn, folder["data"]);
        Assert.NotEqual(0, await second.Exit());
        Assert.Contains(folder["data"], second.Log, StringComparison.Ordinal);
        await owner.Client.Ok(Grpc.Put, new Pb().Text(1, "k").Text(2, "w"));
    }

    [Fact]
    public async Task Directory_IsAFile_IsRefused()
    {
        using TempFolder folder = new();
        await File.WriteAllTextAsync(folder["data"], "not a directory");
        await Refused(folder["data"], folder["data"]);
    }

    [Fact]
    public async Task Log_DamagedInItsMiddle_IsRefusedWithPathAndOffset()
    {
        using TempFolder folder = new();
        await MakeDirectory(folder["data"]);
        string segment = Directory.GetFiles(folder["data"] + "/member/wal", "*.wal").Order(StringComparer.Ordinal).First();
        Damage(segment, Find(segment, "value 50 "));
        await Refused(folder["data"], segment, "offset");
    }

    [Fact]
    public async Task Store_BothMetaPagesDamaged_IsRefusedWithPath()
    {
        using TempFolder folder = new();
        await MakeDirectory(folder["data"]);
        string db = folder["data"] + "/member/snap/db";
        Damage(db, 40);
        Damage(db, 4096 + 40);
        await Refused(folder["data"], db);
    }

    [Fact]
    public async Task Store_CutShort_IsRefusedWithPath()
    {
        using TempFolder folder = new();
        await MakeDirectory(folder["data"]);
        string db = folder["data"] + "/member/snap/db";
        using (FileStream file = File.OpenWrite(db))
        {
            file.SetLength(8192);
        }

        await Refused(folder["data"], db);
    }

    [Fact]
    public async Task Store_OfANewerCluster_IsRefusedNamingBothVersions()
    {
        using TempFolder folder = new();
        Finished tar = await Tools.Run("tar", ["--sparse", "-xzf", Path.Combine(Tools.Fixtures, "etcd-3.5-single.tar.gz"), "-C", folder.Path]);
        Assert.True(tar.ExitCode == 0, tar.ToString());
        string data = folder["etcd-3.5-single"];
        string db = data + "/member/snap/db";

        // etcd's pages have no checksums: the version is changed where it stands, in every copy of its page.
        byte[] bytes = await File.ReadAllBytesAsync(db);
        int changed = 0;
        for (int at = 0; (at = bytes.AsSpan(at).IndexOf("clusterVersion3.5.0"u8) is >= 0 and int found ? at + found : -1) >= 0; at++)
        {
            bytes[at + "clusterVersion".Length] = (byte)'9';
            changed++;
        }

        Assert.True(changed > 0);
        await File.WriteAllBytesAsync(db, bytes);
        await Refused(data, "9.5");
    }

    /// <summary>The server ends by itself with an error that names the given words, and leaves every file as it was.</summary>
    private static async Task Refused(string data, params string[] words)
    {
        string before = Fingerprint(data);
        await using ServerProcess server = ServerProcess.Launch(Tools.Cairn, data);
        Assert.True(await server.Exit() != 0, server.Tail());
        foreach (string word in words)
        {
            Assert.True(server.Log.Contains(word, StringComparison.OrdinalIgnoreCase), $"no \"{word}\" in\n{server.Tail()}");
        }

        Assert.Equal(before, Fingerprint(data));
    }

    private static async Task MakeDirectory(string data)
    {
        await using ServerProcess server = await ServerProcess.Cairn(data);
        for (int i = 0; i < 100; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + i).Text(2, $"value {i} of some length"));
        }

        await server.Stop();
    }

    private static string Fingerprint(string data)
    {
        if (File.Exists(data))
        {
            return Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(data)));
        }

        StringBuilder text = new();
        foreach (string path in Directory.GetFiles(data, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            using FileStream file = File.OpenRead(path);
            text.Append(path).Append(' ').Append(file.Length).Append(' ').Append(Convert.ToHexString(SHA256.HashData(file))).Append('\n');
        }

        return text.ToString();
    }

    private static long Find(string path, string text)
    {
        int at = File.ReadAllBytes(path).AsSpan().IndexOf(Encoding.ASCII.GetBytes(text));
        Assert.True(at > 0, $"\"{text}\" is not in {path}");
        return at;
    }

    private static void Damage(string path, long offset)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.ReadWrite);
        file.Position = offset;
        int old = file.ReadByte();
        file.Position = offset;
        file.WriteByte((byte)(old ^ 0x5a));
    }

    private static async Task<string> Outcome(ServerProcess server, string method, byte[] stream, KeyValuePair<string, string>[] metadata)
    {
        using Grpc client = new(server.Url);
        try
        {
            Answer answer = await client.CallRaw(method, stream, metadata, TimeSpan.FromSeconds(10));
            return answer.Code == 13 ? "13" : $"{answer.Code} {answer.Message}";
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            return e is OperationCanceledException ? "no answer" : "connection or stream reset";
        }
    }

    private static byte[] Frame(byte[] message, byte flags)
    {
        byte[] framed = new byte[message.Length + 5];
        framed[0] = flags;
        BinaryPrimitives.WriteInt32BigEndian(framed.AsSpan(1), message.Length);
        message.CopyTo(framed, 5);
        return framed;
    }

    private static byte[] Nested(int depth)
    {
        Pb txn = new();
        for (int i = 0; i < depth; i++)
        {
            txn = new Pb().Message(2, new Pb().Message(4, txn));
        }

        return txn.Bytes;
    }
}
