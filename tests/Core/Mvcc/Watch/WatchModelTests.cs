// Random writes, compactions, watchers of all kinds and clients of all speeds against a plain list of events: what each
// watcher received is what the list says, by the checks of raft.md §3.4.
using System;
using System.Collections.Generic;
using System.Linq;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Mvcc.Watch;

public sealed class WatchModelTests
{
    [Fact]
    public void Watchers_OfAllKinds_ReceiveWhatTheListSays() => Gen.Int.Sample(Execute, iter: 150);

    private static void Execute(int seed)
    {
        using var run = new Run(seed);
        run.Execute();
    }

    /// <summary>A watcher the test knows of.</summary>
    private sealed class Expected
    {
        public required Wish Wish { get; init; }

        public required long From { get; init; }

        public required int Client { get; init; }

        /// <summary>Started in the past, or its client may have been slow: a compaction may end it.</summary>
        public bool MayBeLate { get; set; }

        public bool CanceledByClient { get; set; }

        public long Canceled { get; set; } = -1; // compact revision

        public List<SeenEvent> Events { get; } = [];
    }

    private sealed class Run : IDisposable
    {
        private const int Clients = 4;
        private readonly int _seed;
        private readonly Random _random;
        private readonly WatchHarness _world;
        private readonly WatchClient[] _clients = new WatchClient[Clients];
        private readonly int[] _read = new int[Clients];
        private readonly SortedDictionary<string, SeenEvent> _live = new(StringComparer.Ordinal);
        private readonly List<SeenEvent> _ledger = [];
        private readonly Dictionary<(int Client, long Id), Expected> _watchers = [];
        private readonly Queue<(Wish Wish, int Client)>[] _asked = new Queue<(Wish, int)>[Clients];
        private readonly bool _slowClients;
        private long _revision = 1;
        private long _compacted = -1;

        public Run(int seed)
        {
            _seed = seed;
            _random = new Random(seed);
            _slowClients = _random.Next(3) != 0;
            _world = new WatchHarness(
                new WatchOptions
                {
                    StreamBytesMax = _slowClients ? _random.Next(64, 4096) : 1 << 20,
                    FragmentBytes = _random.Next(2) == 0 ? 200 : 1 << 20,
                    CatchUpBytes = _random.Next(100, 4000),
                    CatchUpRevisions = _random.Next(1, 60),
                    CatchUpWatchers = _random.Next(1, 12),
                    ResponseRevisionsMax = _random.Next(1, 30),
                    StreamRequestsMax = 8,
                },
                seed);
            for (int i = 0; i < Clients; i++)
            {
                _clients[i] = _world.Open();
                _asked[i] = new Queue<(Wish, int)>();
            }
        }

        public void Execute()
        {
            for (int step = 0; step < 400; step++)
            {
                Step();
            }

            _world.Settle(_clients);
            for (int i = 0; i < Clients; i++)
            {
                ReadNew(i);
            }

            Assert.All(_watchers.Values, w => Check(w, complete: true));
            Assert.Equal(0, _world.Hub.Figures.SlowWatchers);
            Assert.Equal(_watchers.Values.Count(w => w.Canceled < 0 && !w.CanceledByClient), _world.Hub.Figures.Watchers);
        }

        public void Dispose() => _world.Dispose();

        private void Step()
        {
            int client = _random.Next(Clients);
            switch (_random.Next(20))
            {
                case 0 or 1:
                    Ask(client);
                    break;
                case 2:
                    Cancel(client);
                    break;
                case 3:
                    _ = _clients[client].Stream.TryProgress();
                    break;
                case 4 when _revision > Math.Max(3, _compacted):
                    long at = _random.NextInt64(Math.Max(1, _compacted + 1), _revision + 1);
                    _world.Compact(at);
                    _compacted = at;
                    break;
                case 5:
                    if (!_world.Store.Store.IsFrozen)
                    {
                        _world.Store.Freeze();
                    }

                    break;
                case 6 or 7:
                    _ = _world.Store.Step();
                    break;
                case < 16:
                    Write();
                    break;
                default:
                    break;
            }

            if (_random.Next(3) != 0)
            {
                _world.Poll();
            }

            for (int i = 0; i < Clients; i++)
            {
                // With slow clients the even ones read little and seldom.
                bool slow = _slowClients && i % 2 == 0;
                if (!slow)
                {
                    _clients[i].Drain();
                }
                else if (_random.Next(6) == 0)
                {
                    _clients[i].Drain(_random.Next(1, 500));
                }

                ReadNew(i);
            }
        }

