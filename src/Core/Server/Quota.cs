// Quota: when the space a member may use is used up. Pure. Decision 0041.
//
// What counts is what lives: pages the newest state reaches, plus what is on its way into pages (write buffers, requests in flight), so
// that a burst cannot run past the quota between two commits and room made by a compaction counts without a
// defragmentation. The file itself, free pages included, may reach twice the quota: pages can be free and yet too
// scattered for large values, and a long download pins them.
using Cairn.Btree;

namespace Cairn.Core.Server;

/// <summary>The comparison behind NOSPACE.</summary>
internal static class Quota
{
    /// <summary>True if the quota would be met with so many bytes more than the tree has now.</summary>
    /// <param name="quotaBytes"><see cref="long.MaxValue"/> for none.</param>
    /// <param name="tree">Any thread.</param>
    /// <param name="moreBytes">Not yet in the tree.</param>
    internal static bool IsMet(long quotaBytes, Tree tree, long moreBytes) =>
        quotaBytes != long.MaxValue
        && (tree.LiveBytes + moreBytes >= quotaBytes || tree.HighWaterBytes + moreBytes >= FileLimit(quotaBytes));

    /// <summary>How long the file may become, bytes.</summary>
    internal static long FileLimit(long quotaBytes) => quotaBytes > long.MaxValue / 2 ? long.MaxValue : 2 * quotaBytes;
}
