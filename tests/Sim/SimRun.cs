// SimRun: one seed from its number to its outcome, and sums over many.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using Cairn.Base;

namespace Cairn.Simulation;

/// <summary>What became of one seed.</summary>
internal sealed record RunOutcome(ulong Seed)
{
    public string Summary { get; init; } = string.Empty;

    public string? Failure { get; init; }

    public string RuleBroken { get; init; } = string.Empty;

    public ulong TraceHash { get; init; }

    public long Events { get; init; }

    public long SimulatedNs { get; init; }

    public long Completed { get; init; }

    public long Faults { get; init; }

    /// <summary>Of a run of cores.</summary>
    public SwarmConfig? Config { get; init; }

    /// <summary>Of a run of whole members.</summary>
    public MemberSwarm? Members { get; init; }

    public IReadOnlyList<Fault> Plan { get; init; } = [];

    public string Describe(SimOptions options) => string.Create(
        CultureInfo.InvariantCulture,
        $"FAILED {Summary}\n{Failure}\nreplay: dotnet run --project tests/Sim -c Release -- {(Members is null ? "" : "--members ")}--seed {Seed}{(options.Mutation == Mutation.None ? "" : " --mutation " + options.Mutation)} --trace (or --shrink)");
}

internal static class SimRun
{
    /// <summary>Runs a seed; a broken rule is in the outcome, never thrown.</summary>
    public static RunOutcome One(ulong seed, SimOptions options, Coverage coverage, TextWriter? trace)
    {
        RunOutcome outcome = Once(seed, options, coverage, trace);
        if (!options.Twice || outcome.Failure is not null)
        {
            return outcome;
        }

        RunOutcome again = Once(seed, options, new Coverage(), null);
        return again.TraceHash == outcome.TraceHash ? outcome : outcome with
        {
            RuleBroken = "determinism", Failure = "determinism: the second run differs: " + again.Summary,
        };
    }

    private static RunOutcome Once(ulong seed, SimOptions options, Coverage coverage, TextWriter? trace) =>
        options.Members
            ? Whole(Shrinker.Apply(MemberSwarm.Draw(seed), options.Changes), KeptOf(seed, options), options.Mutation, coverage, trace)
            : Core(Shrinker.Apply(SwarmConfig.Draw(seed), options.Changes), KeptOf(seed, options), options.Mutation, coverage, trace);

    /// <summary>The faults of a seed's plan that are to be kept; null: all.</summary>
    private static List<Fault>? KeptOf(ulong seed, SimOptions options)
    {
        if (options.Kept is not { } kept)
        {
            return null;
        }

        using IDisposable world = options.Members
            ? new MembersWorld(MemberSwarm.Draw(seed), new Coverage(), null)
            : new RaftWorld(SwarmConfig.Draw(seed), new Coverage(), null);
        List<Fault> plan = world is MembersWorld members ? members.Faults : [.. ((RaftWorld)world).Faults];
        var left = new List<Fault>();
        foreach (int place in kept)
        {
            left.Add(plan[place]);
        }

        return left;
    }

    /// <summary>A run of whole members.</summary>
    public static RunOutcome Whole(
        MemberSwarm config, List<Fault>? faults, Mutation mutation, Coverage coverage, TextWriter? trace)
    {
        MembersWorld? world = null;
        (string? failure, string rule) = Guarded(
            mutation,
            () =>
            {
                world = new MembersWorld(config, coverage, faults) { Trace = trace };
                world.Run();
            },
            () => world?.Dispose());
        return new RunOutcome(config.Seed)
        {
            Members = config,
            Summary = world?.ToString() ?? "nothing ran",
            Failure = failure,
            RuleBroken = rule,
            TraceHash = world?.TraceHash ?? 0,
            Events = world?.Events ?? 0,
            SimulatedNs = world?.NowNs ?? 0,
            Completed = world?.Committed ?? 0,
            Faults = world?.FaultsDone ?? 0,
            Plan = world?.Faults ?? [],
        };
    }

