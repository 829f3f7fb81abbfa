// CrashTests: power is lost at every single operation of a log's life, recovery included; then at random operations
// of long lives. What was acknowledged is always found; what is found was always written.
using System;
using System.Collections.Generic;
using System.Linq;
using Cairn.Base;
using CsCheck;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed class CrashTests
{
    private const int EIO = 5;
    private const int ENOSPC = 28;
    private const string Dir = "/d/wal";
    private static readonly WalOptions Options = new() { SegmentBytes = 8 << 10, FillPauseNs = 0, FillChunkBytes = 4096, MaxSegments = 4 };
    private static readonly byte[] Metadata = [0x08, 0x05];

    [Fact]
    public void PowerLoss_AtEveryOperation_LosesNothingAcknowledged()
    {
        int total = Life(new MemoryDisk(), new Model(), seed: 1, batches: 14);
        Assert.True(total > 60, $"{total} operations");
        for (int stop = 1; stop <= total; stop++)
        {
            for (int seed = 0; seed < 3; seed++)
            {
                MemoryDisk disk = new() { StopAt = stop };
                Model model = new();
                Assert.Throws<PowerLossException>(() => Life(disk, model, seed: 1, batches: 14));
                disk.LosePower(new Random((stop * 100) + seed));
                Recover(disk, model, stop, seed);
            }
        }
    }

    [Fact]
    public void PowerLoss_DuringRecovery_LosesNothingAcknowledged()
    {
        Gen.Select(Gen.Int[1, 150], Gen.Int[1, 40], Gen.Int[1, 40], Gen.Int).Sample(
            (first, second, third, seed) =>
            {
                MemoryDisk disk = new() { StopAt = first };
                Model model = new();
                Random random = new(seed);
                foreach (int next in new[] { second, third, int.MaxValue })
                {
                    try
                    {
                        Life(disk, model, seed, batches: 14);
                    }
                    catch (PowerLossException)
                    {
                    }

                    disk.LosePower(random);
                    disk.StopAt = disk.Counted + next;
                    if (next == int.MaxValue)
                    {
                        disk.StopAt = next;
                        Recover(disk, model, first, seed);
                    }
                }
            },
            iter: 250,
            threads: 1);
    }

    [Fact]
    public void SyncError_StopsTheMember_AndNothingRestsOnTheLostPages()
    {
        for (int stop = 1; stop < 60; stop++)
        {
            MemoryDisk disk = new() { StopAt = stop, OnlyKind = "sync", FailErrno = EIO };
            Model model = new();
            try
            {
                Life(disk, model, seed: 3, batches: 14);
                break; // fewer syncs than that: done
            }
            catch (FatalException e)
            {
                Assert.Contains("could not sync", e.Message, StringComparison.Ordinal);
            }
            catch (FileSystemException)
            {
                // While the log was being made.
            }

            // The process is started again and reads pages that the disk never had; what it then knows must survive.
            disk.StopAt = int.MaxValue;
            disk.CrashProcess();
            if (!WalDirectory.Exists(disk, Dir))
            {
                continue;
            }

            WalLog log = WalDirectory.OpenForAppend(disk, Dir, default, Options, out WalRecovery recovery);
            model.Learn(recovery);
            recovery.Dispose();
            disk.LosePower(new Random(stop));
            log.Dispose();
            Recover(disk, model, stop, 0);
        }
    }

    [Theory]
    [InlineData("write", "could not write")]
    [InlineData("syncdir", "could not name the next segment")]
    public void OtherErrors_StopTheMember_AndNothingAcknowledgedIsLost(string kind, string message)
    {
        int fatal = 0;
        for (int stop = 1; stop < 60; stop++)
        {
            MemoryDisk disk = new() { StopAt = stop, OnlyKind = kind, FailErrno = EIO };
            Model model = new();
            try
            {
                Life(disk, model, seed: 3, batches: 14);
                continue; // a write of zeros failed, which harms nobody
            }
            catch (FatalException e)
            {
                Assert.Contains(message, e.Message, StringComparison.Ordinal);
                fatal++;
            }
            catch (FileSystemException)
            {
            }

            disk.StopAt = int.MaxValue;
            disk.LosePower(new Random(stop));
            Recover(disk, model, stop, 0);
        }

        Assert.True(fatal > 0);
    }

    [Fact]
    public void FullDisk_NextSegmentCannotBeMade_MemberStopsOnlyWhenItNeedsIt()
    {
        MemoryDisk disk = new();
        Model model = new();
        List<string> warnings = [];
        WalOptions options = Options with { Warn = warnings.Add };
        disk.CreateDirectory("/d");
        disk.SyncDirectory("/");
        WalLog log = WalDirectory.Create(disk, Dir, Metadata, options);
        using Writer writer = new(log);
        int alarms = 0;
        using WalFillActor fill = new(log, writer.Clock) { DiskFull = () => alarms++ };
        disk.OnlyKind = "allocate";
        disk.StopAt = disk.Counted + 1;
        disk.FailErrno = ENOSPC;
        disk.Sticky = true;
        for (int i = 0; i < 4; i++)
        {
            fill.Poll(writer.Clock.NowNs += 2_000_000_000);
        }

        Assert.NotNull(fill.LastError);
        Assert.Single(warnings);
        Assert.Equal(1, alarms);
        for (int minute = 2; minute <= 3; minute++)
        {
            fill.Poll(writer.Clock.NowNs += 60_000_000_000);
            fill.Poll(writer.Clock.NowNs += 2_000_000_000);
            Assert.Equal((minute, minute), (warnings.Count, alarms));
        }

        Assert.All(warnings, line => Assert.Contains("Free space on the disk of " + Dir, line, StringComparison.Ordinal));
        FatalException stopped = Assert.Throws<FatalException>(() =>
        {
            for (ulong i = 1; i < 100; i++)
            {
                writer.Append(1, i, [Payload.Of((int)i, 500)], new WalHardState(1, 1, i));
                model.Wrote(1, i, Payload.Of((int)i, 500));
                model.Acknowledge(new WalHardState(1, 1, i));
            }
        });
        Assert.Contains("could not make the next segment", stopped.Message, StringComparison.Ordinal);
        Assert.Contains("full?", stopped.Message, StringComparison.Ordinal);
        Assert.True(model.Acknowledged > 10);
        disk.StopAt = int.MaxValue;
        disk.LosePower(new Random(1));
        Recover(disk, model, 0, 0);
    }

    [Fact]
    public void FullDisk_SpaceComesBack_NextSegmentIsPrepared()
    {
        MemoryDisk disk = new() { OnlyKind = "allocate", FailErrno = ENOSPC };
        disk.CreateDirectory("/d");
        using WalLog log = WalDirectory.Create(disk, Dir, Metadata, Options);
        HandClock clock = new();
        using WalFillActor fill = new(log, clock);
        disk.StopAt = disk.Counted + 1;
        for (int i = 0; i < 20 && fill.LastError == null; i++)
        {
            fill.Poll(clock.NowNs += 2_000_000_000);
        }

        Assert.NotNull(fill.LastError);
        for (int i = 0; i < 20; i++)
        {
            fill.Poll(clock.NowNs += 2_000_000_000);
        }

        Assert.Null(fill.LastError);
        Assert.True(log.HasPrepared);
    }

    [Fact]
    public void SyncedData_DamagedAtRest_IsRefused_AndNothingIsChanged()
    {
        // Every byte of the synced part of the last segment, one after the other.
        MemoryDisk disk = new();
        Model model = new();
        Life(disk, model, seed: 5, batches: 6);
        string last = disk.Image().Keys.Last(k => k.EndsWith(".wal", StringComparison.Ordinal));
        using SegmentImage image = SegmentImage.Of(last, disk.Image()[last]);
        int used = image.UsedEnd;
        int refused = 0;
        for (int at = 0; at < used; at++)
        {
            disk.Corrupt(last, at, m => m.Span[0] ^= 0x55);
            SortedDictionary<string, byte[]> before = disk.Image();
            try
            {
                WalDirectory.OpenForAppend(disk, Dir, default, Options, out WalRecovery recovery).Dispose();
                recovery.Dispose();

                // It opened, so it changed the disk: go on with a fresh one.
                disk = new MemoryDisk();
                Life(disk, new Model(), seed: 5, batches: 6);
            }
            catch (WalCorruptException e)
            {
                refused++;
                Assert.Contains(last, e.Message, StringComparison.Ordinal);
                Assert.Contains($"offset {e.Offset}", e.Message, StringComparison.Ordinal);
                Assert.Equal(before, disk.Image());
                disk.Corrupt(last, at, m => m.Span[0] ^= 0x55);
            }
        }

        Assert.True(refused > used / 2, $"{refused} of {used} refused");
    }

    [Fact]
    public void MissingSegment_IsRefusedByName()
    {
        MemoryDisk disk = new();
        Life(disk, new Model(), seed: 1, batches: 14);
        string[] segments = [.. disk.Image().Keys.Where(k => k.EndsWith(".wal", StringComparison.Ordinal))];
        Assert.True(segments.Length > 2);
        disk.DeleteFile(segments[1]);
        WalException refused = Assert.Throws<WalException>(() => WalDirectory.OpenForAppend(disk, Dir, default, Options, out _));
        Assert.Contains("is missing between", refused.Message, StringComparison.Ordinal);
        disk.DeleteFile(segments[0]);
        refused = Assert.Throws<WalException>(() => WalDirectory.OpenForAppend(disk, Dir, default, Options, out _));
        Assert.Contains("after the snapshot", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Makes or opens the log, checks it, appends batches with all that goes with them, closes. Returns the operations.</summary>
    private static int Life(MemoryDisk disk, Model model, int seed, int batches)
    {
        Random random = new(seed);
        if (!disk.DirectoryExists("/d"))
        {
            disk.CreateDirectory("/d");
        }

        WalLog log;
        if (WalDirectory.Exists(disk, Dir))
        {
            log = WalDirectory.OpenForAppend(disk, Dir, default, Options, out WalRecovery recovery);
            model.Check(recovery, "life");
            model.Learn(recovery);
            recovery.Dispose();
        }
        else
        {
            log = WalDirectory.Create(disk, Dir, Metadata, Options);
        }

        using Writer writer = new(log);
        using WalFillActor fill = new(log, writer.Clock);
        ulong term = model.State.Term + 1;
        for (int i = 0; i < batches; i++)
        {
            writer.Clock.NowNs += random.Next(2) == 0 ? 1_000_000 : 200_000_000;
            for (int j = random.Next(6); j > 0; j--)
            {
                fill.Poll(writer.Clock.NowNs += 1_000_000);
            }

            writer.Settle();

            // Sometimes a new leader replaces what is not committed.
            ulong first = model.Last + 1;
            if (random.Next(5) == 0)
            {
                term++;
                first = model.State.Commit + 1 + (ulong)random.Next((int)(model.Last - model.State.Commit) + 1);
            }

            int units = 1 + random.Next(3);
            WalHardState state = model.State;
            for (int u = 0; u < units; u++)
            {
                byte[][] payloads = new byte[1 + random.Next(3)][];
                for (int p = 0; p < payloads.Length; p++)
                {
                    payloads[p] = new byte[random.Next(4) == 0 ? random.Next(3000) : random.Next(60)];
                    random.NextBytes(payloads[p]);
                    model.Wrote(term, first + (ulong)p, payloads[p]);
                }

                state = new WalHardState(term, 7, Math.Max(state.Commit, model.Last - (ulong)random.Next(2)));
                state = state with { Commit = Math.Max(state.Commit > model.Last ? model.Last : state.Commit, model.State.Commit) };
                writer.Enqueue(term, first, payloads, state);
                first = model.Last + 1;
            }

            writer.Settle();
            Assert.Equal(writer.Sequence, writer.Actor.DurableSequence);
            model.Acknowledge(state);
        }

        Assert.True(writer.Actor.Flush());
        return disk.Counted;
    }

    private static void Recover(MemoryDisk disk, Model model, int stop, int seed)
    {
        disk.StopAt = int.MaxValue;
        if (!WalDirectory.Exists(disk, Dir))
        {
            Assert.Equal(0UL, model.Acknowledged);
            return;
        }

        // Twice: the second start must find what the first one made of it.
        for (int round = 0; round < 2; round++)
        {
            WalLog log = WalDirectory.OpenForAppend(disk, Dir, default, Options, out WalRecovery recovery);
            model.Check(recovery, $"stopped at operation {stop}, seed {seed}, round {round}");
            model.Learn(recovery);
            log.Dispose();
            recovery.Dispose();
            disk.LosePower(new Random(seed + round));
        }
    }

    /// <summary>What was written under which index, and what of it was acknowledged.</summary>
    private sealed class Model
    {
        private readonly SortedDictionary<ulong, (ulong Term, byte[] Payload)> _log = [];
        private readonly SortedDictionary<ulong, (ulong Term, byte[] Payload)> _acknowledged = [];
        private readonly HashSet<(ulong Index, ulong Term, string Payload)> _written = [];

        public ulong Last => _log.Count == 0 ? 0 : _log.Keys.Last();

        public ulong Acknowledged => _acknowledged.Count == 0 ? 0 : _acknowledged.Keys.Last();

        public WalHardState State { get; private set; }

        public void Wrote(ulong term, ulong index, byte[] payload)
        {
            // A replaced suffix is no longer promised to anybody.
            foreach (ulong old in _log.Keys.Where(k => k >= index).ToArray())
            {
                _log.Remove(old);
                _acknowledged.Remove(old);
            }

            _log[index] = (term, payload);
            _written.Add((index, term, Convert.ToHexString(payload)));
        }

        public void Acknowledge(WalHardState state)
        {
            State = state;
            foreach ((ulong index, (ulong Term, byte[] Payload) entry) in _log)
            {
                _acknowledged[index] = entry;
            }
        }

        public void Check(WalRecovery recovery, string story)
        {
            Assert.True(recovery.HardState.Term >= State.Term, $"{story}: {recovery.HardState} after {State}");
            Assert.True(recovery.HardState.Commit >= State.Commit, $"{story}: {recovery.HardState} after {State}, log to {recovery.LastIndex}");
            Assert.True(recovery.LastIndex >= Acknowledged, $"{story}: log ends at {recovery.LastIndex}, acknowledged {Acknowledged}");
            foreach ((ulong index, (ulong term, byte[] payload)) in _acknowledged)
            {
                ref readonly WalEntry entry = ref recovery.Entries[(int)index - 1];
                Assert.True(entry.Term == term && entry.Payload.SequenceEqual(payload), $"{story}: entry {index}");
            }

            foreach (ref readonly WalEntry entry in recovery.Entries)
            {
                Assert.True(_written.Contains((entry.Index, entry.Term, Convert.ToHexString(entry.Payload))), $"{story}: entry {entry.Index} was never written");
            }
        }

        /// <summary>What a start has seen it may act on: from here on it is promised.</summary>
        public void Learn(WalRecovery recovery)
        {
            _log.Clear();
            _acknowledged.Clear();
            foreach (ref readonly WalEntry entry in recovery.Entries)
            {
                _log[entry.Index] = _acknowledged[entry.Index] = (entry.Term, entry.Payload.ToArray());
            }

            State = recovery.HardState;
        }
    }
}
