// MemberOptions: what one member is told at start. Immutable; flags and environment are read by native/ only.
//
// Units are in the names; defaults are etcd 3.6.14's. Validation of single values belongs to whoever parsed them,
// validation of their combination with a data directory belongs to Bootstrap.
using System.Collections.Generic;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Membership;

namespace Cairn.Core.Server;

/// <summary>What --initial-cluster-state says; counts only when there is no WAL yet.</summary>
public enum InitialClusterState : byte
{
    New,
    Existing,
}

/// <summary>One name of --initial-cluster with its peer URLs.</summary>
public sealed record InitialMember(string Name, IReadOnlyList<string> PeerUrls);

/// <summary>A running cluster that this member joins, as its members described it (state existing, no WAL yet).</summary>
/// <param name="ClusterId">From the answer of a member.</param>
/// <param name="LocalId">The id that member-add gave to this member.</param>
/// <param name="Members">Everybody, this member included, ids ascending.</param>
public sealed record JoinedCluster(ulong ClusterId, ulong LocalId, IReadOnlyList<ClusterMember> Members);

/// <summary>Settings of one member.</summary>
public sealed record MemberOptions
{
    /// <summary>Human readable name; must be in <see cref="InitialCluster"/> when a cluster is made.</summary>
    public string Name { get; init; } = "default";

    /// <summary>The directory that holds <c>member/</c>.</summary>
    public required string DataDir { get; init; }

    /// <summary>The WAL directory itself; null means <c>member/wal</c> under <see cref="DataDir"/>.</summary>
    public string? WalDir { get; init; }

    /// <summary>Advertised peer URLs; ids of a new cluster are derived from those in <see cref="InitialCluster"/>.</summary>
    public IReadOnlyList<string> InitialAdvertisePeerUrls { get; init; } = ["http://localhost:2380"];

    /// <summary>Client URLs published through raft after the start.</summary>
    public IReadOnlyList<string> AdvertiseClientUrls { get; init; } = ["http://localhost:2379"];

    public IReadOnlyList<InitialMember> InitialCluster { get; init; } = [new("default", ["http://localhost:2380"])];

    public string InitialClusterToken { get; init; } = "etcd-cluster";

    public InitialClusterState InitialClusterState { get; init; }

    /// <summary>The cluster to join; needed when the state is existing and there is no WAL yet.</summary>
    public JoinedCluster? Joined { get; init; }

    /// <summary>The own addresses were compared with <see cref="InitialCluster"/>, names resolved, by whoever filled it.</summary>
    public bool IsInitialClusterChecked { get; init; }

    /// <summary>Make a cluster of this member alone out of the data directory.</summary>
    public bool ForceNewCluster { get; init; }

    /// <summary>Refuse membership changes that would endanger the quorum.</summary>
    public bool StrictReconfigCheck { get; init; } = true;

    /// <summary>Ask before standing for election.</summary>
    public bool PreVote { get; init; } = true;

    /// <summary>Learners the cluster may have at once.</summary>
    public int MaxLearners { get; init; } = 1;

    /// <summary>Shorten the first election wait after a start.</summary>
    public bool InitialElectionTickAdvance { get; init; } = true;

    /// <summary>Compare hashes with the other members before serving.</summary>
    public bool InitialCorruptCheck { get; init; }

    /// <summary>Interval of comparing hashes between members; 0 never.</summary>
    public long CorruptCheckMs { get; init; }

    /// <summary>Compare the hashes of finished compactions between members.</summary>
    public bool CompactHashCheck { get; init; }

    /// <summary>Interval of that comparison.</summary>
    public long CompactHashCheckMs { get; init; } = 60_000;

    /// <summary>Pace at which a snapshot is sent to a peer, bytes a second; 0 = as fast as it goes.</summary>
    public long SnapshotBytesPerSecond { get; init; } = 128L << 20;

    /// <summary>Entries between two snapshot files.</summary>
    public ulong SnapshotCount { get; init; } = 10_000;

