// Replay: applies the entries of a log to leases, auth, alarms and membership only, the key space left out. What a
// member does at start, in its plainest form: the buckets it leaves must be those that etcd left.
using System.Buffers;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Auth;
using Cairn.Core.Leases;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;

namespace Cairn.Core.Tests.Support;

internal sealed class Replay : System.IDisposable
{
    private readonly LeaseKeySet _keys = new();

    public MemoryBuckets Buckets { get; } = new();

    public Lessor Lessor { get; } = new(minTtlSeconds: 2, hashSeed: 1);

    public AuthStore Auth { get; } = new();

    public AlarmStore Alarms { get; } = new();

    public Cluster Cluster { get; } = new(0, 0);

    /// <summary>Entries that were refused, by index.</summary>
    public SortedDictionary<ulong, ErrorCode> Refused { get; } = [];

    public void Apply(PlainEntry entry)
    {
        if (entry.Data.Length == 0)
        {
            return;
        }

        ErrorCode error = entry.Type == 1 ? ApplyConfChange(entry.Data) : ApplyNormal(entry);
        if (error != ErrorCode.None)
        {
            Refused.Add(entry.Index, error);
        }
    }

    public void Dispose()
    {
        _keys.Dispose();
        Lessor.Dispose();
    }

    private ErrorCode ApplyConfChange(byte[] data)
    {
        int type = 0;
        ulong node = 0;
        byte[] context = [];
        var reader = new ProtoReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 2:
                    type = reader.ReadInt32();
                    break;
                case 3:
                    node = reader.ReadVarint();
                    break;
                case 4:
                    context = reader.ReadBytes().ToArray();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return Cluster.ApplyConfChange((MembershipChange)type, node, context, Buckets);
    }

    private ErrorCode ApplyNormal(PlainEntry entry)
    {
        Xunit.Assert.True(InternalRaftRequest.TryParse(entry.Data, out InternalRaftRequest request));
        var who = new AuthInfo(request.Username, request.AuthRevision);
        ErrorCode error = Alarms.Judge(request.Kind, request.Body);
        error = error == ErrorCode.None
            ? EntryAuthorizer.Authorize(Auth, request.Kind, request.Body, who, Lessor)
            : error;
        if (error != ErrorCode.None)
        {
            return error;
        }

        var response = new ArrayBufferWriter<byte>();
        switch (request.Kind)
        {
            case RequestKind.LeaseGrant:
                return Lessor.ApplyGrant(request.Body, Buckets, out _);
            case RequestKind.LeaseRevoke:
                return Lessor.ApplyRevoke(request.Body, Buckets, _keys);
            case RequestKind.LeaseCheckpoint:
                return Lessor.ApplyCheckpoint(request.Body, Buckets, persist: false);
            case RequestKind.Alarm:
                return Alarms.Apply(request.Body, Buckets, response);
            case RequestKind.V2:
                Xunit.Assert.True(V2Request.TryParse(request.Body, out V2Request v2));
                Cluster.ApplyV2(v2, Buckets);
                return ErrorCode.None;
            case RequestKind.ClusterVersionSet:
                Cluster.ApplyClusterVersion(request.Body, Buckets);
                return ErrorCode.None;
            case RequestKind.ClusterMemberAttrSet:
                Cluster.ApplyMemberAttributes(request.Body, Buckets);
                return ErrorCode.None;
            case RequestKind.DowngradeInfoSet:
                Cluster.ApplyDowngrade(request.Body, Buckets);
                return ErrorCode.None;
            default:
                return AuthStore.Applies(request.Kind)
                    ? Auth.Apply(request.Kind, request.Body, entry.Index, Buckets, response)
                    : ErrorCode.None;
        }
    }
}
