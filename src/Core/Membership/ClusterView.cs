// ClusterView: the membership after one entry, immutable, for any thread.
using System;

namespace Cairn.Core.Membership;

/// <summary>A downgrade under way.</summary>
/// <param name="Enabled">False: none, and the target is empty.</param>
/// <param name="TargetVersion">As 3.5.0.</param>
public readonly record struct DowngradeInfo(bool Enabled, string TargetVersion)
{
    public static DowngradeInfo None { get; } = new(false, string.Empty);
}

/// <summary>Members, removed ids, cluster version.</summary>
public sealed class ClusterView
{
    private readonly ClusterMember[] _members;
    private readonly ulong[] _removed;

    internal ClusterView(ClusterMember[] members, ulong[] removed, string version, DowngradeInfo downgrade)
    {
        _members = members;
        _removed = removed;
        Version = version;
        Downgrade = downgrade;
    }

    /// <summary>Ascending by id.</summary>
    public ReadOnlySpan<ClusterMember> Members => _members;

    /// <summary>Ids that may never come back, ascending.</summary>
    public ReadOnlySpan<ulong> Removed => _removed;

    /// <summary>As 3.5.0; empty while the cluster has not decided one.</summary>
    public string Version { get; }

    public DowngradeInfo Downgrade { get; }

    /// <summary>The member with this id, or null.</summary>
    public ClusterMember? Find(ulong id)
    {
        foreach (ClusterMember member in _members)
        {
            if (member.Id == id)
            {
                return member;
            }
        }

        return null;
    }

    public bool IsRemoved(ulong id) => Array.BinarySearch(_removed, id) >= 0;
}
