// AllocationTests: the write path allocates nothing in steady state. Each actor is polled by the test's thread and the
// thread's allocation counter is read around every poll, so what a role allocates is charged to that role.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

/// <summary>Tests that measure the process run when nothing else does.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone
{
}

[Collection(nameof(Alone))]
public sealed class AllocationTests
{
    private const int WarmUp = 30_000;
    private const int Measured = 100_000;
    private const int Windows = 8;
    private const int AtOnce = 64;
    private const int RunsMax = 100;

    // On a thread of its own: a busy loop on one of the pool's threads would starve the answers it waits for.
    [Fact]
    public Task Puts_InSteadyState_AllocateNothingOnAnyThread() =>
        Task.Factory.StartNew(
            PutsAllocateNothing, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private static void PutsAllocateNothing()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with
        {
            WalSegmentBytes = 64_000_000,
            SnapshotCount = 1_000_000,
            UnsafeNoSync = true,
        };
        using PolledMember polled = PolledMember.Open(options);
        var driver = new Driver(polled.Member);
        driver.Run(WarmUp);
        string report = string.Empty;
        bool[] steady = new bool[driver.Names.Length];
        for (int window = 0; window < Windows && Array.IndexOf(steady, false) >= 0; window++)
        {
            Array.Clear(driver.AllocatedBytes);
            long commitsBefore = polled.Member.Store.TreeActor.Commits;
            long commits = 0;
            for (int runs = 0; commits == 0 && runs < RunsMax; runs++)
            {
                // A fast machine puts a window's worth between two commits, whose pages are paced by the clock.
                driver.Run(Measured);
                commits = polled.Member.Store.TreeActor.Commits - commitsBefore;
            }

            report += $"{driver.Report()}, {commits} commits\n";
            Assert.True(commits > 0, report);

            // A table that doubled for the last time is no steady state yet, nor is a window with a new log segment
            // or a snapshot in it; what allocates for every request or commit has no window without.
            for (int i = 0; i < steady.Length; i++)
            {
                steady[i] |= driver.AllocatedBytes[i] == 0 || !IsOfTheWritePath(driver.Names[i]);
            }
        }

        Assert.True(Array.IndexOf(steady, false) < 0, report);
        Assert.False(driver.Failed, report);
    }

    [Fact]
    public Task AMillionPuts_WithSegmentCutsAndSnapshots_AllocateNothingOnTheWritePath() =>
        Task.Factory.StartNew(
            MillionPutsAllocateNothing, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private static void MillionPutsAllocateNothing()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with
        {
            WalSegmentBytes = 32_000_000,
            SnapshotCount = 40_000,
            BufferBytes = 8 << 20, // so that commits have their largest size soon
            UnsafeNoSync = true,
        };
        using PolledMember polled = PolledMember.Open(options);
        var driver = new Driver(polled.Member);
        driver.Run(400_000); // cuts, snapshots and commits among them: every table has its size
        string report = driver.Report();
        bool allocated = true;
        for (int attempt = 0; attempt < 3 && allocated; attempt++)
        {
            // The runtime's own queue of work for its pool grows on the thread that finds it full: on a machine that has no
            // time for the pool that is the store's, once. What is ours allocates in every million or in none.
            Array.Clear(driver.AllocatedBytes);
            long commits = polled.Member.Store.TreeActor.Commits;
            ulong snapshot = polled.Member.Status.SnapshotIndex;
            driver.Run(1_000_000);
            report += driver.Report() + "\n";
            Assert.True(polled.Member.Store.TreeActor.Commits > commits, report);
            Assert.True(polled.Member.Status.SnapshotIndex > snapshot + 400_000, report);
            allocated = false;
            for (int i = 0; i < driver.Names.Length; i++)
            {
                allocated |= driver.Names[i] is "raft" or "wal" or "store" or "btree" && driver.AllocatedBytes[i] != 0;
            }
        }

        Assert.False(allocated, report);
        Assert.False(driver.Failed, report);
    }

