// Compare, watch: what watchers cost and how late they hear.
//
//   fanout        1 stream × 10,000 watchers on one key, 100 puts a second; events delivered per CPU second of the server, counted
//                 from the first put until every watcher has every event: each of them exactly once, or the run fails.
//   watchmemory   100 streams × 5,000 watchers on keys of their own: RssAnon with them minus RssAnon with the bare streams. etcd
//                 is made to collect its garbage by its profiler's page; Cairn has no such page and is taken as it is.
//   behind        puts under h2load without and with one watcher 500,000 revisions behind, whose client takes 50,000 of them a
//                 second (by its stream's window), so that it is behind during the whole of each run; checked at its end.
//   watchlatency  1,000 puts a second by one client, one watcher on another connection: from the send of the put to the event.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Threading;

namespace Cairn.Bench;

internal sealed partial class Compare
{
    private const string WatchPath = "/etcdserverpb.Watch/Watch";

    private void WatchParts()
    {
        bool all = Wanted("watch");
        if (all || Wanted("fanout") || Wanted("watchlatency"))
        {
            using Server etcd = Fresh("etcd", _etcd), cairn = Fresh("cairn", _cairn);
            if (all || Wanted("fanout"))
            {
                FanOut(etcd, cairn);
            }

            if (all || Wanted("watchlatency"))
            {
                WatchLatency(etcd, cairn);
            }

            etcd.Stop();
            cairn.Stop();
        }

        if (all || Wanted("watchmemory"))
        {
            WatchMemory();
        }

        if (all || Wanted("behind"))
        {
            Behind();
        }
    }

