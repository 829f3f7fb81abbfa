// StoreModelTests: long seeded streams of requests against store and model: every answer equal, across freezes,
// compactions, background work in any state, clean restarts and crashes that lose what was not frozen.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

public sealed class StoreModelTests
{
    private const int Steps = 2500;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Store_RandomStream_AnswersAreTheModels(int seed)
    {
        var random = new Random(seed);
        using var harness = new StoreHarness(compactionBatchLimit: random.Next(1, 40));
        var model = new StoreModel();
        Grant(harness, model, 11);
        Grant(harness, model, 12);
        for (int step = 0; step < Steps; step++)
        {
            Background(harness, random);
            Op op = NextOp(random, model, depth: 0);
            (ErrorCode Error, string Text) expected;
            (ErrorCode Error, string Text) actual;
            if (op is RangeOp range)
            {
                expected = model.Range(range);
                (ErrorCode error, byte[] body) = harness.Range(range.Encode());
                actual = (error, error == ErrorCode.None ? Answers.Range(body) : "");
            }
            else if (random.Next(60) == 0)
            {
                Compact(harness, model, random);
                continue;
            }
            else
            {
                byte[] bytes = op.Encode();
                if (op is TxnOp && (!TxnRequest.TryParse(bytes, out TxnRequest txn) || RequestChecks.CheckTxn(txn, 128) != ErrorCode.None))
                {
                    continue; // refused at admission: never applied
                }

                expected = model.Apply(op);
                harness.WantsResponse = random.Next(4) != 0;
                actual = Apply(harness, op, bytes);
                if (!harness.WantsResponse)
                {
                    Assert.Contains(actual.Text, (string[])["", "put ", "delete ", "txn "]); // nobody waits: nothing is encoded
                    actual.Text = expected.Text;
                }
            }

            Assert.True(expected == actual, $"seed {seed} step {step} {op}\nexpected {expected}\nactual   {actual}");
            Assert.Equal(model.Revision, harness.Store.Revision);
        }

        CompareEverything(harness, model);
        harness.Reopen();
        CompareEverything(harness, model);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Store_CrashAtAnyPoint_ReopensAtTheLastFreeze(int seed)
    {
        var random = new Random(seed);
        using var harness = new StoreHarness(compactionBatchLimit: 3);
        var log = new List<(Op? Op, long Compact)>(); // what a raft log would replay
        int frozenAt = 0;
        var model = new StoreModel();
        for (int round = 0; round < 12; round++)
        {
            for (int step = 0; step < 60; step++)
            {
                if (random.Next(25) == 0)
                {
                    long at = random.NextInt64(Math.Max(model.Revisions.Compacted, 0), model.Revision + 1);
                    log.Add((null, at));
                }
                else
                {
                    Op op = NextOp(random, model, depth: 2);
                    log.Add((op is RangeOp ? new PutOp([(byte)'x'], [1]) : op, 0));
                }

                Replay(harness, model, log[^1]);
                if (random.Next(20) == 0)
                {
                    harness.Freeze();
                    frozenAt = log.Count;
                }

                if (random.Next(3) == 0)
                {
                    _ = harness.Step();
                }
            }

            harness.Crash();

            // The model starts over with what was frozen; the rest of the log is applied again to both.
            model = new StoreModel();
            for (int i = 0; i < frozenAt; i++)
            {
                Replay(null, model, log[i]);
            }

            CompareEverything(harness, model);
            for (int i = frozenAt; i < log.Count; i++)
            {
                Replay(harness, model, log[i]);
            }

            CompareEverything(harness, model);
        }
    }

    [Fact]
    public void HashKv_AfterTheSameLog_DoesNotDependOnFreezesOrBackground()
    {
        uint[]? first = null;
        for (int variant = 0; variant < 4; variant++)
        {
            var random = new Random(42); // the requests
            var timing = new Random(variant); // freezes and background
            using var harness = new StoreHarness(compactionBatchLimit: 5);
            var model = new StoreModel();
            for (int step = 0; step < 400; step++)
            {
                Op op = NextOp(random, model, depth: 2);
                if (op is not RangeOp)
                {
                    _ = model.Apply(op);
                    _ = Apply(harness, op, op.Encode());
                }

                if (variant > 0 && timing.Next(5) == 0)
                {
                    harness.Freeze();
                }

                if (step == 200)
                {
                    model.Revisions.Compact(model.Revision - 10);
                    Assert.Equal(ErrorCode.None, harness.Compact(CompactBytes(model.Revision - 10)).Error);
                }
            }

            if (variant % 2 == 1)
            {
                harness.Settle();
            }

            uint[] hashes = [harness.HashKv(0), harness.HashKv(model.Revision - 5), harness.HashKv(model.Revisions.Compacted + 1)];
            first ??= hashes;
            Assert.Equal(first, hashes);
        }
    }

    private static void Replay(StoreHarness? harness, StoreModel model, (Op? Op, long Compact) entry)
    {
        if (entry.Op is not null)
        {
            (ErrorCode, string) expected = model.Apply(entry.Op);
            if (harness is not null)
            {
                Assert.Equal(expected, Apply(harness, entry.Op, entry.Op.Encode()));
            }

            return;
        }

        bool accepted = entry.Compact > model.Revisions.Compacted && entry.Compact <= model.Revision;
        if (accepted)
        {
            model.Revisions.Compact(entry.Compact);
        }

        if (harness is not null)
        {
            Assert.Equal(accepted, harness.Compact(CompactBytes(entry.Compact)).Error == ErrorCode.None);
        }
    }

    private static (ErrorCode Error, string Text) Apply(StoreHarness harness, Op op, byte[] bytes)
    {
        (ErrorCode error, byte[] body) = op switch
        {
            PutOp => harness.Put(bytes),
            DeleteOp => harness.DeleteRange(bytes),
            TxnOp => harness.Txn(bytes),
            _ => throw new InvalidOperationException(),
        };
        return (error, error != ErrorCode.None ? "" : op switch
        {
            PutOp => Answers.Put(body),
            DeleteOp => Answers.Delete(body),
            _ => Answers.Txn(body),
        });
    }

    private static void Background(StoreHarness harness, Random random)
    {
        switch (random.Next(40))
        {
            case 0:
                harness.Freeze();
                break;
            case 1:
                harness.Settle();
                break;
            case 2 when random.Next(20) == 0:
                harness.Reopen();
                break;
            case < 20:
                _ = harness.Step();
                break;
        }
    }

    private static void Compact(StoreHarness harness, StoreModel model, Random random)
    {
        long at = random.NextInt64(model.Revisions.Compacted - 1, model.Revision + 2);
        ErrorCode expected = at <= model.Revisions.Compacted ? ErrorCode.Compacted : at > model.Revision ? ErrorCode.FutureRev : ErrorCode.None;
        Assert.Equal(expected, harness.Compact(CompactBytes(at)).Error);
        if (expected == ErrorCode.None)
        {
            model.Revisions.Compact(at);
        }
    }

    private static byte[] CompactBytes(long revision)
    {
        byte[] buffer = new byte[16];
        var writer = new ProtoWriter(buffer);
        writer.WriteVarintFieldIfSet(1, (ulong)revision);
        return writer.Written.ToArray();
    }

    private static void Grant(StoreHarness harness, StoreModel model, long id)
    {
        byte[] buffer = new byte[32];
        var writer = new ProtoWriter(buffer);
        writer.WriteVarintField(1, 1000);
        writer.WriteVarintField(2, (ulong)id);
        Assert.Equal(ErrorCode.None, harness.Leases.ApplyGrant(writer.Written, harness.Store, out _));
        model.Leases.Add(id);
    }

    /// <summary>Every readable revision, and the keys of every lease.</summary>
    private static void CompareEverything(StoreHarness harness, StoreModel model)
    {
        Assert.Equal(model.Revision, harness.Store.Revision);
        Assert.Equal(model.Revisions.Compacted, harness.Store.CompactRevision);
        for (long at = Math.Max(1, model.Revisions.Compacted); at <= model.Revision; at++)
        {
            var everything = new RangeOp([0], [0]) { Revision = at };
            (ErrorCode error, byte[] body) = harness.Range(everything.Encode());
            Assert.Equal(ErrorCode.None, error);
            Assert.Equal(model.Range(everything).Text, Answers.Range(body));
        }

        using var keys = new LeaseKeySet();
        foreach (long lease in model.Leases)
        {
            int expected = 0;
            foreach (byte[] key in model.Revisions.Keys.Keys)
            {
                expected += model.Revisions.Newest(key, long.MaxValue) is { IsTombstone: false } newest && newest.Lease == lease ? 1 : 0;
            }

            Assert.True(harness.Leases.TryGet(lease, out LeaseInfo info));
            Assert.Equal(expected, info.KeyCount);
        }
    }

    private static byte[] Key(Random random) => Encoding.ASCII.GetBytes(random.Next(4) switch
    {
        0 => $"a{random.Next(3)}",
        1 => $"b/{random.Next(12):d2}",
        2 => "b/",
        _ => $"c/{(char)random.Next('a', 'h')}",
    });

    private static byte[] End(Random random) => random.Next(5) switch
    {
        0 => [0],
        1 => "c/"u8.ToArray(),
        2 => Key(random),
        _ => [],
    };

    private static byte[] Value(Random random)
    {
        byte[] value = new byte[random.Next(20) == 0 ? random.Next(9000) : random.Next(6)];
        random.NextBytes(value);
        return value;
    }

    private static Op NextOp(Random random, StoreModel model, int depth)
    {
        switch (random.Next(depth == 0 ? 12 : 9))
        {
            case 0 or 1 or 2:
                return new RangeOp(Key(random), End(random))
                {
                    Limit = random.Next(3) == 0 ? random.Next(-1, 5) : 0,
                    Revision = random.Next(2) == 0 ? random.NextInt64(model.Revisions.Compacted - 2, model.Revision + 2) : 0,
                    Order = random.Next(3),
                    Target = random.Next(5),
                    KeysOnly = random.Next(4) == 0,
                    CountOnly = random.Next(8) == 0,
                    MinMod = Filter(random, model),
                    MaxMod = Filter(random, model),
                    MinCreate = Filter(random, model),
                    MaxCreate = Filter(random, model),
                };
            case 3 or 4 or 5 or 6:
                bool ignoreValue = random.Next(8) == 0;
                bool ignoreLease = random.Next(8) == 0;
                return new PutOp(Key(random), ignoreValue ? [] : Value(random))
                {
                    IgnoreValue = ignoreValue,
                    IgnoreLease = ignoreLease,
                    Lease = ignoreLease || model.Leases.Count == 0 || random.Next(3) != 0 ? 0 : random.Next(10) == 0 ? 99 : 11 + random.Next(2),
                    PrevKv = random.Next(3) == 0,
                };
            case 7:
                return new DeleteOp(Key(random), random.Next(4) == 0 ? End(random) : [], random.Next(2) == 0);
            default:
                if (depth > 1)
                {
                    return new PutOp(Key(random), Value(random));
                }

                return new TxnOp(
                    Many(random, 2, () => NextCompare(random, model)),
                    Many(random, 4, () => NextOp(random, model, depth + 1)),
                    Many(random, 3, () => NextOp(random, model, depth + 1)));
        }
    }

    private static long Filter(Random random, StoreModel model) => random.Next(8) == 0 ? random.NextInt64(1, model.Revision + 2) : 0;

    private static CompareOp NextCompare(Random random, StoreModel model) => new(
        random.Next(4),
        random.Next(5),
        Key(random),
        End(random),
        random.Next(2) == 0 ? random.Next(3) : random.NextInt64(0, model.Revision + 1),
        Value(random));

    private static T[] Many<T>(Random random, int max, Func<T> make)
    {
        var items = new T[random.Next(max + 1)];
        for (int i = 0; i < items.Length; i++)
        {
            items[i] = make();
        }

        return items;
    }
}
