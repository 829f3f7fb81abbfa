// RaftCore.Reads: linearizable reads (raft.md §1.10, Safe mode). ReadQueue holds what waits on a leader; here is the
// rest: when a read is accepted, how a round is confirmed, and reads a follower forwarded.
//
// A follower forwards with a number of its own, never used twice in one boot, and gives up after an election timeout
// or on any change of leader, role or term: the caller asks again and gets a new number.
using System;
using Cairn.Base;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private ForwardedRead[] _forwardedReads = [];
    private int _forwardedReadCount;
    private ulong _readNumber;
    private bool _isReadRoundWanted;

    /// <summary>Asks at which index a linearizable read may run.</summary>
    /// <param name="context">Comes back in the <see cref="ReadState"/>; never used to match anything else.</param>
    /// <param name="index">The index when the result is Ready.</param>
    public ReadIndexResult ReadIndex(ulong context, out ulong index)
    {
        index = 0;
        if (Role == RaftRole.Leader)
        {
            return AcceptRead(context, 0, 0, out index);
        }

        if (Role != RaftRole.Follower || Leader == 0)
        {
            return ReadIndexResult.NotLeader;
        }

        if (_forwardedReadCount == _forwardedReads.Length)
        {
            Array.Resize(ref _forwardedReads, Math.Max(16, _forwardedReads.Length * 2));
        }

        _forwardedReads[_forwardedReadCount++] = new ForwardedRead(
            Mutations.Is(Mutation.ReadNumberReused) ? 1 : ++_readNumber, context, _ticks);
        Send(new RaftMessage
        {
            Type = MessageType.ReadIndex, To = Leader, Boot = _config.Boot,
            Context = Mutations.Is(Mutation.ReadNumberReused) ? 1 : _readNumber,
        });
        return ReadIndexResult.Waiting;
    }

    /// <summary>Takes a read that had to wait: confirmed, or failed because term, role or leader changed.</summary>
    public bool TryTakeRead(out ReadState read) => _reads.TryTake(out read);

    private ReadIndexResult AcceptRead(ulong context, ulong origin, ulong boot, out ulong index)
    {
        index = 0;
        if (!HasCommittedInTerm && !Mutations.Is(Mutation.ReadWithoutOwnTermCommit)
            && !(Mutations.Is(Mutation.SoleVoterReadWithoutOwnTermCommit) && _configuration.IsSoleVoter(Id)))
        {
            // The commit index may lag what the former leader acknowledged.
            _reads.Park(context, origin, boot);
            return ReadIndexResult.Waiting;
        }

        if (_configuration.IsSoleVoter(Id))
        {
            if (origin != 0)
            {
                SendReadIndex(context, Commit, origin, boot);
            }

            index = Commit;
            return ReadIndexResult.Ready;
        }

        _ = _reads.Accept(context, Commit, origin, boot);
        _isReadRoundWanted = true;
        return ReadIndexResult.Waiting;
    }

    private void AcceptParkedReads()
    {
        bool isSole = _configuration.IsSoleVoter(Id);
        _reads.AcceptParked(Commit, isSole);
        _isReadRoundWanted |= _reads.HasPending;
        ConfirmReads();
    }

    private void ConfirmReads()
    {
        if (_reads.HasPending)
        {
            if (Find(Id) is { } own)
            {
                own.ReadEcho = _reads.Counter;
            }

            _reads.Confirm(Math.Min(AgreedEcho(_configuration.Incoming), AgreedEcho(_configuration.Outgoing)));
        }

        if (_reads.Remote.Length > 0)
        {
            foreach (ReadQueue.RemoteRead read in _reads.Remote)
            {
                SendReadIndex(read.Context, read.Index, read.Origin, read.Boot);
            }

            _reads.ClearRemote();
        }
    }

    private void SendReadIndex(ulong context, ulong index, ulong origin, ulong boot) => Send(new RaftMessage
    {
        Type = MessageType.ReadIndexResponse, To = origin, Term = Term, Index = index, Context = context, Boot = boot,
    });

    private void HandleReadIndexResponse(in RaftMessage message)
    {
        if (message.Boot != _config.Boot || message.From != Leader)
        {
            return; // for whom this member was before, or from whom it does not follow
        }

        for (int i = 0; i < _forwardedReadCount; i++)
        {
            if (_forwardedReads[i].Number == message.Context)
            {
                _reads.Finish(new ReadState(_forwardedReads[i].Context, message.Index, true));
                RemoveForwardedReads(i, 1);
                return;
            }
        }
    }

    private void FailForwardedReads()
    {
        for (int i = 0; i < _forwardedReadCount; i++)
        {
            _reads.Finish(new ReadState(_forwardedReads[i].Context, 0, false));
        }

        _forwardedReadCount = 0;
    }

    private void ExpireForwardedReads()
    {
        int expired = 0;
        while (expired < _forwardedReadCount
            && _forwardedReads[expired].Tick + (ulong)_config.ElectionTicks <= _ticks)
        {
            _reads.Finish(new ReadState(_forwardedReads[expired].Context, 0, false));
            expired++;
        }

        if (expired > 0)
        {
            RemoveForwardedReads(0, expired);
        }
    }

    private void RemoveForwardedReads(int first, int count)
    {
        Array.Copy(_forwardedReads, first + count, _forwardedReads, first, _forwardedReadCount - first - count);
        _forwardedReadCount -= count;
    }

    private ulong AgreedEcho(ulong[] half)
    {
        Span<ulong> echoes = stackalloc ulong[Math.Min(half.Length, 64)];
        Invariant.Check(half.Length <= echoes.Length, "a configuration has at most 64 voters a half");
        int i = 0;
        foreach (ulong id in half)
        {
            echoes[i++] = Find(id)?.ReadEcho ?? 0;
        }

        return Quorum.Majority(echoes);
    }

    private readonly record struct ForwardedRead(ulong Number, ulong Context, ulong Tick);
}
