// Whole members, simulated disks, one scheduler: power cuts and kills inside any disk operation of any member, recovery and
// installing a snapshot included. The larger cluster simulation is in tests/Sim.
using Xunit;

namespace Cairn.Simulation;

public sealed class MemberClusterTests
{
    [Fact]
    public void Cluster_UnderPowerCuts_LosesNothingAcknowledged() =>
        SimSeeds.Run(nameof(Cluster_UnderPowerCuts_LosesNothingAcknowledged), 40, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new MemberClusterWorld(random.Fork("world"), random.Chance(75) ? 3 : 5);
            world.Run(120);
        });

    [Fact]
    public void Cluster_SameSeed_RunsTheSame() =>
        SimSeeds.Run(nameof(Cluster_SameSeed_RunsTheSame), 2, static seed => Assert.Equal(TraceOf(seed), TraceOf(seed)));

    private static string TraceOf(ulong seed)
    {
        using var world = new MemberClusterWorld(new SimRandom(seed), 3);
        world.Run(40);
        return world.Trace;
    }
}
