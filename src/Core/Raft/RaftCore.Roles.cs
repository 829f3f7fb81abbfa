// RaftCore.Roles: ticks, elections and the transitions between roles.
//
// An election here: the pre-candidate asks everybody whether they would vote for it, changing nothing; with a majority
// of yes it becomes candidate: next term, own vote. The vote requests are held until that term and vote are durable
// (upstream's asynchronous mode lets them leave before; raft.md §1.6 shows what that costs), the own vote counts then.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private ulong _ticks;
    private ulong _drawn;

    /// <summary>Ticks until an election without a leader, as drawn for this role and term.</summary>
    public int RandomizedTimeout => _randomizedTimeout;

    private bool IsPromotable => _pendingSnapshot == 0 && _configuration.IsVoter(Id);

    private bool IsInLease => _config.CheckQuorum && Leader != 0 && _electionElapsed < _config.ElectionTicks;

    /// <summary>
    /// Most of the first election timeout counts as passed: called once the peers are connected after a start, so that
    /// a new cluster does not wait for nothing.
    /// </summary>
    public void SkipElectionWait() =>
        _electionElapsed = Math.Max(_electionElapsed, _config.ElectionTicks * 8 / 10);

    /// <summary>Starts an election now, as a timeout would (pre-vote first).</summary>
    public void CampaignNow()
    {
        Campaign(isTransfer: false);
        CheckInvariants();
    }

    /// <summary>
    /// Something outside says the leader is dead: this member may grant pre-votes at once. Nothing for a leader.
    /// </summary>
    public void ForgetLeader()
    {
        if (Role == RaftRole.Follower)
        {
            Leader = 0;
        }
    }

    /// <summary>One tick of the protocol's clocks.</summary>
    internal void TickOnce()
    {
        _ticks++;
        ExpireForwardedReads();
        _electionElapsed++;
        if (Role != RaftRole.Leader)
        {
            if (_electionElapsed >= _randomizedTimeout && (IsPromotable || _standsIn))
            {
                _electionElapsed = 0;
                Campaign(isTransfer: false);
            }

            return;
        }

        _heartbeatElapsed++;
        if (_electionElapsed >= _config.ElectionTicks)
        {
            _electionElapsed = 0;
            CheckQuorumNow();
            _transferee = 0; // what did not finish within an election timeout is given up, proposals resume
        }

        if (Role == RaftRole.Leader && _heartbeatElapsed >= _config.HeartbeatTicks)
        {
            _heartbeatElapsed = 0;
            BroadcastHeartbeat();
        }
    }

    /// <summary>For scripts: the timeout that would have been drawn.</summary>
    internal void SetRandomizedTimeout(int ticks) => _randomizedTimeout = ticks;

    /// <summary>
    /// Starts an election if this member may. It may not while a committed change of configuration waits for apply
    /// (two leaders in one term otherwise, raft#456), nor when it does not vote or a snapshot is being installed.
    /// </summary>
    private void Campaign(bool isTransfer)
    {
        bool standsIn = _standsIn && _pendingSnapshot == 0;
        _standsIn = false;
        if (Role == RaftRole.Leader || !(IsPromotable || standsIn)
            || (HasUnappliedConfChange() && !Mutations.Is(Mutation.CampaignWithUnappliedChange)))
        {
            return;
        }

        // Pre-vote asks others; with nobody to ask there is nothing to learn.
        if (_configuration.IsSoleVoter(Id))
        {
            if (Role != RaftRole.Candidate)
            {
                BecomeCandidate();
            }
        }
        else if (_config.PreVote && !isTransfer)
        {
            BecomePreCandidate();
        }
        else
        {
            BecomeCandidate();
            RequestVotes(MessageType.Vote, isTransfer);
        }
    }

    private bool HasUnappliedConfChange()
    {
        for (ulong i = Applied + 1; i <= Commit; i++)
        {
            if (i < _log.FirstInMemory || _log.At(i).Type != EntryType.Normal)
            {
                return true; // what is not in memory here is covered by a snapshot that is not applied
            }
        }

        return false;
    }

    private void BecomeFollower(ulong term, ulong leader)
    {
        Reset(term);
        Role = RaftRole.Follower;
        Leader = leader;
    }

    /// <summary>Neither term nor vote change; the leader is forgotten, or two such members would refuse each other.</summary>
    private void BecomePreCandidate()
    {
        Invariant.Check(Role != RaftRole.Leader, "a leader does not campaign");
        Role = RaftRole.PreCandidate;
        Leader = Mutations.Is(Mutation.PreCandidateKeepsLeader) ? Leader : 0;
        FailForwardedReads();
        ClearBallots();
        RequestVotes(MessageType.PreVote, false);
        if (Find(Id) is { } own)
        {
            Count(own, true); // tallied only if this member votes
        }
    }

    /// <summary>Votes for itself; the vote counts when the unit that carries it is durable.</summary>
    private void BecomeCandidate()
    {
        Invariant.Check(Role != RaftRole.Leader, "a leader does not campaign");
        Reset(Term + 1);
        Role = RaftRole.Candidate;
        Vote = Id;
        _stateVersion++;
    }

    private void BecomeLeader()
    {
        Invariant.Check(Role == RaftRole.Candidate, "only a candidate becomes leader");
        Invariant.Check(_durableState.Term == Term && _durableState.Vote == Id, "the leader's own vote is durable");
        Reset(Term);
        Role = RaftRole.Leader;
        Leader = Id;
        if (Find(Id) is { } own)
        {
            own.BecomeReplicate();
            own.IsRecentActive = true;
        }

        _pendingConfIndex = LastIndex; // conservative: any entry so far may be a change that is not applied
        _forwards.Reset();
        AppendEmpty(EntryType.Normal);
        Broadcast();
    }

    private void Reset(ulong term)
    {
        Invariant.Check(term >= Term, "terms never go back (R7)");
        if (term != Term)
        {
            Term = term;
            Vote = 0;
            _stateVersion++;
        }

        Leader = 0;
        _transferee = 0;
        _electionElapsed = 0;
        _heartbeatElapsed = 0;
        DrawTimeout();
        _pendingConfIndex = 0;
        UncommittedBytes = 0;
        if (!Mutations.Is(Mutation.ReadsSurviveLeaderChange))
        {
            _reads.Reset();
            FailForwardedReads();
        }

        _isReadRoundWanted = false;
        foreach (Progress progress in _progress)
        {
            progress.Reset(progress.Id == Id ? Durable : 0, LastIndex + 1);
        }
    }

    /// <summary>Uniform in [N, 2N-1] ticks.</summary>
    private void DrawTimeout()
    {
        ulong drawn = _random?.NextUInt64() ?? Mix(Id + (++_drawn * 0x9e3779b97f4a7c15));
        _randomizedTimeout = _config.ElectionTicks + (int)(drawn % (ulong)_config.ElectionTicks);

        static ulong Mix(ulong x)
        {
            x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
            x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
            return x ^ (x >> 31);
        }
    }

    private void RequestVotes(MessageType type, bool isTransfer)
    {
        foreach (Progress peer in _progress)
        {
            if (peer.Id == Id || !_configuration.IsVoter(peer.Id))
            {
                continue;
            }

            var request = new RaftMessage
            {
                Type = type,
                To = peer.Id,
                Term = type == MessageType.PreVote ? Term + 1 : Term,
                Index = LastIndex,
                LogTerm = LastTerm,
                IsTransfer = isTransfer,
            };
            if (type == MessageType.Vote)
            {
                // Held until term, vote and the log it boasts of cannot be forgotten: else this member could come
                // back, ask again in the same term, and a grant given to its former self would count.
                Hold(request, LastIndex);
            }
            else
            {
                Send(request);
            }
        }
    }

    /// <summary>The hard state of a unit is durable: a candidate may now count its own vote.</summary>
    private void CountOwnVote()
    {
        if (Role != RaftRole.Candidate || _durableState.Term != Term || _durableState.Vote != Id)
        {
            return; // a vote of an earlier election that came back late
        }

        if (Find(Id) is { } own)
        {
            Count(own, true);
        }
    }

    /// <summary>Takes one answer; the first of each voter counts.</summary>
    private void Count(Progress voter, bool isYes)
    {
        if (voter.Ballot == Ballot.None)
        {
            voter.Ballot = isYes ? Ballot.Yes : Ballot.No;
        }

        VoteResult result = Quorum.Both(Tally(_configuration.Incoming), Tally(_configuration.Outgoing));
        if (result == VoteResult.Lost)
        {
            BecomeFollower(Term, 0); // pre-vote answers carry a future term: never take the term from them
        }
        else if (result == VoteResult.Won && Role == RaftRole.PreCandidate)
        {
            BecomeCandidate();
            RequestVotes(MessageType.Vote, false);
        }
        else if (result == VoteResult.Won && _durableState.Term == Term && _durableState.Vote == Id)
        {
            BecomeLeader();
        }
    }

    private VoteResult Tally(ulong[] half)
    {
        int yes = 0, no = 0;
        foreach (ulong id in half)
        {
            Ballot ballot = Find(id)?.Ballot ?? Ballot.None;
            yes += ballot == Ballot.Yes ? 1 : 0;
            no += ballot == Ballot.No ? 1 : 0;
        }

        return Quorum.Votes(half.Length, yes, no);
    }

    private void ClearBallots()
    {
        foreach (Progress progress in _progress)
        {
            progress.Ballot = Ballot.None;
        }
    }

    /// <summary>A leader that did not hear a quorum for an election timeout steps down.</summary>
    private void CheckQuorumNow()
    {
        if (!_config.CheckQuorum)
        {
            return;
        }

        VoteResult heard = Quorum.Both(Heard(_configuration.Incoming), Heard(_configuration.Outgoing));
        foreach (Progress progress in _progress)
        {
            progress.IsRecentActive = progress.Id == Id;
        }

        if (heard != VoteResult.Won)
        {
            BecomeFollower(Term, 0);
        }
    }

    private VoteResult Heard(ulong[] half)
    {
        int yes = 0;
        foreach (ulong id in half)
        {
            yes += id == Id || Find(id) is { IsRecentActive: true } ? 1 : 0;
        }

        return Quorum.Votes(half.Length, yes, half.Length - yes);
    }
}
