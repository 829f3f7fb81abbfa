// The rules of txns: overlaps against a naive model written from the rule's words, budgets, order of errors, costs.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Core.Protocol;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Protocol;

public sealed class RequestChecksTests
{
    /// <summary>One operation of a drawn txn.</summary>
    private sealed record Op(char Kind, string Key, string End, List<Op> Then, List<Op> Else);

    private static readonly Gen<string> KeyGen = Gen.OneOf(
        Gen.Char['a', 'e'].Select(c => c.ToString()),
        Gen.Select(Gen.Char['a', 'c'], Gen.Char['a', 'b'], (a, b) => $"{a}{b}"),
        Gen.Char['a', 'c'].Select(c => c + "\0"));

    private static readonly Gen<string> EndGen = Gen.Frequency((2, Gen.Const("")), (1, Gen.Const("\0")), (4, KeyGen));

    [Fact]
    public void Overlap_DrawnTxns_AreJudgedAsTheModelJudgesThem()
    {
        int duplicates = 0, fine = 0;
        Branch(3).Select(Branch(3)).Sample(
            (then, otherwise) =>
            {
                byte[] bytes = Encode(then, otherwise);
                Assert.True(TxnRequest.TryParse(bytes, out TxnRequest txn));
                bool expected = Model(then, out _, out _) && Model(otherwise, out _, out _);
                ErrorCode actual = RequestChecks.CheckTxn(in txn, 1000);
                Assert.Equal(expected ? ErrorCode.None : ErrorCode.DuplicateKey, actual);
                _ = expected ? fine++ : duplicates++;
            },
            iter: 60_000, threads: 1);
        Assert.True(duplicates > 5_000 && fine > 5_000, $"{duplicates} refused, {fine} fine");
    }

    [Fact]
    public void Overlap_ThousandsOfOperations_AreJudgedAsTheModelJudgesThem()
    {
        // Far beyond what fits the stack: 120 nested txns with 90 puts and deletions each, one clash at the very end.
        foreach (bool clash in new[] { false, true })
        {
            var branch = new List<Op>();
            for (int i = 0; i < 120; i++)
            {
                var inner = new List<Op>();
                for (int j = 0; j < 45; j++)
                {
                    inner.Add(new Op('p', $"k{(i * 7919) % 120:d3}/{(j * 31) % 45:d2}", "", [], []));
                    inner.Add(new Op('d', $"k{(i * 7919) % 120:d3}/{(j * 31) % 45:d2}x", "", [], []));
                }

                branch.Add(new Op('t', "", "", inner, inner));
            }

            branch.Add(new Op('p', clash ? "k119/44x" : "k119/44y", "", [], []));
            byte[] bytes = Encode(branch, []);
            Assert.True(TxnRequest.TryParse(bytes, out TxnRequest txn));
            Assert.Equal(!clash, Model(branch, out _, out _));
            Assert.Equal(clash ? ErrorCode.DuplicateKey : ErrorCode.None, RequestChecks.CheckTxn(in txn, 1000));
        }
    }

    [Theory]
    [InlineData(128, ErrorCode.None)]
    [InlineData(129, ErrorCode.TooManyOps)]
    public void Txn_Operations_AreLimitedPerLevel(int count, ErrorCode expected)
    {
        foreach (int list in new[] { 1, 2, 3 })
        {
            var bytes = new List<byte>();
            for (int i = 0; i < count; i++)
            {
                // compare{key a} or an operation range{key a}
                bytes.AddRange(list == 1 ? [0x0a, 0x03, 0x1a, 0x01, 0x61] : new byte[] { (byte)(list == 2 ? 0x12 : 0x1a), 0x05, 0x0a, 0x03, 0x0a, 0x01, 0x61 });
            }

            Assert.True(TxnRequest.TryParse(bytes.ToArray(), out TxnRequest txn));
            Assert.Equal(expected, RequestChecks.CheckTxn(in txn, 128));
        }
    }

