// RaftActor.Messages: what peers say and are told. Raft thread.
//
// In         PeerInbox -> Step. The entries of one message share one block; each holds a reference (EntryFrame).
// Out        The core's messages -> ITransport.Send, which takes or refuses at once. One that rests on a WAL unit waits
//            here, in order, until that unit is durable. A refused one is lost: raft repeats what matters, and an
//            unreachable peer is reported so that appends to it are probed instead of assumed.
// Fetches    Entries a peer needs and only WAL files hold are read by FetchActor; the append that carries them leaves in
//            the same poll in which they come back.
// Forwarding Proposals of a follower leave in one message a batch, once a term. If the transport does not take it, nothing has
//            left, and the batch is offered again at the next poll.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

internal sealed unsafe partial class RaftActor
{
    private const int MessagesPerPoll = 256;
    private const int ForwardBatch = 256;
    private readonly ITransport? _transport;
    private readonly Queue<RaftMessage> _released = new(64); // wait for their WAL unit
    private RaftEntry[] _entries = new RaftEntry[256];
    private WalEntryBuffer? _fetched; // entries of the append that is being sent from files
    private ulong _fetchedPeer;
    private ClusterView? _seenView;
    private long _seenLinks = -1;
    private readonly Dictionary<ulong, long> _seenLosses = [];
    private readonly Dictionary<ulong, long> _seenDeaths = [];
    private long _campaignAtNs = long.MaxValue;
    private ulong _mournedTerm;
    private bool _skippedWait;
    private bool _isAlone; // was once, after a forced new cluster
    private long _startedNs;

    /// <summary>Follows membership and links.</summary>
    private bool TakePeers(long nowNs)
    {
        if (_startedNs == 0)
        {
            _startedNs = nowNs;
        }

        if (_transport is null || !MayTalk())
        {
            return false;
        }

        bool any = false;
        ClusterView view = _wiring.View();
        if (!ReferenceEquals(view, _seenView))
        {
            _seenView = view;
            _transport.SetPeers(PeersOf(view));
            any = true;
        }

        long links = _wiring.Peers.Changes;
        if (links != _seenLinks)
        {
            _seenLinks = links;
            any = true;
            ReportLosses();
            MournLeader(nowNs);
        }

        any |= CampaignEarly(nowNs);
        SkipElectionWait(nowNs);
        StopIfTold(nowNs);
        return any;
    }

    /// <summary>A member that was forced to be alone says nothing to the others before it is.</summary>
    private bool MayTalk()
    {
        _isAlone |= _core.ProgressCount <= 1;
        return _isAlone || !_options.ForceNewCluster;
    }

    private List<PeerAddress> PeersOf(ClusterView view)
    {
        List<PeerAddress> peers = [];
        if (view.Find(_core.Id) is null && _options.Joined is { } join && !view.IsRemoved(_core.Id))
        {
            // Joining: until its own log says who the members are, those it was told of.
            foreach (ClusterMember member in join.Members)
            {
                if (member.Id != _core.Id && view.Find(member.Id) is null && !view.IsRemoved(member.Id))
                {
                    peers.Add(new PeerAddress(member.Id, member.PeerUrls));
                }
            }
        }

        foreach (ClusterMember member in view.Members)
        {
            if (member.Id != _core.Id)
            {
                peers.Add(new PeerAddress(member.Id, member.PeerUrls));
            }
        }

        return peers;
    }

