// Member.Views: state of a member that the front end shows. Immutable snapshots, published by the store thread,
// read by any thread; taking one allocates nothing.
using System;
using System.Collections.Generic;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>One member of the cluster as clients see it.</summary>
public sealed record MemberInfo(
    ulong Id, string Name, IReadOnlyList<string> PeerUrls, IReadOnlyList<string> ClientUrls, bool IsLearner);

/// <summary>One raised alarm; <paramref name="Kind"/> 1 is NOSPACE, 2 is CORRUPT.</summary>
public readonly record struct AlarmInfo(ulong MemberId, int Kind);

public sealed partial class Member
{
    /// <summary>The store, for reads on pinned Views and for hashes.</summary>
    public MvccStore Store => throw new NotImplementedException();

    /// <summary>The members, in the order of their ids.</summary>
    public IReadOnlyList<MemberInfo> Members => throw new NotImplementedException();

    /// <summary>The raised alarms, in the order etcd lists them.</summary>
    public IReadOnlyList<AlarmInfo> Alarms => throw new NotImplementedException();

    /// <summary>The cluster version such as <c>3.5.0</c>; empty before it is decided.</summary>
    public string ClusterVersion => throw new NotImplementedException();

    /// <summary>The storage version such as <c>3.6.0</c>; empty while the directory carries none.</summary>
    public string StorageVersion => throw new NotImplementedException();
}