        private void Ask(int client)
        {
            string key = Key();
            string end = _random.Next(3) switch { 0 => "", 1 => "\0", _ => Key() + "~" };
            if (end.Length > 1 && string.CompareOrdinal(key, end) >= 0)
            {
                return;
            }

            var wish = new Wish(key, end)
            {
                Start = _random.Next(4) switch { 0 => _random.NextInt64(1, _revision + 1), 1 => _revision + _random.Next(1, 5), _ => 0 },
                PrevKv = _random.Next(2) == 0,
                NoPut = _random.Next(5) == 0,
                NoDelete = _random.Next(5) == 0,
                Fragment = _random.Next(3) == 0,
            };
            if (_clients[client].TryCreate(wish))
            {
                _asked[client].Enqueue((wish, client));
            }
        }

        private void Cancel(int client)
        {
            long[] ids = _watchers.Where(p => p.Key.Client == client && p.Value is { Canceled: < 0, CanceledByClient: false }).Select(p => p.Key.Id).ToArray();
            if (ids.Length > 3)
            {
                _ = _clients[client].Stream.TryCancel(ids[_random.Next(ids.Length)]);
            }
        }

        private void Write()
        {
            int count = _random.Next(4) == 0 ? _random.Next(2, 6) : 1;
            var ops = new List<Op>();
            var keys = new HashSet<string>();
            var events = new List<SeenEvent>();
            var before = new SortedDictionary<string, SeenEvent>(_live, StringComparer.Ordinal);
            long revision = _revision + 1;
            for (int i = 0; i < count; i++)
            {
                string key = Key();
                if (!keys.Add(key))
                {
                    continue;
                }

                before.TryGetValue(key, out SeenEvent? old);
                string previous = old is null ? "" : $"{old.Value}@{old.Modified}";
                if (_random.Next(3) == 0)
                {
                    ops.Add(new DeleteOp(WatchHarness.Bytes(key), [], false));
                    if (old is not null)
                    {
                        events.Add(new SeenEvent(true, key, 0, revision, 0, "", previous));
                        _live.Remove(key);
                    }
                }
                else
                {
                    string value = new('v', _random.Next(30));
                    ops.Add(new PutOp(WatchHarness.Bytes(key), WatchHarness.Bytes(value)));
                    var put = new SeenEvent(false, key, old?.Created ?? revision, revision, (old?.Version ?? 0) + 1, value, previous);
                    events.Add(put);
                    _live[key] = put;
                }
            }

            (ErrorCode error, _) = ops.Count == 1 && ops[0] is PutOp single
                ? _world.Store.Put(single.Encode())
                : _world.Store.Txn(new TxnOp([], [.. ops], []).Encode());
            Assert.Equal(ErrorCode.None, error);
            if (events.Count > 0)
            {
                _revision = revision;
                _ledger.AddRange(events);
            }

            Assert.Equal(_revision, _world.Store.Store.Revision);
        }

        private string Key() => new((char)('a' + _random.Next(4)), _random.Next(1, 3));

