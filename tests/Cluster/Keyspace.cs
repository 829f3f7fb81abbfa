// Keyspace: what a store holds, told in a few lines that can be compared: a digest of all pairs at a revision, the hash, the
// revisions. The digest is the one the fixtures' own README defines.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

internal static class Keyspace
{
    /// <summary>Number of keys and SHA-256 over one line per pair, ascending by key.</summary>
    public static async Task<(int Keys, string Sha256)> Digest(
        ServerProcess server, long revision, IEnumerable<KeyValuePair<string, string>>? metadata = null)
    {
        Answer answer = await server.Client.Call(
            Grpc.Range, new Pb().Data(1, [0]).Data(2, [0]).Number(4, revision).Bytes, metadata);
        Assert.True(answer.Code == 0, $"range at {revision}: {answer}");
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        int keys = 0;
        foreach (Pair pair in Pairs(answer.Body))
        {
            keys++;
            string value = Convert.ToHexStringLower(SHA256.HashData(pair.Value));
            hash.AppendData(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture,
                $"{Convert.ToHexStringLower(pair.Key)}|{pair.CreateRevision}|{pair.ModRevision}|{pair.Version}|{pair.Lease}|{value}\n")));
        }

        return (keys, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    /// <summary>Everything that must survive a change of server, as text.</summary>
    public static async Task<string> Describe(ServerProcess server, IEnumerable<KeyValuePair<string, string>>? metadata = null)
    {
        List<string> range = await server.Client.Ok(Grpc.Range, new Pb().Text(1, "x"), metadata);
        (int keys, string digest) = await Digest(server, 0, metadata);
        (long hash, long compacted) = await server.HashKv(0, metadata);
        return string.Create(CultureInfo.InvariantCulture,
            $"revision {Schema.Number(range, "header.revision")}, {keys} keys {digest}, hash {hash}, compacted {compacted}");
    }

    /// <summary>The pairs of a RangeResponse.</summary>
    public static List<Pair> Pairs(byte[] rangeResponse)
    {
        List<Pair> pairs = [];
        Cairn.Base.ProtoReader reader = new(rangeResponse);
        while (reader.NextField())
        {
            if (reader.Field == 2)
            {
                pairs.Add(Read(reader.ReadBytes()));
            }
            else
            {
                reader.Skip();
            }
        }

        Assert.False(reader.Failed);
        return pairs;
    }

    private static Pair Read(ReadOnlySpan<byte> body)
    {
        Pair pair = new();
        Cairn.Base.ProtoReader reader = new(body);
        while (reader.NextField())
        {
            pair = reader.Field switch
            {
                1 => pair with { Key = reader.ReadBytes().ToArray() },
                2 => pair with { CreateRevision = reader.ReadInt64() },
                3 => pair with { ModRevision = reader.ReadInt64() },
                4 => pair with { Version = reader.ReadInt64() },
                5 => pair with { Value = reader.ReadBytes().ToArray() },
                6 => pair with { Lease = reader.ReadInt64() },
                _ => throw new InvalidOperationException("unknown field in a KeyValue"),
            };
        }

        Assert.False(reader.Failed);
        return pair;
    }

    internal sealed record Pair
    {
        public byte[] Key { get; init; } = [];

        public byte[] Value { get; init; } = [];

        public long CreateRevision { get; init; }

        public long ModRevision { get; init; }

        public long Version { get; init; }

        public long Lease { get; init; }
    }
}
