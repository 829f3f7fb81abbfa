// MembersWorld: clusters of whole members of the shipping code (log, tree, store, server logic, leases, watches) in one thread
// under one seed: simulated time, network, disks, faults as a list, clients that are checked.
//
// Network   MemoryNetwork carries what members send; Links decides whether and when each message arrives. A cut is either
//           seen by the transport (connections end) or silent (packets vanish), as the fault draws.
// Phases    safety: faults and load for a drawn time. Liveness: faults end, everybody who belongs to the cluster is started;
//           requests must be answered, all must reach the same state, watchers must have heard everything, and leases that
//           nobody renews must be gone.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Cairn.Core.Tests.Server;

namespace Cairn.Simulation;

internal sealed partial class MembersWorld : IDisposable
{
    public const long StartNs = 1_000_000_000;

    [ThreadStatic]
    private static NativePool? t_pool;

    [ThreadStatic]
    private static int t_worlds;

    private readonly SimClock _clock = new();
    private readonly Links _links;
    private readonly Dictionary<ulong, int> _numbers = [];
    private readonly Dictionary<ulong, (ulong Id, int Generation)> _leaders = [];
    private readonly Queue<long> _arrivals = new();
    private readonly MemberClients _clients;
    private readonly List<MemberWatch> _watches = [];
    private long _maxSteps = 6_000_000;

    public MembersWorld(MemberSwarm config, Coverage coverage, List<Fault>? faults)
    {
        Config = config;
        Coverage = coverage;
        Random = new SimRandom(config.Seed).Fork("world");
        Scheduler = new SimScheduler(Random.Fork("schedule"), _clock)
        {
            DiskSyncNs = config.DiskSyncNs, SlowDiskPercent = config.SlowDiskPercent,
        };
        _links = new Links(config.Links, Random.Fork("links"));
        SimRandom wire = Random.Fork("wire");
        Network = new MemoryNetwork
        {
            Clock = _clock,
            Drop = Drops,
            Repeat = message => _arrivals.Count - 1,
            Schedule = (_, _, lane, bytes, action) => Scheduler.After(
                _arrivals.TryDequeue(out long delay) ? delay : Config.Links.MinNs + wire.Below((Config.Links.MeanNs * 2) + 1) + (bytes * 2),
                action),
        };
        Initial = new InitialMember[config.Members];
        for (int i = 0; i < Initial.Length; i++)
        {
            Initial[i] = new InitialMember("m" + i.ToString(CultureInfo.InvariantCulture), [MemberNode.Url(i)]);
        }

        Ledger = new MemberLedger(this);
        Leases = new MemberLeases(this, Random.Fork("leases"));
        _clients = new MemberClients(this, Random.Fork("clients")) { History = config.KeepsHistory ? new History() : null };
        for (int i = 0; i < config.WatchSessions; i++)
        {
            _watches.Add(new MemberWatch(this, i, Random.Fork("watch" + i.ToString(CultureInfo.InvariantCulture))));
        }

        for (int i = 0; i < config.Members; i++)
        {
            Nodes.Add(new MemberNode(this, i, joins: false));
        }

        Faults = faults ?? FaultPlan.Draw(
            config.FaultClasses, config.FaultCount, config.SafetyNs, config.ElectionNs, Random.Fork("faults"));
    }

    public MemberSwarm Config { get; }

    public Coverage Coverage { get; }

    public SimRandom Random { get; }

    public SimScheduler Scheduler { get; }

    public MemoryNetwork Network { get; }

    public InitialMember[] Initial { get; }

    public List<MemberNode> Nodes { get; } = [];

    public MemberLedger Ledger { get; }

    public MemberLeases Leases { get; }

    public List<Fault> Faults { get; }

    public TextWriter? Trace { get; init; }

    /// <summary>For every member this thread ever simulates: pools are never freed.</summary>
    public NativePool Pool { get; } = t_pool ??= new NativePool(1 << 20);

    public long NowNs => _clock.NowNs;

    public bool IsHealed { get; private set; }

    public long Committed { get; set; }

    public long Completed => _clients.Completed;

    public long SnapshotsInstalled { get; set; }

    public int Crashes { get; set; }

    public int FaultsDone { get; private set; }

    public int Elections => _leaders.Count;

    /// <summary>Delivered messages, disk completions, operations; what the volume runs count.</summary>
    public long Events { get; private set; }

    public ulong TraceHash => Scheduler.TraceHash;

    public static string Key(int number) => "k" + ((char)('a' + (number / 10))) + (char)('0' + (number % 10));

    public void Note(ulong what) => Scheduler.Note(what);

