// Shrinker: makes a failing run smaller while it still breaks the same rule: fewer faults, fewer operations, fewer members.
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
            (MemberSwarm small, List<Fault> plan, int tried) = Reduce(
                members, failed.Plan, s_memberChanges,
                (config, faults) => SimRun.Whole(config, faults, options.Mutation, new Coverage(), null).RuleBroken == rule);
            return Describe(tried, plan, failed.Plan.Count, $"{small.Operations} operations, {small.Members} members", small);
        }

        (SwarmConfig config, List<Fault> faults, int runs) = Reduce(failed, options.Mutation);
        return Describe(
            runs, faults, failed.Plan.Count, $"{config.Operations} operations, {config.Voters} voters, {config.Clients} clients", config);
    }

    public static (SwarmConfig Config, List<Fault> Faults, int Runs) Reduce(RunOutcome failed, Mutation mutation) => Reduce(
        failed.Config!, failed.Plan, s_changes,
        (config, faults) => SimRun.Core(config, faults, mutation, new Coverage(), null).RuleBroken == failed.RuleBroken);

    private static string Describe(int runs, List<Fault> faults, int before, string sizes, object config) => string.Create(
        CultureInfo.InvariantCulture,
        $"smaller after {runs} runs: {faults.Count} of {before} faults, {sizes}\n{config}\n{FaultPlan.Describe(faults)}");

    private static (TConfig Config, List<Fault> Faults, int Runs) Reduce<TConfig>(
        TConfig config, IReadOnlyList<Fault> plan, Func<TConfig, TConfig>[] changes, Func<TConfig, List<Fault>, bool> isStillSo)
        where TConfig : class
    {
        var faults = new List<Fault>(plan);
        int runs = 0;
        bool Fails(TConfig tried, List<Fault> left) => runs++ < MaxRuns && isStillSo(tried, left);

        bool shrank = true;
        while (shrank && runs < MaxRuns)
        {
            shrank = false;
            for (int piece = Math.Max(1, faults.Count / 2); piece >= 1 && faults.Count > 0; piece /= 2)
            {
                for (int from = 0; from < faults.Count;)
                {
                    var without = new List<Fault>(faults);
                    without.RemoveRange(from, Math.Min(piece, faults.Count - from));
                    if (Fails(config, without))
                    {
                        faults = without;
                        shrank = true;
                    }
                    else
                    {
                        from += piece;
                    }
                }
            }

            foreach (Func<TConfig, TConfig> change in changes)
            {
                TConfig smaller = change(config);
                if (!smaller.Equals(config) && Fails(smaller, faults))
                {
                    config = smaller;
                    shrank = true;
                }
            }
        }

        return (config, faults, runs);
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
