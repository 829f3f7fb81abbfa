// RoundTripTests: what was written and acknowledged is what a later start finds.
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed class RoundTripTests
{
    private static readonly PosixFileSystem Files = new();
    private static readonly byte[] Metadata = [0x08, 0x05, 0x10, 0x07];

    [Fact]
    public void FreshLog_EntriesAndState_AreFoundAgain()
    {
        using TempDirectory temp = new();
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small)))
        {
            writer.Append(1, 1, [Payload.Of(1, 100), Payload.Of(2, 0), Payload.Of(3, 5000)], new WalHardState(1, 5, 2));
            writer.Append(2, 4, [Payload.Of(4, 1)], new WalHardState(2, 5, 3));
        }

        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out WalRecovery recovery);
        using (recovery)
        {
            Assert.Equal(Metadata, recovery.Metadata);
            Assert.Equal(new WalHardState(2, 5, 3), recovery.HardState);
            Assert.False(recovery.Repaired);
            Assert.Equal(4UL, recovery.LastIndex);
            Assert.Equal(4, recovery.Entries.Length);
            int[] lengths = [100, 0, 5000, 1];
            for (int i = 0; i < 4; i++)
            {
                Assert.Equal((ulong)i + 1, recovery.Entries[i].Index);
                Assert.Equal(i < 3 ? 1UL : 2UL, recovery.Entries[i].Term);
                Assert.Equal(Payload.Of(i + 1, lengths[i]), recovery.Entries[i].Payload.ToArray());
            }
        }
    }

    [Fact]
    public void ManySegments_CutsAndRestarts_NothingIsLost()
    {
        using TempDirectory temp = new();
        WalLog log = WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small);
        ulong next = 1;
        for (int round = 0; round < 4; round++)
        {
            using (Writer writer = new(log))
            {
                using WalFillActor fill = new(log, writer.Clock);
                for (int i = 0; i < 60; i++)
                {
                    fill.Poll(writer.Clock.NowNs += 1_000_000_000);
                    writer.Append((ulong)round + 1, next, [Payload.Of((int)next, 3000)], new WalHardState((ulong)round + 1, 1, next));
                    next++;
                }
            }

            log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out WalRecovery recovery);
            using (recovery)
            {
                Assert.Equal(next - 1, recovery.LastIndex);
                Assert.Equal(next - 1, recovery.HardState.Commit);
                for (int i = 0; i < recovery.Entries.Length; i++)
                {
                    Assert.Equal(Payload.Of(i + 1, 3000), recovery.Entries[i].Payload.ToArray());
                }
            }
        }

        log.Dispose();
        foreach (string path in Directory.GetFiles(temp.Wal, "*.wal"))
        {
            Assert.InRange(new FileInfo(path).Length, 0, Writer.Small.SegmentBytes);
        }
    }

    [Fact]
    public void SuffixWrittenAgain_OldSuffix_IsGone()
    {
        using TempDirectory temp = new();
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small)))
        {
            writer.Append(1, 1, [Payload.Of(1, 10), Payload.Of(2, 10), Payload.Of(3, 10), Payload.Of(4, 10)], new WalHardState(1, 1, 1));
            writer.Append(2, 2, [Payload.Of(20, 10)], new WalHardState(2, 2, 1));
        }

        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out WalRecovery recovery);
        Assert.Equal(2UL, recovery.LastIndex);
        Assert.Equal(2UL, recovery.Entries[1].Term);
        Assert.Equal(Payload.Of(20, 10), recovery.Entries[1].Payload.ToArray());
        recovery.Dispose();
    }

    [Fact]
    public void CommitAlone_IsDoneAtOnce_IsWrittenAfterQuiet()
    {
        using TempDirectory temp = new();
        List<int> syncs = [];
        Counter counter = new(syncs);
        using (Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small), counter))
        {
            writer.Append(1, 1, [Payload.Of(1, 10)], new WalHardState(1, 1, 0));
            Assert.Single(syncs);
            writer.Append(0, 0, [], new WalHardState(1, 1, 1));
            Assert.Single(syncs);
            Assert.InRange(writer.Actor.NextDeadlineNs, writer.Clock.NowNs, writer.Clock.NowNs + Writer.Small.QuietNs);
            writer.Clock.NowNs += Writer.Small.QuietNs;
            writer.Settle();
            Assert.Equal(2, syncs.Count);
            Assert.Equal(long.MaxValue, writer.Actor.NextDeadlineNs);
        }

        using WalLog log = WalDirectory.OpenForAppend(Files, temp.Wal, default, Writer.Small, out WalRecovery recovery);
        Assert.Equal(1UL, recovery.HardState.Commit);
        recovery.Dispose();
    }

    [Fact]
    public void QueuedUnits_OneSync_CoversAll()
    {
        using TempDirectory temp = new();
        List<int> syncs = [];
        using Writer writer = new(WalDirectory.Create(Files, temp.Wal, Metadata, Writer.Small), new Counter(syncs));
        for (int i = 1; i <= 50; i++)
        {
            writer.Enqueue(1, (ulong)i, [Payload.Of(i, 10)], new WalHardState(1, 1, (ulong)i - 1));
        }

        writer.Settle();
        Assert.Equal(50UL, writer.Actor.DurableSequence);
        Assert.Equal([50], syncs);
    }

    private sealed class Counter(List<int> syncs) : IWalObserver
    {
        public void Synced(long syncNs, long bytes, int units) => syncs.Add(units);
    }
}
