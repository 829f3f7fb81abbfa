// Members: a cluster of real processes on loopback: each with ports of its own that survive its restarts, each reachable by its
// peers directly or through a proxy of the test's (Proxy.cs).
using System;
using System.Collections.Generic;
using System.Linq;
using System.Net.Http;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

/// <summary>One member: where it listens, where its data is, and its process while it runs.</summary>
internal sealed class ClusterMember(string name, string dataDir, string token, string[] more) : IAsyncDisposable
{
    private readonly List<string> _logs = [];

    public string Name => name;

    public string DataDir => dataDir;

    public int ClientPort { get; } = Tools.FreePort();

    public int PeerPort { get; } = Tools.FreePort();

    /// <summary>Of the peer port: http, or https.</summary>
    public string PeerScheme { get; init; } = "http";

    /// <summary>What the others dial; a proxy's when there is one.</summary>
    public string PeerUrl { get; set; } = "";

    public ServerProcess? Process { get; private set; }

    public ServerProcess Running => Process ?? throw new InvalidOperationException(name + " does not run");

    public string Endpoint => $"127.0.0.1:{ClientPort}";

    public void Start(string initialCluster, string state = "new", string? program = null, string[]? extra = null, string[]? flags = null)
    {
        string client = $"http://127.0.0.1:{ClientPort}";
        Process = ServerProcess.LaunchWith(program ?? Tools.Cairn, ClientPort, [
            "--name", name, "--data-dir", dataDir, "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", $"{PeerScheme}://127.0.0.1:{PeerPort}", "--initial-advertise-peer-urls", PeerUrl,
            .. flags ?? ["--initial-cluster", initialCluster, "--initial-cluster-state", state, "--initial-cluster-token", token],
            .. more, .. extra ?? [],
        ]);
    }

    public async Task Kill()
    {
        await Running.KillHard();
        await Forget();
    }

    public async Task<int> Stop()
    {
        int code = await Running.Stop();
        await Forget();
        return code;
    }

    public string Logs() => string.Join("\n---- restarted ----\n", _logs.Append(Process?.Tail() ?? "not running"));

    public async ValueTask DisposeAsync()
    {
        if (Process is not null)
        {
            await Process.DisposeAsync();
        }
    }

    public async Task Forget()
    {
        _logs.Add(Running.Tail());
        await Running.DisposeAsync();
        Process = null;
    }
}

/// <summary>The members of one cluster.</summary>
internal sealed class Members : IAsyncDisposable
{
    private readonly TempFolder _folder = new();
    private readonly string _token;
    private readonly string[] _more;

    /// <param name="token">Cluster token.</param>
    /// <param name="count">How many to begin with; not started yet.</param>
    /// <param name="more">Flags of every member.</param>
    public Members(string token, int count, params string[] more)
    {
        _token = token;
        _more = more;
        for (int i = 1; i <= count; i++)
        {
            _ = New("m" + i);
        }
    }

    public List<ClusterMember> All { get; } = [];

    public ClusterMember this[int index] => All[index];

    public IEnumerable<ClusterMember> Running => All.Where(m => m.Process is not null);

    public string InitialCluster => string.Join(',', All.Select(m => m.Name + "=" + m.PeerUrl));

    public string Endpoints => string.Join(',', Running.Select(m => m.Endpoint));

    /// <summary>A further member, not started.</summary>
    public ClusterMember New(string name)
    {
        string scheme = Array.Exists(_more, flag => flag.StartsWith("--peer-", StringComparison.Ordinal)) ? "https" : "http";
        var member = new ClusterMember(name, _folder[name], _token, _more) { PeerScheme = scheme };
        member.PeerUrl = $"{scheme}://127.0.0.1:{member.PeerPort}";
        All.Add(member);
        return member;
    }

    /// <summary>Starts everybody and waits until each serves.</summary>
    public async Task Start(string? program = null)
    {
        foreach (ClusterMember member in All)
        {
            member.Start(InitialCluster, program: program);
        }

        foreach (ClusterMember member in All)
        {
            await member.Running.WaitUntilServing();
        }
    }

    /// <summary>Starts a stopped member again and waits until it serves.</summary>
    public async Task Restart(ClusterMember member, params string[] extra)
    {
        member.Start(InitialCluster, extra: extra);
        await member.Running.WaitUntilServing();
    }

    /// <summary>The member that leads, as a majority of the running ones see it; waits for one.</summary>
    public async Task<ClusterMember> Leader()
    {
        long limit = Environment.TickCount64 + 60_000;
        while (true)
        {
            Dictionary<string, int> votes = [];
            Dictionary<string, ClusterMember> ids = [];
            foreach (ClusterMember member in Running)
            {
                try
                {
                    Answer answer = await member.Running.Client.Call(Grpc.Status, [], null, TimeSpan.FromSeconds(2));
                    List<string> lines = answer.Lines(Grpc.Status);
                    ids[Schema.Value(lines, "header.member_id")] = member;
                    string leader = Schema.Value(lines, "leader");
                    votes[leader] = votes.GetValueOrDefault(leader) + 1;
                }
                catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
                {
                    // Stopped or frozen: has no say.
                }
            }

            foreach ((string id, int count) in votes)
            {
                if (id.Length > 0 && count * 2 > All.Count && ids.TryGetValue(id, out ClusterMember? found))
                {
                    return found;
                }
            }

            Assert.True(Environment.TickCount64 < limit, "no leader within 60 s\n" + Logs());
            await Task.Delay(20);
        }
    }

    /// <summary>Waits until all running members have applied as much as the furthest, and have equal HashKV.</summary>
    public async Task RequireEqualHashes()
    {
        long limit = Environment.TickCount64 + 60_000;
        string last;
        do
        {
            // A linearizable read at each, so that none is behind what was acknowledged before.
            List<(long Hash, long Compacted)> hashes = [];
            long revision = 0;
            foreach (ClusterMember member in Running)
            {
                Answer read = await member.Running.Client.Call(Grpc.Range, new Pb().Text(1, "x"));
                if (read.Code == 0)
                {
                    revision = Schema.Number(read.Lines(Grpc.Range), "header.revision");
                }
            }

            foreach (ClusterMember member in Running)
            {
                Answer answer = await member.Running.Client.Call(Grpc.HashKv, new Pb().Number(1, revision));
                List<string> lines = answer.Lines(Grpc.HashKv);
                hashes.Add(answer.Code == 0 ? (Schema.Number(lines, "hash"), Schema.Number(lines, "compact_revision")) : (-answer.Code - hashes.Count, 0));
            }

            if (hashes.Distinct().Count() == 1)
            {
                return;
            }

            last = $"at revision {revision}: {string.Join(' ', hashes)}";
            await Task.Delay(100);
        }
        while (Environment.TickCount64 < limit);
        Assert.Fail("hashes differ for 60 s " + last + "\n" + Logs());
    }

    public string Logs() => string.Join("\n", All.Select(m => $"======== {m.Name}\n{m.Logs()}"));

    public async ValueTask DisposeAsync()
    {
        foreach (ClusterMember member in All)
        {
            await member.DisposeAsync();
        }

        _folder.Dispose();
    }
}