    /// <summary>A run at core level with a configuration and, when given, a plan of faults of its own.</summary>
    public static RunOutcome Core(
        SwarmConfig config, List<Fault>? faults, Mutation mutation, Coverage coverage, TextWriter? trace)
    {
        RaftWorld? world = null;
        (string? failure, string rule) = Guarded(
            mutation,
            () =>
            {
                world = new RaftWorld(config, coverage, faults) { Trace = trace };
                world.Run();
            },
            () => world?.Dispose());
        return new RunOutcome(config.Seed)
        {
            Config = config,
            Summary = world?.ToString() ?? "nothing ran",
            Failure = failure,
            RuleBroken = rule,
            TraceHash = world?.TraceHash ?? 0,
            Events = world?.Events ?? 0,
            SimulatedNs = world?.NowNs ?? 0,
            Completed = world?.Completed ?? 0,
            Faults = world?.FaultsDone ?? 0,
            Plan = world?.Faults ?? [],
        };
    }

    /// <summary>Runs and closes a world; what breaks is the answer.</summary>
    private static (string? Failure, string Rule) Guarded(Mutation mutation, Action run, Action close)
    {
        Mutations.Active = mutation;
        string? failure = null;
        string rule = string.Empty;
        try
        {
            run();
            close();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            failure = e is SimViolationException or InvariantException ? e.Message + "\n" + e.StackTrace : e.ToString();
            rule = e is SimViolationException ? e.Message.Split(':', '\n')[0] : e.GetType().Name + " " + e.Message.Split('\n')[0];
            try
            {
                close();
            }
            catch (Exception again) when (again is not OutOfMemoryException)
            {
                // It has failed already; what it leaves behind is not looked at.
            }
        }
        finally
        {
            Mutations.Active = Mutation.None;
        }

        return (failure, rule);
    }
}

/// <summary>Sums over runs.</summary>
internal sealed class RunTotals
{
    public Coverage Coverage { get; } = new();

    public long Seeds { get; private set; }

    public long Failures { get; private set; }

    public long Events { get; private set; }

    public long SimulatedNs { get; private set; }

    public long Completed { get; private set; }

    public long Faults { get; private set; }

    /// <summary>Over the traces of all seeds, whatever their order.</summary>
    public ulong TraceHash { get; private set; }

    public void Add(RunOutcome outcome)
    {
        Seeds++;
        Failures += outcome.Failure is null ? 0 : 1;
        Events += outcome.Events;
        SimulatedNs += outcome.SimulatedNs;
        Completed += outcome.Completed;
        Faults += outcome.Faults;
        TraceHash += (outcome.TraceHash ^ outcome.Seed) * 0x9E3779B97F4A7C15;
    }

    public string Progress(double seconds) => string.Create(
        CultureInfo.InvariantCulture,
        $"{seconds,6:f0} s  {Seeds} seeds  {SimulatedNs / 3.6e12:f2} simulated hours  {Events:n0} events  {Completed:n0} operations  {Faults:n0} faults  {Failures} failures  {Events / Math.Max(seconds, 0.001):n0} events/s");

    public string Final(double seconds, double cpu, bool verbose)
    {
        var text = new StringBuilder();
        _ = text.Append(Progress(seconds)).Append('\n');
        _ = text.Append(CultureInfo.InvariantCulture, $"traces {TraceHash:x16}\n");
        _ = text.Append(
            CultureInfo.InvariantCulture,
            $"cpu {cpu:f1} s, {Completed / Math.Max(cpu, 0.001):n0} operations per CPU second, {Seeds / Math.Max(seconds, 0.001):f0} seeds/s\n");
        (int hit, int possible, List<string> missing) = Coverage.Messages();
        _ = text.Append(CultureInfo.InvariantCulture, $"message kind x role x progress: {hit} of {possible}\n");
        missing.AddRange(Coverage.Missing());
        if (missing.Count > 0)
        {
            _ = text.Append("never reached:\n");
            foreach (string point in missing)
            {
                _ = text.Append("  ").Append(point).Append('\n');
            }
        }

        if (verbose)
        {
            foreach ((string name, long count) in Coverage.Counts())
            {
                _ = text.Append(CultureInfo.InvariantCulture, $"  {count,12:n0}  {name}\n");
            }
        }

        return text.ToString();
    }
}
