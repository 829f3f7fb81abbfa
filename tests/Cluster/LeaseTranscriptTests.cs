// LeaseTranscriptTests: the recorded lease, lock and election calls of etcd 3.6.14 (sections A, B and K of lease-watch), asked
// for again. The watch streams between them are WatchTranscriptTests' part: here the store is only brought to the revision
// at which K begins.
//
// What hangs on the clock is left out by name: remaining times, and everything about leases that may end during a slow
// replay. Calls that ended at the recording client's deadline are ended by ours when the server shows that they wait, so
// that no limit of ours can be too short.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class LeaseTranscriptTests
{
    /// <summary>A lease granted for fewer seconds may be gone when a slow machine asks for it.</summary>
    private const long LastingSeconds = 300;

    [Fact]
    public async Task Leases_EveryRecordedCallAndKeepAlive_AnswersTheSame()
    {
        Transcript transcript = Transcript.Read("lease-watch-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], transcript.Identity);
        await using Replay replay = new(server);
        foreach (TranscriptStep step in transcript.Steps.TakeWhile(s => !IsNote(s, "C.")))
        {
            await replay.Step(step);
        }

        replay.Check(atLeast: 55);
    }

    [Fact]
    public async Task LocksAndElections_EveryRecordedCall_AnswersTheSame()
    {
        Transcript transcript = Transcript.Read("lease-watch-3.6.14");
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"], transcript.Identity);
        await using Replay replay = new(server);
        List<TranscriptStep> steps = transcript.Steps.SkipWhile(s => !IsNote(s, "K.")).ToList();
        await Advance(server, Schema.Number(Schema.Lines("LeaseGrantResponse", steps[1].Response), "header.revision"));
        foreach (TranscriptStep step in steps)
        {
            await replay.Step(step);
        }

        replay.Check(atLeast: 27);
    }

    private static bool IsNote(TranscriptStep step, string start)
        => step.Kind == "note" && step.Json.GetProperty("text").GetString()!.StartsWith(start, StringComparison.Ordinal);

    // Puts until the store stands at a revision.
    private static async Task Advance(ServerProcess server, long revision)
    {
        byte[] put = new Pb().Text(1, "filler").Bytes;
        long now = Schema.Number(await server.Client.Ok(Grpc.Range, new Pb().Text(1, "filler")), "header.revision");
        while (now < revision)
        {
            int batch = (int)Math.Min(64, revision - now);
            Answer[] answers = await Task.WhenAll(Enumerable.Range(0, batch).Select(_ => server.Client.Call(Grpc.Put, put)));
            Assert.All(answers, a => Assert.Equal(0, a.Code));
            now += batch;
        }
    }

    private sealed class Replay(ServerProcess server) : IAsyncDisposable
    {
        private readonly Dictionary<string, GrpcStream> _streams = [];
        private readonly HashSet<string> _fleeting = [];
        private readonly List<string> _differences = [];
        private int _compared;

        public async Task Step(TranscriptStep step)
        {
            string name = step.Json.TryGetProperty("s", out JsonElement s) ? s.GetString()! : "";
            switch (step.Kind)
            {
                case "unary" when step.Json.TryGetProperty("timeout_s", out _):
                    await GiveUp(step);
                    break;
                case "sstream":
                    await Observe(step);
                    break;
                case "unary":
                    await Unary(step);
                    break;
                case "open":
                    _streams[name] = server.Client.Open(step.Method, step.Metadata);
                    break;
                case "send":
                    await _streams[name].Send(step.Request);
                    break;
                case "recv":
                    byte[]? message = await _streams[name].Receive();
                    Assert.True(message is not null, $"step {step.Number}: nothing came; {_streams[name].End}");
                    Compare(step, Lines(step, "LeaseKeepAliveResponse", message));
                    break;
                case "half-close":
                    _streams[name].HalfClose();
                    break;
                case "end":
                    await _streams[name].Ended.WaitAsync(TimeSpan.FromSeconds(60));
                    Assert.Equal(step.Code, _streams[name].End!.Value.Code);
                    break;
                case "note":
                    break;
                default:
                    Assert.Fail($"step {step.Number}: unknown kind {step.Kind}");
                    break;
            }
        }

        public void Check(int atLeast)
        {
            Assert.True(_differences.Count == 0, $"{_differences.Count} of {_compared} answers differ\n{string.Join("\n", _differences)}\n{server.Tail()}");
            Assert.True(_compared >= atLeast, $"only {_compared} answers compared");
        }

        public async ValueTask DisposeAsync()
        {
            foreach (GrpcStream stream in _streams.Values)
            {
                await stream.DisposeAsync();
            }
        }

        private async Task Unary(TranscriptStep step)
        {
            Answer answer = await server.Client.Call(step.Method, step.Request, step.Metadata);
            bool sameText = step.Code == 13 || answer.Message == step.Message;
            if (answer.Code != step.Code || !sameText)
            {
                _differences.Add($"step {step.Number} {step.Method}: recorded {step.Code} {step.Message}; now {answer}");
            }
            else if (step.Code == 0)
            {
                Compare(step, Lines(step, Schema.Response(step.Method), answer.Body));
            }
            else
            {
                _compared++;
            }
        }

        private void Compare(TranscriptStep step, List<string> now)
        {
            string? message = step.Kind == "recv" ? "LeaseKeepAliveResponse" : Schema.Response(step.Method);
            List<string> recorded = Lines(step, message, step.Response);
            _compared++;
            if (!recorded.SequenceEqual(now))
            {
                _differences.Add($"step {step.Number}\n  recorded: {string.Join(" | ", recorded.Except(now))}\n  now:      {string.Join(" | ", now.Except(recorded))}");
            }
        }

        private List<string> Lines(TranscriptStep step, string? message, byte[] body)
        {
            List<string> lines = Schema.Lines(message, body);
            if (message == "LeaseGrantResponse")
            {
                string id = Schema.Value(lines, "ID");
                if (Schema.Number(lines, "TTL") <= LastingSeconds)
                {
                    _fleeting.Add(id);
                }

                if (step.Variation.StartsWith("lease_id", StringComparison.Ordinal))
                {
                    Assert.True(long.Parse(id, System.Globalization.CultureInfo.InvariantCulture) > 0, "an id the server picks is positive");
                    lines.RemoveAll(l => l.StartsWith("ID ", StringComparison.Ordinal));
                }
            }
            else if (message is "LeaseKeepAliveResponse" && _fleeting.Contains(Schema.Value(lines, "ID")))
            {
                lines.RemoveAll(l => l.StartsWith("TTL ", StringComparison.Ordinal));
            }
            else if (message == "LeaseTimeToLiveResponse")
            {
                long ttl = Schema.Number(lines, "TTL");
                bool fleeting = _fleeting.Contains(Schema.Value(lines, "ID"));
                lines.RemoveAll(l => (ttl > 0 || fleeting) && l.StartsWith("TTL ", StringComparison.Ordinal));
                lines.RemoveAll(l => fleeting && l.StartsWith("grantedTTL ", StringComparison.Ordinal));
                lines = [.. lines.Where(l => !l.StartsWith("keys[", StringComparison.Ordinal)), .. lines
                    .Where(l => l.StartsWith("keys[", StringComparison.Ordinal)).Select(l => l[l.IndexOf('=', StringComparison.Ordinal)..]).Order(StringComparer.Ordinal)];
            }
            else if (message == "LeaseLeasesResponse")
            {
                // Which of the others are there is a matter of time; the order is one of remaining time.
                lines = [.. lines.Where(l => l.EndsWith(".ID = 81", StringComparison.Ordinal) || l.EndsWith(".ID = 82", StringComparison.Ordinal))
                    .Select(l => l[l.IndexOf('=', StringComparison.Ordinal)..]).Order(StringComparer.Ordinal)];
            }

            return lines;
        }

        /// <summary>
        /// A call that waits for another key to go: once its own key shows that it waits, its client leaves; the key goes.
        /// </summary>
        private async Task GiveUp(TranscriptStep step)
        {
            Assert.Equal(4, step.Code);
            JsonElement request = step.Json.GetProperty("rqj");
            string prefix = request.GetProperty("name").GetString()!;
            string own = $"{prefix}/{request.GetProperty("lease").GetInt64():x}";
            GrpcStream call = server.Client.Open(step.Method);
            await call.Send(step.Request);
            call.HalfClose();
            await UntilKey(own, isThere: true);
            Assert.False(call.Ended.IsCompleted, $"step {step.Number}: it did not wait; {call.End}");
            await call.DisposeAsync();
            await UntilKey(own, isThere: false);
            _compared++;
        }

        private async Task Observe(TranscriptStep step)
        {
            await using GrpcStream call = server.Client.Open(step.Method);
            await call.Send(step.Request);
            call.HalfClose();
            foreach (JsonElement message in step.Json.GetProperty("rss").EnumerateArray())
            {
                byte[]? now = await call.Receive();
                Assert.True(now is not null, $"step {step.Number}: nothing came; {call.End}");
                Assert.Equal(
                    Schema.Lines("LeaderResponse", Convert.FromHexString(message.GetString()!)), Schema.Lines("LeaderResponse", now));
                _compared++;
            }
        }

        private async Task UntilKey(string key, bool isThere)
        {
            long limit = Environment.TickCount64 + 60_000;
            while (Schema.Number(await server.Client.Ok(Grpc.Range, new Pb().Text(1, key)), "count") != (isThere ? 1 : 0))
            {
                Assert.True(Environment.TickCount64 < limit, $"{key} is {(isThere ? "not there" : "still there")} after 60 s\n{server.Tail()}");
                await Task.Delay(10);
            }
        }
    }
}
