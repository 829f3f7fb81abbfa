// Compare: the same work to etcd and to Cairn, alternating, in one run. What is measured, and why so:
//
//   range, put   CPU time of the server process per request, under h2load (10 connections × 10 streams, a raw gRPC body).
//                CPU per request is what a machine can be asked twice; throughput on shared cores is not.
//   latency      one client, one request at a time, puts of 256 bytes; beside it the disk's own fdatasync distribution,
//                because on most disks that is nearly all of it.
//   watch        fanout, watchmemory, behind, watchlatency: Compare.Watch.cs.
//   lease        expiry, keepalive: Compare.Lease.cs.
//   cluster      clustercpu, clusterlatency, failover: Compare.Cluster.cs.
//   memory       a million keys of 32 + 256 bytes: resident memory after the load and after a restart, start to ready.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using System.Threading;
using Microsoft.Win32.SafeHandles;

namespace Cairn.Bench;

internal sealed partial class Compare
{
    private const string RangePath = "/etcdserverpb.KV/Range", PutPath = "/etcdserverpb.KV/Put", TxnPath = "/etcdserverpb.KV/Txn";
    private readonly string _etcd = "", _cairn = "", _folder = "";
    private readonly int _pairs = 7;
    private readonly double _scale = 1;
    private readonly HashSet<string> _parts = [];

    public Compare(ReadOnlySpan<string> arguments)
    {
        foreach (string argument in arguments)
        {
            int equals = argument.IndexOf('=', StringComparison.Ordinal);
            string value = equals < 0 ? "" : argument[(equals + 1)..];
            switch (equals < 0 ? argument : argument[..equals])
            {
                case "--etcd":
                    _etcd = Path.GetFullPath(value);
                    break;
                case "--cairn":
                    _cairn = Path.GetFullPath(value);
                    break;
                case "--folder":
                    _folder = Path.GetFullPath(value);
                    break;
                case "--pairs":
                    _pairs = int.Parse(value, CultureInfo.InvariantCulture);
                    break;
                case "--scale":
                    _scale = double.Parse(value, CultureInfo.InvariantCulture);
                    break;
                default:
                    _parts.Add(argument);
                    break;
            }
        }
    }

    public int Run()
    {
        Directory.CreateDirectory(_folder);
        Write($"Made by `bench/compare` (pairs {_pairs}, scale {_scale.ToString(CultureInfo.InvariantCulture)}): {Environment.ProcessorCount} cores, {CpuModel()}, etcd {Version(_etcd)} against Cairn.");
        Write("Median (least … most) of the pairs; the ratio is the median of the ratios inside the pairs.");
        Write("");
        Write("| what | etcd | Cairn | Cairn / etcd | limit |");
        Write("| --- | --- | --- | --- | --- |");
        if (Wanted("range") || Wanted("put") || Wanted("latency"))
        {
            using Server etcd = Fresh("etcd", _etcd), cairn = Fresh("cairn", _cairn);
            if (Wanted("range"))
            {
                Load("linearizable range of one key", RangePath, Requests.Range(Requests.Key(1)), (int)(120_000 * _scale), etcd, cairn, 0.35);
            }

            if (Wanted("put"))
            {
                Load("put of 256 bytes", PutPath, Requests.Put(Requests.Key(1), new byte[256]), (int)(60_000 * _scale), etcd, cairn, 0.35);
            }

            if (Wanted("latency"))
            {
                Latency(etcd, cairn);
            }

            Collections(cairn);
            etcd.Stop();
            cairn.Stop();
        }

        if (Wanted("memory"))
        {
            Memory();
        }

        WatchParts();
        LeaseParts();
        ClusterParts();

        Directory.Delete(_folder, recursive: true);
        return 0;
    }

    private static void Write(string line) => Console.Out.WriteLine(line);

    private static void Say(string line) => Console.Error.WriteLine(line);

