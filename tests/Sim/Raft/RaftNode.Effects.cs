// RaftNode.Effects: requests in, effects out.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftNode
{
    private readonly Dictionary<ulong, ClientRequest> _reads = [];
    private ulong _durable;

    /// <summary>Whatever was slow ends now: the faults are over.</summary>
    public void Hurry()
    {
        _world.Schedule(RaftEvent.DiskDone, _world.NowNs, Number, Generation, 0);
        _world.Schedule(RaftEvent.TreeDone, _world.NowNs, Number, Generation, 0);
        foreach (FetchRequest fetch in _fetches)
        {
            _world.Schedule(RaftEvent.Fetched, _world.NowNs, Number, Generation, (long)fetch.Peer);
        }

        Wake(0);
    }

    /// <summary>The disk has finished a flush.</summary>
    public void DiskDone()
    {
        if (Math.Max(DiskStalledUntilNs, PausedUntilNs) is long until && until > _world.NowNs)
        {
            _world.Schedule(RaftEvent.DiskDone, until, Number, Generation, 0);
            return;
        }

        if (!Disk.IsFlushing)
        {
            return; // was hurried
        }

        List<RegisterImage>? marks = Disk.Finish();
        _world.DiskCompletions++;
        _durable = Disk.DurableSequence;
        int kept = 0;
        for (int i = 0; i < _held.Count; i++)
        {
            if (_held[i].Message.ReleaseSequence <= _durable)
            {
                Leave(_held[i]);
            }
            else
            {
                _held[kept++] = _held[i];
            }
        }

        _held.RemoveRange(kept, _held.Count - kept);
        if (marks is not null)
        {
            foreach (RegisterImage mark in marks)
            {
                Marked(mark);
            }
        }

        if (Disk.Flush())
        {
            ScheduleDisk();
        }

        Wake(_world.Random.Below(2_000));
    }

    private void TakeRequests()
    {
        while (_requests.Count > 0)
        {
            int count = 0;
            while (count < _batch.Length && _requests.TryDequeue(out ClientRequest request))
            {
                if (request.IsRead)
                {
                    Read(request);
                    continue;
                }

                if (request.Type == EntryType.Normal && !_world.IsWaiting(request))
                {
                    continue; // its client gave up before anything happened
                }

                _batch[count] = new RaftProposal
                {
                    Data = request.Length == 0 ? null : (byte*)request.Operation,
                    Length = request.Length,
                    Owner = request.Length == 0 ? 0 : request.Operation,
                    Type = request.Type,
                    Kind = request.Type == EntryType.Normal ? ProposalKind.Normal : ProposalKind.Control,
                };
                _livePayloads += request.Length == 0 ? 0 : 1;
                _asked[count++] = request;
            }

            Core.Propose(_batch.AsSpan(0, count));
            for (int i = 0; i < count; i++)
            {
                Settle(ref _batch[i], _asked[i]);
            }

            Check();
        }
    }

    private readonly ClientRequest[] _asked = new ClientRequest[64];

    private void Settle(ref RaftProposal proposal, ClientRequest request)
    {
        _world.Coverage.Proposed(proposal.Result);
        if (proposal.Result == ProposalResult.Appended)
        {
            _world.Appended(this, request);
            return;
        }

        if (proposal.Owner != 0)
        {
            Release(proposal.Owner);
        }

        if (proposal.Result == ProposalResult.Forward)
        {
            RaftPacket packet = _world.Rent();
            packet.Message = Core.ForwardHeader(proposal.Index, 1);
            packet.Count = 1;
            packet.Entries[0] = new RaftEntry
            {
                Data = proposal.Data, Length = proposal.Length, Owner = proposal.Owner, Type = proposal.Type,
            };
            Leave(packet);
            _world.Appended(this, request);
            return;
        }

        _world.Refused(request);
    }

    private void Read(ClientRequest request)
    {
        ReadIndexResult result = Core.ReadIndex(request.Serial, out ulong index);
        _world.Coverage.ReadAsked(result);
        switch (result)
        {
            case ReadIndexResult.Ready:
                _waitingReads.Add((request, index));
                break;
            case ReadIndexResult.Waiting:
                _reads[request.Serial] = request;
                break;
            default:
                _world.ReadFailed(request);
                break;
        }
    }

    private void GiveEffects()
    {
        RaftCore core = Core;
        while (core.TryTakeAppend(out AppendUnit unit))
        {
            Enqueue(in unit);
        }

        while (core.TryTakeMessage(out RaftMessage message))
        {
            Give(in message);
        }

        while (core.TryTakeFetch(out FetchRequest request))
        {
            _fetches.Add(request);
            _world.Schedule(
                RaftEvent.Fetched, _world.NowNs + _world.DrawDiskNs() / 4, Number, Generation, (long)request.Peer);
        }

        GiveStore();
        while (core.TryTakeRead(out ReadState read))
        {
            if (!_reads.Remove(read.Context, out ClientRequest request))
            {
                continue;
            }

            if (read.IsConfirmed)
            {
                _waitingReads.Add((request, read.Index));
            }
            else
            {
                _world.ReadFailed(request);
            }
        }

        ServeReads();
        Check();
        if (!Disk.IsFlushing && Disk.Flush())
        {
            ScheduleDisk();
        }
    }

    private void Enqueue(in AppendUnit unit)
    {
        var queued = new RaftUnit { Unit = unit, CoreSequence = unit.Sequence };
        if (unit.EntryCount > 0)
        {
            queued.Entries = new RaftEntry[unit.EntryCount];
            Core.CopyEntries(unit.FirstIndex, queued.Entries);
        }

        if (unit.SnapshotState is not null)
        {
            queued.Mark = Disk.Files.FindLast(file => file.Index == _markWanted(Core))
                ?? throw new SimViolationException($"{Id} installs a snapshot that was never received");
        }

        Disk.Enqueue(queued);

        static ulong _markWanted(RaftCore core) => core.PendingSnapshot;
    }

    private void Give(in RaftMessage message)
    {
        RaftPacket packet = _world.Rent();
        packet.Message = message;
        packet.Count = 0;
        packet.Image = null;
        if (message.EntryCount > 0 && !message.IsFetched)
        {
            Fit(packet, message.EntryCount);
            Core.CopyEntries(message.Index + 1, packet.Entries.AsSpan(0, message.EntryCount));
        }
        else if (message.EntryCount > 0)
        {
            Fit(packet, message.EntryCount);
            for (int i = 0; i < message.EntryCount; i++)
            {
                bool has = Disk.TryGet(message.Index + 1 + (ulong)i, out packet.Entries[i]);
                SimCheck.That(has, $"{Id} fetched entries that are not on its disk");
            }
        }

        if (message.Type == MessageType.Snapshot)
        {
            packet.Image = _snapshot is { } snapshot && snapshot.Index == message.Index ? snapshot : null;
            if (packet.Image is null)
            {
                _world.Return(packet);
                Core.ReportSnapshot(message.To, false); // a newer one took its place
                return;
            }
        }

        if (message.ReleaseSequence > Disk.DurableSequence)
        {
            _held.Add(packet);
        }
        else
        {
            Leave(packet);
        }
    }

    private static void Fit(RaftPacket packet, int count)
    {
        if (packet.Entries.Length < count)
        {
            packet.Entries = new RaftEntry[Math.Max(count, packet.Entries.Length * 2)];
        }

        packet.Count = count;
    }

    /// <summary>A frame leaves. R9, R16: what it promises is on the disk.</summary>
    private void Leave(RaftPacket packet)
    {
        ref RaftMessage message = ref packet.Message;
        switch (message.Type)
        {
            case MessageType.AppendResponse or MessageType.VoteResponse or MessageType.Vote when message.Term >= Disk.Term:
                bool isGrant = message.Type == MessageType.VoteResponse && !message.IsReject;
                SimCheck.That(
                    message.Term == Disk.Term,
                    $"R16: {Id} sends {message.Type} of term {message.Term}, its disk is at {Disk.Term}");
                SimCheck.That(
                    !(isGrant || message.Type == MessageType.Vote) || Disk.State.Term != message.Term
                    || Disk.State.Vote == (isGrant ? message.To : Id),
                    $"R9: {Id} sends {message.Type} to {message.To} in term {message.Term}, its disk has voted for {Disk.State.Vote}");
                SimCheck.That(
                    !(isGrant || message.Type == MessageType.Vote) || Disk.State.Term == message.Term,
                    $"R9: {Id} sends {message.Type} of term {message.Term} without a durable vote");
                SimCheck.That(
                    message.Type != MessageType.AppendResponse || message.IsReject
                    || Math.Max(Disk.Mark.Index, Disk.LastIndex) >= message.Index,
                    $"R9: {Id} acknowledges {message.Index}, its disk ends at {Disk.LastIndex}");
                break;
        }

        _world.Send(this, packet);
    }

    private void ScheduleDisk() =>
        _world.Schedule(
            RaftEvent.DiskDone, Math.Max(_world.NowNs + _world.DrawDiskNs(), DiskStalledUntilNs), Number, Generation, 0);
}
