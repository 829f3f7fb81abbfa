// HashJudge: what the hashes of the members say about who is corrupt (behaviour.md §7). Pure.
using System.Collections.Generic;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>One member's answer.</summary>
internal readonly record struct PeerHash(ulong Member, HashKvResult Hash);

/// <summary>Compares hashes. A verdict is the members to raise CORRUPT for; 0 stands for "nobody knows which".</summary>
internal static class HashJudge
{
    /// <summary>
    /// The periodic check of a leader: its own hash before and after a read barrier, and the peers' at its revision.
    /// One alarm a pass: the first that is found.
    /// </summary>
    internal static List<ulong> Periodic(
        ulong self, in HashKvResult before, in HashKvResult after, IReadOnlyList<PeerHash> peers)
    {
        if (before.Hash != after.Hash && before.HashRevision == after.HashRevision
            && before.CompactRevision == after.CompactRevision)
        {
            return [self];
        }

        foreach (PeerHash peer in peers)
        {
            bool isAhead = peer.Hash.CurrentRevision > after.CurrentRevision
                || peer.Hash.CompactRevision > after.CompactRevision;
            bool differs = peer.Hash.CompactRevision == before.CompactRevision
                && peer.Hash.HashRevision == before.HashRevision && peer.Hash.Hash != before.Hash;
            if (isAhead || differs)
            {
                return [peer.Member];
            }
        }

        return [];
    }

    /// <summary>
    /// The hash of one compaction: those who differ from the majority, or nobody in particular when there is none.
    /// </summary>
    /// <param name="self">The leader.</param>
    /// <param name="own">Its hash.</param>
    /// <param name="peers">Those that answered with the same compaction before it.</param>
    /// <param name="members">How many members there are.</param>
    /// <param name="verdict">Whom to raise the alarm for.</param>
    /// <returns>True when everybody has confirmed: older compactions need no look.</returns>
    internal static bool Compaction(
        ulong self, in HashKvResult own, IReadOnlyList<PeerHash> peers, int members, out List<ulong> verdict)
    {
        verdict = [];
        Dictionary<uint, List<ulong>> byHash = new() { [own.Hash] = [self] };
        foreach (PeerHash peer in peers)
        {
            if (peer.Hash.HashRevision != own.HashRevision || peer.Hash.CompactRevision != own.CompactRevision)
            {
                continue;
            }

            if (!byHash.TryGetValue(peer.Hash.Hash, out List<ulong>? same))
            {
                byHash[peer.Hash.Hash] = same = [];
            }

            same.Add(peer.Member);
        }

        if (byHash.Count == 1)
        {
            return byHash[own.Hash].Count == members;
        }

        uint? majority = null;
        foreach ((uint hash, List<ulong> holders) in byHash)
        {
            if (holders.Count > members / 2)
            {
                majority = hash;
            }
        }

        if (majority is null)
        {
            verdict.Add(0);
            return false;
        }

        foreach ((uint hash, List<ulong> holders) in byHash)
        {
            if (hash != majority)
            {
                verdict.AddRange(holders);
            }
        }

        return false;
    }

    /// <summary>The check of a start: whoever has the same revision and compaction has the same hash.</summary>
    internal static List<ulong> Initial(in HashKvResult own, IReadOnlyList<PeerHash> peers)
    {
        List<ulong> differing = [];
        foreach (PeerHash peer in peers)
        {
            if (peer.Hash.CompactRevision == own.CompactRevision && peer.Hash.HashRevision == own.HashRevision
                && peer.Hash.Hash != own.Hash)
            {
                differing.Add(peer.Member);
            }
        }

        return differing;
    }
}
