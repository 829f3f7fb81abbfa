// WalUnit: what raft hands to the WAL thread in one piece. Travels by value on a ring.
namespace Cairn.Wal;

/// <summary>
/// One append: a snapshot record, then entries, then a hard state, each optional, in this order in the file.
/// All pointers stay valid and unchanged until <see cref="WalActor.DurableSequence"/> reaches <see cref="Sequence"/>.
/// </summary>
public unsafe struct WalUnit
{
    /// <summary>Strictly increasing, from 1.</summary>
    public ulong Sequence;

    /// <summary>Consecutive entries; the first may be at or below the last one written (it replaces the suffix).</summary>
    public WalEntry* Entries;

    public int EntryCount;

    /// <summary>True when the three values below are given.</summary>
    public bool HasHardState;

    public ulong Term;

    public ulong Vote;

    public ulong Commit;

    /// <summary>
    /// Forces a sync. Entries, snapshot records and a changed term or vote force one anyway; a unit that only moves
    /// the commit index does not, and counts as done when the units before it are.
    /// </summary>
    public bool MustSync;

    /// <summary>True when a snapshot record is to be written; the snapshot itself is durable already.</summary>
    public bool HasSnapshot;

    public ulong SnapshotIndex;

    public ulong SnapshotTerm;

    /// <summary>raftpb.ConfState bytes (mandatory for an index above 0).</summary>
    public byte* SnapshotConfState;

    public int SnapshotConfStateLength;

    /// <summary>
    /// 0, or: once this unit is durable, segments that hold nothing above this index may be unlocked and purged.
    /// </summary>
    public ulong ReleaseIndex;
}
