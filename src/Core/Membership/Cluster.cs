// Cluster: members, removed ids, cluster version and downgrade as replicated state.
//
// Why        Membership is rebuilt on every start by replaying the log from the last snapshot, also for entries
//            that the tree already holds, because the raft configuration is rebuilt the same way and each change
//            is validated against the state before it. So memory follows every entry; buckets only those above
//            consistent_index: for the others the caller passes no writer.
// Thread     store applies; View may be read by any thread.
// Layout     bucket members: id in hex -> JSON; members_removed: id in hex -> "removed"; cluster: clusterVersion,
//            downgrade {"target-version":"3.5.0","enabled":true}.
// Failure    An entry that cannot be understood throws InvalidDataException: going on would make another cluster.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Threading;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Membership;

/// <summary>Types of ConfChange; the numbers are raftpb's.</summary>
public enum MembershipChange
{
    AddNode = 0,
    RemoveNode = 1,
    UpdateNode = 2,
    AddLearnerNode = 3,
}

/// <summary>Membership as replicated state.</summary>
public sealed class Cluster
{
    private const string AttributesPrefix = "/0/members/";
    private const string AttributesSuffix = "/attributes";

    private readonly int _maxLearners;
    private readonly SortedDictionary<ulong, ClusterMember> _members = [];
    private readonly SortedSet<ulong> _removed = [];
    private string _version = string.Empty;
    private DowngradeInfo _downgrade = DowngradeInfo.None;
    private ClusterView _view = new([], [], string.Empty, DowngradeInfo.None);

    /// <param name="localId">This member.</param>
    /// <param name="clusterId">From the WAL metadata or the bootstrap formula.</param>
    /// <param name="maxLearners">Learners a cluster may have at once.</param>
    public Cluster(ulong localId, ulong clusterId, int maxLearners = 1)
    {
        LocalId = localId;
        ClusterId = clusterId;
        _maxLearners = maxLearners;
    }

    public ulong LocalId { get; }

    public ulong ClusterId { get; }

    /// <summary>State after the last applied entry. Any thread.</summary>
    public ClusterView View => Volatile.Read(ref _view);

    /// <summary>
    /// Start from a snapshot file: members, removed ids and version as of its index. Call before
    /// <see cref="RestoreFromBuckets"/>.
    /// </summary>
    /// <exception cref="InvalidDataException">Not a v2 store.</exception>
    public V2StoreContents RestoreFromSnapshot(ReadOnlySpan<byte> v2StoreJson)
    {
        V2StoreContents contents = V2Store.Read(v2StoreJson);
        foreach ((ulong id, ClusterMember member) in contents.Members)
        {
            _members[id] = member;
        }

        _removed.UnionWith(contents.Removed);
        _version = contents.Version;
        Publish();
        return contents;
    }

    /// <summary>
    /// Start from the tree. Version and downgrade are always taken from there; members and removed ids only when
    /// there is a snapshot whose file names none (3.7 does not need it to), for without a snapshot the log
    /// rebuilds them from its first entry.
    /// </summary>
    /// <param name="buckets">The durable tree.</param>
    /// <param name="takeMembers">True if a snapshot exists and gave no members.</param>
    /// <exception cref="InvalidDataException">A record does not parse.</exception>
    public void RestoreFromBuckets(IBucketReader buckets, bool takeMembers)
    {
        var visitor = new RestoreVisitor(this) { Bucket = BucketId.Cluster };
        buckets.ForEach(BucketId.Cluster, ref visitor);
        if (takeMembers)
        {
            visitor.Bucket = BucketId.Members;
            buckets.ForEach(BucketId.Members, ref visitor);
            visitor.Bucket = BucketId.MembersRemoved;
            buckets.ForEach(BucketId.MembersRemoved, ref visitor);
        }

        Publish();
    }

    /// <summary>Members and removed ids of the tree alone, for tools and for comparison after a replay.</summary>
    public static ClusterView ReadBuckets(IBucketReader buckets)
    {
        var cluster = new Cluster(0, 0);
        cluster.RestoreFromBuckets(buckets, takeMembers: true);
        return cluster.View;
    }

    /// <summary>Whether a change may be made now: asked before proposing and again at apply.</summary>
    /// <param name="change">Type of the ConfChange.</param>
    /// <param name="nodeId">Its NodeID.</param>
    /// <param name="context">Its Context: JSON of a member, with isPromote for promotions.</param>
    public ErrorCode Validate(MembershipChange change, ulong nodeId, ReadOnlySpan<byte> context)
    {
        if (_removed.Contains(nodeId))
        {
            return ErrorCode.MemberNotFound;
        }

        _members.TryGetValue(nodeId, out ClusterMember? existing);
        switch (change)
        {
            case MembershipChange.AddNode:
            case MembershipChange.AddLearnerNode:
                ClusterMember added = ClusterMember.ParseJson(context, out bool isPromote);
                if (isPromote)
                {
                    return existing is null ? ErrorCode.MemberNotFound
                        : existing.IsLearner ? ErrorCode.None
                        : ErrorCode.MemberNotLearner;
                }

                if (existing is not null)
                {
                    return ErrorCode.MemberExists;
                }

                if (UsesPeerUrlOfAnother(added.PeerUrls, nodeId))
                {
                    return ErrorCode.PeerUrlExists;
                }

                return added.IsLearner && CountLearners() >= _maxLearners ? ErrorCode.TooManyLearners : ErrorCode.None;

            case MembershipChange.RemoveNode:
                return existing is null ? ErrorCode.MemberNotFound : ErrorCode.None;

            case MembershipChange.UpdateNode:
                if (existing is null)
                {
                    return ErrorCode.MemberNotFound;
                }

                return UsesPeerUrlOfAnother(ClusterMember.ParseJson(context).PeerUrls, nodeId)
                    ? ErrorCode.PeerUrlExists
                    : ErrorCode.None;

            default:
                throw new InvalidDataException($"a configuration change of type {(int)change}, which is not known");
        }
    }

