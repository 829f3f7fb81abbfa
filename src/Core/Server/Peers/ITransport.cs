// ITransport: how a member reaches the others, as Core sees it. Net/Peer implements it over sockets, tests in memory.
//
// Thread     Every call comes from one thread of the member (raft unless it says otherwise) and returns at once: nothing
//            here may wait for a socket, a handshake or a name server.
// Lanes      urgent: heartbeats, votes, read index, answers to appends, hand-over, calls. bulk: appends and forwarded
//            proposals. A snapshot's data goes its own way. A fat append never delays a heartbeat.
// Order      Within one lane of one peer: as sent, or lost; between lanes: any. Losing messages is always allowed,
//            repeating them is harmless, delivering one to another boot of the peer is not (see Boot numbers).
// Boot       A boot number is random per start and says which life of a member is meant. The handshake carries both
//            sides' numbers; what was queued for one boot of a peer must not be delivered to its next one.
// Start      The transport is in MemberEnvironment; Attach is called once, by the thread that opens the member, before
//            any other call. Stop of the transport belongs to whoever made it, after the member's actors have ended.
using System;
using System.Collections.Generic;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>Who a member is to its peers, for handshakes.</summary>
/// <param name="ClusterId">Both sides must have the same.</param>
/// <param name="MemberId">This member.</param>
/// <param name="Boot">This start; random, compared for equality only.</param>
/// <param name="StorageId">Of the data directory; 0 when etcd made it. Two known, different ids of one member: refuse.</param>
/// <param name="ServerVersion">The etcd version it behaves as, such as 3.6.14.</param>
public readonly record struct PeerIdentity(
    ulong ClusterId, ulong MemberId, ulong Boot, ulong StorageId, string ServerVersion);

/// <summary>A peer and where it listens.</summary>
/// <param name="Id">Its member id.</param>
/// <param name="Urls">Its peer URLs, never empty.</param>
public sealed record PeerAddress(ulong Id, IReadOnlyList<string> Urls);

/// <summary>The lane a message takes.</summary>
public enum PeerLane : byte
{
    Urgent,
    Bulk,
}

/// <summary>Sends to the other members.</summary>
public interface ITransport
{
    /// <summary>Makes the member known; from here on it may be called back.</summary>
    /// <param name="member">Where everything that arrives goes.</param>
    void Attach(IPeerReceiver member);

    /// <summary>
    /// The peers of now (never this member itself), the whole list each time it changes. Links to those no longer in it
    /// are closed after what is queued has had a moment to leave; changed URLs mean a new dial. May allocate.
    /// </summary>
    void SetPeers(IReadOnlyList<PeerAddress> peers);

    /// <summary>
    /// Sends a message on the lane <see cref="PeerLanes.Of"/> says. The entries are copied or encoded before the call
    /// returns (<see cref="EntryFrame"/>); nothing of the arguments is kept.
    /// </summary>
    /// <param name="message">To names the peer; ReleaseSequence is of no concern, the member has waited for it.</param>
    /// <param name="entries">Of an append (EntryCount of them) or a forwarded proposal (index and term mean nothing).</param>
    /// <returns>False when it was not taken: unknown peer, no link, or the link's buffer is full.</returns>
    bool Send(in RaftMessage message, ReadOnlySpan<RaftEntry> entries);

    /// <summary>
    /// Starts to stream a snapshot. The transport owns the source from here on, pulls from it on a slow thread of its
    /// own, disposes it, and reports the end to <see cref="IPeerReceiver.SnapshotSent"/> exactly once, also when this
    /// returns at once. Called on the member's snapshot sender, not on raft.
    /// </summary>
    void SendSnapshot(ulong peer, ISnapshotSource source);

    /// <summary>
    /// Sends a small request; completes the call exactly once, with Unreachable at the latest when its deadline has
    /// passed. Any thread.
    /// </summary>
    void Call(PeerCall call);
}

/// <summary>Which lane a kind of message takes.</summary>
public static class PeerLanes
{
    public static PeerLane Of(MessageType type) => type is MessageType.Append or MessageType.Propose or MessageType.Snapshot
        ? PeerLane.Bulk
        : PeerLane.Urgent;
}

/// <summary>What a handshake says about whoever knocks.</summary>
public enum PeerStanding : byte
{
    /// <summary>A member of this cluster.</summary>
    Member,

    /// <summary>Not known here: perhaps a member that was added and that this one has not heard of yet.</summary>
    Unknown,

    /// <summary>Removed; it has to be told so, and stop.</summary>
    Removed,

    /// <summary>A known member with another storage id: a wiped disk, which would un-acknowledge entries.</summary>
    OtherStorage,
}

/// <summary>The member as the transport sees it. Any thread; nothing here waits.</summary>
public unsafe interface IPeerReceiver
{
    /// <summary>For handshakes. Never changes.</summary>
    PeerIdentity Identity { get; }

    /// <summary>Blocks for inbound entries come from here; ownership moves with <see cref="Deliver"/>.</summary>
    Base.NativePool Pool { get; }

    /// <summary>How a peer that shakes hands is to be treated; a member's storage id is remembered from the first on.</summary>
    PeerStanding Judge(ulong memberId, ulong storageId);

    /// <summary>
    /// A message has arrived. It may be dropped (the ring is full, the member stops); raft repeats what matters.
    /// </summary>
    /// <param name="message">From is the peer the link belongs to, whatever the frame says; To is this member.</param>
    /// <param name="entries">
    /// Null, or a block laid out by <see cref="EntryFrame"/> and checked with <see cref="EntryFrame.IsValid"/>. Owned by
    /// the member from here on, dropped or not.
    /// </param>
    /// <returns>False when it was dropped.</returns>
    bool Deliver(in RaftMessage message, Base.NativeBlock* entries);

    /// <summary>A link to a peer is up, both lanes: what boot and storage it has.</summary>
    void Connected(ulong peer, ulong boot, ulong storageId);

    /// <summary>The link is gone, or frames handed to it were lost.</summary>
    void Disconnected(ulong peer);

    /// <summary>
    /// The link was lost, and where the peer listened nobody does any more: its process has ended. Once a loss at most.
    /// </summary>
    void Gone(ulong peer);

    /// <summary>A peer says this member has been removed from the cluster.</summary>
    void ToldRemoved(ulong byPeer);

    /// <summary>
    /// A peer offers a snapshot. Null: not wanted (older than what is applied, another one is being received, or the
    /// member stops). The sink is used by one slow thread.
    /// </summary>
    /// <param name="message">Its message, as in <see cref="Deliver"/>; the sink delivers it when the data is durable.</param>
    /// <param name="totalBytes">Length of the image.</param>
    ISnapshotSink? BeginSnapshot(in RaftMessage message, long totalBytes);

    /// <summary>How the sending of a snapshot ended.</summary>
    void SnapshotSent(ulong peer, bool succeeded);

    /// <summary>A peer asks something; it must be answered exactly once, now or later.</summary>
    void Receive(PeerRequest request);
}
