// RaftTypes: the plain data that goes into and comes out of RaftCore.
using System;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

/// <summary>The part a member plays in its term.</summary>
public enum RaftRole : byte
{
    Follower,

    /// <summary>Asks whether an election could be won, without touching the term.</summary>
    PreCandidate,
    Candidate,
    Leader,
}

/// <summary>One entry of the log in memory. The payload is native memory whose owner is told when the log lets go.</summary>
public unsafe struct RaftEntry
{
    public ulong Term;

    /// <summary>Position in the log, from 1.</summary>
    public ulong Index;

    /// <summary>Payload bytes, null when <see cref="Length"/> is 0.</summary>
    public byte* Data;

    /// <summary>Payload bytes.</summary>
    public int Length;

    public EntryType Type;

    /// <summary>Whatever <see cref="IPayloadOwner"/> needs to free the payload (a block's address); 0: nobody does.</summary>
    public nint Owner;

    /// <summary>The payload; valid until the owner is told to release it.</summary>
    public readonly ReadOnlySpan<byte> Payload => new(Data, Length);
}

/// <summary>Frees payloads. Called on the thread that drives the core.</summary>
public interface IPayloadOwner
{
    /// <summary>The log, and everybody the log handed the entry to, is done with the payload.</summary>
    /// <param name="owner">The non-zero <see cref="RaftEntry.Owner"/> of one entry; told once an entry.</param>
    void Release(nint owner);
}

/// <summary>Which ring a proposal came by.</summary>
public enum ProposalKind : byte
{
    /// <summary>Client writes: refused first when too much is uncommitted.</summary>
    Normal,

    /// <summary>Lease revokes, alarms, membership, compaction: have a reserve of their own above the limit.</summary>
    Control,
}

/// <summary>What became of a proposal.</summary>
public enum ProposalResult : byte
{
    /// <summary>In this log at Index and Term. From here on the outcome is unknown until it is applied.</summary>
    Appended,

    /// <summary>Appended nowhere: this member does not lead. The payload still belongs to the proposer.</summary>
    NotLeader,

    /// <summary>Appended nowhere: too many bytes wait for commit and apply. The payload belongs to the proposer.</summary>
    TooMuchUncommitted,

    /// <summary>Appended nowhere: an earlier change of configuration is not applied yet.</summary>
    ConfChangePending,

    /// <summary>Appended nowhere: the configuration does not allow the change (joint, or it would take the last voter).</summary>
    ConfChangeRefused,

    /// <summary>Appended nowhere: leadership is being handed over.</summary>
    Transferring,

    /// <summary>
    /// Not this member's to append: send it, once and never again, to the leader (<see cref="RaftCore.ForwardHeader"/>).
    /// The payload belongs to the proposer; the outcome is unknown until applied.
    /// </summary>
    Forward,
}

/// <summary>An entry to be. Inputs first; <see cref="RaftCore.Propose"/> fills the rest.</summary>
public unsafe struct RaftProposal
{
    public byte* Data;

    /// <summary>Payload bytes. A normal proposal without bytes is a bug: only the leader makes empty entries.</summary>
    public int Length;

    /// <summary>See <see cref="RaftEntry.Owner"/>; moves to the log when the proposal is appended.</summary>
    public nint Owner;

    public EntryType Type;

    public ProposalKind Kind;

    /// <summary>Out.</summary>
    public ProposalResult Result;

    /// <summary>Out, when appended. When to be forwarded: its number at the leader's guard against repeats.</summary>
    public ulong Index;

    /// <summary>Out, when appended or to be forwarded.</summary>
    public ulong Term;
}

/// <summary>What the WAL has to write in one piece: entries [FirstIndex, LastIndex], then the hard state.</summary>
public struct AppendUnit
{
    /// <summary>Strictly increasing from 1; comes back through <see cref="RaftCore.WalDurable"/>.</summary>
    public ulong Sequence;

    /// <summary>Term at submission.</summary>
    public ulong Term;

    /// <summary>How often a suffix of the log had been replaced before this unit.</summary>
    public ulong TruncationEpoch;

    /// <summary>First entry, meaningless when <see cref="EntryCount"/> is 0.</summary>
    public ulong FirstIndex;

    public int EntryCount;

    public bool HasHardState;

    public HardState HardState;

    /// <summary>Entries, or a changed term or vote, are in it. A commit index alone does not force a sync.</summary>
    public bool MustSync;

    /// <summary>
    /// An installed snapshot whose record (with <see cref="HardState"/>, in the same sync) has to be written; its data
    /// is durable already. Null: none.
    /// </summary>
    public ConfState? SnapshotState;

    public ulong SnapshotIndex;

    public ulong SnapshotTerm;

    /// <summary>Last entry, meaningless when <see cref="EntryCount"/> is 0.</summary>
    public readonly ulong LastIndex => FirstIndex + (ulong)EntryCount - 1;
}

/// <summary>A change of role, term or known leader.</summary>
/// <param name="Role">The role now.</param>
/// <param name="Term">The term now.</param>
/// <param name="Leader">Known leader of that term, 0 for none.</param>
public readonly record struct RoleChange(RaftRole Role, ulong Term, ulong Leader);

