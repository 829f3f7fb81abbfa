// FrozenDiskTests: the disk under a real leader stands still for five seconds. strace holds every call that writes or syncs a file
// at its entrance, in whatever thread it happens, and nothing else: the process runs on, as it would over a disk that hangs.
// So no hook is needed in what is shipped.
//
// With CAIRN_TIMES=1 the time to the next acknowledged write is held to four election timeouts; else it is only printed.
using System;
using System.Diagnostics;
using System.Globalization;
using System.Linq;
using System.Threading.Tasks;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Cluster;

public sealed class FrozenDiskTests(ITestOutputHelper output)
{
    private const int ElectionMs = 1000;
    private const string Calls = "fdatasync,fsync,sync_file_range,pwrite64,pwritev,pwritev2,fallocate,ftruncate";

    [Fact]
    public async Task Leader_WhoseDiskStandsStill_HandsOver_AndComesBackAsAFollower()
    {
        Finished probe = await Tools.Run("strace", ["-e", "trace=none", "true"]);
        if (probe.ExitCode != 0)
        {
            output.WriteLine("nobody may be traced here, so no disk can be frozen: " + probe.Error);
            return;
        }

        await using Members members = new("disk", 3);
        await members.Start();
        await using Recorder clients = new(members, 2);
        clients.Start();
        await clients.More(20, [.. members.All]);
        ClusterMember leader = await members.Leader();
        ClusterMember[] rest = [.. members.All.Where(m => m != leader)];
        string old = await LeaderAt(rest[0]);
        using (Freeze freeze = await Freeze.Begin(leader.Running.Pid))
        {
            long frozen = Environment.TickCount64;
            await freeze.Held();
            await clients.More(1, rest);
            long took = Environment.TickCount64 - frozen;
            output.WriteLine($"frozen disk of the leader to the next acknowledged write at another: {took} ms");
            Assert.True(Tools.Setting("CAIRN_TIMES", 0) == 0 || took <= 4 * ElectionMs, $"{took} ms");
            await clients.More(30, rest);
            for (long limit = Environment.TickCount64 + 60_000; await LeaderAt(rest[0]) is var id && (id == old || id.Length == 0); await Task.Delay(10))
            {
                Assert.True(Environment.TickCount64 < limit, "the leader keeps what it cannot do\n" + members.Logs());
            }

            output.WriteLine($"another leads after {Environment.TickCount64 - frozen} ms");
            Assert.True(leader.Running.IsRunning, leader.Logs());
            await freeze.Until(frozen + 5000);
        }

        await clients.More(20, [.. members.All]);
        (int operations, int open) = await clients.Judge();
        output.WriteLine($"{operations} operations, {open} of them without an answer; {clients.Failures}");
        await members.RequireEqualHashes();
        Assert.Contains("the log's disk does not answer", leader.Running.Log, StringComparison.Ordinal);
    }

    // Not of the frozen one: its own status waits for its disk.
    private static async Task<string> LeaderAt(ClusterMember member) =>
        Schema.Value(await member.Running.Client.Ok(Grpc.Status, new Pb()), "leader");

    /// <summary>strace on one process; ends with it.</summary>
    private sealed class Freeze : IDisposable
    {
        private readonly Process _process;
        private readonly TaskCompletionSource _attached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _held = new(TaskCreationOptions.RunContinuationsAsynchronously);

        private Freeze(int pid)
        {
            ProcessStartInfo start = new("strace")
            {
                RedirectStandardError = true,
                UseShellExecute = false,
            };
            foreach (string argument in new[]
            {
                "-f", "-p", pid.ToString(CultureInfo.InvariantCulture), "-e", "trace=" + Calls, "-e",
                "inject=" + Calls + ":delay_enter=60000000",
            })
            {
                start.ArgumentList.Add(argument);
            }

            _process = new Process { StartInfo = start };
            _process.ErrorDataReceived += (_, e) =>
            {
                if (e.Data?.Contains(" attached", StringComparison.Ordinal) == true)
                {
                    _attached.TrySetResult();
                }
                else if (e.Data is not null && Calls.Split(',').Any(call => e.Data.Contains(call + "(", StringComparison.Ordinal)))
                {
                    _held.TrySetResult();
                }
                else if (e.Data is null)
                {
                    _attached.TrySetException(new InvalidOperationException("strace ended: may it trace here?"));
                }
            };
            _process.Start();
            _process.BeginErrorReadLine();
        }

        public static async Task<Freeze> Begin(int pid)
        {
            Freeze freeze = new(pid);
            await freeze._attached.Task.WaitAsync(TimeSpan.FromSeconds(60));
            return freeze;
        }

        /// <summary>The first call is being held.</summary>
        public Task Held() => _held.Task.WaitAsync(TimeSpan.FromSeconds(60));

        public async Task Until(long tick)
        {
            long left = tick - Environment.TickCount64;
            if (left > 0)
            {
                await Task.Delay((int)left);
            }

            Assert.False(_process.HasExited);
        }

        /// <summary>Lets go: whatever was held goes on.</summary>
        public void Dispose()
        {
            if (!_process.HasExited)
            {
                using Process interrupt = Process.Start("kill", ["-INT", _process.Id.ToString(CultureInfo.InvariantCulture)]);
                interrupt.WaitForExit();
                if (!_process.WaitForExit(30_000))
                {
                    _process.Kill();
                }
            }

            _process.Dispose();
        }
    }
}
