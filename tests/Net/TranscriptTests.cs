// What a real etcd 3.6.14 answered, call by call, through our sockets. Rules of comparison: fixtures' README.
using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class TranscriptTests
{
    // Steps whose answer differs on purpose, by number: RangeStream is served (an addition of 3.7).
    private static readonly HashSet<int> Differing = [198];

    [Fact]
    public async Task Kv_EveryRecordedCall_IsAnsweredAlike()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(Gold(41379, 41380));
        var wrong = new List<string>();
        int compared = 0;
        foreach (JsonElement step in Steps("kv-3.6.14.jsonl.gz"))
        {
            int number = step.TryGetProperty("n", out JsonElement n) ? n.GetInt32() : 0;
            if (step.GetProperty("k").GetString() is not ("unary" or "sstream") || Differing.Contains(number))
            {
                continue;
            }

            var metadata = new List<(string, string)>();
            if (step.TryGetProperty("md", out JsonElement given))
            {
                foreach (JsonProperty pair in given.EnumerateObject())
                {
                    metadata.Add((pair.Name, pair.Value.GetString()!));
                }
            }

            compared++;
            GrpcAnswer answer = await member.Client.CallAsync(
                step.GetProperty("m").GetString()!, RequestOf(step), [.. metadata]);
            string? difference = Compare(step, answer);
            for (int i = 0; i < 200 && difference is not null && step.GetProperty("m").GetString()!.EndsWith("HashKV", StringComparison.Ordinal); i++)
            {
                // The recorded member had finished the compaction before; its hash is remembered from then on.
                await Task.Delay(10);
                difference = Compare(step, await member.Client.CallAsync(step.GetProperty("m").GetString()!, RequestOf(step)));
            }

            if (difference is not null)
            {
                wrong.Add($"step {number} {step.GetProperty("m")} {Cut(step.GetProperty("rq").ToString())}: {difference}");
            }
        }

        Assert.Equal(2178, compared);
        Assert.True(wrong.Count == 0, wrong.Count + " differ:\n" + string.Join('\n', wrong.GetRange(0, Math.Min(20, wrong.Count))));
    }

    [Fact]
    public async Task Http_PlainPages_AreAnsweredAlike()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(Gold(41479, 41480));
        var wrong = new List<string>();
        int compared = 0;
        foreach (JsonElement step in Steps("gateway-3.6.14.jsonl.gz"))
        {
            int number = step.TryGetProperty("n", out JsonElement n) ? n.GetInt32() : 0;
            if (step.GetProperty("k").GetString() != "http" || number > 93)
            {
                continue;
            }

            string path = step.GetProperty("path").GetString()!;
            if (path.StartsWith("/v3", StringComparison.Ordinal) || path.StartsWith("/debug/vars", StringComparison.Ordinal))
            {
                continue; // the JSON gateway and Go's variables: not here yet
            }

            compared++;
            string? difference = await CompareHttpAsync(member.Port, step, path);
            if (difference is not null)
            {
                wrong.Add($"step {number} {step.GetProperty("method")} {path}: {difference}");
            }
        }

        Assert.InRange(compared, 60, 200);
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    private static Func<MemberOptions, MemberOptions> Gold(int clientPort, int peerPort) => options => options with
    {
        Name = "gold",
        InitialClusterToken = "gold-cluster",
        InitialAdvertisePeerUrls = [$"http://127.0.0.1:{peerPort}"],
        AdvertiseClientUrls = [$"http://127.0.0.1:{clientPort}"],
        InitialCluster = [new InitialMember("gold", [$"http://127.0.0.1:{peerPort}"])],
        UnsafeNoSync = true,
    };

    private static byte[] RequestOf(JsonElement step)
    {
        if (step.GetProperty("rq").ValueKind == JsonValueKind.String)
        {
            return Convert.FromHexString(step.GetProperty("rq").GetString()!);
        }

        JsonElement rule = step.GetProperty("rq_rule");
        byte[] value = new byte[rule.GetProperty("value_len").GetInt32()];
        value.AsSpan().Fill(Convert.FromHexString(rule.GetProperty("value_byte").GetString()!)[0]);
        byte[] request = ProtoBytes.Message(ProtoBytes.Text(1, rule.GetProperty("key").GetString()!), ProtoBytes.Bytes(2, value));
        Assert.Equal(rule.GetProperty("total").GetInt32(), request.Length);
        return request;
    }

    private static string? Compare(JsonElement step, GrpcAnswer answer)
    {
        int code = step.GetProperty("c").GetInt32();
        if (code != answer.Code)
        {
            return $"code {answer.Code} \"{answer.Message}\", recorded {code}";
        }

        if (code != 0)
        {
            // The words of a parse error are the protobuf library's.
            string message = step.GetProperty("e").GetString()!;
            return code == 13 || message == answer.Message ? null : $"\"{answer.Message}\", recorded \"{message}\"";
        }

        if (step.TryGetProperty("var", out JsonElement var) && var.GetString() == "ties")
        {
            return null;
        }

        string recorded = step.GetProperty("rs").GetString()!;
        string got = Convert.ToHexStringLower(answer.Single);
        return recorded == got ? null : $"{Cut(got)}, recorded {Cut(recorded)}";
    }

    private static async Task<string?> CompareHttpAsync(int port, JsonElement step, string path)
    {
        var request = new StringBuilder();
        string method = step.GetProperty("method").GetString()!;
        request.Append($"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n");
        if (step.TryGetProperty("headers", out JsonElement headers))
        {
            foreach (JsonProperty header in headers.EnumerateObject())
            {
                request.Append($"{header.Name}: {header.Value.GetString()}\r\n");
            }
        }

        using var socket = new TcpClient();
        await socket.ConnectAsync("127.0.0.1", port);
        NetworkStream stream = socket.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(request.Append("\r\n").ToString()));
        using var reader = new StreamReader(stream, Encoding.Latin1);
        string all = await reader.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(20));
        int end = all.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        string[] head = all[..end].Split("\r\n");
        string body = all[(end + 4)..];
        var got = new SortedDictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (string line in head.AsSpan(1))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            got[line[..colon]] = line[(colon + 2)..];
        }

        foreach (string ignored in new[] { "Date", "Content-Length", "Connection", "Transfer-Encoding" })
        {
            got.Remove(ignored);
        }

        var expected = new SortedDictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (JsonProperty header in step.GetProperty("rh").EnumerateObject())
        {
            expected[header.Name] = header.Value.GetString()!;
        }

        string status = head[0].Split(' ')[1];
        if (status != step.GetProperty("status").GetInt32().ToString())
        {
            return "status " + status;
        }

        if (!AreEqual(expected, got))
        {
            return "headers " + string.Join("; ", got);
        }

        if (step.TryGetProperty("cut", out _) || got.ContainsKey("Content-Encoding"))
        {
            return null;
        }

        // The cluster lives at 3.5 and carries no storage version, so that etcd 3.5 can take it back.
        string recorded = step.GetProperty("rb").GetString()!.Replace(
            "\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"", "\"etcdcluster\":\"3.5.0\",\"storage\":\"unknown\"");
        return recorded == body ? null : "body " + body;
    }

    private static bool AreEqual(SortedDictionary<string, string> a, SortedDictionary<string, string> b)
    {
        if (a.Count != b.Count)
        {
            return false;
        }

        foreach ((string key, string value) in a)
        {
            if (!b.TryGetValue(key, out string? other) || other != value)
            {
                return false;
            }
        }

        return true;
    }

    private static IEnumerable<JsonElement> Steps(string file)
    {
        using FileStream packed = File.OpenRead(Path.Combine(AppContext.BaseDirectory, "fixtures", file));
        using var plain = new StreamReader(new GZipStream(packed, CompressionMode.Decompress));
        while (plain.ReadLine() is string line)
        {
            yield return JsonDocument.Parse(line).RootElement;
        }
    }

    private static string Cut(string text) => text.Length <= 200 ? text : text[..200] + "…";
}
