// Member.Views: state of a member that the front end shows. Immutable snapshots and volatile numbers, published by the
// owning threads, read by any thread; taking one allocates nothing.
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Wal;
using Cairn.Core.Mvcc.Watch;

namespace Cairn.Core.Server;

public sealed partial class Member
{
    /// <summary>The store, for reads on pinned Views and for hashes.</summary>
    public MvccStore Store => _parts.Machine.Store;

    /// <summary>All watchers; streams are opened from any thread.</summary>
    public WatchHub Watch { get; }

    /// <summary>The tree file, for snapshot images of pinned roots.</summary>
    public Tree Tree => Store.Tree;

    /// <summary>What the log's writes and syncs took.</summary>
    public WalFigures WalFigures => _wal.Figures;

    /// <summary>What saving snapshot files took.</summary>
    public SnapFigures SnapFigures => _snapshotFiles.Figures;

    /// <summary>What applying took, by kind of request.</summary>
    public ApplyFigures ApplyFigures => _store.Figures;

    /// <summary>Revision of the auth store.</summary>
    public ulong AuthRevision => _parts.Machine.Auth.View.Revision;

    /// <summary>The members and the cluster version.</summary>
    public ClusterView ClusterView => _parts.Machine.Cluster.View;

    /// <summary>The raised alarms.</summary>
    public AlarmList Alarms => _parts.Machine.Alarms.Current;

    /// <summary>The storage version such as <c>3.6.0</c>; empty while the directory carries none.</summary>
    public string StorageVersion => _parts.StorageVersion;

    /// <summary>Who answers, and the term of the last applied entry: the header of a read answered now.</summary>
    public HeaderFields Header => new(ClusterId, Id, _counters.AppliedTerm);

    /// <summary>True while this member may not vote and serves next to nothing.</summary>
    public bool IsLearner => ClusterView.Find(Id) is { IsLearner: true };

    /// <summary>Figures of this moment; allocation-free.</summary>
    public MemberStatus Status => new()
    {
        Leader = _counters.Leader,
        Term = _counters.Term,
        AppliedTerm = _counters.AppliedTerm,
        CommittedIndex = _counters.CommittedIndex,
        AppliedIndex = _counters.AppliedIndex,
        DurableAppliedIndex = Store.DurableIndex,
        SnapshotIndex = _counters.SnapshotIndex,
        DbSizeBytes = Tree.HighWaterBytes,
        DbSizeInUseBytes = Tree.InUseBytes,
        DbSizeQuotaBytes = Options.EffectiveQuotaBytes,
        Revision = _counters.Revision,
        CompactRevision = _counters.CompactRevision,
        IsLearner = IsLearner,
        IsReady = _duties.IsReady,
        IsStopping = _intake.IsClosed,
        PendingProposals = _counters.ProposalsPending,
        LeaderChanges = _counters.LeaderChanges,
        ProposalsFailed = System.Threading.Volatile.Read(ref _counters.ProposalsFailed),
        SlowApplies = _counters.SlowApplies,
        LogStallMs = _counters.DiskStallNs / 1_000_000,
        LogStallHandovers = _counters.DiskStallHandovers,
        MessagesUnsent = _counters.MessagesUnsent,
    };
}
