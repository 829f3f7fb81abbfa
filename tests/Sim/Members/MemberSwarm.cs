// MemberSwarm: what one seed draws before a run of whole members: kinds of faults, sizes, limits, workload. As SwarmConfig does
// for cores: each kind of fault with probability one half, knobs with their extremes.
using System;
using System.Globalization;

namespace Cairn.Simulation;

/// <summary>Settings of one run; a pure function of its seed.</summary>
internal sealed record MemberSwarm
{
    /// <summary>Kinds that mean something to whole members.</summary>
    private static readonly FaultKind[] s_kinds =
    [
        FaultKind.Kill, FaultKind.PowerCut, FaultKind.PowerCutAll, FaultKind.RollingRestart, FaultKind.KillLeader, FaultKind.Pause,
        FaultKind.DiskStall, FaultKind.StoreStall, FaultKind.Split, FaultKind.Shatter, FaultKind.Isolate, FaultKind.IsolateLeader,
        FaultKind.Bridge, FaultKind.OneWay, FaultKind.Flap, FaultKind.Clog, FaultKind.Reset, FaultKind.AddMember,
        FaultKind.PromoteMember, FaultKind.RemoveMember, FaultKind.RemoveLeader, FaultKind.TransferLeader, FaultKind.FailSync,
        FaultKind.CleanRestart,
    ];

    public required ulong Seed { get; init; }

    public int Members { get; init; }

    public int ElectionMs { get; init; }

    public int HeartbeatMs { get; init; }

    public required LinkShape Links { get; init; }

    /// <summary>Bit per <see cref="FaultKind"/>.</summary>
    public ulong FaultClasses { get; init; }

    public int FaultCount { get; init; }

    /// <summary>Length of the phase with faults.</summary>
    public long SafetyNs { get; init; }

    public long DiskSyncNs { get; init; }

    public int SlowDiskPercent { get; init; }

    public int ClockErrorPermille { get; init; }

    public ulong SnapshotCount { get; init; }

    public ulong CatchupEntries { get; init; }

    public int BatchLimit { get; init; }

    public int BatchIntervalMs { get; init; }

    public long WalSegmentBytes { get; init; }

    public int CompactionBatchLimit { get; init; }

    public bool StrictReconfigCheck { get; init; }

    public int Clients { get; init; }

    public int Operations { get; init; }

    public long ThinkNs { get; init; }

    public int Keys { get; init; }

    public int ValueBytes { get; init; }

    public int ReadPercent { get; init; }

    public int CompactPercent { get; init; }

    public int LeasePercent { get; init; }

    public int WatchSessions { get; init; }

    /// <summary>Bytes of responses a watch stream may have waiting.</summary>
    public int WatchStreamBytes { get; init; }

    /// <summary>Longest time a watching client lets responses lie.</summary>
    public long WatchDrainNs { get; init; }

    /// <summary>The history is kept for the search check.</summary>
    public bool KeepsHistory { get; init; }

    public long ElectionNs => ElectionMs * 1_000_000L;

    public static MemberSwarm Draw(ulong seed)
    {
        var random = new SimRandom(seed).Fork("members");
        int election = random.Below(4) switch { 0 => 100, 1 => 200, 2 => 500, _ => 1000 };
        long electionNs = election * 1_000_000L;
        ulong classes = 0;
        foreach (FaultKind kind in s_kinds)
        {
            classes |= random.Chance(50) ? 1UL << (int)kind : 0;
        }

        if (random.Chance(15))
        {
            classes = 1UL << (int)s_kinds[random.Below(s_kinds.Length)];
        }

        LinkShape links = LinkShape.Draw(random);
        long slowest = random.Chance(80) ? electionNs / 50 : electionNs / 5;
        bool leases = random.Chance(50);
        bool keeps = !leases && random.Chance(50);
        int clients = random.Chance(70) ? 1 + random.Below(5) : 1 + random.Below(16);
        long safety = electionNs * (10 + random.Below(random.Chance(20) ? 90 : 30));
        return new MemberSwarm
        {
            Seed = seed,
            Members = random.Below(20) switch { < 2 => 1, < 4 => 2, < 14 => 3, < 15 => 4, _ => 5 },
            ElectionMs = election,
            HeartbeatMs = Math.Max(10, election / 10),
            Links = links with
            {
                MinNs = Math.Min(links.MinNs, slowest / 4), MeanNs = Math.Min(links.MeanNs, slowest), Capacity = Math.Max(64, links.Capacity),
            },
            FaultClasses = classes,
            FaultCount = random.Chance(8) ? 0 : 1 + random.Below(random.Chance(30) ? 40 : 12),
            SafetyNs = safety,
            DiskSyncNs = 20_000 + random.Below(random.Chance(70) ? electionNs / 200 : electionNs / 20),
            SlowDiskPercent = random.Chance(50) ? random.Below(6) : 0,
            ClockErrorPermille = random.Chance(50) ? random.Below(10) : 0,
            SnapshotCount = (ulong)(random.Chance(60) ? 5 + random.Below(60) : 1000),
            CatchupEntries = (ulong)(random.Chance(60) ? random.Below(20) : 500),
            BatchLimit = random.Chance(60) ? 1 + random.Below(40) : 10_000,
            BatchIntervalMs = 1 + random.Below(random.Chance(50) ? 100 : 2000),
            WalSegmentBytes = 16L << 10 << random.Below(5),
            CompactionBatchLimit = random.Chance(50) ? 1 + random.Below(8) : 1000,
            StrictReconfigCheck = random.Chance(70),
            Clients = clients,
            Operations = keeps ? 30 + random.Below(120) : 100 + random.Below(500),
            ThinkNs = 1 + random.Below(Math.Max(1, safety / 100)),
            Keys = 1 + random.Below(random.Chance(50) ? 4 : 24),
            ValueBytes = random.Chance(80) ? 40 : 3000,
            ReadPercent = random.Below(70),
            CompactPercent = random.Chance(60) ? random.Below(12) : 0,
            LeasePercent = leases ? 5 + random.Below(25) : 0,
            WatchSessions = random.Chance(70) ? 1 + random.Below(4) : 0,
            WatchStreamBytes = random.Chance(50) ? 64 + random.Below(4000) : 1 << 20,
            WatchDrainNs = 1 + random.Below(random.Chance(60) ? electionNs / 100 : electionNs * 2),
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
