// MemberClusterWorld: several whole members, each on a simulated disk of its own, one seeded scheduler for all of them and
// for the network between them. Power cuts and kills at any event of any disk, lost and late messages, cut links.
//
// The model: each write has a key of its own, so "acknowledged" is "the key is there, on everybody, in the end"; a register
// written by one client at a time bounds what a linearizable read may see.
using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Core.Tests.Server;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Cairn.Simulation;

internal sealed class MemberClusterWorld : IDisposable
{
    private static readonly Survival[] Survivals = Enum.GetValues<Survival>();
    private readonly SimRandom _random;
    private readonly SimClock _clock = new();
    private readonly SimScheduler _scheduler;
    private readonly MemoryNetwork _network;
    private readonly List<Node> _nodes = [];
    private readonly List<(string Key, Node Node, Member Member, RequestSlot Slot)> _writes = [];
    private readonly List<string> _acknowledged = [];
    private readonly List<Read> _reads = [];
    private readonly InitialMember[] _initial;
    private int _serial;
    private int _register;
    private int _registerAcknowledged;
    private (Member Member, RequestSlot Slot)? _registerWrite;
    private int _lossPercent;

    public MemberClusterWorld(SimRandom random, int members)
    {
        _random = random;
        _scheduler = new SimScheduler(random.Fork("schedule"), _clock);
        SimRandom wire = random.Fork("wire");
        _network = new MemoryNetwork
        {
            Clock = _clock,
            Schedule = (_, _, lane, bytes, action) => _scheduler.After(
                20_000 + wire.Below(300_000) + (lane == PeerLane.Bulk ? bytes * 10 : 0), action),
            Drop = _ => wire.Chance(_lossPercent),
            Repeat = _ => wire.Chance(2) ? 1 : 0,
        };
        _initial = new InitialMember[members];
        for (int i = 0; i < members; i++)
        {
            _initial[i] = new InitialMember("m" + Text(i), [$"http://10.0.0.{Text(i + 1)}:2380"]);
        }

        for (int i = 0; i < members; i++)
        {
            _nodes.Add(new Node(this, i, new SimFileSystem(random.Fork("disk" + Text(i)))));
        }
    }

    public int Acknowledged => _acknowledged.Count;

    public long Snapshots => _network.SnapshotsSent;

    public int Crashes { get; private set; }

    public int ReadsServed { get; private set; }

    public string Trace => string.Create(
        CultureInfo.InvariantCulture,
        $"{_scheduler.Steps} steps, {_clock.NowNs} ns, {_acknowledged.Count} acknowledged, {Crashes} crashes, {Snapshots} snapshots");

    public void Run(int rounds)
    {
        foreach (Node node in _nodes)
        {
            node.Start();
        }

        for (int i = 0; i < rounds; i++)
        {
            Fault();
            for (int j = _random.Below(10); j >= 0; j--)
            {
                Issue();
                for (int steps = _random.Below(300); steps > 0; steps--)
                {
                    Step();
                }
            }
        }

        Heal();
    }

