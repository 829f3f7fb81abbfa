// RaftCore.Roles: elections and the transitions between roles.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    /// <summary>
    /// Starts an election if this member may. It may not while a committed change of configuration waits for apply
    /// (two leaders in one term otherwise, raft#456), nor when it does not vote.
    /// </summary>
    private void Campaign()
    {
        if (Role == RaftRole.Leader || Role == RaftRole.Candidate || HasUnappliedConfChange())
        {
            return;
        }

        // Pre-vote asks others; with nobody to ask there is nothing to learn. With others this waits for peers.
        if (_configuration.IsSoleVoter(Id))
        {
            BecomeCandidate();
        }
    }

    private bool HasUnappliedConfChange()
    {
        for (ulong i = Applied + 1; i <= Commit; i++)
        {
            if (_log.At(i).Type != EntryType.Normal)
            {
                return true;
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

    /// <summary>Votes for itself; the vote counts when the unit that carries it is durable.</summary>
    private void BecomeCandidate()
    {
        Invariant.Check(Role != RaftRole.Leader, "a leader does not campaign");
        Reset(Term + 1);
        Role = RaftRole.Candidate;
        Vote = Id;
    }

    private void BecomeLeader()
    {
        Invariant.Check(Role == RaftRole.Candidate, "only a candidate becomes leader");
        Invariant.Check(_durableState.Term == Term && _durableState.Vote == Id, "the leader's own vote is durable");
        Reset(Term);
        Role = RaftRole.Leader;
        Leader = Id;
        _pendingConfIndex = LastIndex; // conservative: any entry so far may be a change that is not applied
        var empty = new RaftEntry { Term = Term, Index = LastIndex + 1, Type = EntryType.Normal };
        _log.Append(in empty);
    }

    private void Reset(ulong term)
    {
        Invariant.Check(term >= Term, "terms never go back (R7)");
        if (term != Term)
        {
            Term = term;
            Vote = 0;
        }

        Leader = 0;
        _electionElapsed = 0;
        _pendingConfIndex = 0;
        UncommittedBytes = 0;
        _reads.Reset();
        foreach (Progress progress in _progress)
        {
            progress.Match = progress.Id == Id ? Durable : 0;
            progress.Next = LastIndex + 1;
            progress.ReadEcho = 0;
        }
    }

    /// <summary>The hard state of a unit is durable: a candidate may now count its own vote.</summary>
    private void CountOwnVote()
    {
        if (Role != RaftRole.Candidate || _durableState.Term != Term || _durableState.Vote != Id)
        {
            return; // a vote of an earlier election that came back late
        }

        VoteResult result = Quorum.Both(OwnVoteIn(_configuration.Incoming), OwnVoteIn(_configuration.Outgoing));
        if (result == VoteResult.Won)
        {
            BecomeLeader();
        }
    }

    private VoteResult OwnVoteIn(ulong[] half) => Quorum.Votes(half.Length, Array.IndexOf(half, Id) >= 0 ? 1 : 0, 0);
}
