// FixtureTests: the data directory of a real etcd 3.5.30: what it answered is what the store answers on its file,
// and on an empty file after its whole log was applied.
using System;
using System.IO;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

public sealed class FixtureTests
{
    private const long CompactedAt = 736;

    [Fact]
    public void Open_DirectoryOfEtcd_HashesAndDigestsAreEtcds()
    {
        using var harness = new StoreHarness(Path.Combine(Fixture.Single, "member/snap/db"));
        Assert.Equal(800, harness.Store.Revision);
        Assert.Equal(CompactedAt, harness.Store.CompactRevision);
        Assert.Equal(CompactedAt, harness.Store.FinishedCompactRevision);
        Assert.Equal(0x338ul, harness.Store.DurableIndex);
        Assert.Equal(2ul, harness.Store.DurableTerm);
        JsonElement answers = Expected("etcd-3.5-single").GetProperty("after_restart");
        CheckHashes(harness, answers.GetProperty("hashkv"));
        CheckDigests(harness, answers.GetProperty("digests"));
        Assert.Equal(ErrorCode.Compacted, harness.Store.HashKv(735, out _));
        Assert.Equal(ErrorCode.FutureRev, harness.Store.HashKv(801, out _));
        Assert.True(harness.Leases.TryGet(0x296a2053dd59104, out Leases.LeaseInfo first));
        Assert.Equal(20, first.KeyCount);
        Assert.True(harness.Leases.TryGet(0x296a2053dd59106, out Leases.LeaseInfo second));
        Assert.Equal(1, second.KeyCount);
    }

    [Fact]
    public void Open_AuthDirectoryOfEtcd_HashesAreEtcds()
    {
        using var harness = new StoreHarness(Path.Combine(Fixture.Auth, "member/snap/db"));
        Assert.Equal(42, harness.Store.Revision);
        Assert.Equal(-1, harness.Store.CompactRevision);
        Assert.Equal(4141222388u, harness.HashKv(2));
        Assert.Equal(710687317u, harness.HashKv(10));
        Assert.Equal(4042497147u, harness.HashKv(41));
        Assert.Equal(4200646986u, harness.HashKv(42));
        Assert.Equal(4200646986u, harness.HashKv(0));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(50)]
    public void Apply_WholeLogOfEtcd_HashesAreEtcdsBeforeAndAfterCompaction(int freezeEvery)
    {
        JsonElement expected = Expected("etcd-3.5-single");
        using var harness = new StoreHarness();
        int applied = 0;
        foreach (PlainEntry entry in PlainWal.ReadEntries(Path.Combine(Fixture.Single, "member/wal")))
        {
            if (entry.Type != 0 || entry.Data.Length == 0)
            {
                continue;
            }

            Assert.True(InternalRaftRequest.TryParse(entry.Data, out InternalRaftRequest request));
            if (request.Kind == RequestKind.Compaction)
            {
                CheckHashes(harness, expected.GetProperty("hashkv_before_compaction"));
            }

            Apply(harness, request.Kind, request.Body.ToArray());
            if (request.Kind == RequestKind.Compaction)
            {
                harness.Settle();
            }

            if (freezeEvery != 0 && ++applied % freezeEvery == 0)
            {
                harness.Freeze();
            }
        }

        CheckHashes(harness, expected.GetProperty("live").GetProperty("hashkv"));
        CheckDigests(harness, expected.GetProperty("live").GetProperty("digests"));
        harness.Reopen();
        CheckHashes(harness, expected.GetProperty("after_restart").GetProperty("hashkv"));
        CheckDigests(harness, expected.GetProperty("after_restart").GetProperty("digests"));
    }

    private static void Apply(StoreHarness harness, RequestKind kind, byte[] body)
    {
        ErrorCode error = kind switch
        {
            RequestKind.Put => harness.Put(body).Error,
            RequestKind.DeleteRange => harness.DeleteRange(body).Error,
            RequestKind.Txn => harness.Txn(body).Error,
            RequestKind.Compaction => harness.Compact(body).Error,
            RequestKind.LeaseGrant => harness.Leases.ApplyGrant(body, harness.Store, out _),
            _ => ErrorCode.None, // auth and membership: not in the key space
        };
        Assert.Equal(ErrorCode.None, error);
    }

    private static void CheckHashes(StoreHarness harness, JsonElement hashes)
    {
        foreach (JsonProperty line in hashes.EnumerateObject())
        {
            long revision = long.Parse(line.Name.Split(' ')[0]);
            Assert.Equal(ErrorCode.None, harness.Store.HashKv(revision, out HashKvResult result));
            Assert.Equal((revision, line.Value.GetProperty("hash").GetUInt32()), (revision, result.Hash));
            Assert.Equal(line.Value.GetProperty("compact_revision").GetInt64(), result.CompactRevision);
        }
    }

    private static void CheckDigests(StoreHarness harness, JsonElement digests)
    {
        foreach (JsonProperty line in digests.EnumerateObject())
        {
            RangeRequest request = default;
            request.Key = new byte[] { 0 };
            request.RangeEnd = new byte[] { 0 };
            request.Revision = long.Parse(line.Name);
            byte[] bytes = new byte[request.Size];
            var writer = new ProtoWriter(bytes);
            request.Write(ref writer);
            (ErrorCode error, byte[] body) = harness.Range(bytes);
            Assert.Equal(ErrorCode.None, error);
            int keys = 0;
            using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var reader = new ProtoReader(body);
            while (reader.NextField())
            {
                if (reader.Field != 2)
                {
                    reader.Skip();
                    continue;
                }

                Assert.True(KeyValue.TryParse(reader.ReadBytes(), out KeyValue pair));
                keys++;
                string value = Convert.ToHexStringLower(SHA256.HashData(pair.Value));
                sha.AppendData(Encoding.ASCII.GetBytes(
                    $"{Convert.ToHexStringLower(pair.Key)}|{pair.CreateRevision}|{pair.ModRevision}|{pair.Version}|{pair.Lease}|{value}\n"));
            }

            Assert.Equal(line.Value.GetProperty("keys").GetInt32(), keys);
            Assert.Equal(line.Value.GetProperty("sha256").GetString(), Convert.ToHexStringLower(sha.GetHashAndReset()));
        }
    }

    private static JsonElement Expected(string name, [CallerFilePath] string here = "") => JsonDocument
        .Parse(File.ReadAllText(Path.Combine(Path.GetDirectoryName(here)!, "../../fixtures", name + ".expect.json")))
        .RootElement;
}