    [Theory]
    [InlineData(100, 28, ErrorCode.None)]
    [InlineData(100, 29, ErrorCode.TooManyOps)]
    public void Txn_NestedOperations_GetWhatTheParentLeft(int outer, int inner, ErrorCode expected)
    {
        var nested = new List<Op>();
        for (int i = 0; i < inner; i++)
        {
            nested.Add(new Op('r', "a", "", [], []));
        }

        var branch = new List<Op>();
        for (int i = 1; i < outer; i++)
        {
            branch.Add(new Op('r', "a", "", [], []));
        }

        branch.Add(new Op('t', "", "", nested, []));
        Assert.True(TxnRequest.TryParse(Encode(branch, []), out TxnRequest txn));
        Assert.Equal(expected, RequestChecks.CheckTxn(in txn, 128));
    }

    [Fact]
    public void Txn_OperationWithNothingSet_IsKeyNotFound()
    {
        Assert.True(TxnRequest.TryParse([0x12, 0x00], out TxnRequest txn));
        Assert.Equal(ErrorCode.KeyNotFound, RequestChecks.CheckTxn(in txn, 128));
    }

    [Fact]
    public void ReadOnly_PlainRangesOnly_StayOutOfTheLog()
    {
        Op range = new('r', "a", "", [], []);
        Op put = new('p', "a", "", [], []);
        AssertReadOnly([], [], true, true);
        AssertReadOnly([range], [], true, false);
        AssertReadOnly([range], [put], false, false);
        AssertReadOnly([new Op('t', "", "", [range], [])], [], false, false);

        Assert.True(TxnRequest.TryParse(Convert.FromHexString("12070a050a01613801"), out TxnRequest local));
        Assert.True(RequestChecks.IsReadOnly(in local) && RequestChecks.IsSerializable(in local));

        static void AssertReadOnly(List<Op> then, List<Op> otherwise, bool readOnly, bool serializable)
        {
            Assert.True(TxnRequest.TryParse(Encode(then, otherwise), out TxnRequest txn));
            Assert.Equal(readOnly, RequestChecks.IsReadOnly(in txn));
            Assert.Equal(serializable, RequestChecks.IsSerializable(in txn));
        }
    }

    [Fact]
    public void QuotaCost_LargerBranchCounts_NestedPutsIncluded()
    {
        Op put = new('p', "abc", "", [], []); // 256 + 3 + 5
        Op delete = new('d', "zz", "", [], []);
        Assert.True(TxnRequest.TryParse(Encode([put, delete], [put, new Op('t', "", "", [put], [put, put])]), out TxnRequest txn));
        Assert.Equal(3 * 264, RequestChecks.QuotaCost(in txn));
        Assert.True(TxnRequest.TryParse(Encode([delete], [delete]), out TxnRequest cheap));
        Assert.Equal(0, RequestChecks.QuotaCost(in cheap));
    }