    public void After(long delayNs, Action action) => Scheduler.After(delayNs, action);

    public void Run()
    {
        foreach (MemberNode node in Nodes)
        {
            node.Start();
        }

        for (int i = 0; i < Faults.Count; i++)
        {
            int number = i;
            After(Faults[i].AtNs, () => Begin(number));
        }

        _clients.Start();
        foreach (MemberWatch watch in _watches)
        {
            watch.Start();
        }

        long end = NowNs + Config.SafetyNs;
        while (NowNs < end)
        {
            Step();
        }

        RunLiveness();
        CheckEnd();
    }

    public void Dispose()
    {
        int crashes = Crashes;
        foreach (MemberNode node in Nodes)
        {
            node.Down(power: false);
            node.Files.Free();
        }

        Crashes = crashes;
        if (++t_worlds % 32 == 0)
        {
            GC.Collect(); // native memory behind unlinked files and lease tables, of which the collector knows nothing
        }
    }

    /// <summary>R1: one leader a term, one life of it.</summary>
    public void LookAtLeader(MemberNode node, Member member)
    {
        MemberStatus status = member.Status;
        if (status.Leader != member.Id)
        {
            return;
        }

        (ulong, int) me = (member.Id, node.Generation);
        if (!_leaders.TryGetValue(status.Term, out (ulong, int) known))
        {
            _leaders.Add(status.Term, me);
            Say($"{node.Name} leads term {status.Term}");
        }
        else
        {
            SimCheck.That(known == me, $"R1: {node.Name} leads term {status.Term}, which {known.Item1:x} led");
        }
    }

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"member seed {Config.Seed} ({Config.ToDigest()}): {Config.Members} members, {Scheduler.Steps} steps, {(NowNs - StartNs) / 1e9:f1} s, {Committed} committed, {Completed} answered, {_clients.Reads} reads, {Crashes} crashes, {Elections} terms, {SnapshotsInstalled} snapshots, {Leases.Renewals} renewals, {Leases.Expirations} expirations, {WatchEvents} watch events, {FaultsDone} faults, trace {TraceHash:x16}");

    private int WatchEvents
    {
        get
        {
            int events = 0;
            foreach (MemberWatch watch in _watches)
            {
                events += watch.EventsSeen;
            }

            return events;
        }
    }

    private void Say(string line) =>
        Trace?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{(NowNs - StartNs) / 1e6,12:f3} ms  {line}"));

    private bool Drops(RaftMessage message)
    {
        _arrivals.Clear();
        Coverage.Sent(message.Type);
        Delivery delivery = _links.Send(
            Number(message.From), Number(message.To), PeerLanes.Of(message.Type) == PeerLane.Urgent, NowNs);
        if (delivery.Copies == 0)
        {
            return true;
        }

        Events++;
        for (int i = 0; i < delivery.Copies; i++)
        {
            _links.Left(Number(message.From), Number(message.To)); // capacity is the transport's own matter here
            _arrivals.Enqueue((i == 0 ? delivery.FirstNs : delivery.SecondNs) - NowNs);
        }

        return false;
    }

    /// <summary>The place of a member, whatever life it is in.</summary>
    private int Number(ulong id)
    {
        if (!_numbers.TryGetValue(id, out int number))
        {
            number = Nodes.FindIndex(node => node.Id == id || node.Member?.Id == id);
            if (number < 0)
            {
                return 63;
            }

            _numbers.Add(id, number);
        }

        return number;
    }

    private void Step()
    {
        SimCheck.That(Scheduler.Steps < _maxSteps, $"nothing comes to an end\n{Describe()}");
        try
        {
            if (!Scheduler.Step())
            {
                _clock.NowNs += 1_000_000; // everybody is down
            }
        }
        catch (PowerLossException)
        {
            // Thrown by a completion or a delivery: whose disk it was, is known.
        }

        Events++;
        foreach (MemberNode node in Nodes)
        {
            node.Look();
        }

        _clients.Look();
        LookAtChanges();
    }

    private MemberNode? FindLeader()
    {
        MemberNode? found = null;
        foreach (MemberNode node in Nodes)
        {
            if (node.Member is { } member && member.Status.Leader == member.Id
                && (found is null || member.Status.Term > found.Member!.Status.Term))
            {
                found = node;
            }
        }

        return found;
    }

    private void RunLiveness()
    {
        Say("faults end");
        IsHealed = true;
        long quick = Math.Max(1_000, Config.ElectionNs / 50);
        _links.Heal(quick);
        Scheduler.DiskSyncNs = Math.Min(Scheduler.DiskSyncNs, Config.ElectionNs / 100);
        Scheduler.SlowDiskPercent = 0;
        Network.MendAll();
        foreach (MemberNode node in Nodes)
        {
            node.Files.CutAt = long.MaxValue;
            node.Files.FailSyncAt = long.MaxValue;
            node.PausedUntilNs = node.DiskStalledUntilNs = node.StoreStalledUntilNs = 0;
        }

        foreach (MemberNode node in Nodes)
        {
            node.Start();
        }

        long answered = Completed;
        ulong index = Ledger.LastIndex;
        _clients.Start();
        Until(() => Completed >= answered + 3 && Ledger.LastIndex > index && _change is null, "new writes are answered", 60);
        _clients.IsStopping = true;
        Until(() => _clients.IsQuiet, "every request is answered", 10 + (int)(20_000_000_000 / Config.ElectionNs));
        Leases.LetGo();
        Until(() => Ledger.Model.Leases.Count == 0 || Config.LeasePercent == 0, "L3: leases nobody renews are gone", LeaseBound());
        Until(AreEqual, "all have applied everything", 60);
        long revision = Ledger.Model.Revision;
        Until(() => _watches.TrueForAll(watch => watch.IsUpTo(revision)), "watchers have heard everything", 100);
    }

    private int LeaseBound()
    {
        long longest = 0;
        foreach ((long _, (long ttl, SortedSet<string> _)) in Ledger.Model.Leases)
        {
            longest = Math.Max(longest, ttl);
        }

        // Its time, again for a leader that was made meanwhile, and once more for one whose revoke got lost (7 s).
        return 40 + (int)(((longest * 2_000_000_000) + 8_000_000_000) / Config.ElectionNs);
    }

    private bool AreEqual()
    {
        if (FindLeader() is not { } leader)
        {
            return false;
        }

        ulong last = leader.Member!.Status.CommittedIndex;
        foreach (ClusterMember each in leader.Member.ClusterView.Members)
        {
            MemberNode? node = Nodes.Find(other => other.Member?.Id == each.Id);
            if (node is null || node.Member!.Status.AppliedIndex != last)
            {
                return false;
            }
        }

        return Ledger.LastIndex == last;
    }

    private void CheckEnd()
    {
        HashKvResult? first = null;
        foreach (MemberNode node in Nodes)
        {
            if (node.Member is not { } member || member.Status.AppliedIndex != Ledger.LastIndex)
            {
                continue;
            }

            SimCheck.That(
                member.Store.HashKv(0, out HashKvResult hash) == ErrorCode.None, $"M5: {node.Name} has no hash of its state");
            first ??= hash;
            SimCheck.That(
                first.Value.Hash == hash.Hash && first.Value.CurrentRevision == hash.CurrentRevision
                    && first.Value.CompactRevision == hash.CompactRevision,
                $"M5: {node.Name} has {hash}, another member {first}");
            node.CheckContents("in the end");
        }

        Coverage.LinkDrops += _links.Dropped;
        Coverage.LinkRepeats += _links.Repeated;
        if (_clients.History is { } history)
        {
            Coverage.Histories++;
            history.Settle(operation => Ledger.Find(operation.Tag)?.Response);
            HistoryCheck.Demand(history, Coverage);
        }
    }

    private void Until(Func<bool> condition, string what, int elections)
    {
        long end = NowNs + (elections * Config.ElectionNs);
        _maxSteps = Scheduler.Steps + 6_000_000;
        while (!condition())
        {
            SimCheck.That(NowNs < end, $"R20: within {elections} election timeouts after the faults nothing came of '{what}'\n{Describe()}");
            for (int i = 0; i < 20; i++)
            {
                Step();
            }
        }
    }

    private string Describe()
    {
        var text = new StringBuilder();
        _ = text.Append(this).Append('\n');
        foreach (MemberNode node in Nodes)
        {
            _ = text.Append("  ").Append(node).Append('\n');
        }

        foreach (MemberWatch watch in _watches)
        {
            _ = text.Append("  ").Append(watch).Append('\n');
        }

        foreach ((long id, (long ttl, SortedSet<string> keys)) in Ledger.Model.Leases)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"  lease {id} of {ttl} s with {keys.Count} keys:");
            foreach (MemberNode node in Nodes)
            {
                Cairn.Core.Leases.LeaseTime time = default;
                bool isKnown = node.Member?.Leases.TryGet(id, node.Clock.NowNs, out time) ?? false;
                _ = text.Append(CultureInfo.InvariantCulture, $" {node.Name} {node.Member?.Leases.IsPrimary} {isKnown} {time}");
            }

            _ = text.Append('\n');
        }

        return text.ToString();
    }
}
