// TranscriptTests: the recorded answers of etcd 3.6.14, asked for again.
//
// The member runs under the recorded name, token and advertised URLs, so cluster and member id must be the recorded ones too.
// What may differ is listed in the fixtures' own README; what differs on purpose is listed here, by name.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class TranscriptTests
{
    /// <summary>Methods this version serves; a step of another method is left out, as are answers that show its effect.</summary>
    private static readonly HashSet<string> s_served =
    [
        Grpc.Range, Grpc.Put, Grpc.DeleteRange, Grpc.Txn, Grpc.Compact, Grpc.HashKv, Grpc.Hash, Grpc.Status, Grpc.Alarm,
        Grpc.Snapshot, Grpc.Defragment, Grpc.MemberList, Grpc.MemberAdd, Grpc.MemberRemove, Grpc.MemberUpdate, Grpc.MemberPromote,
        Grpc.MoveLeader, Grpc.LeaseGrant, Grpc.LeaseRevoke, Grpc.LeaseTimeToLive,
        "/grpc.health.v1.Health/Check", "/etcdserverpb.Maintenance/Nope", "/etcdserverpb.Cluster/Nope", "/etcdserverpb.Lease/Nope",
    ];

    /// <summary>Paths whose value depends on when and where (rule 3 of the transcripts' README).</summary>
    private static readonly string[] s_measures =
        ["raftIndex", "raftAppliedIndex", "dbSize", "dbSizeInUse", "remaining_bytes", "blob"];

    [Fact]
    public async Task Kv_EveryRecordedStep_AnswersTheSame()
    {
        Transcript transcript = Transcript.Read("kv-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], transcript.Identity);
        List<string> differences = [];
        foreach (TranscriptStep step in transcript.Steps.Where(s => s.Kind is "unary" or "sstream"))
        {
            // Served by Cairn as an addition of 3.7; 3.6.14 does not know it.
            if (step.Method == Grpc.RangeStream)
            {
                continue;
            }

            if (Tools.SubjectIsEtcd && DiffersInEtcd35(step))
            {
                continue;
            }

            List<string> found = await Compare(server, step, static (_, lines) => lines);

            // The remembered hash of a compaction (rule 7) is there when its background work is done, which no call waits for.
            long limit = Environment.TickCount64 + 10_000;
            while (found.Count > 0 && step.Method == Grpc.HashKv && Environment.TickCount64 < limit)
            {
                await Task.Delay(20);
                found = await Compare(server, step, static (_, lines) => lines);
            }

            differences.AddRange(found);
            Assert.True(differences.Count < 200, Report(server, differences));
        }

        Assert.True(differences.Count == 0, Report(server, differences));
    }

    [Fact]
    public async Task Maintenance_EveryServedStep_AnswersTheSame()
    {
        Transcript transcript = Transcript.Read("cluster-maintenance-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], transcript.Identity);
        List<string> differences = [];
        int compared = 0;
        HashSet<string> skipped = [];
        AddedMembers added = new();
        foreach (TranscriptStep step in transcript.Steps)
        {
            if (step.Kind == "note" && step.Json.GetProperty("text").GetString()!.StartsWith("E.", StringComparison.Ordinal))
            {
                // Sections E and F: the downgrade call and the call that ends the real server.
                break;
            }

            if (step.Kind is not ("unary" or "sstream"))
            {
                continue;
            }

            if (!s_served.Contains(step.Method))
            {
                skipped.Add(step.Method);
                continue;
            }

            compared++;
            differences.AddRange(await Compare(server, step, MaintenanceDifferences, added));
        }

        Assert.True(differences.Count == 0, Report(server, differences));
        Assert.True(compared > 150, $"only {compared} steps compared; left out: {string.Join(", ", skipped)}");
    }

    [Fact]
    public async Task PlainHttp_EveryFixedPath_AnswersTheSame()
    {
        Transcript transcript = Transcript.Read("gateway-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], transcript.Identity);
        List<string> differences = [];
        int compared = 0;
        foreach (TranscriptStep step in transcript.Steps)
        {
            if (step.Kind == "note" && step.Number > 1)
            {
                // Section A holds the plain paths; the JSON gateway is served by a later version.
                break;
            }

            string path = step.Kind == "http" ? step.Json.GetProperty("path").GetString()! : "";

            // Not served yet: the gateway, and Go's own /debug/vars.
            if (step.Kind != "http" || path.StartsWith("/v3", StringComparison.Ordinal) || path == "/debug/vars")
            {
                continue;
            }

            compared++;
            differences.AddRange(await CompareHttp(server, step));
        }

        Assert.True(differences.Count == 0, Report(server, differences));
        Assert.True(compared >= 40, $"only {compared} steps compared");
    }

    /// <summary>
    /// What differs from 3.6.14 on purpose: a fresh Cairn cluster lives at cluster version 3.5.0 and writes no storage version
    /// (so that etcd 3.5 can take the directory back), where 3.6.14 had 3.6.0.
    /// </summary>
    private static IEnumerable<string> MaintenanceDifferences(string method, IEnumerable<string> lines) => method switch
    {
        Grpc.Status => lines.Where(l => !l.StartsWith("storageVersion ", StringComparison.Ordinal)),
        Grpc.Snapshot => lines.Where(l => !l.StartsWith("version ", StringComparison.Ordinal)),
        _ => lines,
    };

    /// <summary>Used only when these tests are tested with etcd 3.5.30 in Cairn's place.</summary>
    private static bool DiffersInEtcd35(TranscriptStep step) =>
        (step.Json.TryGetProperty("note", out JsonElement note) && note.GetString()!.Contains("crashes 3.5", StringComparison.Ordinal))
        || step.Message.EndsWith("invalid sort option", StringComparison.Ordinal)
        || step.Message.EndsWith("invalid client api version", StringComparison.Ordinal);

    private static async Task<List<string>> Compare(
        ServerProcess server, TranscriptStep step, Func<string, IEnumerable<string>, IEnumerable<string>> named,
        AddedMembers? added = null)
    {
        Answer answer = await server.Client.Call(step.Method, added?.Request(step) ?? step.Request, step.Metadata);
        List<string> differences = [];

        // Rule 8: the text of a parse error is the protobuf library's own.
        string expectedMessage = step.Code == 13 ? "" : step.Message;
        string actualMessage = answer.Code == 13 ? "" : answer.Message;
        if (step.Variation.StartsWith("message:", StringComparison.Ordinal) && actualMessage == "etcdserver: Peer URLs already exists")
        {
            // Within the second the recorded text, later this one.
            actualMessage = expectedMessage;
        }

        if (answer.Code != step.Code || actualMessage != expectedMessage)
        {
            differences.Add($"step {step.Number} {step.Method} {Describe(step)}\n  recorded: {step.Code} {step.Message}\n  now:      {answer.Code} {answer.Message}");
            return differences;
        }

        if (step.Kind == "sstream" || step.Code != 0)
        {
            return differences;
        }

        string? response = Schema.Response(step.Method);
        bool ties = step.Variation == "ties";
        List<string> recorded = Prepared(step.Method, Schema.Lines(response, step.Response), named, ties);
        List<string> now = Prepared(
            step.Method, added?.Recorded(step, Schema.Lines(response, answer.Body)) ?? Schema.Lines(response, answer.Body), named, ties);
        if (step.Variation == "hash")
        {
            recorded.RemoveAll(l => l.StartsWith("hash ", StringComparison.Ordinal));
            now.RemoveAll(l => l.StartsWith("hash ", StringComparison.Ordinal));
        }

        if (!recorded.SequenceEqual(now))
        {
            StringBuilder text = new();
            text.Append($"step {step.Number} {step.Method} {Describe(step)}");
            foreach (string line in recorded.Except(now).Take(12))
            {
                text.Append("\n  recorded: ").Append(line);
            }

            foreach (string line in now.Except(recorded).Take(12))
            {
                text.Append("\n  now:      ").Append(line);
            }

            differences.Add(text.ToString());
        }

        return differences;
    }

    private static List<string> Prepared(
        string method, List<string> lines, Func<string, IEnumerable<string>, IEnumerable<string>> named, bool ties)
    {
        IEnumerable<string> left = named(method, lines)
            .Where(l => !s_measures.Any(m => l.StartsWith(m + " = ", StringComparison.Ordinal)));
        if (Tools.SubjectIsEtcd)
        {
            left = left.Where(l => !l.StartsWith("hash_revision ", StringComparison.Ordinal)
                && !l.StartsWith("version ", StringComparison.Ordinal) && !l.StartsWith("downgradeInfo", StringComparison.Ordinal)
                && !l.StartsWith("dbSizeQuota", StringComparison.Ordinal));
        }

        if (ties)
        {
            // Rule 6: which of the equal keys come, and in which order, is the sort's own business; how many is not.
            left = left.Where(l => !l.StartsWith("kvs[", StringComparison.Ordinal) || l.EndsWith(" {}", StringComparison.Ordinal));
        }

        List<string> list = left.ToList();

        // Rule 1: members in any order.
        if (method.StartsWith("/etcdserverpb.Cluster/", StringComparison.Ordinal))
        {
            list = list.Where(l => !l.StartsWith("members[", StringComparison.Ordinal)).Concat(list
                .Where(l => l.StartsWith("members[", StringComparison.Ordinal)).GroupBy(l => l[..l.IndexOf(']', StringComparison.Ordinal)])
                .Select(member => string.Join(' ', member.Select(l => l[l.IndexOf(']', StringComparison.Ordinal)..]))).Order(StringComparer.Ordinal)).ToList();
        }

        // Rule 1: alarms in any order.
        if (method == Grpc.Alarm)
        {
            list = list.Where(l => !l.StartsWith("alarms[", StringComparison.Ordinal)).Concat(list
                .Where(l => l.StartsWith("alarms[", StringComparison.Ordinal)).GroupBy(l => l[..l.IndexOf(']', StringComparison.Ordinal)])
                .Select(alarm => string.Join(' ', alarm.Select(l => l[l.IndexOf(']', StringComparison.Ordinal)..]))).Order(StringComparer.Ordinal)).ToList();
        }

        // Rule 4: keys of TimeToLive in any order, TTL up to 2 s down.
        if (method == Grpc.LeaseTimeToLive)
        {
            list.RemoveAll(l => l.StartsWith("TTL ", StringComparison.Ordinal));
            List<string> keys = list.Where(l => l.StartsWith("keys[", StringComparison.Ordinal))
                .Select(l => l[l.IndexOf('=', StringComparison.Ordinal)..]).Order(StringComparer.Ordinal).ToList();
            list.RemoveAll(l => l.StartsWith("keys[", StringComparison.Ordinal));
            list.AddRange(keys);
        }

        return list;
    }

    private static string Describe(TranscriptStep step)
    {
        string text = step.Json.TryGetProperty("rqj", out JsonElement rq) ? rq.GetRawText() : "";
        string note = step.Json.TryGetProperty("note", out JsonElement n) ? " (" + n.GetString() + ")" : "";
        return (text.Length > 600 ? text[..600] + "…" : text) + note;
    }

    private static async Task<List<string>> CompareHttp(ServerProcess server, TranscriptStep step)
    {
        string method = step.Json.GetProperty("method").GetString()!;
        string path = step.Json.GetProperty("path").GetString()!;
        string body = step.Json.TryGetProperty("body", out JsonElement b) ? b.GetString()! : "";
        List<KeyValuePair<string, string>> headers = step.Json.TryGetProperty("headers", out JsonElement h)
            ? h.EnumerateObject().Select(p => KeyValuePair.Create(p.Name, p.Value.GetString()!)).ToList() : [];
        PlainHttp.Reply reply = await PlainHttp.Send(server.ClientPort, method, path, headers, Encoding.UTF8.GetBytes(body));
        List<string> differences = [];
        void Check(string what, string recorded, string now)
        {
            if (recorded != now)
            {
                differences.Add($"step {step.Number} {method} {path}: {what}\n  recorded: {recorded}\n  now:      {now}");
            }
        }

        Check("status", $"{step.Json.GetProperty("status").GetInt32()} {step.Json.GetProperty("reason").GetString()}", $"{reply.Status} {reply.Reason}");
        string recordedBody = step.Json.GetProperty("rb").GetString()!;
        string nowBody = Encoding.UTF8.GetString(reply.Body);
        if (step.Json.TryGetProperty("cut", out JsonElement cut))
        {
            // Only the beginning was recorded; of the metrics page, which begins with the first name in the alphabet, even
            // less counts, as not every metric exists yet.
            int length = Math.Min(cut.GetInt32(), path == "/metrics" ? "# HELP etcd_".Length : int.MaxValue);
            nowBody = nowBody[..Math.Min(nowBody.Length, length)];
            recordedBody = recordedBody[..Math.Min(recordedBody.Length, length)];
        }

        if (path == "/version" && recordedBody.Length > 0 && step.Code() == 200)
        {
            // The cluster version is 3.5.0 on purpose, and there is no storage version then (as in MaintenanceDifferences).
            recordedBody = recordedBody.Replace("\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"", "\"etcdcluster\":\"3.5.0\",\"storage\":\"unknown\"", StringComparison.Ordinal);
        }

        if (path.StartsWith("/readyz?", StringComparison.Ordinal))
        {
            recordedBody = string.Join('\n', recordedBody.Split('\n').Order(StringComparer.Ordinal));
            nowBody = string.Join('\n', nowBody.Split('\n').Order(StringComparer.Ordinal));
        }

        if (recordedBody.StartsWith("{\"health\"", StringComparison.Ordinal))
        {
            recordedBody = Canonical(recordedBody);
            nowBody = Canonical(nowBody);
        }

        Check("body", recordedBody, nowBody);
        string Headers(IEnumerable<KeyValuePair<string, string>> all) => string.Join("; ", all
            .Where(p => p.Key is not ("Date" or "Content-Length" or "Connection" or "Transfer-Encoding"))
            .Select(p => $"{p.Key}: {p.Value}").Order(StringComparer.OrdinalIgnoreCase));
        Check("headers", Headers(step.Json.GetProperty("rh").EnumerateObject().Select(p => KeyValuePair.Create(p.Name, p.Value.GetString()!))), Headers(reply.Headers));
        return differences;
    }

    private static string Canonical(string json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return JsonSerializer.Serialize(document.RootElement);
        }
        catch (JsonException)
        {
            return json;
        }
    }

    private static string Report(ServerProcess server, List<string> differences) =>
        $"{differences.Count} steps differ:\n{string.Join('\n', differences.Take(40))}\n\nserver log:\n{server.Tail()}";
}

/// <summary>Members that a transcript adds: their ids hang on the clock, so ours stand for the recorded ones.</summary>
internal sealed class AddedMembers
{
    private readonly Dictionary<string, string> _ours = []; // by recorded id

    /// <summary>The request with our id where the recorded one was; null when the step names no added member.</summary>
    public byte[]? Request(TranscriptStep step)
    {
        if (!step.Json.TryGetProperty("idref", out JsonElement reference))
        {
            return null;
        }

        string field = reference.GetProperty("field").GetString()!;
        string recorded = step.Json.GetProperty("rqj").GetProperty(field).GetRawText();
        Pb request = new Pb().Number(1, (long)ulong.Parse(_ours[recorded], System.Globalization.CultureInfo.InvariantCulture));
        if (step.Json.GetProperty("rqj").TryGetProperty("peerURLs", out JsonElement urls))
        {
            foreach (JsonElement url in urls.EnumerateArray())
            {
                request.Text(2, url.GetString()!);
            }
        }

        return request.Bytes;
    }

    /// <summary>Our answer with recorded ids; an add teaches the pair.</summary>
    public List<string> Recorded(TranscriptStep step, List<string> lines)
    {
        if (step.Method == Grpc.MemberAdd)
        {
            string recorded = Schema.Value(Schema.Lines(Schema.Response(step.Method), step.Response), "member.ID");
            _ours[recorded] = Schema.Value(lines, "member.ID");
        }

        return lines.ConvertAll(line =>
        {
            foreach ((string recorded, string ours) in _ours)
            {
                line = line.EndsWith(" = " + ours, StringComparison.Ordinal) ? line[..^ours.Length] + recorded : line;
            }

            return line;
        });
    }
}

internal static class TranscriptStepHttp
{
    /// <summary>HTTP status of a recorded HTTP step.</summary>
    public static int Code(this TranscriptStep step) => step.Json.GetProperty("status").GetInt32();
}
