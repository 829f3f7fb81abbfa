// RaftActor: the raft thread. Owns RaftCore and everything between a proposal and its commit.
//
// Never waits  for a disk, a socket or a page: units go to the WAL ring, committed entries to the store ring, messages to
//              the transport (which takes or refuses them), and what does not fit stays in the core until the next poll.
// Batching     natural: while the WAL syncs batch N, batch N+1 gathers in the rings. No timer delays a proposal.
// Waiters      RaftActor.Waiters: one slot per log index from append until the applied index has passed it, or per
//              request id while the proposal is with the leader. Raft holds the pipeline's reference that long, so a
//              slot cannot be reused while an entry points at it.
// Peers        RaftActor.Messages: what comes in and goes out; RaftActor.Snapshots: marks, sending, installing;
//              RaftActor.Leadership: hand-over, the disk watchdog, the stop sequence.
// Publishing   commit, term, leader and "reads are local" with release-stores, commit before the entries up to it
//              are visible to the store.
// Allocation   none in steady state.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Returns payload blocks to the member's pool: of one entry, or shared by those of one message.</summary>
internal sealed unsafe class PoolPayloads(NativePool pool) : IPayloadOwner
{
    public void Release(nint owner)
    {
        if (EntryFrame.IsShared(owner))
        {
            EntryFrame.Release(pool, owner);
        }
        else
        {
            pool.Return((NativeBlock*)owner);
        }
    }
}

/// <summary>The rings and wakers around the raft thread.</summary>
internal sealed class RaftWiring
{
    internal required SpscRing<CommittedEntry> ToStore { get; init; }

    internal required SpscRing<AppliedConfChange> ConfChanges { get; init; }

    internal required SpscRing<SnapshotJob> Snapshots { get; init; }

    internal required IWaker Store { get; init; }

    /// <summary>Snapshots the store has to switch to.</summary>
    internal SpscRing<SnapshotInstall> Installs { get; } = new(4);

    /// <summary>Snapshots to be sent.</summary>
    internal SpscRing<RaftMessage> SendSnapshots { get; } = new(64);

    /// <summary>How sending them ended.</summary>
    internal MpscRing<(ulong Peer, bool Succeeded)> SentSnapshots { get; } = new(64);

    internal required IWaker SnapshotSender { get; init; }

    internal required FetchActor Fetch { get; init; }

    internal required PeerInbox Inbox { get; init; }

    internal required PeerTable Peers { get; init; }

    internal ITransport? Transport { get; init; }

    /// <summary>The members as last applied.</summary>
    internal required Func<Membership.ClusterView> View { get; init; }

    /// <summary>What other threads ask of raft.</summary>
    internal MpscRing<RaftCommand> Commands { get; } = new(256);

    /// <summary>A received snapshot is done with: switched to, or refused.</summary>
    internal required Action<ulong> SnapshotEnded { get; init; }

    /// <summary>Ends the intake: the member stops itself.</summary>
    internal required Action<string> StopMember { get; init; }
}

/// <summary>Drives one raft member.</summary>
internal sealed unsafe partial class RaftActor : IActor, IDisposable
{
    private const int BatchProposals = 512;
    private const int BatchBytes = 1 << 20;
    private const int MaxInFlight = 16384;
    private const long ScanNs = 100_000_000;

    private readonly MemberOptions _options;
    private readonly MemberCounters _counters;
    private readonly RaftCore _core;
    private readonly WalHandOff _wal;
    private readonly Intake _intake;
    private readonly LeaseDuty _leases;
    private readonly SpscRing<CommittedEntry> _toStore;
    private readonly SpscRing<AppliedConfChange> _confChanges;
    private readonly SpscRing<SnapshotJob> _snapshots;
    private readonly IWaker _store;
    private readonly ILogger _log;
    private readonly SlotQueue _control = new(2048);
    private readonly SlotQueue _normal = new(8192);
    private readonly ReadBarrier _reads;
    private readonly RaftProposal[] _batch = new RaftProposal[BatchProposals];
    private readonly RequestSlot?[] _batchSlots = new RequestSlot?[BatchProposals];
    private readonly RaftEntry[] _copied = new RaftEntry[64];
    private readonly RaftWiring _wiring;
    private readonly IClock _clock;
    private ulong _leader;
    private long _nextScanNs;

