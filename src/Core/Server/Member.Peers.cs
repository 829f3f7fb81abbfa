// Member.Peers: the member as its transport sees it (IPeerReceiver), and calls between members. Any thread.
using System;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

public sealed unsafe partial class Member : IPeerReceiver
{
    private readonly Action<PeerRequest>?[] _servers = new Action<PeerRequest>?[byte.MaxValue + 1];

    /// <inheritdoc/>
    public PeerIdentity Identity { get; }

    /// <inheritdoc/>
    public NativePool Pool => _inbox.Pool;

    /// <summary>Messages of peers dropped because this member did not keep up.</summary>
    public long InboundDropped => _inbox.Dropped;

    /// <summary>
    /// Says who answers calls of a kind. Once a kind, before the actors run. The handler runs on a thread of the
    /// transport, must not wait, and answers exactly once, then or later.
    /// </summary>
    public void Serve(PeerCallKind kind, Action<PeerRequest> handler) => Volatile.Write(ref _servers[(int)kind], handler);

    /// <summary>Asks a peer. Completes at once when there is no transport.</summary>
    public void Call(PeerCall call)
    {
        ArgumentNullException.ThrowIfNull(call);
        if (_transport is null || _intake.IsClosed)
        {
            call.Complete(PeerCallOutcome.Unreachable);
            return;
        }

        _transport.Call(call);
    }

    /// <summary>Since when a peer is connected, monotonic ns; 0: it is not. For health, status and reconfiguration checks.</summary>
    public long ConnectedSinceNs(ulong peer) => _peers.ActiveSince(peer);

    /// <inheritdoc/>
    public PeerStanding Judge(ulong memberId, ulong storageId)
    {
        ClusterView view = ClusterView;
        if (view.IsRemoved(memberId))
        {
            return PeerStanding.Removed;
        }

        return view.Find(memberId) is null && !IsJoinedWith(memberId) ? PeerStanding.Unknown
            : _peers.IsSameStorage(memberId, storageId) ? PeerStanding.Member
            : PeerStanding.OtherStorage;
    }

    /// <inheritdoc/>
    public bool Deliver(in RaftMessage message, NativeBlock* entries)
    {
        if (!_counters.RaftStopped)
        {
            return _inbox.TryPut(in message, entries);
        }

        if (entries is not null)
        {
            Pool.Return(entries);
        }

        return false;
    }

    /// <summary>A message without entries, as the snapshot sink delivers it.</summary>
    private bool Deliver(RaftMessage message) => Deliver(in message, null);

    /// <inheritdoc/>
    public void Connected(ulong peer, ulong boot, ulong storageId)
    {
        _peers.Connected(peer, boot, storageId, _clock.NowNs);
        _raftCell.Wake();
    }

    /// <inheritdoc/>
    public void Disconnected(ulong peer)
    {
        _peers.Disconnected(peer);
        _raftCell.Wake();
    }

    /// <inheritdoc/>
    public void Gone(ulong peer)
    {
        _peers.Gone(peer);
        _raftCell.Wake();
    }

    /// <inheritdoc/>
    public void ToldRemoved(ulong byPeer)
    {
        _counters.ToldRemovedBy = byPeer;
        _raftCell.Wake();
    }

    /// <inheritdoc/>
    public ISnapshotSink? BeginSnapshot(in RaftMessage message, long totalBytes) =>
        _intake.IsClosed || message.Index <= _counters.CommittedIndex || message.Term < _counters.Term
            ? null
            : _snapshots.Begin(in message, totalBytes);

    /// <inheritdoc/>
    public void SnapshotSent(ulong peer, bool succeeded)
    {
        ServerLog.SentSnapshot(_log, ServerLog.Id(peer), succeeded);
        bool taken = _wiring.SentSnapshots.TryEnqueue((peer, succeeded));
        Invariant.Check(taken, "there are fewer snapshots under way than places in the ring");
        _raftCell.Wake();
    }

    private bool IsJoinedWith(ulong id)
    {
        foreach (ClusterMember member in Options.Joined?.Members ?? [])
        {
            if (member.Id == id)
            {
                return true;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public void Receive(PeerRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        Action<PeerRequest>? server = Volatile.Read(ref _servers[(int)request.Kind]);
        if (server is null || _intake.IsClosed)
        {
            request.Reply(server is null ? Protocol.ErrorCode.UnknownMethod : Protocol.ErrorCode.Stopped, default);
            return;
        }

        server(request);
    }
}
