// Seeded faults against whole members over real files: kills, cuts, stalls, lost messages, snapshots, membership changes, at
// random moments. Nothing acknowledged may be lost, no read may be stale, and in the end everybody holds the same.
// CAIRN_CLUSTER_SEEDS=FIRST:COUNT runs others than the few of ./test.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;
using Xunit.Abstractions;
using Node = Cairn.Core.Tests.Server.PolledCluster.Node;

namespace Cairn.Core.Tests.Server;

public sealed class ClusterFaultTests(ITestOutputHelper output)
{
    public static TheoryData<ulong> Seeds()
    {
        string[] wanted = (Environment.GetEnvironmentVariable("CAIRN_CLUSTER_SEEDS") ?? "1:6").Split(':');
        ulong first = ulong.Parse(wanted[0], CultureInfo.InvariantCulture);
        ulong count = ulong.Parse(wanted[1], CultureInfo.InvariantCulture);
        var seeds = new TheoryData<ulong>();
        for (ulong i = 0; i < count; i++)
        {
            seeds.Add(first + i);
        }

        return seeds;
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Cluster_UnderFaults_LosesNothingAndServesNothingStale(ulong seed)
    {
        using var run = new FaultRun(seed);
        run.Go(int.Parse(Environment.GetEnvironmentVariable("CAIRN_CLUSTER_STEPS") ?? "80", CultureInfo.InvariantCulture));
        output.WriteLine(run.Summary);
    }

    private sealed class FaultRun : IDisposable
    {
        private readonly PolledCluster _cluster;
        private readonly Base.SystemRandom _random;
        private readonly List<(string Key, PolledCluster.Write Write)> _writes = [];
        private readonly List<string> _acknowledged = [];
        private readonly List<Read> _reads = [];
        private readonly HashSet<string> _keys = [];
        private readonly ulong _seed;
        private int _serial;
        private int _register; // last value issued
        private int _registerAcknowledged;
        private int _readsServed;
        private PolledCluster.Write? _registerWrite;
        private Task? _change;
        private string _story = "";

        public FaultRun(ulong seed)
        {
            _seed = seed;
            _random = new Base.SystemRandom(seed);
            bool small = _random.NextUInt64() % 2 == 0;
            _cluster = new PolledCluster(
                _random.NextUInt64() % 3 == 0 ? 5 : 3,
                options => options with
                {
                    CatchupEntries = small ? 8u : 200,
                    SnapshotCount = small ? 30u : 1000,
                    BatchLimit = small ? 20 : 10_000,
                    WalSegmentBytes = 64 << 10,
                    MaxWals = 2,
                },
                seed);
        }

        public void Go(int steps)
        {
            _cluster.StartAll();
            for (int i = 0; i < steps; i++)
            {
                Fault();
                for (int j = Below(12); j >= 0; j--)
                {
                    Issue();
                    int polls = Below(40);
                    while (polls-- > 0)
                    {
                        bool worked = _cluster.PollOnce();
                        _cluster.Clock.NowNs += worked ? 20_000 : 1_000_000;
                        Look();
                    }
                }
            }

            Heal();
        }

        public string Summary => string.Create(
            CultureInfo.InvariantCulture,
            $"{_cluster.Nodes.Count} members, {_cluster.Clock.NowNs / 1_000_000} ms, {_acknowledged.Count} of {_serial} writes "
            + $"acknowledged, register {_registerAcknowledged} of {_register}, {_readsServed} reads, "
            + $"{_cluster.Network.SnapshotsSent} snapshots, term {_cluster.Leader?.Member?.Status.Term}");

        public void Dispose() => _cluster.Dispose();

        private int Below(int count) => (int)(_random.NextUInt64() % (ulong)count);

        private Node Any(Predicate<Node> match)
        {
            List<Node> found = _cluster.Nodes.FindAll(match);
            return found[Below(found.Count)];
        }

        private void Tell(string what) =>
            _story += string.Create(CultureInfo.InvariantCulture, $"{_cluster.Clock.NowNs / 1_000_000} ms: {what}\n");

        private void Fault()
        {
            Node node = Any(_ => true);
            int draw = Below(100);
            if (draw < 18)
            {
                if (node.Member is null)
                {
                    Tell("start " + node.Options.Name);
                    node.Start();
                }
                else if (_cluster.Nodes.FindAll(n => n.Member is not null).Count > (_cluster.Nodes.Count / 2) || Below(4) == 0)
                {
                    Tell("kill " + node.Options.Name);
                    node.Kill();
                    node.Stalled = null;
                }
            }
            else if (draw < 30 && node.Member is not null)
            {
                bool cut = Below(2) == 0;
                Tell((cut ? "cut off " : "heal ") + node.Options.Name);
                _cluster.Network.Isolate(node.Member.Id, cut);
            }
            else if (draw < 38 && node.Member is not null)
            {
                ulong other = Any(n => n != node).Member?.Id ?? 0;
                bool cut = Below(2) == 0;
                Tell((cut ? "cut one way from " : "heal one way from ") + node.Options.Name);
                _cluster.Network.Cut(node.Member.Id, other, cut);
            }
            else if (draw < 48)
            {
                string[] actors = ["wal", "store", "btree", "raft", "snap", "fetch", "snapsend"];
                node.Stalled = node.Stalled is null ? actors[Below(actors.Length)] : null;
                Tell($"stall {node.Options.Name}: {node.Stalled ?? "nothing"}");
            }
            else if (draw < 54)
            {
                int loss = Below(3) * 15;
                Tell($"lose {loss} %, repeat some");
                _cluster.Network.Drop = loss == 0 ? null : _ => Below(100) < loss;
                _cluster.Network.Repeat = Below(2) == 0 ? null : _ => Below(10) == 0 ? 1 : 0;
            }
            else if (draw < 62 && node.Member is not null)
            {
                Tell("campaign " + node.Options.Name);
                node.Member.Campaign();
            }
            else if (draw < 68 && _cluster.Leader is { } leader)
            {
                ulong target = Any(_ => true).Member?.Id ?? 0;
                Tell($"move leader to {target:x}");
                _ = leader.Member!.MoveLeaderAsync(target, _cluster.Clock.NowNs + 3_000_000_000);
            }
            else if (draw < 74 && node.Member is not null && (_change is null || _change.IsCompleted))
            {
                ulong id = node.Member.Id;
                Tell($"update the URL of {node.Options.Name}");
                _change = node.Member.UpdateMemberAsync(
                    id, [PolledCluster.Url(node.Number) + "0", PolledCluster.Url(node.Number)], _cluster.Clock.NowNs + 2_000_000_000);
            }
            else if (draw < 80)
            {
                _cluster.Pass(300_000_000L * (1 + Below(5)));
            }
        }

        private void Issue()
        {
            List<Node> running = _cluster.Nodes.FindAll(n => n.Member is not null);
            if (running.Count == 0)
            {
                return;
            }

            Node node = running[Below(running.Count)];
            int draw = Below(100);
            if (draw < 60)
            {
                string key = "w" + (++_serial).ToString(CultureInfo.InvariantCulture);
                _ = _keys.Add(key);
                _writes.Add((key, node.Put(key, new string('x', 1 + Below(400)))));
            }
            else if (draw < 80)
            {
                if (_registerWrite is null)
                {
                    _register++;
                    _registerWrite = node.Put("r", _register.ToString(CultureInfo.InvariantCulture));
                }
            }
            else
            {
                _reads.Add(new Read(node, node.Member!, _registerAcknowledged));
            }
        }

        private void Look()
        {
            for (int i = _writes.Count - 1; i >= 0; i--)
            {
                (string key, PolledCluster.Write write) = _writes[i];
                if (write.IsCompleted)
                {
                    _writes.RemoveAt(i);
                    if (write.End() == ErrorCode.None)
                    {
                        _acknowledged.Add(key);
                    }
                }
            }

            if (_registerWrite is { IsCompleted: true } done)
            {
                _registerWrite = null;
                if (done.End() == ErrorCode.None)
                {
                    _registerAcknowledged = _register;
                }
            }

            for (int i = _reads.Count - 1; i >= 0; i--)
            {
                Read read = _reads[i];
                if (read.Node.Member != read.Member)
                {
                    _reads.RemoveAt(i);
                }
                else if (read.IsCompleted)
                {
                    _reads.RemoveAt(i);
                    if (read.End() == ErrorCode.None)
                    {
                        _readsServed++;
                        int value = int.Parse(read.Node.Read("r") ?? "0", CultureInfo.InvariantCulture);
                        Assert.True(
                            value >= read.AtLeast && value <= _register,
                            $"seed {_seed}: a read saw {value}, acknowledged before it was {read.AtLeast}, written {_register}\n{_story}{_cluster.Describe()}");
                    }
                }
            }
        }

        private void Heal()
        {
            Tell("heal everything");
            _cluster.Network.Drop = null;
            _cluster.Network.Repeat = null;
            foreach (Node node in _cluster.Nodes)
            {
                node.Stalled = null;
                if (node.Member is null)
                {
                    node.Start();
                }
            }

            foreach (Node a in _cluster.Nodes)
            {
                foreach (Node b in _cluster.Nodes)
                {
                    _cluster.Network.Cut(a.Member!.Id, b.Member!.Id, cut: false);
                }
            }

            Assert.True(_cluster.TryRun(() => _cluster.Leader is not null, 60_000_000_000), $"seed {_seed}: no leader\n{_story}{_cluster.Describe()}");
            Node leader = _cluster.Leader!;
            PolledCluster.Write? last = null;
            Assert.True(
                _cluster.TryRun(
                    () =>
                    {
                        Look();
                        if (last is { IsCompleted: true })
                        {
                            if (last.End() == ErrorCode.None)
                            {
                                return true;
                            }

                            last = null;
                        }

                        last ??= (_cluster.Leader ?? leader).Put("last", "x");
                        return false;
                    },
                    90_000_000_000),
                $"seed {_seed}: no write goes through\n{_story}{_cluster.Describe()}");
            try
            {
                _cluster.AssertSame();
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {_seed}\n{_story}", e);
            }

            Look();
            foreach (Node node in _cluster.Nodes)
            {
                foreach (string key in _acknowledged)
                {
                    Assert.True(
                        node.Read(key) is not null,
                        $"seed {_seed}: {key} was acknowledged and is not at {node.Options.Name}\n{_story}{_cluster.Describe()}");
                }
            }
        }

        private sealed class Read
        {
            private readonly RequestSlot _slot;
            private readonly ErrorCode? _now;

            public Read(Node node, Member member, int atLeast)
            {
                Node = node;
                Member = member;
                AtLeast = atLeast;
                _slot = member.Rent();
                ValueTask<ErrorCode> pending = member.ReadIndexAsync(_slot);
                _now = PolledCluster.Write.Refusal(_slot, pending);
            }

            public Node Node { get; }

            public Member Member { get; }

            public int AtLeast { get; }

            public bool IsCompleted => _now is not null || _slot.IsCompleted;

            public ErrorCode End()
            {
                ErrorCode outcome = _now ?? _slot.Outcome;
                Member.Return(_slot);
                return outcome;
            }
        }
    }
}
