// ReconnectTests: watchers of real members that go away under them: a thousand that resume at other members after theirs was
// killed, and those of a follower whose whole state is replaced by a snapshot of the leader.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Cluster;

public sealed class ReconnectTests(ITestOutputHelper output)
{
    private const int Keys = 50;
    private const int Connections = 10;

    [Fact]
    public async Task Storm_AThousandClientsResumeElsewhere_NothingMissedNothingTwice()
    {
        int clients = Tools.Setting("CAIRN_STORM_CLIENTS", 1000), writes = Tools.Setting("CAIRN_STORM_WRITES", 400);
        await using Members members = new("storm", 3);
        await members.Start();
        ClusterMember victim = await members.Leader();
        List<ClusterMember> rest = members.All.Where(m => m != victim).ToList();
        Grpc[] first = Open(victim, Connections);
        Grpc[] others = [.. Open(rest[0], Connections / 2), .. Open(rest[1], Connections / 2)];
        List<Follower> followers = [];
        for (int i = 0; i < clients; i++)
        {
            int here = i;
            followers.Add(new Follower($"storm/{i % Keys}", attempt => attempt == 0 ? first[here % Connections] : others[(here + attempt) % Connections]));
        }

        followers.ForEach(f => f.Start());
        await Until(() => followers.TrueForAll(f => f.IsWatching), "everybody watches", members);

        // Half of the writes before the kill, which falls into the middle of them; then the other half.
        Writers writers = new(rest.Append(victim).ToList(), writes);
        Task load = writers.Run();
        await Until(() => writers.Acknowledged >= writes / 2, "half of the writes", members);
        Stopwatch time = Stopwatch.StartNew();
        await victim.Kill();
        writers.Forget(victim);
        await load;
        long last = await writers.Finish();

        // What has happened, as one who was never disturbed reads it.
        Dictionary<string, List<long>> history = await History(rest[0], last, members);
        await Until(() => followers.TrueForAll(f => f.Last >= history[f.Key][^1]), "everybody has everything", members);
        output.WriteLine($"{clients} clients had {history.Values.Sum(h => h.Count)} changes, {writers.Acknowledged} acknowledged, {time.ElapsedMilliseconds} ms after the kill");
        foreach (Follower follower in followers)
        {
            await follower.Stop();
            follower.Dispose();
            Assert.True(follower.Attempts > 1, "a client that never reconnected tests nothing");
            Assert.True(follower.Revisions.SequenceEqual(history[follower.Key]), $"{follower.Key}\n  received {string.Join(' ', follower.Revisions)}\n  happened {string.Join(' ', history[follower.Key])}");
        }

        Assert.True(history.Values.Sum(h => h.Count) >= writers.Acknowledged, "an acknowledged write is not in the history");
        foreach (Grpc client in first.Concat(others))
        {
            client.Dispose();
        }
    }

