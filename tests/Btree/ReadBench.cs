// Question  what do a point read, a scanned entry and an open cost?
// Answer    1.2 us of CPU a point read in random order over 360 MiB, 20 ns a scanned entry, 3 ms a MiB to open with the
//           full check; two cores shared by eight builds (a quiet machine takes about half).
// Runs large with CAIRN_BENCH=1, tiny otherwise.
using System;
using System.Diagnostics;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Btree.Tests;

public sealed class ReadBench
{
    private readonly ITestOutputHelper _output;

    public ReadBench(ITestOutputHelper output) => _output = output;

    [Fact]
    public void PointReadsAndScans_AllocateNothing()
    {
        int keys = Environment.GetEnvironmentVariable("CAIRN_BENCH") == "1" ? 1_000_000 : 30_000;
        using TestTree test = new(new TreeOptions { ReserveBytes = 4L << 30, PageSize = 4096, NoSync = true });
        byte[] value = new byte[300];
        byte[] key = new byte[17];
        key[8] = (byte)'_';
        for (int done = 0; done < keys; done += 10_000)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
            bucket.FillPercent = 0.9;
            for (int i = done; i < done + 10_000; i++)
            {
                System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key, i);
                bucket.Put(key, value);
            }

            writer.Commit();
        }

        long begin = Stopwatch.GetTimestamp();
        test.Reopen();
        double open = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
        TreePin pin = test.Tree.Pin();
        TreeReader reader = new(test.Tree, pin.Root);
        Assert.True(reader.TryGetBucket("key"u8, out BucketReader read));
        for (int round = 0; round < 3; round++)
        {
            uint at = 1;
            int found = 0;
            TimeSpan cpu = Process.GetCurrentProcess().TotalProcessorTime;
            long allocated = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < keys; i++)
            {
                at = (at * 1664525) + 1013904223;
                System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key, at % (uint)keys);
                found += read.TryGet(key, out ReadOnlySpan<byte> v) ? v.Length / 300 : 0;
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
            double point = (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalNanoseconds / keys;
            cpu = Process.GetCurrentProcess().TotalProcessorTime;
            allocated -= GC.GetAllocatedBytesForCurrentThread();
            TreeCursor cursor = read.Cursor();
            int seen = 0;
            for (bool more = cursor.First(); more; more = cursor.Next())
            {
                seen += cursor.Key.Length + cursor.Value.Length;
            }

            allocated += GC.GetAllocatedBytesForCurrentThread();
            double scan = (Process.GetCurrentProcess().TotalProcessorTime - cpu).TotalNanoseconds / keys;
            Assert.Equal((keys, keys * 317L), (found, (long)seen));
            if (round == 2)
            {
                Assert.Equal(0, allocated);
                _output.WriteLine($"point read {point:F0} ns, scanned entry {scan:F1} ns, open with full check {open:F0} ms for {test.Tree.HighWaterBytes >> 20} MiB");
            }
        }

        test.Tree.Unpin(pin);
    }
}
