// Flow control of our own engine against a model: random windows, frame sizes and their changes under way. The server may never
// send what the client has not allowed, and once the client allows everything, every byte must arrive.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Net.Host;
using Cairn.Net.Rpc;
using CsCheck;
using Xunit;
using static Cairn.Net.Tests.H2Peer;

namespace Cairn.Net.Tests;

public sealed class FlowTests : IAsyncLifetime
{
    private const int Runs = 60;
    private FrontFixture _front = null!;

    private enum Move
    {
        Call,
        StreamStep,
        ConnectionStep,
        InitialWindow,
        FrameSize,
        Reset,
        Wait,
    }

    public async Task InitializeAsync() => _front = await FrontFixture.StartAsync(
        Http2Engine.Cairn, null, new RpcMethod("t.Flow", "Bytes", RpcKind.Unary, BytesAsync));

    public async Task DisposeAsync() => await _front.DisposeAsync();

    [Fact]
    public void Windows_ChangedAtRandom_AreNeverOverstepped_AndEverythingArrives()
    {
        Gen<(Move, int, int)> move = Gen.Select(
            Gen.Frequency((4, Gen.Const(Move.Call)), (4, Gen.Const(Move.StreamStep)), (4, Gen.Const(Move.ConnectionStep)),
                (3, Gen.Const(Move.InitialWindow)), (1, Gen.Const(Move.FrameSize)), (1, Gen.Const(Move.Reset)), (2, Gen.Const(Move.Wait))),
            Gen.Int[0, 7], Gen.OneOf(Gen.Int[0, 200], Gen.Int[0, 70_000], Gen.Int[0, 400_000]));
        move.Array[1, 30].Sample(moves => PlayAsync(moves).GetAwaiter().GetResult(), iter: Runs, threads: 1);
    }

    // A message of as many bytes as the request says, in parts.
    private static async ValueTask BytesAsync(RpcCall call)
    {
        int count = BinaryPrimitives.ReadInt32LittleEndian(call.Request);
        call.ReleaseRequest();
        call.BeginMessage(count);
        for (int at = 0; at < count; at += 100_000)
        {
            byte[] part = new byte[Math.Min(100_000, count - at)];
            for (int i = 0; i < part.Length; i++)
            {
                part[i] = (byte)((at + i) * 31);
            }

            call.Append(part);
            if (!await call.FlushAsync())
            {
                return;
            }
        }

        if (count == 0)
        {
            call.Append([]);
        }
    }

    private async Task PlayAsync((Move Kind, int Which, int Size)[] moves)
    {
        using H2Peer peer = await OpenAsync(_front.Port);
        var client = new Client(peer);
        foreach ((Move kind, int which, int size) in moves)
        {
            await client.DoAsync(kind, which, size);
        }

        await client.FinishAsync();
    }

    /// <summary>What the client has allowed and received.</summary>
    private sealed class Client(H2Peer peer)
    {
        private readonly List<Call> _calls = [];

        // Settings under way: what they take from the calls there were, and the largest frame from then on.
        private readonly Queue<(long Less, int Calls, int Frame)> _unacknowledged = new([(0, 0, 16384)]);
        private long _window = 65535;
        private int _initial = 65535; // as sent
        private int _frame = 16384; // as sent
        private int _frameMax = 16384; // as it may be

