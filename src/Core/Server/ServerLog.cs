// ServerLog: what a member says to operators, in etcd's words where etcd has words. Source-generated, so that a
// disabled level costs a comparison and an enabled one no reflection.
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Log messages of Core/Server.</summary>
internal static partial class ServerLog
{
    [LoggerMessage(1, LogLevel.Information, "starting a member on an empty data directory; local-member-id={MemberId:x} cluster-id={ClusterId:x} data-dir={DataDir}")]
    internal static partial void StartingNew(ILogger log, ulong memberId, ulong clusterId, string dataDir);

    [LoggerMessage(2, LogLevel.Information, "restarting local member; local-member-id={MemberId:x} cluster-id={ClusterId:x} commit-index={Commit} consistent-index={Consistent} last-index={Last}")]
    internal static partial void Restarting(ILogger log, ulong memberId, ulong clusterId, ulong commit, ulong consistent, ulong last);

    [LoggerMessage(3, LogLevel.Information, "published local member to cluster through raft; local-member-id={MemberId:x} name={Name} cluster-id={ClusterId:x}")]
    internal static partial void Published(ILogger log, ulong memberId, string name, ulong clusterId);

    [LoggerMessage(4, LogLevel.Information, "setting up initial cluster version; cluster-version={Version}")]
    internal static partial void SettingInitialClusterVersion(ILogger log, string version);

    [LoggerMessage(5, LogLevel.Warning, "message exceeded backend quota; raising alarm; quota-size-bytes={Quota} db-size-bytes={Size}")]
    internal static partial void QuotaExceeded(ILogger log, long quota, long size);

    [LoggerMessage(6, LogLevel.Information, "triggering snapshot; local-member-applied-index={Index} local-member-snapshot-index={Last} local-member-snapshot-count={Every}")]
    internal static partial void TriggeringSnapshot(ILogger log, ulong index, ulong last, ulong every);

    [LoggerMessage(7, LogLevel.Information, "saved snapshot to disk; snapshot-index={Index}")]
    internal static partial void SavedSnapshot(ILogger log, ulong index);

    [LoggerMessage(8, LogLevel.Information, "{MemberId:x} became leader at term {Term}")]
    internal static partial void BecameLeader(ILogger log, ulong memberId, ulong term);

    [LoggerMessage(9, LogLevel.Information, "raft.node: {MemberId:x} elected leader {Leader:x} at term {Term}")]
    internal static partial void ElectedLeader(ILogger log, ulong memberId, ulong leader, ulong term);

    [LoggerMessage(10, LogLevel.Information, "raft.node: {MemberId:x} lost leader {Leader:x} at term {Term}")]
    internal static partial void LostLeader(ILogger log, ulong memberId, ulong leader, ulong term);

    [LoggerMessage(11, LogLevel.Warning, "apply request took too long; took={TookMs}ms expected-duration={ExpectedMs}ms index={Index} kind={Kind} size={Size}")]
    internal static partial void SlowApply(ILogger log, long tookMs, long expectedMs, ulong index, int kind, int size);

    [LoggerMessage(12, LogLevel.Warning, "alarm raised; alarm={Alarm} raised-by={MemberId:x}")]
    internal static partial void AlarmRaised(ILogger log, string alarm, ulong memberId);

    [LoggerMessage(13, LogLevel.Warning, "alarm disarmed; alarm={Alarm} raised-by={MemberId:x}")]
    internal static partial void AlarmDisarmed(ILogger log, string alarm, ulong memberId);

    [LoggerMessage(14, LogLevel.Information, "added member; added-peer-id={MemberId:x}")]
    internal static partial void AddedMember(ILogger log, ulong memberId);

    [LoggerMessage(15, LogLevel.Information, "removed member; removed-remote-peer-id={MemberId:x}")]
    internal static partial void RemovedMember(ILogger log, ulong memberId);

    [LoggerMessage(16, LogLevel.Information, "set initial cluster version; cluster-version={Version}")]
    internal static partial void ClusterVersionSet(ILogger log, string version);

    [LoggerMessage(17, LogLevel.Warning, "{Text}")]
    internal static partial void Warning(ILogger log, string text);

    [LoggerMessage(18, LogLevel.Information, "{Text}")]
    internal static partial void Info(ILogger log, string text);

    [LoggerMessage(19, LogLevel.Information, "stopping raft; last-index={Last} committed-index={Committed}")]
    internal static partial void Stopping(ILogger log, ulong last, ulong committed);

    [LoggerMessage(20, LogLevel.Warning, "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk; heartbeat-interval={IntervalMs}ms exceeded-duration={ExceededMs}ms")]
    internal static partial void LateHeartbeat(ILogger log, long intervalMs, long exceededMs);

    [LoggerMessage(21, LogLevel.Warning, "a conf change was refused at apply and has no effect; index={Index} reason={Reason}")]
    internal static partial void ConfChangeRefused(ILogger log, ulong index, string reason);

    [LoggerMessage(22, LogLevel.Error, "raft proposals were refused; pending={Pending}")]
    internal static partial void ProposalsRefused(ILogger log, long pending);
}
