// RaftNode.Store: what a member applies, how it becomes durable, snapshots, and reads served from it.
//
// The tree is an image that a commit writes some time after it was captured, so applied state and tree differ as they
// do in the store; after a crash entries from the mark on are handed out again and those the tree has are skipped.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftNode
{
    private readonly Queue<RaftEntry> _toApply = [];
    private readonly Queue<(ulong Index, RaftEntry Entry)> _changes = [];
    private readonly List<(ClientRequest Request, ulong Index)> _waitingReads = [];
    private readonly List<FetchRequest> _fetches = [];
    private RegisterImage? _snapshot;
    private RegisterImage? _capturing;
    private RegisterImage? _marking;
    private ulong _applied; // by the store, skipped entries included
    private ulong _appliedTerm;
    private ulong _install;
    private bool _isApplying;

    public RegisterState Store { get; private set; }

    /// <summary>The durable state.</summary>
    public RegisterImage Tree { get; private set; }

    public ulong AppliedByStore => _applied;

    /// <summary>Stands in for "take a snapshot now".</summary>
    public bool IsSnapshotForced { get; set; }

    private void StartStore()
    {
        if (Disk.Mark.Index > Tree.Index)
        {
            // The mark was written, the switch of the tree was not: the received file takes its place.
            Tree = Disk.Mark;
        }

        Store = Tree.State.Copy();
        _applied = Disk.Mark.Index;
        _appliedTerm = Disk.Mark.Term;
        _snapshot = Disk.Mark;
    }

    private void CrashStore()
    {
        _toApply.Clear();
        _changes.Clear();
        _waitingReads.Clear();
        _reads.Clear();
        _fetches.Clear();
        _capturing = null;
        _marking = null;
        _install = 0;
        _isApplying = false;
        _durable = 0;
        IsSnapshotForced = false;
    }

    private void GiveStore()
    {
        RaftCore core = Core;
        while (core.TryTakeCommitted(_copied.Length, out ulong lo, out ulong hi))
        {
            int count = (int)(hi - lo + 1);
            core.CopyEntries(lo, _copied.AsSpan(0, count));
            for (int i = 0; i < count; i++)
            {
                _toApply.Enqueue(_copied[i]);
            }
        }

        if (core.TryTakeSnapshot(out SnapshotInstall install))
        {
            _install = install.Index;
        }

        if (!_isApplying && (_toApply.Count > 0 || _install != 0))
        {
            _isApplying = true;
            _world.Schedule(
                RaftEvent.StoreDone,
                Math.Max(_world.NowNs + _world.DrawStoreNs(), StoreStalledUntilNs), Number, Generation, 0);
        }
    }

    /// <summary>The store has applied a batch.</summary>
    public void StoreDone()
    {
        if (Math.Max(StoreStalledUntilNs, PausedUntilNs) is long until && until > _world.NowNs)
        {
            _world.Schedule(RaftEvent.StoreDone, until, Number, Generation, 0);
            return;
        }

        _isApplying = false;
        int batch = 1 + _world.Random.Below(64);
        while (batch-- > 0 && _toApply.TryDequeue(out RaftEntry entry))
        {
            Apply(in entry);
        }

        if (_toApply.Count == 0 && _install != 0)
        {
            Install();
        }

        if (_toApply.Count > 0)
        {
            _isApplying = true;
            _world.Schedule(RaftEvent.StoreDone, _world.NowNs + _world.DrawStoreNs(), Number, Generation, 0);
        }

        ServeReads();
        Wake(_world.Random.Below(2_000));
    }

    private void Apply(in RaftEntry entry)
    {
        SimCheck.That(entry.Index == _applied + 1, $"{Id} was handed {entry.Index} after {_applied}");
        Ledger ledger = _world.Ledger;
        SimCheck.That(entry.Index <= ledger.LastIndex, $"{Id} applies {entry.Index}, which nobody committed");
        ref readonly Ledger.Committed committed = ref ledger.At(entry.Index);
        SimCheck.That(
            committed.Data == entry.Data && committed.Term == entry.Term,
            $"R6: {Id} applies another entry at {entry.Index} than was committed");
        _applied = entry.Index;
        _appliedTerm = entry.Term;
        if (entry.Type != EntryType.Normal)
        {
            _changes.Enqueue((entry.Index, entry));
        }

        if (entry.Index <= Store.Index)
        {
            return; // the tree had it already
        }

        if (entry.Type == EntryType.Normal && entry.Length > 0)
        {
            ref readonly RegisterOp op = ref *(RegisterOp*)entry.Data;
            RegisterResult result = Store.Apply(entry.Index, in op);
            SimCheck.That(
                result == committed.Result, $"M1: {Id} answers {result} at {entry.Index}, the model {committed.Result}");
            _world.AppliedOperation(this, in op, entry.Index, result);
        }
        else
        {
            Store.Skip(entry.Index);
        }

        ledger.Applied(Id, Store);
        _world.Committed++;
    }

    private void Install()
    {
        RegisterImage image = Disk.Files.FindLast(file => file.Index == _install)
            ?? throw new SimViolationException($"{Id} has no file for the snapshot {_install}");
        _install = 0;
        if (image.Index <= _applied)
        {
            _installed = image.Index;
            return;
        }

        _world.Ledger.Applied(Id, image.State);
        Store = image.State.Copy();
        Tree = image;
        _capturing = null;
        _snapshot = image;
        _applied = image.Index;
        _appliedTerm = image.Term;
        _installed = image.Index;
        _world.SnapshotsInstalled++;
    }

    private ulong _installed;

    /// <summary>Raft hears of what was applied: changes of configuration first, in the order of the log.</summary>
    private void TakeApplied()
    {
        RaftCore core = Core;
        while (_changes.TryDequeue(out (ulong Index, RaftEntry Entry) change))
        {
            if (change.Index <= Math.Max(core.PendingSnapshot, core.CompactedIndex))
            {
                continue; // raft has the configuration of a later snapshot already
            }

            _world.Ledger.Configured(Id, change.Index, Change(core, change.Entry));
            Check();
        }

        if (_installed != 0)
        {
            core.SnapshotInstalled(_installed);
            _installed = 0;
            Check();
        }

        if (_applied > core.Applied)
        {
            core.ReportApplied(_applied);
            Check();
        }

        FreezeIfDue(core);
    }

    private static ConfState Change(RaftCore core, in RaftEntry entry)
    {
        if (entry.Type == EntryType.ConfChange)
        {
            _ = ConfChange.TryParse(entry.Payload, out ConfChange single);
            bool isPossible = core.Configuration.Simple([new ConfChangeStep(single.Type, single.NodeId)], out _) is not null;
            return core.ApplyConfChange(new ConfChangeStep(single.Type, isPossible ? single.NodeId : 0));
        }

        _ = ConfChangeV2.TryParse(entry.Payload, out ConfChangeV2 change);
        var steps = new ConfChangeStep[change.Steps.Length];
        for (int i = 0; i < steps.Length; i++)
        {
            steps[i] = new ConfChangeStep(change.Steps[i].Type, change.Steps[i].NodeId);
        }

        Configuration now = core.Configuration;
        Configuration? next = change.IsLeave ? now.LeaveJoint(out _)
            : change.Transition != ConfChangeTransition.Auto || steps.Length > 1 ? now.EnterJoint(true, steps, out _)
            : now.Simple(steps, out _);
        return next is null
            ? core.ApplyConfChange(new ConfChangeStep(ConfChangeType.UpdateNode, 0))
            : core.ApplyConfChange(entry.Type, entry.Payload);
    }

    /// <summary>Captures a state for the tree; only where raft's configuration is that of the same index.</summary>
    private void FreezeIfDue(RaftCore core)
    {
        if (_capturing is not null || core.Applied != _applied || Store.Index != _applied || core.PendingSnapshot != 0)
        {
            return;
        }

        bool isWanted = core.IsSnapshotWanted || IsSnapshotForced;
        if (_applied > Tree.Index && (isWanted || _applied - Tree.Index >= 1 + (ulong)_world.Random.Below(20)))
        {
            _capturing = new RegisterImage(Store.Copy(), _applied, _appliedTerm, core.Configuration.ToConfState());
            _world.Schedule(RaftEvent.TreeDone, _world.NowNs + (2 * _world.DrawDiskNs()), Number, Generation, 0);
        }
        else if (_applied == Tree.Index)
        {
            MarkIfDue(core);
        }
    }

    /// <summary>A tree commit is durable.</summary>
    public void TreeDone()
    {
        if (_capturing is null)
        {
            return; // a snapshot was installed meanwhile
        }

        Tree = _capturing;
        _capturing = null;
        MarkIfDue(Core);
        Wake(0);
    }

    private void MarkIfDue(RaftCore core)
    {
        bool isDue = Tree.Index - Math.Min(Tree.Index, Disk.Mark.Index) >= (ulong)_world.Config.SnapshotCount
            || ((core.IsSnapshotWanted || IsSnapshotForced) && Tree.Index > _snapshot!.Index);
        if (isDue && _marking is null && core.PendingSnapshot == 0 && Tree.Index > Disk.Mark.Index && core.Commit >= Tree.Index)
        {
            // All of raft's units go first, so that the state names nothing that is not written before it.
            while (core.TryTakeAppend(out AppendUnit unit))
            {
                Enqueue(in unit);
            }

            if (core.PendingSnapshot != 0)
            {
                return;
            }

            _marking = Tree;
            IsSnapshotForced = false;
            Disk.Enqueue(new RaftUnit { Mark = Tree, MarkState = new HardState(core.Term, core.Vote, core.Commit) });
            if (!Disk.IsFlushing && Disk.Flush())
            {
                ScheduleDisk();
            }
        }
    }

    /// <summary>A mark of our own is durable.</summary>
    private void Marked(RegisterImage mark)
    {
        _marking = null;
        if (mark.Index <= _snapshot!.Index)
        {
            return;
        }

        _world.SnapshotsTaken++;
        _snapshot = mark;
        Core.SnapshotTaken(mark.Index, mark.Configuration);
        ulong keep = (ulong)_world.Config.CatchUpEntries;
        if (mark.Index > keep && Core.PendingSnapshot == 0)
        {
            ulong compact = Math.Max(Core.CompactedIndex, mark.Index - keep);
            if (compact <= Core.Applied)
            {
                Core.Compact(compact);
                Disk.Release(compact);
            }
        }

        Check();
    }

    /// <summary>Entries were read back for a peer.</summary>
    public void Fetched(ulong peer)
    {
        int at = _fetches.FindIndex(fetch => fetch.Peer == peer);
        if (at < 0)
        {
            return;
        }

        FetchRequest request = _fetches[at];
        _fetches.RemoveAt(at);
        int count = 0;
        long bytes = 0;
        while (count < request.MaxCount && Disk.TryGet(request.FirstIndex + (ulong)count, out RaftEntry entry)
            && (count == 0 || bytes + entry.Length <= request.MaxBytes))
        {
            bytes += entry.Length;
            count++;
        }

        _world.Coverage.Fetches++;
        if (Core.Fetched(peer, request.FirstIndex, _world.Random.Chance(3) ? 0 : count, bytes))
        {
            while (Core.TryTakeMessage(out RaftMessage message))
            {
                Give(in message);
            }
        }

        Check();
    }

    private void ServeReads()
    {
        for (int i = 0; i < _waitingReads.Count; i++)
        {
            (ClientRequest request, ulong index) = _waitingReads[i];
            if (index <= _applied)
            {
                _waitingReads.RemoveAt(i--);
                _world.ReadServed(this, request, index);
            }
        }
    }
}
