// RaftActor.Leadership: handing leadership over, the disk watchdog, removal and the stop sequence. Raft thread.
//
// Watchdog   The age of the oldest WAL unit that is not durable says whether the disk stands still. A leader whose unit is
//            older than half an election timeout hands over to the best voter (the hand-over needs no disk of ours); one
//            older than a whole timeout steps down, so that clients go elsewhere: if some voter has made durable what
//            this one has not, for when all disks are slow nobody leads better. It cannot lead again before its disk
//            moves: a candidacy needs a durable vote (design §9.1).
// Stop       Nothing new; a leader hands over; what is appended gets its chance; final hard state; then the store.
// Removal    A member that applied its own removal, or is told of it by a peer, stops itself a second later. One that
//            committed its removal itself stays until another leader has committed something, or a peer says that it knows:
//            before that the others may need its vote (decision 0061).
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

internal sealed unsafe partial class RaftActor
{
    private const long RemovedDelayNs = 1_000_000_000;
    private readonly List<RaftCommand> _moves = [];
    private long _stopDeadlineNs;
    private bool _stopFlushed;
    private bool _stopTransferred;
    private long _stopAtNs; // when a removed member stops
    private string _stopReason = "";
    private bool _isRemovalOurs; // this member committed its own removal as a leader: do others know?
    private bool _handedOver; // because of the disk, in this term

    private bool TakeCommands(long nowNs)
    {
        bool any = false;
        while (_wiring.Commands.TryDequeue(out RaftCommand command))
        {
            any = true;
            if (command.Kind == RaftCommandKind.Campaign)
            {
                _core.CampaignNow();
                continue;
            }

            if (_core.Role != RaftRole.Leader)
            {
                _ = command.Slot!.TryComplete(ErrorCode.NotLeader);
                command.Slot.DropReference();
                continue;
            }

            if (command.Kind == RaftCommandKind.IsInSync)
            {
                _ = command.Slot!.TryComplete(IsInSync(command.Target) ? ErrorCode.None : ErrorCode.LearnerNotReady);
                command.Slot.DropReference();
                continue;
            }

            command.Target = command.Target == 0 ? BestSuccessor() : command.Target;
            if (command.Target == 0)
            {
                _ = command.Slot!.TryComplete(ErrorCode.BadLeaderTransferee);
                command.Slot.DropReference();
                continue;
            }

            ServerLog.TransferringLeadership(_log, ServerLog.Id(_core.Id), ServerLog.Id(command.Target));
            command.Slot!.ProposedNs = nowNs;
            _core.TransferLeader(command.Target);
            _moves.Add(command);
        }

        return any;
    }

    /// <summary>etcd's measure: at least nine tenths of the leader's log.</summary>
    private bool IsInSync(ulong learner)
    {
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ProgressStatus peer = _core.ProgressAt(i);
            if (peer.Id == learner)
            {
                return peer.Match > 0 && peer.Match >= _core.LastIndex * 0.9;
            }
        }

