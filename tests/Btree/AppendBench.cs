// Question  what does a put cost in the tree writer when revisions are appended, as the store does?
// Answer    0.08 us to put, 0.4 us in the commit (fdatasync included), no garbage; 0.5 us a delete; 2 cores, busy.
// Runs large with CAIRN_BENCH=1, tiny otherwise.
using System;
using System.Diagnostics;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Btree.Tests;

public sealed class AppendBench
{
    private readonly ITestOutputHelper _output;

    public AppendBench(ITestOutputHelper output) => _output = output;

    [Fact]
    public void Append_AscendingRevisions_CostsLittleAndNoGarbage()
    {
        bool large = Environment.GetEnvironmentVariable("CAIRN_BENCH") == "1";
        int puts = large ? 1_000_000 : 60_000;
        const int PerCommit = 10_000;
        using TestTree test = new(new TreeOptions { ReserveBytes = 4L << 30, PageSize = 4096, NoSync = !large });
        byte[] value = new byte[300];
        byte[] key = new byte[17];
        key[8] = (byte)'_';
        long inPuts = 0;
        long inCommits = 0;
        long garbage = 0;
        TimeSpan cpuBefore = Process.GetCurrentProcess().TotalProcessorTime;
        long begin = Stopwatch.GetTimestamp();
        for (int done = 0; done < puts; done += PerCommit)
        {
            if (done == 2 * PerCommit)
            {
                garbage = GC.GetAllocatedBytesForCurrentThread();
            }

            long t0 = Stopwatch.GetTimestamp();
            TreeWriter writer = test.Tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
            bucket.FillPercent = 0.9;
            for (int i = 0; i < PerCommit; i++)
            {
                System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key, done + i);
                bucket.Put(key, value);
            }

            long t1 = Stopwatch.GetTimestamp();
            writer.Commit();
            long t2 = Stopwatch.GetTimestamp();
            inPuts += t1 - t0;
            inCommits += t2 - t1;
        }

        double all = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        double cpu = (Process.GetCurrentProcess().TotalProcessorTime - cpuBefore).TotalMicroseconds;
        garbage = GC.GetAllocatedBytesForCurrentThread() - garbage;
        _output.WriteLine($"append: put {inPuts / 1000.0 / puts:F3} us, commit {inCommits / 1000.0 / puts:F3} us, wall {all / puts:F3} us, process CPU {cpu / puts:F3} us a put; {garbage / (double)(puts - (2 * PerCommit)):F3} managed bytes a put; file {test.Tree.FileBytes >> 20} MiB for {puts * 317L >> 20} MiB");
        Assert.True(test.Tree.HighWaterBytes < puts * 317L * 13 / 10, "pages are nine tenths full");
        Assert.True(garbage / (double)(puts - (2 * PerCommit)) < 1, "a put leaves no garbage");

        // Deleting three quarters of it as a compaction does.
        long deletes = 0;
        begin = Stopwatch.GetTimestamp();
        for (int from = 0; from < puts; from += PerCommit)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            Assert.True(writer.TryGetBucket("key"u8, out TreeBucket? bucket));
            bucket.FillPercent = 0.9; // also when deleting: what is merged is cut again at this
            for (int i = from; i < from + PerCommit; i++)
            {
                if (i % 4 != 0)
                {
                    System.Buffers.Binary.BinaryPrimitives.WriteInt64BigEndian(key, i);
                    deletes += bucket.Delete(key) ? 1 : 0;
                }
            }

            writer.Commit();
        }

        _output.WriteLine($"delete: {Stopwatch.GetElapsedTime(begin).TotalMicroseconds / deletes:F3} us wall each, commits included");

        int steps = 0;
        long before = test.Tree.HighWaterBytes;
        begin = Stopwatch.GetTimestamp();
        bool more = true;
        while (more && steps < 100_000)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            more = writer.ShrinkStep(256);
            writer.Commit();
            steps++;
        }

        _output.WriteLine($"shrink: {before >> 10} to {test.Tree.HighWaterBytes >> 10} KiB, file {test.Tree.FileBytes >> 10} KiB, {steps} commits, {Stopwatch.GetElapsedTime(begin).TotalMilliseconds:F0} ms; in use {test.Tree.InUseBytes >> 10} KiB");
        Assert.False(more);
        Assert.True(test.Tree.HighWaterBytes <= test.Tree.InUseBytes * 12 / 10, "the mark came down to what is in use");
        Assert.True(test.Tree.FileBytes <= test.Tree.HighWaterBytes * 2, "the file was cut");
        test.ExpectSound();
    }
}
