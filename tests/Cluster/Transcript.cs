// Transcript: recorded steps of a real etcd 3.6.14 (tests/fixtures/transcripts), read from their gzip'd JSON lines.
using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Linq;
using System.Text;
using System.Text.Json;

namespace Cairn.Cluster;

internal sealed record TranscriptStep(int Number, string Kind, JsonElement Json)
{
    public string Method => Json.GetProperty("m").GetString()!;

    public string Variation => Json.TryGetProperty("var", out JsonElement v) ? v.GetString()! : "";

    public int Code => Json.GetProperty("c").GetInt32();

    public string Message => Json.TryGetProperty("e", out JsonElement e) ? e.GetString()! : "";

    /// <summary>Bytes of the request; long ones are described by a rule instead of hex.</summary>
    public byte[] Request
    {
        get
        {
            JsonElement request = Json.GetProperty("rq");
            if (request.ValueKind == JsonValueKind.String)
            {
                return Convert.FromHexString(request.GetString()!);
            }

            JsonElement rule = Json.GetProperty("rq_rule");
            byte[] value = new byte[rule.GetProperty("value_len").GetInt32()];
            string fill = rule.GetProperty("value_byte").GetString()!;
            Array.Fill(value, Convert.ToByte(fill, 16));
            byte[] bytes = new Pb().Text(1, rule.GetProperty("key").GetString()!).Data(2, value).Bytes;
            if (rule.TryGetProperty("total", out JsonElement total))
            {
                Xunit.Assert.Equal(total.GetInt32(), bytes.Length);
            }

            return bytes;
        }
    }

    public byte[] Response => Json.TryGetProperty("rs", out JsonElement rs) ? Convert.FromHexString(rs.GetString()!) : [];

    public IEnumerable<KeyValuePair<string, string>> Metadata => Json.TryGetProperty("md", out JsonElement md)
        ? md.EnumerateObject().Select(p => KeyValuePair.Create(p.Name, p.Value.GetString()!)) : [];
}

internal sealed class Transcript
{
    private Transcript(Identity identity, List<TranscriptStep> steps)
    {
        Identity = identity;
        Steps = steps;
    }

    /// <summary>Name, token and URLs of the recorded member: with them a server has the recorded ids.</summary>
    public Identity Identity { get; }

    public IReadOnlyList<TranscriptStep> Steps { get; }

    public static Transcript Read(string name)
    {
        string path = Path.Combine(Tools.Fixtures, "transcripts", name + ".jsonl.gz");
        using StreamReader reader = new(new GZipStream(File.OpenRead(path), CompressionMode.Decompress), Encoding.UTF8);
        Identity? identity = null;
        List<TranscriptStep> steps = [];
        while (reader.ReadLine() is { } line)
        {
            JsonElement json = JsonDocument.Parse(line).RootElement;
            string kind = json.GetProperty("k").GetString()!;
            if (kind == "meta")
            {
                string[] flags = json.GetProperty("flags").EnumerateArray().Select(f => f.GetString()!).ToArray();
                string Flag(string flag) => flags[Array.IndexOf(flags, flag) + 1];
                identity = new Identity(
                    Flag("--name"), Flag("--initial-cluster-token"), Flag("--initial-advertise-peer-urls"), Flag("--advertise-client-urls"));
                continue;
            }

            steps.Add(new TranscriptStep(json.GetProperty("n").GetInt32(), kind, json));
        }

        return new Transcript(identity!, steps);
    }
}
