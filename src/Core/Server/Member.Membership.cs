// Member.Membership: changes of the cluster: add, promote, remove, update, move the leader. Any thread; rare, allocates.
//
// A change is checked here against this member's view, proposed as one ConfChange entry, judged again at apply, and
// answered when raft itself has switched (Member.MembershipCall.cs has the steps), so that the next change is not refused for this one. It waits as long as its
// caller does: there is no time limit of the server's own (behaviour.md §2.1).
// Promotion  Only the leader knows how far a learner is; other members ask it through a PeerCall.
// Removal    of the leader: leadership is handed to the best voter first, so that the cluster does not wait an election.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

public sealed partial class Member
{
    /// <summary>Adds a member; its id comes from its URLs and the clock.</summary>
    /// <param name="peerUrls">Checked by the caller to be URLs.</param>
    /// <param name="isLearner">It shall not vote yet.</param>
    /// <param name="deadlineNs">The caller's; monotonic, long.MaxValue for none.</param>
    /// <returns>None and the member as it was added, or the refusal.</returns>
    public async Task<(ErrorCode Outcome, ClusterMember Member)> AddMemberAsync(
        IReadOnlyList<string> peerUrls, bool isLearner, long deadlineNs)
    {
        ArgumentNullException.ThrowIfNull(peerUrls);
        List<string> sorted = [.. peerUrls];
        sorted.Sort(StringComparer.Ordinal);
        var member = new ClusterMember
        {
            Id = MemberIds.OfAddedMember(sorted, _clock.UnixMilliseconds / 1000),
            PeerUrls = sorted,
            IsLearner = isLearner,
        };
        MembershipCall call = BeginAdd(member, deadlineNs);
        return (await RunAsync(call).ConfigureAwait(false), member);
    }

    /// <summary>Removes a member for ever.</summary>
    public Task<ErrorCode> RemoveMemberAsync(ulong id, long deadlineNs) =>
        RunAsync(new MembershipCall(this, MemberChange.Remove, id, deadlineNs));

    /// <summary>Changes where a member listens for its peers.</summary>
    public Task<ErrorCode> UpdateMemberAsync(ulong id, IReadOnlyList<string> peerUrls, long deadlineNs)
    {
        ArgumentNullException.ThrowIfNull(peerUrls);
        // In the order given: etcd looks at these URLs as little as at anything else about them.
        var member = new ClusterMember { Id = id, PeerUrls = peerUrls };
        return RunAsync(new MembershipCall(this, MemberChange.Update, id, deadlineNs) { Context = member.ToJson() });
    }

    /// <summary>Lets a learner vote, if its log is near the leader's.</summary>
    public Task<ErrorCode> PromoteMemberAsync(ulong id, long deadlineNs) => RunAsync(BeginPromote(id, deadlineNs));

    /// <summary>Hands leadership to a voter and waits until it leads.</summary>
    /// <param name="target">The voter; 0 for the best one.</param>
    /// <param name="deadlineNs">Monotonic.</param>
    public Task<ErrorCode> MoveLeaderAsync(ulong target, long deadlineNs)
    {
        if (_counters.Leader != Id)
        {
            return Task.FromResult(ErrorCode.NotLeader);
        }

        if (target == Id)
        {
            return Task.FromResult(ErrorCode.None);
        }

        return target != 0 && ClusterView.Find(target) is not { IsLearner: false }
            ? Task.FromResult(ErrorCode.BadLeaderTransferee)
            : CommandAsync(RaftCommandKind.MoveLeader, target, deadlineNs);
    }

    /// <summary>Asks raft to hand over without waiting for it; nothing if it does not lead. For tests and the simulator.</summary>
    internal void BeginHandOver(ulong target)
    {
        RequestSlot slot = Rent();
        _ = TryCommand(slot, RaftCommandKind.MoveLeader, target, _clock.NowNs + Options.RequestTimeoutNs);
        Return(slot);
    }

    /// <summary>Starts an election, as a timeout would; for tools and tests.</summary>
    public void Campaign()
    {
        _ = _wiring.Commands.TryEnqueue(new RaftCommand { Kind = RaftCommandKind.Campaign });
        _raftCell.Wake();
    }

    private void ServePromotions() => Serve(PeerCallKind.PromoteMember, request =>
    {
        if (request.Body.Length != 8)
        {
            request.Reply(ErrorCode.MalformedRequest, default);
            return;
        }

        _ = PromoteForAsync(request, BinaryPrimitives.ReadUInt64LittleEndian(request.Body.Span));
    });

    private async Task PromoteForAsync(PeerRequest request, ulong id)
    {
        ErrorCode outcome = _counters.Leader == Id
            ? await PromoteMemberAsync(id, _clock.NowNs + Options.RequestTimeoutNs).ConfigureAwait(false)
            : ErrorCode.NotLeader;
        request.Reply(outcome, default);
    }

    private ErrorCode Strictly(string change, ulong id, Func<ReconfigChecks, ErrorCode> check)
    {
        if (!Options.StrictReconfigCheck)
        {
            return ErrorCode.None;
        }

        long since = _clock.NowNs - ReconfigChecks.HealthIntervalNs;
        var checks = new ReconfigChecks(ClusterView, Id, peer =>
        {
            long connected = _peers.ActiveSince(peer);
            return connected != 0 && connected <= since;
        });
        ErrorCode refusal = check(checks);
        if (refusal != ErrorCode.None)
        {
            ServerLog.RefusedChange(_log, change, ServerLog.Id(id), Errors.Get(refusal).Message);
        }

        return refusal;
    }

    /// <summary>Adds a member that has its id already.</summary>
    internal MembershipCall BeginAdd(ClusterMember added, long deadlineNs) =>
        new(this, added.IsLearner ? MemberChange.AddLearner : MemberChange.Add, added.Id, deadlineNs) { Context = added.ToJson() };

    internal MembershipCall BeginPromote(ulong id, long deadlineNs) =>
        new(this, MemberChange.Promote, id, deadlineNs) { Context = MemberOpener.PromotionOf(id) };

    internal MembershipCall BeginRemove(ulong id, long deadlineNs) => new(this, MemberChange.Remove, id, deadlineNs);

    private static async Task<ErrorCode> RunAsync(MembershipCall call)
    {
        while (!call.Advance())
        {
            await call.WaitAsync().ConfigureAwait(false);
        }

        return call.Outcome;
    }

    private async Task<ErrorCode> CommandAsync(RaftCommandKind kind, ulong target, long deadlineNs)
    {
        RequestSlot slot = Rent();
        try
        {
            ErrorCode refusal = TryCommand(slot, kind, target, deadlineNs);
            return refusal == ErrorCode.None ? await slot.AsValueTask().ConfigureAwait(false) : refusal;
        }
        finally
        {
            Return(slot);
        }
    }

    /// <summary>Hands a command to raft; None: the slot will be completed.</summary>
    private ErrorCode TryCommand(RequestSlot slot, RaftCommandKind kind, ulong target, long deadlineNs)
    {
        if (_intake.IsClosed)
        {
            return ErrorCode.Stopped;
        }

        slot.Submit(deadlineNs);
        if (!_wiring.Commands.TryEnqueue(new RaftCommand { Kind = kind, Target = target, Slot = slot }))
        {
            slot.Withdraw();
            return ErrorCode.TooManyRequests;
        }

        _raftCell.Wake();
        if (_counters.RaftStopped)
        {
            _ = slot.TryComplete(ErrorCode.Stopped);
        }

        return ErrorCode.None;
    }
}
