// RaftMessage: what members say to each other, as plain structs; and the queue the core keeps them in.
//
// Entries    An outgoing append names a range of the log, (Index, Index + EntryCount]; whoever takes the message copies
//            or encodes that range at once (RaftCore.CopyEntries), before the next input. An incoming one is given to
//            Step with its entries beside it.
// Release    A message with a ReleaseSequence rests on something this member must not forget: it may leave only when
//            the WAL unit of that sequence is durable. All others may leave at once.
// Why fixed  One struct for every kind keeps the queue a flat array and Step free of allocation; the transport writes
//            only the fields a kind uses.
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

/// <summary>Kinds of messages between members.</summary>
public enum MessageType : byte
{
    None = 0,

    /// <summary>Leader to peer: entries after Index (of term LogTerm), and the commit index.</summary>
    Append = 1,

    /// <summary>Matched up to Index; or rejected Index, with Hint and its LogTerm.</summary>
    AppendResponse = 2,

    /// <summary>Leader to peer: commit index, never above what that peer matched.</summary>
    Heartbeat = 3,
    HeartbeatResponse = 4,

    /// <summary>Candidate to voters: its last Index and LogTerm.</summary>
    Vote = 5,
    VoteResponse = 6,

    /// <summary>As Vote, for the term after the sender's; changes nothing.</summary>
    PreVote = 7,
    PreVoteResponse = 8,

    /// <summary>Leader to peer: a snapshot at (Index, LogTerm) with its configuration; the data goes another way.</summary>
    Snapshot = 9,

    /// <summary>Leader to peer: campaign at once, the leader hands over.</summary>
    TimeoutNow = 10,

    /// <summary>Member to leader, no term: proposals. LogTerm is the term in which the sender knew that leader.</summary>
    Propose = 11,

    /// <summary>Member to leader, no term: at which index may a read run? Context is the sender's number.</summary>
    ReadIndex = 12,

    /// <summary>Leader to member: the index for the read of that Context.</summary>
    ReadIndexResponse = 13,

    /// <summary>Any member to leader, no term: hand over to the member named by Context.</summary>
    TransferLeader = 14,
}

/// <summary>One message. What a field means depends on <see cref="Type"/>; unused ones are zero.</summary>
public struct RaftMessage
{
    public MessageType Type;

    /// <summary>A response that says no.</summary>
    public bool IsReject;

    /// <summary>A vote request on the leader's own wish: passes the lease check.</summary>
    public bool IsTransfer;

    /// <summary>The entries of this append are not in the log's memory but in the buffer of the peer's last fetch.</summary>
    public bool IsFetched;

    /// <summary>Entries (Index, Index + EntryCount] belong to it.</summary>
    public int EntryCount;

    public ulong From;

    public ulong To;

    /// <summary>Sender's term (pre-vote: the one it would campaign for); 0 for kinds that have none.</summary>
    public ulong Term;

    /// <summary>Term of the entry at <see cref="Index"/>, or at <see cref="Hint"/> in a rejection.</summary>
    public ulong LogTerm;

    public ulong Index;

    public ulong Commit;

    /// <summary>Rejection: the follower's best guess where the logs still agree.</summary>
    public ulong Hint;

    /// <summary>Read counter of the term (append, heartbeat and their responses), or the requester's number.</summary>
    public ulong Context;

    /// <summary>Boot number of the member a forwarded request came from; comes back in the answer.</summary>
    public ulong Boot;

    /// <summary>Outgoing: leaves when this WAL sequence is durable; 0: at once.</summary>
    public ulong ReleaseSequence;

    /// <summary>Configuration of a snapshot.</summary>
    public ConfState? SnapshotState;
}

/// <summary>What a leader wants read back from WAL files for a peer that lags.</summary>
/// <param name="Peer">For whom.</param>
/// <param name="FirstIndex">First entry wanted.</param>
/// <param name="MaxCount">Most entries.</param>
/// <param name="MaxBytes">Payload bytes after which it is enough; one entry always is.</param>
public readonly record struct FetchRequest(ulong Peer, ulong FirstIndex, int MaxCount, long MaxBytes);

/// <summary>A snapshot whose record is durable and that the store has to switch to.</summary>
/// <param name="Index">Last index it contains.</param>
/// <param name="Term">Term of that entry.</param>
public readonly record struct SnapshotInstall(ulong Index, ulong Term);

/// <summary>Messages in order. Doubles up to a bound; beyond it the oldest is lost, as a network may lose it.</summary>
internal sealed class MessageQueue
{
    private const int Bound = 1 << 16;
    private HeldMessage[] _ring = new HeldMessage[64];
    private int _head;

    public int Count { get; private set; }

    /// <summary>Messages lost because nobody took them.</summary>
    public long Lost { get; private set; }

    public ref HeldMessage First => ref _ring[_head];

    public void Enqueue(in HeldMessage message)
    {
        if (Count == _ring.Length)
        {
            if (Count == Bound)
            {
                Lost++;
                RemoveFirst();
            }
            else
            {
                Grow();
            }
        }

        _ring[(_head + Count++) & (_ring.Length - 1)] = message;
    }

    public void RemoveFirst()
    {
        Invariant.Check(Count > 0, "a message is taken from a queue that has one");
        _ring[_head].Message.SnapshotState = null;
        _head = (_head + 1) & (_ring.Length - 1);
        Count--;
    }

    private void Grow()
    {
        var larger = new HeldMessage[_ring.Length * 2];
        for (int i = 0; i < Count; i++)
        {
            larger[i] = _ring[(_head + i) & (_ring.Length - 1)];
        }

        _ring = larger;
        _head = 0;
    }
}

/// <summary>A message and what must have been handed to the WAL before it is.</summary>
internal struct HeldMessage
{
    public RaftMessage Message;

    /// <summary>The log up to here.</summary>
    public ulong NeedIndex;

    /// <summary>Term and vote as of this change.</summary>
    public ulong NeedVersion;

    /// <summary>If the log was truncated since, the range it speaks of may be another one.</summary>
    public ulong Epoch;
}
