// ReconfigChecks: whether a change of membership may be proposed now (behaviour.md §8). Pure; asked on the member that got
// the request, from its own view. What must hold at apply is judged again there (Membership/Cluster.Validate).
using System;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>The strict checks of membership changes.</summary>
/// <param name="view">The members.</param>
/// <param name="localId">Who asks; always connected to itself.</param>
/// <param name="isConnected">Whether a member has been connected for the health interval.</param>
internal sealed class ReconfigChecks(ClusterView view, ulong localId, Func<ulong, bool> isConnected)
{
    /// <summary>A link counts when it is this old, ns (etcd's health interval).</summary>
    internal const long HealthIntervalNs = 5_000_000_000;

    /// <summary>Adding a voter or a learner.</summary>
    internal ErrorCode Add(bool isLearner)
    {
        int voters = 0, started = 0, connected = 0;
        foreach (ClusterMember member in view.Members)
        {
            if (!member.IsLearner)
            {
                voters++;
                started += IsStarted(member) ? 1 : 0;
                connected += IsUp(member.Id) ? 1 : 0;
            }
        }

        if (!isLearner)
        {
            // One started member alone may always grow: refusing would leave it alone for ever.
            bool isFirst = started == 1 && voters == 1;
            if (!isFirst && started < Quorum(voters + 1))
            {
                return ErrorCode.MemberNotEnoughStarted;
            }
        }

        return voters == 1 || connected >= Quorum(voters + 1) ? ErrorCode.None : ErrorCode.Unhealthy;
    }

    internal ErrorCode Remove(ulong id)
    {
        ClusterMember? target = view.Find(id);
        if (target is null || target.IsLearner)
        {
            return ErrorCode.None; // the first is judged at apply, a learner counts for nothing
        }

        int voters = 0, remaining = 0, started = 0, connected = 0;
        foreach (ClusterMember member in view.Members)
        {
            if (member.IsLearner)
            {
                continue;
            }

            voters++;
            connected += IsUp(member.Id) ? 1 : 0;
            if (member.Id != id)
            {
                remaining++;
                started += IsStarted(member) ? 1 : 0;
            }
        }

        if (remaining == 0 || started < Quorum(remaining))
        {
            return ErrorCode.MemberNotEnoughStarted;
        }

        if (!IsUp(id))
        {
            return ErrorCode.None; // one that is down takes nothing away
        }

        return connected - 1 >= 1 + ((voters - 1) / 2) ? ErrorCode.None : ErrorCode.Unhealthy;
    }

    /// <summary>Promoting a learner, as far as the members' starts go; whether it is in sync the leader knows.</summary>
    internal ErrorCode Promote(ulong id)
    {
        if (view.Find(id) is not { IsLearner: true })
        {
            return ErrorCode.None;
        }

        int voters = 1, started = 1; // it has started: only its log can be told to be in sync
        foreach (ClusterMember member in view.Members)
        {
            if (!member.IsLearner)
            {
                voters++;
                started += IsStarted(member) ? 1 : 0;
            }
        }

        return started >= Quorum(voters) ? ErrorCode.None : ErrorCode.MemberNotEnoughStarted;
    }

    private static bool IsStarted(ClusterMember member) => member.Name.Length != 0;

    private static int Quorum(int voters) => (voters / 2) + 1;

    private bool IsUp(ulong id) => id == localId || isConnected(id);
}