    /// <summary>
    /// Applies a ConfChange entry. If it is refused, raft must be given the change with NodeID 0 (a no-op), and the
    /// entry counts as applied all the same.
    /// </summary>
    /// <param name="change">Type of the ConfChange.</param>
    /// <param name="nodeId">Its NodeID.</param>
    /// <param name="context">Its Context.</param>
    /// <param name="writer">Takes bucket changes; null when the tree already holds this entry.</param>
    /// <returns>None, or why it is refused.</returns>
    /// <exception cref="InvalidDataException">The context cannot be understood, or names another node.</exception>
    public ErrorCode ApplyConfChange(
        MembershipChange change, ulong nodeId, ReadOnlySpan<byte> context, IBucketWriter? writer)
    {
        ErrorCode error = Validate(change, nodeId, context);
        if (error != ErrorCode.None)
        {
            return error;
        }

        switch (change)
        {
            case MembershipChange.RemoveNode:
                _members.Remove(nodeId);
                _removed.Add(nodeId);
                byte[] key = Key(nodeId);
                writer?.Delete(BucketId.Members, key);
                writer?.Put(BucketId.MembersRemoved, key, "removed"u8);
                Publish();
                break;

            case MembershipChange.UpdateNode:
                // Only the peer URLs: an update must not promote a learner by what it leaves out.
                IReadOnlyList<string> urls = ClusterMember.ParseJson(context).PeerUrls;
                Store(_members[nodeId] with { PeerUrls = urls }, writer);
                break;

            default:
                ClusterMember member = ClusterMember.ParseJson(context, out bool isPromote);
                if (member.Id != nodeId)
                {
                    throw new InvalidDataException(
                        $"a configuration change for node {nodeId:x} carries member {member.Id:x}");
                }

                Store(isPromote ? _members[nodeId] with { IsLearner = false } : member, writer);
                break;
        }

        return ErrorCode.None;
    }

    /// <summary>Applies cluster_version_set (entry field 1300).</summary>
    /// <exception cref="InvalidDataException">Not a version.</exception>
    public void ApplyClusterVersion(ReadOnlySpan<byte> body, IBucketWriter? writer)
    {
        Require(ClusterVersionSetRequest.TryParse(body, out ClusterVersionSetRequest request), "cluster_version_set");
        SetVersion(Encoding.UTF8.GetString(request.Version), writer);
    }

    /// <summary>Applies cluster_member_attr_set (entry field 1301).</summary>
    /// <exception cref="InvalidDataException">Not that message, or a member nobody knows.</exception>
    public void ApplyMemberAttributes(ReadOnlySpan<byte> body, IBucketWriter? writer)
    {
        Require(ClusterMemberAttrSetRequest.TryParse(body, out ClusterMemberAttrSetRequest request), "cluster_member_attr_set");
        var clientUrls = new List<string>();
        foreach (ReadOnlySpan<byte> url in request.ClientUrls)
        {
            clientUrls.Add(Encoding.UTF8.GetString(url));
        }

        SetAttributes(request.MemberId, Encoding.UTF8.GetString(request.Name), clientUrls, writer);
    }

    /// <summary>Applies downgrade_info_set (entry field 1302).</summary>
    /// <exception cref="InvalidDataException">Not that message.</exception>
    public void ApplyDowngrade(ReadOnlySpan<byte> body, IBucketWriter? writer)
    {
        Require(DowngradeInfoSetRequest.TryParse(body, out DowngradeInfoSetRequest request), "downgrade_info_set");
        _downgrade = request.Enabled ? new DowngradeInfo(true, Encoding.UTF8.GetString(request.Version)) : DowngradeInfo.None;
        if (writer is not null)
        {
            var buffer = new ArrayBufferWriter<byte>();
            var json = new GoJsonWriter(buffer);
            json.Raw("{\"target-version\":"u8);
            json.String(_downgrade.TargetVersion);
            json.Raw(",\"enabled\":"u8);
            json.Boolean(_downgrade.Enabled);
            json.Raw("}"u8);
            writer.Put(BucketId.Cluster, "downgrade"u8, buffer.WrittenSpan);
        }

        Publish();
    }