    internal RaftActor(
        MemberOptions options,
        MemberCounters counters,
        RaftCore core,
        WalHandOff wal,
        Intake intake,
        LeaseDuty leases,
        RaftWiring wiring,
        IClock clock,
        ILogger log)
    {
        _wiring = wiring;
        _clock = clock;
        _transport = wiring.Transport;
        _options = options;
        _counters = counters;
        _core = core;
        _wal = wal;
        _intake = intake;
        _leases = leases;
        _toStore = wiring.ToStore;
        _confChanges = wiring.ConfChanges;
        _snapshots = wiring.Snapshots;
        _store = wiring.Store;
        _log = log;
        _reads = new ReadBarrier(core, intake.Reads);
        NextDeadlineNs = 0;
    }

    /// <inheritdoc/>
    public string RoleName => "raft";

    /// <inheritdoc/>
    public long NextDeadlineNs { get; private set; }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (_counters.RaftStopped)
        {
            NextDeadlineNs = long.MaxValue;
            return FinishStopped();
        }

        bool worked = _wal.TakeDurable(_core);
        worked |= TakeApplied(nowNs);
        worked |= _leases.Poll(nowNs);
        worked |= TakePeers(nowNs);
        worked |= TakeMessages();
        worked |= TakeProposals(nowNs);
        worked |= TakeCommands(nowNs);
        worked |= _reads.Ask(nowNs);
        _core.Tick(nowNs);
        worked |= GiveAppends(nowNs);
        worked |= GiveMessages();
        worked |= TakeRoleChanges(nowNs);
        worked |= GiveCommitted(nowNs);
        worked |= _reads.Finish(_core.Applied);
        worked |= GiveSnapshots();
        Scan(nowNs);
        WatchDisk(nowNs);
        worked |= Lead(nowNs);
        worked |= Stop(nowNs);
        worked |= AskForApplied();
        long deadline = Math.Min(Math.Min(_reads.NextDeadlineNs, _campaignAtNs), Room > 0 ? _leases.NextDeadlineNs : long.MaxValue);
        NextDeadlineNs = worked
            ? nowNs
            : Math.Min(deadline, Math.Min(_core.NextDeadlineNs, HasWaiters ? _nextScanNs : long.MaxValue));
        return worked;
    }

    /// <summary>Frees what the log still holds. The other actors must have ended.</summary>
    public void Dispose()
    {
        FailAll(ErrorCode.Stopped);
        DisposeMessages();
        _core.Dispose();
        _wal.Dispose();
    }

    private bool HasWaiters =>
        _core.Applied != _core.LastIndex || _normal.Count > 0 || _control.Count > 0 || _reads.Count > 0
        || _forwarded.Count > 0 || _heldChanges.Count > 0 || _moves.Count > 0 || _wal.IsBusy || _stopAtNs != 0
        || _leases.HasWaits || _intake.IsClosed;

    /// <summary>Entries that may be appended or forwarded before something is applied.</summary>
    private int Room
    {
        get
        {
            ulong inFlight = _core.LastIndex - _core.Applied + (ulong)_forwarded.Count;
            return inFlight >= MaxInFlight ? 0 : (int)(MaxInFlight - inFlight);
        }
    }

    /// <summary>
    /// Reads need no round while this member is the only voter and an entry of its own term is in the published view:
    /// then so is everything acknowledged before the term began, and in this term callers are answered after the view.
    /// </summary>
    private void PublishReads() =>
        _counters.ReadsAreLocal = _core.IsReadReady && _counters.AppliedTerm == _core.Term;

    /// <summary>
    /// Says whether the store shall wake this thread when it has applied something. Most of the time nothing here
    /// waits for that, the next proposal or scan takes it along, and a wake per write is saved.
    /// </summary>
    private bool AskForApplied()
    {
        _counters.RaftWantsApplied = !_counters.ReadsAreLocal
            || _reads.Count > 0
            || _leases.WantsApplied
            || _core.Applying < _core.Commit
            || _core.LastIndex - _core.Applied > MaxInFlight / 2
            || _intake.IsClosed;
        _counters.ProposalsPending =
            (long)(_core.LastIndex - _core.Applied) + _control.Count + _normal.Count + _forwarded.Count;

        // The flag is visible before the index is looked at, as the store's index is before it looks at the flag.
        System.Threading.Interlocked.MemoryBarrier();
        return _counters.RaftWantsApplied && _counters.AppliedIndex != _core.Applied;
    }

    private bool TakeApplied(long nowNs)
    {
        ulong applied = _counters.AppliedIndex;
        bool worked = TakeInstalled();
        while (_confChanges.TryDequeue(out AppliedConfChange change))
        {
            TakeConfChange(in change, nowNs);
            worked = true;
        }

        if (applied <= _core.Applied)
        {
            return worked;
        }

        DropWaiters(_core.Applied, applied);
        _core.ReportApplied(applied);
        return true;
    }

    private void TakeConfChange(in AppliedConfChange change, long nowNs)
    {
        // What a snapshot has overtaken is in its configuration already.
        if (change.Index > _core.Applied && _core.PendingSnapshot == 0)
        {
            _ = _core.ApplyConfChange(new ConfChangeStep(change.Type, change.NodeId));
            _lastConfIndex = change.Index;
        }

        // Only now the caller hears of it, or its next change would be refused for this one (raft.md 2.4.10).
        change.Slot?.CompleteClaimed(change.Outcome);
        if (change.NodeId == _core.Id && change.Type == ConfChangeType.RemoveNode)
        {
            StopBecauseRemoved(nowNs, change.Index);
        }

        PublishReads();
    }

    private bool TakeProposals(long nowNs)
    {
        bool worked = Drain(_intake.Control, _control) | Drain(_intake.Normal, _normal);
        if (_core.Role != RaftRole.Leader)
        {
            return Forward(nowNs) | worked;
        }

        worked |= !_intake.IsClosed && _leases.Propose(nowNs, Room);
        while (Gather(nowNs, BatchProposals, out int count))
        {
            worked = true;
            _core.Propose(_batch.AsSpan(0, count));
            for (int i = 0; i < count; i++)
            {
                Settle(ref _batch[i], _batchSlots[i]!);
                _batchSlots[i] = null;
            }

            if (_wal.IsBusy)
            {
                break; // the rest gathers for the next batch
            }
        }

        return worked;
    }

    private static bool Drain(MpscRing<RequestSlot> ring, SlotQueue queue)
    {
        bool any = false;
        while (!queue.IsFull && ring.TryDequeue(out RequestSlot slot))
        {
            queue.Enqueue(slot);
            any = true;
        }

        return any;
    }

    /// <summary>Fills the batch from the two queues, control first.</summary>
    private bool Gather(long nowNs, int limit, out int count)
    {
        count = 0;
        long bytes = 0;
        limit = Math.Min(limit, Room);
        while (count < limit && bytes < BatchBytes)
        {
            SlotQueue queue = CanRetryChange ? _heldChanges : _control.Count > 0 ? _control : _normal;
            if (queue.Count == 0)
            {
                break;
            }

            RequestSlot slot = queue.Dequeue();
            if (slot.IsDecided)
            {
                slot.DropReference(); // its caller gave up before anything happened
                continue;
            }

            NativeBlock* payload = slot.TakePayload();
            slot.ProposedNs = nowNs;
            bytes += payload->Length;
            _batchSlots[count] = slot;
            _batch[count++] = new RaftProposal
            {
                Data = NativeBlock.Data(payload),
                Length = payload->Length,
                Owner = (nint)payload,
                Type = slot.EntryType,
                Kind = slot.Lane == ProposalLane.Control ? ProposalKind.Control : ProposalKind.Normal,
            };
        }

        return count > 0;
    }

    private void Settle(ref RaftProposal proposal, RequestSlot slot)
    {
        if (proposal.Result == ProposalResult.Appended)
        {
            Await(slot, proposal.Index, proposal.Term);
            return;
        }

        slot.GivePayload((NativeBlock*)proposal.Owner);
        if (proposal.Result == ProposalResult.ConfChangePending && !_heldChanges.IsFull)
        {
            // One change at a time; the next follows as soon as it is applied, its caller's deadline permitting.
            _heldAtApplied = _core.Applied;
            _heldChanges.Enqueue(slot);
            return;
        }

        System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
        _ = slot.TryComplete(proposal.Result switch
        {
            ProposalResult.TooMuchUncommitted => ErrorCode.TooManyRequests,
            ProposalResult.NotLeader => ErrorCode.NotLeader,
            ProposalResult.ConfChangePending => ErrorCode.TooManyRequests,
            ProposalResult.ConfChangeRefused => ErrorCode.Unhealthy,
            _ => ErrorCode.ProposalDropped,
        });
        slot.DropReference();
    }

    private bool GiveAppends(long nowNs)
    {
        bool any = false;
        while (_wal.HasRoom && _core.TryTakeAppend(out AppendUnit unit))
        {
            _wal.Give(_core, in unit, mustSync: _stopFlushed, nowNs);
            any = true;
        }

        return any;
    }

    private bool TakeRoleChanges(long nowNs)
    {
        bool any = false;
        while (_core.TryTakeRoleChange(out RoleChange change))
        {
            any = true;
            _counters.Term = change.Term;
            if (change.Leader == _leader)
            {
                continue;
            }

            if (change.Leader == 0)
            {
                ServerLog.LostLeader(_log, ServerLog.Id(_core.Id), ServerLog.Id(_leader), change.Term);
            }
            else
            {
                if (change.Leader == _core.Id)
                {
                    ServerLog.BecameLeader(_log, ServerLog.Id(_core.Id), change.Term);
                }

                ServerLog.ElectedLeader(_log, ServerLog.Id(_core.Id), ServerLog.Id(change.Leader), change.Term);
                _counters.LeaderChanges++;
            }

            if (change.Leader != 0)
            {
                _counters.LeaderElectedNs = nowNs;
            }

            _leader = change.Leader;
            _counters.Leader = change.Leader;
            _store.Wake();
        }

        return any;
    }

    private bool GiveCommitted(long nowNs)
    {
        _counters.CommittedIndex = _core.Commit;
        bool any = false;
        int room = _toStore.Capacity - _toStore.Count;
        while (room > 0 && _core.TryTakeCommitted(Math.Min(room, _copied.Length), out ulong lo, out ulong hi))
        {
            int count = (int)(hi - lo + 1);
            _core.CopyEntries(lo, _copied.AsSpan(0, count));
            for (int i = 0; i < count; i++)
            {
                ref RaftEntry entry = ref _copied[i];
                RequestSlot? slot = WaiterOf(in entry);
                if (slot is not null)
                {
                    slot.DurableNs = nowNs;
                    slot.CommittedNs = nowNs;
                }

                bool taken = _toStore.TryEnqueue(new CommittedEntry
                {
                    Index = entry.Index,
                    Term = entry.Term,
                    Data = entry.Data,
                    Length = entry.Length,
                    Type = (byte)entry.Type,
                    Slot = slot,
                });
                Invariant.Check(taken, "the room in the store ring was looked at");
            }

            LoseForwarded(_copied[count - 1].Term);
            room -= count;
            any = true;
        }

        PublishReads();
        if (any)
        {
            _store.Wake();
        }

        return any;
    }
}
