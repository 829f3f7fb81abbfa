// FrontFixture: a front end on a free port with a few methods made for the tests; no member behind it.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Net.Host;
using Cairn.Net.Http;
using Cairn.Net.Rpc;
using Microsoft.Extensions.Logging.Abstractions;

namespace Cairn.Net.Tests;

internal sealed class FrontFixture : IAsyncDisposable
{
    private readonly BoundSockets _sockets = new();
    private readonly FrontEnd _front;
    private bool _isStopped;

    private FrontFixture(FrontEnd front, RpcServerState state, BoundSockets sockets, int port)
    {
        _front = front;
        _sockets = sockets;
        State = state;
        Port = port;
    }

    public int Port { get; }

    public RpcServerState State { get; }

    /// <summary>The engine that all tests of this process run with: CAIRN_TEST_ENGINE, or the default.</summary>
    public static Http2Engine Engine { get; } =
        Enum.TryParse(Environment.GetEnvironmentVariable("CAIRN_TEST_ENGINE"), ignoreCase: true, out Http2Engine engine)
            ? engine
            : new HostOptions { Member = new Cairn.Core.Server.MemberOptions { DataDir = "" } }.Engine;

    public const int MaxMessage = 100_000;

    public static Task<FrontFixture> StartAsync(params RpcMethod[] more) => StartAsync(Engine, null, more);

    public static async Task<FrontFixture> StartAsync(Http2Engine engine, FrontEndLimits? limits, params RpcMethod[] more)
    {
        var methods = new System.Collections.Generic.List<RpcMethod>(more)
        {
            new("t.Echo", "Echo", RpcKind.Unary, EchoAsync),
            new("t.Echo", "Steps", RpcKind.Unary, null, Steps),
            new("t.Echo", "Many", RpcKind.ServerStream, ManyAsync),
            new("t.Echo", "Throw", RpcKind.Unary, static _ => throw new InvalidOperationException("secret")),
            new("t.Echo", "Silent", RpcKind.Unary, static _ => ValueTask.CompletedTask),
            new("t.Echo", "Wait", RpcKind.Unary, WaitAsync),
            new("t.Echo", "Fail", RpcKind.Unary, static call =>
            {
                call.Fail(RpcCode.DataLoss, "50% — gone\n");
                return ValueTask.CompletedTask;
            }),
            new("t.Echo", "Pipe", RpcKind.BidiStream, PipeAsync),
            new("t.Echo", "Later", RpcKind.Unary, null),
        };
        var state = new RpcServerState
        {
            Table = new RpcTable(methods),
            Clock = SystemClock.Instance,
            Logger = NullLogger.Instance,
            MaxMessageSize = MaxMessage,
        };
        HttpHandler pages = static call =>
        {
            call.Reply(200, "text/plain", call.Method + " " + call.Path + " " + call.Query);
            return ValueTask.CompletedTask;
        };
        var sockets = new BoundSockets();
        _ = ListenUrl.TryParse("http://127.0.0.1:0", out ListenUrl url, out _);
        sockets.Bind(url);
        int port = sockets.PortOf(url);
        var front = new FrontEnd(
            limits ?? new FrontEndLimits(), state, pages, sockets, NullLoggerFactory.Instance, engine, NoFatal.Instance);
        front.Listen(url);
        await front.StartAsync(CancellationToken.None);
        return new FrontFixture(front, state, sockets, port);
    }

    /// <summary>Stops as a member does; connections that are left when cancelled are cut.</summary>
    public Task StopAsync(CancellationToken cancelled)
    {
        _isStopped = true;
        return _front.StopAsync(cancelled);
    }

    public async ValueTask DisposeAsync()
    {
        if (!_isStopped)
        {
            using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            await StopAsync(patience.Token);
        }

        await _front.DisposeAsync();
        _sockets.Dispose();
    }

    private static ValueTask EchoAsync(RpcCall call)
    {
        byte[] copy = call.Request.ToArray();
        call.ReleaseRequest();
        call.Write(copy);
        return ValueTask.CompletedTask;
    }

    private static RpcStep Steps(RpcCall call)
    {
        byte[] copy = call.Request.ToArray();
        call.ReleaseRequest();
        return new RpcStep(LaterAsync(), static (c, state, outcome) =>
        {
            c.Write((byte[])state);
            _ = outcome;
            return RpcStep.Done;
        }, copy);

        static async ValueTask<ErrorCode> LaterAsync()
        {
            await Task.Yield();
            return ErrorCode.None;
        }
    }

    private static async ValueTask ManyAsync(RpcCall call)
    {
        int count = call.Request[0];
        for (int i = 0; i < count; i++)
        {
            call.Write(new byte[] { (byte)i });
            if (!await call.FlushAsync())
            {
                return;
            }
        }
    }

    private static async ValueTask WaitAsync(RpcCall call)
    {
        await Task.Delay(Timeout.Infinite, call.Cancelled);
    }

    private static async ValueTask PipeAsync(RpcCall call)
    {
        while (await call.ReadAsync())
        {
            byte[] copy = call.Request.ToArray();
            call.Write(copy);
            await call.FlushAsync();
        }
    }
}
