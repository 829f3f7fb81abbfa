// RaftActor: the raft thread. Owns RaftCore and everything between a proposal and its commit.
//
// Never waits  for a disk, a socket or a page: units go to the WAL ring, committed entries to the store ring, and
//              what does not fit stays in the core until the next poll.
// Batching     natural: while the WAL syncs batch N, batch N+1 gathers in the rings. No timer delays a proposal.
// Waiters      one slot per log index from append until the applied index has passed it. Raft holds the pipeline's
//              reference that long, so a slot cannot be reused while an entry points at it.
// Deadlines    looked at ten times a second. A slot that passed its own is told: ContextDeadlineExceeded when it was
//              never appended (no leader), Timeout when its outcome is unknown.
// Publishing   commit, term, leader and "reads are local" with release-stores, commit before the entries up to it
//              are visible to the store.
// Allocation   none in steady state.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Returns payload blocks to the member's pool.</summary>
internal sealed unsafe class PoolPayloads(NativePool pool) : IPayloadOwner
{
    public void Release(nint owner) => pool.Return((NativeBlock*)owner);
}

/// <summary>The rings and wakers around the raft thread.</summary>
internal sealed class RaftWiring
{
    internal required SpscRing<CommittedEntry> ToStore { get; init; }

    internal required SpscRing<AppliedConfChange> ConfChanges { get; init; }

    internal required SpscRing<SnapshotJob> Snapshots { get; init; }

    internal required IWaker Store { get; init; }
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
    private readonly SpscRing<CommittedEntry> _toStore;
    private readonly SpscRing<AppliedConfChange> _confChanges;
    private readonly SpscRing<SnapshotJob> _snapshots;
    private readonly IWaker _store;
    private readonly ILogger _log;
    private readonly RequestSlot?[] _waiters = new RequestSlot?[MaxInFlight];
    private readonly SlotQueue _control = new(2048);
    private readonly SlotQueue _normal = new(8192);
    private readonly ReadBarrier _reads;
    private readonly RaftProposal[] _batch = new RaftProposal[BatchProposals];
    private readonly RequestSlot?[] _batchSlots = new RequestSlot?[BatchProposals];
    private readonly RaftEntry[] _copied = new RaftEntry[64];
    private ulong _leader;
    private long _nextScanNs;
    private long _stopDeadlineNs;
    private bool _stopFlushed;

    internal RaftActor(
        MemberOptions options,
        MemberCounters counters,
        RaftCore core,
        WalHandOff wal,
        Intake intake,
        RaftWiring wiring,
        ILogger log)
    {
        _options = options;
        _counters = counters;
        _core = core;
        _wal = wal;
        _intake = intake;
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
        bool worked = _wal.TakeDurable(_core);
        worked |= TakeApplied();
        worked |= TakeProposals(nowNs);
        worked |= _reads.Ask(nowNs);
        _core.Tick(nowNs);
        worked |= GiveAppends();
        worked |= TakeRoleChanges();
        worked |= GiveCommitted(nowNs);
        worked |= _reads.Finish(_core.Applied);
        worked |= GiveSnapshotMark();
        Scan(nowNs);
        worked |= Stop(nowNs);
        worked |= AskForApplied();
        NextDeadlineNs = worked ? nowNs : Math.Min(_core.NextDeadlineNs, HasWaiters ? _nextScanNs : long.MaxValue);
        return worked;
    }

    /// <summary>Frees what the log still holds. The other actors must have ended.</summary>
    public void Dispose()
    {
        FailAll(ErrorCode.Stopped);
        _core.Dispose();
        _wal.Dispose();
    }

    private bool HasWaiters =>
        _core.Applied != _core.LastIndex || _normal.Count > 0 || _control.Count > 0 || _reads.Count > 0
        || _intake.IsClosed;

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
            || _core.Applying < _core.Commit
            || _core.LastIndex - _core.Applied > MaxInFlight / 2
            || _intake.IsClosed;
        _counters.ProposalsPending = (long)(_core.LastIndex - _core.Applied) + _control.Count + _normal.Count;

