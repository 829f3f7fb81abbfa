// Shrinker: makes a failing run smaller while it still breaks the same rule: fewer faults, fewer operations, fewer members.
//
// What it finds is written as a command: the seed, which faults of its plan are left, and which changes were made to its
// configuration, in order (--keep, --change).
//
// Delta debugging over the list of faults (halves, then quarters, … then one by one), then the operations are halved,
// then message faults and knobs are switched off one at a time. The seed stays, so every stream of randomness does too.
using System;
using System.Collections.Generic;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Simulation;

internal static class Shrinker
{
    private const int MaxRuns = 400;

    public static string Run(RunOutcome failed, SimOptions options)
    {
        string rule = failed.RuleBroken;
        if (failed.Members is { } members)
        {
            Reduced<MemberSwarm> small = Reduce(
                members, failed.Plan, s_memberChanges,
                (config, faults) => SimRun.Whole(config, faults, options.Mutation, new Coverage(), null).RuleBroken == rule);
            return Describe(small, failed, options, $"{small.Config.Operations} operations, {small.Config.Members} members");
        }

        Reduced<SwarmConfig> core = Reduce(failed, options.Mutation);
        return Describe(
            core, failed, options, $"{core.Config.Operations} operations, {core.Config.Voters} voters, {core.Config.Clients} clients");
    }

    public static Reduced<SwarmConfig> Reduce(RunOutcome failed, Mutation mutation) => Reduce(
        failed.Config!, failed.Plan, s_changes,
        (config, faults) => SimRun.Core(config, faults, mutation, new Coverage(), null).RuleBroken == failed.RuleBroken);

    /// <summary>A configuration as a sequence of changes made it.</summary>
    public static SwarmConfig Apply(SwarmConfig config, IReadOnlyList<int> changes)
    {
        foreach (int change in changes)
        {
            config = s_changes[change](config);
        }

        return config;
    }

    /// <summary>The same for whole members.</summary>
    public static MemberSwarm Apply(MemberSwarm config, IReadOnlyList<int> changes)
    {
        foreach (int change in changes)
        {
            config = s_memberChanges[change](config);
        }

        return config;
    }

    private static string Describe<TConfig>(Reduced<TConfig> small, RunOutcome failed, SimOptions options, string sizes)
        where TConfig : class => string.Create(
        CultureInfo.InvariantCulture,
        $"smaller after {small.Runs} runs: {small.Faults.Count} of {failed.Plan.Count} faults, {sizes}\n{small.Config}\n{FaultPlan.Describe(small.Faults)}replay: dotnet run --project tests/Sim -c Release -- {(failed.Members is null ? "" : "--members ")}--seed {failed.Seed}{(options.Mutation == Mutation.None ? "" : " --mutation " + options.Mutation)} --keep {List(small.Kept)} --change {List(small.Changes)} --trace");

    private static string List(List<int> numbers) => numbers.Count == 0 ? "none" : string.Join(',', numbers);

    private static Reduced<TConfig> Reduce<TConfig>(
        TConfig config, IReadOnlyList<Fault> plan, Func<TConfig, TConfig>[] changes, Func<TConfig, List<Fault>, bool> isStillSo)
        where TConfig : class
    {
        var kept = new List<int>();
        for (int i = 0; i < plan.Count; i++)
        {
            kept.Add(i);
        }

        var made = new List<int>();
        int runs = 0;
        bool Fails(TConfig tried, List<int> left) => runs++ < MaxRuns && isStillSo(tried, left.ConvertAll(i => plan[i]));

        bool shrank = true;
        while (shrank && runs < MaxRuns)
        {
            shrank = false;
            for (int piece = Math.Max(1, kept.Count / 2); piece >= 1 && kept.Count > 0; piece /= 2)
            {
                for (int from = 0; from < kept.Count;)
                {
                    var without = new List<int>(kept);
                    without.RemoveRange(from, Math.Min(piece, kept.Count - from));
                    if (Fails(config, without))
                    {
                        kept = without;
                        shrank = true;
                    }
                    else
                    {
                        from += piece;
                    }
                }
            }

            for (int i = 0; i < changes.Length; i++)
            {
                TConfig smaller = changes[i](config);
                if (!smaller.Equals(config) && Fails(smaller, kept))
                {
                    config = smaller;
                    made.Add(i);
                    shrank = true;
                }
            }
        }

        return new Reduced<TConfig>(config, kept.ConvertAll(i => plan[i]), kept, made, runs);
    }

    private static readonly Func<MemberSwarm, MemberSwarm>[] s_memberChanges =
    [
        c => c with { Operations = Math.Max(1, c.Operations / 2) },
        c => c with { Clients = Math.Max(1, c.Clients / 2) },
        c => c with { WatchSessions = c.WatchSessions / 2 },
        c => c with { LeasePercent = 0 },
        c => c with { CompactPercent = 0 },
        c => c.Members > 3 ? c with { Members = 3 } : c with { Members = 1 },
        c => c with { Links = c.Links with { DropPermille = 0 } },
        c => c with { Links = c.Links with { RepeatPermille = 0 } },
        c => c with { Links = c.Links with { SlowPermille = 0 } },
        c => c with { SlowDiskPercent = 0 },
        c => c with { ClockErrorPermille = 0 },
        c => c with { SafetyNs = c.SafetyNs * 3 / 4 },
        c => c with { Keys = 1 },
    ];

    private static readonly Func<SwarmConfig, SwarmConfig>[] s_changes =
    [
        c => c with { Operations = Math.Max(1, c.Operations / 2) },
        c => c with { Operations = Math.Max(1, c.Operations - 1) },
        c => c with { Clients = Math.Max(1, c.Clients / 2) },
        c => c with { Learners = 0 },
        c => c.Voters > 3 ? c with { Voters = 3 } : c.Voters > 2 ? c with { Voters = 2 } : c with { Voters = 1 },
        c => c with { Links = c.Links with { DropPermille = 0 } },
        c => c with { Links = c.Links with { RepeatPermille = 0 } },
        c => c with { Links = c.Links with { SlowPermille = 0 } },
        c => c with { Links = c.Links with { Streams = true } },
        c => c with { Links = c.Links with { Capacity = 4096 } },
        c => c with { SlowDiskPercent = 0 },
        c => c with { ClockErrorPermille = 0 },
        c => c with { SafetyNs = c.SafetyNs * 3 / 4 },
        c => c with { Keys = 1 },
    ];
}

/// <summary>What is left of a failing run.</summary>
/// <param name="Config">Its configuration.</param>
/// <param name="Faults">Its faults.</param>
/// <param name="Kept">Their places in the plan of the seed.</param>
/// <param name="Changes">What was done to the configuration of the seed, in order.</param>
/// <param name="Runs">How many runs it took.</param>
internal sealed record Reduced<TConfig>(TConfig Config, List<Fault> Faults, List<int> Kept, List<int> Changes, int Runs);
