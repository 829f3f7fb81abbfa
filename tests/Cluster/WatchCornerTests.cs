// WatchCornerTests: what clients may do wrong with watch streams, locks and elections: beside etcd where it has an answer, and
// with bounds on memory where a client never reads.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class WatchCornerTests
{
    private const long MiB = 1 << 20;

    /// <summary>Every call ends at once. Requests of a huge, an empty, a malformed kind; owners that are not; leases that are none.</summary>
    private static readonly (string Method, byte[] Request)[] s_calls = Calls().ToArray();

    [Fact]
    public async Task LocksAndElections_WrongRequests_AnsweredAsByEtcd()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--unsafe-no-fsync");
        List<string> differences = [];
        for (int i = 0; i < s_calls.Length; i++)
        {
            (string method, byte[] request) = s_calls[i];
            Answer[] both = await Task.WhenAll(cairn.Client.Call(method, request), etcd.Client.Call(method, request));
            string a = Neutral(method, both[0]), b = Neutral(method, both[1]);
            if (a != b)
            {
                differences.Add($"call {i} {method} {string.Join(' ', Schema.Lines(Schema.Request(method), request).Select(l => l.Length > 100 ? l[..100] : l))}\n  cairn: {a}\n  etcd:  {b}");
            }
        }

        Assert.True(differences.Count == 0, $"{differences.Count} of {s_calls.Length} differ\n{string.Join('\n', differences)}\n{cairn.Tail()}");
    }

    [Fact]
    public async Task Progress_BesideAnIdThatACompactionEnded_AnsweredAsByEtcd()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--unsafe-no-fsync");
        List<string> theirs = await ProgressBesideCompacted(etcd), ours = await ProgressBesideCompacted(cairn);
        Assert.Equal(theirs, ours);
    }

    [Fact]
    public async Task StreamsNeverRead_CostTheirLimitOnly_AndNobodyElseWaits()
    {
        const int Streams = 24, Writes = 40, Value = 512 * 1024;
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
        byte[] create = new Pb().Message(1, new Pb().Text(1, "big")).Bytes;
        using Grpc good = new(server.Url);
        await using GrpcStream reader = good.Open(Grpc.Watch);
        await reader.Send(create);
        Assert.NotNull(await reader.Receive());
        List<UnreadStream> unread = [];
        using HttpClient http = UnreadStream.Client(server.Url);
        for (int i = 0; i < Streams; i++)
        {
            unread.Add(await UnreadStream.Open(http, create));
        }

        await UntilMetric(server, "etcd_debugging_mvcc_watcher_total", value => value == Streams + 1);
        long before = Rss(server);
        long events = 0;
        for (int i = 0; i < Writes; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "big").Data(2, new byte[Value]));

            // Who reads has each change at once, however much waits for the others.
            byte[]? message = await reader.Receive();
            Assert.True(message is { Length: > Value }, $"change {i} has not come\n{server.Tail()}");
            events++;
        }

        // Unbounded it would be 24 x 20 MiB. A stream holds a mebibyte and one response more, besides what HTTP/2 has taken
        // from it; the rest of the growth is the store's own.
        Dictionary<string, double> page = await Metrics(server);
        Assert.InRange(page["cairn_watch_pending_bytes"], 1, Streams * (MiB + Value + 1024));
        Assert.True(page["cairn_watch_stream_limit_hits_total"] >= Streams, "no stream has met its limit");
        Assert.InRange(page["etcd_debugging_mvcc_slow_watcher_total"], 1, Streams);
        long grown = Rss(server) - before;
        Assert.True(grown < 240 * MiB, $"{grown / MiB} MiB more for {Streams} streams that do not read");

        // One of them reads at last: everything is there, in order.
        Assert.Equal(Writes, await unread[0].ReadEvents(Writes));
        foreach (UnreadStream stream in unread)
        {
            stream.Dispose();
        }

        await UntilMetric(server, "etcd_debugging_mvcc_watcher_total", value => value == 1);
        await UntilMetric(server, "cairn_watch_pending_bytes", value => value == 0);
    }

    [Fact]
    public async Task RequestsWithoutEnd_OfAClientThatNeverReads_AreNotTaken()
    {
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(folder["data"]);
        using HttpClient http = UnreadStream.Client(server.Url);
        using UnreadStream stream = await UnreadStream.Open(http, new Pb().Message(1, new Pb().Text(1, "k")).Bytes);
        byte[] create = new Pb().Message(1, new Pb().Text(1, "k")).Bytes;
        Task<int> flood = stream.Flood(create, 400_000);

        // Answers pile up to the stream's limit; then no further request is taken, and the client is held back by HTTP/2.
        double last = 0;
        for (int quiet = 0; quiet < 20;)
        {
            double now = (await Metrics(server))["etcd_debugging_mvcc_watcher_total"];
            quiet = now == last && now > 1 ? quiet + 1 : 0;
            last = now;
            Assert.False(flood.IsCompleted, "400,000 requests were taken from a client that reads no answer");
            await Task.Delay(50);
        }

        Assert.InRange((await Metrics(server))["cairn_watch_pending_bytes"], 1, MiB + 64 * 1024);
        await server.Client.Ok(Grpc.Put, new Pb().Text(1, "other").Text(2, "v"));
    }

    private static IEnumerable<(string Method, byte[] Request)> Calls()
    {
        const string Proclaim = "/v3electionpb.Election/Proclaim", Resign = "/v3electionpb.Election/Resign", Leader = "/v3electionpb.Election/Leader";
        yield return (Grpc.LeaseGrant, new Pb().Number(1, 86_400).Number(2, 7).Bytes);
        yield return (Grpc.LeaseGrant, new Pb().Number(1, 86_400).Number(2, -9).Bytes);
        foreach (string method in new[] { Grpc.Lock, Grpc.Unlock, Grpc.Campaign, Proclaim, Resign, Leader })
        {
            yield return (method, [0xff]);
            yield return (method, [0x08, 0x01]);
            yield return (method, [0x0a, 0x05, 0x01]);
        }

        foreach (string method in new[] { Grpc.Lock, Grpc.Campaign })
        {
            yield return (method, new Pb().Text(1, "n").Number(2, -9).Bytes);
            yield return (method, new Pb().Text(1, "n").Number(2, -9).Bytes);
            yield return (method, new Pb().Text(1, "n").Number(2, 4711).Bytes);
            yield return (method, new Pb().Text(1, "n").Number(2, long.MinValue).Bytes);
            yield return (method, new Pb().Data(1, [0xff, 0, 0xff]).Number(2, 7).Bytes);
            yield return (method, new Pb().Text(1, "n/deep").Number(2, 7).ExplicitData(99, [1]).Bytes);
            yield return (method, new Pb().Number(2, 7).Bytes);
            yield return (method, new Pb().Text(1, "x").Text(1, "two").Number(2, 7).Bytes);
            yield return (method, new Pb().Text(1, new string('n', 2_000_000)).Number(2, 7).Bytes);
            yield return (method, new Pb().Text(1, new string('n', 1_572_000)).Number(2, 7).Bytes);
        }

        foreach (string key in new[] { "n/7", "n/-9", "n/-9", "nothing", "\0" })
        {
            yield return (Grpc.Unlock, new Pb().Text(1, key).Bytes);
        }

        yield return (Grpc.Unlock, new Pb().Data(1, new byte[2_000_000]).Bytes);
        yield return (Grpc.Campaign, new Pb().Text(1, "el").Number(2, 7).Text(3, "v").Bytes);
        yield return (Leader, new Pb().Text(1, "el").Bytes);
        yield return (Leader, new Pb().Bytes);
        Pb own = new Pb().Text(1, "el").Text(2, "el/7").Number(4, 7);
        foreach (string method in new[] { Proclaim, Resign })
        {
            yield return (method, new Pb().Message(1, new Pb()).Bytes);
            yield return (method, new Pb().Message(1, own).Bytes);
            yield return (method, new Pb().Message(1, new Pb().Text(1, "el").Text(2, "el/7").Number(3, 1).Number(4, 7)).Bytes);
            yield return (method, new Pb().Message(1, new Pb().Text(1, "el").Text(2, "el/7").Number(3, -1).Number(4, 7)).Bytes);
            yield return (method, new Pb().Message(1, new Pb().Text(2, "el/99").Number(3, 5).Number(4, 99)).Bytes);

            // A key that is not there has the create revision 0: the guard holds.
            yield return (method, new Pb().Message(1, new Pb().Text(2, "made up").Number(4, 7)).Text(2, "v").Bytes);
            yield return (method, new Pb().Message(1, new Pb().Text(2, "made up").Number(4, 4711)).Text(2, "v").Bytes);
            yield return (method, new Pb().ExplicitData(1, [0xff]).Bytes);
            yield return (method, new Pb().Message(1, new Pb().Text(2, "el/7")).Message(1, new Pb().Number(4, 7)).Text(2, "merged").Bytes);
        }

        yield return (Grpc.Campaign, new Pb().Text(1, "el").Number(2, 7).Data(3, new byte[1_572_800]).Bytes);
        yield return (Leader, new Pb().Text(1, "el").Bytes);
        yield return (Grpc.LeaseRevoke, new Pb().Number(1, 7).Bytes);
        yield return (Leader, new Pb().Text(1, "el").Bytes);
        yield return (Grpc.Range, new Pb().Data(1, [0]).Data(2, [0]).Bytes);
    }

    private static string Neutral(string method, Answer answer)
    {
        // The text of a parse error is the protobuf library's.
        string text = answer.Code == 13 ? "" : answer.Message;
        return $"{answer.Code} {text} {(answer.Code == 0 ? string.Join(" | ", answer.Lines(method)) : "")}";
    }

    /// <summary>What a stream answers to progress requests with a living watcher and one whose id a compaction ended.</summary>
    private static async Task<List<string>> ProgressBesideCompacted(ServerProcess server)
    {
        List<string> said = [];
        for (int i = 0; i < 6; i++)
        {
            await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k").Text(2, "v"));
        }

        await server.Client.Ok(Grpc.Compact, new Pb().Number(1, 5));
        await using GrpcStream stream = server.Client.Open(Grpc.Watch);
        await stream.Send(new Pb().Message(1, new Pb().Text(1, "k").Number(7, 1)));
        await stream.Send(new Pb().Message(1, new Pb().Text(1, "k").Number(3, 2).Number(7, 2)));
        for (int i = 0; i < 3; i++)
        {
            said.Add(string.Join(" | ", Schema.Lines("WatchResponse", await stream.Receive() ?? [])));
        }

        said.Sort(StringComparer.Ordinal); // which of the two comes first is nobody's promise
        await Ask("the compacted id is not cancelled", tries: 10);
        await stream.Send(new Pb().Message(2, new Pb().Number(1, 2)));
        said.Add(string.Join(" | ", Schema.Lines("WatchResponse", await stream.Receive() ?? [])));
        await Ask("it is cancelled", tries: 200);
        return said;

        // A request may be dropped while a watcher is behind; a watcher made behind it shows that it has been looked at.
        async Task Ask(string when, int tries)
        {
            for (int i = 0; i < tries; i++)
            {
                await stream.Send(new Pb().Message(3, new Pb()));
                await stream.Send(new Pb().Message(1, new Pb().Text(1, "mark").Number(7, 100)));
                bool answered = false;
                List<string> lines;
                do
                {
                    byte[]? message = await stream.Receive();
                    Assert.True(message is not null, $"{when}: nothing came; {stream.End}");
                    lines = Schema.Lines("WatchResponse", message);
                    answered |= Schema.Number(lines, "watch_id") == -1;
                }
                while (Schema.Number(lines, "watch_id") != 100);
                await stream.Send(new Pb().Message(2, new Pb().Number(1, 100)));
                do
                {
                    lines = Schema.Lines("WatchResponse", await stream.Receive() ?? []);
                    answered |= Schema.Number(lines, "watch_id") == -1;
                }
                while (Schema.Number(lines, "watch_id") != 100);
                if (answered)
                {
                    said.Add($"{when}: answered");
                    return;
                }
            }

            said.Add($"{when}: not answered");
        }
    }

    private static async Task<Dictionary<string, double>> Metrics(ServerProcess server)
    {
        PlainHttp.Reply reply = await PlainHttp.Send(server.ClientPort, "GET", "/metrics", [], []);
        return Encoding.UTF8.GetString(reply.Body).Split('\n')
            .Where(l => l.Length > 0 && l[0] != '#' && !l.Contains('{', StringComparison.Ordinal))
            .ToDictionary(l => l[..l.IndexOf(' ', StringComparison.Ordinal)], l => double.Parse(l[(l.IndexOf(' ', StringComparison.Ordinal) + 1)..], System.Globalization.CultureInfo.InvariantCulture));
    }

    private static async Task UntilMetric(ServerProcess server, string name, Func<double, bool> holds)
    {
        long limit = Environment.TickCount64 + 60_000;
        double value;
        while (!holds(value = (await Metrics(server))[name]))
        {
            Assert.True(Environment.TickCount64 < limit, $"{name} is {value} after 60 s");
            await Task.Delay(20);
        }
    }

    /// <summary>Resident anonymous memory, bytes.</summary>
    private static long Rss(ServerProcess server) => 1024 * long.Parse(
        File.ReadLines($"/proc/{server.Pid}/status").First(l => l.StartsWith("RssAnon:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1],
        System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>A stream whose answers nobody takes: the client's window of 64 KiB is all the server may send.</summary>
    private sealed class UnreadStream : IDisposable
    {
        private readonly PushContent _content;
        private readonly HttpResponseMessage _response;

        private UnreadStream(PushContent content, HttpResponseMessage response)
        {
            _content = content;
            _response = response;
        }

        public static HttpClient Client(string url) => new(new SocketsHttpHandler
        {
            UseProxy = false,
            InitialHttp2StreamWindowSize = 65_535,
        })
        {
            BaseAddress = new Uri(url),
            Timeout = System.Threading.Timeout.InfiniteTimeSpan,
        };

        public static async Task<UnreadStream> Open(HttpClient http, byte[] firstMessage)
        {
            PushContent content = new();
            HttpRequestMessage request = new(HttpMethod.Post, Grpc.Watch)
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = content,
            };
            request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
            Task<HttpResponseMessage> sending = http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            await Write(content, firstMessage);
            return new UnreadStream(content, await sending.WaitAsync(TimeSpan.FromSeconds(60)));
        }

        /// <summary>Sends the message again and again until it is no longer taken, or so often.</summary>
        public async Task<int> Flood(byte[] message, int times)
        {
            int sent = 0;
            try
            {
                while (sent < times)
                {
                    await Write(_content, message);
                    sent++;
                }
            }
            catch (Exception e) when (e is IOException or HttpRequestException or ObjectDisposedException or OperationCanceledException)
            {
                // The stream was given up.
            }

            return sent;
        }

        /// <summary>Reads until so many events have come; each a revision above the one before.</summary>
        public async Task<int> ReadEvents(int wanted)
        {
            await using Stream body = await _response.Content.ReadAsStreamAsync();
            byte[] head = new byte[5];
            long last = 0;
            int events = 0;
            using System.Threading.CancellationTokenSource limit = new(TimeSpan.FromSeconds(120));
            while (events < wanted)
            {
                await body.ReadExactlyAsync(head, limit.Token);
                byte[] message = new byte[System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1))];
                await body.ReadExactlyAsync(message, limit.Token);
                foreach (string line in Schema.Lines("WatchResponse", message).Where(l => l.StartsWith("events[", StringComparison.Ordinal) && l.Contains("].kv.mod_revision = ", StringComparison.Ordinal)))
                {
                    long revision = long.Parse(line[(line.LastIndexOf(' ') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
                    Assert.True(revision > last, $"revision {revision} came after {last}");
                    last = revision;
                    events++;
                }
            }

            return events;
        }

        public void Dispose()
        {
            _response.Dispose();
            _content.Done.TrySetResult();
            _content.Dispose();
        }

        private static async Task Write(PushContent content, byte[] message)
        {
            Stream stream = await content.Stream.Task.WaitAsync(TimeSpan.FromSeconds(60));
            byte[] frame = new byte[message.Length + 5];
            System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
            message.CopyTo(frame, 5);
            await stream.WriteAsync(frame);
            await stream.FlushAsync();
        }

        private sealed class PushContent : HttpContent
        {
            public PushContent() => Headers.ContentType = new MediaTypeHeaderValue("application/grpc");

            public TaskCompletionSource<Stream> Stream { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

            public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

            protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
            {
                await stream.FlushAsync();
                Stream.TrySetResult(stream);
                await Done.Task;
            }

            protected override bool TryComputeLength(out long length)
            {
                length = 0;
                return false;
            }
        }
    }
}