    private void FanOut(Server etcd, Server cairn)
    {
        const int Watchers = 10_000;
        int puts = Math.Max(20, (int)(300 * _scale));
        List<double>[] perSecond = [[], []], micros = [[], []];
        for (int pair = -1; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + Math.Max(0, pair)) % 2;
                Server server = side == 0 ? etcd : cairn;
                double cpu = FanOutOnce(server, Watchers, pair < 0 ? 20 : puts, out double seconds);
                if (pair < 0)
                {
                    continue; // the first puts warm both up
                }

                double events = (double)Watchers * puts;
                perSecond[side].Add(events / cpu / 1000);
                micros[side].Add(cpu * 1e6 / events);
                Say($"fan-out, pair {pair + 1}, {server.Name}: {F(cpu * 1e6 / events, "0.000")} µs CPU an event, all delivered after {F(seconds, "0.0")} s");
            }
        }

        Row($"1 stream × {Watchers} watchers on one key, 100 puts/s, {puts} puts: thousand events delivered per CPU second", perSecond[0], perSecond[1], "0", -5);
        Row("the same: server CPU per event, µs", micros[0], micros[1], "0.000", 0);
    }

    private static double FanOutOnce(Server server, int watchers, int puts, out double seconds)
    {
        byte[] key = Requests.Key(7);
        int[] counts = new int[watchers + 1];
        long events = 0;
        int created = 0;
        using ManualResetEventSlim ready = new(), complete = new();
        using StreamConnection connection = new(server.Port);
        connection.OnMessage = (_, message) =>
        {
            Fields fields = new(message);
            long id = 0;
            int count = 0;
            bool made = false;
            while (fields.Next())
            {
                switch (fields.Number)
                {
                    case 2:
                        id = (long)fields.Value;
                        break;
                    case 3:
                        made = fields.Value != 0;
                        break;
                    case 4:
                        throw new InvalidOperationException("a watcher was cancelled");
                    case 11:
                        count++;
                        break;
                    default:
                        break;
                }
            }

            counts[id] += count;
            events += count;
            if (made && ++created == watchers)
            {
                ready.Set();
            }

            if (events == (long)watchers * puts)
            {
                complete.Set();
            }
        };
        connection.PumpInBackground();
        int stream = connection.Open(WatchPath);
        byte[] create = WatchMessages.Create(key);
        for (int i = 0; i < watchers; i++)
        {
            connection.Send(stream, create);
        }

        connection.Flush();
        Expect(ready, "the watchers are created");
        using Http2Client client = new(server.Port);
        byte[] put = Requests.Put(key, new byte[32]);
        double before = server.CpuSeconds;
        long began = Stopwatch.GetTimestamp();
        for (int i = 0; i < puts; i++)
        {
            Await(began, i * 0.01);
            Succeed(client, PutPath, put);
        }

        Expect(complete, "every event is delivered");
        double cpu = server.CpuSeconds - before;
        seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        for (int i = 0; i < watchers; i++)
        {
            if (counts[i] != puts)
            {
                throw new InvalidOperationException($"{server.Name}: watcher {i} got {counts[i]} of {puts} events");
            }
        }

        return cpu;
    }

    private void WatchMemory()
    {
        const int Connections = 10, Streams = 10;
        int watchers = (int)(5000 * _scale);
        double[] perWatcher = new double[2];
        for (int side = 0; side < 2; side++)
        {
            using Server server = side == 0 ? Fresh("etcd", _etcd, "--enable-pprof") : Fresh("cairn", _cairn);
            StreamConnection[] connections = new StreamConnection[Connections];
            int[,] streams = new int[Connections, Streams];
            int created = 0;
            int wanted = Connections * Streams * watchers;
            using ManualResetEventSlim ready = new();
            for (int i = 0; i < Connections; i++)
            {
                connections[i] = new StreamConnection(server.Port)
                {
                    OnMessage = (_, message) =>
                    {
                        if (WatchMessages.Number(message, 3) == 1 && Interlocked.Increment(ref created) == wanted)
                        {
                            ready.Set();
                        }
                    },
                };
                connections[i].PumpInBackground();
                for (int k = 0; k < Streams; k++)
                {
                    streams[i, k] = connections[i].Open(WatchPath);
                }

                connections[i].Flush();
            }

            double bare = Settled(server, side == 0);
            int number = 0;
            for (int i = 0; i < Connections; i++)
            {
                for (int k = 0; k < Streams; k++)
                {
                    for (int w = 0; w < watchers; w++)
                    {
                        connections[i].Send(streams[i, k], WatchMessages.Create(Requests.Key(number++)));
                    }

                    connections[i].Flush();
                }
            }

            Expect(ready, "the watchers are created");
            double full = Settled(server, side == 0);
            perWatcher[side] = (full - bare) * 1024 * 1024 / wanted;
            Say($"watchers, {server.Name}: RssAnon {F(bare, "0.0")} MiB with the streams alone, {F(full, "0.0")} MiB with {wanted} watchers");
            foreach (StreamConnection connection in connections)
            {
                connection.Dispose();
            }

            server.Stop();
        }

        Row($"{Connections * Streams} streams × {watchers} watchers on keys of their own (32 bytes): RssAnon per watcher, bytes", [perWatcher[0]], [perWatcher[1]], "0", 0.3);
    }

    /// <summary>RssAnon in MiB once it falls no more; before that etcd's garbage is collected.</summary>
    private static double Settled(Server server, bool collects)
    {
        double least = double.MaxValue;
        long changed = Stopwatch.GetTimestamp();
        for (int i = 0; Stopwatch.GetElapsedTime(changed).TotalSeconds < 6; i++)
        {
            if (collects && i < 3)
            {
                _ = server.Page("/debug/pprof/heap?gc=1");
            }

            Thread.Sleep(1000);
            double now = server.Memory("RssAnon");
            if (now < least * 0.995)
            {
                least = now;
                changed = Stopwatch.GetTimestamp();
            }
        }

        return least;
    }

    private void Behind()
    {
        const int BytesPerRevision = 380, RevisionsPerSecond = 50_000;
        int behind = (int)(500_000 * _scale);
        byte[] put = Requests.Put(Requests.Key(1), new byte[256]);
        string body = Path.Combine(_folder, "body");
        File.WriteAllBytes(body, Requests.Framed(put));
        using Server etcd = Fresh("etcd", _etcd), cairn = Fresh("cairn", _cairn);
        foreach (Server server in new[] { etcd, cairn })
        {
            _ = H2Load(server, PutPath, body, behind);
        }

        List<double>[] ratio = [[], []], alone = [[], []];
        List<double> storeAlone = [], storeBeside = [];
        for (int pair = 0; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + pair) % 2;
                Server server = side == 0 ? etcd : cairn;
                int puts = (int)((side == 0 ? 20_000 : 60_000) * Math.Max(0.25, _scale));
                double[] rate = new double[2], store = new double[2];
                for (int k = 0; k < 2; k++)
                {
                    bool beside = (k + pair) % 2 == 1;
                    using Laggard? laggard = beside ? new Laggard(server, Requests.Key(1), BytesPerRevision * RevisionsPerSecond) : null;
                    double storeBefore = server.ThreadCpuSeconds("cairn:store");
                    rate[beside ? 1 : 0] = puts / H2Load(server, PutPath, body, puts);
                    store[beside ? 1 : 0] = (server.ThreadCpuSeconds("cairn:store") - storeBefore) * 1e6 / puts;
                    if (laggard is not null)
                    {
                        Say($"behind, {server.Name}: the watcher got {laggard.Events} events meanwhile");
                        if (laggard.Events >= behind)
                        {
                            throw new InvalidOperationException("the watcher was not behind any more at the end of the run");
                        }
                    }
                }

                alone[side].Add(rate[0]);
                ratio[side].Add(rate[1] / rate[0]);
                if (side == 1)
                {
                    storeAlone.Add(store[0]);
                    storeBeside.Add(store[1]);
                }

                Say($"behind, pair {pair + 1}, {server.Name}: {F(rate[0], "0")} puts/s alone, {F(rate[1], "0")} beside the watcher; store thread {F(store[0], "0.00")} and {F(store[1], "0.00")} µs a put");
            }
        }

        Write($"| one watcher {behind} revisions behind: puts/s beside it / without it | {Samples.Show(ratio[0], "0.00")} | **{Samples.Show(ratio[1], "0.00")}** | | ≥ 0.9 |");
        Write($"| the same: puts/s without it | {Samples.Show(alone[0], "0")} | {Samples.Show(alone[1], "0")} | | |");
        Write($"| the same: CPU of the store thread a put, µs, without and beside it | | {Samples.Show(storeAlone, "0.00")} and {Samples.Show(storeBeside, "0.00")} | | ≤ 2 % more |");
        etcd.Stop();
        cairn.Stop();
    }

    private void WatchLatency(Server etcd, Server cairn)
    {
        int puts = Math.Max(500, (int)(5000 * _scale));
        List<double>[] p50 = [[], []], p99 = [[], []];
        for (int pair = -1; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + Math.Max(0, pair)) % 2;
                Server server = side == 0 ? etcd : cairn;
                double[] micros = WatchLatencyOnce(server, pair < 0 ? 500 : puts);
                if (pair >= 0)
                {
                    p50[side].Add(Samples.Quantile(micros, 0.5));
                    p99[side].Add(Samples.Quantile(micros, 0.99));
                    Say($"watch latency, pair {pair + 1}, {server.Name}: p50 {F(p50[side][^1], "0")} µs, p99 {F(p99[side][^1], "0")} µs");
                }
            }
        }

        Row("1,000 puts/s of 256 bytes, one watcher: put sent to event received, p50, µs", p50[0], p50[1], "0", 0.6);
        Row("the same: p99, µs", p99[0], p99[1], "0", 0.6);
    }

    private static double[] WatchLatencyOnce(Server server, int puts)
    {
        byte[] key = Requests.Key(8);
        double[] micros = new double[puts];
        int seen = 0;
        using ManualResetEventSlim ready = new(), complete = new();
        using StreamConnection watching = new(server.Port), putting = new(server.Port);
        watching.OnMessage = (_, message) =>
        {
            long now = Stopwatch.GetTimestamp();
            if (WatchMessages.Number(message, 3) == 1)
            {
                ready.Set();
                return;
            }

            Fields fields = new(message);
            while (fields.Next())
            {
                if (fields.Number == 11)
                {
                    ReadOnlySpan<byte> value = WatchMessages.Bytes(WatchMessages.Bytes(fields.Bytes, 2), 5);
                    micros[seen++] = Stopwatch.GetElapsedTime(BitConverter.ToInt64(value), now).TotalMicroseconds;
                }
            }

            if (seen == puts)
            {
                complete.Set();
            }
        };
        int answers = 0, failures = 0;
        putting.OnEnd = (_, messages) =>
        {
            answers++;
            failures += messages == 1 ? 0 : 1;
        };
        watching.PumpInBackground();
        putting.PumpInBackground();
        int stream = watching.Open(WatchPath);
        watching.Send(stream, WatchMessages.Create(key));
        watching.Flush();
        Expect(ready, "the watcher is created");
        byte[] value = new byte[256];
        long began = Stopwatch.GetTimestamp();
        for (int i = 0; i < puts; i++)
        {
            Await(began, i * 0.001);
            _ = BitConverter.TryWriteBytes(value, Stopwatch.GetTimestamp());
            putting.Send(putting.Open(PutPath), Requests.Put(key, value), end: true);
            putting.Flush();
        }

        Expect(complete, "every event is delivered");
        if (failures != 0)
        {
            throw new InvalidOperationException($"{server.Name}: {failures} puts failed");
        }

        return micros;
    }

    /// <summary>Waits until so many seconds after a moment; late work is done at once.</summary>
    private static void Await(long began, double seconds)
    {
        double left;
        while ((left = seconds - Stopwatch.GetElapsedTime(began).TotalSeconds) > 0)
        {
            Thread.Sleep(Math.Max(1, (int)(left * 1000)));
        }
    }

    private static void Expect(ManualResetEventSlim done, string what)
    {
        if (!done.Wait(180_000))
        {
            throw new TimeoutException("not within three minutes: " + what);
        }
    }

    private static void Succeed(Http2Client client, string path, byte[] message)
    {
        if (client.Call(path, message) != 0)
        {
            throw new InvalidOperationException($"{path} was refused");
        }
    }

    /// <summary>A watcher from the first revision on, whose client takes so many bytes a second.</summary>
    private sealed class Laggard : IDisposable
    {
        private readonly StreamConnection _connection;
        private readonly Timer _timer;
        private long _events;

        public Laggard(Server server, byte[] key, int bytesPerSecond)
        {
            _connection = new StreamConnection(server.Port, streamWindow: 65_535)
            {
                OnMessage = (_, message) =>
                {
                    Fields fields = new(message);
                    while (fields.Next())
                    {
                        _events += fields.Number == 11 ? 1 : 0;
                    }
                },
            };
            int stream = _connection.Open(WatchPath);
            _connection.Send(stream, WatchMessages.Create(key, default, start: 2));
            _connection.Flush();
            _connection.PumpInBackground();
            _timer = new Timer(_ => _connection.Credit(stream, bytesPerSecond / 50), null, 20, 20);
        }

        public long Events => Volatile.Read(ref _events);

        public void Dispose()
        {
            using ManualResetEvent ended = new(false);
            if (_timer.Dispose(ended))
            {
                _ = ended.WaitOne();
            }

            _connection.Dispose();
        }
    }
}
