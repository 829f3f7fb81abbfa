// Member.Views: state of a member that the front end shows. Immutable snapshots, published by the store thread,
// read by any thread; taking one allocates nothing.
using System;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

public sealed partial class Member
{
    /// <summary>The store, for reads on pinned Views and for hashes.</summary>
    public MvccStore Store => throw new NotImplementedException();

    /// <summary>The members and the cluster version.</summary>
    public ClusterView ClusterView => throw new NotImplementedException();

    /// <summary>The raised alarms.</summary>
    public AlarmList Alarms => throw new NotImplementedException();

    /// <summary>The storage version such as <c>3.6.0</c>; empty while the directory carries none.</summary>
    public string StorageVersion => throw new NotImplementedException();
}
