// Member.Membership: changes of the cluster: add, promote, remove, update, move the leader. Any thread; rare, allocates.
//
// A change is checked here against this member's view, proposed as one ConfChange entry, judged again at apply, and
// answered when raft itself has switched, so that the next change is not refused for this one. It waits as long as its
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
        ErrorCode refusal = Strictly("add", member.Id, checks => checks.Add(isLearner));
        if (refusal != ErrorCode.None)
        {
            return (refusal, member);
        }

        ConfChangeType type = isLearner ? ConfChangeType.AddLearnerNode : ConfChangeType.AddNode;
        return (await ChangeAsync(type, member.Id, member.ToJson(), deadlineNs).ConfigureAwait(false), member);
    }

    /// <summary>Removes a member for ever.</summary>
    public async Task<ErrorCode> RemoveMemberAsync(ulong id, long deadlineNs)
    {
        ErrorCode refusal = Strictly("remove", id, checks => checks.Remove(id));
        if (refusal != ErrorCode.None)
        {
            return refusal;
        }

        if (id == Id && _counters.Leader == Id && ClusterView.Members.Length > 1)
        {
            long patience = Math.Min(deadlineNs, _clock.NowNs + (2L * Options.ElectionMs * 1_000_000));
            _ = await MoveLeaderAsync(0, patience).ConfigureAwait(false);
        }

        return await ChangeAsync(ConfChangeType.RemoveNode, id, default, deadlineNs).ConfigureAwait(false);
    }

    /// <summary>Changes where a member listens for its peers.</summary>
    public Task<ErrorCode> UpdateMemberAsync(ulong id, IReadOnlyList<string> peerUrls, long deadlineNs)
    {
        ArgumentNullException.ThrowIfNull(peerUrls);
        // In the order given: etcd looks at these URLs as little as at anything else about them.
        var member = new ClusterMember { Id = id, PeerUrls = peerUrls };
        return ChangeAsync(ConfChangeType.UpdateNode, id, member.ToJson(), deadlineNs);
    }

    /// <summary>Lets a learner vote, if its log is near the leader's.</summary>
    public async Task<ErrorCode> PromoteMemberAsync(ulong id, long deadlineNs)
    {
        ulong leader = _counters.Leader;
        if (leader == 0)
        {
            return ErrorCode.NoLeader;
        }

        if (leader != Id)
        {
            byte[] body = new byte[8];
            BinaryPrimitives.WriteUInt64LittleEndian(body, id);
            var call = new PeerCall(
                PeerCallKind.PromoteMember, leader, body, Math.Min(deadlineNs, _clock.NowNs + Options.RequestTimeoutNs));
            Call(call);
            await call.Completion.ConfigureAwait(false);
            return call.Outcome == PeerCallOutcome.Answered ? call.Error : ErrorCode.Timeout;
        }

        ClusterMember? learner = ClusterView.Find(id);
        if (learner is null)
        {
            return ErrorCode.MemberNotFound;
        }

        if (!learner.IsLearner)
        {
            return ErrorCode.MemberNotLearner;
        }

        ErrorCode ready = await CommandAsync(RaftCommandKind.IsInSync, id, deadlineNs).ConfigureAwait(false);
        if (ready == ErrorCode.None)
        {
            ready = Strictly("promote", id, checks => checks.Promote(id));
        }

        if (ready != ErrorCode.None)
        {
            return ready;
        }

        byte[] context = MemberOpener.PromotionOf(id);
        return await ChangeAsync(ConfChangeType.AddNode, id, context, deadlineNs).ConfigureAwait(false);
    }

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

    private async Task<ErrorCode> ChangeAsync(ConfChangeType type, ulong id, ReadOnlyMemory<byte> context, long deadlineNs)
    {
        RequestSlot slot = Rent();
        try
        {
            slot.BeginConfChange(type, id, context.Span);
            return await ProposeAsync(slot, deadlineNs == 0 ? long.MaxValue : deadlineNs).ConfigureAwait(false);
        }
        finally
        {
            Return(slot);
        }
    }

    private async Task<ErrorCode> CommandAsync(RaftCommandKind kind, ulong target, long deadlineNs)
    {
        RequestSlot slot = Rent();
        try
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

            return await slot.AsValueTask().ConfigureAwait(false);
        }
        finally
        {
            Return(slot);
        }
    }
}
