// SimSeeds: which seeds a test runs. A failing one prints how to run it alone.
//
// CAIRN_SIM_SEEDS=N      run N seeds instead of the test's own number
// CAIRN_SIM_SEED=S       run this seed only
using System;
using System.Diagnostics;
using System.Globalization;
using Xunit.Sdk;

namespace Cairn.Simulation;

internal static class SimSeeds
{
    /// <summary>Runs a test for several seeds, but no longer than a time, so that ./test stays bounded.</summary>
    public static void Run(string test, int count, Action<ulong> body, int maxSeconds = 8)
    {
        if (Number("CAIRN_SIM_SEED") is { } only)
        {
            Guard(test, only, body);
            return;
        }

        ulong? asked = Number("CAIRN_SIM_SEEDS");
        var watch = Stopwatch.StartNew();
        for (ulong seed = 1; seed <= (asked ?? (ulong)count); seed++)
        {
            Guard(test, seed, body);
            if (asked is null && watch.Elapsed.TotalSeconds > maxSeconds)
            {
                break;
            }
        }
    }

    /// <summary>The same test on a broken world: some seed must fail, or the test proves nothing.</summary>
    public static void ExpectFound(int count, Action<ulong> body)
    {
        for (ulong seed = 1; seed <= (ulong)count; seed++)
        {
            try
            {
                body(seed);
            }
            catch (Exception e) when (e is not (PowerLossException or MemberStoppedException))
            {
                return;
            }
        }

        Xunit.Assert.Fail($"{count} seeds did not notice what was broken on purpose");
    }

    private static void Guard(string test, ulong seed, Action<ulong> body)
    {
        try
        {
            body(seed);
        }
        catch (Exception e)
        {
            throw new XunitException(string.Create(
                CultureInfo.InvariantCulture,
                $"seed {seed}: replay with CAIRN_SIM_SEED={seed} dotnet test tests/Simulation --filter {test}\n{e}"));
        }
    }

    private static ulong? Number(string variable) =>
        ulong.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out ulong value)
            ? value
            : null;
}