    /// <summary>The threads that prepare files and write snapshots may allocate.</summary>
    private static bool IsOfTheWritePath(string role) => role is "raft" or "wal" or "store" or "btree" or "client";

    /// <summary>Keeps a number of puts in flight; a closed loop without awaits.</summary>
    private sealed class Driver
    {
        private readonly Member _member;
        private readonly IActor[] _actors;
        private readonly RequestSlot[] _slots = new RequestSlot[AtOnce];
        private readonly bool[] _told = new bool[AtOnce];
        private readonly Action[] _tell = new Action[AtOnce];
        private readonly byte[] _body = Requests.Put("key-00000000", new string('v', 256));
        private readonly System.Collections.Generic.List<(string Role, long Bytes)> _polls = new(20);
        private int _serial;
        private bool _failed;

        public Driver(Member member)
        {
            _member = member;
            _actors = new IActor[member.Actors.Length];
            Names = new string[_actors.Length + 1];
            for (int i = 0; i < _actors.Length; i++)
            {
                _actors[i] = member.Actors[i].Actor;
                Names[i] = _actors[i].RoleName;
            }

            for (int i = 0; i < AtOnce; i++)
            {
                int place = i;
                _tell[i] = () => Volatile.Write(ref _told[place], true);
            }

            Names[^1] = "client";
            AllocatedBytes = new long[Names.Length];
        }

        public string[] Names { get; }

        public long[] AllocatedBytes { get; }

        public void Run(int puts)
        {
            int started = 0;
            int done = 0;
            while (done < puts)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < AtOnce; i++)
                {
                    ref RequestSlot slot = ref _slots[i];
                    // The continuation is waited for, as a caller's await does: answers nobody has been told of yet
                    // would pile up in the pool's queue, and that queue's growth is not the write path's.
                    if (slot is not null && Volatile.Read(ref _told[i]))
                    {
                        _failed |= slot.Outcome != ErrorCode.None;
                        _member.Return(slot);
                        slot = null!;
                        done++;
                    }

                    if (slot is null && started < puts)
                    {
                        started++;
                        _told[i] = false;
                        slot = Put(_tell[i]);
                    }
                }

                AllocatedBytes[^1] += GC.GetAllocatedBytesForCurrentThread() - before;
                for (int i = 0; i < _actors.Length; i++)
                {
                    before = GC.GetAllocatedBytesForCurrentThread();
                    _ = _actors[i].Poll(SystemClock.Instance.NowNs);
                    long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
                    AllocatedBytes[i] += bytes;
                    if (bytes > 0 && IsOfTheWritePath(Names[i]) && _polls.Count < 20)
                    {
                        _polls.Add((Names[i], bytes));
                    }
                }
            }
        }

        public bool Failed => _failed;

        public string Report()
        {
            var text = new System.Text.StringBuilder();
            for (int i = 0; i < Names.Length; i++)
            {
                text.Append(Names[i]).Append(' ').Append(AllocatedBytes[i]).Append(" B  ");
            }

            foreach ((string role, long bytes) in _polls)
            {
                text.Append(role).Append('+').Append(bytes).Append(' ');
            }

            _polls.Clear();

            return text.ToString();
        }

        private RequestSlot Put(Action tell)
        {
            RequestSlot slot = _member.Rent();
            int number = _serial++ % 10_000;
            for (int digit = 13; digit > 8; digit--)
            {
                _body[digit] = (byte)('0' + (number % 10));
                number /= 10;
            }

            _body.CopyTo(slot.BeginRequest(RequestKind.Put, _body.Length));
#pragma warning disable CA2012 // consumed once, by its continuation; an await here would allocate
            _member.ProposeAsync(slot).GetAwaiter().UnsafeOnCompleted(tell);
#pragma warning restore CA2012
            return slot;
        }
    }
}