    private static string F(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    /// <param name="what">First column.</param>
    /// <param name="etcd">One value a pair.</param>
    /// <param name="cairn">As many.</param>
    /// <param name="format">Of the values.</param>
    /// <param name="limit">Of the ratio from above; negative: from below; 0: none.</param>
    private static void Row(string what, IReadOnlyList<double> etcd, IReadOnlyList<double> cairn, string format, double limit) =>
        Write($"| {what} | {Samples.Show(etcd, format)} | {Samples.Show(cairn, format)} | **{Samples.Show(Samples.Ratios(cairn, etcd), "0.00")}** | {(limit > 0 ? "≤ " + F(limit, "0.##") : limit < 0 ? "≥ " + F(-limit, "0.##") : "")} |");

    private bool Wanted(string part) => _parts.Count == 0 || _parts.Contains(part);

    private Server Fresh(string name, string binary, params string[] more)
    {
        string data = Path.Combine(_folder, name);
        if (Directory.Exists(data))
        {
            Directory.Delete(data, recursive: true);
        }

        return new Server(name, binary, data, more);
    }

    private void Load(string what, string path, byte[] message, int requests, Server etcd, Server cairn, double limit)
    {
        string body = Path.Combine(_folder, "body");
        File.WriteAllBytes(body, Requests.Framed(message));
        foreach (Server server in new[] { etcd, cairn })
        {
            using Http2Client client = new(server.Port);
            if (client.Call(PutPath, Requests.Put(Requests.Key(1), new byte[256])) != 0 || client.Call(path, message) != 0)
            {
                throw new InvalidOperationException($"{server.Name} refuses {path}");
            }

            H2Load(server, path, body, Math.Max(1000, requests / 5));
        }

        List<double>[] cpu = [[], []], rate = [[], []];
        for (int pair = 0; pair < _pairs; pair++)
        {
            // Who goes first alternates too.
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + pair) % 2;
                Server server = side == 0 ? etcd : cairn;
                double before = server.CpuSeconds;
                double seconds = H2Load(server, path, body, requests);
                cpu[side].Add((server.CpuSeconds - before) * 1e6 / requests);
                rate[side].Add(requests / seconds);
                Say($"{what}, pair {pair + 1}, {server.Name}: {F(cpu[side][^1], "0.0")} µs CPU, {F(rate[side][^1], "0")} requests/s");
            }
        }

        Row($"{what}: server CPU per request, µs", cpu[0], cpu[1], "0.0", limit);
        Row($"{what}: requests/s (10 × 10, both ends on these cores)", rate[0], rate[1], "0", 0);
    }

    /// <summary>Runs h2load; returns its wall seconds. Fails unless every request succeeded.</summary>
    private static double H2Load(Server server, string path, string body, int requests, int connections = 10, int streams = 10)
    {
        ProcessStartInfo start = new("h2load") { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        foreach (string argument in new[]
        {
            "-n", F(requests, "0"), "-c", F(connections, "0"), "-m", F(streams, "0"), "-t", "1", "-d", body, "-H", "content-type: application/grpc",
            "-H", "te: trailers", $"http://127.0.0.1:{server.Port}{path}",
        })
        {
            start.ArgumentList.Add(argument);
        }

        long began = Stopwatch.GetTimestamp();
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        if (!output.Contains($"{requests} succeeded, 0 failed, 0 errored", StringComparison.Ordinal))
        {
            throw new InvalidOperationException($"h2load against {server.Name}:\n{output}");
        }

        return seconds;
    }

    private void Latency(Server etcd, Server cairn)
    {
        int count = (int)(3000 * _scale);
        List<double>[] p50 = [[], []], p99 = [[], []];
        List<double> disk50 = [], disk99 = [];
        for (int pair = 0; pair < _pairs; pair++)
        {
            for (int turn = 0; turn < 2; turn++)
            {
                int side = (turn + pair) % 2;
                Server server = side == 0 ? etcd : cairn;
                using Http2Client client = new(server.Port);
                double[] micros = new double[count];
                for (int i = -200; i < count; i++)
                {
                    byte[] put = Requests.Put(Requests.Key(i + 200), new byte[256]);
                    long began = Stopwatch.GetTimestamp();
                    client.Call(PutPath, put);
                    if (i >= 0)
                    {
                        micros[i] = Stopwatch.GetElapsedTime(began).TotalMicroseconds;
                    }
                }

                p50[side].Add(Samples.Quantile(micros, 0.5));
                p99[side].Add(Samples.Quantile(micros, 0.99));
                Say($"latency, pair {pair + 1}, {server.Name}: p50 {F(p50[side][^1], "0")} µs, p99 {F(p99[side][^1], "0")} µs");
            }

            double[] disk = Disk(Math.Max(200, count / 3));
            disk50.Add(Samples.Quantile(disk, 0.5));
            disk99.Add(Samples.Quantile(disk, 0.99));
        }

        Row("one client, one put of 256 bytes at a time: p50, µs", p50[0], p50[1], "0", 0.6);
        Row("the same: p99, µs", p99[0], p99[1], "0", 1);
        Write($"| the disk alone, 4 KiB pwrite + fdatasync into a zero-filled file: p50 and p99, µs | {Samples.Show(disk50, "0")} | {Samples.Show(disk99, "0")} | | |");
    }

    /// <summary>What one fdatasync costs here: microseconds of each.</summary>
    private double[] Disk(int count)
    {
        string path = Path.Combine(_folder, "disk");
        double[] micros = new double[count];
        using (SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite))
        {
            byte[] block = new byte[4096];
            for (int i = 0; i < count; i++)
            {
                RandomAccess.Write(file, block, i * 4096L);
            }

            RandomAccess.FlushToDisk(file);
            new Random(1).NextBytes(block);
            for (int i = 0; i < count; i++)
            {
                long began = Stopwatch.GetTimestamp();
                RandomAccess.Write(file, block, i * 4096L);
                if (DataSync((int)file.DangerousGetHandle()) != 0)
                {
                    throw new IOException("fdatasync failed");
                }

                micros[i] = Stopwatch.GetElapsedTime(began).TotalMicroseconds;
            }
        }

        File.Delete(path);
        return micros;
    }

