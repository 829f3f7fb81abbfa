// SimCommand: the command line of the simulator.
using System;
using System.Diagnostics;
using System.Threading;

namespace Cairn.Simulation;

internal static class SimCommand
{
    public static int Run(string[] args)
    {
        SimOptions? options = SimOptions.Parse(args, out string problem);
        if (options is null)
        {
            Console.Error.WriteLine(problem);
            Console.Error.WriteLine(SimOptions.Usage);
            return 2;
        }

        if (options.Mutations)
        {
            return MutationHunt.Run(options);
        }

        return options.Seed is { } seed ? Replay(options, seed) : Many(options);
    }

    private static int Replay(SimOptions options, ulong seed)
    {
        RunOutcome outcome = SimRun.One(seed, options, new Coverage(), options.Trace ? Console.Out : null);
        Console.WriteLine(outcome.Summary);
        if (outcome.Failure is null)
        {
            return 0;
        }

        Console.WriteLine(outcome.Failure);
        if (options.Shrink)
        {
            Console.WriteLine(Shrinker.Run(outcome, options));
        }

        return 1;
    }

    private static int Many(SimOptions options)
    {
        var totals = new RunTotals();
        var watch = Stopwatch.StartNew();
        TimeSpan cpu = Process.GetCurrentProcess().TotalProcessorTime;
        long next = (long)options.FirstSeed - 1;
        long last = (long)options.FirstSeed + options.Seeds - 1;
        bool stop = false;
        var threads = new Thread[options.Threads];
        for (int i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(() =>
            {
                var coverage = new Coverage();
                while (!Volatile.Read(ref stop) && watch.Elapsed.TotalSeconds < options.Seconds)
                {
                    long seed = Interlocked.Increment(ref next);
                    if (seed > last)
                    {
                        break;
                    }

                    RunOutcome outcome = SimRun.One((ulong)seed, options, coverage, null);
                    lock (totals)
                    {
                        totals.Add(outcome);
                        if (outcome.Failure is not null)
                        {
                            Console.WriteLine(outcome.Describe(options));
                            if (totals.Failures >= options.MaxFailures)
                            {
                                stop = true;
                            }
                        }
                    }
                }

                lock (totals)
                {
                    totals.Coverage.Add(coverage);
                }
            })
            { Priority = options.Background ? ThreadPriority.Lowest : ThreadPriority.Normal, IsBackground = true };
            threads[i].Start();
        }

        double shown = 0;
        while (!Array.TrueForAll(threads, thread => thread.Join(200)))
        {
            if (watch.Elapsed.TotalSeconds - shown >= options.ProgressSeconds)
            {
                shown = watch.Elapsed.TotalSeconds;
                lock (totals)
                {
                    Console.WriteLine(totals.Progress(watch.Elapsed.TotalSeconds));
                }
            }
        }

        TimeSpan used = Process.GetCurrentProcess().TotalProcessorTime - cpu;
        Console.WriteLine(totals.Final(watch.Elapsed.TotalSeconds, used.TotalSeconds, options.Verbose));
        return totals.Failures == 0 ? 0 : 1;
    }
}
