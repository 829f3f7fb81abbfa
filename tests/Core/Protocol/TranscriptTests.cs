// What a real etcd 3.6.14 answered to 2,188 recorded requests: everything that can be decided from the request alone
// must be decided the same way, by code and by text.
using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Protocol;

public sealed class TranscriptTests
{
    // Outcomes that depend on nothing but the request.
    private static readonly HashSet<string> Static =
    [
        "etcdserver: key is not provided", "etcdserver: value is provided", "etcdserver: lease is provided",
        "etcdserver: too many operations in txn request", "etcdserver: duplicate key given in txn request",
        "etcdserver: invalid sort option",
    ];

    [Fact]
    public void Checks_RecordedRequests_AnswerAsEtcdDid()
    {
        int malformed = 0, refused = 0, accepted = 0;
        foreach (JsonElement step in Steps())
        {
            if (step.GetProperty("k").GetString() != "unary" || step.GetProperty("rq").ValueKind != JsonValueKind.String)
            {
                continue;
            }

            byte[] request = Convert.FromHexString(step.GetProperty("rq").GetString()!);
            ErrorCode? outcome = Decide(step.GetProperty("m").GetString()!, request);
            if (outcome == null)
            {
                continue;
            }

            string at = "step " + step.GetProperty("n").GetInt32();
            int code = step.GetProperty("c").GetInt32();
            string text = step.TryGetProperty("e", out JsonElement e) && e.ValueKind == JsonValueKind.String ? e.GetString()! : "";
            (int ourCode, string ourText) = Errors.Get(outcome.Value);
            if (outcome == ErrorCode.MalformedRequest || code == 13)
            {
                malformed++;
                Assert.True(ourCode == code, $"{at}: {ourCode} {ourText}, recorded {code} {text}");
            }
            else if (outcome != ErrorCode.None)
            {
                refused++;
                Assert.True((ourCode, ourText) == (code, text), $"{at}: {ourCode} {ourText}, recorded {code} {text}");
            }
            else
            {
                accepted++;
                Assert.False(Static.Contains(text), $"{at}: passed, recorded {code} {text}");
            }
        }

        // The recording holds that many; fewer would mean that something was skipped.
        Assert.Equal(32, malformed);
        Assert.True(refused > 130, $"{refused} refused");
        Assert.True(accepted > 1_800, $"{accepted} accepted");
    }

    [Fact]
    public void Canon_RecordedRequests_AreCopiedOrMeanTheSame()
    {
        int copied = 0;
        foreach (JsonElement step in Steps())
        {
            if (step.GetProperty("k").GetString() != "unary" || step.GetProperty("rq").ValueKind != JsonValueKind.String
                || step.GetProperty("m").GetString() != "/etcdserverpb.KV/Txn" || step.GetProperty("c").GetInt32() != 0)
            {
                continue;
            }

            byte[] request = Convert.FromHexString(step.GetProperty("rq").GetString()!);
            Assert.True(RequestCanon.TryReadTxn(request, out TxnRequest txn, out bool unusual));
            CanonPlan plan = RequestCanon.PlanTxn(in txn, unusual);
            byte[] body = new byte[plan.Length];
            plan.WriteTo(body);
            copied += plan.CopiesAsIs ? 1 : 0;
            Assert.Equal(
                SlowProto.Etcd36(SlowSchema.Txn, request)!.Describe(SlowSchema.Txn),
                SlowProto.Book(SlowSchema.Txn, body)!.Describe(SlowSchema.Txn));
        }

        Assert.True(copied > 500, $"{copied} copied");
    }

    internal static IEnumerable<JsonElement> Steps([CallerFilePath] string here = "")
    {
        string path = Path.Combine(Path.GetDirectoryName(here)!, "../../fixtures/transcripts/kv-3.6.14.jsonl.gz");
        using var lines = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        while (lines.ReadLine() is { } line)
        {
            using JsonDocument document = JsonDocument.Parse(line);
            if (document.RootElement.TryGetProperty("n", out _))
            {
                yield return document.RootElement.Clone();
            }
        }
    }

    private static ErrorCode? Decide(string method, byte[] request)
    {
        switch (method)
        {
            case "/etcdserverpb.KV/Range":
                return RangeRequest.TryParse(request, out RangeRequest range) ? RequestChecks.CheckRange(in range) : ErrorCode.MalformedRequest;
            case "/etcdserverpb.KV/Put":
                return PutRequest.TryParse(request, out PutRequest put) ? RequestChecks.CheckPut(in put) : ErrorCode.MalformedRequest;
            case "/etcdserverpb.KV/DeleteRange":
                return DeleteRangeRequest.TryParse(request, out DeleteRangeRequest delete)
                    ? RequestChecks.CheckDeleteRange(in delete)
                    : ErrorCode.MalformedRequest;
            case "/etcdserverpb.KV/Txn":
                return TxnRequest.TryParse(request, out TxnRequest txn) ? RequestChecks.CheckTxn(in txn, 128) : ErrorCode.MalformedRequest;
            case "/etcdserverpb.KV/Compact":
                return CompactionRequest.TryParse(request, out _) ? ErrorCode.None : ErrorCode.MalformedRequest;
            default:
                return null;
        }
    }
}