    [Fact]
    public async Task SnapshotOfTheLeader_UnderWatchersAndLeases_TheyGoOn()
    {
        await using Members members = new("under", 3, "--snapshot-count", "10", Tools.SubjectIsEtcd ? "--experimental-snapshot-catchup-entries" : "--snapshot-catchup-entries", "10");
        List<Proxy> proxies = [];
        foreach (ClusterMember member in members.All)
        {
            Proxy proxy = new(member.PeerPort);
            proxies.Add(proxy);
            member.PeerUrl = proxy.Url;
        }

        try
        {
            await members.Start();
            ClusterMember leader = await members.Leader();
            ClusterMember follower = members.All.First(m => m != leader);
            Grpc there = leader.Running.Client, here = follower.Running.Client;
            await Grant(there, 1, 600);
            await Put(there, "s/kept", "1", 1);
            long start = await Put(there, "s/a", "1");
            await Until(async () => (await here.Ok(Grpc.Range, new Pb().Text(1, "s/a"))).Contains("count = 1"), "the follower has it", members);

            // One from now on, one from the beginning, one with previous values, one that waits for the future.
            await using GrpcStream stream = here.Open(Grpc.Watch);
            await stream.Send(new Pb().Message(1, new Pb().Text(1, "s/").Text(2, "s0").Number(7, 11)));
            await stream.Send(new Pb().Message(1, new Pb().Text(1, "s/").Text(2, "s0").Number(3, 2).Number(7, 12)));
            await stream.Send(new Pb().Message(1, new Pb().Text(1, "s/a").Flag(6, true).Number(7, 13)));
            await stream.Send(new Pb().Message(1, new Pb().Text(1, "s/a").Number(3, start + 3).Number(7, 14)));
            Received received = new(stream, members);
            await received.Until(r => r.Created == 4 && r.Events(12).Count == 2);

            // The state is replaced; nothing that the watchers need is compacted.
            string id = Schema.Value(await here.Ok(Grpc.Status, new Pb()), "header.member_id");
            Away(follower, id, proxies);
            await Put(there, "s/a", "2");
            await Grant(there, 2, 600);
            await Put(there, "s/leased", "1", 2);
            await there.Ok(Grpc.LeaseRevoke, new Pb().Number(1, 1)); // takes s/kept with it
            await Put(there, "s/a", "3");
            await Flood(there);
            await there.Ok(Grpc.DeleteRange, new Pb().Text(1, "s/a"));
            await Back(follower, proxies);
            await received.Until(r => r.Events(11).Count == 5 && r.Events(12).Count == 7 && r.Events(13).Count == 3 && r.Events(14).Count >= 2);
            string[] all = ["PUT s/a 2", "PUT s/leased 1", "DELETE s/kept", "PUT s/a 3", "DELETE s/a"];
            Assert.Equal(all, received.Events(11));
            Assert.Equal(["PUT s/kept 1", "PUT s/a 1", .. all], received.Events(12));
            Assert.Equal(["PUT s/a 2 was 1", "PUT s/a 3 was 2", "DELETE s/a was 3"], received.Events(13));
            Assert.Equal(["PUT s/a 3", "DELETE s/a"], received.Events(14));
            Assert.True(
                Tools.SubjectIsEtcd || follower.Running.Log.Contains("receiving database snapshot", StringComparison.Ordinal),
                "no snapshot was received\n" + members.Logs());

            // The leases are those of the snapshot, and answered for by this member as well.
            Assert.Equal(["2"], await Leases(here));
            List<string> left = await here.Ok(Grpc.LeaseTimeToLive, new Pb().Number(1, 2).Flag(2, true));
            Assert.Equal(("600", "s/leased"), (Schema.Value(left, "grantedTTL"), Text(left, "keys[0]")));
            await using (GrpcStream keepAlive = here.Open(Grpc.LeaseKeepAlive))
            {
                await keepAlive.Send(new Pb().Number(1, 2));
                Assert.Contains("TTL = 600", Schema.Lines("LeaseKeepAliveResponse", await keepAlive.Receive() ?? []));
            }

            if (Tools.SubjectIsEtcd)
            {
                // It keeps its log for half a minute after it has sent a snapshot.
                await Task.Delay(32_000);
            }

            // Again, and now what happened meanwhile is compacted: every watcher hears so, and the stream goes on.
            Away(follower, id, proxies);
            await Grant(there, 3, 5);
            await Put(there, "s/short", "1", 3);
            await Flood(there);
            long compacted = await Put(there, "s/b", "1");
            await there.Ok(Grpc.Compact, new Pb().Number(1, compacted));
            await Back(follower, proxies);
            await received.Until(r => r.Compacted.Count == 4);
            Assert.Equal([11L, 12, 13, 14], received.Compacted.Order());
            if (!Tools.SubjectIsEtcd)
            {
                // A frozen member finds the first writes in its sockets when it wakes, and tells them.
                Assert.Equal(5, received.Events(11).Count);
            }

            await stream.Send(new Pb().Message(1, new Pb().Text(1, "s/").Text(2, "s0").Number(3, compacted).Number(7, 21)));
            await received.Until(r => r.Events(21).Count >= 1);
            Assert.Equal("PUT s/b 1", received.Events(21)[0]);

            // The short lease came with the snapshot: as leader this member ends it, and its own watchers see that.
            await Until(async () => (await there.Call(Grpc.MoveLeader, new Pb().Number(1, (long)ulong.Parse(id)))).Code is 0 or 9, "the move", members);
            await received.Until(r => r.Events(21).Contains("DELETE s/short"));
            Assert.Equal(["2"], await Leases(here));
            await members.RequireEqualHashes();
        }
        finally
        {
            foreach (Proxy proxy in proxies)
            {
                await proxy.DisposeAsync();
            }
        }
    }

    private static Grpc[] Open(ClusterMember member, int count)
        => Enumerable.Range(0, count).Select(_ => new Grpc($"http://127.0.0.1:{member.ClientPort}")).ToArray();

    private static Task Until(Func<bool> holds, string what, Members members) => Until(() => Task.FromResult(holds()), what, members);

    private static async Task Until(Func<Task<bool>> holds, string what, Members members)
    {
        long limit = Environment.TickCount64 + 120_000;
        while (!await holds())
        {
            Assert.True(Environment.TickCount64 < limit, $"not within 120 s: {what}\n{members.Logs()}");
            await Task.Delay(20);
        }
    }

