// TreeFigures: how long commits take, for the metrics page. Counted by the tree thread, read by any.
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>
/// Durations of commits and their parts. The pauses that a paced commit makes on purpose are not in them: what is
/// shown is the time that work and disk took.
/// </summary>
public sealed class TreeFigures
{
    private const double Nanoseconds = 1e9;
    private static readonly long[] s_bounds = Distribution.Doubling(1_000_000, 14);

    /// <summary>Whole commits.</summary>
    public OwnedDistribution Commit { get; } = new(s_bounds, Nanoseconds);

    /// <summary>Merging nodes that became too empty.</summary>
    public OwnedDistribution Rebalance { get; } = new(s_bounds, Nanoseconds);

    /// <summary>Cutting nodes and choosing their pages.</summary>
    public OwnedDistribution Spill { get; } = new(s_bounds, Nanoseconds);

    /// <summary>Writing and syncing pages and meta page.</summary>
    public OwnedDistribution Write { get; } = new(s_bounds, Nanoseconds);
}
