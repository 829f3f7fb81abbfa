// LeaseDuty: the raft thread's work on leases: keeps the clock in step with what is applied, proposes the revokes of leases
// whose time is over and the checkpoints of those that live long, and answers who waits for a lease.
//
// The term   A revoke by expiry is decided and appended in one step, on the thread that owns the term, while this member
//            leads and has applied an entry of its own term. It is never queued, never forwarded, never tried again by
//            itself: what could not be appended is decided anew. So an entry's own term is the term it was decided in,
//            and a leader that was deposed without knowing leaves entries that a later term overwrites (raft.md §1.14).
// Starving   Expiries do not go through the rings: no admission, no quota and no gap between commit and apply refuses them,
//            and they come before the queues in every poll. The other way round, at most InFlightMax of them are on their
//            way at once, so that clients' writes find short queues while a hundred thousand leases end.
// Waits      Keep-alives are answered without this thread (LeaseClock). Only what cannot be decided there comes here: a
//            lease that is not known (an entry may be on its way), one that has expired, or no leader yet.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>What a caller waits for.</summary>
internal enum LeaseWaitKind : byte
{
    /// <summary>Everything applied before the call is known to the clock.</summary>
    Told,

    /// <summary>Everything committed at the call is applied and known to the clock.</summary>
    Applied,

    /// <summary>The lease is gone (LeaseNotFound), or this member no longer decides (NotPrimary).</summary>
    Gone,

    /// <summary>Somebody decides about leases: this member, or a leader elsewhere.</summary>
    Leader,

    /// <summary>The slot's deadline: a while before asking another member again.</summary>
    Pause,
}

/// <summary>A caller's slot and what it waits for. Holds the pipeline's reference.</summary>
internal struct LeaseWait
{
    public RequestSlot Slot;
    public LeaseWaitKind Kind;
    public long LeaseId;
    public ulong Index;
}

/// <summary>Owned by the raft thread, but for <see cref="Waits"/> (any producer) and <see cref="Clock"/> (see there).</summary>
internal sealed unsafe class LeaseDuty
{
    /// <summary>Revokes in one batch.</summary>
    internal const int BatchMax = 256;

    /// <summary>Revokes appended and not yet applied.</summary>
    internal const int InFlightMax = 512;

    private const int CheckpointsMax = 1000;
    private const int ParkedMax = 16384;
    private const long GatherNs = 20_000_000;
    private const long PutBackNs = 50_000_000;
    private const long ParkedScanNs = 10_000_000;

    private readonly RaftCore _core;
    private readonly LeaseFeed _feed;
    private readonly SlotPool _slots;
    private readonly NativePool _pool;
    private readonly MemberCounters _counters;
    private readonly IWaker _store;
    private readonly long _proofNs;
    private readonly long[] _expired = new long[BatchMax];
    private readonly (long Id, long Seconds)[] _checkpoints = new (long, long)[CheckpointsMax];
    private readonly RaftProposal[] _batch = new RaftProposal[BatchMax + 1];
    private readonly Queue<(ulong Index, int Count)> _flights = new();
    private readonly List<LeaseWait> _parked = [];
    private int _inFlight;
    private long _nextTakeNs;
    private long _nextParkedScanNs;
    private ulong _primaryTerm;

    internal LeaseDuty(
        MemberOptions options,
        RaftCore core,
        LeaseClock clock,
        LeaseFeed feed,
        SlotPool slots,
        NativePool pool,
        MemberCounters counters,
        IWaker store)
    {
        _core = core;
        Clock = clock;
        _feed = feed;
        _slots = slots;
        _pool = pool;
        _counters = counters;
        _store = store;
        _proofNs = 3L * options.HeartbeatMs * 1_000_000;
    }

    internal LeaseClock Clock { get; }

    /// <summary>Callers that wait. Any thread enqueues, then wakes raft.</summary>
    internal MpscRing<LeaseWait> Waits { get; } = new(4096);

    /// <summary>Somebody waits here, with a deadline.</summary>
    internal bool HasWaits => _parked.Count > 0;

    /// <summary>Revokes or waits need to see the applied index move.</summary>
    internal bool WantsApplied => _inFlight > 0 || _parked.Count > 0;

    /// <summary>When to poll again, monotonic ns.</summary>
    internal long NextDeadlineNs => _inFlight >= InFlightMax ? long.MaxValue : Math.Max(_nextTakeNs, Clock.NextDeadlineNs);

