// Streams in both directions: two loops on one call, and every way such a call can end.
using System;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Rpc;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class BidiStreamTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task Handler_WritesWhileItReads()
    {
        var server = new TwoLoops();
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        using var client = new BidiClient(front.Port, server.Method.Path);
        await client.SendAsync([1]);
        Assert.Equal([1], await client.ReceiveAsync());
        server.Say(9);
        Assert.Equal([9], await client.ReceiveAsync());
        await client.SendAsync([2]);
        Assert.Equal([2], await client.ReceiveAsync());
        Assert.Equal(1, front.State.Streams.Count);
    }

    [Fact]
    public async Task HalfClose_LeavesTheWriterRunning()
    {
        var server = new TwoLoops();
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        using var client = new BidiClient(front.Port, server.Method.Path);
        await client.SendAsync([1]);
        Assert.Equal([1], await client.ReceiveAsync());
        client.HalfClose();
        await server.ReadingEnded.Task.WaitAsync(Patience);
        server.Say(5);
        Assert.Equal([5], await client.ReceiveAsync());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task End_FromOutside_GivesItsStatus(bool halfClosed)
    {
        var server = new TwoLoops();
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        using var client = new BidiClient(front.Port, server.Method.Path, ("hasleader", "true"));
        using var other = new BidiClient(front.Port, server.Method.Path);
        await client.SendAsync([1]);
        await other.SendAsync([1]);
        Assert.Equal([1], await client.ReceiveAsync());
        Assert.Equal([1], await other.ReceiveAsync());
        if (halfClosed)
        {
            client.HalfClose();
        }

        front.State.Streams.EndLeaderless(RpcCode.Unavailable, "etcdserver: no leader");
        Assert.Null(await client.ReceiveAsync());
        Assert.Equal((14, "etcdserver: no leader"), client.Status());
        await other.SendAsync([7]);
        Assert.Equal([7], await other.ReceiveAsync());

        front.State.Streams.Close(RpcCode.Unavailable, "etcdserver: server stopped");
        Assert.Null(await other.ReceiveAsync());
        Assert.Equal((14, "etcdserver: server stopped"), other.Status());
        using var late = new BidiClient(front.Port, server.Method.Path);
        try
        {
            await late.SendAsync([1]);
        }
        catch (OperationCanceledException)
        {
            // The answer was there before the message had been sent.
        }

        Assert.Null(await late.ReceiveAsync());
        Assert.Equal((14, "etcdserver: server stopped"), late.Status());
        Assert.Equal(0, front.State.Streams.Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Client_Gone_EndsBothLoops(bool halfClosed)
    {
        var server = new TwoLoops();
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        var client = new BidiClient(front.Port, server.Method.Path);
        await client.SendAsync([1]);
        Assert.Equal([1], await client.ReceiveAsync());
        if (halfClosed)
        {
            client.HalfClose();
            await server.ReadingEnded.Task.WaitAsync(Patience);
        }

        client.Dispose();
        await server.Ended.Task.WaitAsync(Patience);
        await Until(() => server.Method.Handled(RpcCode.Canceled) == 1);
        Assert.Equal(0, front.State.Streams.Count);
    }

    [Fact]
    public async Task Deadline_EndsTheStream()
    {
        var server = new TwoLoops();
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        using var client = new BidiClient(front.Port, server.Method.Path, ("grpc-timeout", "300m"));
        Assert.Null(await client.ReceiveAsync());
        Assert.Equal((4, "context deadline exceeded"), client.Status());
    }

    [Fact]
    public async Task Client_ThatDoesNotRead_StopsTheWriterAndCanBeEnded()
    {
        var server = new TwoLoops { Flood = true };
        await using FrontFixture front = await FrontFixture.StartAsync(server.Method);
        using var client = new BidiClient(front.Port, server.Method.Path);
        await client.SendAsync([1]);
        await client.HeadersAsync();
        long before = -1;
        await Until(() =>
        {
            long now = server.Written;
            bool still = now == before && now > 0;
            before = now;
            return still;
        });
        Assert.InRange(server.Written, 1, 64L << 20);
        front.State.Streams.Close(RpcCode.Unavailable, "etcdserver: server stopped");
        await server.Ended.Task.WaitAsync(Patience);
    }

    private static async Task Until(Func<bool> condition)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (!condition())
        {
            await Task.Delay(200, patience.Token);
        }
    }

    /// <summary>Echoes what it reads and says what the test wants.</summary>
    private sealed class TwoLoops
    {
        private readonly System.Collections.Concurrent.ConcurrentQueue<byte[]> _queue = new();
        private RpcCall? _call;
        private long _written;

        public TwoLoops() => Method = new RpcMethod("t.Bidi", "Talk", RpcKind.BidiStream, RunAsync);

        public RpcMethod Method { get; }

        public bool Flood { get; init; }

        public long Written => Interlocked.Read(ref _written);

        public TaskCompletionSource ReadingEnded { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Say(byte what)
        {
            _queue.Enqueue([what]);
            _call!.Notify();
        }

        private async ValueTask RunAsync(RpcCall call)
        {
            _call = call;
            var queue = new System.Collections.Concurrent.ConcurrentQueue<byte[]>();
            Task reading = ReadLoopAsync(call, queue);
            byte[] flood = new byte[8192];
            while (!call.IsOver)
            {
                bool any = false;
                while (queue.TryDequeue(out byte[]? message) || _queue.TryDequeue(out message))
                {
                    call.Write(message);
                    any = true;
                }

                if (Flood)
                {
                    call.Write(flood);
                    Interlocked.Add(ref _written, flood.Length);
                    any = true;
                }

                if (any)
                {
                    await call.FlushAsync();
                }
                else
                {
                    await call.WaitAsync();
                }
            }

            await reading;
            Ended.TrySetResult();
        }

        private async Task ReadLoopAsync(RpcCall call, System.Collections.Concurrent.ConcurrentQueue<byte[]> queue)
        {
            while (await call.ReadAsync())
            {
                queue.Enqueue(call.Request.ToArray());
                call.ReleaseRequest();
                call.Notify();
            }

            ReadingEnded.TrySetResult();
        }
    }
}

/// <summary>A gRPC client of one stream in both directions.</summary>
internal sealed class BidiClient : IDisposable
{
    private readonly HttpClient _http = new(new SocketsHttpHandler { UseCookies = false });
    private readonly CancellationTokenSource _cut = new();
    private readonly PushContent _content = new();
    private readonly Task<HttpResponseMessage> _sending;
    private HttpResponseMessage? _response;
    private Stream? _answers;

    public BidiClient(int port, string path, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, new Uri($"http://127.0.0.1:{port}{path}"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = _content,
        };
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        _sending = _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, _cut.Token);
    }

    public async Task SendAsync(byte[] message)
    {
        Stream stream = await _content.Stream.Task.WaitAsync(TimeSpan.FromSeconds(60));
        await stream.WriteAsync(GrpcClient.Frame(message));
        await stream.FlushAsync();
    }

    public void HalfClose() => _content.Done.TrySetResult();

    public async Task HeadersAsync()
    {
        _response ??= await _sending.WaitAsync(TimeSpan.FromSeconds(60));
        _answers ??= await _response.Content.ReadAsStreamAsync();
    }

    /// <summary>The next message, null at the end of the stream.</summary>
    public async Task<byte[]?> ReceiveAsync()
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        await HeadersAsync();
        byte[] head = new byte[5];
        int got = await _answers!.ReadAtLeastAsync(head, 5, throwOnEndOfStream: false, patience.Token);
        if (got == 0)
        {
            return null;
        }

        byte[] message = new byte[System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1))];
        await _answers.ReadExactlyAsync(message, patience.Token);
        return message;
    }

    /// <summary>Code and text; after the end of the stream.</summary>
    public (int Code, string Message) Status()
    {
        string code = Find("grpc-status") ?? throw new InvalidDataException("no status");
        return (int.Parse(code, System.Globalization.CultureInfo.InvariantCulture), Uri.UnescapeDataString(Find("grpc-message") ?? ""));
    }

    public void Dispose()
    {
        _cut.Cancel();
        _content.Done.TrySetResult();
        _response?.Dispose();
        _http.Dispose();
        _cut.Dispose();
    }

    private string? Find(string name)
    {
        foreach (System.Net.Http.Headers.HttpHeaders headers in new System.Net.Http.Headers.HttpHeaders[] { _response!.TrailingHeaders, _response.Headers })
        {
            if (headers.TryGetValues(name, out System.Collections.Generic.IEnumerable<string>? values))
            {
                foreach (string value in values)
                {
                    return value;
                }
            }
        }

        return null;
    }

    private sealed class PushContent : HttpContent
    {
        public PushContent() => Headers.TryAddWithoutValidation("content-type", "application/grpc");

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
