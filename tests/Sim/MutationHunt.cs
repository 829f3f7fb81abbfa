// MutationHunt: puts each known bug into the code and counts the seeds until a rule breaks. A mutation that survives is a
// hole in the simulator.
//
// Trials begin at different seeds, so that median and 95th percentile mean something. Settings are those of clean runs.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Simulation;

internal static class MutationHunt
{
    /// <summary>Bugs that live where core-level runs can see them.</summary>
    public static Mutation[] CoreLevel { get; } =
    [
        Mutation.AppendAnswerBeforeSync,
        Mutation.VoteAnswerBeforeSync,
        Mutation.VoteForgottenOnRestart,
        Mutation.VoteRequestBeforeSync,
        Mutation.LeaderCountsItselfBeforeSync,
        Mutation.ApplyBeforeSync,
        Mutation.CommitOfOlderTermByCounting,
        Mutation.TruncateOnEveryAppend,
        Mutation.HeartbeatCommitNotLimited,
        Mutation.AppendCommitNotLimited,
        Mutation.WalAcknowledgementAfterTruncation,
        Mutation.ReadWithoutOwnTermCommit,
        Mutation.SoleVoterReadWithoutOwnTermCommit,
        Mutation.ReadJoinsRunningRound,
        Mutation.ReadNumberReused,
        Mutation.ReadsSurviveLeaderChange,
        Mutation.CampaignWithUnappliedChange,
        Mutation.TwoPendingChanges,
        Mutation.ChangeWithoutCommitBeforeIt,
        Mutation.TwoVotersInOneChange,
        Mutation.PreCandidateKeepsLeader,
        Mutation.NoAnswerToOldPreVote,
        Mutation.FullWindowSendsNothing,
        Mutation.SecondSnapshotWhileInstalling,
        Mutation.ForwardedTwiceAppendedTwice,
        Mutation.ConflictBelowCommitAccepted,
        Mutation.HigherTermVoteDuringLease,
        Mutation.LogNotComparedOnVote,
        Mutation.SnapshotOutcomeNotReported,
    ];

    /// <summary>Bugs of log, tree, server, watch and leases: runs of whole members see them.</summary>
    public static Mutation[] MemberLevel { get; } =
    [
        Mutation.LogDurableWhenWritten,
        Mutation.FailedSyncRetried,
        Mutation.RecoveredTailNotSettled,
        Mutation.LogReleasedBeforeMarker,
        Mutation.AppliedIndexBeforeEffects,
        Mutation.PagesReusedWhileRead,
        Mutation.CompactionSwallowsDelete,
        Mutation.CompactionNotResumed,
        Mutation.ReadServedBeforeApplied,
        Mutation.InstalledBeforeLive,
        Mutation.WatchersRestartAfterSnapshot,
        Mutation.ProgressAheadOfStream,
        Mutation.FutureWatchEmitsOld,
        Mutation.SlowBatchDropped,
        Mutation.CompactionOvertakesWatchers,
        Mutation.DeposedLeaderKeepsLeases,
        Mutation.LeaseTimeNotExtended,
        Mutation.LeasesForgottenOnInstall,
    ];

    /// <summary>Seeds until caught, or null within the bound.</summary>
    public static (int? Seeds, string Rule, long Cpu) Hunt(Mutation mutation, ulong firstSeed, int bound)
    {
        long start = Stopwatch.GetTimestamp();
        var coverage = new Coverage();
        for (int i = 0; i < bound; i++)
        {
            ulong seed = firstSeed + (ulong)i;
            RunOutcome outcome = Array.IndexOf(MemberLevel, mutation) >= 0
                ? SimRun.Whole(MemberSwarm.Draw(seed), null, mutation, coverage, null)
                : SimRun.Core(SwarmConfig.Draw(seed), null, mutation, coverage, null);
            if (outcome.Failure is not null)
            {
                return (i + 1, outcome.RuleBroken, Stopwatch.GetTimestamp() - start);
            }
        }

        return (null, string.Empty, Stopwatch.GetTimestamp() - start);
    }

    public static int Run(SimOptions options)
    {
        int survived = 0;
        Console.WriteLine("mutation                               median    p95    max   cpu s/trial   caught by");
        foreach (Mutation mutation in (Mutation[])[.. CoreLevel, .. MemberLevel])
        {
            // --members alone: those of whole members; a name: only that one.
            bool isWanted = options.Mutation != Mutation.None ? options.Mutation == mutation
                : !options.Members || Array.IndexOf(MemberLevel, mutation) >= 0;
            if (!isWanted)
            {
                continue;
            }

            var found = new List<int>();
            var rules = new SortedDictionary<string, int>(StringComparer.Ordinal);
            long spent = 0;
            int missed = 0;
            for (int trial = 0; trial < options.Trials && missed == 0; trial++)
            {
                (int? seeds, string rule, long ticks) = Hunt(
                    mutation, 1 + ((ulong)trial * 1_000_000), (int)Math.Min(options.Seeds, int.MaxValue));
                spent += ticks;
                if (seeds is null)
                {
                    missed++;
                    continue;
                }

                found.Add(seeds.Value);
                _ = rules.TryGetValue(rule, out int count);
                rules[rule] = count + 1;
            }

            found.Sort();
            survived += missed > 0 ? 1 : 0;
            string line = missed > 0
                ? string.Create(CultureInfo.InvariantCulture, $"{mutation,-38} SURVIVED {options.Seeds} seeds")
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"{mutation,-38} {found[found.Count / 2],6} {found[Math.Min(found.Count - 1, found.Count * 95 / 100)],6} {found[^1],6} {spent / (double)Stopwatch.Frequency / found.Count,13:f2}   {Describe(rules)}");
            Console.WriteLine(line);
        }

        Console.WriteLine(survived == 0 ? "none survived" : string.Create(CultureInfo.InvariantCulture, $"{survived} survived"));
        return survived == 0 ? 0 : 1;
    }

    private static string Describe(SortedDictionary<string, int> rules)
    {
        var parts = new List<string>();
        foreach ((string rule, int count) in rules)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"{rule} ({count})"));
        }

        return string.Join(", ", parts);
    }
}
