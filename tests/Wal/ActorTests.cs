// ActorTests: the pipeline on its real threads and a real disk, what it costs, and the slow side of the log.
using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed unsafe class ActorTests
{
    private static readonly PosixFileSystem Files = PosixFileSystem.Instance;
    private static readonly byte[] Metadata = [0x08, 0x05];

    [Fact]
    public void Poll_SteadyState_AllocatesNothing()
    {
        using TempDirectory temp = new();
        WalOptions options = new() { SegmentBytes = 256 << 20 };
        using WalLog log = WalDirectory.Create(new QuietDisk(Files), temp.Wal, Metadata, options);
        HandClock clock = new();
        using WalActor actor = new(log, clock, new ThrowingFatal());
        byte* payload = (byte*)NativeMemory.AllocZeroed(300);
        WalEntry* entries = (WalEntry*)NativeMemory.Alloc((nuint)(64 * sizeof(WalEntry)));
        ulong index = 0;
        ulong sequence = 0;

        void Batches(int count)
        {
            for (int i = 0; i < count; i++)
            {
                for (int j = 0; j < 64; j++)
                {
                    entries[j] = new WalEntry { Term = 2, Index = ++index, Data = payload, Length = 300 };
                }

                WalUnit unit = new() { Sequence = ++sequence, Entries = entries, EntryCount = 64, HasHardState = true, Term = 2, Vote = 1, Commit = index - 64 };
                actor.TryEnqueue(unit);
                while (actor.Poll(clock.NowNs += 100_000))
                {
                }
            }
        }

        Batches(200);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Batches(5000);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Equal(sequence, actor.DurableSequence);
        NativeMemory.Free(payload);
        NativeMemory.Free(entries);
    }

    [Fact]
    public void Threads_ManyUnitsAndCuts_AllAreFoundAgain()
    {
        using TempDirectory temp = new();
        WalOptions options = new() { SegmentBytes = 256 << 10, FillPauseNs = 1_000_000, FillChunkBytes = 16 << 10, QueueCapacity = 64 };
        WalLog log = WalDirectory.Create(Files, temp.Wal, Metadata, options);
        ThrowingFatal fatal = new();
        using (WalFillActor fill = new(log, SystemClock.Instance))
        using (WalActor actor = new(log, SystemClock.Instance, fatal))
        using (ActorThread fillThread = new(fill, SystemClock.Instance, fatal))
        using (ActorThread thread = new(actor, SystemClock.Instance, fatal))
        {
            fill.Self = fillThread;
            actor.Self = thread;
            using Signal signal = new();
            actor.Completed = signal;
            fillThread.Start();
            thread.Start();
            byte* payload = (byte*)NativeMemory.Alloc(2000);
            new Span<byte>(payload, 2000).Fill(7);
            WalEntry* entries = (WalEntry*)NativeMemory.Alloc((nuint)(2000 * sizeof(WalEntry)));
            for (ulong i = 1; i <= 2000; i++)
            {
                entries[i - 1] = new WalEntry { Term = 1, Index = i, Data = payload, Length = (int)(i % 2000) };
                WalUnit unit = new() { Sequence = i, Entries = entries + i - 1, EntryCount = 1, HasHardState = true, Term = 1, Vote = 1, Commit = i - 1 };
                while (!actor.TryEnqueue(unit))
                {
                    signal.Wait();
                }
            }

            while (actor.DurableSequence < 2000)
            {
                signal.Wait();
            }

            thread.Stop();
            fillThread.Stop();
            Assert.True(actor.Flush());
            NativeMemory.Free(payload);
            NativeMemory.Free(entries);
        }

        log.Dispose();
        Assert.Empty(Directory.GetFiles(temp.Wal, "*.tmp"));
        Assert.True(Directory.GetFiles(temp.Wal, "*.wal").Length > 4);
        log = WalDirectory.OpenForAppend(Files, temp.Wal, default, options, out WalRecovery recovery);
        Assert.Equal(2000UL, recovery.LastIndex);
        Assert.Equal(1999UL, recovery.HardState.Commit);
        foreach (ref readonly WalEntry entry in recovery.Entries)
        {
            Assert.Equal((int)(entry.Index % 2000), entry.Length);
            Assert.False(entry.Payload.ContainsAnyExcept((byte)7));
        }

        recovery.Dispose();
        log.Dispose();
    }

    [Fact]
    public void Fill_RestOfTheSegmentInUse_NeverTouchesWhatIsAppended()
    {
        // Appender and filler race over one segment; every appended byte must survive.
        using TempDirectory temp = new();
        WalOptions options = new() { SegmentBytes = 24 << 20, FillPauseNs = 0, FillChunkBytes = 64 << 10 };
        WalLog log = WalDirectory.Create(Files, temp.Wal, Metadata, options);
        using (WalFillActor fill = new(log, SystemClock.Instance))
        using (ActorThread fillThread = new(fill, SystemClock.Instance, new ThrowingFatal()))
        using (WalActor actor = new(log, SystemClock.Instance, new ThrowingFatal()))
        {
            fillThread.Start();
            byte* payload = (byte*)NativeMemory.Alloc(100_000);
            new Span<byte>(payload, 100_000).Fill(9);
            WalEntry entry = default;
            for (ulong i = 1; i <= 200; i++)
            {
                entry = new WalEntry { Term = 1, Index = i, Data = payload, Length = 100_000 };
                actor.TryEnqueue(new WalUnit { Sequence = i, Entries = &entry, EntryCount = 1, HasHardState = true, Term = 1, Vote = 1 });
                while (actor.Poll(SystemClock.Instance.NowNs))
                {
                }
            }

            fillThread.Stop();
            NativeMemory.Free(payload);
        }

        log.Dispose();
        log = WalDirectory.OpenForAppend(Files, temp.Wal, default, options, out WalRecovery recovery);
        Assert.Equal(200UL, recovery.LastIndex);
        Assert.False(recovery.Repaired);
        recovery.Dispose();
        log.Dispose();
    }

    [Fact]
    public void Frontier_TwoThreads_NeverOverlap()
    {
        const int End = 64 << 20;
        FillFrontier frontier = new(0, End);
        byte[] owner = new byte[End >> 12]; // one byte a page: 1 filled, 2 appended
        int overwritten = 0;
        Thread filler = new(() =>
        {
            while (frontier.TryClaim(1 << 20, out long offset, out int length))
            {
                for (long at = offset; at < offset + length; at += 4096)
                {
                    if (owner[at >> 12] == 2)
                    {
                        Interlocked.Increment(ref overwritten);
                    }

                    owner[at >> 12] = 1;
                }

                frontier.Release();
            }
        });
        filler.Start();
        for (long at = 0; at < End; at += 4096)
        {
            frontier.Reserve(Math.Min(at + 4096, End));
            owner[at >> 12] = 2;
        }

        filler.Join();
        Assert.Equal(0, overwritten);
        Assert.DoesNotContain((byte)0, owner);
        Assert.DoesNotContain((byte)1, owner);
    }

    [Fact]
    public void PreparedSegment_IsTakenAtTheCut_AndIsRealZeros()
    {
        using TempDirectory temp = new();
        WalOptions options = new() { SegmentBytes = 1 << 20, FillPauseNs = 0 };
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, options));
        using WalFillActor fill = new(writer.Log, writer.Clock);
        for (int i = 0; i < 5; i++)
        {
            fill.Poll(writer.Clock.NowNs += 2_000_000_000);
        }

        Assert.True(writer.Log.HasPrepared);
        Assert.Equal(1 << 20, new FileInfo(temp.Wal + "/0.tmp").Length);
        writer.Append(1, 1, [Payload.Of(1, 900_000)], new WalHardState(1, 1, 0));
        writer.Append(1, 2, [Payload.Of(2, 900_000)], new WalHardState(1, 1, 1));
        Assert.False(writer.Log.HasPrepared);
        Assert.False(File.Exists(temp.Wal + "/0.tmp"));
        Assert.Null(writer.Log.CurrentFilling);
        Assert.True(File.Exists(temp.Wal + "/0000000000000001-0000000000000002.wal"));

        // The closed one is truncated to what it holds, in the background.
        Assert.Equal(1 << 20, new FileInfo(temp.Wal + "/0000000000000000-0000000000000000.wal").Length);
        fill.Poll(writer.Clock.NowNs += 2_000_000_000);
        Assert.InRange(new FileInfo(temp.Wal + "/0000000000000000-0000000000000000.wal").Length, 900_000, 900_400);
        Assert.True(File.Exists(temp.Wal + "/1.tmp"));
    }

    [Fact]
    public void BatchLargerThanASegment_GoesIntoOneOfItsOwn()
    {
        using TempDirectory temp = new();
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small)))
        {
            writer.Append(1, 1, [Payload.Of(1, 100)], new WalHardState(1, 1, 0));
            writer.Append(1, 2, [Payload.Of(2, 300_000)], new WalHardState(1, 1, 1));
            writer.Append(1, 3, [Payload.Of(3, 100)], new WalHardState(1, 1, 2));
        }

        Assert.Equal(3, Directory.GetFiles(temp.Wal, "*.wal").Length);
        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out WalRecovery recovery);
        Assert.Equal(Payload.Of(2, 300_000), recovery.Entries[1].Payload.ToArray());
        Assert.Equal(3UL, recovery.LastIndex);
        recovery.Dispose();
    }

    [Fact]
    public void Release_ThenPurge_KeepsWhatASnapshotNeeds()
    {
        using TempDirectory temp = new();
        WalOptions options = Writer.Small with { MaxSegments = 3 };
        WalSnapshotMark mark = new(150, 1) { ConfState = new byte[] { 0x08, 0x01, 0x28, 0x00 } };
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, options)))
        {
            using WalFillActor fill = new(writer.Log, writer.Clock);
            for (ulong i = 1; i <= 200; i++)
            {
                writer.Append(1, i, [Payload.Of((int)i, 4000)], new WalHardState(1, 1, i));
            }

            int before = Directory.GetFiles(temp.Wal, "*.wal").Length;
            fill.Poll(writer.Clock.NowNs += 60_000_000_000);
            Assert.Equal(before, Directory.GetFiles(temp.Wal, "*.wal").Length); // all are still held

            using WalEntryBuffer buffer = new();
            Assert.Equal(WalReadStatus.Ok, writer.Log.ReadEntries(1, 2, 1, buffer));
            writer.Append(1, 201, [], new WalHardState(1, 1, 200), mark, release: 150);
            fill.Poll(writer.Clock.NowNs += 60_000_000_000);
            fill.Poll(writer.Clock.NowNs += 60_000_000_000);
            int after = Directory.GetFiles(temp.Wal, "*.wal").Length;
            Assert.InRange(after, 3, before - 1);
            Assert.Equal(WalReadStatus.Compacted, writer.Log.ReadEntries(1, 2, 1, buffer));
            Assert.Equal(WalReadStatus.Ok, writer.Log.ReadEntries(151, 201, long.MaxValue, buffer));
            Assert.Equal(50, buffer.Entries.Length);
        }

        Assert.Equal([mark], WalDirectory.ValidSnapshots(Files, temp.Wal));
        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, mark, options, out WalRecovery recovery);
        Assert.True(recovery.StartFound);
        Assert.Equal(151UL, recovery.Entries[0].Index);
        Assert.Equal(200UL, recovery.LastIndex);
        recovery.Dispose();
    }

    [Fact]
    public void ReadEntries_AfterBatchesLongerThanAnIndexStep_StillFindsTheOlderOnes()
    {
        using TempDirectory temp = new();
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
        writer.Append(1, 1, [Payload.Of(1, 10), Payload.Of(2, 10)], new WalHardState(1, 1, 1));
        byte[][] batch = new byte[12][];
        for (int i = 0; i < batch.Length; i++)
        {
            batch[i] = Payload.Of(3 + i, 20_000); // several points of the index, none at the first entry but one
        }

        writer.Append(1, 3, batch, new WalHardState(1, 1, 2));
        using WalEntryBuffer buffer = new();
        for (ulong first = 1; first <= 14; first++)
        {
            Assert.Equal(WalReadStatus.Ok, writer.Log.ReadEntries(first, first + 1, 1, buffer));
            Assert.Equal(first, buffer.Entries[0].Index);
        }
    }

    [Fact]
    public void SnapshotFromALeader_JumpsTheLog()
    {
        using TempDirectory temp = new();
        WalSnapshotMark mark = new(500, 3) { ConfState = new byte[] { 0x08, 0x01, 0x28, 0x00 } };
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small)))
        {
            writer.Append(1, 1, [Payload.Of(1, 10), Payload.Of(2, 10)], new WalHardState(1, 1, 1));
            writer.Append(3, 501, [Payload.Of(501, 10)], new WalHardState(3, 1, 500), mark);
            using WalEntryBuffer buffer = new();
            Assert.Equal(WalReadStatus.Compacted, writer.Log.ReadEntries(2, 3, 1, buffer));
            Assert.Equal(WalReadStatus.Ok, writer.Log.ReadEntries(501, 502, 1, buffer));
        }

        Assert.Equal([new(0, 0), mark], WalDirectory.ValidSnapshots(Files, temp.Wal));
        using (WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, mark, Writer.Small, out WalRecovery recovery))
        {
            Assert.Equal(501UL, recovery.Entries[0].Index);
            Assert.Equal(1, recovery.Entries.Length);
            recovery.Dispose();
        }

        // From the beginning the log has a gap; that is not a log to start from.
        Assert.Throws<WalCorruptException>(() => WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out _));
    }

    [Fact]
    public void ReadEntries_AfterSuffixWasWrittenAgain_DeliversTheNewOnes()
    {
        using TempDirectory temp = new();
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
        List<(ulong Term, byte[] Payload)> model = [];
        Random random = new(7);
        for (ulong term = 1; term <= 60; term++)
        {
            int first = model.Count == 0 ? 0 : model.Count - random.Next(Math.Min(6, model.Count));
            model.RemoveRange(first, model.Count - first);
            byte[][] payloads = new byte[1 + random.Next(12)][];
            for (int i = 0; i < payloads.Length; i++)
            {
                payloads[i] = Payload.Of(random.Next(1000), random.Next(3000));
                model.Add((term, payloads[i]));
            }

            writer.Append(term, (ulong)first + 1, payloads, new WalHardState(term, 1, (ulong)first));
        }

        using WalEntryBuffer buffer = new();
        for (int lo = 0; lo < model.Count; lo++)
        {
            int hi = Math.Min(model.Count, lo + 1 + random.Next(40));
            Assert.Equal(WalReadStatus.Ok, writer.Log.ReadEntries((ulong)lo + 1, (ulong)hi + 1, random.Next(20_000), buffer));
            Assert.InRange(buffer.Entries.Length, 1, hi - lo);
            for (int i = 0; i < buffer.Entries.Length; i++)
            {
                Assert.Equal(((ulong)(lo + i + 1), model[lo + i].Term), (buffer.Entries[i].Index, buffer.Entries[i].Term));
                Assert.True(buffer.Entries[i].Payload.SequenceEqual(model[lo + i].Payload));
            }
        }

        Assert.Equal(WalReadStatus.Unavailable, writer.Log.ReadEntries((ulong)model.Count + 1, ulong.MaxValue, 1, buffer));
    }

    [Fact]
    public void ReadEntries_DamagedSegment_SaysSo()
    {
        using TempDirectory temp = new();
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
        writer.Append(1, 1, [Payload.Of(1, 1000), Payload.Of(2, 1000)], new WalHardState(1, 1, 1));
        string path = Directory.GetFiles(temp.Wal, "*.wal")[0];
        using (FileStream stream = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            stream.Position = 600;
            stream.WriteByte(0);
        }

        using WalEntryBuffer buffer = new();
        Assert.Equal(WalReadStatus.Damaged, writer.Log.ReadEntries(1, 3, 10_000, buffer));
    }

    [Fact]
    public void SecondOpen_WhileTheFirstRuns_IsRefused()
    {
        using TempDirectory temp = new();
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
        writer.Append(1, 1, [Payload.Of(1, 10)], new WalHardState(1, 1, 1));
        WalLockedException refused = Assert.Throws<WalLockedException>(() => WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out _));
        Assert.Contains("locked by another process", refused.Message, StringComparison.Ordinal);
        writer.Append(1, 2, [Payload.Of(2, 10)], new WalHardState(1, 1, 2));
    }

    [Fact]
    public void LeftOvers_OfACrash_AreRemoved()
    {
        using TempDirectory temp = new();
        Directory.CreateDirectory(temp.Wal + ".tmp");
        File.WriteAllText(temp.Wal + ".tmp/0000000000000000-0000000000000000.wal", "half");
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small)))
        {
            Assert.False(Directory.Exists(temp.Wal + ".tmp"));
        }

        File.WriteAllText(temp.Wal + "/0.tmp", "half");
        File.WriteAllText(temp.Wal + "/1.tmp", "half");
        File.WriteAllText(temp.Wal + "/notes", "mine");
        List<string> warnings = [];
        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small with { Warn = warnings.Add }, out WalRecovery recovery);
        recovery.Dispose();
        Assert.Empty(Directory.GetFiles(temp.Wal, "*.tmp"));
        Assert.Contains("notes", Assert.Single(warnings), StringComparison.Ordinal);
        Assert.Throws<WalException>(() => WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
    }

    [Fact]
    public void SlowDisk_UnitsGather_AndNothingIsDurableEarly()
    {
        MemoryDisk disk = new();
        disk.CreateDirectory("/d");
        using Writer writer = new(WalDirectory.Create(disk, "/d/wal", Metadata, Writer.Small));
        disk.Deferred = true;
        ulong index = 0;
        for (int round = 0; round < 30; round++)
        {
            // While one batch is on its way, three more units arrive; they make the next batch together.
            for (int i = 0; i < 3; i++)
            {
                index++;
                writer.Enqueue(1, index, [Payload.Of((int)index, 2000)], new WalHardState(1, 1, index - 1));
                writer.Settle();
            }

            ulong before = writer.Actor.DurableSequence;
            Assert.Equal(1, disk.Waiting);
            disk.CompleteNext(); // the write
            writer.Settle();
            Assert.Equal(before, writer.Actor.DurableSequence);
            Assert.Equal(1, disk.Waiting);
            disk.CompleteNext(); // the sync
            writer.Settle();
            Assert.True(writer.Actor.DurableSequence > before);
        }

        while (disk.Waiting > 0)
        {
            disk.CompleteNext();
            writer.Settle();
        }

        Assert.Equal(index, writer.Actor.DurableSequence);
        Assert.True(disk.List("/d/wal").Length > 2);
        disk.Deferred = false;
        disk.LosePower(new Random(3));
        using WalLog log = WalDirectory.OpenForAppend(disk, "/d/wal", default, Writer.Small, out WalRecovery recovery);
        Assert.Equal(index, recovery.LastIndex);
        recovery.Dispose();
    }

    [Fact]
    public void Unit_WithAGap_IsAnInvariantBroken()
    {
        using TempDirectory temp = new();
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small));
        writer.Enqueue(1, 2, [Payload.Of(1, 10)]);
        Assert.Throws<InvariantException>(writer.Settle);
    }

    private sealed class Signal : IWaker, IDisposable
    {
        private readonly SemaphoreSlim _semaphore = new(0);

        public void Wake() => _semaphore.Release();

        public void Wait() => Assert.True(_semaphore.Wait(TimeSpan.FromSeconds(30)));

        public void Dispose() => _semaphore.Dispose();
    }
}
