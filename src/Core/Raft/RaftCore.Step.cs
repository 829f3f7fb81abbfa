// RaftCore.Step: messages from other members: the term gate, then what every role answers.
//
// Bad input  A message that no correct member would send (unknown kind, from nobody or from ourselves, entries out of
//            order, an index beyond our log acknowledged) is dropped and counted. What proves that committed data
//            diverged (a conflict at or below our commit index, a commit index beyond our log) stops the member: going
//            on would hide the loss of acknowledged writes.
// Ownership  The payloads of entries given to Step belong to the core from then on, whatever becomes of the message.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private readonly MessageQueue _free = new();
    private readonly MessageQueue _held = new();
    private readonly ForwardGuard _forwards = new();
    private ulong _forwardSequence;
    private ulong _stateVersion = 1; // of term and vote
    private ulong _writtenStateVersion = 1; // the one that units handed out so far carry

    /// <summary>Messages dropped because no correct member would have sent them.</summary>
    public long MessagesRefused { get; private set; }

    /// <summary>Messages lost because the transport did not take them in time.</summary>
    public long MessagesLost => _free.Lost + _held.Lost;

    /// <summary>A message has arrived.</summary>
    /// <param name="message">As it was sent.</param>
    /// <param name="entries">Its entries; the payloads now belong to the core.</param>
    /// <exception cref="InvariantException">The message proves that committed entries were lost or differ.</exception>
    public void Step(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        if (!IsPlausible(in message, entries))
        {
            MessagesRefused++;
            ReleaseAll(entries);
            return;
        }

        if (!PassesTermGate(in message))
        {
            ReleaseAll(entries);
            return;
        }

        switch (message.Type)
        {
            case MessageType.Append:
                FollowIfCandidate(message.From);
                HandleAppend(in message, entries);
                break;
            case MessageType.Heartbeat:
                FollowIfCandidate(message.From);
                HandleHeartbeat(in message);
                break;
            case MessageType.Snapshot:
                FollowIfCandidate(message.From);
                HandleSnapshot(in message);
                break;
            case MessageType.Vote or MessageType.PreVote:
                HandleVote(in message);
                break;
            case MessageType.VoteResponse when Role == RaftRole.Candidate:
            case MessageType.PreVoteResponse when Role == RaftRole.PreCandidate:
                if (Find(message.From) is { } voter)
                {
                    Count(voter, !message.IsReject);
                }

                break;
            case MessageType.AppendResponse when Role == RaftRole.Leader:
                HandleAppendResponse(in message);
                break;
            case MessageType.HeartbeatResponse when Role == RaftRole.Leader:
                HandleHeartbeatResponse(in message);
                break;
            case MessageType.TimeoutNow when Role == RaftRole.Follower:
                Campaign(isTransfer: true);
                break;
            case MessageType.Propose:
                HandleForwarded(in message, entries);
                break;
            case MessageType.ReadIndex when Role == RaftRole.Leader:
                _ = AcceptRead(message.Context, message.From, message.Boot, out _);
                break;
            case MessageType.ReadIndexResponse when Role == RaftRole.Follower:
                HandleReadIndexResponse(in message);
                break;
            case MessageType.TransferLeader:
                TransferLeader(message.Context);
                break;
        }

        CheckInvariants();
    }

    /// <summary>Takes the next message to send. Appends that no longer hold (role, term or log changed) are skipped.</summary>
    public bool TryTakeMessage(out RaftMessage message)
    {
        if (_isReadRoundWanted)
        {
            _isReadRoundWanted = false;
            if (Role == RaftRole.Leader)
            {
                BroadcastHeartbeat(); // one round for all reads that came since the last
            }
        }

        while (_free.Count > 0)
        {
            message = _free.First.Message;
            _free.RemoveFirst();
            if (IsStillTrue(in message))
            {
                return true;
            }
        }

        while (_held.Count > 0)
        {
            ref HeldMessage held = ref _held.First;
            if (_isSnapshotUnwritten || held.NeedVersion > _writtenStateVersion
                || (held.NeedIndex > _sentIndex && held.Epoch == _log.TruncationEpoch))
            {
                break; // the unit it rests on has not been taken yet
            }

            message = held.Message;
            bool isTrue = held.Epoch == _log.TruncationEpoch || message.IsReject
                || message.Type is not (MessageType.AppendResponse or MessageType.Vote);
            _held.RemoveFirst();
            if (isTrue)
            {
                message.ReleaseSequence = _sequence > _durableSequence ? _sequence : 0;
                if (Mutations.AreCompiled && LeavesTooEarly(message.Type))
                {
                    message.ReleaseSequence = 0;
                }

                return true;
            }
        }

        message = default;
        return false;
    }

    /// <summary>The message that carries proposals answered with <see cref="ProposalResult.Forward"/>.</summary>
    /// <param name="firstSequence"><see cref="RaftProposal.Index"/> of the first; the others follow without a gap.</param>
    /// <param name="count">How many.</param>
    public RaftMessage ForwardHeader(ulong firstSequence, int count) => new()
    {
        Type = MessageType.Propose,
        From = Id,
        To = Leader,
        LogTerm = Term,
        Index = firstSequence,
        EntryCount = count,
        Boot = _config.Boot,
    };

    private static bool LeavesTooEarly(MessageType type) => type switch
    {
        MessageType.AppendResponse => Mutations.Is(Mutation.AppendAnswerBeforeSync),
        MessageType.VoteResponse => Mutations.Is(Mutation.VoteAnswerBeforeSync),
        MessageType.Vote => Mutations.Is(Mutation.VoteRequestBeforeSync),
        _ => false,
    };

    private bool IsStillTrue(in RaftMessage message) => message.Type switch
    {
        MessageType.Append => Role == RaftRole.Leader && message.Term == Term
            && (message.EntryCount == 0 || message.IsFetched || _log.Locate(message.Index + 1) == LogAnswer.Ready),
        MessageType.Heartbeat or MessageType.Snapshot => Role == RaftRole.Leader && message.Term == Term,
        _ => true,
    };

    private bool IsPlausible(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        if (message.From == 0 || message.From == Id || (message.To != 0 && message.To != Id))
        {
            return false;
        }

        if (message.Type == MessageType.Propose)
        {
            return message.Term == 0 && !entries.IsEmpty;
        }

        if (message.Type is MessageType.ReadIndex or MessageType.TransferLeader)
        {
            return message.Term == 0 && entries.IsEmpty;
        }

        // No cluster gets to such a term, and the next campaign must still have one above it.
        if (message.Term is 0 or > long.MaxValue || message.Type is MessageType.None or > MessageType.TransferLeader)
        {
            return false;
        }

        if (message.Type == MessageType.Snapshot && (message.Index == 0 || message.LogTerm > message.Term))
        {
            return false;
        }

        // What only a leader sends, in the term we lead: no vote of ours is behind it, it is nobody to follow.
        if (Role == RaftRole.Leader && message.Term == Term
            && message.Type is (MessageType.Append or MessageType.Heartbeat or MessageType.Snapshot))
        {
            return false;
        }

        if (message.Type != MessageType.Append)
        {
            return entries.IsEmpty;
        }

        ulong term = message.LogTerm;
        ulong index = message.Index;
        foreach (ref readonly RaftEntry entry in entries)
        {
            if (entry.Index != ++index || entry.Term < term)
            {
                return false;
            }

            term = entry.Term;
        }

        return term <= message.Term;
    }

    /// <summary>The rules for terms, before any handler (raft.md §1.4). False: the message is done with.</summary>
    private bool PassesTermGate(in RaftMessage message)
    {
        if (message.Term == 0 || message.Term == Term)
        {
            return true;
        }

        if (message.Term > Term)
        {
            if (message.Type is MessageType.Vote or MessageType.PreVote && !message.IsTransfer && IsInLease
                && !Mutations.Is(Mutation.HigherTermVoteDuringLease))
            {
                return false; // we hear a leader: not even its term is taken
            }

            bool leavesTerm = message.Type == MessageType.PreVote
                || (message.Type == MessageType.PreVoteResponse && !message.IsReject);
            if (!leavesTerm)
            {
                bool isLeaders = message.Type is MessageType.Append or MessageType.Heartbeat or MessageType.Snapshot;
                BecomeFollower(message.Term, isLeaders ? message.From : 0);
            }

            return true;
        }

        if (message.Type is MessageType.Append or MessageType.Heartbeat && (_config.CheckQuorum || _config.PreVote))
        {
            // A leader of the past, and us stuck in a later term: our term in the answer resolves both.
            Hold(new RaftMessage { Type = MessageType.AppendResponse, To = message.From, Term = Term }, 0);
        }
        else if (message.Type == MessageType.PreVote && !Mutations.Is(Mutation.NoAnswerToOldPreVote))
        {
            Hold(
                new RaftMessage { Type = MessageType.PreVoteResponse, To = message.From, Term = Term, IsReject = true }, 0);
        }

        return false;
    }

    private void FollowIfCandidate(ulong leader)
    {
        if (Role != RaftRole.Follower)
        {
            BecomeFollower(Term, leader);
        }

        _electionElapsed = 0;
        _standsIn = false;
        Leader = leader;
    }

    private void HandleAppend(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        var answer = new RaftMessage
        {
            Type = MessageType.AppendResponse, To = message.From, Term = Term, Context = message.Context,
        };
        if (message.Index < Commit)
        {
            ReleaseAll(entries);
            answer.Index = Commit;
            Hold(answer, Commit);
            return;
        }

        if (_log.TryGetTerm(message.Index, out ulong term) != LogAnswer.Ready || term != message.LogTerm)
        {
            ReleaseAll(entries);
            answer.IsReject = true;
            answer.Index = message.Index;
            answer.Hint = _log.FindConflictByTerm(Math.Min(message.Index, LastIndex), message.LogTerm, out answer.LogTerm);
            Hold(answer, 0);
            return;
        }

        int fresh = 0;
        while (fresh < entries.Length
            && _log.TryGetTerm(entries[fresh].Index, out term) == LogAnswer.Ready && term == entries[fresh].Term)
        {
            fresh++; // an older append come late must not cut off what came after it
        }

        if (Mutations.Is(Mutation.TruncateOnEveryAppend) && entries.Length > 0 && fresh == entries.Length
            && message.Index + (ulong)fresh < LastIndex && message.Index + (ulong)fresh >= Commit)
        {
            TruncateFrom(message.Index + (ulong)fresh + 1);
        }

        ReleaseAll(entries[..fresh]);
        if (fresh < entries.Length)
        {
            ulong from = entries[fresh].Index;
            if (from <= Commit && Mutations.Is(Mutation.ConflictBelowCommitAccepted))
            {
                Commit = Math.Max(Applying, from - 1);
            }

            if (from <= Commit)
            {
                Invariant.Throw(
                    $"the leader {message.From:x} of term {message.Term} sent an entry of term {entries[fresh].Term} at "
                    + $"index {from}, where this member has committed another (commit index {Commit})");
            }

            if (from <= LastIndex)
            {
                TruncateFrom(from);
            }

            foreach (ref readonly RaftEntry entry in entries[fresh..])
            {
                _log.Append(in entry);
            }
        }

        // What lies beyond this message may be a stale tail: it commits nothing there.
        ulong last = message.Index + (ulong)entries.Length;
        ulong commits = Mutations.Is(Mutation.AppendCommitNotLimited)
            ? Math.Min(message.Commit, LastIndex) : Math.Min(message.Commit, last);
        CommitTo(commits, message.From);
        answer.Index = last;
        Hold(answer, last);
    }

    private void HandleHeartbeat(in RaftMessage message)
    {
        CommitTo(message.Commit, message.From);
        Send(new RaftMessage
        {
            Type = MessageType.HeartbeatResponse, To = message.From, Term = Term, Context = message.Context,
        });
    }

    private void HandleVote(in RaftMessage message)
    {
        bool mayVote = Vote == message.From || (Vote == 0 && Leader == 0)
            || (message.Type == MessageType.PreVote && message.Term > Term);
        bool isUpToDate = message.LogTerm > LastTerm || (message.LogTerm == LastTerm && message.Index >= LastIndex)
            || Mutations.Is(Mutation.LogNotComparedOnVote);
        var answer = new RaftMessage
        {
            Type = message.Type == MessageType.Vote ? MessageType.VoteResponse : MessageType.PreVoteResponse,
            To = message.From,
            Term = Term,
            IsReject = true,
        };

        // A learner grants as well: it may be a voter by a change it has not seen yet.
        if (mayVote && isUpToDate)
        {
            answer.Term = message.Term;
            answer.IsReject = false;
            if (message.Type == MessageType.Vote)
            {
                Invariant.Check(Vote == 0 || Vote == message.From, "one vote a term (R2)");
                _electionElapsed = 0;
                if (Vote != message.From)
                {
                    Vote = message.From;
                    _stateVersion++;
                }
            }
        }
        else if (!isUpToDate)
        {
            StandInIfNeeded();
        }

        Hold(answer, 0);
    }

    private void HandleForwarded(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        // One hop: a member that does not lead drops it, its origin does not know the outcome and says so.
        bool isForThisTerm = message.LogTerm == 0 || message.LogTerm == Term;
        ulong last = LastIndex;
        for (int i = 0; i < entries.Length; i++)
        {
            ref readonly RaftEntry entry = ref entries[i];
            bool appended = false;
            if (Role == RaftRole.Leader && isForThisTerm && (entry.Length > 0 || entry.Type != EntryType.Normal)
                && (message.Index == 0 || Mutations.Is(Mutation.ForwardedTwiceAppendedTwice)
                    || _forwards.TryAccept(message.From, message.Boot, message.Index + (ulong)i)))
            {
                appended = TryAppend(in entry);
            }

            if (!appended)
            {
                ReleaseAll(entries.Slice(i, 1));
            }
        }

        if (LastIndex != last && _progress.Length > 1)
        {
            Broadcast();
        }
    }

    private unsafe bool TryAppend(in RaftEntry entry)
    {
        var proposal = new RaftProposal
        {
            Data = entry.Data, Length = entry.Length, Owner = entry.Owner, Type = entry.Type,
        };
        if (Admit(in proposal) != ProposalResult.Appended)
        {
            return false;
        }

        AppendOwn(in proposal);
        return true;
    }

    private void CommitTo(ulong index, ulong leader)
    {
        if (index <= Commit)
        {
            return;
        }

        if (index > LastIndex)
        {
            Invariant.Throw(
                $"the leader {leader:x} of term {Term} commits index {index}, but the log of this member ends at "
                + $"{LastIndex}: it has lost entries it had acknowledged");
        }

        Commit = index;
    }

    private void Send(RaftMessage message)
    {
        message.From = Id;
        _free.Enqueue(new HeldMessage { Message = message });
    }

    /// <summary>Sends what rests on term and vote as they are now, and on the log up to an index.</summary>
    private void Hold(RaftMessage message, ulong index)
    {
        message.From = Id;
        _held.Enqueue(new HeldMessage
        {
            Message = message, NeedIndex = index, NeedVersion = _stateVersion, Epoch = _log.TruncationEpoch,
        });
    }

    private void ReleaseAll(ReadOnlySpan<RaftEntry> entries)
    {
        foreach (ref readonly RaftEntry entry in entries)
        {
            if (entry.Owner != 0)
            {
                _payloads.Release(entry.Owner);
            }
        }
    }
}