    private static string Text(List<string> lines, string path) => Schema.Value(lines, path).Trim('"');

    private static async Task Grant(Grpc client, long id, long ttl) => await client.Ok(Grpc.LeaseGrant, new Pb().Number(1, ttl).Number(2, id));

    private static async Task<long> Put(Grpc client, string key, string value, long lease = 0)
        => Schema.Number(await client.Ok(Grpc.Put, new Pb().Text(1, key).Text(2, value).Number(3, lease)), "header.revision");

    private static async Task<List<string>> Leases(Grpc client)
        => (await client.Ok(Grpc.LeaseLeases, new Pb())).Where(l => l.StartsWith("leases[", StringComparison.Ordinal) && l.Contains(".ID = ", StringComparison.Ordinal))
            .Select(l => l[(l.LastIndexOf(' ') + 1)..]).Order(StringComparer.Ordinal).ToList();

    // More than the log keeps for a laggard, and more than a frozen member's sockets hold.
    private static async Task Flood(Grpc client)
    {
        for (int i = 0; i < 60; i++)
        {
            await client.Ok(Grpc.Put, new Pb().Text(1, "flood/" + (i % 4)).Data(2, new byte[100_000]));
        }
    }

    // Its peers no longer hear it, nor it them; its clients still do. A real etcd does not say who dials: it is frozen.
    private static void Away(ClusterMember member, string id, List<Proxy> proxies)
    {
        if (Tools.SubjectIsEtcd)
        {
            member.Running.Signal(19);
            return;
        }

        ulong number = ulong.Parse(id);
        foreach (Proxy proxy in proxies)
        {
            bool own = proxy.Url == member.PeerUrl;
            proxy.Block(from => own || from == number);
        }
    }

    private static Task Back(ClusterMember member, List<Proxy> proxies)
    {
        if (Tools.SubjectIsEtcd)
        {
            member.Running.Signal(18);
        }

        proxies.ForEach(p => p.Heal());
        return Task.CompletedTask;
    }

    /// <summary>Revisions of every change of each key, read in one go.</summary>
    private static async Task<Dictionary<string, List<long>>> History(ClusterMember member, long last, Members members)
    {
        Dictionary<string, List<long>> history = [];
        await using GrpcStream stream = member.Running.Client.Open(Grpc.Watch);
        await stream.Send(new Pb().Message(1, new Pb().Text(1, "storm/").Text(2, "storm0").Number(3, 1)));
        long seen = 0;
        while (seen < last)
        {
            byte[]? message = await stream.Receive();
            Assert.True(message is not null, $"history ends at {seen} of {last}; {stream.End}\n{members.Logs()}");
            Follower.Read(message, (key, revision) =>
            {
                (history.TryGetValue(key, out List<long>? list) ? list : history[key] = []).Add(revision);
                seen = revision;
            });
        }

        return history;
    }

    /// <summary>One client: watches a key, and when its stream ends goes on elsewhere behind what it has.</summary>
    private sealed class Follower(string key, Func<int, Grpc> connect) : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly List<long> _revisions = [];
        private Task _following = Task.CompletedTask;
        private long _last;
        private volatile bool _watching;

        public string Key => key;

        public bool IsWatching => _watching;

        public long Last => Interlocked.Read(ref _last);

        public int Attempts { get; private set; }

        /// <summary>After <see cref="Stop"/>.</summary>
        public List<long> Revisions => _revisions;

        public void Start() => _following = Task.Run(Follow);

        public async Task Stop()
        {
            await _stop.CancelAsync();
            await _following;
        }

        public void Dispose() => _stop.Dispose();

        /// <summary>Key and revision of every event of a WatchResponse {11 events {2 kv {1 key, 3 mod_revision}}}.</summary>
        public static void Read(byte[] message, Action<string, long> found)
        {
            var response = new ProtoReader(message);
            while (response.NextField())
            {
                if (response.Field != 11)
                {
                    response.Skip();
                    continue;
                }

                var change = new ProtoReader(response.ReadBytes());
                while (change.NextField())
                {
                    if (change.Field != 2)
                    {
                        change.Skip();
                        continue;
                    }

                    string name = "";
                    long revision = 0;
                    var pair = new ProtoReader(change.ReadBytes());
                    while (pair.NextField())
                    {
                        if (pair.Field == 1)
                        {
                            name = Encoding.ASCII.GetString(pair.ReadBytes());
                        }
                        else if (pair.Field == 3)
                        {
                            revision = pair.ReadInt64();
                        }
                        else
                        {
                            pair.Skip();
                        }
                    }

                    found(name, revision);
                }
            }
        }

