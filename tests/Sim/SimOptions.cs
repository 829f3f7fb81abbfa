// SimOptions: what `sim` takes.
using System;
using System.Collections.Generic;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Simulation;

internal sealed record SimOptions
{
    public const string Usage = """
        sim [--seeds N] [--first S] [--threads T] [--seconds N] [--background]
            runs seeds S, S+1, …; prints a line of progress, totals, and what was never reached
        sim --seed S [--trace] [--shrink] [--mutation NAME]
            runs one seed again, event for event
            --keep 0,4|none  --change 2,2|none: only these faults of its plan, its configuration changed so (what --shrink prints)
            --twice with any of these: every seed again, the traces must be equal
            --members with any of these: whole members instead of raft cores
        sim --mutations [--seeds N] [--trials T] [--mutation NAME]
            puts each known bug in and says how many seeds it takes to find it
        """;

    public ulong? Seed { get; init; }

    public ulong FirstSeed { get; init; } = 1;

    public long Seeds { get; init; } = 1000;

    public int Threads { get; init; } = 1;

    public double Seconds { get; init; } = double.MaxValue;

    public double ProgressSeconds { get; init; } = 5;

    public bool Background { get; init; }

    public bool Trace { get; init; }

    public bool Shrink { get; init; }

    public bool Verbose { get; init; }

    public bool Mutations { get; init; }

    /// <summary>Each seed is run twice and has to do the same.</summary>
    public bool Twice { get; init; }

    /// <summary>Whole members instead of raft cores.</summary>
    public bool Members { get; init; }

    /// <summary>Places in the seed's plan of faults; null: all of it.</summary>
    public List<int>? Kept { get; init; }

    /// <summary>Changes of the shrinker, in order.</summary>
    public List<int> Changes { get; init; } = [];

    public int Trials { get; init; } = 20;

    public int MaxFailures { get; init; } = 1;

    public Mutation Mutation { get; init; }

    public static SimOptions? Parse(string[] args, out string problem)
    {
        var options = new SimOptions();
        problem = string.Empty;
        for (int i = 0; i < args.Length; i++)
        {
            string name = args[i];
            string? value = i + 1 < args.Length ? args[i + 1] : null;
            SimOptions? next = name switch
            {
                "--background" => options with { Background = true },
                "--trace" => options with { Trace = true },
                "--shrink" => options with { Shrink = true },
                "--verbose" => options with { Verbose = true },
                "--members" => options with { Members = true },
                "--twice" => options with { Twice = true },
                "--mutations" => options with { Mutations = true },
                _ => null,
            };
            if (next is null)
            {
                i++;
                next = value is null ? null : WithValue(options, name, value);
            }

            if (next is null)
            {
                problem = "sim: cannot make sense of " + name + " " + value;
                return null;
            }

            options = next;
        }

        return options;
    }

    private static SimOptions? WithValue(SimOptions options, string name, string value)
    {
        CultureInfo c = CultureInfo.InvariantCulture;
        if (name == "--mutation")
        {
            return Enum.TryParse(value, true, out Mutation mutation) ? options with { Mutation = mutation } : null;
        }

        if (name is "--keep" or "--change")
        {
            var numbers = new List<int>();
            foreach (string part in value == "none" ? [] : value.Split(','))
            {
                if (!int.TryParse(part, NumberStyles.None, c, out int place))
                {
                    return null;
                }

                numbers.Add(place);
            }

            return name == "--keep" ? options with { Kept = numbers } : options with { Changes = numbers };
        }

        if (!ulong.TryParse(value, NumberStyles.None, c, out ulong number))
        {
            return null;
        }

        return name switch
        {
            "--seed" => options with { Seed = number },
            "--first" => options with { FirstSeed = number },
            "--seeds" => options with { Seeds = (long)number },
            "--threads" => options with { Threads = (int)Math.Clamp(number, 1, 64) },
            "--seconds" => options with { Seconds = number },
            "--progress" => options with { ProgressSeconds = number },
            "--trials" => options with { Trials = (int)number },
            "--failures" => options with { MaxFailures = (int)number },
            _ => null,
        };
    }
}
