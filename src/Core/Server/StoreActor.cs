// StoreActor: the apply loop. Takes committed entries in log order, applies them, publishes one view a batch,
// answers whoever waits, and decides when the store is frozen for the tree.
//
// Thread     store. In: committed entries (SPSC from raft), commands (MPSC). Out: applied index (raft reads it),
//            conf changes (SPSC to raft), snapshot requests (SPSC to the snapshot actor), answers.
// Order      apply -> publish the view -> move the applied index -> complete the callers. So whoever has an answer
//            can read what it did, and a linearizable read that waits for an index finds it in the view.
// Freezes    only between entries, with (index, term, ConfState) of the last applied one: after BatchInterval, after
//            BatchLimit operations, by bytes, or because somebody waits. While active is full and frozen still
//            commits, nothing is applied: the ring fills up and admission says "too many requests".
// Allocation none per entry. Rare entries (membership, auth, alarms) and snapshots may allocate.
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Applies what raft has committed.</summary>
internal sealed partial class StoreActor : IActor
{
    private const int BatchEntries = 512;
    private const long DeferredWorkNs = 20_000_000;

    private readonly MemberOptions _options;
    private readonly MemberCounters _counters;
    private readonly StateMachine _machine;
    private readonly MemberEnvironment _environment;
    private readonly DataDirectory _directory;
    private readonly TreeHost _tree;
    private readonly SpscRing<SnapshotInstall> _installs;
    private readonly Queue<AppliedConfChange> _changeWaiters = new();
    private MvccStore _store;
    private readonly IClock _clock;
    private readonly ILogger _log;
    private readonly SpscRing<CommittedEntry> _entries;
    private readonly SpscRing<AppliedConfChange> _confChanges;
    private readonly MpscRing<StoreCommand> _commands;
    private readonly IWaker _raft;
    private readonly Duties _duties;
    private readonly SnapshotPlan _snapshots;
    private readonly WatchHub _watch;
    private readonly LeaseFeed _feed;
    private readonly LeaseClock _leases;
    private readonly Outcome[] _answers = new Outcome[BatchEntries];
    private readonly WaiterList _durableWaiters = new();
    private readonly WaiterList _compactionWaiters = new();
    private int _answerCount;
    private ulong _applied;
    private ulong _appliedTerm;
    private ulong _frozenIndex;
    private long _firstPendingNs;
    private bool _freezeWanted;
    private bool _rawFreezeDone;

    internal StoreActor(
        MemberOptions options,
        MemberEnvironment environment,
        MemberCounters counters,
        MemberParts parts,
        RaftWiring wiring,
        MpscRing<StoreCommand> commands,
        IWaker raft,
        Duties duties,
        LeaseFeed feed,
        LeaseClock leases,
        TreeHost tree,
        SnapshotPlan snapshots,
        WatchHub watch)
    {
        _watch = watch;
        _environment = environment;
        _directory = parts.Directory;
        _tree = tree;
        _installs = wiring.Installs;
        _options = options;
        _counters = counters;
        _machine = parts.Machine;
        _store = parts.Machine.Store;
        _clock = environment.Clock;
        _log = environment.Log;
        _entries = wiring.ToStore;
        _confChanges = wiring.ConfChanges;
        _commands = commands;
        _raft = raft;
        _duties = duties;
        _feed = feed;
        _leases = leases;
        _snapshots = snapshots;
        _applied = parts.AppliedIndex;
        _appliedTerm = parts.AppliedTerm;
        _frozenIndex = parts.AppliedIndex;
        NextDeadlineNs = 0;
    }

    /// <summary>What applying took, by kind of request. Any thread.</summary>
    internal ApplyFigures Figures { get; } = new();

    /// <summary>Told when the store's part of the stop sequence has ended.</summary>
    internal TaskCompletionSource? Stopped { get; set; }

    /// <inheritdoc/>
    public string RoleName => "store";

    /// <inheritdoc/>
    public long NextDeadlineNs { get; private set; }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        bool worked = ApplyBatch(nowNs);
        bool installing = Install();
        if (installing && _install is not null)
        {
            NextDeadlineNs = long.MaxValue; // until the tree thread rests, which wakes this one
            return worked;
        }

