// BootstrapDecision: how a member begins, from what is on its disk and what it was told (behaviour.md §1.3). Pure: the whole
// table is in Of, and every row has a test.
using Cairn.Core.Server;

namespace Cairn.Net.Bootstrap;

/// <summary>The ways to begin.</summary>
internal enum BootstrapKind
{
    /// <summary>A new cluster of the members of --initial-cluster.</summary>
    NewStatic,

    /// <summary>A new cluster whose members come from DNS.</summary>
    NewFromDns,

    /// <summary>A new cluster whose members register at another etcd.</summary>
    NewFromToken,

    /// <summary>A running cluster to which this member was added.</summary>
    Join,

    /// <summary>The data directory says everything.</summary>
    Restart,

    /// <summary>The same, and then this member alone is the cluster.</summary>
    RestartAlone,

    /// <summary>It must not begin; the reason is beside it.</summary>
    Refuse,
}

/// <summary>What the decision rests on.</summary>
/// <param name="HasWal">The log directory holds a log.</param>
/// <param name="State">--initial-cluster-state.</param>
/// <param name="HasInitialCluster">--initial-cluster names somebody.</param>
/// <param name="HasDns">--discovery-srv.</param>
/// <param name="HasToken">--discovery-token.</param>
/// <param name="IsForced">--force-new-cluster.</param>
internal readonly record struct BootstrapFacts(
    bool HasWal, InitialClusterState State, bool HasInitialCluster, bool HasDns, bool HasToken, bool IsForced);

/// <summary>The decision.</summary>
/// <param name="Kind">What to do.</param>
/// <param name="Refusal">Why not, when <see cref="BootstrapKind.Refuse"/>; in etcd's words.</param>
/// <param name="Warning">What is ignored; empty for nothing.</param>
internal readonly record struct BootstrapDecision(BootstrapKind Kind, string Refusal = "", string Warning = "")
{
    public static BootstrapDecision Of(BootstrapFacts facts)
    {
        if (facts.HasWal)
        {
            string warning = facts.HasToken || facts.HasDns
                ? "discovery is ignored since this member is already initialized"
                : "";
            return new BootstrapDecision(facts.IsForced ? BootstrapKind.RestartAlone : BootstrapKind.Restart, "", warning);
        }

        // Members found by DNS are an initial cluster like one that was given; only the token is discovery.
        if (facts.State == InitialClusterState.Existing)
        {
            return facts.HasToken
                ? new BootstrapDecision(
                    BootstrapKind.Refuse, "discovery URL should not be set when joining existing initial cluster")
                : new BootstrapDecision(BootstrapKind.Join);
        }

        if (facts.HasToken)
        {
            return new BootstrapDecision(BootstrapKind.NewFromToken);
        }

        if (facts.HasDns)
        {
            return new BootstrapDecision(BootstrapKind.NewFromDns);
        }

        return facts.HasInitialCluster
            ? new BootstrapDecision(BootstrapKind.NewStatic)
            : new BootstrapDecision(BootstrapKind.Refuse, "initial cluster unset and no discovery endpoints found");
    }
}
