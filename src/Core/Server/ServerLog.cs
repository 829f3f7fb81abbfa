// ServerLog: what a member says to operators, in etcd's words where etcd has words. Source-generated, so that a
// disabled level costs a comparison and an enabled one no reflection. Values are fields of the line, named as etcd
// names them (localMemberId becomes local-member-id), not part of the text; ids are hex text.
using System.Globalization;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Log messages of Core/Server.</summary>
internal static partial class ServerLog
{
    /// <summary>An id as operators read it.</summary>
    internal static string Id(ulong id) => id.ToString("x", CultureInfo.InvariantCulture);

    [LoggerMessage(58, LogLevel.Warning, "the leader's process has ended; not waiting for the election timeout")]
    internal static partial void LeaderGone(ILogger log, string localMemberId, string leader, ulong term);

    [LoggerMessage(1, LogLevel.Information, "starting local member")]
    internal static partial void StartingNew(ILogger log, string localMemberId, string clusterId, string dataDir);

    [LoggerMessage(2, LogLevel.Information, "restarting local member")]
    internal static partial void Restarting(
        ILogger log, string clusterId, string localMemberId, ulong commitIndex, ulong consistentIndex, ulong lastIndex);

    [LoggerMessage(3, LogLevel.Information, "published local member to cluster through raft")]
    internal static partial void Published(ILogger log, string localMemberId, string name, string clusterId);

    [LoggerMessage(4, LogLevel.Information, "setting up initial cluster version using v3 API")]
    internal static partial void SettingInitialClusterVersion(ILogger log, string clusterVersion);

    [LoggerMessage(5, LogLevel.Warning, "message exceeded backend quota; raising alarm")]
    internal static partial void QuotaExceeded(ILogger log, long quotaSizeBytes, long dbSizeBytes);

    [LoggerMessage(6, LogLevel.Information, "triggering snapshot")]
    internal static partial void TriggeringSnapshot(
        ILogger log, ulong localMemberAppliedIndex, ulong localMemberSnapshotIndex, ulong localMemberSnapshotCount);

    [LoggerMessage(7, LogLevel.Information, "saved snapshot to disk")]
    internal static partial void SavedSnapshot(ILogger log, ulong snapshotIndex);

    [LoggerMessage(8, LogLevel.Information, "{memberId} became leader at term {term}")]
    internal static partial void BecameLeader(ILogger log, string memberId, ulong term);

    [LoggerMessage(9, LogLevel.Information, "raft.node: {memberId} elected leader {leader} at term {term}")]
    internal static partial void ElectedLeader(ILogger log, string memberId, string leader, ulong term);

    [LoggerMessage(10, LogLevel.Information, "raft.node: {memberId} lost leader {leader} at term {term}")]
    internal static partial void LostLeader(ILogger log, string memberId, string leader, ulong term);

    [LoggerMessage(11, LogLevel.Warning, "apply request took too long")]
    internal static partial void SlowApply(
        ILogger log, string took, string expectedDuration, ulong index, string request, int requestSize);

    [LoggerMessage(12, LogLevel.Warning, "alarm raised")]
    internal static partial void AlarmRaised(ILogger log, string alarm, string from);

    [LoggerMessage(13, LogLevel.Warning, "alarm disarmed")]
    internal static partial void AlarmDisarmed(ILogger log, string alarm, string from);

    [LoggerMessage(14, LogLevel.Information, "added member")]
    internal static partial void AddedMember(ILogger log, string clusterId, string localMemberId, string addedPeerId);

    [LoggerMessage(15, LogLevel.Information, "removed member")]
    internal static partial void RemovedMember(
        ILogger log, string clusterId, string localMemberId, string removedRemotePeerId);

    [LoggerMessage(16, LogLevel.Information, "set initial cluster version")]
    internal static partial void ClusterVersionSet(
        ILogger log, string clusterId, string localMemberId, string clusterVersion);

    [LoggerMessage(17, LogLevel.Information, "updated cluster version")]
    internal static partial void ClusterVersionUpdated(
        ILogger log, string clusterId, string localMemberId, string from, string to);

    [LoggerMessage(18, LogLevel.Warning, "{text}")]
    internal static partial void Warning(ILogger log, string text);

