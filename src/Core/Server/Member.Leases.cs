// Member.Leases: what callers of any thread do with leases besides proposing grants and revokes.
//
// Renewal    On the primary: a look-up and one compare-and-swap (LeaseClock), by the thread that has read the keep-alive.
//            Nothing waits for raft or for apply, unless the lease is not known here: then an entry may be on its way, and
//            whatever was committed at the call is waited for, at most a second, before "unknown" is believed.
// Elsewhere  A member that does not lead asks the leader over the peers' calls, one hop, again every 50 ms until the caller's
//            deadline.
// Proof      A leader is believed while its raft thread has polled within three heartbeats (the only voter always is):
//            past that a quorum is asked first.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

public sealed partial class Member
{
    private const long AppliedWaitNs = 1_000_000_000;
    private const long AskAgainNs = 50_000_000;

    /// <summary>Deadlines of leases; see there for what any thread may call.</summary>
    public LeaseClock Leases => _leases.Clock;

    /// <summary>Numbers for the metrics page.</summary>
    public LeaseFigures LeaseFigures => new(_feed, Leases);

    /// <summary>Renews a lease at once if that can be decided without waiting. Allocation-free.</summary>
    /// <param name="id">Which.</param>
    /// <param name="ttlSeconds">The granted time, after <see cref="LeaseRenewal.Renewed"/>.</param>
    public LeaseRenewal TryRenewLease(long id, out long ttlSeconds)
    {
        long nowNs = _clock.NowNs;
        if (nowNs > _counters.LeasesProvenUntilNs)
        {
            ttlSeconds = 0;
            return LeaseRenewal.NotPrimary;
        }

        return Leases.TryRenew(id, nowNs, out ttlSeconds);
    }

    /// <summary>
    /// Renews a lease, here or at the leader, waiting as long as it takes to know. Outcomes: None (with the granted time),
    /// LeaseNotFound, NoLeader, NotPrimary, TimeoutWaitAppliedIndex, Timeout, TooManyRequests, Stopped.
    /// </summary>
    /// <param name="id">Which.</param>
    /// <param name="deadlineNs">Monotonic.</param>
    /// <param name="mayForward">False for a question that has come from another member: one hop is enough.</param>
    public async ValueTask<(ErrorCode Outcome, long TtlSeconds)> RenewLeaseAsync(long id, long deadlineNs, bool mayForward = true)
    {
        RequestSlot slot = Rent();
        try
        {
            bool looked = false;
            while (true)
            {
                ErrorCode outcome = await ProveAsync(slot, deadlineNs).ConfigureAwait(false);
                if (outcome != ErrorCode.None)
                {
                    return (outcome, 0);
                }

                switch (Leases.TryRenew(id, _clock.NowNs, out long ttlSeconds))
                {
                    case LeaseRenewal.Renewed:
                        return (ErrorCode.None, ttlSeconds);
                    case LeaseRenewal.Unknown when looked:
                        return (ErrorCode.LeaseNotFound, 0);
                    case LeaseRenewal.Unknown:
                        looked = true;
                        outcome = await WaitAsync(
                            slot, LeaseWaitKind.Applied, id, Math.Min(deadlineNs, _clock.NowNs + AppliedWaitNs)).ConfigureAwait(false);
                        break;
                    case LeaseRenewal.Expired:
                        outcome = await WaitAsync(slot, LeaseWaitKind.Gone, id, deadlineNs).ConfigureAwait(false);
                        outcome = outcome == ErrorCode.NotPrimary && mayForward ? ErrorCode.None : outcome;
                        break;
                    case LeaseRenewal.NeedsClear:
                        WriteClear(slot, id);
                        outcome = await ProposeAsync(slot, deadlineNs).ConfigureAwait(false);
                        break;
                    default:
                        looked = false;
                        PeerCall? call = null;
                        if (mayForward)
                        {
                            (outcome, call) = await AskLeaderAsync(
                                slot, PeerCallKind.LeaseRenew, LeasePeerMessages.Renew(id), deadlineNs).ConfigureAwait(false);
                        }
                        else
                        {
                            outcome = ErrorCode.NotPrimary;
                        }

                        if (call is not null && LeasePeerMessages.TryReadRenewed(call.Response.Span, out ttlSeconds))
                        {
                            return (ErrorCode.None, ttlSeconds);
                        }

                        break;
                }

                if (outcome != ErrorCode.None)
                {
                    return (outcome, 0);
                }
            }
        }
        finally
        {
            Return(slot);
        }
    }

