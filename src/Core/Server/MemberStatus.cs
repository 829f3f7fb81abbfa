// MemberStatus: what a member says about itself at one moment. Made on demand from volatile counters by any thread;
// the numbers are each correct but not from one instant, as etcd's Status is.
namespace Cairn.Core.Server;

/// <summary>One member's figures for Status, health and metrics.</summary>
public readonly record struct MemberStatus
{
    /// <summary>Member id of the leader known here; 0 = none.</summary>
    public ulong Leader { get; init; }

    /// <summary>Raft term of the last applied entry (what response headers carry).</summary>
    public ulong AppliedTerm { get; init; }

    /// <summary>Current raft term.</summary>
    public ulong Term { get; init; }

    public ulong CommittedIndex { get; init; }

    public ulong AppliedIndex { get; init; }

    /// <summary>Index contained in the last durable tree commit.</summary>
    public ulong DurableAppliedIndex { get; init; }

    /// <summary>Index of the newest snapshot file.</summary>
    public ulong SnapshotIndex { get; init; }

    /// <summary>High-water mark of the tree file in bytes.</summary>
    public long DbSizeBytes { get; init; }

    /// <summary>The same without free pages.</summary>
    public long DbSizeInUseBytes { get; init; }

    public long DbSizeQuotaBytes { get; init; }

    public long Revision { get; init; }

    public long CompactRevision { get; init; }

    public bool IsLearner { get; init; }

    /// <summary>True once this member's attributes are committed and its own term has a committed entry.</summary>
    public bool IsReady { get; init; }

    public bool IsStopping { get; init; }

    /// <summary>Proposals accepted and not yet applied.</summary>
    public long PendingProposals { get; init; }

    public long LeaderChanges { get; init; }

    public long ProposalsFailed { get; init; }

    public long SlowApplies { get; init; }

    /// <summary>How long the oldest log write has been waiting for the disk, milliseconds; health looks at it.</summary>
    public long LogStallMs { get; init; }

    /// <summary>How often leadership was given up because the log's disk stood still.</summary>
    public long LogStallHandovers { get; init; }

    /// <summary>Messages to peers that no link took.</summary>
    public long MessagesUnsent { get; init; }
}
