// WatchTranscriptTests: the recorded watch streams of etcd 3.6.14 (sections C to J of lease-watch), asked for again.
//
// Compared as the fixtures' README says: per watcher the events in order with their revisions, what is created, cancelled
// and why; messages of one watcher in order. Batches of a watcher that catches up may be cut elsewhere, so its events are
// compared joined. Periodic progress (section G) is compared by kind, not by number. What is unary in between is done,
// not compared (the other transcript tests do that).
using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class WatchTranscriptTests
{
    [Fact]
    public async Task Watch_EveryRecordedStream_ReceivesTheSame()
    {
        Transcript transcript = Transcript.Read("lease-watch-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(
            folder["data"], transcript.Identity, Tools.SubjectIsEtcd ? "--experimental-watch-progress-notify-interval=2s" : "--watch-progress-notify-interval=2s");
        await using Replay replay = new(server);
        foreach (TranscriptStep step in transcript.Steps)
        {
            if (step.Kind == "note" && step.Json.GetProperty("text").GetString()!.StartsWith("K.", StringComparison.Ordinal))
            {
                break;
            }

            await replay.Step(step);
        }

        Assert.True(replay.Differences.Count == 0, $"{replay.Differences.Count} streams differ\n{string.Join("\n\n", replay.Differences)}");
        Assert.True(replay.Compared >= 330, $"only {replay.Compared} messages compared");
    }

    private sealed class Replay(ServerProcess server) : IAsyncDisposable
    {
        private readonly Dictionary<string, Side> _streams = [];
        private string _section = "";

        public List<string> Differences { get; } = [];

        public int Compared { get; private set; }

        public async Task Step(TranscriptStep step)
        {
            string name = step.Json.TryGetProperty("s", out JsonElement s) && s.ValueKind == JsonValueKind.String ? s.GetString()! : "";
            switch (step.Kind)
            {
                case "note":
                    _section = step.Json.GetProperty("text").GetString()![..1];
                    break;
                case "open" when step.Method == Grpc.Watch:
                    _streams[name] = new Side(server.Client.Open(Grpc.Watch), _section == "G");
                    break;
                case "send" when _streams.TryGetValue(name, out Side? side):
                    await Gather();
                    await side.Stream.Send(step.Request);
                    break;
                case "recv" when _streams.TryGetValue(name, out Side? side):
                    side.Expect(step);
                    if (_section == "C" && step.Json.GetProperty("rsj").TryGetProperty("events", out _))
                    {
                        // On the recorded member the lease of two seconds expired here. Taking it away is the same to a
                        // watcher, and does not hang on the clock.
                        await server.Client.Call(Grpc.LeaseRevoke, new Pb().Number(1, 31));
                    }

                    break;
                case "half-close" when _streams.TryGetValue(name, out Side? side):
                    await Gather();
                    side.Stream.HalfClose();
                    break;
                case "cancel" when _streams.TryGetValue(name, out Side? side):
                    await Gather();
                    if (_section == "G")
                    {
                        await side.GatherByTime();
                    }

                    await side.Stream.Cancel();
                    break;
                case "end" when _streams.Remove(name, out Side? side):
                    await Finish(name, side, step);
                    break;
                case "unary":
                    await Gather();
                    Answer answer = await server.Client.Call(step.Method, step.Request, step.Metadata);
                    Assert.True(answer.Code == step.Code, $"step {step.Number} {step.Method}: {answer}, recorded {step.Code} {step.Message}");
                    break;
                case "loop":
                    await Gather();
                    for (int i = 0; i < 2300; i++)
                    {
                        await server.Client.Ok(Grpc.Put, new Pb().Text(1, $"bt/{i % 5}").Text(2, $"{i}"));
                    }

                    break;
                case "quiet":
                    await Gather();
                    break;
            }
        }

        public async ValueTask DisposeAsync()
        {
            foreach (Side side in _streams.Values)
            {
                await side.Stream.DisposeAsync();
            }
        }

        // Before the client does anything more, everything expected so far has arrived.
        private async Task Gather()
        {
            foreach ((string name, Side side) in _streams)
            {
                await side.Gather(name);
            }
        }

        private async Task Finish(string name, Side side, TranscriptStep step)
        {
            await side.Gather(name);
            string? difference = side.Compare();
            Compared += side.Count;
            if (difference is not null)
            {
                Differences.Add($"stream {name}: {difference}");
            }

            if (step.Code != 1)
            {
                // Ended by the server; the text of a parse error is the library's own.
                await side.Stream.Ended.WaitAsync(TimeSpan.FromSeconds(60));
                Assert.Equal(step.Code, side.Stream.End!.Value.Code);
            }

            await side.Stream.DisposeAsync();
        }
    }

    /// <summary>One stream: what was recorded and what came.</summary>
    private sealed class Side(GrpcStream stream, bool byTime)
    {
        private readonly List<List<string>> _recorded = [];
        private readonly List<List<string>> _now = [];
        private int _recordedWeight;
        private int _nowWeight;

        public GrpcStream Stream => stream;

        public int Count => _recorded.Count;

        public void Expect(TranscriptStep step)
        {
            List<string> lines = step.Json.TryGetProperty("rs", out JsonElement rs) && rs.ValueKind == JsonValueKind.String
                ? Schema.Lines("WatchResponse", step.Response)
                : ["large " + step.Json.GetProperty("rs_len").GetInt32(), "sha " + step.Json.GetProperty("rs_sha256").GetString()];
            _recorded.Add(lines);
            _recordedWeight += Weight(lines);
        }

        /// <summary>Waits until as much has come as was recorded: events count, and messages without any.</summary>
        public async Task Gather(string name)
        {
            long limit = Environment.TickCount64 + 30_000;
            while (_nowWeight < _recordedWeight)
            {
                byte[]? message = await stream.Receive((int)Math.Max(1, limit - Environment.TickCount64));
                if (message is null)
                {
                    Assert.Fail($"stream {name}: only {_nowWeight} of {_recordedWeight} events and answers came; {stream.End}\nrecorded last: {string.Join(" | ", _recorded[^1])}");
                }

                List<string> lines = Lines(message);
                _now.Add(lines);
                _nowWeight += Weight(lines);
            }

            while (stream.TryReceive() is { } more)
            {
                List<string> lines = Lines(more);
                _now.Add(lines);
                _nowWeight += Weight(lines);
            }
        }

        /// <summary>Where time decides how many messages come: waits until their kinds are the recorded ones.</summary>
        public async Task GatherByTime()
        {
            long limit = Environment.TickCount64 + 20_000;
            while (Compare() is not null && Environment.TickCount64 < limit)
            {
                if (await stream.Receive(1000) is { } message)
                {
                    _now.Add(Lines(message));
                }
            }
        }

        public string? Compare()
        {
            List<string> recorded = Summary(_recorded);
            List<string> now = Summary(_now);
            if (recorded.SequenceEqual(now))
            {
                return null;
            }

            return "\n  recorded: " + string.Join("\n  recorded: ", recorded.Except(now).Take(8))
                + "\n  now:      " + string.Join("\n  now:      ", now.Except(recorded).Take(8)) + $"\n  ({recorded.Count} and {now.Count} lines)";
        }

        private static List<string> Lines(byte[] message) => message.Length > 100_000
            ? ["large " + message.Length, "sha " + Convert.ToHexStringLower(SHA256.HashData(message))]
            : Schema.Lines("WatchResponse", message);

        private static int Weight(List<string> lines)
            => Math.Max(1, lines.Count(l => l.StartsWith("events[", StringComparison.Ordinal) && l.Contains("].kv.mod_revision = ", StringComparison.Ordinal)));

        // Per watcher, in order: control messages whole, events one by one with the revision of the header if live.
        private List<string> Summary(List<List<string>> messages)
        {
            var byWatcher = new SortedDictionary<long, List<string>>();
            foreach (List<string> lines in messages)
            {
                long id = lines[0].StartsWith("large", StringComparison.Ordinal) ? long.MinValue : Schema.Number(lines, "watch_id");
                if (!byWatcher.TryGetValue(id, out List<string>? list))
                {
                    byWatcher[id] = list = [];
                }

                bool events = lines.Any(l => l.StartsWith("events[", StringComparison.Ordinal));
                if (!events)
                {
                    string text = string.Join(" | ", lines);
                    if (!byTime || list.Count == 0 || list[^1] != text)
                    {
                        list.Add(text);
                    }

                    continue;
                }

                var current = new StringBuilder();
                string at = "";
                foreach (string line in lines.Where(l => l.StartsWith("events[", StringComparison.Ordinal)))
                {
                    int close = line.IndexOf(']', StringComparison.Ordinal);
                    if (line[..close] != at)
                    {
                        Flush();
                        at = line[..close];
                    }

                    current.Append(line[(close + 1)..]).Append(' ');
                }

                Flush();

                void Flush()
                {
                    if (current.Length > 0)
                    {
                        list.Add(current.ToString());
                        current.Clear();
                    }
                }
            }

            if (byWatcher.TryGetValue(long.MinValue, out List<string>? large))
            {
                large.Sort(StringComparer.Ordinal);
            }

            return byWatcher.SelectMany(p => p.Value.Select(line => $"{p.Key}: {line}")).ToList();
        }
    }
}
