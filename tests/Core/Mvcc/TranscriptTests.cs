// TranscriptTests: 2,100 calls recorded from a real etcd 3.6.14, replayed against the store without a server: the
// same checks, the same applies, byte for byte the same answers.
using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

public sealed class TranscriptTests
{
    private static readonly HeaderFields Recorded = new(14444493572007646247, 9674751942088940522, 2);

    [Theory]
    [InlineData(0)] // everything stays in the active buffer
    [InlineData(1)] // every value is read from pages
    [InlineData(7)]
    [InlineData(100)]
    public void KvTranscript_Replayed_AnswersAreEtcds(int freezeEvery)
    {
        using var harness = new StoreHarness { Header = Recorded };
        var differences = new List<string>();
        int compared = 0;
        foreach (JsonElement step in Steps("kv-3.6.14.jsonl.gz"))
        {
            int number = step.GetProperty("n").GetInt32();
            string method = step.TryGetProperty("m", out JsonElement m) ? m.GetString()! : "";
            if (!TryRequest(step, out byte[] request) || step.GetProperty("k").GetString() != "unary")
            {
                continue;
            }

            if (freezeEvery == 0 && step.TryGetProperty("note", out JsonElement note)
                && note.GetString()!.StartsWith("right at the compacted revision", StringComparison.Ordinal))
            {
                continue; // remembered only if each compaction ended before the next was asked for
            }

            if (TryRun(harness, method, request, out ErrorCode error, out byte[] body))
            {
                compared++;
                Compare(step, error, body, differences);
            }

            if (freezeEvery != 0 && number % freezeEvery == 0)
            {
                harness.Freeze();
            }

            if (method.EndsWith("/Compact", StringComparison.Ordinal) && freezeEvery != 0)
            {
                harness.Settle();
            }
        }

        Assert.True(differences.Count == 0, string.Join("\n", differences.GetRange(0, Math.Min(20, differences.Count))));
        Assert.InRange(compared, 2140, 2188);
    }

    private static void Compare(JsonElement step, ErrorCode error, byte[] body, List<string> differences)
    {
        (int code, string message) = Errors.Get(error);
        int expectedCode = step.GetProperty("c").GetInt32();
        string expected = step.TryGetProperty("rs", out JsonElement rs) ? rs.GetString()! : "";
        string actual = Convert.ToHexStringLower(body);
        bool ties = step.TryGetProperty("var", out _); // more than 12 keys tie: the real server's order is arbitrary
        bool same = code == expectedCode
            && (code != 0 || actual == expected || (ties && SameButForTies(actual, expected)))
            && (code is 0 or 13 || message == step.GetProperty("e").GetString());
        if (!same)
        {
            differences.Add(
                $"step {step.GetProperty("n").GetInt32()} {step.GetProperty("m").GetString()} {step.GetProperty("rqj")}\n"
                + $"  expected {expectedCode} {expected}\n  actual   {code} {message} {actual}");
        }
    }

    /// <summary>Which of the tied keys a limit keeps is arbitrary: header, number of pairs, more and count are not.</summary>
    private static bool SameButForTies(string actual, string expected) => Outline(actual) == Outline(expected);

    private static string Outline(string hex)
    {
        string outline = "";
        var reader = new ProtoReader(Convert.FromHexString(hex));
        while (reader.NextField())
        {
            outline += reader.Field == 1 ? Convert.ToHexString(reader.ReadBytes()) + "|"
                : reader.Field == 2 ? (reader.ReadBytes().IsEmpty ? "empty" : "kv|")
                : $"{reader.Field}={reader.ReadVarint()}|";
        }

        return outline;
    }

