// TreeCheckResult: what a structure check saw. Immutable.
using System.Collections.Generic;

namespace Cairn.Btree;

/// <summary>Outcome of <see cref="Tree.Check"/>.</summary>
public sealed class TreeCheckResult
{
    internal TreeCheckResult(IReadOnlyList<string> errors, long pages, long entries, long buckets)
    {
        Errors = errors;
        ReachablePages = pages;
        Entries = entries;
        Buckets = buckets;
    }

    public bool IsOk => Errors.Count == 0;

    /// <summary>One sentence a finding; at most a hundred.</summary>
    public IReadOnlyList<string> Errors { get; }

    /// <summary>Pages reachable from the root, overflow pages included, metas not.</summary>
    public long ReachablePages { get; }

    /// <summary>Key-value pairs of all buckets, bucket headers not counted.</summary>
    public long Entries { get; }

    /// <summary>Named buckets at any depth.</summary>
    public long Buckets { get; }
}
