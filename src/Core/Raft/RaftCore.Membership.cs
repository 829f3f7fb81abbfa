// RaftCore.Membership: changes of configuration, and snapshots (which bring one along).
//
// A change is active when the store has applied its entry. That is safe with three obligations (raft.md §1.9): a leader
// appends a change only after it applied all earlier ones (JudgeConfChange, _pendingConfIndex); nobody campaigns with a
// committed change unapplied (Campaign); a change is on disk only behind a commit index that covers the earlier ones
// (TryTakeAppend).
//
// A snapshot from the leader replaces the log: its record and a hard state that covers it go to the WAL in one unit,
// then the store switches; until it has, nothing is applied and no election started.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private ulong _snapshotIndex; // the newest one a peer may be sent
    private ulong _snapshotTerm;
    private ConfState _snapshotState;
    private ulong _pendingSnapshot; // received and not installed yet; 0 for none
    private ulong _pendingSnapshotTerm;
    private ConfState _pendingSnapshotState = ConfState.Empty;
    private bool _isSnapshotUnwritten;
    private bool _isSnapshotTaken;
    private ulong _snapshotSequence;

    /// <summary>Index of a snapshot that is being installed; 0 for none.</summary>
    public ulong PendingSnapshot => _pendingSnapshot;

    /// <summary>
    /// A configuration change entry has been applied by the store. Called for every such entry (node 0 if the store
    /// refused it), before <see cref="ReportApplied"/> covers its index.
    /// </summary>
    /// <exception cref="RaftStateException">The change is impossible; the store should have refused it.</exception>
    public ConfState ApplyConfChange(ConfChangeStep step)
    {
        Configuration next = _configuration.Simple([step], out string problem)
            ?? throw new RaftStateException($"raft: configuration change {step.Type} of member {step.NodeId:x}: {problem}");
        return Switch(next);
    }

    /// <summary>As the other form, for an entry of either type as it stands in the log.</summary>
    /// <exception cref="RaftStateException">The change cannot be read or is impossible.</exception>
    public ConfState ApplyConfChange(EntryType type, ReadOnlySpan<byte> payload)
    {
        if (!TryRead(type, payload, out ConfChangeV2 change))
        {
            throw new RaftStateException("raft: a committed configuration change cannot be decoded");
        }

        Configuration next = Change(change, out string problem)
            ?? throw new RaftStateException($"raft: configuration change: {problem}");
        return Switch(next);
    }

    /// <summary>
    /// A peer needs a snapshot newer than the newest this core knows: take one at the applied index and report it with
    /// <see cref="SnapshotTaken"/>.
    /// </summary>
    public bool IsSnapshotWanted { get; private set; }

    /// <summary>A snapshot at an applied index is durable and may be sent to peers.</summary>
    /// <param name="index">Last index it contains.</param>
    /// <param name="state">Configuration at that index.</param>
    public void SnapshotTaken(ulong index, ConfState state)
    {
        Invariant.Check(index <= Applied, "a snapshot holds what is applied");
        if (index > _snapshotIndex && _log.TryGetTerm(index, out ulong term) == LogAnswer.Ready)
        {
            (_snapshotIndex, _snapshotTerm, _snapshotState) = (index, term, state);
            IsSnapshotWanted = false;
        }
    }

    /// <summary>
    /// Takes a snapshot the store has to switch to; its WAL record is durable. Nothing is handed to apply until
    /// <see cref="SnapshotInstalled"/>.
    /// </summary>
    public bool TryTakeSnapshot(out SnapshotInstall install)
    {
        install = new SnapshotInstall(_pendingSnapshot, _pendingSnapshotTerm);
        if (_pendingSnapshot == 0 || _isSnapshotUnwritten || _isSnapshotTaken || _durableSequence < _snapshotSequence)
        {
            return false;
        }

        _isSnapshotTaken = true;
        return true;
    }

    /// <summary>The store serves the state of a snapshot now. One that is older than what is applied changes nothing.</summary>
    public void SnapshotInstalled(ulong index)
    {
        if (index > Applied)
        {
            Invariant.Check(index <= _pendingSnapshot, "only what was received can be installed");
            Applied = index;
            Applying = Math.Max(Applying, index);
        }

        if (index == _pendingSnapshot)
        {
            (_snapshotIndex, _snapshotTerm, _snapshotState) = (index, _pendingSnapshotTerm, _pendingSnapshotState);
            _pendingSnapshot = 0;
            _applyingBytes = 0;
            _log.ReleaseApplying();
            TrimLog();
        }

        CheckInvariants();
    }

    private static bool TryRead(EntryType type, ReadOnlySpan<byte> payload, out ConfChangeV2 change)
    {
        if (type == EntryType.ConfChangeV2)
        {
            return ConfChangeV2.TryParse(payload, out change);
        }

        change = new ConfChangeV2();
        if (!ConfChange.TryParse(payload, out ConfChange single))
        {
            return false;
        }

        change = new ConfChangeV2 { Steps = [(single.Type, single.NodeId)] };
        return true;
    }

    private Configuration? Change(ConfChangeV2 change, out string problem)
    {
        if (change.IsLeave)
        {
            return _configuration.LeaveJoint(out problem);
        }

        var steps = new ConfChangeStep[change.Steps.Length];
        for (int i = 0; i < steps.Length; i++)
        {
            steps[i] = new ConfChangeStep(change.Steps[i].Type, change.Steps[i].NodeId);
        }

        if (Mutations.Is(Mutation.TwoVotersInOneChange))
        {
            return _configuration.Simple(steps, out problem);
        }

        return change.Transition != ConfChangeTransition.Auto || steps.Length > 1
            ? _configuration.EnterJoint(change.Transition != ConfChangeTransition.JointExplicit, steps, out problem)
            : _configuration.Simple(steps, out problem);
    }

    /// <summary>What a leader says to a proposed change.</summary>
    private ProposalResult JudgeConfChange(EntryType type, ReadOnlySpan<byte> payload)
    {
        if (!TryRead(type, payload, out ConfChangeV2 change))
        {
            return ProposalResult.ConfChangeRefused;
        }

        if (!_config.ValidateConfChanges)
        {
            return ProposalResult.Appended;
        }

        // Until the last change is applied, nobody knows which configuration would judge the next one.
        if (_pendingConfIndex > Applied && !Mutations.Is(Mutation.TwoPendingChanges))
        {
            return ProposalResult.ConfChangePending;
        }

        return Change(change, out _) == null ? ProposalResult.ConfChangeRefused : ProposalResult.Appended;
    }

    private ConfState Switch(Configuration next)
    {
        _configuration = next;
        RebuildProgress();
        if (Role == RaftRole.Leader && !next.IsVoter(Id))
        {
            if (_config.EnsuresSuccession)
            {
                LeadOn();
            }
            else if (_config.StepDownOnRemoval)
            {
                BecomeFollower(Term, 0);
            }
        }
        else if (Role == RaftRole.Leader)
        {
            // A smaller quorum may have committed more; new peers are probed at once.
            if (MaybeCommit())
            {
                Broadcast();
            }
            else
            {
                foreach (Progress peer in _progress)
                {
                    if (peer.Id != Id)
                    {
                        _ = SendAppend(peer, sendEmpty: false);
                    }
                }
            }

            if (_transferee != 0 && !next.IsVoter(_transferee))
            {
                _transferee = 0;
            }

            ConfirmReads();
        }

        CheckInvariants();
        return next.ToConfState();
    }

    /// <summary>A joint configuration that leaves by itself is left as soon as it is applied; asked at every apply.</summary>
    private void LeaveJointIfDue()
    {
        if (_configuration.AutoLeave && Role == RaftRole.Leader && Applied >= _pendingConfIndex && _transferee == 0)
        {
            AppendEmpty(EntryType.ConfChangeV2);
            _pendingConfIndex = LastIndex;
            Broadcast();
        }
    }

    private void AppendEmpty(EntryType type)
    {
        var entry = new RaftEntry { Term = Term, Index = LastIndex + 1, Type = type };
        _log.Append(in entry);
    }

    /// <summary>For scripts: what etcd's library puts in the place of a change it refuses.</summary>
    internal void AppendEmptyInstead()
    {
        AppendEmpty(EntryType.Normal);
        Broadcast();
    }

    private void HandleSnapshot(in RaftMessage message)
    {
        ulong from = message.From;
        var answer = new RaftMessage { Type = MessageType.AppendResponse, To = from, Term = Term };
        if (message.Index > Commit && Mutations.Is(Mutation.SecondSnapshotWhileInstalling) && _pendingSnapshot != 0
            && message.SnapshotState is not null)
        {
            _pendingSnapshot = 0; // the first is forgotten, its unit may be on the way
        }

        if (message.Index > Commit && !Restore(in message))
        {
            MessagesRefused++;
        }

        answer.Index = Commit;
        Hold(answer, Commit);
    }

    /// <summary>True when the snapshot was taken over or stands for nothing new.</summary>
    private bool Restore(in RaftMessage message)
    {
        if (_log.TryGetTerm(message.Index, out ulong term) == LogAnswer.Ready && term == message.LogTerm)
        {
            Commit = message.Index; // the log has it all: the leader only needed to know
            return true;
        }

        if (message.SnapshotState is not { } state
            || Configuration.FromConfState(state, out _) is not { } configuration || !configuration.Contains(Id))
        {
            return false;
        }

        // Below the old commit index the log and the snapshot are the same, so that much stays durable.
        Durable = Math.Min(Durable, Commit);
        for (int i = 0; i < _inFlightCount; i++)
        {
            ref InFlight unit = ref _inFlight[(_inFlightHead + i) & (_inFlight.Length - 1)];
            unit.LastIndex = Math.Min(unit.LastIndex, Commit);
        }

        _log.Restore(message.Index, message.LogTerm, _sequence, Applying);
        Commit = message.Index;
        _sentIndex = message.Index;
        _pendingSnapshot = message.Index;
        _pendingSnapshotTerm = message.LogTerm;
        _pendingSnapshotState = state;
        _isSnapshotUnwritten = true;
        _isSnapshotTaken = false;
        _configuration = configuration;
        Invariant.Check(_configuration.ToConfState().IsEquivalentTo(state), "a configuration is what was stored");
        RebuildProgress();
        return true;
    }

    private void RebuildProgress()
    {
        var rebuilt = new List<Progress>();
        foreach (ulong id in _configuration.Incoming)
        {
            Add(id, false);
        }

        foreach (ulong id in _configuration.Outgoing)
        {
            Add(id, false);
        }

        foreach (ulong id in _configuration.Learners)
        {
            Add(id, true);
        }

        rebuilt.Sort(static (a, b) => a.Id.CompareTo(b.Id));
        _progress = [.. rebuilt];

        void Add(ulong id, bool isLearner)
        {
            if (rebuilt.Exists(known => known.Id == id))
            {
                return;
            }

            // A new peer counts as heard from, or its leader could step down right after adding it.
            Progress progress = Find(id)
                ?? new Progress(id, isLearner, _config.MaxInFlightMessages, _config.MaxInFlightBytes)
                {
                    Next = Math.Max(LastIndex, 1), IsRecentActive = true,
                };
            progress.IsLearner = isLearner;
            if (id == Id)
            {
                progress.Match = Durable;
                progress.Next = LastIndex + 1;
            }

            rebuilt.Add(progress);
        }
    }
}