        private async Task Follow()
        {
            while (!_stop.IsCancellationRequested)
            {
                await using GrpcStream stream = connect(Attempts++).Open(Grpc.Watch);
                using CancellationTokenRegistration cut = _stop.Token.Register(() => _ = stream.Cancel());
                Task sent = stream.Send(new Pb().Message(1, new Pb().Text(1, key).Number(3, Last + 1)));
                await Task.WhenAny(sent, stream.Ended);
                _ = sent.Exception; // a connection that broke under it: the next one is asked
                while (await stream.Receive(300_000) is { } message)
                {
                    _watching = true;
                    Read(message, (name, revision) =>
                    {
                        _revisions.Add(revision);
                        Interlocked.Exchange(ref _last, revision);
                    });
                }
            }
        }
    }

    /// <summary>A few that write to the keys in turn, at any member that answers.</summary>
    private sealed class Writers(List<ClusterMember> members, int writes)
    {
        private readonly int _count = 4;
        private int _next;
        private int _acknowledged;

        public int Acknowledged => Volatile.Read(ref _acknowledged);

        public void Forget(ClusterMember member)
        {
            lock (members)
            {
                members.Remove(member);
            }
        }

        public Task Run() => Task.WhenAll(Enumerable.Range(0, _count).Select(_ => Task.Run(async () =>
        {
            int turn;
            while ((turn = Interlocked.Increment(ref _next)) <= writes)
            {
                await Write($"storm/{turn % Keys}", turn);
            }
        })));

        /// <summary>One more write to every key; the revision of the last.</summary>
        public async Task<long> Finish()
        {
            long last = 0;
            for (int i = 0; i < Keys; i++)
            {
                last = await Write($"storm/{i}", i);
            }

            return last;
        }

        private async Task<long> Write(string key, int turn)
        {
            long limit = Environment.TickCount64 + 120_000;
            for (int attempt = 0; ; attempt++)
            {
                ClusterMember member;
                lock (members)
                {
                    member = members[(turn + attempt) % members.Count];
                }

                try
                {
                    if (member.Process is { } process)
                    {
                        Answer answer = await process.Client.Call(Grpc.Put, new Pb().Text(1, key).Text(2, "v").Bytes, null, TimeSpan.FromSeconds(3));
                        if (answer.Code == 0)
                        {
                            Interlocked.Increment(ref _acknowledged);
                            return Schema.Number(answer.Lines(Grpc.Put), "header.revision");
                        }
                    }
                }
                catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException or ObjectDisposedException)
                {
                    // Killed under us: its outcome is unknown, the next one is asked.
                }

                Assert.True(Environment.TickCount64 < limit, $"no write to {key} was acknowledged for 120 s");
                await Task.Delay(10);
            }
        }
    }

    /// <summary>What a stream has received, by watcher.</summary>
    private sealed class Received(GrpcStream stream, Members members)
    {
        private readonly Dictionary<long, List<string>> _events = [];

        public int Created { get; private set; }

        public List<long> Compacted { get; } = [];

        public List<string> Events(long watcher) => _events.TryGetValue(watcher, out List<string>? list) ? list : _events[watcher] = [];

        public async Task Until(Func<Received, bool> holds)
        {
            long limit = Environment.TickCount64 + 120_000;
            while (!holds(this))
            {
                byte[]? message = await stream.Receive((int)Math.Max(1, limit - Environment.TickCount64));
                Assert.True(message is not null, $"nothing more came; {stream.End}\n{string.Join('\n', _events.Select(e => $"{e.Key}: {string.Join(", ", e.Value)}"))}\ncompacted {string.Join(' ', Compacted)}\n{members.Logs()}");
                Take(Schema.Lines("WatchResponse", message));
            }
        }

        private void Take(List<string> lines)
        {
            long id = Schema.Number(lines, "watch_id");
            if (Schema.Value(lines, "created").Length > 0)
            {
                Created++;
            }

            if (Schema.Value(lines, "canceled").Length > 0)
            {
                Assert.True(Schema.Number(lines, "compact_revision") > 0, string.Join(" | ", lines));
                Compacted.Add(id);
            }

            for (int i = 0; Text(lines, $"events[{i}].kv.key") is { Length: > 0 } key; i++)
            {
                bool deleted = Schema.Value(lines, $"events[{i}].type").Length > 0;
                string value = Text(lines, $"events[{i}].kv.value"), before = Text(lines, $"events[{i}].prev_kv.value");
                Events(id).Add((deleted ? $"DELETE {key}" : $"PUT {key} {value}") + (before.Length > 0 ? $" was {before}" : ""));
            }
        }
    }
}
