// Compare, leases.
//
//   expiry      100,000 leases granted so that all of them end in one second (each with the whole seconds left until then): how
//               long after the first was due the last is gone, and the p99 of one client's puts meanwhile beside that when
//               idle. The server's own counter of ends says when; the list of leases, empty in the end, says that it is true.
//   keepalive   100 streams, each with one keep-alive under way: CPU of the server.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;

namespace Cairn.Bench;

internal sealed partial class Compare
{
    private const string GrantPath = "/etcdserverpb.Lease/LeaseGrant", ListPath = "/etcdserverpb.Lease/LeaseLeases",
        KeepAlivePath = "/etcdserverpb.Lease/LeaseKeepAlive", ExpiredCounter = "etcd_debugging_server_lease_expired_total";

    private void LeaseParts()
    {
        bool all = Wanted("lease");
        if (all || Wanted("keepalive"))
        {
            using Server etcd = Fresh("etcd", _etcd), cairn = Fresh("cairn", _cairn);
            KeepAlives(etcd, cairn);
            etcd.Stop();
            cairn.Stop();
        }

        if (all || Wanted("expiry"))
        {
            Expiry();
        }
    }

    private void KeepAlives(Server etcd, Server cairn)
    {
        const int Leases = 1000;
        int most = (int)(200_000 * _scale);
        foreach (Server server in new[] { etcd, cairn })
        {
            GrantAll(server, Leases, _ => 3600);
            _ = KeepAliveOnce(server, Leases, 20_000);
        }

        List<double>[] perSecond = [[], []], micros = [[], []], rate = [[], []];
        for (int pair = 0; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + pair) % 2;
                Server server = side == 0 ? etcd : cairn;
                int renewals = side == 0 ? most : 5 * most; // CPU is counted in hundredths of a second
                double before = server.CpuSeconds;
                double seconds = KeepAliveOnce(server, Leases, renewals);
                double cpu = server.CpuSeconds - before;
                perSecond[side].Add(renewals / cpu / 1000);
                micros[side].Add(cpu * 1e6 / renewals);
                rate[side].Add(renewals / seconds / 1000);
                Say($"keep-alives, pair {pair + 1}, {server.Name}: {F(micros[side][^1], "0.00")} µs CPU each, {F(renewals / seconds, "0")}/s");
            }
        }

        Row("keep-alives on 100 streams, one under way on each: thousand per CPU second", perSecond[0], perSecond[1], "0", -4);
        Row("the same: server CPU each, µs", micros[0], micros[1], "0.00", 0);
        Row("the same: thousand a second", rate[0], rate[1], "0", 0);
    }

    private static double KeepAliveOnce(Server server, int leases, int renewals)
    {
        const int Connections = 2, Streams = 50;
        int left = renewals, toSend = renewals, next = 0, failures = 0;
        using ManualResetEventSlim complete = new();
        StreamConnection[] connections = new StreamConnection[Connections];
        long began = Stopwatch.GetTimestamp();
        for (int i = 0; i < Connections; i++)
        {
            StreamConnection connection = connections[i] = new StreamConnection(server.Port);
            connection.OnMessage = (stream, message) =>
            {
                if (WatchMessages.Number(message, 3) <= 0)
                {
                    failures++;
                }

                if (Interlocked.Decrement(ref left) == 0)
                {
                    complete.Set();
                }

                if (Interlocked.Decrement(ref toSend) >= 0)
                {
                    connection.Send(stream, Renewal(ref next, leases));
                }
            };
            for (int k = 0; k < Streams; k++)
            {
                toSend--;
                connection.Send(connection.Open(KeepAlivePath), Renewal(ref next, leases));
            }
        }

        foreach (StreamConnection connection in connections)
        {
            connection.Flush();
            connection.PumpInBackground();
        }

        Expect(complete, "every keep-alive is answered");
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        foreach (StreamConnection connection in connections)
        {
            connection.Dispose();
        }

        return failures == 0 ? seconds : throw new InvalidOperationException($"{server.Name}: {failures} keep-alives without a lease");
    }

    private static byte[] Renewal(ref int next, int leases) =>
        WatchMessages.LeaseId(1 + ((uint)Interlocked.Increment(ref next) % (uint)leases));

    private void Expiry()
    {
        // etcd ends a thousand a second: it gets a tenth of them, which is still enough to see it.
        for (int side = 0; side < 2; side++)
        {
            int leases = (int)(_scale * (side == 0 ? 10_000 : 100_000));
            for (int round = 0; round < (side == 0 ? 1 : Math.Min(3, _pairs)); round++)
            {
                using Server server = side == 0 ? Fresh("etcd", _etcd) : Fresh("cairn", _cairn);
                ExpireOnce(server, leases);
                server.Stop();
            }
        }
    }

    private static void ExpireOnce(Server server, int leases)
    {
        using Http2Client client = new(server.Port);
        double[] idle = Puts(client, static made => made < 3000);

        // Each lease gets the whole seconds that are left until the moment when all are to end, rounded up.
        long began = Stopwatch.GetTimestamp();
        double due = Math.Ceiling(4 + (leases / 8000.0));
        double atLeast = double.MaxValue;
        GrantAll(server, leases, _ =>
        {
            double now = Stopwatch.GetElapsedTime(began).TotalSeconds;
            double ttl = Math.Ceiling(due - now);
            atLeast = Math.Min(atLeast, now + ttl);
            return ttl >= 2 ? (long)ttl : throw new InvalidOperationException($"{server.Name} grants too slowly for one second");
        });

        Say($"expiry, {server.Name}: {leases} leases granted after {F(Stopwatch.GetElapsedTime(began).TotalSeconds, "0.0")} s, due after {F(atLeast, "0.0")} s");
        Await(began, due);
        double gone = double.NaN;
        Thread look = new(() =>
        {
            // The counter counts what a leader has decided; the list afterwards what has been applied.
            while (server.Metric(ExpiredCounter) < leases && Stopwatch.GetElapsedTime(began).TotalSeconds < due + 200)
            {
                Thread.Sleep(20);
            }

            using Http2Client lister = new(server.Port);
            while (lister.CallForBytes(ListPath, default) > 100 && Stopwatch.GetElapsedTime(began).TotalSeconds < due + 200)
            {
                Thread.Sleep(20);
            }

            gone = Stopwatch.GetElapsedTime(began).TotalSeconds - due;
        });
        look.Start();
        double[] meanwhile = Puts(client, _ => look.IsAlive);
        look.Join();
        double idle99 = Samples.Quantile(idle, 0.99), busy99 = Samples.Quantile(meanwhile, 0.99);
        string what = $"{leases} leases due within one second";
        Write($"| {what}, {server.Name}: all gone so many seconds after the first was due | {F(gone, "0.00")} | | | ≤ 3 |");
        Write($"| the same: put p99, µs, idle and meanwhile ({meanwhile.Length} puts) | {F(idle99, "0")} | {F(busy99, "0")} | **{F(busy99 / idle99, "0.00")}** | ≤ 3 |");
    }

    private static double[] Puts(Http2Client client, Func<int, bool> goesOn)
    {
        List<double> micros = [];
        byte[] put = Requests.Put(Requests.Key(3), new byte[256]);
        while (goesOn(micros.Count))
        {
            long began = Stopwatch.GetTimestamp();
            Succeed(client, PutPath, put);
            micros.Add(Stopwatch.GetElapsedTime(began).TotalMicroseconds);
        }

        return [.. micros];
    }

    /// <summary>Leases with the ids from 1 on, a hundred grants under way.</summary>
    private static void GrantAll(Server server, int leases, Func<int, long> ttl)
    {
        int sent = 0, answered = 0, failures = 0;
        using StreamConnection connection = new(server.Port);
        void Next()
        {
            if (sent < leases)
            {
                sent++;
                connection.Send(connection.Open(GrantPath), WatchMessages.Grant(sent, ttl(sent)), end: true);
            }
        }

        connection.OnEnd = (_, messages) =>
        {
            answered++;
            failures += messages == 1 ? 0 : 1;
            Next();
        };
        for (int i = 0; i < 100; i++)
        {
            Next();
        }

        connection.Flush();
        while (answered < leases)
        {
            if (!connection.Pump())
            {
                throw new InvalidOperationException($"{server.Name} has ended the connection");
            }
        }

        if (failures > 0)
        {
            throw new InvalidOperationException($"{server.Name} refused {failures} grants");
        }
    }
}
