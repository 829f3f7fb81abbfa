// Power cuts, failing syncs, a full disk and rotten bits against src/Wal: what was acknowledged is there afterwards,
// or the open is refused and nothing is changed.
using System;
using Cairn.Wal;
using Xunit;

namespace Cairn.Simulation;

public sealed class WalCrashTests
{
    [Fact]
    public void Wal_PowerCutAtEveryEventInTurn_KeepsWhatWasAcknowledged() =>
        SimSeeds.Run(nameof(Wal_PowerCutAtEveryEventInTurn_KeepsWhatWasAcknowledged), 4, seed =>
            CrashLoop.AtEveryEvent(() => new WalWorld(new SimRandom(seed)), seed, workAfter: 3));

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
            CrashLoop.RunUntilCut(world, 40);

            // The lost pages are still readable: the next process must not take them for durable.
            world.Files.Cut();
            world.Files = world.Files.ProcessDeath(random);
            world.Drop();
            world.Start();
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(CrashLoop.Survivals[random.Below(CrashLoop.Survivals.Length)], random);
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
            CrashLoop.RunUntilCut(world, 400);
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
        CrashLoop.Run(world, random, new CrashPlan(12, 40, 8, 80, FailingSyncPercent: 10));
    }
}