        // The flag is visible before the index is looked at, as the store's index is before it looks at the flag.
        System.Threading.Interlocked.MemoryBarrier();
        return _counters.RaftWantsApplied && _counters.AppliedIndex != _core.Applied;
    }

    private bool TakeApplied()
    {
        ulong applied = _counters.AppliedIndex;
        bool worked = false;
        while (_confChanges.TryDequeue(out AppliedConfChange change))
        {
            _ = _core.ApplyConfChange(new ConfChangeStep(change.Type, change.NodeId));
            PublishReads();
            worked = true;
        }

        if (applied == _core.Applied)
        {
            return worked;
        }

        for (ulong i = _core.Applied + 1; i <= applied; i++)
        {
            ref RequestSlot? waiter = ref _waiters[i % MaxInFlight];
            if (waiter is not null)
            {
                waiter.DropReference();
                waiter = null;
            }
        }

        _core.ReportApplied(applied);
        return true;
    }

    private bool TakeProposals(long nowNs)
    {
        bool worked = Drain(_intake.Control, _control) | Drain(_intake.Normal, _normal);
        if (_core.Role != RaftRole.Leader)
        {
            return worked;
        }

        while (Gather(nowNs, out int count))
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
    private bool Gather(long nowNs, out int count)
    {
        count = 0;
        long bytes = 0;
        ulong room = MaxInFlight - (_core.LastIndex - _core.Applied);
        int limit = (int)Math.Min(BatchProposals, room);
        while (count < limit && bytes < BatchBytes)
        {
            SlotQueue queue = _control.Count > 0 ? _control : _normal;
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
            slot.Index = proposal.Index;
            ref RequestSlot? waiter = ref _waiters[proposal.Index % MaxInFlight];
            Invariant.Check(waiter is null, "one waiter an index");
            waiter = slot;
            return;
        }

        slot.GivePayload((NativeBlock*)proposal.Owner);
        System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
        _ = slot.TryComplete(proposal.Result switch
        {
            ProposalResult.TooMuchUncommitted => ErrorCode.TooManyRequests,
            ProposalResult.NotLeader => ErrorCode.NotLeader,
            _ => ErrorCode.ProposalDropped,
        });
        slot.DropReference();
    }

    private bool GiveAppends()
    {
        bool any = false;
        while (_wal.HasRoom && _core.TryTakeAppend(out AppendUnit unit))
        {
            _wal.Give(_core, in unit, mustSync: _stopFlushed);
            any = true;
        }

        return any;
    }

    private bool TakeRoleChanges()
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
                RequestSlot? slot = _waiters[entry.Index % MaxInFlight];
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

    private bool GiveSnapshotMark()
    {
        if (_wal.TakeMarked(out SnapshotJob? done))
        {
            _counters.SnapshotIndex = done.Index;
            if (done.Index > _options.CatchupEntries)
            {
                _core.Compact(done.Index - _options.CatchupEntries);
            }
        }

        if (_wal.IsMarking || !_wal.HasRoom || !_snapshots.TryDequeue(out SnapshotJob job))
        {
            return false;
        }

        Invariant.Check(_core.Commit >= job.Index, "a snapshot holds only what is committed");
        _wal.GiveMark(_core, job);
        return true;
    }

    private void Scan(long nowNs)
    {
        if (nowNs < _nextScanNs)
        {
            return;
        }

        _nextScanNs = nowNs + ScanNs;
        Expire(_control, nowNs);
        Expire(_normal, nowNs);
        _reads.Expire(nowNs);
        for (ulong i = _core.Applied + 1; i <= _core.LastIndex; i++)
        {
            RequestSlot? slot = _waiters[i % MaxInFlight];
            if (slot is not null && slot.DeadlineNs <= nowNs && slot.TryComplete(ErrorCode.Timeout))
            {
                System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
            }
        }
    }

    /// <summary>Slots that were never appended: what etcd answers is the deadline of its own context.</summary>
    private void Expire(SlotQueue queue, long nowNs)
    {
        for (int i = 0; i < queue.Count; i++)
        {
            if (queue[i].DeadlineNs <= nowNs && queue[i].TryComplete(ErrorCode.ContextDeadlineExceeded))
            {
                System.Threading.Interlocked.Increment(ref _counters.ProposalsFailed);
            }
        }

        while (queue.Count > 0 && queue[0].IsDecided)
        {
            queue.Dequeue().DropReference();
        }
    }

    /// <summary>
    /// Raft's part of the stop sequence: nothing new, what is appended gets its chance, then the final hard state.
    /// </summary>
    private bool Stop(long nowNs)
    {
        if (!_intake.IsClosed)
        {
            return false;
        }

        Refuse(_intake.Control, _control);
        Refuse(_intake.Normal, _normal);
        _reads.Fail(ErrorCode.Stopped);
        if (_counters.RaftStopped)
        {
            return false;
        }

        if (_stopDeadlineNs == 0)
        {
            _stopDeadlineNs = nowNs + _options.RequestTimeoutNs;
            ServerLog.Stopping(_log, _core.LastIndex, _core.Commit);
        }

        bool pending = _core.Role == RaftRole.Leader && _core.Applied < _core.LastIndex;
        if (pending && nowNs < _stopDeadlineNs)
        {
            return false;
        }

        if (!_stopFlushed)
        {
            FailWaiters(ErrorCode.Stopped);
            _core.FlushCommit();
            _stopFlushed = true;
            return true;
        }

        if (_wal.IsBusy)
        {
            return false;
        }

        _counters.RaftStopped = true;
        _store.Wake();
        return true;
    }

    private static void Refuse(MpscRing<RequestSlot> ring, SlotQueue queue)
    {
        _ = Drain(ring, queue);
        while (queue.Count > 0)
        {
            RequestSlot slot = queue.Dequeue();
            _ = slot.TryComplete(ErrorCode.Stopped);
            slot.DropReference();
            _ = Drain(ring, queue);
        }
    }

    private void FailWaiters(ErrorCode outcome)
    {
        for (ulong i = _core.Applied + 1; i <= _core.LastIndex; i++)
        {
            _ = _waiters[i % MaxInFlight]?.TryComplete(outcome);
        }
    }

    private void FailAll(ErrorCode outcome)
    {
        FailWaiters(outcome);
        Refuse(_intake.Control, _control);
        Refuse(_intake.Normal, _normal);
        _reads.Fail(outcome);
    }
}