    /// <summary>
    /// LeaseTimeToLiveResponse into the slot's response, from here or from the leader. A lease nobody knows is an answer
    /// (-1), not an outcome. Outcomes: None, NoLeader, LeaderChanged, Timeout, Stopped, and what a read barrier ends with.
    /// </summary>
    /// <param name="slot">Rented.</param>
    /// <param name="query">Which lease, and whether with its keys.</param>
    /// <param name="deadlineNs">Monotonic.</param>
    /// <param name="mayForward">As in <see cref="RenewLeaseAsync"/>.</param>
    public async ValueTask<ErrorCode> LeaseTimeToLiveAsync(
        RequestSlot slot, StoreQuery query, long deadlineNs, bool mayForward = true)
    {
        while (true)
        {
            ErrorCode outcome;
            if (Leases.IsPrimary)
            {
                outcome = await ReadIndexAsync(slot, deadlineNs).ConfigureAwait(false);
                return outcome == ErrorCode.None ? await QueryAsync(slot, query).ConfigureAwait(false) : outcome;
            }

            if (!mayForward)
            {
                return ErrorCode.NotPrimary;
            }

            PeerCall? call;
            (outcome, call) = await AskLeaderAsync(
                slot, PeerCallKind.LeaseTimeToLive, LeasePeerMessages.TimeToLive(in query), deadlineNs).ConfigureAwait(false);
            if (outcome != ErrorCode.None)
            {
                return outcome;
            }

            if (call is null)
            {
                continue;
            }

            long left = LeasePeerMessages.Remaining(call.Response.Span);
            if (!query.Keys || left < 0)
            {
                slot.Response.Reset();
                ResponseScratch.WriteHeader(ref slot.Response, Header, _counters.Revision);
                slot.Response.Write(call.Response.Span);
                return ErrorCode.None;
            }

            // The keys are listed here: they may be more than members say to each other in one answer.
            outcome = await ReadIndexAsync(slot, deadlineNs).ConfigureAwait(false);
            return outcome == ErrorCode.None
                ? await QueryAsync(slot, query with { Remaining = left }).ConfigureAwait(false)
                : outcome;
        }
    }

    /// <summary>
    /// LeaseLeasesResponse into the slot's response: what is applied here, the next to end first. Local and without a
    /// quorum; allocates only what it lends from the shared pool.
    /// </summary>
    public async ValueTask<ErrorCode> ListLeasesAsync(RequestSlot slot)
    {
        ErrorCode outcome = await WaitAsync(slot, LeaseWaitKind.Told, 0, long.MaxValue).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return outcome;
        }

