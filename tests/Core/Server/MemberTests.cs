// MemberTests: one member as a whole, over real files, polled by the test: what a client sees, what a restart keeps.
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class MemberTests
{
    [Fact]
    public void FreshMember_Ready_HasItsIdentityVersionAndAttributes()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        Member member = polled.Member;
        Assert.Equal(MemberIds.OfBootstrapMember(["http://127.0.0.1:43380"], "test"), member.Id);
        Assert.Equal(MemberIds.OfCluster([member.Id]), member.ClusterId);
        Assert.Equal("3.5.0", member.ClusterView.Version);
        Assert.Equal(string.Empty, member.StorageVersion);
        ClusterMember self = Assert.Single(member.ClusterView.Members.ToArray());
        Assert.Equal("m1", self.Name);
        Assert.Equal(["http://127.0.0.1:43379"], self.ClientUrls);
        Assert.Equal(member.Id, member.Status.Leader);
        Assert.Equal(2UL, member.Status.Term);
        Assert.Equal(4UL, member.Status.AppliedIndex); // conf change, empty entry, attributes, version
    }

    [Fact]
    public void Put_ThenLinearizableRead_SeesIt()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        (ErrorCode outcome, byte[] response) = polled.Propose(RequestKind.Put, Requests.Put("a", "1"));
        Assert.Equal(ErrorCode.None, outcome);
        Assert.Equal(2, Requests.HeaderRevision(response));
        byte[] header = Requests.Field(response, 1)!;
        Assert.Equal(polled.Member.ClusterId, Requests.Varint(header, 1));
        Assert.Equal(polled.Member.Id, Requests.Varint(header, 2));
        Assert.Equal(2UL, Requests.Varint(header, 4));
        Assert.Equal("1", polled.Get("a"));
        Assert.Null(polled.Get("b"));
    }

    [Fact]
    public void Txn_DeleteAndCompaction_BehaveAsOneStore()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        byte[] txn = Requests.Txn((2, Requests.Put("a", "1")), (2, Requests.Put("b", "2")));
        Assert.Equal(2, Requests.HeaderRevision(polled.Propose(RequestKind.Txn, txn).Response));
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.DeleteRange, Requests.Delete("a")).Outcome);
        Assert.Null(polled.Get("a"));
        Assert.Equal("1", polled.Get("a", revision: 2));
        Assert.Equal(ErrorCode.FutureRev, polled.Propose(RequestKind.Compaction, Requests.Compaction(9)).Outcome);
        Assert.Equal(
            ErrorCode.None, polled.Propose(RequestKind.Compaction, Requests.Compaction(3, physical: true)).Outcome);
        Assert.Equal(3, polled.Member.Store.FinishedCompactRevision);
        Assert.Equal(ErrorCode.Compacted, polled.Propose(RequestKind.Compaction, Requests.Compaction(3)).Outcome);
        Assert.Equal("2", polled.Get("b"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Restart_AfterStopOrKill_KeepsEveryAcknowledgedWriteOnce(bool clean)
    {
        using var dir = new TempDir();
        long revision = 1;
        for (int round = 0; round < 4; round++)
        {
            using PolledMember polled = PolledMember.Open(dir.Path);
            Assert.Equal(revision, polled.Member.Status.Revision);
            for (int i = 0; i < 50; i++)
            {
                byte[] response = polled.Propose(RequestKind.Put, Requests.Put($"k{round}-{i}", $"v{i}")).Response;
                Assert.Equal(++revision, Requests.HeaderRevision(response));
                if (i == 25)
                {
                    polled.FreezeAndWait(); // half of the entries are in the tree, half only in the log
                }
            }

            for (int before = 0; before <= round; before++)
            {
                Assert.Equal("v49", polled.Get($"k{before}-49"));
            }

            if (clean)
            {
                polled.Stop();
            }
        }
    }

    [Fact]
    public void Stop_ThenOpen_FindsNothingToApply()
    {
        using var dir = new TempDir();
        ulong applied;
        using (PolledMember polled = PolledMember.Open(dir.Path))
        {
            Assert.Equal(ErrorCode.None, polled.Put("a", "1"));
            applied = polled.Member.Status.AppliedIndex;
            polled.Stop();
        }

        using PolledMember again = PolledMember.Open(PolledMember.OptionsFor(dir.Path), ready: false);
        Assert.Equal(applied, again.Member.Status.AppliedIndex);
        Assert.Equal(applied, again.Member.Status.CommittedIndex);
        Assert.Equal(2, again.Member.Status.Revision);
    }

    [Fact]
    public void Proposal_AfterStopBegan_IsRefusedAsStopped()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        polled.Member.BeginStop();
        Assert.Equal(ErrorCode.Stopped, polled.Put("a", "1"));
        polled.Run(() => polled.Member.Stopped.IsCompleted, "stop");
        Assert.Equal(ErrorCode.Stopped, polled.Put("a", "1"));
    }

    [Fact]
    public async Task Proposal_PendingWhenMemberIsDropped_EndsAsStopped()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        RequestSlot slot = polled.Member.Rent();
        byte[] body = Requests.Put("a", "1");
        body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
        var pending = polled.Member.ProposeAsync(slot).AsTask();
        polled.Dispose();
        Assert.Equal(ErrorCode.Stopped, await pending);
    }

    [Fact]
    public async Task Proposal_GivenUpBeforeItIsProposed_IsNeverAppended()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        ulong before = polled.Member.Status.AppliedIndex;
        RequestSlot slot = polled.Member.Rent();
        byte[] body = Requests.Put("a", "1");
        body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
        var pending = polled.Member.ProposeAsync(slot).AsTask();
        Assert.True(slot.TryAbandon(ErrorCode.ContextCanceled));
        polled.Member.Return(slot);
        Assert.Equal(ErrorCode.ContextCanceled, await pending);
        Assert.Equal(ErrorCode.None, polled.Put("b", "1"));
        Assert.Equal(before + 1, polled.Member.Status.AppliedIndex);
        Assert.Null(polled.Get("a"));
    }

    [Fact]
    public void Proposal_TooLarge_IsRefused()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(PolledMember.OptionsFor(dir.Path) with { MaxRequestBytes = 100 });
        Assert.Equal(ErrorCode.RequestTooLarge, polled.Put("a", new string('x', 100)));
        Assert.Equal(ErrorCode.None, polled.Put("a", "x"));
    }

    [Fact]
    public void Slot_Timestamps_FollowThePathOfAWrite()
    {
        using var dir = new TempDir();
        using PolledMember polled = PolledMember.Open(dir.Path);
        RequestSlot slot = polled.Member.Rent();
        byte[] body = Requests.Put("a", "1");
        body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
        Assert.Equal(ErrorCode.None, polled.Await(polled.Member.ProposeAsync(slot), "put"));
        Assert.True(slot.ProposedNs > 0);
        Assert.True(slot.DurableNs >= slot.ProposedNs);
        Assert.True(slot.CommittedNs >= slot.DurableNs);
        Assert.True(slot.AppliedNs >= slot.CommittedNs);
        Assert.Equal(polled.Member.Status.AppliedIndex, slot.Index);
        polled.Member.Return(slot);
    }

    [Fact]
    public void Leases_GrantPutRevokeAndRestart_KeepTheirKeys()
    {
        using var dir = new TempDir();
        using (PolledMember polled = PolledMember.Open(dir.Path))
        {
            (ErrorCode outcome, byte[] granted) = polled.Propose(RequestKind.LeaseGrant, Requests.Numbers(100, 7));
            Assert.Equal(ErrorCode.None, outcome);
            Assert.Equal(7UL, Requests.Varint(granted, 2));
            Assert.Equal(100UL, Requests.Varint(granted, 3));
            Assert.Equal(ErrorCode.LeaseExists, polled.Propose(RequestKind.LeaseGrant, Requests.Numbers(100, 7)).Outcome);
            Assert.Equal(ErrorCode.None, polled.Put("leased", "x", lease: 7));
            Assert.Equal(ErrorCode.LeaseNotFound, polled.Put("other", "x", lease: 8));
        }

        using (PolledMember polled = PolledMember.Open(dir.Path))
        {
            RequestSlot slot = polled.Member.Rent();
            var query = new StoreQuery(StoreQueryKind.LeaseTimeToLive, 7, Keys: true);
            Assert.Equal(ErrorCode.None, polled.Await(polled.Member.QueryAsync(slot, in query), "time to live"));
            Assert.Equal("leased"u8.ToArray(), Requests.Field(slot.Response.WrittenSpan, 5));
            polled.Member.Return(slot);
            Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.LeaseRevoke, Requests.Numbers(7), ProposalLane.Control).Outcome);
            Assert.Null(polled.Get("leased"));
            Assert.Equal(ErrorCode.LeaseNotFound, polled.Propose(RequestKind.LeaseRevoke, Requests.Numbers(7)).Outcome);
        }
    }

    [Fact]
    public void Quota_Reached_RaisesTheAlarmAndCapsWritesUntilDisarmed()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { QuotaBytes = 1 << 20 };
        using PolledMember polled = PolledMember.Open(options);
        byte[] big = Requests.Put("big", new string('x', 1 << 20));
        Assert.Equal(ErrorCode.NoSpace, polled.Member.CheckQuota(RequestKind.Put, big));
        polled.Run(() => polled.Member.Alarms.HasNoSpace, "alarm");
        Assert.Equal(ErrorCode.NoSpace, polled.Put("a", "1"));
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.DeleteRange, Requests.Delete("a")).Outcome);
        Assert.Equal(ErrorCode.NoSpace, polled.Propose(RequestKind.LeaseGrant, Requests.Numbers(100, 7)).Outcome);
        byte[] disarm = Requests.Numbers(2, (long)polled.Member.Id, 1);
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.Alarm, disarm, ProposalLane.Control).Outcome);
        Assert.Equal(ErrorCode.None, polled.Put("a", "1"));
        Assert.False(polled.Member.Alarms.HasNoSpace);
    }

    [Fact]
    public void Quota_CountsWhatIsNotYetInTheTree()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { QuotaBytes = 1 << 20, BatchIntervalMs = 1_000_000, BatchLimit = 1_000_000 };
        using PolledMember polled = PolledMember.Open(options);
        byte[] body = Requests.Put("k", new string('x', 50_000));

        // In flight: handed in, nothing polled yet.
        var slots = new List<RequestSlot>();
        while (polled.Member.CheckQuota(RequestKind.Put, body) == ErrorCode.None)
        {
            Assert.InRange(slots.Count, 0, 21);
            RequestSlot slot = polled.Member.Rent();
            body.CopyTo(slot.BeginRequest(RequestKind.Put, body.Length));
            ValueTask<ErrorCode> pending = polled.Member.ProposeAsync(slot);
            Assert.False(pending.IsCompleted);
            slots.Add(slot);
        }

        Assert.InRange(slots.Count, 18, 20);

        // Applied, but in the write buffer alone.
        long committed = polled.Member.Store.Tree.InUseBytes;
        foreach (RequestSlot slot in slots)
        {
            polled.Run(() => slot.IsCompleted, "applied");
            polled.Member.Return(slot);
        }

        Assert.Equal(committed, polled.Member.Store.Tree.InUseBytes);
        Assert.Equal(ErrorCode.NoSpace, polled.Member.CheckQuota(RequestKind.Put, body));
        polled.Run(() => polled.Member.Alarms.HasNoSpace, "alarm");
    }

    [Fact]
    public void Quota_RoomMadeByACompaction_CountsWithoutDefragmentation()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { QuotaBytes = 1 << 20 };
        using PolledMember polled = PolledMember.Open(options);
        byte[] body = Requests.Put("k", new string('x', 50_000));
        while (polled.Member.CheckQuota(RequestKind.Put, body) == ErrorCode.None)
        {
            Assert.Equal(ErrorCode.None, polled.Put("k", new string('x', 50_000)));
            polled.FreezeAndWait();
        }

        long revision = polled.Member.Status.Revision;
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.Compaction, Requests.Numbers(revision), ProposalLane.Control).Outcome);
        polled.Run(() => polled.Member.Store.FinishedCompactRevision == revision, "compacted");
        polled.FreezeAndWait();
        polled.FreezeAndWait();
        Assert.True(polled.Member.Status.DbSizeBytes > 900_000, "the file is as long as before");
        Assert.Equal(ErrorCode.None, polled.Member.CheckQuota(RequestKind.Put, body));
    }

    [Fact]
    public void Compaction_PaceOfTheOptions_ReachesTheStore()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { CompactionBatchLimit = 10, CompactionPauseNs = 3_600_000_000_000 };
        using PolledMember polled = PolledMember.Open(options);
        for (int i = 0; i < 101; i++)
        {
            Assert.Equal(ErrorCode.None, polled.Put("k", $"{i}"));
        }

        polled.FreezeAndWait();
        long commits = polled.Member.Store.TreeActor.Commits;
        Assert.Equal(
            ErrorCode.None,
            polled.Propose(RequestKind.Compaction, Requests.Numbers(polled.Member.Status.Revision), ProposalLane.Control).Outcome);
        polled.Run(() => polled.Member.Store.TreeActor.Commits >= commits + 2, "the marker and the first ten deletes");
        Assert.Equal(ErrorCode.None, polled.Put("other", "1"));
        polled.FreezeAndWait();
        Assert.Equal(-1, polled.Member.Store.FinishedCompactRevision); // the next ten are due in an hour
    }

    [Fact]
    public void Quota_MetAtApply_AppliesTheWriteAndTellsItsCaller()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { QuotaBytes = 1 << 20 };
        using PolledMember polled = PolledMember.Open(options);
        Assert.Equal(ErrorCode.NoSpace, polled.Put("big", new string('x', 1 << 20)));
        polled.Run(() => polled.Member.Alarms.HasNoSpace, "alarm");
        Assert.Equal(1 << 20, polled.Get("big")!.Length);
    }

    [Fact]
    public void Snapshot_EveryNEntries_IsWrittenMarkedAndStartedFrom()
    {
        using var dir = new TempDir();
        MemberOptions options = PolledMember.OptionsFor(dir.Path) with { SnapshotCount = 50, WalSegmentBytes = 64 << 10, MaxWals = 2, MaxSnapshots = 2 };
        ulong snapshot;
        using (PolledMember polled = PolledMember.Open(options))
        {
            for (int i = 0; i < 400; i++)
            {
                Assert.Equal(ErrorCode.None, polled.Put($"k{i % 40}", new string('v', 500)));
                if (i % 60 == 59)
                {
                    polled.FreezeAndWait();
                }
            }

            polled.Run(() => polled.Member.Status.SnapshotIndex > 300, "snapshot");
            snapshot = polled.Member.Status.SnapshotIndex;
            string[] files = Directory.GetFiles(Path.Combine(dir.Path, "member", "snap"), "*.snap");
            Assert.InRange(files.Length, 1, 2);
        }

        using PolledMember again = PolledMember.Open(options, ready: false);
        Assert.Equal(snapshot, again.Member.Status.SnapshotIndex);
        again.Run(() => again.Member.Ready.IsCompleted, "ready");
        Assert.Equal(401, again.Member.Status.Revision);
        Assert.Equal("3.5.0", again.Member.ClusterView.Version);
    }
}
