// RaftCore.Leader: what a leader sends to its peers, and what their answers tell it.
using System;
using Cairn.Base;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private ulong _transferee;

    /// <summary>To whom leadership is being handed over; 0 for nobody.</summary>
    public ulong Transferee => _transferee;

    /// <summary>How many peers and oneself are tracked.</summary>
    public int ProgressCount => _progress.Length;

    /// <summary>How a member is sent to; meaningful on a leader. In the order of ids.</summary>
    public ProgressStatus ProgressAt(int position) => _progress[position].Status;

    /// <summary>Asks this leader, or through this follower its leader, to hand over to a voter.</summary>
    public void TransferLeader(ulong target)
    {
        if (Role != RaftRole.Leader)
        {
            if (Role == RaftRole.Follower && Leader != 0)
            {
                Send(new RaftMessage { Type = MessageType.TransferLeader, To = Leader, Context = target });
            }

            return;
        }

        if (Find(target) is not { IsLearner: false } peer || target == _transferee || target == Id)
        {
            if (target == Id)
            {
                _transferee = 0; // to hand over to nobody else ends what was under way
            }

            return;
        }

        _electionElapsed = 0; // it has one election timeout to succeed
        _transferee = target;
        if (peer.Match == LastIndex)
        {
            SendTimeoutNow(peer);
        }
        else
        {
            _ = SendAppend(peer, sendEmpty: true);
        }
    }

    /// <summary>The transport lost a peer: appends under way may not have arrived.</summary>
    public void ReportUnreachable(ulong peer)
    {
        if (Role == RaftRole.Leader && Find(peer) is { State: ProgressState.Replicate } progress)
        {
            progress.BecomeProbe();
        }
    }

    /// <summary>How the sending of a snapshot ended. The transport reports every outcome, a dead connection too.</summary>
    public void ReportSnapshot(ulong peer, bool succeeded)
    {
        if (Role != RaftRole.Leader || Find(peer) is not { State: ProgressState.Snapshot } progress)
        {
            return;
        }

        if (!succeeded)
        {
            progress.ForgetSnapshot();
        }

        progress.BecomeProbe();
        progress.IsFlowPaused = true; // the next heartbeat response shows whether it is there
    }

    /// <summary>Takes a request for entries that only WAL files hold. Answer with <see cref="Fetched"/>.</summary>
    public bool TryTakeFetch(out FetchRequest request)
    {
        foreach (Progress peer in _progress)
        {
            if (peer.IsFetchWanted)
            {
                peer.IsFetchWanted = false;
                ulong available = Math.Min(_log.FirstInMemory, LastIndex + 1) - peer.Next;
                request = new FetchRequest(
                    peer.Id, peer.Next, (int)Math.Min(available, (ulong)_config.MaxMessageEntries), _config.MaxMessageBytes);
                return true;
            }
        }

        request = default;
        return false;
    }

    /// <summary>Entries were read back from WAL files.</summary>
    /// <param name="peer">As asked.</param>
    /// <param name="firstIndex">As asked.</param>
    /// <param name="count">How many there are; 0 when they could not be read.</param>
    /// <param name="bytes">Their payload bytes.</param>
    /// <returns>True: an append to that peer with IsFetched follows and stands for exactly these entries.</returns>
    public bool Fetched(ulong peer, ulong firstIndex, int count, long bytes)
    {
        if (Role != RaftRole.Leader || Find(peer) is not { IsFetching: true } progress)
        {
            return false;
        }

        progress.IsFetching = false;
        ulong previous = firstIndex - 1;
        if (progress.Next != firstIndex || count <= 0 || progress.IsPaused
            || _log.TryGetTerm(previous, out ulong term) != LogAnswer.Ready || previous + (ulong)count > LastIndex)
        {
            return false; // asked again by the next heartbeat response
        }

        SendEntries(progress, previous, term, count, bytes, isFetched: true);
        return true;
    }

    private void Broadcast()
    {
        foreach (Progress peer in _progress)
        {
            if (peer.Id != Id)
            {
                _ = SendAppend(peer, sendEmpty: true);
            }
        }
    }

    private void BroadcastHeartbeat()
    {
        foreach (Progress peer in _progress)
        {
            if (peer.Id != Id)
            {
                Send(new RaftMessage
                {
                    Type = MessageType.Heartbeat,
                    To = peer.Id,
                    Term = Term,
                    Commit = Mutations.Is(Mutation.HeartbeatCommitNotLimited)
                        ? Commit : Math.Min(peer.Match, Commit), // never more than it surely has
                    Context = _reads.Counter,
                });
            }
        }
    }

    /// <summary>Sends the next entries as far as state and window allow, or what stands for them.</summary>
    private bool SendAppend(Progress peer, bool sendEmpty)
    {
        if (peer.IsPaused)
        {
            return false;
        }

        ulong previous = peer.Next - 1;
        if (_log.TryGetTerm(previous, out ulong term) != LogAnswer.Ready)
        {
            return SendSnapshot(peer);
        }

        int count = 0;
        long bytes = 0;
        if (peer.State != ProgressState.Replicate || !peer.Window.IsFull)
        {
            switch (_log.Locate(peer.Next))
            {
                case LogAnswer.Compacted:
                    return SendSnapshot(peer);
                case LogAnswer.Pending:
                    peer.IsFetching = true;
                    peer.IsFetchWanted = true;
                    return false;
                case LogAnswer.Ready:
                    (count, bytes) = Measure(peer.Next);
                    break;
            }
        }

        if (count == 0 && (!sendEmpty || (Mutations.Is(Mutation.FullWindowSendsNothing) && peer.Window.IsFull)))
        {
            return false;
        }

        SendEntries(peer, previous, term, count, bytes, isFetched: false);
        return true;
    }

    private void SendEntries(Progress peer, ulong previous, ulong previousTerm, int count, long bytes, bool isFetched)
    {
        Send(new RaftMessage
        {
            Type = MessageType.Append,
            To = peer.Id,
            Term = Term,
            Index = previous,
            LogTerm = previousTerm,
            EntryCount = count,
            Commit = Commit,
            Context = _reads.Counter,
            IsFetched = isFetched,
        });
        peer.Sent(count, bytes, Commit);
    }

    private (int Count, long Bytes) Measure(ulong first)
    {
        int count = 0;
        long bytes = 0;
        for (ulong i = first; i <= LastIndex && count < _config.MaxMessageEntries; i++)
        {
            int length = _log.At(i).Length;
            if (count > 0 && bytes + length > _config.MaxMessageBytes)
            {
                break;
            }

            bytes += length;
            count++;
        }

        return (count, bytes);
    }

    private bool SendSnapshot(Progress peer)
    {
        if (!peer.IsRecentActive)
        {
            return false; // nobody there to receive it
        }

        // One from before the peer came (back) would be refused by it; one behind the log would not connect.
        if (_snapshotIndex < _log.CompactedIndex || !Knows(_snapshotState, peer.Id))
        {
            IsSnapshotWanted = true;
            return false; // the next heartbeat response asks again
        }

        Send(new RaftMessage
        {
            Type = MessageType.Snapshot,
            To = peer.Id,
            Term = Term,
            Index = _snapshotIndex,
            LogTerm = _snapshotTerm,
            SnapshotState = _snapshotState,
        });
        peer.BecomeSnapshot(_snapshotIndex);
        return true;
    }

    private static bool Knows(Protocol.ConfState state, ulong id) =>
        Array.IndexOf(state.Voters, id) >= 0 || Array.IndexOf(state.VotersOutgoing, id) >= 0
        || Array.IndexOf(state.Learners, id) >= 0;

    private void SendTimeoutNow(Progress peer) =>
        Send(new RaftMessage { Type = MessageType.TimeoutNow, To = peer.Id, Term = Term });

    private void HandleAppendResponse(in RaftMessage message)
    {
        if (Find(message.From) is not { } peer)
        {
            return;
        }

        if (message.Index > LastIndex)
        {
            MessagesRefused++; // nobody can have matched or rejected what we never sent
            return;
        }

        peer.IsRecentActive = true;
        peer.ReadEcho = Math.Max(peer.ReadEcho, Math.Min(message.Context, _reads.Counter));
        ConfirmReads();
        if (message.IsReject)
        {
            ulong probe = message.Hint;
            if (message.LogTerm > 0)
            {
                probe = _log.FindConflictByTerm(message.Hint, message.LogTerm, out _);
            }

            if (peer.StepBack(message.Index, probe))
            {
                if (peer.State == ProgressState.Replicate)
                {
                    peer.BecomeProbe();
                }

                _ = SendAppend(peer, sendEmpty: true);
            }

            return;
        }

        bool isNew = peer.Acknowledge(message.Index);
        if (!isNew && !(peer.Match == message.Index && peer.State == ProgressState.Probe))
        {
            return;
        }

        switch (peer.State)
        {
            case ProgressState.Probe:
                peer.BecomeReplicate();
                break;
            case ProgressState.Snapshot when peer.Match >= _log.CompactedIndex:
                peer.BecomeProbe();
                peer.BecomeReplicate();
                break;
            case ProgressState.Replicate:
                peer.Window.Free(message.Index);
                break;
        }

        if (MaybeCommit())
        {
            Broadcast();
        }
        else if (peer.CanBumpCommit(Commit))
        {
            _ = SendAppend(peer, sendEmpty: true);
        }

        while (SendAppend(peer, sendEmpty: false))
        {
        }

        if (message.From == _transferee && peer.Match == LastIndex)
        {
            SendTimeoutNow(peer);
        }

        HandOverIfOutvoted(peer);
    }

    private void HandleHeartbeatResponse(in RaftMessage message)
    {
        if (Find(message.From) is not { } peer)
        {
            return;
        }

        peer.IsRecentActive = true;
        peer.IsFlowPaused = false;
        if (peer.Match < LastIndex || peer.State == ProgressState.Probe)
        {
            _ = SendAppend(peer, sendEmpty: true);
        }

        peer.ReadEcho = Math.Max(peer.ReadEcho, Math.Min(message.Context, _reads.Counter));
        ConfirmReads();
        HandOverIfOutvoted(peer);
    }
}
