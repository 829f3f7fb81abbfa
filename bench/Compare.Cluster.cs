// Compare, three members of each on this machine, with the same flags.
//
//   CPU         of all three members per put of 256 bytes, 100 clients (h2load, a connection each, one request at a time), once
//               all at the leader and once all at a follower: the two ends of what a spread client would see.
//   p50         one client, one put at a time, at the leader.
//   fail-over   kill -9 of the leader; from then until a put is acknowledged again. Two clients put without pause at the two
//               members that are left (a put that fails, is refused, or is not answered in 100 ms is tried again), the first answer counts.
// Both clusters run at the same time: the idle one costs a heartbeat in 100 ms and lets pairs alternate within seconds.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace Cairn.Bench;

internal sealed partial class Compare
{
    private const int FailOvers = 10;

    private void ClusterParts()
    {
        bool all = Wanted("cluster");
        if (!all && !Wanted("clustercpu") && !Wanted("clusterlatency") && !Wanted("failover"))
        {
            return;
        }

        using Trio etcd = new("etcd", _etcd, _folder), cairn = new("cairn", _cairn, _folder);
        Trio[] sides = [etcd, cairn];
        if (all || Wanted("clustercpu"))
        {
            CpuOfThree(sides);
        }

        if (all || Wanted("clusterlatency"))
        {
            LatencyOfThree(sides);
        }

        if (all || Wanted("failover"))
        {
            FailOver(sides);
        }
    }

    private void CpuOfThree(Trio[] sides)
    {
        byte[] put = Requests.Put(Requests.Key(1), new byte[256]);
        string body = Path.Combine(_folder, "body");
        File.WriteAllBytes(body, Requests.Framed(put));
        int puts = Math.Max(2000, (int)(30_000 * _scale));
        foreach (bool atLeader in new[] { true, false })
        {
            List<double>[] cpu = [[], []], rate = [[], []];
            for (int pair = -1; pair < _pairs; pair++)
            {
                for (int turn = 0; turn < 2; turn++)
                {
                    int side = (turn + Math.Max(0, pair)) % 2;
                    Trio trio = sides[side];
                    Server server = atLeader ? trio.Leader() : trio.Follower();
                    double before = trio.CpuSeconds;
                    double seconds = H2Load(server, PutPath, body, puts, connections: 100, streams: 1);
                    double spent = (trio.CpuSeconds - before) * 1e6 / puts;
                    if (pair >= 0)
                    {
                        cpu[side].Add(spent);
                        rate[side].Add(puts / seconds);
                        Say($"three members, pair {pair + 1}, {trio.Name}, at {(atLeader ? "the leader" : "a follower")}: {F(spent, "0.0")} µs CPU a put, {F(puts / seconds, "0")} puts/s");
                    }
                }
            }

            string where = atLeader ? "the leader" : "a follower";
            Row($"three members, 100 clients at {where}: CPU of all members per put of 256 bytes, µs", cpu[0], cpu[1], "0.0", 0.35);
            Row("the same: puts/s (everything on these cores)", rate[0], rate[1], "0", 0);
        }
    }

