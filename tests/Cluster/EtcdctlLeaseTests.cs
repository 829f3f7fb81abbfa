// EtcdctlLeaseTests: `etcdctl lease …`, `lock` and `elect` of two generations against Cairn and against etcd: what they print
// and how they end must be equal but for ids and remaining times.
//
// Calls that do not end by themselves are ended when they have printed what they have to, never by time.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed partial class EtcdctlLeaseTests
{
    [Theory]
    [InlineData("3.4")]
    [InlineData("3.5")]
    public async Task LeasesLocksElections_OfBoth_PrintTheSame(string version)
    {
        string etcdctl = version == "3.4" ? Tools.Etcdctl34 : Tools.Etcdctl35;
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--unsafe-no-fsync");
        Task<List<string>> our = new Script(etcdctl, cairn).Run();
        Task<List<string>> their = new Script(etcdctl, etcd).Run();
        await Task.WhenAll(our, their);
        List<string> a = await our, b = await their;
        List<string> differences = [];
        for (int i = 0; i < Math.Min(a.Count, b.Count); i++)
        {
            if (a[i] != b[i])
            {
                differences.Add($"--- cairn\n{a[i]}\n--- etcd\n{b[i]}");
            }
        }

        Assert.True(differences.Count == 0 && a.Count == b.Count, $"{a.Count} and {b.Count} calls, {differences.Count} differ\n{string.Join('\n', differences.Take(8))}\n{cairn.Tail()}");
        Assert.True(b.Count > 40, "the script is longer");
        Assert.Contains(b, line => line.Contains("granted with TTL(600s)", StringComparison.Ordinal));
        Assert.Contains(b, line => line.Contains("attached keys([a b])", StringComparison.Ordinal));
        Assert.Contains(b, line => line.Contains("keepalived with TTL(600)", StringComparison.Ordinal));
    }

    /// <summary>The calls against one server, and what they printed.</summary>
    private sealed class Script(string etcdctl, ServerProcess server)
    {
        private readonly List<string> _printed = [];
        private readonly Dictionary<string, string> _names = [];

        public async Task<List<string>> Run()
        {
            await Leases();
            await Locks();
            await Elections();
            return _printed;
        }

        private async Task Leases()
        {
            foreach (string line in new[]
            {
                "lease grant", "lease grant abc", "lease grant -5", "lease grant 1 2", "lease grant 9000000001", "lease revoke", "lease revoke xyz",
                "lease revoke 4711", "lease timetolive", "lease timetolive xyz", "lease timetolive 4711", "lease timetolive 4711 --keys",
                "lease timetolive 4711 -w json", "lease keep-alive", "lease keep-alive xyz", "lease keep-alive --once 4711", "lease keep-alive 4711",
                "lease nonsense", "lease list",
            })
            {
                await Call(line);
            }

            string id = LeaseIn(await Call("lease grant 600"));
            await Call("lease list");
            await Call($"lease timetolive {id}");
            await Call($"lease timetolive {id} --keys");
            await Call($"put a 1 --lease={id}");
            await Call($"put b 2 --lease={id}");
            await Call("get a -w json");
            await Call("get a -w fields");
            await Call($"lease timetolive {id} --keys", sorted: true);
            await Call($"put c 3 --lease={id}");
            await Call("put c 3");
            await Call("put b 4 --ignore-lease");
            await Call($"lease timetolive {id} --keys", sorted: true);
            await Call($"lease keep-alive --once {id}");
            foreach (string format in new[] { "json", "fields", "protobuf", "table" })
            {
                await Call($"lease timetolive {id} -w {format}");
                await Call($"lease list -w {format}");
                await Call($"lease keep-alive --once {id} -w {format}");
            }

            await Hold($"lease keep-alive {id}", 1);
            await Call("del a");
            await Call($"lease timetolive {id} --keys");
            await Call($"lease revoke {id}");
            await Call("get b");
            await Call("get c");
            await Call($"lease revoke {id}");
            await Call($"lease keep-alive --once {id}");
            await Call($"put d 5 --lease={id}");
            foreach (string format in new[] { "json", "fields" })
            {
                // Its id is in the answer; it is of no further use.
                await Call($"lease grant 500 -w {format}");
            }
        }

        private async Task Locks()
        {
            await Call("lock");
            await Call("lock jobs echo done");
            await Call("lock jobs -- sh -c 'echo $ETCD_LOCK_KEY; exit 7'");
            await Call("lock jobs --ttl=5 -- no-such-program");
            Held holder = Start("lock jobs");
            string first = await holder.Line();
            Held waiter = Start("lock jobs --ttl=30");
            await UntilKeys("jobs/", 2);
            Assert.Null(waiter.TryLine());
            Note("holder", first);
            await Call("get jobs/ --prefix --keys-only", sorted: true);
            await End("lock jobs, holding", holder);
            Note("next holder", await waiter.Line());
            await UntilKeys("jobs/", 1);
            await End("lock jobs --ttl=30, holding", waiter);
            await UntilKeys("jobs/", 0);

            // One that gives up while it waits leaves nothing behind.
            holder = Start("lock jobs");
            _ = await holder.Line();
            waiter = Start("lock jobs");
            await UntilKeys("jobs/", 2);
            await End("lock jobs, waiting", waiter);
            await UntilKeys("jobs/", 1);
            await End("lock jobs, holding", holder);
            await UntilKeys("jobs/", 0);
        }

        private async Task Elections()
        {
            await Call("elect");
            await Call("elect -l");
            await Call("elect boss one two three");
            Held observer = Start("elect --listen boss");
            Held leader = Start("elect boss me");
            Note("leader", await leader.Line(), await leader.Line());
            Note("observer", await observer.Line(), await observer.Line());
            Held candidate = Start("elect boss other");
            await UntilKeys("boss/", 2);
            Assert.Null(candidate.TryLine());
            await Call("get boss/ --prefix --print-value-only", sorted: true);
            await End("elect boss me", leader);
            Note("next leader", await candidate.Line(), await candidate.Line());
            Note("observer", await observer.Line(), await observer.Line());
            await End("elect boss other", candidate);
            await UntilKeys("boss/", 0);
            await End("elect --listen boss", observer);
        }

        private Held Start(string line) => new(etcdctl, ["--endpoints", server.Endpoint, .. Words(line)]);

        private async Task<string> Call(string line, bool sorted = false)
        {
            Finished finished = await Tools.Run(
                etcdctl, ["--endpoints", server.Endpoint, .. Words(line)], "", 60, [KeyValuePair.Create("ETCDCTL_API", "3")]);
            string output = sorted ? string.Join('\n', finished.Out.Split('\n').Select(SortedKeys).Order(StringComparer.Ordinal)) : finished.Out;
            string error = string.Join('\n', finished.Error.Split('\n').Where(l => !l.StartsWith("{\"level\"", StringComparison.Ordinal)));
            _printed.Add(Neutral($"etcdctl {line}\nexit {finished.ExitCode}\n{output}\n{error}"));
            return finished.Out;
        }

        /// <summary>Runs a call until it has printed so many lines, then ends it.</summary>
        private async Task Hold(string line, int lines)
        {
            Held held = Start(line);
            for (int i = 0; i < lines; i++)
            {
                Note(line, await held.Line());
            }

            await End(line, held);
        }

        private async Task End(string what, Held held) => _printed.Add(Neutral($"{what}: {await held.Interrupt()}"));

        private void Note(string what, params string[] lines) => _printed.Add(Neutral($"{what}: {string.Join(" | ", lines)}"));

        private async Task UntilKeys(string prefix, int count)
        {
            long limit = Environment.TickCount64 + 60_000;
            Pb range = new Pb().Text(1, prefix).Text(2, prefix[..^1] + "0").Flag(9, true);
            while (Schema.Number(await server.Client.Ok(Grpc.Range, range), "count") != count)
            {
                Assert.True(Environment.TickCount64 < limit, $"not {count} keys under {prefix} after 60 s\n{server.Tail()}");
                await Task.Delay(10);
            }
        }

        // Ids in the order they appear, times that run.
        private string Neutral(string text)
        {
            text = text.Replace(server.Endpoint, "ENDPOINT", StringComparison.Ordinal);
            text = Ids().Replace(text, match => _names.TryGetValue(match.Value, out string? name) ? name : _names[match.Value] = $"id{_names.Count}");
            text = Remaining().Replace(text, "$1 TIME");

            // The usage text of a wrong call names the program as it was called.
            return text.Replace(etcdctl, "etcdctl", StringComparison.Ordinal);
        }

        private static string LeaseIn(string output) => output.Split(' ')[1];

        private static string SortedKeys(string line)
        {
            int at = line.IndexOf("attached keys([", StringComparison.Ordinal);
            if (at < 0)
            {
                return line;
            }

            int start = at + "attached keys([".Length, end = line.IndexOf(']', start);
            return line[..start] + string.Join(' ', line[start..end].Split(' ').Order(StringComparer.Ordinal)) + line[end..];
        }

        private static IEnumerable<string> Words(string line)
            => WordPattern().Matches(line).Select(m => m.Value.Trim('\''));
    }

    /// <summary>An etcdctl that runs until it is interrupted.</summary>
    private sealed partial class Held
    {
        private readonly Process _process;
        private readonly Channel<string> _lines = Channel.CreateUnbounded<string>();
        private readonly StringBuilder _error = new();

        public Held(string program, IEnumerable<string> arguments)
        {
            ProcessStartInfo start = new(program)
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                UseShellExecute = false,
                WorkingDirectory = Path.GetTempPath(),
            };
            start.Environment["ETCDCTL_API"] = "3";
            foreach (string argument in arguments)
            {
                start.ArgumentList.Add(argument);
            }

            _process = Process.Start(start)!;
            _process.OutputDataReceived += (_, e) =>
            {
                if (e.Data is not null)
                {
                    _lines.Writer.TryWrite(e.Data);
                }
                else
                {
                    _lines.Writer.TryComplete();
                }
            };
            _process.ErrorDataReceived += (_, e) =>
            {
                lock (_error)
                {
                    _error.Append(e.Data).Append('\n');
                }
            };
            _process.BeginOutputReadLine();
            _process.BeginErrorReadLine();
        }

        public async Task<string> Line()
        {
            using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
            try
            {
                return await _lines.Reader.ReadAsync(limit.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or ChannelClosedException)
            {
                _process.Kill();
                lock (_error)
                {
                    throw new TimeoutException($"no line came: {string.Join(' ', _process.StartInfo.ArgumentList)}\n{_error}");
                }
            }
        }

        public string? TryLine() => _lines.Reader.TryRead(out string? line) ? line : null;

        /// <summary>SIGINT, then the exit code and what it still prints.</summary>
        public async Task<string> Interrupt()
        {
            Assert.Equal(0, Kill(_process.Id, 2));
            using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
            await _process.WaitForExitAsync(limit.Token);
            List<string> rest = [];
            while (TryLine() is { } line)
            {
                rest.Add(line);
            }

            string end = $"exit {_process.ExitCode} {string.Join(" | ", rest)} "
                + string.Join('\n', _error.ToString().Trim().Split('\n').Where(l => !l.StartsWith("{\"level\"", StringComparison.Ordinal)));
            _process.Dispose();
            return end;
        }

        [LibraryImport("libc", EntryPoint = "kill")]
        private static partial int Kill(int pid, int signal);
    }

    [GeneratedRegex("""'[^']*'|[^ ]+""")]
    private static partial Regex WordPattern();

    [GeneratedRegex("""\b(?:[0-9]{15,20}|[0-9a-f]{14,16})\b""")]
    private static partial Regex Ids();

    [GeneratedRegex("""(remaining\(|"ttl":|"TTL" : )\d+""")]
    private static partial Regex Remaining();
}
