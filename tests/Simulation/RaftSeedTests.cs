// Clusters of raft cores under drawn faults (tests/Sim): seeds run clean, runs repeat event for event, and bugs put in on
// purpose are found. The command `dotnet run --project tests/Sim -c Release -- --help` runs any number of them.
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Simulation;

public sealed class RaftSeedTests(ITestOutputHelper output)
{
    private const int Seeds = 2000;

    [Fact]
    public void RaftCores_TwoThousandSeeds_KeepEveryRule()
    {
        var options = new SimOptions();
        var totals = new RunTotals();
        long next = 0;
        var threads = new Thread[2];
        for (int i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(() =>
            {
                var coverage = new Coverage();
                for (long seed = Interlocked.Increment(ref next); seed <= Seeds; seed = Interlocked.Increment(ref next))
                {
                    RunOutcome outcome = SimRun.One((ulong)seed, options, coverage, null);
                    lock (totals)
                    {
                        totals.Add(outcome);
                        if (outcome.Failure is not null)
                        {
                            output.WriteLine(outcome.Describe(options));
                        }
                    }
                }

                lock (totals)
                {
                    totals.Coverage.Add(coverage);
                }
            });
            threads[i].Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        output.WriteLine(totals.Final(1, 1, true));
        Assert.Equal(Seeds, totals.Seeds);
        Assert.Equal(0, totals.Failures);
        Assert.InRange(totals.Coverage.HistoriesUnknown, 0, totals.Coverage.Histories / 2);
    }

    [Fact]
    public void RaftCores_OneSeedTwice_IsTheSameEventForEvent()
    {
        var hashes = new HashSet<ulong>();
        for (ulong seed = 1; seed <= 40; seed++)
        {
            RunOutcome first = SimRun.One(seed, new SimOptions(), new Coverage(), null);
            RunOutcome second = SimRun.One(seed, new SimOptions(), new Coverage(), null);
            Assert.Equal(first.TraceHash, second.TraceHash);
            Assert.Equal(first.Summary, second.Summary);
            _ = hashes.Add(first.TraceHash);
        }

        Assert.Equal(40, hashes.Count);
    }

    [Theory]
    [InlineData(Mutation.AppendAnswerBeforeSync)]
    [InlineData(Mutation.VoteAnswerBeforeSync)]
    [InlineData(Mutation.VoteRequestBeforeSync)]
    [InlineData(Mutation.LeaderCountsItselfBeforeSync)]
    [InlineData(Mutation.SnapshotOutcomeNotReported)]
    public void RaftCores_BugPutInOnPurpose_IsFound(Mutation mutation)
    {
        (int? seeds, string rule, _) = MutationHunt.Hunt(mutation, 1, 1000);
        Assert.True(seeds is not null, $"{mutation} survived 1000 seeds");
        output.WriteLine($"{mutation}: seed {seeds}, {rule}");
    }

    [Fact]
    public void Shrinker_FailingRun_GetsSmallerAndStillFails()
    {
        for (ulong seed = 1; seed <= 200; seed++)
        {
            RunOutcome failed = SimRun.Core(
                SwarmConfig.Draw(seed), null, Mutation.AppendAnswerBeforeSync, new Coverage(), null);
            if (failed.Failure is null || failed.Plan.Count < 4)
            {
                continue;
            }

            Reduced<SwarmConfig> small = Shrinker.Reduce(failed, Mutation.AppendAnswerBeforeSync);
            Assert.True(small.Faults.Count < failed.Plan.Count);

            // As the command that it prints: seed, faults kept, changes made.
            var options = new SimOptions
            {
                Mutation = Mutation.AppendAnswerBeforeSync, Kept = small.Kept, Changes = small.Changes,
            };
            Assert.Equal(failed.RuleBroken, SimRun.One(seed, options, new Coverage(), null).RuleBroken);
            Assert.Null(SimRun.One(seed, options with { Mutation = Mutation.None }, new Coverage(), null).Failure);
            return;
        }

        Assert.Fail("no seed failed with the bug");
    }
}