        (long RemainingMs, long Id)[] all = ArrayPool<(long, long)>.Shared.Rent(Leases.Count + 64);
        int count = Math.Min(all.Length, Leases.CopyTo(all, _clock.NowNs));
        Array.Sort(all, 0, count);
        LeaseQueries.List(all.AsSpan(0, count), Header, _counters.Revision, ref slot.Response);
        ArrayPool<(long, long)>.Shared.Return(all);
        return ErrorCode.None;
    }

    /// <summary>The deadlines of what the opened directory holds; they begin to run when this member leads.</summary>
    private LeaseDuty MakeLeases(MemberEnvironment environment)
    {
        var options = new LeaseClockOptions
        {
            ExtensionMs = Options.ElectionMs,
            RetryMs = Options.RequestTimeoutNs / 1_000_000,
            Checkpoints = Options.LeaseCheckpoint,
            CheckpointIntervalMs = Options.LeaseCheckpointIntervalMs,
        };
        long nowNs = environment.Clock.NowNs;
        var clock = new LeaseClock(options, nowNs, environment.Random.NextUInt64());
        var all = new List<LeaseInfo>(_parts.Machine.Leases.Count);
        _parts.Machine.Leases.CopyTo(all);
        foreach (LeaseInfo lease in all)
        {
            clock.Granted(lease.Id, lease.Ttl, lease.RemainingTtl, nowNs);
        }

        _parts.Machine.Leases.Observer = _feed;
        return new LeaseDuty(
            Options, _parts.Core, clock, _feed, _slots, environment.Pool, _counters, _storeCell);
    }

    /// <summary>A leader whose raft thread has not been seen for a while asks a quorum before it decides about leases.</summary>
    private async ValueTask<ErrorCode> ProveAsync(RequestSlot slot, long deadlineNs)
    {
        if (!Leases.IsPrimary || _clock.NowNs <= _counters.LeasesProvenUntilNs)
        {
            return ErrorCode.None;
        }

        ErrorCode outcome = await ReadIndexAsync(slot, deadlineNs).ConfigureAwait(false);
        return outcome is ErrorCode.None or ErrorCode.LeaderChanged or ErrorCode.Stopped ? outcome switch
        {
            ErrorCode.Stopped => outcome,
            _ => ErrorCode.None,
        } : ErrorCode.NotPrimary;
    }

    /// <summary>
    /// One attempt to have the leader answer. (None, call): it did. (None, null): look again, something has changed or a
    /// moment has passed. Otherwise the end.
    /// </summary>
    private async ValueTask<(ErrorCode Outcome, PeerCall? Answer)> AskLeaderAsync(
        RequestSlot slot, PeerCallKind kind, byte[] request, long deadlineNs)
    {
        ErrorCode outcome = await WaitAsync(slot, LeaseWaitKind.Leader, 0, deadlineNs).ConfigureAwait(false);
        ulong leader = _counters.Leader;
        if (outcome != ErrorCode.None || Leases.IsPrimary || leader == 0 || leader == Id)
        {
            return (outcome, null);
        }

        var call = new PeerCall(kind, leader, request, deadlineNs);
        Call(call);
        await call.Completion.ConfigureAwait(false);
        if (call.Outcome == PeerCallOutcome.Answered)
        {
            // What says "not me" or "not now" is asked again, elsewhere perhaps; the rest is the answer.
            if (call.Error == ErrorCode.None)
            {
                return (ErrorCode.None, call);
            }

            if (call.Error is not (ErrorCode.NotPrimary or ErrorCode.NoLeader or ErrorCode.Stopped or ErrorCode.UnknownMethod))
            {
                return (call.Error, null);
            }
        }

        long nowNs = _clock.NowNs;
        if (nowNs >= deadlineNs)
        {
            return (ErrorCode.Timeout, null);
        }

        return (await WaitAsync(slot, LeaseWaitKind.Pause, 0, Math.Min(deadlineNs, nowNs + AskAgainNs)).ConfigureAwait(false), null);
    }

    /// <summary>Questions of other members, for which this one is the leader. On a thread of the transport.</summary>
    private void ServeLeases()
    {
        Serve(PeerCallKind.LeaseRenew, request =>
        {
            if (!LeaseIdRequest.TryParse(request.Body.Span, out LeaseIdRequest renew))
            {
                request.Reply(ErrorCode.MalformedRequest, default);
            }
            else if (TryRenewLease(renew.Id, out long ttlSeconds) == LeaseRenewal.Renewed)
            {
                request.Reply(ErrorCode.None, LeasePeerMessages.Renewed(ttlSeconds));
            }
            else
            {
                _ = AnswerRenewAsync(request, renew.Id);
            }
        });
        Serve(PeerCallKind.LeaseTimeToLive, request =>
        {
            if (!LeaseTimeToLiveRequest.TryParse(request.Body.Span, out LeaseTimeToLiveRequest query))
            {
                request.Reply(ErrorCode.MalformedRequest, default);
                return;
            }

            _ = AnswerTimeToLiveAsync(request, new StoreQuery(StoreQueryKind.LeaseTimeToLive, query.Id));
        });
    }

    private async Task AnswerRenewAsync(PeerRequest request, long id)
    {
        (ErrorCode outcome, long ttlSeconds) = await RenewLeaseAsync(
            id, _clock.NowNs + Options.RequestTimeoutNs, mayForward: false).ConfigureAwait(false);
        request.Reply(outcome, outcome == ErrorCode.None ? LeasePeerMessages.Renewed(ttlSeconds) : default);
    }

    private async Task AnswerTimeToLiveAsync(PeerRequest request, StoreQuery query)
    {
        RequestSlot slot = Rent();
        try
        {
            ErrorCode outcome = await LeaseTimeToLiveAsync(
                slot, query, _clock.NowNs + Options.RequestTimeoutNs, mayForward: false).ConfigureAwait(false);
            byte[] body = outcome == ErrorCode.None ? LeasePeerMessages.WithoutHeader(slot.Response.WrittenSpan) : [];
            request.Reply(outcome, body);
        }
        finally
        {
            Return(slot);
        }
    }

    private static void WriteClear(RequestSlot slot, long id)
    {
        // LeaseCheckpointRequest {1 {1 ID}}: without remaining_TTL, which is 0.
        int inner = ProtoSize.VarintFieldIfSet(1, (ulong)id);
        slot.Lane = ProposalLane.Control;
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.LeaseCheckpoint, ProtoSize.BytesField(1, inner)));
        writer.WriteTag(1, WireType.Bytes);
        writer.WriteVarint((ulong)inner);
        writer.WriteVarintFieldIfSet(1, (ulong)id);
    }

    private ValueTask<ErrorCode> WaitAsync(RequestSlot slot, LeaseWaitKind kind, long id, long deadlineNs)
    {
        if (_intake.IsClosed)
        {
            return new ValueTask<ErrorCode>(ErrorCode.Stopped);
        }

        slot.Submit(deadlineNs);
        if (!_leases.Waits.TryEnqueue(new LeaseWait { Slot = slot, Kind = kind, LeaseId = id }))
        {
            slot.Withdraw();
            return new ValueTask<ErrorCode>(ErrorCode.TooManyRequests);
        }

        _intake.WakeRaft();
        if (_intake.IsClosed)
        {
            // Raft may have drained for the last time before our enqueue; completing twice is harmless.
            _ = slot.TryComplete(ErrorCode.Stopped);
        }

        return slot.AsValueTask();
    }
}

/// <summary>Counters of leases since the start.</summary>
public readonly struct LeaseFigures
{
    private readonly LeaseFeed _feed;
    private readonly LeaseClock _clock;

    internal LeaseFigures(LeaseFeed feed, LeaseClock clock)
    {
        _feed = feed;
        _clock = clock;
    }

    /// <summary>Grants applied.</summary>
    public long Granted => _feed.GrantCount;

    /// <summary>Revokes applied, expired leases included.</summary>
    public long Revoked => _feed.RevokeCount;

    /// <summary>Renewals on this member while it led.</summary>
    public long Renewed => _clock.Renewals;

    /// <summary>Leases that this member, leading, let expire.</summary>
    public long Expired => _clock.Expirations;

    /// <summary>The granted times, seconds.</summary>
    public Distribution Ttls => _feed.Ttls;
}
