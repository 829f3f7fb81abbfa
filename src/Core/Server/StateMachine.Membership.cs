// StateMachine, membership part: ConfChange entries, cluster entries 1300-1302, the v2 requests of old logs, and the
// forms in which the configuration goes to disk. Rare entries: they may allocate. Thread: store.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

internal sealed partial class StateMachine
{
    private byte[] _confStateJson = [];
    private bool _confStateUnwritten;

    /// <summary>Conf changes that raft has yet to be told of, in log order. The store actor drains it.</summary>
    internal Queue<AppliedConfChange> ConfChanges { get; } = new();

    /// <summary>The configuration as raftpb.ConfState bytes.</summary>
    internal byte[] ConfStateBytes { get; private set; } = [];

    /// <summary>The configuration for the freeze: JSON, or empty when the last freeze already has it.</summary>
    internal ReadOnlySpan<byte> ConfStateJsonUnwritten => _confStateUnwritten ? _confStateJson : default;

    /// <summary>The cluster version, or null while there is none.</summary>
    internal string? ClusterVersion => Cluster.View.Version.Length == 0 ? null : Cluster.View.Version;

    /// <summary>The voters and learners that a view of the members implies; ids ascending.</summary>
    internal static ConfState ConfStateOf(ClusterView view)
    {
        List<ulong> voters = [];
        List<ulong> learners = [];
        foreach (ClusterMember member in view.Members)
        {
            (member.IsLearner ? learners : voters).Add(member.Id);
        }

        return new ConfState { Voters = [.. voters], Learners = [.. learners] };
    }

    /// <summary>The ConfState has gone into a freeze.</summary>
    internal void ConfStateWritten() => _confStateUnwritten = false;

    /// <summary>Recomputes the stored forms of the configuration; at open and after every change.</summary>
    internal void ConfigurationChanged(bool unwritten)
    {
        ConfState state = ConfStateOf(Cluster.View);
        ConfStateBytes = state.ToBytes();
        var output = new ArrayBufferWriter<byte>(64);
        ConfStateJson.Write(output, state.Voters, state.Learners);
        _confStateJson = output.WrittenSpan.ToArray();
        _confStateUnwritten = unwritten;
    }

    private ErrorCode ApplyConfChange(in CommittedEntry entry, bool wanted, ref NativeBuffer output)
    {
        if (!ConfChange.TryParse(entry.Payload, out ConfChange change))
        {
            Refuse(in entry, "its bytes are not a ConfChange");
        }

        ErrorCode outcome;
        try
        {
            outcome = Cluster.ApplyConfChange((MembershipChange)change.Type, change.NodeId, change.Context, Store);
        }
        catch (InvalidDataException e)
        {
            Refuse(in entry, e.Message);
            throw;
        }

        bool applied = outcome == ErrorCode.None;
        ConfChanges.Enqueue(new AppliedConfChange(entry.Index, change.Type, applied ? change.NodeId : 0));
        if (!applied)
        {
            ServerLog.ConfChangeRefused(_log, entry.Index, Errors.Get(outcome).Message);
            return outcome;
        }

        ConfigurationChanged(unwritten: true);
        if (change.Type == ConfChangeType.RemoveNode)
        {
            ServerLog.RemovedMember(_log, ServerLog.Id(_clusterId), ServerLog.Id(_memberId), ServerLog.Id(change.NodeId));
        }
        else
        {
            ServerLog.AddedMember(_log, ServerLog.Id(_clusterId), ServerLog.Id(_memberId), ServerLog.Id(change.NodeId));
        }

        if (wanted)
        {
            ResponseScratch.WriteHeader(ref output, new HeaderFields(_clusterId, _memberId, entry.Term), 0);
        }

        return outcome;
    }

    private ErrorCode ApplyCluster(in CommittedEntry entry, in InternalRaftRequest request)
    {
        string? versionBefore = ClusterVersion;
        try
        {
            ReplayCluster(in request, Cluster, Store);
        }
        catch (InvalidDataException e)
        {
            Refuse(in entry, e.Message);
        }

        if (versionBefore != ClusterVersion && ClusterVersion is { } version)
        {
            if (versionBefore is null)
            {
                ServerLog.ClusterVersionSet(_log, ServerLog.Id(_clusterId), ServerLog.Id(_memberId), version);
            }
            else
            {
                ServerLog.ClusterVersionUpdated(
                    _log, ServerLog.Id(_clusterId), ServerLog.Id(_memberId), versionBefore, version);
            }
        }

        return ErrorCode.None;
    }

    /// <summary>Applies a membership request to memory and, when a writer is given, to the buckets.</summary>
    /// <returns>False if the request is no membership request.</returns>
    /// <exception cref="InvalidDataException">It cannot be understood.</exception>
    internal static bool ReplayCluster(in InternalRaftRequest request, Cluster cluster, IBucketWriter? writer)
    {
        switch (request.Kind)
        {
            case RequestKind.V2:
                if (!V2Request.TryParse(request.Body, out V2Request v2))
                {
                    throw new InvalidDataException("a v2 request that does not parse");
                }

                cluster.ApplyV2(in v2, writer);
                return true;
            case RequestKind.ClusterVersionSet:
                cluster.ApplyClusterVersion(request.Body, writer);
                return true;
            case RequestKind.ClusterMemberAttrSet:
                cluster.ApplyMemberAttributes(request.Body, writer);
                return true;
            case RequestKind.DowngradeInfoSet:
                cluster.ApplyDowngrade(request.Body, writer);
                return true;
            default:
                return false;
        }
    }
}

/// <summary>A conf change after its validation.</summary>
/// <param name="Index">Its entry.</param>
/// <param name="Type">raftpb's type.</param>
/// <param name="NodeId">0 when it was refused: raft applies a no-op.</param>
/// <param name="Slot">Claimed, or null: who proposed it here. Raft ends it after it has switched.</param>
/// <param name="Outcome">What the slot is told.</param>
internal readonly record struct AppliedConfChange(
    ulong Index, ConfChangeType Type, ulong NodeId, RequestSlot? Slot = null, ErrorCode Outcome = ErrorCode.None);