    private void ReportLosses()
    {
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ulong peer = _core.ProgressAt(i).Id;
            long losses = _wiring.Peers.Losses(peer);
            if (peer != _core.Id && losses != _seenLosses.GetValueOrDefault(peer))
            {
                _seenLosses[peer] = losses;
                _core.ReportUnreachable(peer);
            }
        }
    }

    /// <summary>
    /// A leader whose process has ended need not be waited for: it is forgotten, so that pre-votes are granted, and this
    /// member campaigns soon. Not all at once, for votes would split: each in its place, one heartbeat interval (about a
    /// round trip) apart, the first after the others had time to see what it saw. If it was a mistake, the others still hear
    /// the leader and refuse, and its next heartbeat puts things right.
    /// </summary>
    private void MournLeader(long nowNs)
    {
        int place = 0;
        bool died = false;
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ulong peer = _core.ProgressAt(i).Id;
            long deaths = _wiring.Peers.Deaths(peer);
            if (deaths != _seenDeaths.GetValueOrDefault(peer))
            {
                _seenDeaths[peer] = deaths;
                died |= peer == _leader;
            }

            place += peer < _core.Id && peer != _leader && _core.Configuration.IsVoter(peer) ? 1 : 0;
        }

        if (died && _core.Role == RaftRole.Follower && _core.Leader == _leader)
        {
            ServerLog.LeaderGone(_log, ServerLog.Id(_core.Id), ServerLog.Id(_leader), _core.Term);
            _core.ForgetLeader();
            long heartbeatNs = _options.HeartbeatMs * 1_000_000L;
            _mournedTerm = _core.Term;
            _campaignAtNs = nowNs + (heartbeatNs / 2) + (place * heartbeatNs);
        }
    }

    private bool CampaignEarly(long nowNs)
    {
        if (nowNs < _campaignAtNs)
        {
            return false;
        }

        _campaignAtNs = long.MaxValue;
        if (_core.Role != RaftRole.Follower || _core.Leader != 0 || _core.Term != _mournedTerm)
        {
            return false;
        }

        _core.CampaignNow();
        return true;
    }

    /// <summary>Once, after the start: with peers connected there is nothing to wait for (behaviour.md §1.5).</summary>
    private void SkipElectionWait(long nowNs)
    {
        if (_skippedWait)
        {
            return;
        }

        int active = 0;
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ulong peer = _core.ProgressAt(i).Id;
            active += peer != _core.Id && _wiring.Peers.ActiveSince(peer) != 0 ? 1 : 0;
        }

        if (active > 1 || nowNs - _startedNs > 5_000_000_000)
        {
            _skippedWait = true;
            if (_options.InitialElectionTickAdvance && _core.ProgressCount > 1 && _leader == 0)
            {
                _core.SkipElectionWait();
            }
        }
    }

    private bool TakeMessages()
    {
        bool any = false;
        for (int i = 0; i < MessagesPerPoll && _wiring.Inbox.TryTake(out InboundMessage inbound); i++)
        {
            any = true;
            ref RaftMessage message = ref inbound.Message;
            if (_seenView is { } view && view.IsRemoved(message.From))
            {
                Return(inbound.Entries); // a removed member has nothing to say any more
                continue;
            }

            message.ReleaseSequence = 0;
            message.IsFetched = false;
            Span<RaftEntry> entries = default;
            if (inbound.Entries is not null)
            {
                if (message.EntryCount <= 0)
                {
                    Return(inbound.Entries);
                }
                else
                {
                    entries = Entries(message.EntryCount);
                    EntryFrame.Split(inbound.Entries, entries);
                }
            }

            _core.Step(in message, entries);
            if (message.Type == MessageType.Snapshot && _core.PendingSnapshot != message.Index)
            {
                _wiring.SnapshotEnded(message.Index); // raft did not want it
            }
        }

        if (any)
        {
            FindLostWaiters();
        }

        return any | TakeFetched();
    }

    private void Return(NativeBlock* block)
    {
        if (block is not null)
        {
            _wiring.Inbox.Pool.Return(block);
        }
    }

    private Span<RaftEntry> Entries(int count)
    {
        if (_entries.Length < count)
        {
            _entries = new RaftEntry[Math.Max(count, _entries.Length * 2)];
        }

        return _entries.AsSpan(0, count);
    }

    /// <summary>Sends everything that may leave now. After GiveAppends.</summary>
    private bool GiveMessages()
    {
        if (_transport is null && _core.ProgressCount <= 1)
        {
            return false;
        }

        bool any = false;
        ulong durable = _wal.DurableCoreSequence;
        while (_released.TryPeek(out RaftMessage held) && held.ReleaseSequence <= durable)
        {
            _ = _released.Dequeue();
            Send(in held, default);
            any = true;
        }

        while (_core.TryTakeMessage(out RaftMessage message))
        {
            any = true;
            if (message.ReleaseSequence > durable)
            {
                _released.Enqueue(message);
            }
            else
            {
                Dispatch(in message);
            }
        }

        while (_wiring.Fetch.HasRoom && _core.TryTakeFetch(out FetchRequest fetch))
        {
            _wiring.Fetch.Ask(in fetch);
            any = true;
        }

        return any;
    }

    private void Dispatch(in RaftMessage message)
    {
        if (message.Type == MessageType.Snapshot)
        {
            SendSnapshot(in message);
            return;
        }

        if (message.Type != MessageType.Append || message.EntryCount == 0)
        {
            Send(in message, default);
            return;
        }

        if (!message.IsFetched)
        {
            Span<RaftEntry> entries = Entries(message.EntryCount);
            _core.CopyEntries(message.Index + 1, entries);
            Send(in message, entries);
            return;
        }

        Invariant.Check(_fetched is not null && message.To == _fetchedPeer, "a fetched append leaves while its entries are there");
        Send(in message, FetchedEntries(_fetched.Entries[..message.EntryCount]));
    }

    private void Send(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        if (_transport is null || !_transport.Send(in message, entries))
        {
            _counters.MessagesUnsent++;
            if (message.Type == MessageType.Append)
            {
                _core.ReportUnreachable(message.To);
            }
        }
    }

    /// <summary>Entries read back from WAL files go to the peer that needs them.</summary>
    private bool TakeFetched()
    {
        bool any = false;
        while (_wiring.Fetch.TryTake(out FetchResult result))
        {
            any = true;
            FetchRequest request = result.Request;
            ReadOnlySpan<WalEntry> found = result.Status == WalReadStatus.Ok ? result.Buffer.Entries : default;
            int count = 0;
            long bytes = 0;
            while (count < Math.Min(found.Length, request.MaxCount) && found[count].Index == request.FirstIndex + (ulong)count
                && _core.TryGetTerm(found[count].Index, out ulong term) == LogAnswer.Ready && term == found[count].Term)
            {
                bytes += found[count].Length;
                count++; // what was replaced meanwhile may come in its old form: its term gives it away
            }

            if (_core.Fetched(request.Peer, request.FirstIndex, count, bytes))
            {
                (_fetched, _fetchedPeer) = (result.Buffer, request.Peer);
                _ = GiveMessages();
                (_fetched, _fetchedPeer) = (null, 0);
            }

            if (result.Status == WalReadStatus.Compacted && request.FirstIndex < _core.FirstInMemory)
            {
                _core.Compact(Math.Min(_core.FirstInMemory - 1, Math.Min(_core.Applied, _core.Durable)));
            }

            _wiring.Fetch.GiveBack(result.Buffer);
        }

        return any;
    }

    private ReadOnlySpan<RaftEntry> FetchedEntries(ReadOnlySpan<WalEntry> found)
    {
        Span<RaftEntry> entries = Entries(found.Length);
        for (int i = 0; i < found.Length; i++)
        {
            entries[i] = new RaftEntry
            {
                Term = found[i].Term,
                Index = found[i].Index,
                Data = found[i].Data,
                Length = found[i].Length,
                Type = (EntryType)found[i].Type,
            };
        }

        return entries;
    }

    /// <summary>A follower's proposals go to the leader it knows.</summary>
    private bool Forward(long nowNs)
    {
        if (_core.Role != RaftRole.Follower || _leader == 0 || _core.Leader != _leader || _transport is null
            || _wiring.Peers.ActiveSince(_leader) == 0)
        {
            return false; // they wait for a leader, as in etcd
        }

        bool any = false;
        while (Gather(nowNs, ForwardBatch, out int count))
        {
            _core.Propose(_batch.AsSpan(0, count));
            if (_batch[0].Result != ProposalResult.Forward)
            {
                for (int i = 0; i < count; i++)
                {
                    Settle(ref _batch[i], _batchSlots[i]!);
                    _batchSlots[i] = null;
                }

                return true;
            }

            any = true;
            Span<RaftEntry> entries = Entries(count);
            for (int i = 0; i < count; i++)
            {
                entries[i] = new RaftEntry { Data = _batch[i].Data, Length = _batch[i].Length, Type = _batch[i].Type };
            }

            RaftMessage header = _core.ForwardHeader(_batch[0].Index, count);
            _forwardedTerm = _forwarded.Count == 0 ? header.LogTerm : Math.Min(_forwardedTerm, header.LogTerm);
            bool taken = _transport.Send(in header, entries);
            for (int i = 0; i < count; i++)
            {
                RequestSlot slot = _batchSlots[i]!;
                _batchSlots[i] = null;
                slot.GivePayload((NativeBlock*)_batch[i].Owner);
                if (taken)
                {
                    Keep(slot, header.LogTerm);
                }
                else
                {
                    slot.ProposedNs = 0;
                    Defer(slot);
                }
            }

            if (!taken)
            {
                break;
            }
        }

        return any;
    }

    /// <summary>Nothing has left: the proposal goes back to where it came from, behind what waits there.</summary>
    private void Defer(RequestSlot slot)
    {
        SlotQueue queue = slot.Lane == ProposalLane.Control ? _control : _normal;
        if (queue.IsFull)
        {
            _ = slot.TryComplete(ErrorCode.TooManyRequests);
            slot.DropReference();
            return;
        }

        queue.Enqueue(slot);
    }

    private void DisposeMessages() => _released.Clear();
}
