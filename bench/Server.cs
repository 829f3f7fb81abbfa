// Server: a server under measurement as a child process, and what the kernel says about it.
//
// CPU time is that of the whole process (user and system, all threads) from /proc/PID/stat: it does not care how many cores
// the load generator takes away, which is why CPU ratios decide and latencies only illustrate.
using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace Cairn.Bench;

internal sealed class Server : IDisposable
{
    private const double TicksPerSecond = 100;
    private readonly Process _process;
    private readonly long _began;

    /// <summary>Starts a lone member and waits until it answers a linearizable range.</summary>
    public Server(string name, string binary, string data, params string[] more)
        : this(name, binary, data, "bench", FreePort(), $"http://127.0.0.1:{FreePort()}", null, more)
    {
        WaitUntilReady();
    }

    /// <summary>Starts a member; it can serve once enough others of its cluster run.</summary>
    /// <param name="name">For tables.</param>
    /// <param name="binary">What to run.</param>
    /// <param name="data">Its directory.</param>
    /// <param name="member">Its name in the cluster.</param>
    /// <param name="port">Client port.</param>
    /// <param name="peerUrl">Its address for the other members.</param>
    /// <param name="cluster">All members; null: it is alone.</param>
    /// <param name="more">Further options.</param>
    public Server(string name, string binary, string data, string member, int port, string peerUrl, string? cluster, params string[] more)
    {
        Name = name;
        Port = port;
        ProcessStartInfo start = new(binary)
        {
            UseShellExecute = false,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        foreach (string argument in new[]
        {
            "--name", member, "--data-dir", data, "--log-level", "error",
            "--listen-client-urls", $"http://127.0.0.1:{Port}", "--advertise-client-urls", $"http://127.0.0.1:{Port}",
            "--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl, "--initial-cluster", cluster ?? member + "=" + peerUrl,
            "--quota-backend-bytes", "8589934592",
        })
        {
            start.ArgumentList.Add(argument);
        }

        foreach (string argument in more)
        {
            start.ArgumentList.Add(argument);
        }

        _began = Stopwatch.GetTimestamp();
        _process = Process.Start(start)!;
        _process.OutputDataReceived += static (_, _) => { };
        _process.ErrorDataReceived += static (_, e) =>
        {
            if (e.Data is { Length: > 0 } line)
            {
                Console.Error.WriteLine(line);
            }
        };
        _process.BeginErrorReadLine();
        _process.BeginOutputReadLine();
    }

    /// <summary>Waits until the server answers a linearizable range.</summary>
    public void WaitUntilReady()
    {
        while (true)
        {
            if (_process.HasExited)
            {
                throw new InvalidOperationException($"{Name} ended with {_process.ExitCode}");
            }

            try
            {
                using Http2Client client = new(Port);
                if (client.Call("/etcdserverpb.KV/Range", Requests.Range("ready"u8)) == 0)
                {
                    break;
                }
            }
            catch (Exception e) when (e is SocketException or IOException)
            {
                // Not listening yet.
            }

            if (Stopwatch.GetElapsedTime(_began).TotalSeconds > 120)
            {
                throw new TimeoutException($"{Name} is not ready after two minutes");
            }

            Thread.Sleep(2);
        }

        StartToReady = Stopwatch.GetElapsedTime(_began).TotalSeconds;
    }

    public string Name { get; }

    public int Port { get; }

    /// <summary>Seconds from exec to the first answer.</summary>
    public double StartToReady { get; private set; }

    /// <summary>Seconds of CPU time so far, resolution 10 ms.</summary>
    public double CpuSeconds => Cpu($"/proc/{_process.Id}/stat");

    /// <summary>The same of its threads with a name, exactly; NaN when there is none. Go's threads have no names.</summary>
    public double ThreadCpuSeconds(string thread)
    {
        double sum = double.NaN;
        foreach (string task in Directory.GetDirectories($"/proc/{_process.Id}/task"))
        {
            if (File.ReadAllText(task + "/comm").Trim() == thread)
            {
                sum = (double.IsNaN(sum) ? 0 : sum) + (double.Parse(File.ReadAllText(task + "/schedstat").Split(' ')[0], CultureInfo.InvariantCulture) / 1e9);
            }
        }

        return sum;
    }

    /// <summary>A memory line of /proc/PID/status in MiB: RssAnon, RssFile, VmRSS.</summary>
    public double Memory(string line)
    {
        foreach (string text in File.ReadLines($"/proc/{_process.Id}/status"))
        {
            if (text.StartsWith(line + ":", StringComparison.Ordinal))
            {
                return double.Parse(text[(line.Length + 1)..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture) / 1024;
            }
        }

        return double.NaN;
    }

    /// <summary>The server's own metrics page.</summary>
    public string Metrics() => Page("/metrics");

    /// <summary>A number of it; NaN when there is none.</summary>
    public double Metric(string name)
    {
        foreach (string line in Metrics().Split('\n'))
        {
            if (line.StartsWith(name + " ", StringComparison.Ordinal))
            {
                return double.Parse(line[name.Length..].Trim(), CultureInfo.InvariantCulture);
            }
        }

        return double.NaN;
    }

    /// <summary>Any page over HTTP/1.1, with its head.</summary>
    public string Page(string path)
    {
        using TcpClient client = new("127.0.0.1", Port);
        using NetworkStream stream = client.GetStream();
        stream.Write(Encoding.ASCII.GetBytes($"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        using StreamReader reader = new(stream, Encoding.Latin1);
        return reader.ReadToEnd();
    }

    /// <summary>SIGKILL, and the wait for its end.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    /// <summary>SIGTERM and the wait for its end.</summary>
    public void Stop()
    {
        if (!_process.HasExited)
        {
            using Process? kill = Process.Start("kill", $"-TERM {_process.Id}");
            kill?.WaitForExit();
            if (!_process.WaitForExit(60_000))
            {
                _process.Kill();
            }
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            _process.WaitForExit();
        }

        _process.Dispose();
    }

    private static double Cpu(string path)
    {
        string stat = File.ReadAllText(path);
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return (double.Parse(fields[11], CultureInfo.InvariantCulture) + double.Parse(fields[12], CultureInfo.InvariantCulture)) / TicksPerSecond;
    }

    public static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
