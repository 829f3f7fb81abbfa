// WalEntry: one raft entry as it goes into the log and comes back from it. Plain data.
namespace Cairn.Wal;

/// <summary>A raft entry whose payload lives in native memory owned by somebody else.</summary>
public unsafe struct WalEntry
{
    /// <summary>Term of the leader that created the entry.</summary>
    public ulong Term;

    /// <summary>Position in the raft log, from 1.</summary>
    public ulong Index;

    /// <summary>Payload bytes, or null when <see cref="Length"/> is 0.</summary>
    public byte* Data;

    /// <summary>Payload bytes, without any header.</summary>
    public int Length;

    /// <summary>raftpb.EntryType: 0 normal, 1 ConfChange, 2 ConfChangeV2.</summary>
    public byte Type;

    /// <summary>The payload as a span; lives as long as the owner keeps the memory.</summary>
    public readonly System.ReadOnlySpan<byte> Payload => new(Data, Length);
}

/// <summary>The three values raft must never forget.</summary>
/// <param name="Term">Current term.</param>
/// <param name="Vote">Member voted for in this term, 0 for none.</param>
/// <param name="Commit">Highest index known to be committed.</param>
public readonly record struct WalHardState(ulong Term, ulong Vote, ulong Commit)
{
    /// <summary>True before the first state was ever given; such a state is not written.</summary>
    public bool IsEmpty => Term == 0 && Vote == 0 && Commit == 0;
}

/// <summary>A snapshot record of the log: says that a snapshot at this point is durable elsewhere.</summary>
/// <param name="Index">Last raft index the snapshot contains.</param>
/// <param name="Term">Term of that entry.</param>
public readonly record struct WalSnapshotMark(ulong Index, ulong Term)
{
    /// <summary>raftpb.ConfState bytes as recorded; empty in records of etcd 3.4 and for index 0.</summary>
    public System.ReadOnlyMemory<byte> ConfState { get; init; }

    /// <summary>Two marks are the same point when index and term agree.</summary>
    public bool Equals(WalSnapshotMark other) => Index == other.Index && Term == other.Term;

    public override int GetHashCode() => System.HashCode.Combine(Index, Term);
}