        worked |= installing;
        worked |= TakeCommands();
        worked |= Freeze(nowNs);
        worked |= _store.Work(nowNs);
        worked |= FinishWaiters();
        worked |= _duties.Poll(nowNs);
        worked |= Stop();
        NextDeadlineNs = worked ? nowNs : Deadline(nowNs);
        return worked;
    }

    private bool ApplyBatch(long nowNs)
    {
        if (_store.MustPause)
        {
            _freezeWanted = true;
            return false;
        }

        int count = 0;
        bool changed = false;
        while (count < BatchEntries && !_store.MustPause && _feed.IsReady && _entries.TryDequeue(out CommittedEntry entry))
        {
            ApplyOne(in entry);
            count++;
        }

        if (count == 0)
        {
            return false;
        }

        if (_firstPendingNs == 0)
        {
            _firstPendingNs = nowNs;
        }

        while (_machine.ConfChanges.Count > 0)
        {
            // Before the applied index moves: raft learns of a change no later than that it is applied.
            AppliedConfChange change = _machine.ConfChanges.Dequeue();
            if (_changeWaiters.TryPeek(out AppliedConfChange waiter) && waiter.Index == change.Index)
            {
                _ = _changeWaiters.Dequeue();
                change = change with { Slot = waiter.Slot, Outcome = waiter.Outcome };
            }

            bool taken = _confChanges.TryEnqueue(change);
            Invariant.Check(taken, "raft takes conf changes faster than they are committed");
            changed = true;
        }

        _store.PublishView();
        _counters.Revision = _store.Revision;
        _counters.CompactRevision = _store.CompactRevision;
        _counters.AppliedTerm = _appliedTerm;
        _counters.AppliedIndex = _applied;
        Answer(_clock.NowNs);
        Interlocked.MemoryBarrier();
        _watch.Published();
        if (_feed.TakeNews() || changed || _counters.RaftWantsApplied)
        {
            _raft.Wake();
        }

        return true;
    }

    private void ApplyOne(in CommittedEntry entry)
    {
        Invariant.Check(entry.Index == _applied + 1, "entries are applied in log order without gaps");
        Invariant.Check(entry.Term >= _appliedTerm, "terms of applied entries never fall");
        RequestSlot? slot = entry.Slot;
        bool wanted = slot is not null && slot.TryClaim();
        long before = _clock.NowNs;
        ErrorCode outcome = wanted
            ? _machine.Apply(in entry, true, ref slot!.Response)
            : _machine.Apply(in entry, false, ref _machine.Discarded);
        _applied = entry.Index;
        _appliedTerm = entry.Term;
        long took = _clock.NowNs - before;
        Figures.Observe(_machine.LastKind, outcome is ErrorCode.None or ErrorCode.Compacted, took);
        if (Mutations.AreCompiled)
        {
            _environment.Observer?.Applied(in entry, outcome);
        }

        long tookMs = took / 1_000_000;
        if (tookMs > _options.WarningApplyDurationMs)
        {
            _counters.SlowApplies++;
            ServerLog.SlowApply(
                _log,
                $"{tookMs}ms",
                $"{_options.WarningApplyDurationMs}ms",
                entry.Index,
                _machine.LastKind.ToString(),
                entry.Length);
        }

        if (!wanted)
        {
            return;
        }

        if (entry.Type == (byte)EntryType.ConfChange)
        {
            // Raft tells the caller, after it has switched.
            _changeWaiters.Enqueue(new AppliedConfChange(entry.Index, default, 0, slot, outcome));
            return;
        }

        if (outcome == ErrorCode.None && _machine.WaitsForCompaction)
        {
            slot!.AddReference();
            slot.Unclaim();
            _compactionWaiters.Add(slot, (ulong)_store.CompactRevision);
            return;
        }

        _answers[_answerCount++] = new Outcome { Slot = slot!, Code = outcome };
    }

    private void Answer(long nowNs)
    {
        for (int i = 0; i < _answerCount; i++)
        {
            ref Outcome answer = ref _answers[i];
            answer.Slot.AppliedNs = nowNs;
            answer.Slot.CompleteClaimed(answer.Code);
            answer = default;
        }

        _answerCount = 0;
    }

    private bool TakeCommands()
    {
        bool worked = false;
        while (_commands.TryDequeue(out StoreCommand command))
        {
            worked = true;
            if (command.Kind == StoreCommandKind.Freeze)
            {
                _durableWaiters.Add(command.Slot, _applied);
                _freezeWanted = true;
                _store.TreeActor.Hurry(); // an earlier freeze may be committing: ours comes after it
                continue;
            }

            RequestSlot slot = command.Slot;
            if (slot.TryClaim())
            {
                slot.CompleteClaimed(_machine.Query(in command.Query, _leases, _clock.NowNs, _appliedTerm, ref slot.Response));
            }

            slot.DropReference();
        }

        return worked;
    }

    /// <summary>Hands the active buffer over when it is due and the frozen one is gone.</summary>
    private bool Freeze(long nowNs)
    {
        if (_applied == _frozenIndex || _store.IsFrozen || !FreezeIsDue(nowNs))
        {
            return false;
        }

        var point = new FreezePoint(_applied, _appliedTerm, _machine.ConfStateJsonUnwritten);
        if (!_store.TryFreeze(in point))
        {
            return false;
        }

        _machine.ConfStateWritten();
        _snapshots.Captured(_applied, _appliedTerm, _machine);
        _frozenIndex = _applied;
        _firstPendingNs = 0;
        _freezeWanted = false;
        if (_durableWaiters.Count > 0 || _rawFreezeDone)
        {
            _store.TreeActor.Hurry();
        }

        return true;
    }

    private bool FreezeIsDue(long nowNs) =>
        _freezeWanted
        || _store.PendingOps >= _options.BatchLimit
        || _store.BufferBytes >= _options.BufferBytes / 2
        || nowNs - _firstPendingNs >= _options.BatchIntervalMs * 1_000_000L;

    private bool FinishWaiters()
    {
        bool worked = false;
        _counters.TreeIndex = _store.DurableIndex;
        if (_durableWaiters.Count > 0)
        {
            worked |= _durableWaiters.Release(_store.DurableIndex);
            if (_durableWaiters.Count > 0 && _frozenIndex != _applied)
            {
                _freezeWanted = true;
            }
        }

        if (_compactionWaiters.Count > 0)
        {
            long finished = _store.FinishedCompactRevision;
            worked |= finished >= 0 && _compactionWaiters.Release((ulong)finished);
        }

        return _snapshots.Poll(_store.DurableIndex) | worked;
    }

    /// <summary>The store's part of the stop sequence: everything committed is applied, durable, and nobody waits.</summary>
    private bool Stop()
    {
        if (!_counters.RaftStopped || _counters.StoreStopped || !_entries.IsEmpty || _install is not null)
        {
            return false;
        }

        if (_store.DurableIndex < _applied)
        {
            _rawFreezeDone = true;
            _freezeWanted = true;
            return false;
        }

        while (_commands.TryDequeue(out StoreCommand command))
        {
            _ = command.Slot.TryComplete(ErrorCode.Stopped);
            command.Slot.DropReference();
        }

        _ = _durableWaiters.Release(ulong.MaxValue);
        _compactionWaiters.Fail(ErrorCode.Stopped);
        _counters.StoreStopped = true;
        _ = Stopped?.TrySetResult();
        return true;
    }

    private long Deadline(long nowNs)
    {
        long next = _duties.NextDeadlineNs;
        if (_applied != _frozenIndex && !_store.IsFrozen)
        {
            next = Math.Min(next, _firstPendingNs + (_options.BatchIntervalMs * 1_000_000L));
        }

        if (_store.HasDeferredWork || _replaced.Count > 0)
        {
            next = Math.Min(next, nowNs + DeferredWorkNs);
        }

        return Math.Max(next, nowNs + 1);
    }

    private struct Outcome
    {
        public RequestSlot Slot;
        public ErrorCode Code;
    }
}