        public async Task DoAsync(Move kind, int which, int size)
        {
            Call? call = _calls.Count == 0 ? null : _calls[which % _calls.Count];
            switch (kind)
            {
                case Move.Call:
                    // The server knows all earlier settings when it reads this.
                    int stream = (2 * _calls.Count) + 1;
                    _calls.Add(new Call(stream, size, _initial));
                    byte[] length = new byte[4];
                    BinaryPrimitives.WriteInt32LittleEndian(length, size);
                    await peer.SendAsync(Begin(stream, "/t.Flow/Bytes"), Message(stream, length));
                    break;
                case Move.StreamStep when call is not null && size > 0:
                    call.Window += size;
                    await peer.SendAsync(WindowUpdate(call.Stream, (uint)size));
                    break;
                case Move.ConnectionStep when size > 0:
                    _window += size;
                    await peer.SendAsync(WindowUpdate(0, (uint)size));
                    break;
                case Move.InitialWindow:
                    await SettingsAsync(size, _frame);
                    break;
                case Move.FrameSize:
                    await SettingsAsync(_initial, 16384 + size);
                    break;
                case Move.Reset when call is not null && !call.Ended:
                    call.Ended = call.WasReset = true;
                    await peer.SendAsync(Frame(H2.Reset, 0, call.Stream, 0, 0, 0, 8));
                    break;
                case Move.Wait:
                    await peer.SendAsync(SettingsFrame());
                    _unacknowledged.Enqueue((0, 0, _frame));
                    await AcknowledgedAsync();
                    break;
                default:
                    break;
            }
        }

        public async Task FinishAsync()
        {
            await SettingsAsync(1 << 24, _frame);
            _window += 1 << 28;
            await peer.SendAsync(WindowUpdate(0, 1 << 28));
            await AcknowledgedAsync();
            while (_calls.Exists(c => !c.Ended))
            {
                Take(await peer.UntilAsync(_ => true));
            }

            foreach (Call call in _calls)
            {
                Assert.True(call.WasReset || call.Received == call.Size + 5, $"stream {call.Stream}: {call.Received} of {call.Size + 5} bytes");
            }
        }

        private async Task AcknowledgedAsync()
        {
            while (_unacknowledged.Count > 0)
            {
                Take(await peer.UntilAsync(_ => true));
            }
        }

        // More is allowed as soon as it is sent, less when the server says that it knows.
        private async Task SettingsAsync(int window, int frame)
        {
            long change = (long)window - _initial;
            foreach (Call call in _calls)
            {
                call.Window += Math.Max(0, change);
            }

            _unacknowledged.Enqueue((Math.Min(0, change), _calls.Count, frame));
            _initial = window;
            _frame = frame;
            _frameMax = Math.Max(_frameMax, frame);
            await peer.SendAsync(SettingsFrame((4, (uint)window), (5, (uint)frame)));
        }

        private void Take(H2Frame frame)
        {
            switch (frame.Type)
            {
                case H2.Settings when (frame.Flags & H2Frame.Ack) != 0:
                    (long less, int calls, _frameMax) = _unacknowledged.Dequeue();
                    for (int i = 0; i < calls; i++)
                    {
                        _calls[i].Window += less;
                    }

                    foreach ((_, _, int later) in _unacknowledged)
                    {
                        _frameMax = Math.Max(_frameMax, later);
                    }

                    break;
                case H2.Data:
                    Call call = _calls[frame.Stream / 2];
                    _window -= frame.Payload.Length;
                    call.Window -= frame.Payload.Length;
                    Assert.True(frame.Payload.Length <= _frameMax, $"a frame of {frame.Payload.Length} with {_frameMax} allowed");
                    Assert.True(_window >= 0, $"the connection's window was overstepped by {-_window}");
                    Assert.True(call.Window >= 0, $"the window of stream {call.Stream} was overstepped by {-call.Window}");
                    call.Check(frame.Payload);
                    break;
                case H2.Headers when frame.Ends:
                    _calls[frame.Stream / 2].Ended = true;
                    break;
                case H2.GoAway or H2.Reset:
                    Assert.Fail("the server ended a stream or the connection: " + frame);
                    break;
                default:
                    break;
            }
        }
    }

    private sealed class Call(int stream, int size, long window)
    {
        public int Stream { get; } = stream;

        public int Size { get; } = size;

        public long Window { get; set; } = window;

        public long Received { get; private set; }

        public bool WasReset { get; set; }

        public bool Ended { get; set; }

        public void Check(byte[] part)
        {
            for (int i = 0; i < part.Length; i++)
            {
                long at = Received + i - 5;
                Assert.True(at < 0 || part[i] == (byte)((int)at * 31), $"byte {at} of stream {Stream}");
            }

            Received += part.Length;
        }
    }
}
