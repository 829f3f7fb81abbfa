// The tree against sorted dictionaries: whatever sequence of puts, deletes, buckets, commits, rollbacks, pins,
// reopenings and shrink steps, both must answer alike, pinned states must not change, and the file must stay sound.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using CsCheck;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class ModelTests
{
    private const int OpenEnds = 12; // kinds of step

    [Fact]
    public void RandomSteps_AgreeWithModel()
    {
        Gen.Select(Gen.Int[0, int.MaxValue], Gen.Int[20, 120])
            .Sample((seed, steps) => Run(seed, steps, 4096, storeFreelist: seed % 3 == 0), iter: 15, threads: 2);
    }

    [Fact]
    public void RandomSteps_SmallPages_AgreeWithModel()
    {
        Gen.Select(Gen.Int[0, int.MaxValue], Gen.Int[20, 120])
            .Sample((seed, steps) => Run(seed, steps, 1024, storeFreelist: seed % 2 == 0), iter: 15, threads: 2);
    }

    private static void Run(int seed, int steps, int pageSize, bool storeFreelist)
    {
        Random random = new(seed);
        using TestTree test = new(new TreeOptions { ReserveBytes = 1L << 30, PageSize = pageSize, NoSync = true, StoreFreelist = storeFreelist });
        ModelBucket committed = new();
        List<(TreePin Pin, ModelBucket State)> pins = new();
        for (int step = 0; step < steps; step++)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            ModelBucket state = committed.Clone();
            int changes = random.Next(1, 60);
            for (int i = 0; i < changes; i++)
            {
                ChangeTop(random, writer, state);
            }

            if (random.Next(3) == 0)
            {
                writer.ShrinkStep(random.Next(1, 50));
            }

            if (random.Next(4) == 0)
            {
                ExpectSameDirty(writer, state);
            }

            switch (random.Next(OpenEnds))
            {
                case 0:
                    writer.Rollback();
                    break;
                case 1:
                    PollCommit(writer);
                    committed = state;
                    break;
                case 2:
                    writer.Commit();
                    committed = state;
                    Unpin(test, pins);
                    test.Reopen();
                    break;
                default:
                    writer.Commit();
                    committed = state;
                    break;
            }

            if (random.Next(4) == 0)
            {
                pins.Add((test.Tree.Pin(), committed));
            }

            if (pins.Count > 0 && random.Next(4) == 0)
            {
                int index = random.Next(pins.Count);
                ExpectSame(new TreeReader(test.Tree, pins[index].Pin.Root), pins[index].State);
                test.Tree.Unpin(pins[index].Pin);
                pins.RemoveAt(index);
            }

            test.ExpectSound();
            if (step % 8 == 0)
            {
                using Pinned pinned = new(test.Tree);
                ExpectSame(pinned.Reader, committed);
            }
        }

        foreach ((TreePin pin, ModelBucket state) in pins)
        {
            ExpectSame(new TreeReader(test.Tree, pin.Root), state);
        }

        Unpin(test, pins);
        test.Reopen();
        test.ExpectSound();
        using Pinned last = new(test.Tree);
        ExpectSame(last.Reader, committed);
    }

    private static void Unpin(TestTree test, List<(TreePin Pin, ModelBucket State)> pins)
    {
        foreach ((TreePin pin, _) in pins)
        {
            test.Tree.Unpin(pin);
        }

        pins.Clear();
    }

    internal static void PollCommit(TreeWriter writer)
    {
        TreeCommit commit = writer.BeginCommit(null);
        long now = 1;
        while (!commit.IsCompleted)
        {
            if (!commit.Poll(now))
            {
                Assert.NotEqual(long.MaxValue, commit.NextDeadlineNs);
                now = Math.Max(now, commit.NextDeadlineNs);
            }
        }
    }

    private static void ChangeTop(Random random, TreeWriter writer, ModelBucket state)
    {
        byte[] name = Encoding.ASCII.GetBytes("b" + random.Next(5));
        string text = Encoding.ASCII.GetString(name);
        if (!state.Buckets.TryGetValue(text, out ModelBucket? model))
        {
            Assert.False(writer.TryGetBucket(name, out _));
            writer.CreateBucket(name);
            state.Buckets[text] = new ModelBucket();
            return;
        }

        if (random.Next(150) == 0)
        {
            Assert.True(writer.DeleteBucket(name));
            state.Buckets.Remove(text);
            return;
        }

        Assert.True(writer.TryGetBucket(name, out TreeBucket? bucket));
        bucket.FillPercent = random.Next(2) == 0 ? 0.9 : 0.5;
        Change(random, bucket, model, depth: 0);
    }

    private static void Change(Random random, TreeBucket bucket, ModelBucket model, int depth)
    {
        int kind = random.Next(20);
        if (kind < 9)
        {
            byte[] key = RandomKey(random);
            if (model.Buckets.ContainsKey(Encoding.Latin1.GetString(key)))
            {
                Assert.Throws<InvalidOperationException>(() => bucket.Put(key, [1]));
                return;
            }

            byte[] value = RandomValue(random);
            bucket.Put(key, value);
            model.Values[key] = value;
        }
        else if (kind < 12)
        {
            // A run of ascending keys, as revisions are.
            int count = random.Next(1, 80);
            int start = random.Next(1 << 20);
            for (int i = 0; i < count; i++)
            {
                byte[] key = TestTree.Revision(start + i);
                byte[] value = RandomValue(random);
                bucket.Put(key, value);
                model.Values[key] = value;
            }
        }
        else if (kind < 15)
        {
            byte[] key = model.Values.Count > 0 && random.Next(4) != 0
                ? model.Values.Keys.ElementAt(random.Next(model.Values.Count))
                : RandomKey(random);
            if (model.Buckets.ContainsKey(Encoding.Latin1.GetString(key)))
            {
                Assert.Throws<InvalidOperationException>(() => bucket.Delete(key));
                return;
            }

            Assert.Equal(model.Values.Remove(key), bucket.Delete(key));
        }
        else if (kind < 17)
        {
            // Many deletes side by side, as a compaction does, by cursor.
            int count = random.Next(1, 120);
            byte[] from = RandomKey(random);
            TreeWriteCursor cursor = bucket.Cursor();
            bool valid = cursor.Seek(from);
            for (int i = 0; i < count && valid; i++)
            {
                if (cursor.IsBucket)
                {
                    valid = cursor.Next();
                    continue;
                }

                Assert.True(model.Values.Remove(cursor.Key.ToArray()));
                valid = cursor.DeleteCurrent();
            }
        }
        else if (kind < 18)
        {
            byte[] key = RandomKey(random);
            bool found = bucket.TryGet(key, out ReadOnlySpan<byte> value);
            Assert.Equal(model.Values.TryGetValue(key, out byte[]? expected), found);
            if (found)
            {
                Assert.True(value.SequenceEqual(expected));
            }
        }
        else if (depth < 3)
        {
            byte[] name = Encoding.ASCII.GetBytes("n" + random.Next(3));
            string text = Encoding.ASCII.GetString(name);
            if (model.Values.ContainsKey(name))
            {
                return;
            }

            if (!model.Buckets.TryGetValue(text, out ModelBucket? inner))
            {
                model.Buckets[text] = inner = new ModelBucket();
            }
            else if (random.Next(10) == 0)
            {
                Assert.True(bucket.DeleteBucket(name));
                model.Buckets.Remove(text);
                return;
            }

            TreeBucket nested = bucket.CreateBucketIfMissing(name);
            int changes = random.Next(1, 10);
            for (int i = 0; i < changes; i++)
            {
                Change(random, nested, inner, depth + 1);
            }
        }
    }

    private static byte[] RandomKey(Random random)
    {
        int length = random.Next(30) == 0 ? random.Next(1, 900) : random.Next(1, 12);
        byte[] key = new byte[length];
        random.NextBytes(key);
        key[0] = (byte)('a' + (key[0] % 20)); // "n?" may collide with bucket names now and then
        return key;
    }

    private static byte[] RandomValue(Random random)
    {
        int kind = random.Next(100);
        int length = kind switch
        {
            < 50 => random.Next(0, 40),
            < 90 => random.Next(0, 400),
            < 98 => random.Next(0, 6000),
            _ => random.Next(0, 60000),
        };
        byte[] value = new byte[length];
        random.NextBytes(value);
        return value;
    }

    private static void ExpectSame(TreeReader reader, ModelBucket model)
    {
        List<string> names = new();
        TreeCursor cursor = reader.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            string name = Encoding.Latin1.GetString(cursor.Key);
            names.Add(name);
            Assert.True(cursor.TryGetBucket(out BucketReader bucket));
            Assert.True(reader.TryGetBucket(cursor.Key, out _));
            ExpectSame(bucket, model.Buckets[name]);
        }

        Assert.Equal(model.Buckets.Keys.ToArray(), names);
    }

    private static void ExpectSame(BucketReader bucket, ModelBucket model)
    {
        byte[][] keys = model.AllKeys();
        TreeCursor cursor = bucket.Cursor();
        int index = 0;
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            Assert.True(cursor.Key.SequenceEqual(keys[index++]));
            if (cursor.TryGetBucket(out BucketReader inner))
            {
                ExpectSame(inner, model.Buckets[Encoding.Latin1.GetString(cursor.Key)]);
                Assert.False(bucket.TryGet(cursor.Key, out _));
            }
            else
            {
                Assert.True(cursor.Value.SequenceEqual(model.Values[cursor.Key.ToArray()]));
                Assert.True(bucket.TryGet(cursor.Key, out ReadOnlySpan<byte> value));
                Assert.True(value.SequenceEqual(cursor.Value));
                Assert.False(bucket.TryGetBucket(cursor.Key, out _));
            }
        }

        Assert.Equal(keys.Length, index);
        for (bool more = cursor.Last(); more; more = cursor.Prev())
        {
            Assert.True(cursor.Key.SequenceEqual(keys[--index]));
        }

        Assert.Equal(0, index);
        Random random = new(keys.Length);
        for (int i = 0; i < 20; i++)
        {
            byte[] target = RandomKey(random);
            int expected = Array.FindIndex(keys, k => k.AsSpan().SequenceCompareTo(target) >= 0);
            Assert.Equal(expected >= 0, cursor.Seek(target));
            if (expected >= 0)
            {
                Assert.True(cursor.Key.SequenceEqual(keys[expected]));
                Assert.Equal(expected > 0, cursor.Prev());
                if (expected > 0)
                {
                    Assert.True(cursor.Key.SequenceEqual(keys[expected - 1]));
                }
            }
        }
    }

    private static void ExpectSameDirty(TreeWriter writer, ModelBucket state)
    {
        foreach ((string name, ModelBucket model) in state.Buckets)
        {
            Assert.True(writer.TryGetBucket(Encoding.Latin1.GetBytes(name), out TreeBucket? bucket));
            byte[][] keys = model.AllKeys();
            TreeWriteCursor cursor = bucket.Cursor();
            int index = 0;
            for (bool more = cursor.First(); more; more = cursor.Next())
            {
                Assert.True(cursor.Key.SequenceEqual(keys[index++]));
                if (!cursor.IsBucket)
                {
                    Assert.True(cursor.Value.SequenceEqual(model.Values[cursor.Key.ToArray()]));
                }
            }

            Assert.Equal(keys.Length, index);
            for (bool more = cursor.Last(); more; more = cursor.Prev())
            {
                Assert.True(cursor.Key.SequenceEqual(keys[--index]));
            }

            Assert.Equal(0, index);
        }
    }

    private readonly struct Pinned : IDisposable
    {
        private readonly Tree _tree;
        private readonly TreePin _pin;

        public Pinned(Tree tree)
        {
            _tree = tree;
            _pin = tree.Pin();
        }

        public TreeReader Reader => new(_tree, _pin.Root);

        public void Dispose() => _tree.Unpin(_pin);
    }

    /// <summary>The obvious implementation.</summary>
    private sealed class ModelBucket
    {
        public SortedDictionary<byte[], byte[]> Values { get; } = new(ByteOrder.Instance);

        public SortedDictionary<string, ModelBucket> Buckets { get; } = new(StringComparer.Ordinal);

        public ModelBucket Clone()
        {
            ModelBucket copy = new();
            foreach ((byte[] key, byte[] value) in Values)
            {
                copy.Values.Add(key, value);
            }

            foreach ((string name, ModelBucket bucket) in Buckets)
            {
                copy.Buckets.Add(name, bucket.Clone());
            }

            return copy;
        }

        public byte[][] AllKeys() =>
            Values.Keys.Concat(Buckets.Keys.Select(Encoding.Latin1.GetBytes)).OrderBy(k => k, ByteOrder.Instance).ToArray();
    }

    private sealed class ByteOrder : IComparer<byte[]>
    {
        public static readonly ByteOrder Instance = new();

        public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
    }
}
