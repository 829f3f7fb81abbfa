// MemberOpener.Replay: what the log says about entries the tree holds or will get, the switch to a received snapshot that
// a crash interrupted, and the checks on how many members there are.
using System;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

internal sealed unsafe partial class MemberOpener
{
    private void OpenTree()
    {
        _tree = Tree.Open(_files, _directory.Tree, DataDirectory.TreeOptions(_options, _environment.Clock), _environment.Fatal);
        ReadTreeMeta();
    }

    /// <summary>
    /// The newest snapshot record is above what the tree holds: a leader sent it, its database is durable beside the tree,
    /// and the member died before it could switch (storage.md §5.4). Finished here, as it would have been then.
    /// </summary>
    private void SwitchToReceived()
    {
        string received = _directory.SnapshotDatabase(_startIndex);
        if (!_files.FileExists(received))
        {
            return; // the caller says what is wrong
        }

        _tree!.Dispose();
        _tree = null;
        _files.Rename(received, _directory.Tree);
        _files.SyncDirectory(_directory.Snap);
        _consistentIndex = 0;
        _consistentTerm = 0;
        _storageVersion = string.Empty;
        OpenTree();
        ServerLog.SwitchedAtStart(_environment.Log, _startIndex, _directory.Tree);
    }

    /// <summary>
    /// Entries the tree holds already are still in the log's files: peers that lag a little are served from there
    /// instead of being sent the whole database.
    /// </summary>
    private void KeepOlder(RaftCore core, WalRecovery recovery)
    {
        ulong wanted = _consistentIndex > _options.CatchupEntries ? _consistentIndex - _options.CatchupEntries : 0;
        ulong lower = Math.Max(_startIndex, wanted);
        ulong lowerTerm = lower == _startIndex ? _startTerm : TermAt(recovery, lower);
        if (lower >= _consistentIndex || (lower > 0 && lowerTerm == 0))
        {
            return;
        }

        List<(ulong FirstIndex, ulong Term)> runs = [];
        ulong next = lower + 1;
        foreach (ref readonly WalEntry entry in recovery.Entries)
        {
            if (entry.Index <= lower || entry.Index > _consistentIndex)
            {
                continue;
            }

            if (entry.Index != next++)
            {
                return; // the log does not hold them all: as if it held none
            }

            if (runs.Count == 0 || runs[^1].Term != entry.Term)
            {
                runs.Add((entry.Index, entry.Term));
            }
        }

        if (next == _consistentIndex + 1 && runs.Count > 0 && runs[^1].Term == core.TermOfCompacted)
        {
            core.ExtendLog(lower, lowerTerm, System.Runtime.InteropServices.CollectionsMarshal.AsSpan(runs));
        }
    }

    /// <summary>
    /// --force-new-cluster: entries that remove everybody else, and let this member vote, committed by decree together with
    /// all that is in the log (decision 0034). Data, own id and cluster id stay.
    /// </summary>
    private void ForceAlone(RaftCore core)
    {
        ulong self = _identity.MemberId;
        ClusterView view = _judged!.View;
        List<RaftEntry> forced = [];
        foreach (ClusterMember member in view.Members)
        {
            if (member.Id != self)
            {
                forced.Add(OwnedChange(new ConfChange { Type = ConfChangeType.RemoveNode, NodeId = member.Id }));
            }
        }

        ClusterMember? own = view.Find(self);
        if (own is not { IsLearner: false })
        {
            byte[] context = own is null
                ? new ClusterMember { Id = self, Name = _options.Name, PeerUrls = _options.InitialAdvertisePeerUrls }.ToJson()
                : PromotionOf(self);
            forced.Add(OwnedChange(new ConfChange { Type = ConfChangeType.AddNode, NodeId = self, Context = context }));
        }

        core.Force(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(forced));
        ServerLog.ForcedNewCluster(
            _environment.Log, ServerLog.Id(_identity.ClusterId), ServerLog.Id(self), core.Commit, forced.Count);
    }

    /// <summary>Context of the change that lets a learner vote, as etcd writes it.</summary>
    internal static byte[] PromotionOf(ulong id) => System.Text.Encoding.ASCII.GetBytes(string.Create(
        System.Globalization.CultureInfo.InvariantCulture, $"{{\"id\":{id},\"peerURLs\":null,\"isPromote\":true}}"));

    private RaftEntry OwnedChange(ConfChange change)
    {
        byte[] bytes = new byte[change.Size];
        var writer = new ProtoWriter(bytes);
        change.Write(ref writer);
        return Owned(bytes, EntryType.ConfChange);
    }

    private void RequireJoined()
    {
        if (_options.Joined is null)
        {
            throw new MemberStartException(
                "cannot fetch cluster info from peer urls: nobody has described the cluster to join");
        }

        RequireTransport(_options.Joined.Members.Count);
    }

    /// <summary>More than one member needs a way to talk.</summary>
    private void RequireTransport(int members)
    {
        if (members != 1 && _environment.Transport is null)
        {
            throw new MemberStartException(
                $"this cluster has {members} members, and this process was started without a transport to the others");
        }
    }

    /// <summary>
    /// Membership entries that the tree already holds go to memory; every entry that apply will meet is looked into, so
    /// that an unknown kind refuses the start instead of ending a running member.
    /// </summary>
    /// <param name="recovery">The log.</param>
    /// <param name="cluster">Gets the membership entries at or below consistent_index.</param>
    /// <param name="judged">Gets all of them.</param>
    private void Replay(WalRecovery recovery, Cluster cluster, Cluster judged)
    {
        foreach (ref readonly WalEntry entry in recovery.Entries)
        {
            bool held = entry.Index <= _consistentIndex;
            if (entry.Type == (byte)EntryType.ConfChange)
            {
                if (!ConfChange.TryParse(entry.Payload, out ConfChange change))
                {
                    throw Undecodable(in entry, "its bytes are not a ConfChange");
                }

                try
                {
                    _ = judged.ApplyConfChange((MembershipChange)change.Type, change.NodeId, change.Context, null);
                    if (held)
                    {
                        _ = cluster.ApplyConfChange((MembershipChange)change.Type, change.NodeId, change.Context, null);
                    }
                }
                catch (InvalidDataException e)
                {
                    throw Undecodable(in entry, e.Message);
                }

                continue;
            }

            if (entry.Type != (byte)EntryType.Normal)
            {
                throw Undecodable(in entry, $"entry type {entry.Type} is not one etcd writes");
            }

            if (entry.Length == 0)
            {
                continue;
            }

            if (!InternalRaftRequest.TryParse(entry.Payload, out InternalRaftRequest request))
            {
                if (held)
                {
                    continue; // the tree says it was applied; what it was concerns nobody any more
                }

                throw Undecodable(in entry, "its bytes are neither an InternalRaftRequest nor a v2 Request");
            }

            if (!held && !InternalRaftRequest.IsKnown((int)request.Kind))
            {
                throw Undecodable(in entry, $"request kind {(int)request.Kind} is unknown to this server");
            }

            try
            {
                _ = StateMachine.ReplayCluster(in request, judged, null);
                if (held)
                {
                    _ = StateMachine.ReplayCluster(in request, cluster, null);
                }
            }
            catch (InvalidDataException e)
            {
                throw Undecodable(in entry, e.Message);
            }
        }
    }

    private MemberStartException Undecodable(in WalEntry entry, string reason) => new(
        $"{_directory.Wal}: log entry {entry.Index} of term {entry.Term} cannot be applied: {reason}; "
        + "nothing was changed, start a server version that knows it");
}
