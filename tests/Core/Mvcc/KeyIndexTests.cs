// KeyIndexTests: the native index against a sorted dictionary, written obviously.
using System;
using System.Collections.Generic;
using System.Text;
using CsCheck;
using Cairn.Core.Mvcc;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

public sealed unsafe class KeyIndexTests
{
    // Keys that share prefixes, end in zero bytes, are prefixes of each other, or are empty.
    private static readonly Gen<byte[]> Key = Gen.OneOf(
        Gen.Byte[0, 3].Array[0, 4],
        Gen.Select(Gen.Int[0, 3], Gen.Byte.Array[0, 3], static (p, tail) => Concat("registry/pods/namespace-"[..(p * 8)], tail)),
        Gen.Select(Gen.Int[0, 300], static i => Encoding.ASCII.GetBytes($"/registry/{i:d5}")),
        Gen.Select(Gen.Int[0, 12], static i => new byte[i]));

    private enum Kind
    {
        Put,
        Delete,
        Compact,
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Index_RandomHistory_IsTheModels(bool exclusive)
    {
        Gen<(Kind, byte[])> operation = Gen.Select(
            Gen.Frequency((6, Gen.Const(Kind.Put)), (3, Gen.Const(Kind.Delete)), (1, Gen.Const(Kind.Compact))), Key);
        operation.Array[0, 400].Sample(
            operations =>
            {
                using var index = new KeyIndex();
                index.Reclaimer.IsExclusive = exclusive;
                index.Reclaimer.CurrentView = 1;
                var model = new RevisionModel();
                long main = 1;
                foreach ((Kind kind, byte[] key) in operations)
                {
                    if (kind == Kind.Compact)
                    {
                        Compact(index, model, main - (key.Length % 3));
                        index.Reclaimer.CurrentView++;
                        index.Reclaimer.Collect(index.Reclaimer.CurrentView, int.MaxValue);
                        continue;
                    }

                    main += Apply(index, model, kind, key, main + 1) ? 1 : 0;
                }

                Compare(index, model, main);
            },
            iter: 150);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    [InlineData(7919)]
    public void Index_ManyKeys_FillsAndEmptiesAgain(int stride)
    {
        const int count = 20_000;
        using var index = new KeyIndex();
        index.Reclaimer.IsExclusive = false;
        var model = new RevisionModel();
        for (int i = 0; i < count; i++)
        {
            int number = (int)(((long)i * stride % count + count) % count);
            Assert.True(Apply(index, model, Kind.Put, Encoding.ASCII.GetBytes($"key/{number:d6}"), i + 2));
        }

        Assert.Equal(count, index.Count);
        Compare(index, model, count + 1);
        for (int i = 0; i < count; i++)
        {
            int number = (int)(((long)i * 6007 % count + count) % count);
            Assert.True(Apply(index, model, Kind.Delete, Encoding.ASCII.GetBytes($"key/{number:d6}"), count + 2 + i));
        }

        Compact(index, model, (2 * count) + 1); // the tombstone right at the compaction stays
        Assert.Equal(1, index.Count);
        Compact(index, model, (2 * count) + 2);
        Assert.Equal(0, index.Count);
        Compare(index, model, (2 * count) + 2);
        index.Reclaimer.Collect(long.MaxValue, int.MaxValue);
        Assert.InRange(index.UsedBytes, 1, 2048); // an empty root leaf
    }

    [Fact]
    public void Index_LongHistoryOfOneKey_EveryRevisionIsFound()
    {
        using var index = new KeyIndex();
        var model = new RevisionModel();
        byte[] key = "k"u8.ToArray();
        for (int main = 2; main < 3000; main++)
        {
            Apply(index, model, main % 700 == 0 ? Kind.Delete : Kind.Put, key, main);
        }

        Compare(index, model, 3000);
        foreach (long at in new long[] { 100, 699, 700, 701, 1399, 1400, 2000, 2998 })
        {
            Compact(index, model, at);
            Compare(index, model, 3000);
        }
    }

    [Fact]
    public void Index_PristineKeys_CostAtMostOneHundredBytesBesideTheKey()
    {
        using var index = new KeyIndex();
        var random = new Random(1);
        byte[] key = new byte[32];
        const int count = 200_000;
        for (int i = 0; i < count; i++)
        {
            random.NextBytes(key);
            Assert.True(index.FindForInsert(key, out int position) == null);
            index.Insert(index.Histories.NewRecord(key, i + 2, 0), position);
        }

        Assert.InRange((index.ReservedBytes / (double)count) - 32, 24, 100);
    }

    private static bool Apply(KeyIndex index, RevisionModel model, Kind kind, byte[] key, long main)
    {
        KeyRecord* record = index.FindForInsert(key, out int position);
        bool live = record != null && KeyHistory.TryGetLive(record, long.MaxValue, out _);
        Assert.Equal(model.IsLive(key), live);
        if (kind == Kind.Delete)
        {
            if (live)
            {
                index.Histories.AppendTombstone(record, main, 0);
                model.Delete(key, main);
            }

            return live;
        }

        if (record == null)
        {
            index.Insert(index.Histories.NewRecord(key, main, KeyHistoryWriter.Pack(0, false, false)), position);
        }
        else
        {
            index.Histories.AppendPut(record, main, KeyHistoryWriter.Pack(0, false, false));
        }

        model.Put(key, main);
        return true;
    }

    private static void Compact(KeyIndex index, RevisionModel model, long at)
    {
        if (at <= model.Compacted)
        {
            return;
        }

        model.Compact(at);
        var dead = new List<byte[]>();
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(default); more; more = cursor.Next())
        {
            if (!index.Histories.Compact(cursor.Current, at))
            {
                dead.Add(KeyRecord.Key(cursor.Current).ToArray());
            }
        }

        foreach (byte[] key in dead)
        {
            index.Remove(key);
        }
    }