        return false;
    }

    /// <summary>Tells those who asked for a hand-over.</summary>
    private bool Lead(long nowNs)
    {
        bool any = false;
        for (int i = _moves.Count - 1; i >= 0; i--)
        {
            RaftCommand move = _moves[i];
            ErrorCode? outcome = _leader == move.Target ? ErrorCode.None
                : move.Slot!.DeadlineNs <= nowNs ? ErrorCode.TimeoutLeaderTransfer
                : null;
            if (outcome is { } code)
            {
                _ = move.Slot!.TryComplete(code);
                move.Slot.DropReference();
                _moves.RemoveAt(i);
                any = true;
            }
        }

        return any;
    }

    private void FailMoves(ErrorCode outcome)
    {
        while (_wiring.Commands.TryDequeue(out RaftCommand command))
        {
            _ = command.Slot?.TryComplete(outcome);
            command.Slot?.DropReference();
        }

        foreach (RaftCommand move in _moves)
        {
            _ = move.Slot!.TryComplete(outcome);
            move.Slot.DropReference();
        }

        _moves.Clear();
    }

    private void WatchDisk(long nowNs)
    {
        long age = _wal.OldestAgeNs(nowNs);
        _counters.DiskStallNs = age;
        if (_core.Role != RaftRole.Leader || _core.Configuration.IsSoleVoter(_core.Id))
        {
            _handedOver = false;
            return;
        }

        long electionNs = _options.ElectionMs * 1_000_000L;
        if (age > electionNs / 2 && !IsAnybodyAhead())
        {
            return; // everybody's disk stands still, or nobody else is there: nothing would get better
        }

        if (age > electionNs)
        {
            ServerLog.SteppingDown(_log, ServerLog.Id(_core.Id), age / 1_000_000);
            _core.StepDown();
            _counters.DiskStallHandovers++;
        }
        else if (age > electionNs / 2 && !_handedOver)
        {
            ulong target = BestSuccessor();
            if (target != 0)
            {
                _handedOver = true;
                _counters.DiskStallHandovers++;
                ServerLog.HandingOver(_log, ServerLog.Id(_core.Id), ServerLog.Id(target), age / 1_000_000);
                _core.TransferLeader(target);
            }
        }
        else if (age < electionNs / 4)
        {
            _handedOver = false;
        }
    }

    /// <summary>Some voter has made durable what this leader has not.</summary>
    private bool IsAnybodyAhead()
    {
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ProgressStatus peer = _core.ProgressAt(i);
            if (peer.Id != _core.Id && !peer.IsLearner && peer.Match > _core.Durable)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The voter that can lead soonest: heard from lately, then the longest log, then the oldest link; 0: none.</summary>
    private ulong BestSuccessor()
    {
        ulong best = 0;
        (ulong Match, long Since) bestKey = default;
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ProgressStatus peer = _core.ProgressAt(i);
            long since = _wiring.Peers.ActiveSince(peer.Id);
            if (peer.Id == _core.Id || peer.IsLearner || since == 0)
            {
                continue;
            }

            if (best == 0 || peer.Match > bestKey.Match || (peer.Match == bestKey.Match && since < bestKey.Since))
            {
                (best, bestKey) = (peer.Id, (peer.Match, since));
            }
        }

        return best;
    }

    private void StopBecauseRemoved(long nowNs, ulong removedAt)
    {
        if (_stopAtNs == 0)
        {
            _stopAtNs = nowNs + RemovedDelayNs;
            _isRemovalOurs = removedAt != 0 && removedAt <= _core.OwnCommit;
            _stopReason = "the member has been permanently removed from the cluster";
            ServerLog.SelfRemoved(_log, ServerLog.Id(_core.Id), _options.DataDir);
        }
    }

    private void StopIfTold(long nowNs)
    {
        ulong by = _counters.ToldRemovedBy;
        if (by != 0 && _stopAtNs == 0)
        {
            ServerLog.ToldRemoved(_log, ServerLog.Id(_core.Id), ServerLog.Id(by));
            StopBecauseRemoved(nowNs, 0);
        }

        if (_isRemovalOurs)
        {
            if (by == 0 && _core.Commit <= _core.OwnCommit)
            {
                return;
            }

            _isRemovalOurs = false;
            _stopAtNs = nowNs + RemovedDelayNs;
        }

        if (_stopAtNs != 0 && nowNs >= _stopAtNs && !_intake.IsClosed)
        {
            _wiring.StopMember(_stopReason);
        }
    }

    /// <summary>
    /// Raft's part of the stop sequence: nothing new, a successor, what is appended gets its chance, then the final hard
    /// state.
    /// </summary>
    private bool Stop(long nowNs)
    {
        if (!_intake.IsClosed)
        {
            StopIfTold(nowNs);
            return false;
        }

        Refuse(_intake.Control, _control);
        Refuse(_intake.Normal, _normal);
        Refuse(null, _heldChanges);
        _reads.Fail(ErrorCode.Stopped);
        _leases.Fail(ErrorCode.Stopped);
        FailMoves(ErrorCode.Stopped);
        if (_stopDeadlineNs == 0)
        {
            _stopDeadlineNs = nowNs + _options.RequestTimeoutNs;
            ServerLog.Stopping(_log, _core.LastIndex, _core.Commit);
        }

        bool leads = _core.Role == RaftRole.Leader;
        if (leads && !_stopFlushed && _core.Applied < _core.LastIndex && nowNs < _stopDeadlineNs)
        {
            return false;
        }

        if (leads && !_stopFlushed && !_core.Configuration.IsSoleVoter(_core.Id) && nowNs < _stopDeadlineNs)
        {
            if (_core.Transferee == 0)
            {
                // Once, and again if it was given up: a stop should not cost the cluster an election timeout.
                ulong target = BestSuccessor();
                if (target == 0)
                {
                    return Finish();
                }

                if (!_stopTransferred)
                {
                    ServerLog.TransferringLeadership(_log, ServerLog.Id(_core.Id), ServerLog.Id(target));
                }

                _stopTransferred = true;
                _core.TransferLeader(target);
            }

            return false;
        }

        return Finish();
    }

    private bool Finish()
    {
        if (!_stopFlushed)
        {
            FailWaiters(ErrorCode.Stopped);
            _core.FlushCommit();
            _stopFlushed = true;
            return true;
        }

        // A pending snapshot is not waited for: its record is in the log and the next start installs it.
        if (_wal.IsBusy)
        {
            return false;
        }

        _counters.RaftStopped = true;
        _store.Wake();
        return true;
    }

    /// <summary>After the stop: nothing is sent or taken any more; late applies still let go of their slots.</summary>
    private bool FinishStopped()
    {
        ulong applied = _counters.AppliedIndex;
        Refuse(_intake.Control, _control);
        Refuse(_intake.Normal, _normal);
        _reads.Fail(ErrorCode.Stopped);
        _leases.Fail(ErrorCode.Stopped);
        _leases.DropNews();
        FailMoves(ErrorCode.Stopped);
        _wiring.Inbox.Clear();
        while (_confChanges.TryDequeue(out AppliedConfChange change))
        {
            change.Slot?.CompleteClaimed(change.Outcome);
        }

        if (applied <= _core.Applied || _core.PendingSnapshot != 0 || applied > _core.Applying)
        {
            return false;
        }

        DropWaiters(_core.Applied, applied);
        _core.ReportApplied(applied);
        return true;
    }
}