    /// <summary>Takes in what was applied and answers waits. After raft has taken the applied index.</summary>
    internal bool Poll(long nowNs)
    {
        // The term first: what had been applied when it was published is in the feed.
        ulong appliedTerm = _counters.AppliedTerm;
        bool worked = TakeWaits();
        bool revoked = false;
        bool told = false;
        while (_feed.TryTake(out LeaseEvent item))
        {
            told = true;
            revoked |= item.Kind != LeaseEventKind.Granted;
            Take(in item, nowNs);
        }

        if (told && _feed.TakeStarved())
        {
            _store.Wake();
        }

        while (_flights.TryPeek(out (ulong Index, int Count) flight) && flight.Index <= _core.Applied)
        {
            _inFlight -= flight.Count;
            _ = _flights.Dequeue();
        }

        TakeRole(appliedTerm, nowNs);
        _counters.LeasesProvenUntilNs = _core.Configuration.IsAlone(_core.Id) ? long.MaxValue : nowNs + _proofNs;
        if (worked || (_parked.Count > 0 && (revoked || nowNs >= _nextParkedScanNs)))
        {
            ResolveWaits(nowNs);
        }

        return worked | told;
    }

    /// <summary>Appends revokes of leases whose time is over, and checkpoints. Before the queues of clients.</summary>
    /// <param name="nowNs">Now.</param>
    /// <param name="room">Entries that may be appended.</param>
    /// <returns>True if anything was appended.</returns>
    internal bool Propose(long nowNs, int room)
    {
        int limit = Math.Min(room, Math.Min(BatchMax, InFlightMax - _inFlight));
        if (!Clock.IsPrimary || nowNs < NextDeadlineNs || limit <= 0 || _core.Role != RaftRole.Leader)
        {
            return false;
        }

        // Those that end within the same moment cost one wake together; behind a full batch the next goes on at once.
        // One place is kept for checkpoints, of which many make one entry.
        int most = Math.Max(1, limit - 1);
        Clock.Take(
            nowNs, _expired.AsSpan(0, most), out int expired, _checkpoints.AsSpan(0, limit > 1 ? CheckpointsMax : 0), out int checkpoints);
        _nextTakeNs = expired == most || checkpoints == CheckpointsMax ? 0 : nowNs + GatherNs;
        int count = 0;
        for (int i = 0; i < expired; i++)
        {
            Write(ref _batch[count++], RequestKind.LeaseRevoke, new LeaseIdRequest { Id = _expired[i] });
        }

        if (checkpoints > 0)
        {
            Write(ref _batch[count++], _checkpoints.AsSpan(0, checkpoints));
        }

        if (count == 0)
        {
            return false;
        }

        _core.Propose(_batch.AsSpan(0, count));
        ulong last = 0;
        int appended = 0;
        for (int i = 0; i < count; i++)
        {
            ref RaftProposal proposal = ref _batch[i];
            if (proposal.Result == ProposalResult.Appended)
            {
                Invariant.Check(proposal.Term == _primaryTerm, "a lease is revoked in the term that decided it");
                last = proposal.Index;
                appended++;
                continue;
            }

            _pool.Return((NativeBlock*)proposal.Owner);
            if (i < expired)
            {
                Clock.PutBack(_expired[i], nowNs + PutBackNs);
            }
        }

        if (appended > 0)
        {
            _flights.Enqueue((last, appended));
            _inFlight += appended;
        }

        return appended > 0;
    }

    /// <summary>After the stop: nobody asks for deadlines any more, but the store must not wait for room.</summary>
    internal void DropNews()
    {
        while (_feed.TryTake(out _))
        {
        }

        if (_feed.TakeStarved())
        {
            _store.Wake();
        }
    }

    /// <summary>Ends all waits.</summary>
    internal void Fail(ErrorCode outcome)
    {
        do
        {
            foreach (LeaseWait wait in _parked)
            {
                _ = wait.Slot.TryComplete(outcome);
                wait.Slot.DropReference();
            }

            _parked.Clear();
        }
        while (TakeWaits());
    }

    private void Take(in LeaseEvent item, long nowNs)
    {
        switch (item.Kind)
        {
            case LeaseEventKind.Granted:
                Clock.Granted(item.Id, item.Seconds, item.Remaining, nowNs);
                break;
            case LeaseEventKind.Revoked:
                Clock.Revoked(item.Id);
                break;
            case LeaseEventKind.Checkpointed:
                Clock.Checkpointed(item.Id, item.Remaining);
                break;
            default:
                Clock.Clear();
                break;
        }
    }