    [LoggerMessage(19, LogLevel.Information, "stopping raft")]
    internal static partial void Stopping(ILogger log, ulong lastIndex, ulong committedIndex);

    [LoggerMessage(21, LogLevel.Warning, "no room on disk for the next log segment; raising alarm")]
    internal static partial void DiskFull(ILogger log, string dataDir);

    [LoggerMessage(
        22,
        LogLevel.Warning,
        "auth is enabled in this data directory but this version does not enforce it: every client acts as root; keep the client port closed to others, or run etcd")]
    internal static partial void AuthNotEnforced(ILogger log);

    [LoggerMessage(20, LogLevel.Warning, "a conf change was refused at apply and has no effect")]
    internal static partial void ConfChangeRefused(ILogger log, ulong index, string reason);

    [LoggerMessage(40, LogLevel.Information, "sending database snapshot")]
    internal static partial void SendingSnapshot(ILogger log, string localMemberId, string remotePeerId, ulong snapshotIndex);

    [LoggerMessage(41, LogLevel.Information, "sent database snapshot")]
    internal static partial void SentSnapshot(ILogger log, string remotePeerId, bool succeeded);

    [LoggerMessage(42, LogLevel.Information, "receiving database snapshot")]
    internal static partial void ReceivingSnapshot(
        ILogger log, string localMemberId, string remotePeerId, ulong snapshotIndex, long bytes);

    [LoggerMessage(43, LogLevel.Information, "received and saved database snapshot")]
    internal static partial void ReceivedSnapshot(ILogger log, ulong snapshotIndex, string path);

    [LoggerMessage(44, LogLevel.Warning, "failed to receive database snapshot")]
    internal static partial void RefusedSnapshot(ILogger log, ulong snapshotIndex, string error);

    [LoggerMessage(45, LogLevel.Information, "applied snapshot")]
    internal static partial void InstalledSnapshot(ILogger log, ulong snapshotIndex);

    [LoggerMessage(46, LogLevel.Information, "leadership transfer starting")]
    internal static partial void TransferringLeadership(ILogger log, string currentLeaderMemberId, string transfereeMemberId);

    [LoggerMessage(47, LogLevel.Warning, "the log's disk does not answer; handing leadership over")]
    internal static partial void HandingOver(ILogger log, string localMemberId, string transfereeMemberId, long waitedMs);

    [LoggerMessage(48, LogLevel.Warning, "the log's disk does not answer; stepping down")]
    internal static partial void SteppingDown(ILogger log, string localMemberId, long waitedMs);

    [LoggerMessage(49, LogLevel.Warning,
        "the member has been permanently removed from the cluster; the data-dir used by this member must be removed")]
    internal static partial void SelfRemoved(ILogger log, string localMemberId, string dataDir);

    [LoggerMessage(50, LogLevel.Warning, "a peer says that this member was removed from the cluster")]
    internal static partial void ToldRemoved(ILogger log, string localMemberId, string remotePeerId);

    [LoggerMessage(51, LogLevel.Information, "joining an existing cluster")]
    internal static partial void Joining(ILogger log, string localMemberId, string clusterId, string dataDir);

    [LoggerMessage(52, LogLevel.Information, "completed the switch to a database snapshot found at the start")]
    internal static partial void SwitchedAtStart(ILogger log, ulong snapshotIndex, string path);

    [LoggerMessage(53, LogLevel.Warning, "rejecting membership change; unhealthy cluster")]
    internal static partial void RefusedChange(ILogger log, string change, string memberId, string reason);

    [LoggerMessage(54, LogLevel.Warning, "failed to get hash from peer")]
    internal static partial void NoHash(ILogger log, string remotePeerId, string error);

    [LoggerMessage(55, LogLevel.Error, "found different hash values from remote peer")]
    internal static partial void Inconsistent(ILogger log, string localMemberId, string remotePeerId, long revision);

    [LoggerMessage(56, LogLevel.Error, "found data inconsistency between members; raising alarm")]
    internal static partial void CorruptFound(ILogger log, string memberId, long revision);

    [LoggerMessage(57, LogLevel.Warning, "forcing a new cluster of this member alone")]
    internal static partial void ForcedNewCluster(
        ILogger log, string clusterId, string localMemberId, ulong commitIndex, int changes);
}
