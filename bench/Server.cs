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
using System.Threading;

namespace Cairn.Bench;

internal sealed class Server : IDisposable
{
    private const double TicksPerSecond = 100;
    private readonly Process _process;

    /// <summary>Starts the server and waits until it answers a linearizable range.</summary>
    public Server(string name, string binary, string data)
    {
        Name = name;
        Port = FreePort();
        int peer = FreePort();
        string peerUrl = $"http://127.0.0.1:{peer}";
        ProcessStartInfo start = new(binary)
        {
            UseShellExecute = false,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        foreach (string argument in new[]
        {
            "--name", "bench", "--data-dir", data, "--log-level", "error",
            "--listen-client-urls", $"http://127.0.0.1:{Port}", "--advertise-client-urls", $"http://127.0.0.1:{Port}",
            "--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl, "--initial-cluster", "bench=" + peerUrl,
            "--quota-backend-bytes", "8589934592",
        })
        {
            start.ArgumentList.Add(argument);
        }

        long began = Stopwatch.GetTimestamp();
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
        while (true)
        {
            if (_process.HasExited)
            {
                throw new InvalidOperationException($"{binary} ended with {_process.ExitCode}");
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

            if (Stopwatch.GetElapsedTime(began).TotalSeconds > 120)
            {
                throw new TimeoutException($"{binary} is not ready after two minutes");
            }

            Thread.Sleep(2);
        }

        StartToReady = Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    public string Name { get; }

    public int Port { get; }

    /// <summary>Seconds from exec to the first answer.</summary>
    public double StartToReady { get; }

    /// <summary>Seconds of CPU time so far, resolution 10 ms.</summary>
    public double CpuSeconds
    {
        get
        {
            string stat = File.ReadAllText($"/proc/{_process.Id}/stat");
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return (double.Parse(fields[11], CultureInfo.InvariantCulture) + double.Parse(fields[12], CultureInfo.InvariantCulture)) / TicksPerSecond;
        }
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
    public string Metrics()
    {
        using TcpClient client = new("127.0.0.1", Port);
        using NetworkStream stream = client.GetStream();
        stream.Write("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"u8);
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
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

    private static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