    /// <summary>Entries kept in memory behind a snapshot for followers that lag.</summary>
    public ulong CatchupEntries { get; init; } = 5_000;

    /// <summary>Quota in bytes: 0 means 2 GiB, negative means none.</summary>
    public long QuotaBytes { get; init; }

    /// <summary>Largest encoded raft request, inclusive.</summary>
    public int MaxRequestBytes { get; init; } = 1_572_864;

    public int MaxTxnOps { get; init; } = 128;

    /// <summary>Limits and periods of watchers.</summary>
    public WatchOptions WatchLimits { get; init; } = new();

    /// <summary>Longest time between two tree commits while something is pending.</summary>
    public int BatchIntervalMs { get; init; } = 100;

    /// <summary>Operations after which the write buffer is frozen at once.</summary>
    public int BatchLimit { get; init; } = 10_000;

    /// <summary>Write buffer bytes after which it is frozen at once; also the cap that stops the apply loop.</summary>
    public long BufferBytes { get; init; } = 64L << 20;

    /// <summary>Revisions a compaction deletes in one tree commit; more when commits take longer than the pause.</summary>
    public int CompactionBatchLimit { get; init; } = 1000;

    /// <summary>Pause between two such commits; a step that found nothing to delete waits a tenth of it.</summary>
    public long CompactionPauseNs { get; init; } = 10_000_000;

    /// <summary>WAL segments kept; 0 keeps all.</summary>
    public int MaxWals { get; init; } = 5;

    /// <summary>Snapshot files kept; 0 keeps all.</summary>
    public int MaxSnapshots { get; init; } = 5;

    public int HeartbeatMs { get; init; } = 100;

    public int ElectionMs { get; init; } = 1_000;

    /// <summary>Tell the other members now and then how much time long leases have left (gate LeaseCheckpoint).</summary>
    public bool LeaseCheckpoint { get; init; }

    /// <summary>Store those times (gate LeaseCheckpointPersist); always done from cluster version 3.6 on.</summary>
    public bool LeaseCheckpointPersist { get; init; }

    /// <summary>Time between two checkpoints of a lease; leases with less left get none.</summary>
    public long LeaseCheckpointIntervalMs { get; init; } = 300_000;

    /// <summary>The etcd version this server behaves as; clients parse it.</summary>
    public string ServerVersion { get; init; } = "3.6.14";

    /// <summary>The cluster version a fresh cluster lives at (design §5: the way back stays open).</summary>
    public string InitialClusterVersion { get; init; } = "3.5.0";

    /// <summary>Skips every fdatasync. Loses data at power loss; for tests of other things.</summary>
    public bool UnsafeNoSync { get; init; }

    /// <summary>Bytes of address space reserved for the tree's map; 0 = four quotas, at least 16 GiB.</summary>
    public long TreeReserveBytes { get; init; }

    /// <summary>Applying one entry longer than this is logged.</summary>
    public int WarningApplyDurationMs { get; init; } = 100;

    /// <summary>Threads for reads that have to wait for the disk.</summary>
    public int ColdReaders { get; init; } = 4;

    /// <summary>Slots made ahead; more are made when needed.</summary>
    public int RequestSlots { get; init; } = 1024;

    /// <summary>WAL segment size at which a new one is cut; etcd's 64·10^6. Tests make it smaller.</summary>
    public long WalSegmentBytes { get; init; } = 64_000_000;

    /// <summary>How long a request may wait for its outcome: 5 s plus two election timeouts.</summary>
    public long RequestTimeoutNs => 5_000_000_000L + (2L * ElectionMs * 1_000_000L);

    /// <summary>The quota in force: bytes, or <see cref="long.MaxValue"/> for none.</summary>
    public long EffectiveQuotaBytes => QuotaBytes == 0 ? 2L << 30 : QuotaBytes < 0 ? long.MaxValue : QuotaBytes;
}
