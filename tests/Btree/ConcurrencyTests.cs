// Many readers beside the writer: each pins a root and must see exactly that state, whatever is written, freed, shrunk
// and truncated meanwhile. Races that a single-threaded simulation cannot show.
using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Threading;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class ConcurrencyTests
{
    private const int Keys = 2000;

    [Fact]
    public void Readers_BesideTheWriter_SeeExactlyThePinnedState()
    {
        // Every value holds the number of the commit that wrote it; each commit sets one generation for a stripe of
        // keys and the sum over all keys in a bucket of its own. A reader recomputes the sum: any page of another
        // state in between breaks it.
        using TestTree test = new(new TreeOptions { ReserveBytes = 1L << 30, PageSize = 1024, NoSync = true });
        Tree tree = test.Tree;
        long[] values = new long[Keys];
        int[] sizes = new int[Keys];
        Random random = new(17);
        Commit(0);
        using CancellationTokenSource stop = new();
        ConcurrentQueue<Exception> failures = new();
        long reads = 0;
        Thread[] readers = new Thread[3];
        for (int i = 0; i < readers.Length; i++)
        {
            int seed = i;
            readers[i] = new Thread(() =>
            {
                try
                {
                    Random own = new(seed);
                    while (!stop.IsCancellationRequested)
                    {
                        TreePin pin = tree.Pin();
                        Verify(new TreeReader(tree, pin.Root), own, stop.Token);
                        tree.Unpin(pin);
                        Interlocked.Increment(ref reads);
                    }
                }
                catch (Exception e)
                {
                    failures.Enqueue(e);
                }
            });
            readers[i].Start();
        }

        double seconds = double.TryParse(Environment.GetEnvironmentVariable("CAIRN_STRESS_SECONDS"), out double wanted) ? wanted : 2.5;
        long begin = Stopwatch.GetTimestamp();
        int commits = 1;
        while (Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds && failures.IsEmpty)
        {
            Commit(commits++);
            if (commits % 10 == 0)
            {
                tree.AgeResidency();
            }
        }

        stop.Cancel();
        foreach (Thread reader in readers)
        {
            reader.Join();
        }

        Assert.Empty(failures);
        Assert.True(reads > 20 && commits > 20, $"{reads} reads, {commits} commits");
        test.ExpectSound();

        void Commit(int number)
        {
            TreeWriter writer = tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
            int first = random.Next(Keys);
            int count = number == 0 ? Keys : random.Next(1, 200);
            byte[] value = new byte[1600];
            for (int i = 0; i < count; i++)
            {
                int key = number == 0 ? i : (first + i) % Keys;
                values[key] = number + 1;

                // Waves of large and small values make the file grow and shrink.
                sizes[key] = number / 40 % 2 == 0 ? random.Next(8, 1500) : random.Next(8, 40);
                BinaryPrimitives.WriteInt64LittleEndian(value, number + 1);
                bucket.Put(TestTree.Revision(key), value.AsSpan(0, sizes[key]));
            }

            long sum = 0;
            foreach (long v in values)
            {
                sum += v;
            }

            BinaryPrimitives.WriteInt64LittleEndian(value, sum);
            writer.CreateBucketIfMissing("meta"u8).Put("sum"u8, value.AsSpan(0, 8));
            if (number % 3 == 0)
            {
                writer.ShrinkStep(64);
            }

            if (number % 2 == 0)
            {
                writer.Commit();
            }
            else
            {
                ModelTests.PollCommit(writer);
            }
        }
    }

    private static void Verify(TreeReader reader, Random random, CancellationToken stop)
    {
        Assert.True(reader.TryGetBucket("meta"u8, out BucketReader meta));
        Assert.True(meta.TryGet("sum"u8, out ReadOnlySpan<byte> expected));
        long want = BinaryPrimitives.ReadInt64LittleEndian(expected);
        Assert.True(reader.TryGetBucket("key"u8, out BucketReader keys));
        for (int round = 0; round < 3 && !stop.IsCancellationRequested; round++)
        {
            long sum = 0;
            int count = 0;
            TreeCursor cursor = keys.Cursor();
            bool forward = random.Next(2) == 0;
            for (bool more = forward ? cursor.First() : cursor.Last(); more; more = forward ? cursor.Next() : cursor.Prev())
            {
                sum += BinaryPrimitives.ReadInt64LittleEndian(cursor.Value);
                count++;
            }

            Assert.Equal((Keys, want), (count, sum));
            for (int i = 0; i < 50; i++)
            {
                Assert.True(keys.TryGet(TestTree.Revision(random.Next(Keys)), out ReadOnlySpan<byte> value));
                Assert.True(value.Length >= 8);
            }
        }
    }
}
