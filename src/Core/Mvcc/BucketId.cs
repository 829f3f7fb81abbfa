// BucketId: the ten buckets of etcd's backend schema, in byte order of their names.
using System;

namespace Cairn.Core.Mvcc;

/// <summary>One of the ten buckets; all ten exist, possibly empty, in every backend file.</summary>
public enum BucketId : byte
{
    /// <summary>Raised alarms: the marshalled AlarmMember as key, empty value.</summary>
    Alarm,

    /// <summary><c>authEnabled</c> and <c>authRevision</c>.</summary>
    Auth,

    /// <summary>Role name to authpb.Role.</summary>
    AuthRoles,

    /// <summary>User name to authpb.User.</summary>
    AuthUsers,

    /// <summary><c>clusterVersion</c> and <c>downgrade</c>.</summary>
    Cluster,

    /// <summary>Revision to mvccpb.KeyValue.</summary>
    Key,

    /// <summary>Lease id, int64 big-endian, to leasepb.Lease.</summary>
    Lease,

    /// <summary>Member id in unpadded hex to its JSON.</summary>
    Members,

    /// <summary>Member id in unpadded hex to the word <c>removed</c>.</summary>
    MembersRemoved,

    /// <summary>Consistent index, term, ConfState, compaction revisions, storage version.</summary>
    Meta,
}

/// <summary>Names of the buckets as they stand in the file.</summary>
public static class BucketNames
{
    /// <summary>How many buckets there are.</summary>
    public const int Count = 10;

    /// <summary>The name, ASCII.</summary>
    public static ReadOnlySpan<byte> Get(BucketId bucket) => bucket switch
    {
        BucketId.Alarm => "alarm"u8,
        BucketId.Auth => "auth"u8,
        BucketId.AuthRoles => "authRoles"u8,
        BucketId.AuthUsers => "authUsers"u8,
        BucketId.Cluster => "cluster"u8,
        BucketId.Key => "key"u8,
        BucketId.Lease => "lease"u8,
        BucketId.Members => "members"u8,
        BucketId.MembersRemoved => "members_removed"u8,
        BucketId.Meta => "meta"u8,
        _ => throw new ArgumentOutOfRangeException(nameof(bucket)),
    };
}