    private void TakeRole(ulong appliedTerm, long nowNs)
    {
        bool leads = _core.Role == RaftRole.Leader && appliedTerm == _core.Term;
        if (leads && _primaryTerm == _core.Term)
        {
            return;
        }

        if (_primaryTerm != 0 && !(Mutations.Is(Mutation.DeposedLeaderKeepsLeases) && !leads))
        {
            Clock.Demote();
            _primaryTerm = 0;
            _flights.Clear();
            _inFlight = 0;
        }

        if (leads)
        {
            Clock.Promote(nowNs);
            _primaryTerm = _core.Term;
            _nextTakeNs = 0;
        }
    }

    private bool TakeWaits()
    {
        bool any = false;
        while (Waits.TryDequeue(out LeaseWait wait))
        {
            any = true;
            wait.Index = _core.Commit;
            if (_parked.Count == ParkedMax)
            {
                _ = wait.Slot.TryComplete(ErrorCode.TooManyRequests);
                wait.Slot.DropReference();
                continue;
            }

            _parked.Add(wait);
        }

        return any;
    }

    private void ResolveWaits(long nowNs)
    {
        _nextParkedScanNs = nowNs + ParkedScanNs;
        int kept = 0;
        for (int i = 0; i < _parked.Count; i++)
        {
            LeaseWait wait = _parked[i];
            if (!wait.Slot.IsDecided)
            {
                ErrorCode? outcome = Resolve(in wait, nowNs);
                if (outcome is null)
                {
                    _parked[kept++] = wait;
                    continue;
                }

                _ = wait.Slot.TryComplete(outcome.Value);
            }

            wait.Slot.DropReference();
        }

        _parked.RemoveRange(kept, _parked.Count - kept);
    }

    private ErrorCode? Resolve(in LeaseWait wait, long nowNs)
    {
        bool late = wait.Slot.DeadlineNs <= nowNs;
        switch (wait.Kind)
        {
            case LeaseWaitKind.Told:
                return ErrorCode.None;
            case LeaseWaitKind.Pause:
                return late ? ErrorCode.None : null;
            case LeaseWaitKind.Applied:
                return _core.Applied >= wait.Index ? ErrorCode.None : late ? ErrorCode.TimeoutWaitAppliedIndex : null;
            case LeaseWaitKind.Gone:
                return !Clock.IsPrimary ? ErrorCode.NotPrimary
                    : !Clock.TryGet(wait.LeaseId, nowNs, out _) ? ErrorCode.LeaseNotFound
                    : late ? ErrorCode.Timeout : null;
            default:
                return Clock.IsPrimary || (_core.Leader != 0 && _core.Leader != _core.Id) ? ErrorCode.None
                    : late ? ErrorCode.NoLeader : null;
        }
    }

    private void Write(ref RaftProposal proposal, RequestKind kind, LeaseIdRequest request)
    {
        RequestSlot slot = _slots.Rent(); // it only lends its writer, its number and its user
        var writer = new ProtoWriter(slot.BeginRequest(kind, request.Size));
        request.Write(ref writer);
        Take(ref proposal, slot);
    }

    private void Write(ref RaftProposal proposal, ReadOnlySpan<(long Id, long Seconds)> checkpoints)
    {
        int size = 0;
        foreach ((long id, long seconds) in checkpoints)
        {
            size += ProtoSize.BytesField(1, CheckpointSize(id, seconds));
        }

        RequestSlot slot = _slots.Rent(); // it only lends its writer, its number and its user
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.LeaseCheckpoint, size));
        foreach ((long id, long seconds) in checkpoints)
        {
            writer.WriteTag(1, WireType.Bytes);
            writer.WriteVarint((ulong)CheckpointSize(id, seconds));
            writer.WriteVarintFieldIfSet(1, (ulong)id);
            writer.WriteVarintFieldIfSet(2, (ulong)seconds);
        }

        Take(ref proposal, slot);
    }

    private static int CheckpointSize(long id, long seconds) =>
        ProtoSize.VarintFieldIfSet(1, (ulong)id) + ProtoSize.VarintFieldIfSet(2, (ulong)seconds);

    private static void Take(ref RaftProposal proposal, RequestSlot slot)
    {
        NativeBlock* payload = slot.TakePayload();
        slot.DropReference();
        proposal = new RaftProposal
        {
            Data = NativeBlock.Data(payload),
            Length = payload->Length,
            Owner = (nint)payload,
            Type = EntryType.Normal,
            Kind = ProposalKind.Control,
        };
    }
}