    public void Dispose()
    {
        foreach (Node node in _nodes)
        {
            node.Down(power: false);
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private void Fault()
    {
        Node node = _nodes[_random.Below(_nodes.Count)];
        int draw = _random.Below(100);
        if (draw < 12 && node.Member is not null)
        {
            // At one of the next events of its disk, or now.
            if (_random.Chance(70))
            {
                node.Files.CutAt = node.Files.Events + 1 + _random.Below(60);
                node.NextCutIsPower = _random.Chance(60);
            }
            else
            {
                node.Down(power: _random.Chance(60));
            }
        }
        else if (draw < 40 && node.Member is null)
        {
            node.Start();
        }
        else if (draw < 48 && node.Member is { } member)
        {
            _network.Isolate(member.Id, cut: _random.Chance(50));
        }
        else if (draw < 54)
        {
            _lossPercent = _random.Chance(50) ? 0 : _random.Below(20);
        }
        else if (draw < 58)
        {
            // The machine is busy with something else for a while.
            _scheduler.DiskSyncNs = _random.Chance(50) ? 500_000 : 20_000_000;
        }
        else if (draw < 62)
        {
            node.Member?.Campaign();
        }
        else if (draw < 70)
        {
            long end = _clock.NowNs + 200_000_000 + _random.Below(2_000_000_000L);
            while (_clock.NowNs < end)
            {
                Step();
            }
        }
    }

    private void Issue()
    {
        Node node = _nodes[_random.Below(_nodes.Count)];
        if (node.Member is not { } member)
        {
            return;
        }

        int draw = _random.Below(100);
        if (draw < 70)
        {
            string key = "w" + Text(++_serial);
            Propose(member, key, new string('x', 1 + _random.Below(300)), out RequestSlot? slot);
            if (slot is not null)
            {
                _writes.Add((key, node, member, slot));
            }
        }
        else if (draw < 85)
        {
            if (_registerWrite is null)
            {
                Propose(member, "r", Text(++_register), out RequestSlot? slot);
                _registerWrite = slot is null ? null : (member, slot);
            }
        }
        else
        {
            RequestSlot slot = member.Rent();
            ValueTask<ErrorCode> pending = member.ReadIndexAsync(slot);
            if (pending.IsCompleted && !slot.IsCompleted)
            {
                member.Return(slot);
                return;
            }

            _reads.Add(new Read(node, member, slot, _registerAcknowledged));
        }
    }

    private static void Propose(Member member, string key, string value, out RequestSlot? slot)
    {
        RequestSlot rented = member.Rent();
        byte[] body = Requests.Put(key, value);
        body.CopyTo(rented.BeginRequest(RequestKind.Put, body.Length));
        ValueTask<ErrorCode> pending = member.ProposeAsync(rented);
        slot = rented;
        if (pending.IsCompleted && !rented.IsCompleted)
        {
            member.Return(rented);
            slot = null;
        }
    }

    private void Step()
    {
        Assert.True(_scheduler.Steps < 5_000_000, $"nothing comes to an end: {Describe()}");
        try
        {
            if (!_scheduler.Step())
            {
                _clock.NowNs += 1_000_000; // everybody is down
            }
        }
        catch (PowerLossException)
        {
            // Thrown by a completion or a delivery: whose disk it was, is known.
        }

        foreach (Node node in _nodes)
        {
            if (node.Member is not null && node.Files.IsDead)
            {
                node.Down(node.NextCutIsPower);
            }
        }

        Look();
    }

    private void Look()
    {
        for (int i = _writes.Count - 1; i >= 0; i--)
        {
            (string key, Node node, Member member, RequestSlot slot) = _writes[i];
            if (slot.IsCompleted)
            {
                _writes.RemoveAt(i);
                if (slot.Outcome == ErrorCode.None)
                {
                    _acknowledged.Add(key);
                }

                member.Return(slot);
            }
            else if (node.Member != member)
            {
                _writes.RemoveAt(i);
            }
        }

        if (_registerWrite is { Slot.IsCompleted: true } done)
        {
            _registerWrite = null;
            _registerAcknowledged = done.Slot.Outcome == ErrorCode.None ? _register : _registerAcknowledged;
            done.Member.Return(done.Slot);
        }
        else if (_registerWrite is { } pending && !_nodes.Exists(node => node.Member == pending.Member))
        {
            _registerWrite = null;
        }

        for (int i = _reads.Count - 1; i >= 0; i--)
        {
            Read read = _reads[i];
            if (read.Node.Member != read.Member)
            {
                _reads.RemoveAt(i);
            }
            else if (read.Slot.IsCompleted)
            {
                _reads.RemoveAt(i);
                if (read.Slot.Outcome == ErrorCode.None)
                {
                    ReadsServed++;
                    int value = int.Parse(read.Node.Get("r") ?? "0", CultureInfo.InvariantCulture);
                    Assert.True(
                        value >= read.AtLeast && value <= _register,
                        $"a read at {read.Node.Name} saw {value}; acknowledged before it {read.AtLeast}, written {_register}");
                }

                read.Member.Return(read.Slot);
            }
        }
    }

    private void Heal()
    {
        _lossPercent = 0;
        _scheduler.DiskSyncNs = 500_000;
        foreach (Node node in _nodes)
        {
            node.Files.CutAt = long.MaxValue;
        }

        foreach (Node node in _nodes)
        {
            node.Start();
            Assert.True(node.Member is not null, $"{node.Name} does not start: {node.Problem}");
        }

        foreach (Node a in _nodes)
        {
            _network.Isolate(a.Member!.Id, cut: false);
        }

        RequestSlot? last = null;
        Member? asked = null;
        Until(
            () =>
            {
                if (last is { IsCompleted: true })
                {
                    bool through = last.Outcome == ErrorCode.None;
                    asked!.Return(last);
                    last = null;
                    if (through)
                    {
                        return true;
                    }
                }

                if (last is null)
                {
                    asked = _nodes[_random.Below(_nodes.Count)].Member!;
                    Propose(asked, "last", "x", out last);
                }

                return false;
            },
            "a write goes through");
        Until(
            () =>
            {
                ulong highest = 0;
                foreach (Node node in _nodes)
                {
                    highest = Math.Max(highest, node.Member!.Status.CommittedIndex);
                }

                return _nodes.TrueForAll(node => node.Member!.Status.AppliedIndex == highest);
            },
            "all have applied everything");
        HashKvResult? first = null;
        foreach (Node node in _nodes)
        {
            Assert.Equal(ErrorCode.None, node.Member!.Store.HashKv(0, out HashKvResult hash));
            first ??= hash;
            Assert.True(first.Value.Hash == hash.Hash && first.Value.CurrentRevision == hash.CurrentRevision, $"{node.Name}: {hash}, not {first}");
            foreach (string key in _acknowledged)
            {
                Assert.True(node.Get(key) is not null, $"{key} was acknowledged and is not at {node.Name}");
            }
        }
    }

    private void Until(Func<bool> condition, string what)
    {
        long end = _clock.NowNs + 200_000_000_000;
        while (!condition())
        {
            Assert.True(_clock.NowNs < end, $"nothing came of '{what}': {Describe()}");
            Step();
        }
    }

    private string Describe()
    {
        string text = Trace;
        foreach (Node node in _nodes)
        {
            text += $"\n{node.Name} {node.Member?.Id:x}: {node.Member?.Status} {node.Problem}";
        }

        return text;
    }

    private sealed record Read(Node Node, Member Member, RequestSlot Slot, int AtLeast);

    private sealed class Node(MemberClusterWorld world, int number, SimFileSystem files)
    {
        private readonly List<Guard> _guards = [];
        private int _starts;

        public SimFileSystem Files { get; private set; } = files;

        public Member? Member { get; private set; }

        public bool NextCutIsPower { get; set; }

        public string Problem { get; private set; } = "";

        public string Name => "m" + Text(number);

        public void Start()
        {
            if (Member is not null)
            {
                return;
            }

            Files.Scheduler = world._scheduler;
            try
            {
                Member = Member.Open(Options(), new MemberEnvironment
                {
                    FileSystem = Files,
                    Clock = world._clock,
                    Random = world._random.Fork(Name + Text(++_starts)),
                    Fatal = new SimFatal(),
                    Pool = new NativePool(1 << 18),
                    Log = NullLogger.Instance,
                    Transport = world._network.NewPort(),
                });
            }
            catch (PowerLossException)
            {
                Died(NextCutIsPower);
                return;
            }

            foreach (MemberActor actor in Member.Actors)
            {
                var guard = new Guard(this, actor.Actor);
                _guards.Add(guard);
                actor.Attach(world._scheduler.Add(guard));
            }
        }

        public void Down(bool power)
        {
            if (Member is not { } member)
            {
                return;
            }

            Member = null;
            foreach (Guard guard in _guards)
            {
                world._scheduler.Remove(guard);
            }

            _guards.Clear();
            world._network.Kill(member.Id);
            Died(power);
            try
            {
                member.Dispose();
            }
            catch (PowerLossException)
            {
            }
        }

        public string? Get(string key)
        {
            var output = new NativeBuffer(new NativePool(1 << 12));
            ViewPin pin = Member!.Store.Pin();
            try
            {
                Assert.Equal(ErrorCode.None, Member.Store.Range(Requests.Range(key), pin, Member.Header, ref output));
                return Requests.FirstValue(output.WrittenSpan);
            }
            finally
            {
                Member.Store.Unpin(pin);
                output.Free();
            }
        }

        private void Died(bool power)
        {
            world.Crashes++;
            SimRandom random = world._random.Fork(Name + "crash" + Text(world.Crashes));
            Files = power
                ? Files.PowerLoss(Survivals[random.Below(Survivals.Length)], random)
                : Files.ProcessDeath(random);
        }

        private MemberOptions Options() => new()
        {
            Name = Name,
            DataDir = "/var/lib/cairn",
            InitialAdvertisePeerUrls = world._initial[number].PeerUrls,
            AdvertiseClientUrls = [$"http://10.0.0.{Text(number + 1)}:2379"],
            InitialCluster = world._initial,
            InitialClusterToken = "simulation",
            RequestSlots = 16,
            SnapshotCount = 30,
            CatchupEntries = 8,
            BatchLimit = 20,
            WalSegmentBytes = 32 << 10,
            MaxWals = 2,
            MaxSnapshots = 2,
            TreeReserveBytes = 8 << 20,
        };

        /// <summary>An actor whose disk may die under it.</summary>
        private sealed class Guard(Node node, IActor actor) : IActor
        {
            public string RoleName => actor.RoleName;

            public long NextDeadlineNs => node.Files.IsDead ? long.MaxValue : actor.NextDeadlineNs;

            [SuppressMessage("Design", "CA1031", Justification = "whatever it is, the seed has to be told")]
            public bool Poll(long nowNs)
            {
                try
                {
                    return !node.Files.IsDead && actor.Poll(nowNs);
                }
                catch (PowerLossException)
                {
                    return false;
                }
            }
        }
    }
}