    private void LatencyOfThree(Trio[] sides)
    {
        int count = Math.Max(300, (int)(3000 * _scale));
        List<double>[] p50 = [[], []], p99 = [[], []];
        for (int pair = 0; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + pair) % 2;
                using Http2Client client = new(sides[side].Leader().Port);
                _ = PutLatencies(client, 200);
                double[] micros = PutLatencies(client, count);
                p50[side].Add(Samples.Quantile(micros, 0.5));
                p99[side].Add(Samples.Quantile(micros, 0.99));
                Say($"three members, latency, pair {pair + 1}, {sides[side].Name}: p50 {F(p50[side][^1], "0")} µs, p99 {F(p99[side][^1], "0")} µs");
            }
        }

        Row("three members, one client at the leader, one put at a time: p50, µs", p50[0], p50[1], "0", 0.7);
        Row("the same: p99, µs", p99[0], p99[1], "0", 0);
    }

    private static double[] PutLatencies(Http2Client client, int count) => Puts(client, made => made < count);

    private void FailOver(Trio[] sides)
    {
        int rounds = Math.Max(3, (int)(FailOvers * Math.Min(1, _scale)));
        List<double>[] seconds = [[], []];
        for (int round = 0; round < rounds; round++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + round) % 2;
                seconds[side].Add(sides[side].FailOver());
                Say($"fail-over {round + 1}, {sides[side].Name}: {F(seconds[side][^1], "0.00")} s");
            }
        }

        Write($"| kill -9 of the leader to the next acknowledged put, s ({rounds} times each) | {Samples.Show(seconds[0], "0.00")} | {Samples.Show(seconds[1], "0.00")} | **{F(Samples.Median(seconds[1]) / Samples.Median(seconds[0]), "0.00")}** | ≤ 1 |");
    }

    /// <summary>Three members of one kind.</summary>
    private sealed class Trio : IDisposable
    {
        private readonly string _binary, _folder, _cluster;
        private readonly Server[] _members = new Server[3];
        private readonly int[] _ports = new int[3];
        private readonly string[] _peers = new string[3];

        public Trio(string name, string binary, string folder)
        {
            Name = name;
            _binary = binary;
            _folder = Path.Combine(folder, name + "-three");
            if (Directory.Exists(_folder))
            {
                Directory.Delete(_folder, recursive: true);
            }

            Directory.CreateDirectory(_folder);
            StringBuilder cluster = new();
            for (int i = 0; i < 3; i++)
            {
                _ports[i] = Server.FreePort();
                _peers[i] = $"http://127.0.0.1:{Server.FreePort()}";
                cluster.Append(CultureInfo.InvariantCulture, $"{(i > 0 ? "," : "")}m{i}={_peers[i]}");
            }

            _cluster = cluster.ToString();
            for (int i = 0; i < 3; i++)
            {
                Start(i);
            }

            foreach (Server member in _members)
            {
                member.WaitUntilReady();
            }
        }

        public string Name { get; }

        public double CpuSeconds => _members[0].CpuSeconds + _members[1].CpuSeconds + _members[2].CpuSeconds;

        public Server Leader() => _members[LeaderIndex()];

        public Server Follower() => _members[(LeaderIndex() + 1) % 3];

        /// <summary>Kills the leader; seconds until the next acknowledged put. Afterwards all three run again.</summary>
        public double FailOver()
        {
            int leader = LeaderIndex();
            int rounds = 0;
            long killed = long.MaxValue, acknowledged = 0;
            List<Thread> clients = [];
            for (int i = 0; i < 3; i++)
            {
                if (i == leader)
                {
                    continue;
                }

                int port = _ports[i];
                Thread thread = new(() =>
                {
                    byte[] put = Requests.Put(Requests.Key(4), new byte[256]);
                    while (Volatile.Read(ref acknowledged) == 0)
                    {
                        try
                        {
                            using Http2Client client = new(port, readTimeout: 100);
                            while (Volatile.Read(ref acknowledged) == 0)
                            {
                                long sent = Stopwatch.GetTimestamp();
                                if (client.Call(PutPath, put) == 0 && sent > Volatile.Read(ref killed))
                                {
                                    _ = Interlocked.CompareExchange(ref acknowledged, Stopwatch.GetTimestamp(), 0);
                                }

                                _ = Interlocked.Increment(ref rounds);
                            }
                        }
                        catch (Exception e) when (e is SocketException or IOException)
                        {
                            // Its stream was reset or it waited too long: again.
                        }
                    }
                })
                { IsBackground = true };
                thread.Start();
                clients.Add(thread);
            }

            while (Volatile.Read(ref rounds) < 100)
            {
                Thread.Sleep(1);
            }

            long began = Stopwatch.GetTimestamp();
            _members[leader].Kill();
            Volatile.Write(ref killed, began);
            foreach (Thread client in clients)
            {
                client.Join();
            }

            _members[leader].Dispose();
            Start(leader);
            _members[leader].WaitUntilReady();
            Thread.Sleep(1000);
            return Stopwatch.GetElapsedTime(began, acknowledged).TotalSeconds;
        }

        public void Dispose()
        {
            foreach (Server member in _members)
            {
                member.Dispose();
            }
        }

        private void Start(int index) => _members[index] = new Server(
            Name, _binary, Path.Combine(_folder, "m" + index.ToString(CultureInfo.InvariantCulture)), $"m{index}", _ports[index], _peers[index], _cluster);

        private int LeaderIndex()
        {
            for (int tries = 0; tries < 1000; tries++)
            {
                for (int i = 0; i < 3; i++)
                {
                    if (_members[i].Metric("etcd_server_is_leader") == 1)
                    {
                        return i;
                    }
                }

                Thread.Sleep(20);
            }

            throw new TimeoutException($"{Name} has no leader");
        }
    }
}