    private void Memory()
    {
        int keys = (int)(1_000_000 * _scale);
        double[] anon = new double[2], rss = new double[2], anonAfter = new double[2], rssAfter = new double[2], ready = new double[2], fill = new double[2];
        for (int side = 0; side < 2; side++)
        {
            string name = side == 0 ? "etcd" : "cairn", binary = side == 0 ? _etcd : _cairn;
            using (Server server = Fresh(name, binary))
            {
                using Http2Client client = new(server.Port);
                long began = Stopwatch.GetTimestamp();
                for (int first = 0; first < keys; first += 100)
                {
                    if (client.Call(TxnPath, Requests.Fill(first, Math.Min(100, keys - first))) != 0)
                    {
                        throw new InvalidOperationException($"{name} refuses the fill at {first}");
                    }
                }

                fill[side] = Stopwatch.GetElapsedTime(began).TotalSeconds;
                Thread.Sleep(10_000);
                anon[side] = server.Memory("RssAnon");
                rss[side] = server.Memory("VmRSS");
                server.Stop();
            }

            List<double> starts = [];
            for (int i = 0; i < 3; i++)
            {
                using Server server = new(name, binary, Path.Combine(_folder, name));
                starts.Add(server.StartToReady);
                if (i == 2)
                {
                    Thread.Sleep(5000);
                    anonAfter[side] = server.Memory("RssAnon");
                    rssAfter[side] = server.Memory("VmRSS");
                }

                server.Stop();
            }

            ready[side] = Samples.Median(starts);
            Say($"memory, {name}: RssAnon {F(anon[side], "0")} MiB, VmRSS {F(rss[side], "0")} MiB, start to ready {F(ready[side], "0.00")} s, filled in {F(fill[side], "0")} s");
            Directory.Delete(Path.Combine(_folder, name), recursive: true);
        }

        string million = keys == 1_000_000 ? "one million keys" : $"{keys} keys";
        Row($"{million} (32 + 256 bytes), after loading: RssAnon, MiB", [anon[0]], [anon[1]], "0", 0.4);
        Row("the same: VmRSS, MiB", [rss[0]], [rss[1]], "0", 0.7);
        Row("the same, after a restart: RssAnon, MiB", [anonAfter[0]], [anonAfter[1]], "0", 0.4);
        Row("the same, after a restart: VmRSS, MiB", [rssAfter[0]], [rssAfter[1]], "0", 0.7);
        Row("the same: start to ready, s (median of 3)", [ready[0]], [ready[1]], "0.00", 0.5);
        Row("the same: loading, s (one client, transactions of 100)", [fill[0]], [fill[1]], "0.0", 0);
    }

    /// <summary>What the collector did in all the runs above, in the server's own words.</summary>
    private static void Collections(Server cairn)
    {
        foreach (string line in cairn.Metrics().Split('\n'))
        {
            if (line.StartsWith("dotnet_gc", StringComparison.Ordinal) || line.StartsWith("cairn_gc", StringComparison.Ordinal))
            {
                Write($"| Cairn's collector over these runs: `{line.Trim()}` | | | | |");
            }
        }
    }

    private static string CpuModel()
    {
        foreach (string line in File.ReadLines("/proc/cpuinfo"))
        {
            if (line.StartsWith("model name", StringComparison.Ordinal))
            {
                return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
            }
        }

        return "unknown processor";
    }

    private static string Version(string etcd)
    {
        ProcessStartInfo start = new(etcd, "--version") { RedirectStandardOutput = true, UseShellExecute = false };
        using Process process = Process.Start(start)!;
        string first = process.StandardOutput.ReadLine() ?? "";
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return first.Replace("etcd Version: ", "", StringComparison.Ordinal);
    }

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    private static partial int DataSync(int file);
}
