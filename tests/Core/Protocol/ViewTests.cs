// The fast views read exactly what a slow obvious reader of etcd 3.6's rules reads, and what goes into the log means
// the same to a decoder by the book.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Protocol;

public sealed class ViewTests
{
    private const int Draws = 20_000;

    [Fact]
    public void Range_AnyBytes_ReadAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.Range).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.Range, data);
                bool parsed = RangeRequest.TryParse(data, out RangeRequest fast);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    Same(slow, fast);
                    Assert.Equal(slow.Has("range_end") && slow.Bytes("range_end").Length == 0, fast.HasEmptyRangeEnd);
                    byte[] written = new byte[fast.Size];
                    var writer = new ProtoWriter(written);
                    fast.Write(ref writer);
                    Assert.Equal(written.Length, writer.Position);
                    Same(SlowProto.Book(SlowSchema.Range, written)!, fast);
                }
            },
            iter: Draws);

    [Fact]
    public void Put_AnyBytes_ReadAndPlannedAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.Put).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.Put, data);
                bool parsed = RequestCanon.TryPlanPut(data, out PutRequest fast, out CanonPlan plan);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    Same(slow, fast);
                    AssertCanonical(SlowSchema.Put, slow, data, plan);
                }
            },
            iter: Draws);

    [Fact]
    public void DeleteRange_AnyBytes_ReadAndPlannedAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.Delete).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.Delete, data);
                bool parsed = RequestCanon.TryPlanDeleteRange(data, out DeleteRangeRequest fast, out CanonPlan plan);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    Same(slow, fast);
                    AssertCanonical(SlowSchema.Delete, slow, data, plan);
                }
            },
            iter: Draws);

    [Fact]
    public void Compaction_AnyBytes_ReadAndPlannedAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.Compaction).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.Compaction, data);
                bool parsed = RequestCanon.TryPlanCompaction(data, out CompactionRequest fast, out CanonPlan plan);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    Assert.Equal((slow.Number("revision"), slow.Flag("physical")), (fast.Revision, fast.Physical));
                    AssertCanonical(SlowSchema.Compaction, slow, data, plan);
                }
            },
            iter: Draws);

    [Fact]
    public void KeyValue_AnyBytes_ReadAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.KeyValue).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.KeyValue, data);
                bool parsed = KeyValue.TryParse(data, out KeyValue fast);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    byte[] written = new byte[fast.Size];
                    var writer = new ProtoWriter(written);
                    fast.Write(ref writer);
                    Assert.Equal(
                        slow.Describe(SlowSchema.KeyValue),
                        SlowProto.Book(SlowSchema.KeyValue, written)!.Describe(SlowSchema.KeyValue));
                }
            },
            iter: Draws);

    [Fact]
    public void Txn_AnyBytes_ReadAndPlannedAsTheReferenceReadsThem() =>
        MessageGen.Of(SlowSchema.Txn, 5).Sample(
            data =>
            {
                SlowTree? slow = SlowProto.Etcd36(SlowSchema.Txn, data);
                bool parsed = RequestCanon.TryReadTxn(data, out TxnRequest fast, out bool unusual);
                Assert.Equal(slow != null, parsed);
                if (slow != null)
                {
                    Same(slow, fast);
                    AssertCanonical(SlowSchema.Txn, slow, data, RequestCanon.PlanTxn(in fast, unusual));
                }
            },
            iter: Draws);

    [Fact]
    public void Drawn_Messages_AreOfEveryKind()
    {
        // Guards the tests above: the generator must really produce refused, copied and rewritten requests.
        int refused = 0, copied = 0, rewritten = 0, byBookOnly = 0, bothWays = 0;
        MessageGen.Of(SlowSchema.Txn, 5).Sample(
            data =>
            {
                bool book = SlowProto.Book(SlowSchema.Txn, data) != null;
                if (!RequestCanon.TryReadTxn(data, out TxnRequest txn, out bool unusual))
                {
                    refused++;
                    byBookOnly += book ? 1 : 0;
                    return;
                }

                bothWays += book ? 1 : 0;
                CanonPlan plan = RequestCanon.PlanTxn(in txn, unusual);
                copied += plan.CopiesAsIs ? 1 : 0;
                rewritten += plan.CopiesAsIs ? 0 : 1;
            },
            iter: 20_000, threads: 1);

        // The draws are new each time: the bounds lie several times below what that many draws give.
        Assert.True(
            refused > 100 && copied > 100 && rewritten > 100 && byBookOnly > 20 && bothWays > 100,
            $"refused {refused}, copied {copied}, rewritten {rewritten}, by book only {byBookOnly}, both ways {bothWays}");
    }

    [Theory]
    [InlineData("0a01611200", true)] // range_end present but empty: an open end, tried on etcd 3.5.30
    [InlineData("0a0161", false)]
    [InlineData("8a80808080000161", false)] // a tag above 32 bits that names field 1
    [InlineData("0a016118818080808080808080" + "7e", false)] // ten bytes of varint with bits that do not fit
    [InlineData("0a0161a3060801ac06", false)] // a group closed by another number
    [InlineData("0a0161a3060005a406", false)] // field number 0 inside a group
    public void Range_BytesThatARealEtcdWasSeenToAccept_AreAccepted(string hex, bool emptyEnd)
    {
        Assert.True(RangeRequest.TryParse(Convert.FromHexString(hex), out RangeRequest request));
        Assert.Equal("a"u8.ToArray(), request.Key.ToArray());
        Assert.Equal(emptyEnd, request.HasEmptyRangeEnd);
    }

    [Fact]
    public void Txn_SamePutTwiceInOneOperation_LastCountsWhole()
    {
        // Tried on etcd 3.5.30: the second request_put has only prev_kv, the answer is "key is not provided".
        byte[] data = Convert.FromHexString("120c12060a01791201311202" + "2001");
        Assert.True(RequestCanon.TryReadTxn(data, out TxnRequest txn, out bool unusual));
        Assert.True(unusual);
        Assert.Equal(ErrorCode.KeyNotProvided, RequestChecks.CheckTxn(in txn, 128));
    }

    [Fact]
    public void Entry_AnyKindAndHeader_RoundTrips()
    {
        RequestKind[] kinds = Array.FindAll(Enum.GetValues<RequestKind>(), k => k is not (RequestKind.None or RequestKind.V2));
        Gen.Select(Gen.OneOfConst(kinds), Gen.Byte.Array[0, 300], Gen.ULong, Gen.Byte.Array[0, 5], Gen.ULong[0, 3]).Sample(
            (kind, body, id, user, revision) =>
            {
                var header = new RequestHeader { Id = id, Username = user, AuthRevision = revision };
                byte[] bytes = new byte[InternalRaftRequest.Size(kind, body.Length, in header)];
                var writer = new ProtoWriter(bytes);
                InternalRaftRequest.Write(ref writer, kind, body, in header);
                Assert.Equal(bytes.Length, writer.Position);
                Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest read));
                Assert.Equal((kind, id, revision), (read.Kind, read.Id, read.AuthRevision));
                Assert.Equal(body, read.Body.ToArray());
                Assert.Equal(user, read.Username.ToArray());
                Assert.True(InternalRaftRequest.IsKnown((int)read.Kind));
            },
            iter: 3_000);
    }

    [Fact]
    public void Put_UsualBytes_AreCopiedAsTheyCame()
    {
        byte[] data = Convert.FromHexString("0a03666f6f1203626172");
        Assert.True(RequestCanon.TryPlanPut(data, out _, out CanonPlan plan));
        Assert.True(plan.CopiesAsIs);
    }

    [Theory]
    [InlineData("0a03666f6f1200", "0a03666f6f")] // an empty value is written, etcd omits it
    [InlineData("0a016112006a0161", "0a0161")] // an unknown field
    [InlineData("0a01610a0162", "0a0162")] // key twice: the last counts
    [InlineData("0a016118feffffffffffffffff7f", "0a016118feffffffffffffffff01")] // ten bytes, too many bits
    [InlineData("1801200028000a0161", null)] // fields in any order, explicit zeros: one reading only
    public void Put_UnusualBytes_AreWrittenAnew(string given, string? expected)
    {
        Assert.True(RequestCanon.TryPlanPut(Convert.FromHexString(given), out _, out CanonPlan plan));
        byte[] body = new byte[plan.Length];
        plan.WriteTo(body);
        Assert.Equal(expected ?? given, Convert.ToHexStringLower(body));
    }

    [Fact]
    public void DeleteRange_ExplicitEmptyRangeEnd_NeverReachesTheLog()
    {
        // etcd reads a present but empty range_end as an open end when it comes out of the log.
        Assert.True(RequestCanon.TryPlanDeleteRange(Convert.FromHexString("0a01611200"), out _, out CanonPlan plan));
        byte[] body = new byte[plan.Length];
        plan.WriteTo(body);
        Assert.Equal("0a0161", Convert.ToHexStringLower(body));
    }

    [Fact]
    public void Txn_OneofMemberZero_IsKeptWhenWrittenAnew()
    {
        // compare{target VALUE, key a, value ""} beside an unknown field: the empty operand is a member of a oneof.
        byte[] data = Convert.FromHexString("0a0710031a01613a005200");
        Assert.True(RequestCanon.TryReadTxn(data, out TxnRequest txn, out bool unusual));
        CanonPlan plan = RequestCanon.PlanTxn(in txn, unusual);
        byte[] body = new byte[plan.Length];
        plan.WriteTo(body);
        Assert.Equal("0a0710031a01613a00", Convert.ToHexStringLower(body));
    }

    [Theory]
    [InlineData(10)]
    [InlineData(127)]
    [InlineData(129)]
    [InlineData(100_000)]
    public void Txn_NestedDeep_IsReadWithoutRecursion(int levels)
    {
        byte[] good = Nested(levels, []);
        byte[] bad = Nested(levels, [0x0b]);
        Assert.True(TxnRequest.TryParse(good, out TxnRequest txn));
        Assert.False(TxnRequest.TryParse(bad, out _));
        Assert.Equal(
            levels <= 128 ? ErrorCode.None : ErrorCode.TooManyOps, RequestChecks.CheckTxn(in txn, 128));
        Assert.Equal(0, RequestChecks.QuotaCost(in txn));
    }

    internal static byte[] Nested(int levels, byte[] innermost)
    {
        // Built from the inside out in one buffer that is reversed at the end.
        var reversed = new List<byte>();
        for (int i = innermost.Length - 1; i >= 0; i--)
        {
            reversed.Add(innermost[i]);
        }

        for (int i = 0; i < levels; i++)
        {
            foreach (byte tag in new byte[] { 0x22, 0x12 }) // request_txn inside success
            {
                var head = new List<byte> { tag };
                MessageGen.Varint(head, (ulong)reversed.Count);
                head.Reverse();
                reversed.AddRange(head);
            }
        }

        reversed.Reverse();
        return [.. reversed];
    }

    private static void AssertCanonical(SlowSchema schema, SlowTree meaning, byte[] source, CanonPlan plan)
    {
        byte[] body = new byte[plan.Length];
        plan.WriteTo(body);
        string expected = meaning.Describe(schema);
        SlowTree? in36 = SlowProto.Etcd36(schema, body);
        SlowTree? in37 = SlowProto.Book(schema, body);
        Assert.True(in36 != null && in37 != null, "every entry decodes in 3.6 and 3.7");
        Assert.Equal(expected, in36.Describe(schema));
        Assert.Equal(expected, in37.Describe(schema));
        Assert.False(SlowProto.HasExplicitEmpty(schema, in36), "no explicit empty bytes in the log");
        if (plan.CopiesAsIs)
        {
            Assert.Equal(source, body);
        }
    }

    private static void Same(SlowTree slow, RangeRequest fast)
    {
        Assert.Equal(slow.Bytes("key"), fast.Key.ToArray());
        Assert.Equal(slow.Bytes("range_end"), fast.RangeEnd.ToArray());
        Assert.Equal(
            (slow.Number("limit"), slow.Number("revision"), slow.Enum("sort_order"), slow.Enum("sort_target")),
            (fast.Limit, fast.Revision, (int)fast.SortOrder, (int)fast.SortTarget));
        Assert.Equal(
            (slow.Flag("serializable"), slow.Flag("keys_only"), slow.Flag("count_only")),
            (fast.Serializable, fast.KeysOnly, fast.CountOnly));
        Assert.Equal(
            (slow.Number("min_mod"), slow.Number("max_mod"), slow.Number("min_create"), slow.Number("max_create")),
            (fast.MinModRevision, fast.MaxModRevision, fast.MinCreateRevision, fast.MaxCreateRevision));
    }

    private static void Same(SlowTree slow, PutRequest fast)
    {
        Assert.Equal(slow.Bytes("key"), fast.Key.ToArray());
        Assert.Equal(slow.Bytes("value"), fast.Value.ToArray());
        Assert.Equal(
            (slow.Number("lease"), slow.Flag("prev_kv"), slow.Flag("ignore_value"), slow.Flag("ignore_lease")),
            (fast.Lease, fast.PrevKv, fast.IgnoreValue, fast.IgnoreLease));
    }

    private static void Same(SlowTree slow, DeleteRangeRequest fast)
    {
        Assert.Equal(slow.Bytes("key"), fast.Key.ToArray());
        Assert.Equal(slow.Bytes("range_end"), fast.RangeEnd.ToArray());
        Assert.Equal(slow.Flag("prev_kv"), fast.PrevKv);
    }

    private static void Same(SlowTree slow, TxnRequest fast)
    {
        List<SlowTree> compares = slow.List("compare");
        Assert.Equal(
            (compares.Count, slow.List("success").Count, slow.List("failure").Count),
            (fast.CompareCount, fast.SuccessCount, fast.FailureCount));
        int i = 0;
        foreach (Compare compare in fast.Compares)
        {
            Same(compares[i++], compare);
        }

        Same(slow.List("success"), fast.Success);
        Same(slow.List("failure"), fast.Branch(false));
    }

    private static void Same(SlowTree slow, Compare fast)
    {
        Assert.Equal((slow.Enum("result"), slow.Enum("target")), ((int)fast.Result, (int)fast.Target));
        Assert.Equal(slow.Bytes("key"), fast.Key.ToArray());
        Assert.Equal(slow.Bytes("range_end"), fast.RangeEnd.ToArray());
        Assert.Equal(slow.Bytes("value"), fast.ValueForTarget.ToArray());
        string[] targets = ["version", "create", "mod", "value", "lease"];
        int target = slow.Enum("target");
        long expected = target is 0 or 1 or 2 or 4 ? slow.Number(targets[target]) : 0;
        Assert.Equal(expected, fast.NumberForTarget);
    }

    private static void Same(List<SlowTree> slow, RequestOpEnumerable fast)
    {
        int i = 0;
        foreach (RequestOp op in fast)
        {
            SlowTree expected = slow[i++];
            switch (op.Kind)
            {
                case RequestOpKind.Range:
                    Same((SlowTree)expected.Values["range"], op.AsRange());
                    break;
                case RequestOpKind.Put:
                    Same((SlowTree)expected.Values["put"], op.AsPut());
                    break;
                case RequestOpKind.DeleteRange:
                    Same((SlowTree)expected.Values["delete"], op.AsDeleteRange());
                    break;
                case RequestOpKind.Txn:
                    Same((SlowTree)expected.Values["txn"], op.AsTxn());
                    break;
                default:
                    Assert.Empty(expected.Values);
                    break;
            }
        }

        Assert.Equal(slow.Count, i);
    }
}
