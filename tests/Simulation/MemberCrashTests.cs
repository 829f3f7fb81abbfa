// A whole member under power cuts, kills, failing syncs and a full disk: acknowledged writes survive, revisions never
// repeat or go back, history and HashKV do not change.
using System;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Simulation;

public sealed class MemberCrashTests
{
    private static readonly Survival[] Survivals = Enum.GetValues<Survival>();

    [Fact]
    public void Member_WithoutFaults_AgreesWithTheModel() =>
        SimSeeds.Run(nameof(Member_WithoutFaults_AgreesWithTheModel), 5, seed =>
        {
            using var world = new MemberWorld(new SimRandom(seed));
            for (int round = 0; round < 3; round++)
            {
                world.Start();
                world.Work(150);
                world.Verify();
                world.Stop();
            }

            world.Start();
        });

    [Fact]
    public void Member_SameSeed_RunsTheSame() =>
        SimSeeds.Run(nameof(Member_SameSeed_RunsTheSame), 3, static seed => Assert.Equal(TraceOf(seed), TraceOf(seed)));

    [Fact]
    public void Member_PowerCutAtEveryEventInTurn_KeepsAcknowledgedWrites() =>
        SimSeeds.Run(nameof(Member_PowerCutAtEveryEventInTurn_KeepsAcknowledgedWrites), 1, seed =>
        {
            long events;
            using (var whole = new MemberWorld(new SimRandom(seed)))
            {
                whole.Start();
                whole.Work(60);
                events = whole.Files.Events;
            }

            for (long cut = 1; cut <= events; cut++)
            {
                // The same seed up to the cut; another stream for what the cut leaves.
                Survival survival = Survivals[(int)((cut + (long)seed) % Survivals.Length)];
                using var world = new MemberWorld(new SimRandom(seed));
                world.Files.CutAt = cut;
                RunUntilCut(world, 60);
                world.Files = world.Files.PowerLoss(survival, new SimRandom(seed ^ ((ulong)cut << 8)));
                world.Drop();
                world.Start();
                world.Work(5);
            }
        });

    [Fact]
    public void Member_ManyCrashesInOneLife_KeepsAcknowledgedWrites() =>
        SimSeeds.Run(nameof(Member_ManyCrashesInOneLife_KeepsAcknowledgedWrites), 60, static seed => ManyCrashes(seed, default));

    [Fact]
    public void Member_OnADiskThatForgetsSyncs_IsCaughtByTheseTests() =>
        SimSeeds.ExpectFound(200, static seed => ManyCrashes(seed, (".wal", 5)));

    [Fact]
    public void Member_SyncFails_StopsAndKeepsAcknowledgedWrites() =>
        SimSeeds.Run(nameof(Member_SyncFails_StopsAndKeepsAcknowledgedWrites), 40, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new MemberWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(50));
            world.Files.FailSyncAt = world.Files.Syncs + 1 + random.Below(20);
            Assert.ThrowsAny<MemberStoppedException>(() => world.Work(2000));
            Assert.NotNull(world.Fatal.Message);
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
            world.Start();
            world.Work(20);
            world.Verify();
        });

    [Fact]
    public void Member_SyncFailsThenRestarts_NeverServesLostPages() =>
        SimSeeds.Run(nameof(Member_SyncFailsThenRestarts_NeverServesLostPages), 60, seed =>
        {
            // After a failed sync the kernel shows pages that will never reach the disk, and shows them to the next
            // process too. What that process makes durable may not rest on them.
            var random = new SimRandom(seed);
            using var world = new MemberWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(50));
            world.Files.FailSyncAt = world.Files.Syncs + 1 + random.Below(20);
            Assert.ThrowsAny<MemberStoppedException>(() => world.Work(2000));
            world.Files.Cut();
            world.Files = world.Files.ProcessDeath(random);
            world.Drop();
            world.Start();
            world.Work(random.Below(120));
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
            world.Start();
            world.Work(20);
            world.Verify();
        });

    [Fact]
    public void Member_DiskFull_StopsAndGoesOnWithSpace() =>
        SimSeeds.Run(nameof(Member_DiskFull_StopsAndGoesOnWithSpace), 20, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new MemberWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(50));
            world.Files.CapacityBytes = SimFileSystem.Used(world.Files.Root) + random.Below(100 << 10);
            RunUntilCut(world, 3000);
            world.Files.Cut();
            world.Files = random.Chance(50)
                ? world.Files.ProcessDeath(random)
                : world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
            world.Start();
            world.DisarmSpaceAlarm();
            world.Work(20);
            world.Verify();
        });

    private static string TraceOf(ulong seed)
    {
        using var world = new MemberWorld(new SimRandom(seed));
        world.Start();
        world.Work(200);
        world.Verify();
        return world.Trace;
    }

    private static void ManyCrashes(ulong seed, (string Suffix, int Every) lie)
    {
        var random = new SimRandom(seed);
        using var world = new MemberWorld(random.Fork("world"));
        world.Files.Lie = lie;
        for (int round = 0; round < 10; round++)
        {
            world.Files.CutAt = world.Files.Events + 1 + (random.Chance(30) ? random.Below(20) : random.Below(400));
            RunUntilCut(world, 1 + random.Below(150));
            world.Files.Cut();
            world.Files = random.Chance(40)
                ? world.Files.ProcessDeath(random)
                : world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
        }

        world.Start();
        world.Work(20);
        world.Verify();
    }

    /// <summary>Starts and works until the power goes or the member stops itself.</summary>
    private static void RunUntilCut(MemberWorld world, int writes)
    {
        try
        {
            world.Start();
            world.Work(writes);
        }
        catch (Exception e) when (IsOfTheFault(e))
        {
        }
    }

    private static bool IsOfTheFault(Exception e) =>
        e is PowerLossException or MemberStoppedException or Base.FileSystemException
        || (e is MemberStartException && e.InnerException is Base.FileSystemException);
}
