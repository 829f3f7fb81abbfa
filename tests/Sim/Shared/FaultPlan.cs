// FaultPlan: the faults of one run as a list, drawn from the seed before it starts.
//
// Why a list  A run that fails is made smaller by leaving entries out; the rest keeps its times and its own numbers.
//             Faults that belong to single messages (loss, repeats, delay) are shares in SwarmConfig instead.
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Cairn.Simulation;

/// <summary>Kinds of faults. A member is named by a number that is taken modulo the members there are.</summary>
internal enum FaultKind : byte
{
    /// <summary>The process dies; what it had written to the page cache survives. Back after the duration.</summary>
    Kill,

    /// <summary>The machine loses power: of what was not synced, a drawn part survives.</summary>
    PowerCut,

    /// <summary>All machines lose power at once.</summary>
    PowerCutAll,

    /// <summary>One after the other is killed and comes back.</summary>
    RollingRestart,

    /// <summary>The leader of that moment is killed.</summary>
    KillLeader,

    /// <summary>Nothing of the member runs.</summary>
    Pause,

    /// <summary>Only its disk stands still.</summary>
    DiskStall,

    /// <summary>Only its store stands still.</summary>
    StoreStall,

    /// <summary>Two halves that do not hear each other.</summary>
    Split,

    /// <summary>Each member falls into one of several groups.</summary>
    Shatter,

    /// <summary>One member hears nobody and is heard by nobody.</summary>
    Isolate,

    /// <summary>The same for the leader of that moment.</summary>
    IsolateLeader,

    /// <summary>Two halves that meet in one member only.</summary>
    Bridge,

    /// <summary>One direction of one link is dead.</summary>
    OneWay,

    /// <summary>One link goes up and down about as fast as elections time out.</summary>
    Flap,

    /// <summary>One link holds everything back, then lets go.</summary>
    Clog,

    /// <summary>Connections of one member break: what is under way is lost, or comes after the reconnect.</summary>
    Reset,

    /// <summary>A member is added: voter or learner.</summary>
    AddMember,

    PromoteMember,

    RemoveMember,

    RemoveLeader,

    /// <summary>Several changes in one, by way of a joint configuration.</summary>
    JointChange,

    TransferLeader,

    ForgetLeader,

    /// <summary>A member makes a snapshot and forgets the log behind it.</summary>
    Compact,

    /// <summary>A sync of the member's disk fails once.</summary>
    FailSync,

    /// <summary>The member's disk is full for a while.</summary>
    DiskFull,

    /// <summary>A member stops in an orderly way and starts again.</summary>
    CleanRestart,
}

/// <summary>One fault.</summary>
/// <param name="AtNs">When, from the start of the run.</param>
/// <param name="Kind">What.</param>
/// <param name="Target">With whom.</param>
/// <param name="DurationNs">How long.</param>
/// <param name="Salt">Seeds whatever else the fault draws.</param>
internal readonly record struct Fault(long AtNs, FaultKind Kind, int Target, long DurationNs, ulong Salt)
{
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{AtNs / 1e6:f3}ms {Kind} target {Target} for {DurationNs / 1e6:f3}ms salt {Salt:x}");
}

internal static class FaultPlan
{
    public const int KindCount = (int)FaultKind.CleanRestart + 1;

    /// <summary>Draws the faults of a run.</summary>
    /// <param name="classes">Bit per kind that may occur.</param>
    /// <param name="count">How many.</param>
    /// <param name="withinNs">Until when they begin.</param>
    /// <param name="electionNs">Length of an election timeout: what durations are measured in.</param>
    /// <param name="random">Where from.</param>
    public static List<Fault> Draw(ulong classes, int count, long withinNs, long electionNs, SimRandom random)
    {
        var kinds = new List<FaultKind>();
        for (int i = 0; i < KindCount; i++)
        {
            if ((classes & (1UL << i)) != 0)
            {
                kinds.Add((FaultKind)i);
            }
        }

        var faults = new List<Fault>(count);
        for (int i = 0; i < count && kinds.Count > 0; i++)
        {
            FaultKind kind = kinds[random.Below(kinds.Count)];
            long scale = random.Below(4) switch { 0 => electionNs / 10, 1 => electionNs, 2 => electionNs * 3, _ => electionNs * 8 };
            faults.Add(new Fault(
                random.Below(withinNs), kind, random.Below(1 << 16), 1 + random.Below(scale), random.NextUInt64()));
        }

        faults.Sort(static (a, b) => a.AtNs != b.AtNs ? a.AtNs.CompareTo(b.AtNs) : a.Salt.CompareTo(b.Salt));
        return faults;
    }

    public static string Describe(IReadOnlyList<Fault> faults)
    {
        var text = new StringBuilder();
        for (int i = 0; i < faults.Count; i++)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"  [{i}] {faults[i]}\n");
        }

        return text.ToString();
    }
}
