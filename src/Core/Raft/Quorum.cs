// Quorum: majorities of one or two halves. Pure functions.
//
// A set of n voters agrees on the value at position n-(n/2+1) of its values in ascending order: the highest that a
// majority has reached. An empty set agrees on anything, so that a configuration whose outgoing half is empty is
// decided by its incoming half; both halves must agree, so the smaller of the two counts.
using System;

namespace Cairn.Core.Raft;

/// <summary>How an election stands.</summary>
public enum VoteResult : byte
{
    /// <summary>Undecided.</summary>
    Pending,

    /// <summary>A majority of both halves said yes.</summary>
    Won,

    /// <summary>One half can no longer reach a majority.</summary>
    Lost,
}

/// <summary>Majority arithmetic.</summary>
internal static class Quorum
{
    /// <summary>The highest value that a majority has reached. Sorts its argument. Empty: ulong.MaxValue.</summary>
    public static ulong Majority(Span<ulong> values)
    {
        if (values.IsEmpty)
        {
            return ulong.MaxValue;
        }

        values.Sort();
        return values[values.Length - ((values.Length / 2) + 1)];
    }

    /// <summary>How one half votes.</summary>
    public static VoteResult Votes(int voters, int yes, int no)
    {
        if (voters == 0)
        {
            return VoteResult.Won;
        }

        int needed = (voters / 2) + 1;
        return yes >= needed ? VoteResult.Won : voters - no < needed ? VoteResult.Lost : VoteResult.Pending;
    }

    /// <summary>Both halves together.</summary>
    public static VoteResult Both(VoteResult incoming, VoteResult outgoing) =>
        incoming == VoteResult.Lost || outgoing == VoteResult.Lost ? VoteResult.Lost
        : incoming == VoteResult.Won && outgoing == VoteResult.Won ? VoteResult.Won
        : VoteResult.Pending;
}
