// No garbage in our own code: puts, ranges and txns through the services and the whole member, counted over all
// threads of the process. Alone in its collection, because the count is the process's.
using System;
using System.Threading;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;
using Cairn.Net.Services;
using Xunit;
using static Cairn.Net.Tests.ProtoBytes;

namespace Cairn.Net.Tests;

[CollectionDefinition("alone", DisableParallelization = true)]
public sealed class AloneCollection;

[Collection("alone")]
public sealed class AllocationTests
{
    private const int Warmup = 3_000;
    private const int Measured = 10_000;

    // Background work (commits, the pool growing a thread) may take something; the smallest object is 24 bytes.
    private const long Slack = 8 * Measured;

    [Fact]
    public async Task KvCalls_InSteadyState_AllocateNothing()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(o => o with { UnsafeNoSync = true, SnapshotCount = 1_000_000 });
        var port = new MemberPort(member.Host.Member, SystemClock.Instance);
        var kv = new KvService(port);
        byte[] put = Message(Text(1, "some/key"), Bytes(2, new byte[256]));
        byte[] range = Text(1, "some/key");
        byte[] compare = Message(Number(1, 3), Number(2, 3), Text(3, "some/key"), Text(7, "x"));
        byte[] txn = Message(Bytes(1, compare), Bytes(2, Bytes(2, put)), Bytes(3, Bytes(1, range)));
        Measure("put", kv.Put, put, SystemClock.Instance);
        Measure("range", kv.Range, range, SystemClock.Instance);
        Measure("txn", kv.Txn, txn, SystemClock.Instance);
    }

    [Fact]
    public async Task Calls_ThroughTheSockets_CostNoMoreGarbageThanANullHandler()
    {
        var pause = new Pause();
        byte[] answer = new byte[280];
        await using FrontFixture nothing = await FrontFixture.StartAsync(
            new RpcMethod("null.Null", "AtOnce", RpcKind.Unary, null, call =>
            {
                call.ReleaseRequest();
                call.Write(answer);
                return RpcStep.Done;
            }),
            new RpcMethod("null.Null", "Later", RpcKind.Unary, null, call =>
            {
                call.ReleaseRequest();
                return new RpcStep(pause.Start(), (c, _, _) =>
                {
                    c.Write(answer);
                    return RpcStep.Done;
                }, pause);
            }));
        await using MemberFixture member = await MemberFixture.StartAsync(
            o => o with { UnsafeNoSync = true, SnapshotCount = 1_000_000 });
        byte[] put = Message(Text(1, "some/key"), Bytes(2, new byte[256]));
        double atOnce = BytesPerCall(nothing.Port, "/null.Null/AtOnce", put);
        double later = BytesPerCall(nothing.Port, "/null.Null/Later", put);
        double puts = BytesPerCall(member.Port, "/etcdserverpb.KV/Put", put);
        double ranges = BytesPerCall(member.Port, "/etcdserverpb.KV/Range", Text(1, "some/key"));
        string all = $"null at once {atOnce:F0}, null later {later:F0}, range {ranges:F0}, put {puts:F0}";
        Assert.True(ranges <= atOnce + 8, all);
        Assert.True(puts <= later + 8, all);
    }

    private static double BytesPerCall(int port, string path, byte[] message)
    {
        using var loop = new H2Loop(port, path, message);
        for (int i = 0; i < Warmup; i++)
        {
            loop.Call();
        }

        // The least of several: whether the body has arrived when the handler first looks is a race that costs the
        // framework an object, and no call can be spared it.
        double least = double.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < 2_000; i++)
            {
                loop.Call();
            }

            least = Math.Min(least, (GC.GetTotalAllocatedBytes(precise: true) - before) / 2_000.0);
        }

        return least;
    }

    private static void Measure(string name, RpcStepHandler handler, byte[] request, SystemClock clock)
    {
        var call = new FakeCall(clock);
        for (int i = 0; i < Warmup; i++)
        {
            call.Run(handler, request);
        }

        // The least of several: what happens once a second is not the calls', and on a loaded machine a round may take many.
        long allocated = long.MaxValue;
        for (int round = 0; round < 5; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < Measured; i++)
            {
                call.Run(handler, request);
            }

            allocated = Math.Min(allocated, GC.GetTotalAllocatedBytes(precise: true) - before);
            if (allocated < Slack)
            {
                break;
            }
        }

        Assert.True(allocated < Slack, $"{name}: {allocated} bytes in {Measured} calls, {(double)allocated / Measured:F1} a call");
    }

    /// <summary>
    /// A wait that ends on a pool thread and allocates nothing; one at a time. It goes round the pool often enough
    /// that the call has always gone to sleep meanwhile, as it does behind a log sync.
    /// </summary>
    private sealed class Pause : IValueTaskSource<ErrorCode>, IThreadPoolWorkItem
    {
        private const int Rounds = 50;
        private ManualResetValueTaskSourceCore<ErrorCode> _source;
        private int _left;

        public ValueTask<ErrorCode> Start()
        {
            _source.Reset();
            _left = Rounds;
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
            return new ValueTask<ErrorCode>(this, _source.Version);
        }

        public void Execute()
        {
            if (--_left > 0)
            {
                ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
                return;
            }

            _source.SetResult(ErrorCode.None);
        }

        public ErrorCode GetResult(short token) => _source.GetResult(token);

        public ValueTaskSourceStatus GetStatus(short token) => _source.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
            => _source.OnCompleted(continuation, state, token, flags);
    }

    private sealed class FakeCall(SystemClock clock) : RpcCall
    {
        private readonly byte[] _answer = new byte[4096];
        private byte[] _request = [];

        public override ReadOnlySpan<byte> Request => _request;

        public override string? Token => null;

        public override bool RequiresLeader => false;

        public override string? ClientApiVersion => null;

        public override CancellationToken Cancelled => default;

        public void Run(RpcStepHandler handler, byte[] request)
        {
            ResetStatus();
            _request = request;
            ReceivedNs = clock.NowNs;
            DeadlineNs = long.MaxValue;
            RpcStep step = handler(this);
            while (step.Resume is not null)
            {
                while (!step.Wait.IsCompleted)
                {
                    Thread.Yield();
                }

                step = step.Resume(this, step.State!, step.Wait.Result);
            }

            if (Status != RpcCode.Ok)
            {
                throw new InvalidOperationException(StatusMessage);
            }
        }

        public override void ReleaseRequest()
        {
        }

        public override ValueTask<bool> ReadAsync() => new(false);

        public override void BeginMessage(int length) => MessagesSent++;

        public override void Append(ReadOnlySpan<byte> part) => part.CopyTo(_answer);

        public override ValueTask<bool> FlushAsync() => new(true);

        public override bool IsOver => false;

        public override ValueTask WaitAsync() => ValueTask.CompletedTask;

        public override void Notify()
        {
        }

        public override void End(RpcCode code, string message) => Fail(code, message);
    }
}