    private static void Compare(KeyIndex index, RevisionModel model, long main)
    {
        Assert.Equal(model.Keys.Count, index.Count);
        var cursor = new KeyCursor(index);
        bool more = cursor.Seek(default);
        foreach ((byte[] key, List<ModelRevision> revisions) in model.Keys)
        {
            Assert.True(more);
            Assert.Equal(key, KeyRecord.Key(cursor.Current).ToArray());
            Assert.True(index.Find(key) == cursor.Current);
            CompareHistory(cursor.Current, revisions, model.Compacted, main);
            more = cursor.Next();
        }

        Assert.False(more);

        // A seek lands on the first key at or after, for every key and its neighbours.
        var sorted = new List<byte[]>(model.Keys.Keys);
        for (int i = 0; i < sorted.Count; i++)
        {
            byte[] after = [.. sorted[i], 0];
            bool found = cursor.Seek(after);
            Assert.Equal(i + 1 < sorted.Count, found);
            if (found)
            {
                Assert.Equal(sorted[i + 1], KeyRecord.Key(cursor.Current).ToArray());
            }
        }
    }

    private static void CompareHistory(KeyRecord* record, List<ModelRevision> revisions, long compacted, long main)
    {
        foreach (long at in Interesting(revisions, compacted, main))
        {
            ModelRevision? expected = null;
            foreach (ModelRevision revision in revisions)
            {
                expected = revision.Main <= at ? revision : expected;
            }

            bool found = KeyHistory.TryGet(record, at, out KeyState state);
            Assert.Equal(expected is not null, found);
            if (expected is not null)
            {
                Assert.Equal((expected.Main, expected.IsTombstone), (state.Main, state.IsTombstone));
                if (!expected.IsTombstone)
                {
                    Assert.Equal((expected.Created, expected.Version), (state.Created, state.Version));
                }
            }
        }
    }

    private static IEnumerable<long> Interesting(List<ModelRevision> revisions, long compacted, long main)
    {
        yield return Math.Max(compacted, 0);
        yield return main;
        foreach (ModelRevision revision in revisions)
        {
            for (long at = revision.Main - 1; at <= revision.Main + 1; at++)
            {
                if (at >= compacted)
                {
                    yield return at;
                }
            }
        }
    }

    private static byte[] Concat(string prefix, byte[] tail) => [.. Encoding.ASCII.GetBytes(prefix), .. tail];
}
