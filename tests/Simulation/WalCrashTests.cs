// Power cuts, failing syncs, a full disk and rotten bits against src/Wal: what was acknowledged is there afterwards,
// or the open is refused and nothing is changed.
using System;
using Cairn.Wal;
using Xunit;

namespace Cairn.Simulation;

public sealed class WalCrashTests
{
    private static readonly Survival[] Survivals = Enum.GetValues<Survival>();

    [Fact]
    public void Wal_PowerCutAtEveryEventInTurn_KeepsWhatWasAcknowledged() =>
        SimSeeds.Run(nameof(Wal_PowerCutAtEveryEventInTurn_KeepsWhatWasAcknowledged), 4, seed =>
        {
            long events;
            using (var whole = new WalWorld(new SimRandom(seed)))
            {
                whole.Start();
                whole.Work(12);
                events = whole.Files.Events;
            }

            for (long cut = 1; cut <= events; cut++)
            {
                foreach (Survival survival in Survivals)
                {
                    // The same seed up to the cut; another stream for what the cut leaves.
                    using var world = new WalWorld(new SimRandom(seed));
                    world.Files.CutAt = world.Files.Events + cut;
                    RunUntilCut(world, 12);
                    world.Files = world.Files.PowerLoss(survival, new SimRandom(seed ^ ((ulong)cut << 8) ^ (ulong)survival));
                    world.Drop();
                    world.Start();
                    world.Work(3);
                }
            }
        });

    [Fact]
    public void Wal_ManyCutsInOneLife_KeepsWhatWasAcknowledged() =>
        SimSeeds.Run(nameof(Wal_ManyCutsInOneLife_KeepsWhatWasAcknowledged), 400, static seed => ManyCrashes(seed, default));

    [Fact]
    public void Wal_OnADiskThatForgetsSyncs_IsCaughtByTheseTests() =>
        SimSeeds.ExpectFound(200, static seed => ManyCrashes(seed, (".wal", 5)));

    [Fact]
    public void Wal_SyncFails_StopsAtOnceAndForgetsNothing() =>
        SimSeeds.Run(nameof(Wal_SyncFails_StopsAtOnceAndForgetsNothing), 200, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new WalWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(10));
            world.Files.FailSyncAt = world.Files.Syncs + 1 + random.Below(4);
            RunUntilCut(world, 40);

            // The lost pages are still readable: the next process must not take them for durable.
            world.Files.Cut();
            world.Files = world.Files.ProcessDeath(random);
            world.Drop();
            world.Start();
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
            world.Start();
            world.Work(3);
        });

    [Fact]
    public void Wal_DiskFull_StopsLoudlyAndGoesOnWithSpace() =>
        SimSeeds.Run(nameof(Wal_DiskFull_StopsLoudlyAndGoesOnWithSpace), 100, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new WalWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(10));
            world.Files.CapacityBytes = SimFileSystem.Used(world.Files.Root) + random.Below(64 << 10);
            RunUntilCut(world, 400);
            world.Files.Cut();
            world.Files = world.Files.ProcessDeath(random);
            world.Drop();
            world.Start();
            world.Work(5);
        });

    [Fact]
    public void Wal_BitRotInSyncedData_IsRefusedOrHarmless() =>
        SimSeeds.Run(nameof(Wal_BitRotInSyncedData_IsRefusedOrHarmless), 300, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new WalWorld(random.Fork("world"));
            world.Start();
            world.Work(4 + random.Below(40));
            world.Rest();
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(Survival.Everything, random);
            world.Drop();
            var directory = (SimDirectory)world.Files.Find("/data/wal")!;
            string[] names = [.. directory.Names.Keys];
            var segment = (SimInode)directory.Names[names[random.Below(names.Length)]];
            segment.FlipDurableBit(random.Below(Math.Max(1, segment.Length / (1 + random.Below(8)))), random.Below(8));
            try
            {
                // Either nothing of value was hit, and everything acknowledged is there, or it says so.
                world.Start();
            }
            catch (WalException)
            {
                return;
            }

            world.Work(3);
        });

    private static void ManyCrashes(ulong seed, (string Suffix, int Every) lie)
    {
        var random = new SimRandom(seed);
        using var world = new WalWorld(random.Fork("world"));
        world.Files.Lie = lie;
        for (int round = 0; round < 12; round++)
        {
            // Small numbers cut inside the recovery itself.
            world.Files.CutAt = world.Files.Events + 1 + (random.Chance(40) ? random.Below(8) : random.Below(80));
            if (random.Chance(10))
            {
                world.Files.FailSyncAt = world.Files.Syncs + 1 + random.Below(10);
            }

            RunUntilCut(world, 1 + random.Below(30));
            world.Files.Cut();
            world.Files = random.Chance(30)
                ? world.Files.ProcessDeath(random)
                : world.Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random);
            world.Drop();
        }

        world.Start();
        world.Work(5);
    }

    /// <summary>Starts and works until the power goes or the member stops itself.</summary>
    private static void RunUntilCut(WalWorld world, int units)
    {
        try
        {
            world.Start();
            world.Work(units);
        }
        catch (Exception e) when (e is PowerLossException or MemberStoppedException or Base.FileSystemException)
        {
        }
    }
}
