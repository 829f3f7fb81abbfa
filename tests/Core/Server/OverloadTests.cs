// OverloadTests: what callers are told when a part of the pipeline stands still, and that nothing is lost or written
// twice when it moves again. The test decides which actors are polled.
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class OverloadTests
{
    [Fact]
    public void Proposal_LogStandsStill_TimesOutAndMayStillHappen()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        (RequestSlot slot, Task<ErrorCode> pending) = Submit(polled.Member, "a", deadlineMs: 30);
        PollOnly(polled, "raft", () => pending.IsCompleted);
        Assert.Equal(ErrorCode.Timeout, slot.Outcome);
        polled.Member.Return(slot);

        // The entry is in the log: its outcome was unknown, here it happens after all.
        Assert.Equal(ErrorCode.None, polled.Put("b", "2"));
        Assert.Equal("a", polled.Get("a"));
        Assert.Equal(3, polled.Member.Status.Revision);
    }

    [Fact]
    public void Proposal_WithoutLeader_EndsWithTheDeadlineOfItsContext()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(PolledMember.OptionsFor(dir.Path), ready: false);
        (RequestSlot slot, Task<ErrorCode> pending) = Submit(polled.Member, "a", deadlineMs: 30);
        PollOnly(polled, "raft", () => pending.IsCompleted);
        Assert.Equal(ErrorCode.ContextDeadlineExceeded, slot.Outcome);
        polled.Member.Return(slot);
        polled.Run(() => polled.Member.Ready.IsCompleted, "ready");
        Assert.Null(polled.Get("a"));
    }

    [Fact]
    public void Read_BeforeTheFirstCommitOfTheTerm_WaitsForIt()
    {
        using var dir = new TempDir();
        using (PolledMember before = PolledMember.Open(dir.Path))
        {
            Assert.Equal(ErrorCode.None, before.Put("a", "1")); // acknowledged, in the log only
        }

        using PolledMember polled = PolledMember.Open(PolledMember.OptionsFor(dir.Path), ready: false);
        RequestSlot slot = polled.Member.Rent();
        Task<ErrorCode> pending = polled.Member.ReadIndexAsync(slot).AsTask();
        Assert.False(pending.IsCompleted);
        polled.Run(() => pending.IsCompleted, "read index");
        Assert.Equal(ErrorCode.None, slot.Outcome);
        Assert.True(polled.Member.Status.AppliedTerm > 2);
        Assert.Equal(2, polled.Member.Status.Revision);
        polled.Member.Return(slot);
    }

    [Fact]
    public void Proposals_StoreStandsStill_AreRefusedBeyondTheGapAndAllTakenOnesApplied()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(PolledMember.OptionsFor(dir.Path) with { WalSegmentBytes = 64_000_000 });
        var taken = new List<RequestSlot>();
        bool refused = false;
        for (int i = 0; i < 20_000 && !refused; i++)
        {
            (RequestSlot slot, Task<ErrorCode> pending) = Submit(polled.Member, $"k{i}", deadlineMs: 60_000);
            if (pending.IsCompleted && !slot.IsCompleted)
            {
                refused = true;
                polled.Member.Return(slot);
                break;
            }

            taken.Add(slot);
            if (i % 64 == 0)
            {
                PollOnly(polled, "raft", () => true);
                PollOnly(polled, "wal", () => true);
            }
        }

        Assert.True(refused, "somebody says no");
        Assert.InRange(polled.Member.Status.CommittedIndex - polled.Member.Status.AppliedIndex, 5000UL, 5300UL);
        polled.Run(() => taken.TrueForAll(slot => slot.IsCompleted), "everything taken");
        Assert.True(taken.TrueForAll(slot => slot.Outcome == ErrorCode.None));
        Assert.Equal(1 + taken.Count, polled.Member.Status.Revision);
        taken.ForEach(polled.Member.Return);
        Assert.Equal(ErrorCode.None, polled.Put("again", "1"));
    }

    [Fact]
    public void Entry_OfUnknownKind_StopsTheMemberAndThenItsStart()
    {
        using var dir = new TempDir();
        ulong index;
        using (PolledMember polled = PolledMember.Open(dir.Path))
        {
            Assert.Equal(ErrorCode.None, polled.Put("a", "1"));
            polled.FreezeAndWait();
            index = polled.Member.Status.AppliedIndex + 1;
            RequestSlot slot = polled.Member.Rent();
            slot.BeginRequest((RequestKind)1999, 3).Clear();
            _ = polled.Member.ProposeAsync(slot).AsTask();
            Assert.Throws<InvalidOperationException>(() => polled.Run(() => slot.IsCompleted, "never"));
            Assert.Contains($"log entry {index} ", polled.Fatal.Message, StringComparison.Ordinal);
            Assert.Contains("1999", polled.Fatal.Message, StringComparison.Ordinal);
        }

        string[] before = Directory.GetFiles(dir.Path, "*", SearchOption.AllDirectories);
        MemberStartException refusal = Assert.Throws<MemberStartException>(() => PolledMember.Open(dir.Path));
        Assert.Contains($"log entry {index} ", refusal.Message, StringComparison.Ordinal);
        Assert.Contains("1999", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(before, Directory.GetFiles(dir.Path, "*", SearchOption.AllDirectories));
    }

    private static (RequestSlot Slot, Task<ErrorCode> Pending) Submit(Member member, string key, int deadlineMs)
    {
        RequestSlot slot = member.Rent();
        byte[] body = Requests.Put(key, key);
        body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
        long deadline = SystemClock.Instance.NowNs + (deadlineMs * 1_000_000L);
        return (slot, member.ProposeAsync(slot, deadline).AsTask());
    }

    private static void PollOnly(PolledMember polled, string role, Func<bool> until)
    {
        do
        {
            foreach (MemberActor actor in polled.Member.Actors)
            {
                if (actor.Actor.RoleName == role)
                {
                    while (actor.Actor.Poll(SystemClock.Instance.NowNs) && !until())
                    {
                    }
                }
            }
        }
        while (!until());
    }
}
