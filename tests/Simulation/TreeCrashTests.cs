// Power cuts, failing syncs, a full disk and rotten bits against src/Btree: a commit is there whole or not at all.
using Cairn.Btree;
using Xunit;

namespace Cairn.Simulation;

public sealed class TreeCrashTests
{
    [Fact]
    public void Tree_PowerCutAtEveryEventInTurn_KeepsWholeCommits() =>
        SimSeeds.Run(nameof(Tree_PowerCutAtEveryEventInTurn_KeepsWholeCommits), 2, seed =>
            CrashLoop.AtEveryEvent(() => new TreeWorld(new SimRandom(seed)), seed, workAfter: 2));

    [Fact]
    public void Tree_ManyCutsInOneLife_KeepsWholeCommits() =>
        SimSeeds.Run(nameof(Tree_ManyCutsInOneLife_KeepsWholeCommits), 300, static seed => ManyCrashes(seed, default));

    [Fact]
    public void Tree_OnADiskThatForgetsSyncs_IsCaughtByTheseTests() =>
        SimSeeds.ExpectFound(200, static seed => ManyCrashes(seed, ("db", 5)));

    [Fact]
    public void Tree_SyncFails_StopsAtOnce() =>
        SimSeeds.Run(nameof(Tree_SyncFails_StopsAtOnce), 200, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new TreeWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(15));
            world.Files.FailSyncAt = world.Files.Syncs + 1 + random.Below(6);
            Assert.ThrowsAny<MemberStoppedException>(() => world.Work(40));
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(CrashLoop.Survivals[random.Below(CrashLoop.Survivals.Length)], random);
            world.Drop();
            world.Start();
            world.Work(3);
        });

    [Fact]
    public void Tree_DiskFull_StopsLoudlyAndKeepsTheFile() =>
        SimSeeds.Run(nameof(Tree_DiskFull_StopsLoudlyAndKeepsTheFile), 100, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new TreeWorld(random.Fork("world"));
            world.Start();
            world.Work(random.Below(10));
            world.Files.CapacityBytes = SimFileSystem.Used(world.Files.Root) + random.Below(64 << 10);
            Assert.ThrowsAny<MemberStoppedException>(() => world.Work(2000));
            world.Files.Cut();
            world.Files = world.Files.ProcessDeath(random);
            world.Drop();
            world.Start();
            world.Work(5);
        });

    [Fact]
    public void Tree_BitRot_IsRefusedOrHarmless() =>
        SimSeeds.Run(nameof(Tree_BitRot_IsRefusedOrHarmless), 300, seed =>
        {
            var random = new SimRandom(seed);
            using var world = new TreeWorld(random.Fork("world"));
            world.Start();
            world.Work(4 + random.Below(20));
            world.Files.Cut();
            world.Files = world.Files.PowerLoss(Survival.Everything, random);
            world.Drop();
            var file = (SimInode)world.Files.Find("/data/db")!;
            file.FlipDurableBit(random.Below(file.Length), random.Below(8));
            try
            {
                world.StartDamaged();
            }
            catch (TreeCorruptException)
            {
            }
        });

    private static void ManyCrashes(ulong seed, (string Suffix, int Every) lie)
    {
        var random = new SimRandom(seed);
        using var world = new TreeWorld(random.Fork("world"));
        world.Files.Lie = lie;
        CrashLoop.Run(world, random, new CrashPlan(10, 30, 6, 150, FailingSyncPercent: 0));
    }
}
