// ServerProcess: one real server, Cairn or etcd, as a child process: started on free ports, awaited until it serves, stopped
// kindly or killed, its log kept for the failure message.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net.Http;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

/// <summary>Who a member says it is. The same identity on two servers gives both the same member and cluster id, whatever
/// ports they really listen on: the ids depend on advertised peer URL and token alone.</summary>
internal sealed record Identity(string Name, string Token, string PeerUrl, string? ClientUrl = null)
{
    public static Identity Default { get; } = new("m1", "cluster-tests", "http://127.0.0.1:2380", "http://127.0.0.1:2379");
}

internal sealed partial class ServerProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _log = new();
    private readonly TaskCompletionSource _readyLine = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Grpc? _client;

    private ServerProcess(string program, int clientPort, IReadOnlyList<string> arguments)
    {
        Program = program;
        ClientPort = clientPort;
        ProcessStartInfo start = new(program)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Append(e.Data);
        _process.ErrorDataReceived += (_, e) => Append(e.Data);
        _process.Start();
        _process.StandardInput.Close();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Program { get; }

    public int ClientPort { get; }

    public int Pid => _process.Id;

    public string Url => $"http://127.0.0.1:{ClientPort}";

    public string Endpoint => $"127.0.0.1:{ClientPort}";

    public bool IsRunning => !_process.HasExited;

    /// <summary>Completes with the log line that says the server serves.</summary>
    public Task ReadyLine => _readyLine.Task;

    public string Log
    {
        get
        {
            lock (_log)
            {
                return _log.ToString();
            }
        }
    }

    /// <summary>A client that is shared by the tests of this server.</summary>
    public Grpc Client => _client ??= new Grpc(Url);

    /// <summary>Starts Cairn, or whatever CAIRN_BINARY names.</summary>
    public static Task<ServerProcess> Cairn(string dataDir, Identity? identity = null, params string[] more) =>
        Start(Tools.Cairn, dataDir, identity, more);

    /// <summary>Starts the oracle.</summary>
    public static Task<ServerProcess> Etcd(string dataDir, Identity? identity = null, params string[] more) =>
        Start(Tools.Etcd35, dataDir, identity, more);

    /// <summary>Starts a server and waits until it answers a linearizable read.</summary>
    public static async Task<ServerProcess> Start(string program, string dataDir, Identity? identity = null, params string[] more)
    {
        ServerProcess server = Launch(program, dataDir, identity, more);
        try
        {
            await server.WaitUntilServing();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts a server without waiting.</summary>
    public static ServerProcess Launch(string program, string dataDir, Identity? identity = null, params string[] more)
    {
        identity ??= Identity.Default;
        int clientPort = Tools.FreePort();
        int peerPort = Tools.FreePort();
        string clientUrl = $"http://127.0.0.1:{clientPort}";
        List<string> arguments =
        [
            "--name", identity.Name,
            "--data-dir", dataDir,
            "--listen-client-urls", clientUrl,
            "--advertise-client-urls", identity.ClientUrl ?? clientUrl,
            "--listen-peer-urls", $"http://127.0.0.1:{peerPort}",
            "--initial-advertise-peer-urls", identity.PeerUrl,
            "--initial-cluster", $"{identity.Name}={identity.PeerUrl}",
            "--initial-cluster-token", identity.Token,
        ];
        arguments.AddRange(more);
        return new ServerProcess(program, clientPort, arguments);
    }

    /// <summary>Starts a server with exactly these arguments, without waiting.</summary>
    public static ServerProcess LaunchWith(string program, int clientPort, IReadOnlyList<string> arguments) =>
        new(program, clientPort, arguments);

    /// <summary>Sends a signal: 19 freezes, 18 lets go on.</summary>
    public void Signal(int signal) => Assert.Equal(0, Kill(_process.Id, signal));

    /// <summary>Waits until a linearizable read succeeds; fails with the log when the process ends or 60 s pass.</summary>
    public async Task WaitUntilServing()
    {
        long limit = Environment.TickCount64 + 60_000;
        byte[] request = new Pb().Text(1, "health").Bytes;
        while (true)
        {
            if (_process.HasExited)
            {
                Assert.Fail($"{Program} ended with {_process.ExitCode} while starting:\n{Tail()}");
            }

            try
            {
                Answer answer = await Client.Call(Grpc.Range, request, null, TimeSpan.FromSeconds(5));

                // With authentication on, the refusal of a caller without a name comes from a member that serves.
                if (answer.Code == 0 || answer.Message.EndsWith("user name is empty", StringComparison.Ordinal))
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // Not listening yet.
            }
            catch (OperationCanceledException)
            {
                // Listening but not answering yet.
            }

            if (Environment.TickCount64 > limit)
            {
                Assert.Fail($"{Program} does not serve after 60 s:\n{Tail()}");
            }

            await Task.Delay(5);
        }
    }

    /// <summary>SIGTERM, then waits for the end.</summary>
    /// <returns>The exit code; 128 + n when signal n ended the process, which etcd does to itself after SIGTERM.</returns>
    public async Task<int> Stop()
    {
        if (!_process.HasExited)
        {
            Assert.Equal(0, Kill(_process.Id, 15));
        }

        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
        try
        {
            await _process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"{Program} still runs 30 s after SIGTERM:\n{Tail()}");
        }

        return _process.ExitCode;
    }

    /// <summary>SIGKILL, then waits until the process and its file locks are gone.</summary>
    public async Task KillHard()
    {
        if (!_process.HasExited)
        {
            Assert.Equal(0, Kill(_process.Id, 9));
        }

        await _process.WaitForExitAsync();
    }

    /// <summary>Waits for an end that comes by itself.</summary>
    public async Task<int> Exit(int seconds = 20)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(seconds));
        try
        {
            await _process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"{Program} still runs after {seconds} s:\n{Tail()}");
        }

        return _process.ExitCode;
    }

    /// <summary>HashKV at a revision, 0 for the latest.</summary>
    public async Task<(long Hash, long Compacted)> HashKv(long revision = 0, IEnumerable<KeyValuePair<string, string>>? metadata = null)
    {
        List<string> lines = await Client.Ok(Grpc.HashKv, new Pb().Number(1, revision), metadata);
        return (Schema.Number(lines, "hash"), Schema.Number(lines, "compact_revision"));
    }

    public string Tail()
    {
        string log = Log;
        return log.Length > 6000 ? "…" + log[^6000..] : log;
    }

    public async ValueTask DisposeAsync()
    {
        _client?.Dispose();
        if (!_process.HasExited)
        {
            _ = Kill(_process.Id, 9);
            await _process.WaitForExitAsync();
        }

        _process.Dispose();
    }

    private void Append(string? line)
    {
        if (line is null)
        {
            return;
        }

        lock (_log)
        {
            _log.Append(line).Append('\n');
        }

        if (line.Contains("ready to serve client requests", StringComparison.Ordinal))
        {
            _readyLine.TrySetResult();
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);
}