/// <summary>Immediate answer to a read-index request.</summary>
public enum ReadIndexResult : byte
{
    /// <summary>Read once everything up to the given index is applied.</summary>
    Ready,

    /// <summary>Will come out of <see cref="RaftCore.TryTakeRead"/>, confirmed or not.</summary>
    Waiting,

    /// <summary>This member does not lead.</summary>
    NotLeader,
}

/// <summary>A read-index request that had to wait.</summary>
/// <param name="Context">The caller's value.</param>
/// <param name="Index">Read once everything up to here is applied; meaningless unless confirmed.</param>
/// <param name="IsConfirmed">False: leadership or term changed; ask again with a new context.</param>
public readonly record struct ReadState(ulong Context, ulong Index, bool IsConfirmed);

/// <summary>How the log answers a question about an index.</summary>
public enum LogAnswer : byte
{
    /// <summary>Here it is.</summary>
    Ready,

    /// <summary>Only in WAL files; a slow thread has to fetch it, the raft thread must not wait.</summary>
    Pending,

    /// <summary>Gone: only a snapshot helps.</summary>
    Compacted,

    /// <summary>Above the last index.</summary>
    Unavailable,
}

/// <summary>The recovered state cannot be raft's: the log or the hard state was damaged or mixed up.</summary>
public sealed class RaftStateException : Exception
{
    public RaftStateException(string message)
        : base(message)
    {
    }
}

/// <summary>Immutable settings of one core.</summary>
public sealed record RaftConfig
{
    /// <summary>This member's id; not 0.</summary>
    public required ulong Id { get; init; }

    /// <summary>Length of a tick, ns. Finer than etcd's heartbeat so that drawn timeouts are not coarse.</summary>
    public long TickNs { get; init; } = 10_000_000;

    /// <summary>Base election timeout in ticks; drawn timeouts lie in [N, 2N-1].</summary>
    public int ElectionTicks { get; init; } = 100;

    /// <summary>Heartbeat interval in ticks.</summary>
    public int HeartbeatTicks { get; init; } = 10;

    /// <summary>Payload bytes appended here and not yet applied above which normal proposals are refused.</summary>
    public long MaxUncommittedBytes { get; init; } = 64 << 20;

    /// <summary>What control proposals may use above that.</summary>
    public long ControlReserveBytes { get; init; } = 16 << 20;

    /// <summary>Payload bytes handed to apply and not acknowledged at which hand-off pauses.</summary>
    public long MaxApplyingBytes { get; init; } = 4 << 20;

    /// <summary>Most entries in one append unit.</summary>
    public int MaxUnitEntries { get; init; } = 1024;

    /// <summary>Payload bytes after which an append unit ends; one entry always fits.</summary>
    public long MaxUnitBytes { get; init; } = 4 << 20;

    /// <summary>Applied entries kept in memory for peers that lag, in payload bytes. Without peers 1/64 of it.</summary>
    public long RetainBytes { get; init; } = 64 << 20;

    /// <summary>Applied entries kept in memory for peers that lag, at most. Without peers 1/64 of it.</summary>
    public int RetainEntries { get; init; } = 5000;

    /// <summary>A commit index that nothing else carries is written after this long, ns.</summary>
    public long CommitFlushNs { get; init; } = 100_000_000;

    /// <summary>Ask whether an election could be won before starting it. On, always; off only in tests.</summary>
    public bool PreVote { get; init; } = true;

    /// <summary>A leader that does not hear a quorum steps down; others refuse votes while they hear one.</summary>
    public bool CheckQuorum { get; init; } = true;

    /// <summary>A leader that is removed or demoted becomes a follower when the change is applied.</summary>
    public bool StepDownOnRemoval { get; init; } = true;

    /// <summary>
    /// It first sees to it that somebody else can lead, and a member that does not vote stands for election where its log
    /// is what holds the others up (RaftCore.Succession). Off only in scripts written for etcd's library.
    /// </summary>
    public bool EnsuresSuccession { get; init; } = true;

    /// <summary>A member with a known leader answers a proposal with <see cref="ProposalResult.Forward"/>.</summary>
    public bool ForwardProposals { get; init; } = true;

    /// <summary>A leader refuses a change of configuration it can see to be impossible. Off only in tests.</summary>
    public bool ValidateConfChanges { get; init; } = true;

    /// <summary>Payload bytes after which an append to a peer ends; one entry always fits.</summary>
    public long MaxMessageBytes { get; init; } = 1 << 20;

    /// <summary>Most entries in an append to a peer.</summary>
    public int MaxMessageEntries { get; init; } = 4096;

    /// <summary>Appends to one peer that may be unacknowledged.</summary>
    public int MaxInFlightMessages { get; init; } = 512;

    /// <summary>Payload bytes to one peer that may be unacknowledged; the append that crosses it is still sent.</summary>
    public long MaxInFlightBytes { get; init; } = 32 << 20;

    /// <summary>For scripts written for etcd's library, which start below the term of their log: take the term as given.</summary>
    internal bool AllowsTermBehindLog { get; init; }

    /// <summary>This start's number, random, compared for equality only.</summary>
    public ulong Boot { get; init; }
}
