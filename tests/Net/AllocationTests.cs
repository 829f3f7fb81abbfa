// No garbage in our own code: puts, ranges and txns through the services and the whole member, counted over all
// threads of the process. Alone in its collection, because the count is the process's.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
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

    private static void Measure(string name, RpcStepHandler handler, byte[] request, SystemClock clock)
    {
        var call = new FakeCall(clock);
        for (int i = 0; i < Warmup; i++)
        {
            call.Run(handler, request);
        }

        long before = GC.GetTotalAllocatedBytes(precise: true);
        for (int i = 0; i < Measured; i++)
        {
            call.Run(handler, request);
        }

        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
        Assert.True(allocated < Slack, $"{name}: {allocated} bytes in {Measured} calls, {(double)allocated / Measured:F1} a call");
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
    }
}