    private static bool TryRun(StoreHarness harness, string method, byte[] request, out ErrorCode error, out byte[] body)
    {
        body = [];
        switch (method)
        {
            case "/etcdserverpb.KV/Range":
                error = RangeRequest.TryParse(request, out RangeRequest range) ? RequestChecks.CheckRange(range) : ErrorCode.MalformedRequest;
                if (error == ErrorCode.None)
                {
                    (error, body) = harness.Range(request);
                }

                return true;
            case "/etcdserverpb.KV/Put":
                error = PutRequest.TryParse(request, out PutRequest put) ? RequestChecks.CheckPut(put) : ErrorCode.MalformedRequest;
                if (error == ErrorCode.None)
                {
                    (error, body) = harness.Put(request);
                }

                return true;
            case "/etcdserverpb.KV/DeleteRange":
                error = DeleteRangeRequest.TryParse(request, out DeleteRangeRequest delete)
                    ? RequestChecks.CheckDeleteRange(delete)
                    : ErrorCode.MalformedRequest;
                if (error == ErrorCode.None)
                {
                    (error, body) = harness.DeleteRange(request);
                }

                return true;
            case "/etcdserverpb.KV/Txn":
                error = TxnRequest.TryParse(request, out TxnRequest txn) ? RequestChecks.CheckTxn(txn, 128) : ErrorCode.MalformedRequest;
                if (error == ErrorCode.None)
                {
                    (error, body) = RequestChecks.IsReadOnly(txn) ? harness.ReadTxn(request) : harness.Txn(request);
                }

                return true;
            case "/etcdserverpb.KV/Compact":
                (error, body) = harness.Compact(request);
                return true;
            case "/etcdserverpb.Maintenance/HashKV":
                return RunHashKv(harness, request, out error, out body);
            case "/etcdserverpb.Lease/LeaseGrant":
                error = harness.Leases.ApplyGrant(request, harness.Store, out _);
                Assert.Equal(ErrorCode.None, error);
                return false;
            default:
                error = ErrorCode.None;
                return false;
        }
    }

    private static bool RunHashKv(StoreHarness harness, byte[] request, out ErrorCode error, out byte[] body)
    {
        long revision = 0;
        var reader = new ProtoReader(request);
        while (reader.NextField())
        {
            revision = reader.ReadInt64();
        }

        harness.Settle(); // the recorded server had finished its compactions
        error = harness.Store.HashKv(revision, out HashKvResult result);
        var header = new ResponseHeader
        {
            ClusterId = Recorded.ClusterId,
            MemberId = Recorded.MemberId,
            RaftTerm = Recorded.RaftTerm,
            Revision = result.CurrentRevision,
        };
        byte[] bytes = new byte[128];
        var writer = new ProtoWriter(bytes);
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, result.Hash);
        writer.WriteVarintFieldIfSet(3, (ulong)result.CompactRevision);
        writer.WriteVarintFieldIfSet(4, (ulong)result.HashRevision);
        body = writer.Written.ToArray();
        return true;
    }

    private static bool TryRequest(JsonElement step, out byte[] request)
    {
        request = [];
        if (!step.TryGetProperty("rq", out JsonElement rq))
        {
            return false;
        }

        if (rq.ValueKind == JsonValueKind.String)
        {
            request = Convert.FromHexString(rq.GetString()!);
            return true;
        }

        JsonElement rule = step.GetProperty("rq_rule");
        if (step.GetProperty("c").GetInt32() != 0)
        {
            return false; // refused by size, before it is parsed: not the store's business
        }

        byte[] value = new byte[rule.GetProperty("value_len").GetInt32()];
        value.AsSpan().Fill(Convert.ToByte(rule.GetProperty("value_byte").GetString(), 16));
        PutRequest put = default;
        put.Key = System.Text.Encoding.UTF8.GetBytes(rule.GetProperty("key").GetString()!);
        put.Value = value;
        request = new byte[put.Size];
        var writer = new ProtoWriter(request);
        put.Write(ref writer);
        return true;
    }

    private static IEnumerable<JsonElement> Steps(string name, [CallerFilePath] string here = "")
    {
        string path = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../fixtures/transcripts", name));
        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        while (reader.ReadLine() is { } line)
        {
            JsonElement step = JsonDocument.Parse(line).RootElement;
            if (step.GetProperty("k").GetString() != "meta")
            {
                yield return step;
            }
        }
    }
}