        private void ReadNew(int client)
        {
            List<SeenResponse> seen = _clients[client].Seen;
            bool inFragments = false;
            for (; _read[client] < seen.Count; _read[client]++)
            {
                SeenResponse response = seen[_read[client]];
                Expected? watcher = null;
                if (response.Created)
                {
                    Assert.False(response.Canceled, Describe(response));
                    (Wish wish, _) = _asked[client].Dequeue();
                    long from = wish.Start == 0 ? response.Revision + 1 : wish.Start;
                    _watchers.Add((client, response.Id), new Expected
                    {
                        Wish = wish,
                        From = from,
                        Client = client,
                        MayBeLate = from <= response.Revision || _slowClients, // a small limit makes quick clients late, too
                    });
                    continue;
                }

                if (response.Id == -1)
                {
                    Assert.All(_watchers.Where(p => p.Key.Client == client && p.Value is { Canceled: < 0, CanceledByClient: false }), p =>
                    {
                        Assert.True(p.Value.Wish.Start <= response.Revision, Describe(response));
                        Check(p.Value, complete: false, upTo: response.Revision);
                    });
                    continue;
                }

                watcher = _watchers[(client, response.Id)];
                if (response.Canceled)
                {
                    // A client may cancel one that a compaction has just ended, not the other way round.
                    Assert.False(watcher.CanceledByClient, Describe(response));
                    Assert.Empty(response.Events);
                    Assert.True(watcher.Canceled < 0 || response.CompactRevision == 0, Describe(response));
                    watcher.Canceled = response.CompactRevision > 0 ? response.CompactRevision : watcher.Canceled;
                    watcher.CanceledByClient = response.CompactRevision == 0;
                    continue;
                }

                Assert.True(watcher is { Canceled: < 0, CanceledByClient: false }, Describe(response));

                Assert.NotEmpty(response.Events);
                Assert.True(response.Revision >= response.Events[^1].Modified, Describe(response));
                Assert.True(!response.Fragment || watcher.Wish.Fragment, Describe(response));
                if (watcher.Events.Count > 0 && !inFragments && !watcher.Wish.Fragment)
                {
                    // A revision is never split over two responses.
                    Assert.True(response.Events[0].Modified > watcher.Events[^1].Modified, Describe(response));
                }

                inFragments = response.Fragment;
                watcher.Events.AddRange(response.Events);
            }
        }

        // Received = what the list says, from the start on; complete, or up to a revision, or until a compaction ended it.
        private void Check(Expected watcher, bool complete, long upTo = long.MaxValue)
        {
            List<SeenEvent> all = _ledger.Where(e => e.Modified >= watcher.From && Wants(watcher.Wish, e)).ToList();
            int must = !complete ? all.Count(e => e.Modified <= upTo)
                : watcher.Canceled >= 0 || watcher.CanceledByClient ? watcher.Events.Count
                : all.Count;
            Assert.True(
                complete ? watcher.Events.Count == must : watcher.Events.Count >= must,
                $"seed {_seed}: {watcher.Wish} has {watcher.Events.Count} of {must} events");
            for (int i = 0; i < watcher.Events.Count; i++)
            {
                SeenEvent expected = all[i];
                SeenEvent actual = watcher.Events[i];

                // A previous value may be missing only for a late watcher, when it was compacted away.
                bool lost = watcher.MayBeLate && actual.Previous.Length == 0 && actual.Modified - 1 < _compacted;
                expected = expected with { Previous = watcher.Wish.PrevKv && !lost ? expected.Previous : "" };
                Assert.True(expected == actual, $"seed {_seed}: {watcher.Wish}\nexpected {expected}\nactual   {actual}");
            }

            if (watcher.Canceled >= 0)
            {
                Assert.True(watcher.MayBeLate, $"seed {_seed}: {watcher.Wish} was not late and was cancelled at {watcher.Canceled}");
                Assert.True(watcher.Events.Count == 0 || watcher.Events[^1].Modified < watcher.Canceled, $"seed {_seed}: {watcher.Wish}");
            }
        }

        private static bool Wants(Wish wish, SeenEvent e)
        {
            if (e.Delete ? wish.NoDelete : wish.NoPut)
            {
                return false;
            }

            return wish.End.Length == 0 ? e.Key == wish.Key
                : string.CompareOrdinal(e.Key, wish.Key) >= 0 && (wish.End == "\0" || string.CompareOrdinal(e.Key, wish.End) < 0);
        }

        private string Describe(SeenResponse response) => $"seed {_seed}: {response}";
    }
}