    /// <summary>Applies a request of API v2: the three that 3.4 and 3.5 log.</summary>
    /// <exception cref="InvalidDataException">Any other request: its data would be lost.</exception>
    public void ApplyV2(in V2Request request, IBucketWriter? writer)
    {
        if (request.Method.SequenceEqual("SYNC"u8))
        {
            // Expires keys of API v2, of which there are none.
            return;
        }

        string path = Encoding.UTF8.GetString(request.Path);
        if (request.Method.SequenceEqual("PUT"u8))
        {
            if (path == "/0/version")
            {
                SetVersion(Encoding.UTF8.GetString(request.Val), writer);
                return;
            }

            if (path.Length > AttributesPrefix.Length + AttributesSuffix.Length
                && path.StartsWith(AttributesPrefix, StringComparison.Ordinal)
                && path.EndsWith(AttributesSuffix, StringComparison.Ordinal)
                && MemberIds.TryParse(
                    path.AsSpan(AttributesPrefix.Length..^AttributesSuffix.Length), out ulong id))
            {
                ClusterMember attributes = ClusterMember.ParseJson(request.Val);
                SetAttributes(id, attributes.Name, attributes.ClientUrls, writer);
                return;
            }
        }

        throw new InvalidDataException(
            $"a request of API v2, {Encoding.UTF8.GetString(request.Method)} {path}, which no version from 3.6 on knows");
    }

    /// <summary>Appends the v2 store of the present state, as a <c>.snap</c> file holds it.</summary>
    public void WriteV2Store(IBufferWriter<byte> output) => V2Store.Write(output, _view);

    private static byte[] Key(ulong id) => Encoding.ASCII.GetBytes(MemberIds.ToText(id));

    private static void Require(bool holds, string message)
    {
        if (!holds)
        {
            throw new InvalidDataException($"the entry is not a {message} message");
        }
    }

    private void SetVersion(string version, IBucketWriter? writer)
    {
        if (!SemanticVersion.TryParse(version, out SemanticVersion parsed))
        {
            throw new InvalidDataException($"cluster version \"{version}\" is not MAJOR.MINOR.PATCH");
        }

        _version = parsed.ToString();
        writer?.Put(BucketId.Cluster, "clusterVersion"u8, Encoding.ASCII.GetBytes(_version));
        Publish();
    }

    private void SetAttributes(ulong id, string name, IReadOnlyList<string> clientUrls, IBucketWriter? writer)
    {
        if (_members.TryGetValue(id, out ClusterMember? member))
        {
            Store(member with { Name = name, ClientUrls = clientUrls }, writer);
        }
        else if (!_removed.Contains(id))
        {
            throw new InvalidDataException($"attributes for member {id:x}, which was never added");
        }
    }

    private void Store(ClusterMember member, IBucketWriter? writer)
    {
        _members[member.Id] = member;
        writer?.Put(BucketId.Members, Key(member.Id), member.ToJson());
        Publish();
    }

    private int CountLearners()
    {
        int learners = 0;
        foreach (ClusterMember member in _members.Values)
        {
            learners += member.IsLearner ? 1 : 0;
        }

        return learners;
    }

    private bool UsesPeerUrlOfAnother(IReadOnlyList<string> urls, ulong id)
    {
        foreach (ClusterMember member in _members.Values)
        {
            if (member.Id == id)
            {
                continue;
            }

            foreach (string taken in member.PeerUrls)
            {
                foreach (string url in urls)
                {
                    if (string.Equals(url, taken, StringComparison.Ordinal))
                    {
                        return true;
                    }
                }
            }
        }

        return false;
    }

    private void Publish()
    {
        var members = new ClusterMember[_members.Count];
        _members.Values.CopyTo(members, 0);
        ulong[] removed = new ulong[_removed.Count];
        _removed.CopyTo(removed);
        Volatile.Write(ref _view, new ClusterView(members, removed, _version, _downgrade));
    }

    private struct RestoreVisitor(Cluster cluster) : IBucketVisitor
    {
        public BucketId Bucket;

        public readonly void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            switch (Bucket)
            {
                case BucketId.Cluster when key.SequenceEqual("clusterVersion"u8):
                    cluster._version = Encoding.UTF8.GetString(value);
                    break;

                case BucketId.Cluster when key.SequenceEqual("downgrade"u8):
                    cluster._downgrade = DowngradeJson.Parse(value);
                    break;

                case BucketId.Members:
                    ClusterMember member = ClusterMember.ParseJson(value);
                    if (!MemberIds.TryParse(key, out ulong id) || id != member.Id)
                    {
                        throw new InvalidDataException(
                            $"bucket members: key {Encoding.UTF8.GetString(key)} holds member {member.Id:x}");
                    }

                    cluster._members[id] = member;
                    break;

                case BucketId.MembersRemoved:
                    if (!MemberIds.TryParse(key, out ulong removedId))
                    {
                        throw new InvalidDataException(
                            $"bucket members_removed: key {Encoding.UTF8.GetString(key)} is not an id");
                    }

                    cluster._removed.Add(removedId);
                    break;

                default:
                    break;
            }
        }
    }
}
