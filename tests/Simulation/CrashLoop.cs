// CrashLoop: start, work, lose power in the middle, again and again; then one start that must work. Shared by the worlds of
// the log and of the tree.
using System;

namespace Cairn.Simulation;

/// <summary>A part of the member over a simulated disk.</summary>
internal interface ICrashWorld : IDisposable
{
    SimFileSystem Files { get; set; }

    /// <summary>Opens it and checks what it finds.</summary>
    void Start();

    void Work(int units);

    /// <summary>Forgets what was in memory.</summary>
    void Drop();
}

/// <summary>How a loop draws its crashes.</summary>
/// <param name="Rounds">Crashes.</param>
/// <param name="EarlyPercent">How often the cut comes within the first events: inside the recovery itself.</param>
/// <param name="EarlyEvents">Within how many.</param>
/// <param name="LateEvents">Else within how many.</param>
/// <param name="FailingSyncPercent">How often a sync is refused as well.</param>
internal readonly record struct CrashPlan(int Rounds, int EarlyPercent, int EarlyEvents, int LateEvents, int FailingSyncPercent);

internal static class CrashLoop
{
    public static readonly Survival[] Survivals = Enum.GetValues<Survival>();

    /// <summary>The power goes at each event of one life in turn, leaving each kind of remains.</summary>
    /// <param name="make">A new world; the same at each call.</param>
    /// <param name="seed">For what the cuts leave.</param>
    /// <param name="workAfter">Done after each recovery.</param>
    public static void AtEveryEvent(Func<ICrashWorld> make, ulong seed, int workAfter)
    {
        const int Units = 12;
        long events;
        using (ICrashWorld whole = make())
        {
            long before = whole.Files.Events;
            whole.Start();
            whole.Work(Units);
            events = whole.Files.Events - before;
        }

        for (long cut = 1; cut <= events; cut++)
        {
            foreach (Survival survival in Survivals)
            {
                // The same up to the cut; another stream for what the cut leaves.
                using ICrashWorld world = make();
                world.Files.CutAt = world.Files.Events + cut;
                RunUntilCut(world, Units);
                world.Files = world.Files.PowerLoss(survival, new SimRandom(seed ^ ((ulong)cut << 8) ^ (ulong)survival));
                world.Drop();
                world.Start();
                world.Work(workAfter);
            }
        }
    }

    /// <summary>Many crashes in one life.</summary>
    public static void Run(ICrashWorld world, SimRandom random, in CrashPlan plan)
    {
        for (int round = 0; round < plan.Rounds; round++)
        {
            world.Files.CutAt = world.Files.Events + 1
                + (random.Chance(plan.EarlyPercent) ? random.Below(plan.EarlyEvents) : random.Below(plan.LateEvents));
            if (plan.FailingSyncPercent > 0 && random.Chance(plan.FailingSyncPercent))
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
    public static void RunUntilCut(ICrashWorld world, int units)
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
