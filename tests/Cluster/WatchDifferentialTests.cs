// WatchDifferentialTests: the same seeded stream of writes, compactions, leases and watchers to Cairn and to a real etcd 3.5;
// each watcher's responses must be equivalent: created at the same revision, the same events in the same order with the same
// previous values, the same cancels with the same reasons; and every unary answer and keep-alive must be equal.
//
// Leases are granted for a day, so that no clock ends one: the end of a lease is its revocation. Remaining times are left out.
// How a watcher that catches up has its events cut into messages is the server's own affair, and so is the header of such a
// message; a live event comes under its own revision, all of that revision in one message (unless in fragments).
// A watcher may be cancelled for a compaction only where etcd's is: the stream compacts when both have delivered everything,
// so that who was late cannot depend on the clock. CAIRN_WATCH_OPS=100000 CAIRN_WATCH_SEED=3 make it longer.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class WatchDifferentialTests
{
    private const int Streams = 5;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task RandomWatchers_SameStreamToBoth_ReceiveTheSame(int stream)
    {
        int seed = Tools.Setting("CAIRN_WATCH_SEED", 505) * 100 + stream;
        int operations = Tools.Setting("CAIRN_WATCH_OPS", 1000);
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--unsafe-no-fsync");
        await using Side ours = new(cairn);
        await using Side theirs = new(etcd);
        Plan plan = new(seed);
        Dictionary<string, int> kinds = [];
        for (int i = 0; i < operations; i++)
        {
            Action action = plan.Next();
            await Task.WhenAll(ours.Do(action), theirs.Do(action));
            Assert.True(ours.LastAnswer == theirs.LastAnswer, $"seed {seed} step {i} {action.Method}\n  cairn: {ours.LastAnswer}\n  etcd:  {theirs.LastAnswer}\n{cairn.Tail()}");
            Assert.True(ours.Revision == theirs.Revision, $"seed {seed} step {i}: revision {ours.Revision}, etcd {theirs.Revision}");
            kinds[action.Method] = kinds.GetValueOrDefault(action.Method) + 1;
            plan.Revision = ours.Revision;
            plan.Compacted = ours.Compacted;
        }

        await Task.WhenAll(ours.Quiesce(), theirs.Quiesce());
        List<string> a = ours.Summary(), b = theirs.Summary();
        string difference = string.Join("\n", a.Except(b).Take(6).Select(l => "  cairn: " + l).Concat(b.Except(a).Take(6).Select(l => "  etcd:  " + l)));
        Assert.True(a.SequenceEqual(b), $"seed {seed}: {a.Count} and {b.Count} lines\n{difference}\n{cairn.Tail()}");
        Assert.True(b.Count > operations, $"seed {seed}: only {b.Count} lines say nothing");
        Assert.Contains(b, l => l.Contains("compact_revision", StringComparison.Ordinal));
        Assert.Contains(b, l => l.Contains("watcher range is empty", StringComparison.Ordinal));
        Assert.Contains(b, l => l.Contains("duplicate watch ID", StringComparison.Ordinal));
        Assert.All(
            new[] { Grpc.LeaseGrant, Grpc.LeaseRevoke, Grpc.LeaseTimeToLive, Grpc.LeaseLeases, Grpc.LeaseKeepAlive },
            method => Assert.True(kinds.GetValueOrDefault(method) > operations / 200, $"seed {seed}: {method} was hardly called"));
    }

    /// <summary>One thing to do: a call, or a request on a stream.</summary>
    private sealed record Action(int Stream, byte[] Request, string Method = "", bool Quiet = false);

    private sealed class Plan(int seed)
    {
        private readonly Random _random = new(seed);

        public long Revision { get; set; } = 1;

        public long Compacted { get; set; }

        public Action Next() => _random.Next(100) switch
        {
            < 12 => new Action(_random.Next(Streams), new Pb().Message(1, Create()).Bytes),
            < 15 => new Action(_random.Next(Streams), new Pb().Message(2, new Pb().Number(1, _random.Next(-1, 12))).Bytes, Quiet: true),
            < 18 when Revision > Compacted + 1 =>
                new Action(-1, new Pb().Number(1, _random.NextInt64(Compacted + 1, Revision + 1)).Flag(2, _random.Next(3) == 0).Bytes, Grpc.Compact, Quiet: true),
            < 19 => new Action(-1, new Pb().Number(1, 86_400).Number(2, Lease()).Bytes, Grpc.LeaseGrant),
            < 22 => new Action(-1, new Pb().Number(1, Lease()).Bytes, Grpc.LeaseRevoke),
            < 25 => new Action(-1, new Pb().Number(1, Lease()).Bytes, Grpc.LeaseKeepAlive),
            < 28 => new Action(-1, new Pb().Number(1, Lease()).Flag(2, _random.Next(4) > 0).Bytes, Grpc.LeaseTimeToLive),
            < 30 => new Action(-1, [], Grpc.LeaseLeases),
            < 64 => new Action(-1, Put(new string('v', _random.Next(60))).Bytes, Grpc.Put),
            < 77 => new Action(-1, new Pb().Data(1, Key()).Data(2, _random.Next(3) == 0 ? [(byte)'d'] : []).Bytes, Grpc.DeleteRange),
            _ => new Action(-1, Txn().Bytes, Grpc.Txn),
        };

        private Pb Create()
        {
            Pb create = new Pb().Data(1, _random.Next(20) == 0 ? [] : Key());
            _ = _random.Next(6) switch
            {
                0 => create.Data(2, [0]),
                1 or 2 => create.Data(2, Key()),
                3 => create.Data(2, [(byte)('a' + _random.Next(6))]),
                _ => create,
            };
            create.Number(3, _random.Next(6) switch
            {
                0 or 1 => _random.NextInt64(1, Revision + 1),
                2 => _random.Next(5) == 0 ? long.MaxValue - _random.Next(2) : Revision + _random.Next(1, 6),
                3 when _random.Next(4) == 0 => -_random.Next(1, 3),
                _ => 0,
            });
            if (_random.Next(6) == 0)
            {
                create.ExplicitNumber(5, _random.Next(3));
            }
            else if (_random.Next(12) == 0)
            {
                create.Data(5, [0, 1]);
            }

            return create.Flag(6, _random.Next(2) == 0).Number(7, _random.Next(5) == 0 ? _random.Next(1, 15) : _random.Next(40) == 0 ? _random.Next(2) == 0 ? long.MinValue : -7 : 0).Flag(8, _random.Next(4) == 0);
        }

        private Pb Txn()
        {
            Pb txn = new();
            HashSet<string> used = [];
            for (int i = _random.Next(1, 6); i > 0; i--)
            {
                byte[] key = Key();
                if (!used.Add(Encoding.UTF8.GetString(key)))
                {
                    continue;
                }

                txn.Message(2, _random.Next(4) == 0
                    ? new Pb().Message(3, new Pb().Data(1, key))
                    : new Pb().Message(2, new Pb().Data(1, key).Text(2, new string('t', _random.Next(20)))
                        .Number(3, _random.Next(4) == 0 ? Lease() : 0)));
            }

            return txn;
        }

        // A put may attach its key to a lease, known or not, take it from one, or leave it where it is.
        private Pb Put(string value) => _random.Next(6) switch
        {
            0 or 1 => new Pb().Data(1, Key()).Text(2, value).Number(3, Lease()),
            2 => new Pb().Data(1, Key()).Text(2, value).Flag(6, true),
            _ => new Pb().Data(1, Key()).Text(2, value),
        };

        // One in nine exists only by accident; ids may be negative.
        private long Lease() => _random.Next(9) switch { 0 => -5, 1 => long.MaxValue, 2 => 99, int id => id };

        private byte[] Key() => Encoding.ASCII.GetBytes($"{(char)('a' + _random.Next(4))}{(_random.Next(2) == 0 ? "" : _random.Next(4).ToString(System.Globalization.CultureInfo.InvariantCulture))}");
    }

    /// <summary>One server with its streams.</summary>
    private sealed class Side : IAsyncDisposable
    {
        private readonly ServerProcess _server;
        private readonly GrpcStream _keepAlive;
        private readonly GrpcStream[] _streams = new GrpcStream[Streams];
        private readonly List<byte[]>[] _received = new List<byte[]>[Streams];
        private int _mark;

        public Side(ServerProcess server)
        {
            _server = server;
            _keepAlive = server.Client.Open(Grpc.LeaseKeepAlive);
            for (int i = 0; i < Streams; i++)
            {
                _streams[i] = server.Client.Open(Grpc.Watch);
                _received[i] = [];
            }
        }

        public long Revision { get; private set; } = 1;

        public long Compacted { get; private set; }

        /// <summary>What the last call or keep-alive answered, in a form that can be compared.</summary>
        public string LastAnswer { get; private set; } = "";

        public async Task Do(Action action)
        {
            if (action.Quiet)
            {
                // What a cancelled watcher had received before, or who was late for a compaction, must not hang on the clock.
                await Quiesce();
            }

            if (action.Stream >= 0)
            {
                // Its answer (created, or nothing) comes at a known revision: the next write waits for it.
                await _streams[action.Stream].Send(action.Request);
                await Mark(action.Stream);
                return;
            }

            if (action.Method == Grpc.LeaseKeepAlive)
            {
                await _keepAlive.Send(action.Request);
                byte[]? renewed = await _keepAlive.Receive();
                Assert.True(renewed is not null, $"no answer to a keep-alive; {_keepAlive.End}");
                LastAnswer = string.Join(" | ", Schema.Lines("LeaseKeepAliveResponse", renewed));
                return;
            }

            Answer answer = await _server.Client.Call(action.Method, action.Request);
            List<string> answered = answer.Lines(action.Method);
            LastAnswer = $"{answer.Code} {answer.Message} {string.Join(" | ", Timeless(action.Method, answered))}";
            if (answer.Code == 0)
            {
                Revision = Schema.Number(answered, "header.revision");
            }
            else
            {
                // A lease that is unknown or exists already, a missing key that was to stay where it is.
                Assert.True(answer.Code is 3 or 5 or 9, $"{action.Method}: {answer}");
            }

            if (action.Method == Grpc.Compact)
            {
                var reader = new Cairn.Base.ProtoReader(action.Request);
                Assert.True(reader.NextField());
                Compacted = reader.ReadInt64();
            }
        }

        /// <summary>
        /// Until everything written so far has been delivered on every stream, also to those who read history. A watcher of
        /// history made now is served in the same pass as theirs or a later one; a second one, made when the first has its
        /// event, in a later pass; and events of one stream come in the order they were sent.
        /// </summary>
        public async Task Quiesce()
        {
            Answer answer = await _server.Client.Call(Grpc.Put, new Pb().Text(1, "zz"));
            Revision = Schema.Number(answer.Lines(Grpc.Put), "header.revision");
            await Task.WhenAll(Enumerable.Range(0, Streams).Select(async i =>
            {
                for (int round = 0; round < 2; round++)
                {
                    await Mark(i, Revision);
                }
            }));
        }

        /// <summary>All responses, per stream and watcher, in a form that leaves out how they were cut.</summary>
        public List<string> Summary()
        {
            List<string> all = [];
            for (int i = 0; i < Streams; i++)
            {
                var byWatcher = new SortedDictionary<long, List<string>>();
                foreach (byte[] message in _received[i])
                {
                    List<string> lines = Schema.Lines("WatchResponse", message);
                    long id = Schema.Number(lines, "watch_id");
                    if (!byWatcher.TryGetValue(id, out List<string>? list))
                    {
                        byWatcher[id] = list = [];
                    }

                    if (!lines.Any(l => l.StartsWith("events[", StringComparison.Ordinal)))
                    {
                        list.Add(string.Join(" | ", lines));
                        continue;
                    }

                    foreach (IGrouping<string, string> change in lines
                        .Where(l => l.StartsWith("events[", StringComparison.Ordinal)).GroupBy(l => l[..l.IndexOf(']', StringComparison.Ordinal)]))
                    {
                        list.Add(string.Join(' ', change.Select(l => l[(l.IndexOf(']', StringComparison.Ordinal) + 1)..])));
                    }

                    CheckWhole(lines);
                }

                all.AddRange(byWatcher.SelectMany(p => p.Value.Select(line => $"stream {i} watcher {p.Key}: {line}")));
            }

            return all;
        }

        public async ValueTask DisposeAsync()
        {
            await _keepAlive.DisposeAsync();
            foreach (GrpcStream stream in _streams)
            {
                await stream.DisposeAsync();
            }
        }

        // Remaining times run; attached keys and leases come in any order.
        private static IEnumerable<string> Timeless(string method, List<string> lines) => lines
            .Where(l => !l.StartsWith("TTL ", StringComparison.Ordinal) || method != Grpc.LeaseTimeToLive || Schema.Number(lines, "TTL") < 0)
            .Select(l => l.IndexOf('[', StringComparison.Ordinal) is int at and >= 0 ? l[..at] + l[l.IndexOf(']', StringComparison.Ordinal)..] : l)
            .Order(StringComparer.Ordinal);

        // The header is never behind the events.
        private static void CheckWhole(List<string> lines)
        {
            long header = Schema.Number(lines, "header.revision");
            long last = lines.Where(l => l.Contains("].kv.mod_revision = ", StringComparison.Ordinal))
                .Select(l => long.Parse(l[(l.LastIndexOf(' ') + 1)..], System.Globalization.CultureInfo.InvariantCulture)).Max();
            Assert.True(header >= last, string.Join(" | ", lines));
        }

        // A watcher made for this: its created message comes after all answers to earlier requests; if it starts in the
        // past it has to receive an event as well.
        private async Task Mark(int index, long start = 0)
        {
            GrpcStream stream = _streams[index];
            long id = 1_000_000 + System.Threading.Interlocked.Increment(ref _mark);
            await stream.Send(new Pb().Message(1, new Pb().Text(1, "zz").Number(3, start).Number(7, id)));
            await Until(index, lines => Schema.Number(lines, "watch_id") == id
                && (start == 0 || lines.Exists(l => l.StartsWith("events[0]", StringComparison.Ordinal))));
            await stream.Send(new Pb().Message(2, new Pb().Number(1, id)));
            await Until(index, lines => Schema.Number(lines, "watch_id") == id && Schema.Value(lines, "canceled").Length > 0);
        }

        private async Task Until(int index, Func<List<string>, bool> found)
        {
            while (true)
            {
                byte[]? message = await _streams[index].Receive(30_000);
                Assert.True(message is not null, $"stream {index}: nothing more came; {_streams[index].End}");
                List<string> lines = Schema.Lines("WatchResponse", message);
                bool isMark = Schema.Number(lines, "watch_id") >= 1_000_000;
                if (!isMark)
                {
                    _received[index].Add(message);
                }

                if (found(lines))
                {
                    return;
                }
            }
        }
    }
}
