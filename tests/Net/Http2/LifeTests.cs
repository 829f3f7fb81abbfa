// The life of a connection on our own engine: stop, pings both ways, patience, the number of connections, and who runs where.
using System;
using System.Collections.Generic;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Protocol;
using Cairn.Net.Host;
using Cairn.Net.Rpc;
using Xunit;
using static Cairn.Net.Tests.H2Peer;

namespace Cairn.Net.Tests;

public sealed class LifeTests
{
    private const string Echo = "/t.Echo/Echo", Wait = "/t.Echo/Wait", Hold = "/t.Life/Hold";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);
    private static readonly byte[] s_ping = "anybody?"u8.ToArray();

    [Fact]
    public async Task Stop_WithCallsUnderWay_WarnsThenServesWhatWasSentThenEnds()
    {
        var hold = new TaskCompletionSource<ErrorCode>(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FrontFixture front = await StartAsync(null, Holding(hold.Task));
        using H2Peer peer = await OpenAsync(front.Port);
        await peer.SendAsync(Begin(1, Hold), Message(1, 1), Begin(3, Echo), Message(3, 3));
        _ = await peer.UntilAsync(f => f.Stream == 3 && f.Ends);

        using var patience = new CancellationTokenSource(Limit);
        Task stopped = front.StopAsync(patience.Token);
        H2Frame warning = await peer.UntilAsync(f => f.Type == H2.GoAway);
        Assert.Equal((int.MaxValue, 0), (warning.Last, warning.Code));
        H2Frame ping = await peer.UntilAsync(f => f.Type == H2.Ping);

        // Sent before the warning was read, so to speak.
        await peer.SendAsync(Begin(5, Echo), Message(5, 5), Frame(H2.Ping, H2Frame.Ack, 0, ping.Payload));
        H2Frame? answer = null;
        H2Frame last = await peer.UntilAsync(f =>
        {
            answer = f.Type == H2.Data && f.Stream == 5 ? f : answer;
            return f.Type == H2.GoAway;
        });
        Assert.Equal((5, 0), (last.Last, last.Code));

        // Too late; and the stream under way ends as if nothing were.
        await peer.SendAsync(Begin(7, Echo), Message(7, 7));
        H2Frame? refused = null;
        while (answer is null || refused is null)
        {
            H2Frame frame = await peer.UntilAsync(f => f.Type is H2.Data or H2.Reset);
            answer = frame.Type == H2.Data ? frame : answer;
            refused = frame.Type == H2.Reset ? frame : refused;
        }

        Assert.Equal((5, 5), (answer.Stream, answer.Payload[5]));
        Assert.Equal((7, 7), (refused.Stream, refused.Code));
        Assert.False(stopped.IsCompleted);
        hold.SetResult(ErrorCode.None);
        List<H2Frame> rest = await peer.ToEndAsync();
        Assert.Contains(rest, f => f.Stream == 1 && f.Type == H2.Data && f.Payload[5] == 1);
        Assert.Contains(rest, f => f.Stream == 1 && f.Ends);
        peer.Dispose();
        await stopped.WaitAsync(Limit);
    }

    [Fact]
    public async Task Stop_WithAClientThatAnswersNoPing_EndsAllTheSame()
    {
        await using FrontFixture front = await StartAsync(null);
        using H2Peer peer = await OpenAsync(front.Port);
        await peer.SendAsync(Begin(1, Echo), Message(1, 1));
        _ = await peer.UntilAsync(f => f.Ends);
        using H2Peer silent = await ConnectAsync(front.Port);
        using var patience = new CancellationTokenSource(Limit);
        Task stopped = front.StopAsync(patience.Token);
        List<H2Frame> rest = await peer.ToEndAsync();
        List<H2Frame> farewells = rest.FindAll(f => f.Type == H2.GoAway);
        Assert.Equal([int.MaxValue, 1], farewells.ConvertAll(f => f.Last));
        Assert.Empty(await silent.ToEndAsync());
        peer.Dispose();
        await stopped.WaitAsync(Limit);
    }

    [Fact]
    public async Task GoAway_OfTheClient_LetsItsStreamsEndAndThenTheConnection()
    {
        var hold = new TaskCompletionSource<ErrorCode>(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FrontFixture front = await StartAsync(null, Holding(hold.Task));
        using H2Peer peer = await OpenAsync(front.Port);
        await peer.SendAsync(Begin(1, Hold), Message(1, 9), Frame(H2.GoAway, 0, 0, new byte[8]), Frame(H2.Ping, 0, 0, s_ping));
        _ = await peer.UntilAsync(f => f.Type == H2.Ping);
        hold.SetResult(ErrorCode.None);
        Assert.Contains(await peer.ToEndAsync(), f => f.Stream == 1 && f.Ends);
    }

    [Fact]
    public async Task KeepAlive_WhileTheClientAnswers_KeepsTheConnection_ThenCutsIt()
    {
        var limits = new FrontEndLimits { KeepAliveInterval = TimeSpan.FromMilliseconds(1), KeepAliveTimeout = TimeSpan.FromSeconds(6) };
        await using FrontFixture front = await StartAsync(limits);
        using H2Peer peer = await OpenAsync(front.Port);
        for (int i = 0; i < 2; i++)
        {
            H2Frame ping = await peer.UntilAsync(f => f.Type == H2.Ping && (f.Flags & H2Frame.Ack) == 0);
            await peer.SendAsync(Frame(H2.Ping, H2Frame.Ack, 0, ping.Payload));
        }

        await peer.SendAsync(Begin(1, Echo), Message(1, 1));
        Assert.Equal(1, (await peer.UntilAsync(f => f.Type == H2.Data)).Payload[5]);

        // Silence: one more ping, and then the end.
        Assert.Contains(await peer.ToEndAsync(), f => f.Type == H2.Ping);
    }

    [Fact]
    public async Task Pings_WithACallUnderWay_AreAnsweredAsOftenAsAgreed()
    {
        var limits = new FrontEndLimits { KeepAliveMinTime = TimeSpan.FromTicks(1) };
        await using FrontFixture front = await StartAsync(limits);
        using H2Peer peer = await OpenAsync(front.Port);
        await peer.SendAsync(Begin(1, Wait), Message(1, 1));
        for (int i = 0; i < 50; i++)
        {
            await peer.SendAsync(Frame(H2.Ping, 0, 0, s_ping));
            Assert.Equal(H2.Ping, (await peer.UntilAsync(f => f.Type is H2.Ping or H2.GoAway)).Type);
        }
    }

    [Theory]
    [InlineData(true)] // a call under way: the option
    [InlineData(false)] // none: two hours, whatever the option says
    public async Task Pings_SoonerThanAgreed_EndTheConnectionAtTheFourth(bool calling)
    {
        var limits = new FrontEndLimits { KeepAliveMinTime = calling ? TimeSpan.FromHours(1) : TimeSpan.FromTicks(1) };
        await using FrontFixture front = await StartAsync(limits);
        using H2Peer peer = await OpenAsync(front.Port);
        if (calling)
        {
            await peer.SendAsync(Begin(1, Wait), Message(1, 1));
        }

        int answered = 0;
        H2Frame frame;
        do
        {
            await peer.SendAsync(Frame(H2.Ping, 0, 0, s_ping));
            frame = await peer.UntilAsync(f => f.Type is H2.Ping or H2.GoAway);
            answered += frame.Type == H2.Ping ? 1 : 0;
        }
        while (frame.Type == H2.Ping);

        // The first is never too soon; two strikes are forgiven (grpc-go).
        Assert.Equal(3, answered);
        Assert.Equal(11, frame.Code);
        Assert.Equal("too_many_pings", Encoding.ASCII.GetString(frame.Payload.AsSpan(8)));
        Assert.Empty(await peer.ToEndAsync());
    }

    [Theory]
    [InlineData("")] // silence
    [InlineData("PR")] // not even known yet what it speaks
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n")] // half the preface
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")] // no settings
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0\0\0\u0001\u0001\0\0\0\0\u0001\u0082")] // headers without end
    public async Task Client_ThatStopsInTheMiddle_IsCutWhenItsTimeIsUp(string said)
    {
        var limits = new FrontEndLimits { HeaderPatience = TimeSpan.FromSeconds(1), HandshakePatience = TimeSpan.FromSeconds(1) };
        await using FrontFixture front = await StartAsync(limits);
        using H2Peer peer = await ConnectAsync(front.Port);
        await peer.SendAsync(Encoding.Latin1.GetBytes(said));
        _ = await peer.ToEndAsync();
        using var client = new GrpcClient(front.Port);
        Assert.Equal(0, (await client.CallAsync(Echo, [1])).Code);
    }

    [Fact]
    public async Task Connections_BeyondTheLimit_WaitUntilOthersEnd()
    {
        await using FrontFixture front = await StartAsync(new FrontEndLimits { MaxConnections = 3 });
        using H2Peer first = await OpenAsync(front.Port);
        using H2Peer second = await OpenAsync(front.Port);
        using H2Peer page = await ConnectAsync(front.Port);
        _ = await first.UntilAsync(f => f.Type == H2.Settings);
        _ = await second.UntilAsync(f => f.Type == H2.Settings);
        await page.SendAsync("GET /x HTTP/1.1\r\nHost: x\r\n\r\n"u8.ToArray());
        Assert.StartsWith("HTTP/1.1 200", await page.TextAsync(), StringComparison.Ordinal);

        var waiting = new List<(H2Peer Peer, Task<H2Frame> Settings)>();
        for (int i = 0; i < 3; i++)
        {
            H2Peer peer = await OpenAsync(front.Port);
            waiting.Add((peer, peer.UntilAsync(f => f.Type == H2.Settings)));
        }

        // Those inside are served; each that goes lets one in, whatever it spoke.
        await first.SendAsync(Begin(1, Echo), Message(1, 1));
        _ = await first.UntilAsync(f => f.Ends);
        Assert.DoesNotContain(waiting, w => w.Settings.IsCompleted);
        page.Dispose();
        _ = await waiting[0].Settings.WaitAsync(Limit);
        Assert.False(waiting[1].Settings.IsCompleted);
        second.Dispose();
        _ = await waiting[1].Settings.WaitAsync(Limit);
        Assert.False(waiting[2].Settings.IsCompleted);
        first.Dispose();
        _ = await waiting[2].Settings.WaitAsync(Limit);
        waiting.ForEach(w => w.Peer.Dispose());
    }

    [Fact]
    public async Task Handlers_OfStepsRunOnTheLoop_AllOthersOnThePool()
    {
        RpcStep Steps(RpcCall call)
        {
            call.ReleaseRequest();
            call.Write(Encoding.ASCII.GetBytes(Thread.CurrentThread.Name ?? ""));
            return RpcStep.Done;
        }

        using var gate = new ManualResetEventSlim();
        await using FrontFixture front = await StartAsync(
            null,
            new RpcMethod("t.Life", "Steps", RpcKind.Unary, null, Steps),
            new RpcMethod("t.Life", "Block", RpcKind.Unary, call =>
            {
                gate.Wait();
                call.Write([1]);
                return ValueTask.CompletedTask;
            }));
        using var client = new GrpcClient(front.Port);

        // A handler that blocks its thread holds nobody up.
        Task<GrpcAnswer> blocked = client.CallAsync("/t.Life/Block", []);
        Assert.Equal("cairn:io", Text(await client.CallAsync("/t.Life/Steps", [1])));
        Assert.False(blocked.IsCompleted);

        // Large requests and packed ones are long work before the handler sees them.
        Assert.NotEqual("cairn:io", Text(await client.CallAsync("/t.Life/Steps", new byte[80_000])));
        byte[] packed;
        using (var memory = new System.IO.MemoryStream())
        {
            using (var zip = new System.IO.Compression.GZipStream(memory, System.IO.Compression.CompressionLevel.Fastest))
            {
                zip.Write([1, 2, 3]);
            }

            packed = memory.ToArray();
        }

        Assert.NotEqual("cairn:io", Text(await client.SendAsync("/t.Life/Steps", GrpcClient.Frame(packed, 1), ("grpc-encoding", "gzip"))));
        gate.Set();
        Assert.Equal([1], (await blocked).Single);
    }

    // A client that goes while its call waits must not take the request away under the handler.
    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    public async Task Request_OfAClientThatHasGone_IsIntactUntilTheHandlerLetsGo(int pieces)
    {
        var hold = new TaskCompletionSource<ErrorCode>(TaskCreationOptions.RunContinuationsAsynchronously);
        var seen = new TaskCompletionSource<byte[]>(TaskCreationOptions.RunContinuationsAsynchronously);
        var begun = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FrontFixture front = await StartAsync(null, new RpcMethod("t.Life", "Hold", RpcKind.Unary, null, call =>
        {
            begun.TrySetResult();
            return new RpcStep(new ValueTask<ErrorCode>(hold.Task), (c, _, _) =>
            {
                seen.TrySetResult(c.Request.ToArray());
                c.Write([1]);
                return RpcStep.Done;
            }, seen);
        }));
        using H2Peer peer = await OpenAsync(front.Port);
        byte[] message = new byte[5000];
        new Random(3).NextBytes(message);
        byte[] framed = GrpcClient.Frame(message);
        await peer.SendAsync(WindowUpdate(0, 1 << 24), Begin(1, Hold));
        for (int i = 0; i < pieces; i++)
        {
            await peer.SendAsync(Frame(H2.Data, 0, 1, framed[(framed.Length * i / pieces)..(framed.Length * (i + 1) / pieces)]));
        }

        await begun.Task.WaitAsync(Limit);
        await peer.SendAsync(Frame(H2.Reset, 0, 1, 0, 0, 0, 8));

        // Memory that was let go would be somebody else's by now.
        for (int i = 0; i < 50; i++)
        {
            byte[] other = new byte[5000];
            Array.Fill(other, (byte)0xee);
            byte[] otherFrame = GrpcClient.Frame(other);
            await peer.SendAsync(Begin(3 + (2 * i), Echo), Frame(H2.Data, 0, 3 + (2 * i), otherFrame[..2500]), Frame(H2.Data, 1, 3 + (2 * i), otherFrame[2500..]));
            _ = await peer.UntilAsync(f => f.Ends);
        }

        hold.SetResult(ErrorCode.None);
        Assert.Equal(message, await seen.Task.WaitAsync(Limit));
    }

    [Fact]
    public async Task Messages_OfAStream_AreCountedAsTheyAreSent()
    {
        await using FrontFixture front = await StartAsync(null);
        using var client = new GrpcClient(front.Port);
        Assert.Equal(7, (await client.CallAsync("/t.Echo/Many", [7])).Messages.Count);
        RpcMethod many = front.State.Table.Find("/t.Echo/Many", out _)!;
        Assert.Equal((1, 1, 7), (many.Started, many.MessagesReceived, many.MessagesSent));
        using H2Peer peer = await OpenAsync(front.Port);
        await peer.SendAsync(Begin(1, "/t.Echo/Pipe"), Frame(H2.Data, 0, 1, GrpcClient.Frame([4])));
        _ = await peer.UntilAsync(f => f.Type == H2.Data);
        RpcMethod pipe = front.State.Table.Find("/t.Echo/Pipe", out _)!;
        Assert.Equal((1, 1, 1), (pipe.Started, pipe.MessagesReceived, pipe.MessagesSent)); // the stream is still open
    }

    private static RpcMethod Holding(Task<ErrorCode> hold) => new("t.Life", "Hold", RpcKind.Unary, null, call =>
    {
        byte[] copy = call.Request.ToArray();
        call.ReleaseRequest();
        return new RpcStep(new ValueTask<ErrorCode>(hold), static (c, state, _) =>
        {
            c.Write((byte[])state);
            return RpcStep.Done;
        }, copy);
    });

    private static string Text(GrpcAnswer answer) => Encoding.ASCII.GetString(answer.Single);

    private static Task<FrontFixture> StartAsync(FrontEndLimits? limits, params RpcMethod[] more)
        => FrontFixture.StartAsync(Http2Engine.Cairn, limits, more);
}
