// SwarmConfig: what one seed draws before its run: which faults exist, how large the cluster is, every knob of it.
//
// Each class of faults is there with probability one half, so many runs have few kinds and some have one kind often;
// knobs are drawn with their extremes on purpose. The distribution is the same for finding mutations and for counting
// clean runs.
using System;
using System.Globalization;

namespace Cairn.Simulation;

/// <summary>Settings of one run; a pure function of its seed and level.</summary>
internal sealed record SwarmConfig
{
    public required ulong Seed { get; init; }

    public int Voters { get; init; }

    public int Learners { get; init; }

    /// <summary>Start with the bootstrap entries every member writes; false: from a common snapshot at index 1.</summary>
    public bool Bootstrap { get; init; }

    public int ElectionTicks { get; init; }

    public int HeartbeatTicks { get; init; }

    public long TickNs { get; init; }

    public bool PreVote { get; init; } = true;

    public int MaxMessageEntries { get; init; }

    public long MaxMessageBytes { get; init; }

    public int MaxInFlight { get; init; }

    public int RetainEntries { get; init; }

    public int MaxUnitEntries { get; init; }

    public int SnapshotCount { get; init; }

    public int CatchUpEntries { get; init; }

    public long MaxUncommittedBytes { get; init; }

    public long MaxApplyingBytes { get; init; }

    /// <summary>Frames of an earlier incarnation's time are refused by the transport.</summary>
    public bool ChecksBoot { get; init; }

    public required LinkShape Links { get; init; }

    /// <summary>Bit per <see cref="FaultKind"/>.</summary>
    public ulong FaultClasses { get; init; }

    public int FaultCount { get; init; }

    /// <summary>Length of the phase with faults.</summary>
    public long SafetyNs { get; init; }

    public long DiskNs { get; init; }

    public int SlowDiskPercent { get; init; }

    public long StoreNs { get; init; }

    /// <summary>Largest rate error of a member's clock, in thousandths.</summary>
    public int ClockErrorPermille { get; init; }

    public int Clients { get; init; }

    public int Operations { get; init; }

    public long ThinkNs { get; init; }

    public int Keys { get; init; }

    public int ReadPercent { get; init; }

    public int SerializablePercent { get; init; }

    /// <summary>Largest value, bytes.</summary>
    public int ValueBytes { get; init; }

    /// <summary>The history is kept for the search check.</summary>
    public bool KeepsHistory { get; init; }

    public long ElectionNs => ElectionTicks * TickNs;

    public static SwarmConfig Draw(ulong seed)
    {
        var random = new SimRandom(seed).Fork("swarm");
        int election = 3 + random.Below(18);
        long tick = 1_000_000 + random.Below(random.Chance(50) ? 2_000_000L : 10_000_000L);
        ulong classes = 0;
        for (int i = 0; i < FaultPlan.KindCount; i++)
        {
            classes |= random.Chance(50) ? 1UL << i : 0;
        }

        if (random.Chance(15))
        {
            classes = 1UL << random.Below(FaultPlan.KindCount); // one kind, at an extreme rate
        }

        int voters = random.Below(20) switch { < 2 => 1, < 4 => 2, < 13 => 3, < 15 => 4, < 19 => 5, _ => 7 };
        long safety = election * tick * (20 + random.Below(random.Chance(20) ? 400 : 80));
        bool keeps = random.Chance(20);
        int clients = random.Chance(70) ? 1 + random.Below(8) : 1 + random.Below(50);
        LinkShape links = LinkShape.Draw(random);
        if (random.Chance(60) && links.MeanNs > election * tick / 20)
        {
            // Most runs have a network that can keep a leader; some hardly have one.
            links = links with { MeanNs = Math.Max(1_000, election * tick / 20), MinNs = Math.Min(links.MinNs, election * tick / 20) };
        }

        return new SwarmConfig
        {
            Seed = seed,
            Voters = voters,
            Learners = random.Chance(25) ? 1 + random.Below(2) : 0,
            Bootstrap = random.Chance(50),
            ElectionTicks = election,
            HeartbeatTicks = 1 + random.Below(Math.Max(1, election / 3)),
            TickNs = tick,
            PreVote = !random.Chance(10),
            MaxMessageEntries = random.Chance(30) ? 1 + random.Below(3) : 4096,
            MaxMessageBytes = random.Chance(30) ? 1 : 1 << 20,
            MaxInFlight = random.Chance(40) ? 1 + random.Below(4) : 512,
            RetainEntries = random.Chance(60) ? random.Below(20) : 5000,
            MaxUnitEntries = random.Chance(30) ? 1 + random.Below(3) : 1024,
            SnapshotCount = random.Chance(50) ? 1 + random.Below(40) : 1 + random.Below(1000),
            CatchUpEntries = random.Chance(70) ? random.Below(12) : random.Below(100),
            MaxUncommittedBytes = random.Chance(20) ? 64 + random.Below(2000) : 64 << 20,
            MaxApplyingBytes = random.Chance(20) ? 1 + random.Below(500) : 4 << 20,
            ChecksBoot = random.Chance(50),
            Links = links,
            FaultClasses = classes,
            FaultCount = random.Chance(8) ? 0 : 1 + random.Below(random.Chance(30) ? 80 : 20),
            SafetyNs = safety,
            DiskNs = 5_000 + random.Below(random.Chance(50) ? 200_000L : 4_000_000L),
            SlowDiskPercent = random.Chance(50) ? random.Below(10) : 0,
            StoreNs = 1_000 + random.Below(random.Chance(70) ? 50_000L : 20_000_000L),
            ClockErrorPermille = random.Chance(50) ? random.Below(50) : 0,
            Clients = clients,
            Operations = keeps ? 40 + random.Below(160) : 100 + random.Below(random.Chance(20) ? 6000 : 900),
            ThinkNs = 1 + random.Below(Math.Max(1, safety / 100)),
            Keys = 1 + random.Below(random.Chance(50) ? 3 : 16),
            ReadPercent = random.Below(80),
            SerializablePercent = random.Below(20),
            ValueBytes = random.Chance(80) ? 64 : random.Below(20_000),
            KeepsHistory = keeps,
        };
    }

    /// <summary>A short name for everything that was drawn.</summary>
    public string ToDigest()
    {
        ulong hash = 14695981039346656037;
        foreach (char c in ToString())
        {
            hash = (hash ^ c) * 1099511628211;
        }

        return hash.ToString("x16", CultureInfo.InvariantCulture);
    }
}
