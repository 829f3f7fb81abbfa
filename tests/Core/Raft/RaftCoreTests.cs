// Stories of one voter: first start, election, commit, reads, limits, configuration changes, restart.
using System;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using CsCheck;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftCoreTests(ITestOutputHelper output)
{
    [Fact]
    public void FirstStart_OneMember_WritesWhatEtcdWrites()
    {
        // A real etcd 3.5 writes: entry (1,1) ConfChange; state 1,0,1; state with the vote of term 2; entry (2,2) empty.
        using var harness = new RaftHarness();
        _ = harness.TakeUnits();
        AppendUnit first = Assert.Single(harness.Units);
        Assert.Equal((1UL, 1, true), (first.FirstIndex, first.EntryCount, first.MustSync));
        Assert.Equal(new HardState(1, 0, 1), first.HardState);
        Assert.False(harness.Core.TryTakeCommitted(10, out _, out _)); // agreed on, but not durable here yet

        harness.Tick();
        harness.Tick();
        Assert.Equal(RaftRole.Follower, harness.Core.Role); // no campaign before its own membership is applied
        harness.Sync(1);
        harness.Apply(10);
        Assert.True(harness.Core.Configuration.IsSoleVoter(RaftHarness.Self));

        harness.Tick();
        Assert.Equal((RaftRole.Candidate, 2UL), (harness.Core.Role, harness.Core.Term));
        Assert.Equal(1, harness.TakeUnits());
        Assert.Equal((0, true, new HardState(2, RaftHarness.Self, 1)), (harness.Units[1].EntryCount, harness.Units[1].MustSync, harness.Units[1].HardState));
        Assert.Equal(RaftRole.Candidate, harness.Core.Role); // its vote is not durable: nobody counted it
        harness.Sync(1);
        Assert.Equal((RaftRole.Leader, 2UL, RaftHarness.Self), (harness.Core.Role, harness.Core.Term, harness.Core.Leader));

        Assert.Equal(1, harness.TakeUnits());
        Assert.Equal((2UL, 1), (harness.Units[2].FirstIndex, harness.Units[2].EntryCount));
        Assert.Equal(1UL, harness.Core.Commit); // its own term's entry is not durable yet
        harness.Sync(1);
        Assert.Equal(2UL, harness.Core.Commit);
        harness.Apply(10);
        Assert.Empty(harness.Ledger[2].Payload);
    }

    [Fact]
    public void Proposal_BeforeDurable_IsNeitherCommittedNorApplied()
    {
        using RaftHarness harness = Leader();
        Assert.Equal(ProposalResult.Appended, harness.Propose(10));
        ulong index = harness.Core.LastIndex;
        _ = harness.TakeUnits();
        harness.Apply(10);
        Assert.True(harness.Core.Commit < index);
        harness.Sync(1);
        Assert.Equal(index, harness.Core.Commit);
        harness.Apply(10);
        Assert.Equal(index, harness.Core.Applied);
    }

    [Fact]
    public void Proposal_WithoutLeadership_IsRefusedAndKeptByTheProposer()
    {
        using var harness = new RaftHarness();
        Assert.Equal(ProposalResult.NotLeader, harness.Propose(10));
    }

    [Fact]
    public void UncommittedBytes_AboveTheLimit_RefuseNormalBeforeControl()
    {
        using RaftHarness harness = Leader(new RaftConfig
        {
            Id = RaftHarness.Self,
            MaxUncommittedBytes = 1_000,
            ControlReserveBytes = 500,
        });
        Assert.Equal(ProposalResult.Appended, harness.Propose(5_000)); // an oversized one into an empty tail passes
        Assert.Equal(ProposalResult.TooMuchUncommitted, harness.Propose(1));
        Assert.Equal(ProposalResult.TooMuchUncommitted, harness.Propose(1, ProposalKind.Control));
        harness.Settle();
        Assert.Equal(0, harness.Core.UncommittedBytes);
        Assert.Equal(ProposalResult.Appended, harness.Propose(1_000));
        Assert.Equal(ProposalResult.TooMuchUncommitted, harness.Propose(1));
        Assert.Equal(ProposalResult.Appended, harness.Propose(500, ProposalKind.Control));
        Assert.Equal(ProposalResult.TooMuchUncommitted, harness.Propose(1, ProposalKind.Control));
    }

    [Fact]
    public void Apply_TooFarBehind_GetsNoMoreUntilItReports()
    {
        using RaftHarness harness = Leader(new RaftConfig { Id = RaftHarness.Self, MaxApplyingBytes = 100 });
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(ProposalResult.Appended, harness.Propose(60));
        }

        _ = harness.TakeUnits();
        harness.Sync(10);
        Assert.True(harness.Core.TryTakeCommitted(100, out ulong lo, out ulong hi));
        Assert.Equal(1UL, hi - lo); // 60 is below 100, 120 is not
        Assert.False(harness.Core.TryTakeCommitted(100, out _, out _));
        harness.Core.ReportApplied(hi);
        Assert.True(harness.Core.TryTakeCommitted(1, out ulong next, out ulong last));
        Assert.Equal((hi + 1, hi + 1), (next, last));
    }

    [Fact]
    public void Read_BeforeTheFirstOwnCommit_WaitsForIt()
    {
        // A restarted single member may hold acknowledged writes above its stored commit index.
        using RaftHarness harness = Leader();
        Assert.Equal(ProposalResult.Appended, harness.Propose(10));
        harness.Settle();
        ulong acknowledged = harness.Core.Applied;
        harness.Crash(0);
        harness.Tick();
        harness.Tick();
        for (int i = 0; i < 3 && harness.Core.Role != RaftRole.Leader; i++)
        {
            harness.Apply(100);
            harness.Tick();
            _ = harness.TakeUnits();
            harness.Sync(1);
        }

        Assert.Equal(RaftRole.Leader, harness.Core.Role);
        Assert.False(harness.Core.IsReadReady);
        Assert.Equal(ReadIndexResult.Waiting, harness.Core.ReadIndex(77, out _));
        Assert.False(harness.Core.TryTakeRead(out _));
        _ = harness.TakeUnits();
        harness.Sync(10);
        Assert.True(harness.Core.TryTakeRead(out ReadState read));
        Assert.True(read.IsConfirmed && read.Context == 77 && read.Index >= acknowledged);
        Assert.True(harness.Core.IsReadReady);
        Assert.Equal(ReadIndexResult.Ready, harness.Core.ReadIndex(78, out ulong index));
        Assert.Equal(harness.Core.Commit, index);
    }

    [Fact]
    public void Read_WhenLeadershipEnds_FailsTheWaiting()
    {
        using RaftHarness harness = Leader(new RaftConfig { Id = RaftHarness.Self, EnsuresSuccession = false });
        harness.Crash(0);
        Assert.Equal(ReadIndexResult.NotLeader, harness.Core.ReadIndex(1, out _));
        harness.Tick();
        harness.Apply(100);
        harness.Tick();
        _ = harness.TakeUnits();
        harness.Sync(1);
        Assert.Equal(ReadIndexResult.Waiting, harness.Core.ReadIndex(2, out _));
        // The member is removed while the read waits: it steps down and the reader is told.
        _ = harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.UpdateNode, RaftHarness.Self));
        Assert.Equal(RaftRole.Leader, harness.Core.Role);
        Assert.Throws<RaftStateException>(
            () => harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.RemoveNode, RaftHarness.Self)));
        _ = harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.AddNode, 9));
        _ = harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.RemoveNode, RaftHarness.Self));
        Assert.Equal(RaftRole.Follower, harness.Core.Role);
        Assert.True(harness.Core.TryTakeRead(out ReadState read));
        Assert.Equal((2UL, false), (read.Context, read.IsConfirmed));
    }

    [Fact]
    public void ConfChange_OneAtATime_AndAfterTheHardStateThatCommitsTheLast()
    {
        using RaftHarness harness = Leader();
        harness.Settle();
        Assert.Equal(ProposalResult.Appended, harness.ProposeConfChange(ConfChangeType.AddLearnerNode, 5));
        Assert.Equal(ProposalResult.ConfChangePending, harness.ProposeConfChange(ConfChangeType.AddLearnerNode, 6));
        _ = harness.TakeUnits();
        harness.Sync(10);
        Assert.Equal(ProposalResult.ConfChangePending, harness.ProposeConfChange(ConfChangeType.RemoveNode, 5)); // committed, not applied
        harness.Apply(10);
        int before = harness.Units.Count;
        Assert.Equal(ProposalResult.Appended, harness.ProposeConfChange(ConfChangeType.RemoveNode, 5));
        _ = harness.TakeUnits();
        Assert.Equal(2, harness.Units.Count - before);
        AppendUnit state = harness.Units[before];
        Assert.Equal((0, true, false), (state.EntryCount, state.HasHardState, state.MustSync));
        Assert.Equal(harness.Core.Commit, state.HardState.Commit);
        Assert.Equal(1, harness.Units[before + 1].EntryCount);
        harness.Sync(10);
        harness.Apply(10);
        Assert.True(harness.Core.Configuration.IsAlone(RaftHarness.Self));
        Assert.Equal(ProposalResult.ConfChangeRefused, harness.ProposeConfChange(ConfChangeType.RemoveNode, RaftHarness.Self));
    }

    [Fact]
    public void Commit_NothingElseToWrite_IsWrittenAfterAQuietWhile()
    {
        using RaftHarness harness = Leader();
        Assert.Equal(ProposalResult.Appended, harness.Propose(10));
        _ = harness.TakeUnits();
        harness.Sync(10);
        harness.Apply(10);
        Assert.Equal(0, harness.TakeUnits());
        Assert.True(harness.Core.NextDeadlineNs < long.MaxValue);
        harness.Tick(50_000_000);
        Assert.Equal(0, harness.TakeUnits());
        harness.Tick(60_000_000);
        Assert.Equal(1, harness.TakeUnits());
        Assert.Equal((0, false, harness.Core.Commit), (harness.Units[^1].EntryCount, harness.Units[^1].MustSync, harness.Units[^1].HardState.Commit));
        Assert.Equal(long.MaxValue, harness.Core.NextDeadlineNs); // nothing left to wake for
    }

    [Fact]
    public void Units_LargeBacklog_AreBounded()
    {
        using RaftHarness harness = Leader(new RaftConfig { Id = RaftHarness.Self, MaxUnitEntries = 8, MaxUnitBytes = 100 });
        int before = harness.Units.Count;
        foreach (int size in new[] { 60, 60, 300, 1, 1, 1, 1, 1, 1, 1, 1, 1 })
        {
            Assert.Equal(ProposalResult.Appended, harness.Propose(size));
        }

        _ = harness.TakeUnits();
        Assert.Equal([1, 1, 1, 8, 1], harness.Units.GetRange(before, harness.Units.Count - before).ConvertAll(u => u.EntryCount));
    }

    [Fact]
    public void Log_AloneAndApplied_KeepsLittle_AndAnswersForTheRest()
    {
        using RaftHarness harness = Leader();
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(ProposalResult.Appended, harness.Propose(40));
        }

        harness.Settle();
        Assert.True(harness.LivePayloads <= 8, $"{harness.LivePayloads} payloads kept");
        Assert.Equal(LogAnswer.Pending, harness.Core.Locate(5));
        Assert.Equal(LogAnswer.Ready, harness.Core.Locate(harness.Core.LastIndex));
        Assert.Equal(LogAnswer.Unavailable, harness.Core.Locate(harness.Core.LastIndex + 1));
        Assert.Equal(LogAnswer.Ready, harness.Core.TryGetTerm(5, out ulong term));
        Assert.Equal(2UL, term);
        harness.Snapshot(10);
        harness.Sync(10);
        Assert.Equal(LogAnswer.Compacted, harness.Core.Locate(5));
        Assert.Equal(LogAnswer.Compacted, harness.Core.TryGetTerm(5, out _));
        Assert.Equal(harness.Core.Applied - 10, harness.Core.CompactedIndex);
    }

    [Fact]
    public void Truncation_WhileAUnitIsInFlight_DoesNotMakeReplacedEntriesDurable()
    {
        // Units written before a suffix was replaced are acknowledged afterwards: they count up to the cut only.
        using RaftHarness harness = Leader(new RaftConfig { Id = RaftHarness.Self, EnsuresSuccession = false });
        ulong kept = harness.Core.LastIndex;
        Assert.Equal(ProposalResult.Appended, harness.Propose(10));
        Assert.Equal(ProposalResult.Appended, harness.Propose(10));
        _ = harness.TakeUnits();
        Assert.Throws<Cairn.Base.InvariantException>(() => harness.Core.TruncateFrom(kept + 1)); // a leader never rewrites (R3)
        _ = harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.AddNode, 9));
        _ = harness.Core.ApplyConfChange(new ConfChangeStep(ConfChangeType.RemoveNode, RaftHarness.Self));
        Assert.Equal(RaftRole.Follower, harness.Core.Role);
        Assert.Throws<Cairn.Base.InvariantException>(() => harness.Core.TruncateFrom(harness.Core.Commit)); // R10
        int payloads = harness.LivePayloads;
        harness.Core.TruncateFrom(kept + 2);
        Assert.Equal(payloads, harness.LivePayloads); // the WAL may still be reading it
        harness.Sync(10);
        Assert.Equal((kept + 1, kept + 1), (harness.Core.Durable, harness.Core.LastIndex));
        Assert.Equal(payloads - 1, harness.LivePayloads);
    }

    [Theory]
    [InlineData(0, 1, 3, "commit index 3 is above the last log index 1")]
    [InlineData(0, 2, 0, "index 2 term 1 found where index 1")]
    [InlineData(5, 5, 0, "index 5 term 1 found where index 6")]
    public unsafe void Restart_PartsThatDoNotFit_AreRefused(ulong snapshot, ulong index, ulong commit, string expected)
    {
        using var payloads = new RaftHarness(bootstrap: false);
        RaftEntry[] entries = [new RaftEntry { Index = index, Term = 1 }];
        RaftStateException problem = Assert.Throws<RaftStateException>(() => new RaftCore(
            new RaftConfig { Id = 1 }, payloads, new HardState(1, 0, commit), ConfState.Empty, snapshot, 1, entries));
        Assert.Contains(expected, problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Restart_AfterCrashAtAnyMoment_KeepsEverythingApplied()
    {
        Gen.Select(Gen.Int[0, 12], Gen.Int[0, 40]).Array[20, 120].Sample(
            steps =>
            {
                using var harness = new RaftHarness();
                foreach ((int action, int amount) in steps)
                {
                    Act(harness, action, amount);
                }

                harness.Settle(10);
                if (harness.Core.Configuration.IsSoleVoter(RaftHarness.Self))
                {
                    Assert.Equal(RaftRole.Leader, harness.Core.Role);
                    Assert.Equal(harness.Core.LastIndex, harness.Core.Applied);
                }
            },
            iter: 3_000);

        static void Act(RaftHarness harness, int action, int amount)
        {
            switch (action)
            {
                case 0 or 1 or 2:
                    _ = harness.Propose(amount + 1, amount % 5 == 0 ? ProposalKind.Control : ProposalKind.Normal, (byte)amount);
                    break;
                case 3 or 4:
                    _ = harness.TakeUnits();
                    break;
                case 5 or 6:
                    harness.Sync(1 + (amount % 3));
                    break;
                case 7 or 8:
                    harness.Apply(1 + (amount % 8));
                    break;
                case 9:
                    harness.Tick(amount * 5_000_000L);
                    break;
                case 10:
                    harness.Snapshot((ulong)(amount % 7));
                    break;
                case 11 when amount < 20:
                    _ = harness.ProposeConfChange(
                        amount % 2 == 0 ? ConfChangeType.AddLearnerNode : ConfChangeType.RemoveNode, 5 + (ulong)(amount % 3));
                    break;
                case 12 when amount < 12:
                    harness.Crash(amount % 4);
                    break;
            }
        }
    }

    [Fact]
    public unsafe void Batch64_SteadyState_AllocatesNothing_AndCostsLittle()
    {
        var payloads = new NoPayloads();
        using var core = new RaftCore(
            new RaftConfig { Id = 1 }, payloads, new HardState(1, 0, 0), new ConfState { Voters = [1] }, 0, 0, []);
        long now = 0;
        core.Tick(now);
        core.Tick(now += 20_000_000);
        var batch = new RaftProposal[64];
        var copies = new RaftEntry[64];
        byte[] bytes = GC.AllocateArray<byte>(1, pinned: true);
        nint payload = (nint)System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(bytes, 0);
        Round(); // vote
        Round(); // first entry
        for (int i = 0; i < 2_000; i++)
        {
            Round();
        }

        const int Rounds = 16_000;
        long start = ThreadCpuNs();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Rounds; i++)
        {
            Round();
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        long spent = ThreadCpuNs() - start;
        Assert.True(payloads.Released > Rounds * 60);
        output.WriteLine($"{spent / Rounds / 64} ns of CPU an entry at batch 64, propose to applied");

        void Round()
        {
            byte* data = (byte*)payload;
            for (int i = 0; i < batch.Length; i++)
            {
                batch[i] = new RaftProposal { Data = data, Length = 1, Owner = 1 };
            }

            core.Propose(batch);
            core.Tick(now += 100_000);
            while (core.TryTakeAppend(out AppendUnit unit))
            {
                core.CopyEntries(unit.FirstIndex, copies.AsSpan(0, unit.EntryCount));
                core.WalDurable(unit.Sequence);
            }

            while (core.TryTakeCommitted(64, out ulong lo, out ulong hi))
            {
                core.CopyEntries(lo, copies.AsSpan(0, (int)(hi - lo + 1)));
                core.ReportApplied(hi);
            }

            _ = core.ReadIndex(1, out _);
        }
    }

    private static RaftHarness Leader(RaftConfig? config = null)
    {
        var harness = new RaftHarness(config);
        harness.Settle();
        Assert.Equal(RaftRole.Leader, harness.Core.Role);
        return harness;
    }

    private static unsafe long ThreadCpuNs()
    {
        long* time = stackalloc long[2];
        Assert.Equal(0, ClockGetTime(3, time)); // CLOCK_THREAD_CPUTIME_ID
        return (time[0] * 1_000_000_000) + time[1];
    }

    [System.Runtime.InteropServices.DllImport("libc", EntryPoint = "clock_gettime")]
    private static extern unsafe int ClockGetTime(int clock, long* time);

    private sealed class NoPayloads : IPayloadOwner
    {
        public long Released { get; private set; }

        public void Release(nint owner) => Released++;
    }
}