    [Fact]
    public void Checks_UsualRequests_AllocateNothing()
    {
        byte[] bytes = Encode(
            [new Op('p', "a", "", [], []), new Op('p', "b", "", [], []), new Op('d', "c", "d", [], []), new Op('t', "", "", [new Op('p', "x", "", [], [])], [])],
            [new Op('r', "a", "b", [], [])]);
        byte[] put = Convert.FromHexString("0a03666f6f1203626172");
        byte[] body = new byte[bytes.Length];
        Run(100);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run(20_000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Run(int times)
        {
            for (int i = 0; i < times; i++)
            {
                Invariant.Check(RequestCanon.TryReadTxn(bytes, out TxnRequest txn, out bool unusual), "parses");
                Invariant.Check(RequestChecks.CheckTxn(in txn, 128) == ErrorCode.None, "passes");
                Invariant.Check(RequestChecks.QuotaCost(in txn) > 0, "costs");
                RequestCanon.PlanTxn(in txn, unusual).WriteTo(body);
                Invariant.Check(RequestCanon.TryPlanPut(put, out PutRequest request, out CanonPlan plan), "parses");
                Invariant.Check(RequestChecks.CheckPut(in request) == ErrorCode.None, "passes");
                plan.WriteTo(body.AsSpan(0, plan.Length));
            }
        }
    }

    private static Gen<List<Op>> Branch(int depth)
    {
        Gen<Op> put = KeyGen.Select(k => new Op('p', k, "", [], []));
        Gen<Op> delete = Gen.Select(KeyGen, EndGen, (k, e) => new Op('d', k, e, [], []));
        Gen<Op> range = KeyGen.Select(k => new Op('r', k, "", [], []));
        Gen<Op> op = depth == 0
            ? Gen.Frequency((5, put), (2, delete), (1, range))
            : Gen.Frequency(
                (5, put), (2, delete), (1, range),
                (3, Gen.Select(Branch(depth - 1), Branch(depth - 1), (t, e) => new Op('t', "", "", t, e))));
        return op.List[0, 3];
    }

    /// <summary>The rule in its own words, with sets; false: a key is written twice on one path.</summary>
    private static bool Model(List<Op> ops, out HashSet<string> puts, out List<Func<string, bool>> deletes)
    {
        puts = [];
        deletes = [];
        foreach (Op op in ops)
        {
            if (op.Kind == 'd')
            {
                deletes.Add(Cover(op.Key, op.End));
            }
        }

        foreach (Op op in ops)
        {
            if (op.Kind != 't')
            {
                continue;
            }

            if (!Model(op.Then, out HashSet<string> putsThen, out List<Func<string, bool>> deletesThen)
                || !Model(op.Else, out HashSet<string> putsElse, out List<Func<string, bool>> deletesElse))
            {
                return false;
            }

            foreach (HashSet<string> below in new[] { putsThen, putsElse })
            {
                foreach (string key in below)
                {
                    if (puts.Contains(key) || deletes.Exists(covers => covers(key)))
                    {
                        return false;
                    }
                }
            }

            puts.UnionWith(putsThen);
            puts.UnionWith(putsElse);
            deletes.AddRange(deletesThen);
            deletes.AddRange(deletesElse);
        }

        foreach (Op op in ops)
        {
            if (op.Kind == 'p' && (deletes.Exists(covers => covers(op.Key)) || !puts.Add(op.Key)))
            {
                return false;
            }
        }

        return true;
    }

    private static Func<string, bool> Cover(string key, string end) => end.Length == 0
        ? k => k == key
        : k => string.CompareOrdinal(k, key) >= 0 && string.CompareOrdinal(k, end) < 0;

    private static byte[] Encode(List<Op> then, List<Op> otherwise)
    {
        var bytes = new List<byte>();
        foreach ((List<Op> ops, byte tag) in new[] { (then, (byte)0x12), (otherwise, (byte)0x1a) })
        {
            foreach (Op op in ops)
            {
                byte[] inner = op.Kind switch
                {
                    't' => Encode(op.Then, op.Else),
                    'p' => [.. Field(1, op.Key), .. Field(2, "value")],
                    _ => [.. Field(1, op.Key), .. (op.End.Length == 0 ? [] : Field(2, op.End))],
                };
                byte kind = op.Kind switch { 'r' => 0x0a, 'p' => 0x12, 'd' => 0x1a, _ => 0x22 };
                Delimited(bytes, tag, Wrap(kind, inner));
            }
        }

        return [.. bytes];

        static byte[] Field(int number, string text) => Wrap((byte)((number << 3) | 2), Encoding.Latin1.GetBytes(text));

        static byte[] Wrap(byte tag, byte[] body)
        {
            var to = new List<byte>();
            Delimited(to, tag, body);
            return [.. to];
        }

        static void Delimited(List<byte> to, byte tag, byte[] body)
        {
            to.Add(tag);
            MessageGen.Varint(to, (ulong)body.Length);
            to.AddRange(body);
        }
    }
}
