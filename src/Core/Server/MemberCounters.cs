// MemberCounters: the few numbers that threads of one member show each other.
//
// Each field has one writer, named beside it; everybody reads. On one cache line per writer, so that a reader of
// the applied index does not slow the raft thread down.
using System.Runtime.InteropServices;
using System.Threading;

namespace Cairn.Core.Server;

/// <summary>Progress and leadership as plain volatile numbers.</summary>
internal sealed class MemberCounters
{
    private RaftLine _raft;
    private StoreLine _store;
    private SlowLine _slow;

    // ---- written by raft ----

    internal ulong CommittedIndex
    {
        get => Volatile.Read(ref _raft.Committed);
        set => Volatile.Write(ref _raft.Committed, value);
    }

    internal ulong Term
    {
        get => Volatile.Read(ref _raft.Term);
        set => Volatile.Write(ref _raft.Term, value);
    }

    internal ulong Leader
    {
        get => Volatile.Read(ref _raft.Leader);
        set => Volatile.Write(ref _raft.Leader, value);
    }

    internal long LeaderChanges
    {
        get => Volatile.Read(ref _raft.LeaderChanges);
        set => Volatile.Write(ref _raft.LeaderChanges, value);
    }

    /// <summary>
    /// This member is the only voter, leads, and has committed in its own term: whatever was acknowledged is in the
    /// published view, so a linearizable read needs no round.
    /// </summary>
    internal bool ReadsAreLocal
    {
        get => Volatile.Read(ref _raft.ReadsAreLocal);
        set => Volatile.Write(ref _raft.ReadsAreLocal, value);
    }

    /// <summary>Something in the raft thread waits for the applied index; the store wakes it then.</summary>
    internal bool RaftWantsApplied
    {
        get => Volatile.Read(ref _raft.WantsApplied);
        set => Volatile.Write(ref _raft.WantsApplied, value);
    }

    /// <summary>Proposals accepted and not yet seen applied.</summary>
    internal long ProposalsPending
    {
        get => Volatile.Read(ref _raft.ProposalsPending);
        set => Volatile.Write(ref _raft.ProposalsPending, value);
    }

    /// <summary>The raft thread has ended its part of the stop sequence: nothing more will be committed.</summary>
    internal bool RaftStopped
    {
        get => Volatile.Read(ref _raft.Stopped);
        set => Volatile.Write(ref _raft.Stopped, value);
    }

    /// <summary>When this member last learned of a leader, monotonic ns.</summary>
    internal long LeaderElectedNs
    {
        get => Volatile.Read(ref _raft.LeaderElected);
        set => Volatile.Write(ref _raft.LeaderElected, value);
    }

    /// <summary>Age of the oldest log write that is not durable, ns.</summary>
    internal long DiskStallNs
    {
        get => Volatile.Read(ref _raft.DiskStall);
        set => Volatile.Write(ref _raft.DiskStall, value);
    }

    /// <summary>How often leadership was given up because of the disk.</summary>
    internal long DiskStallHandovers
    {
        get => Volatile.Read(ref _raft.Handovers);
        set => Volatile.Write(ref _raft.Handovers, value);
    }

    /// <summary>Messages the transport did not take.</summary>
    internal long MessagesUnsent
    {
        get => Volatile.Read(ref _raft.Unsent);
        set => Volatile.Write(ref _raft.Unsent, value);
    }

    /// <summary>
    /// Monotonic ns until which renewals of leases may be answered without asking a quorum; <see cref="long.MaxValue"/>
    /// on the only member.
    /// </summary>
    internal long LeasesProvenUntilNs
    {
        get => Volatile.Read(ref _raft.LeasesProvenUntilNs);
        set => Volatile.Write(ref _raft.LeasesProvenUntilNs, value);
    }

    // ---- written by store ----

    /// <summary>The last snapshot of a leader the store has switched to; written before the applied index.</summary>
    internal ulong InstalledIndex
    {
        get => Volatile.Read(ref _store.Installed);
        set => Volatile.Write(ref _store.Installed, value);
    }

    /// <summary>Applied index the tree holds durably.</summary>
    internal ulong TreeIndex
    {
        get => Volatile.Read(ref _store.Tree);
        set => Volatile.Write(ref _store.Tree, value);
    }

    /// <summary>Applied and visible in the published view.</summary>
    internal ulong AppliedIndex
    {
        get => Volatile.Read(ref _store.Applied);
        set => Volatile.Write(ref _store.Applied, value);
    }

    internal ulong AppliedTerm
    {
        get => Volatile.Read(ref _store.AppliedTerm);
        set => Volatile.Write(ref _store.AppliedTerm, value);
    }

    internal long Revision
    {
        get => Volatile.Read(ref _store.Revision);
        set => Volatile.Write(ref _store.Revision, value);
    }

    internal long CompactRevision
    {
        get => Volatile.Read(ref _store.CompactRevision);
        set => Volatile.Write(ref _store.CompactRevision, value);
    }

    internal long SlowApplies
    {
        get => Volatile.Read(ref _store.SlowApplies);
        set => Volatile.Write(ref _store.SlowApplies, value);
    }

    internal bool StoreStopped
    {
        get => Volatile.Read(ref _store.Stopped);
        set => Volatile.Write(ref _store.Stopped, value);
    }

    // ---- written by the snapshot actor ----

    internal ulong SnapshotIndex
    {
        get => Volatile.Read(ref _slow.Snapshot);
        set => Volatile.Write(ref _slow.Snapshot, value);
    }

    // ---- written by the transport ----

    /// <summary>A peer that says this member has been removed; 0: none does.</summary>
    internal ulong ToldRemovedBy
    {
        get => Volatile.Read(ref _slow.ToldRemovedBy);
        set => Volatile.Write(ref _slow.ToldRemovedBy, value);
    }

    // ---- written by many, interlocked ----

    internal ref long ProposalsFailed => ref _slow.ProposalsFailed;


    [StructLayout(LayoutKind.Sequential, Size = 128)]
    private struct RaftLine
    {
        public ulong Committed;
        public ulong Term;
        public ulong Leader;
        public long LeaderChanges;
        public long ProposalsPending;
        public long LeasesProvenUntilNs;
        public long LeaderElected;
        public long DiskStall;
        public long Handovers;
        public long Unsent;
        public bool ReadsAreLocal;
        public bool WantsApplied;
        public bool Stopped;
    }

    [StructLayout(LayoutKind.Sequential, Size = 128)]
    private struct StoreLine
    {
        public ulong Applied;
        public ulong AppliedTerm;
        public ulong Installed;
        public ulong Tree;
        public long Revision;
        public long CompactRevision;
        public long SlowApplies;
        public bool Stopped;
    }

    [StructLayout(LayoutKind.Sequential, Size = 128)]
    private struct SlowLine
    {
        public ulong Snapshot;
        public long ProposalsFailed;
        public ulong ToldRemovedBy;
    }
}
