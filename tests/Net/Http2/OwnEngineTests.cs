// Our own HTTP/2 engine, whatever engine the other tests run with: calls of every kind, and raw frames against its limits.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Tasks;
using Cairn.Net.Host;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class OwnEngineTests : IAsyncLifetime
{
    private const byte Data = 0, Headers = 1, Reset = 3, Settings = 4, Ping = 6, GoAway = 7, WindowUpdate = 8, Continuation = 9;
    private FrontFixture _front = null!;

    public async Task InitializeAsync() => _front = await FrontFixture.StartAsync(Http2Engine.Cairn, null);

    public async Task DisposeAsync() => await _front.DisposeAsync();

    [Fact]
    public async Task Calls_OfEveryKind_AreServed()
    {
        using var client = new GrpcClient(_front.Port);
        byte[] message = new byte[FrontFixture.MaxMessage];
        new Random(1).NextBytes(message);
        Assert.Equal(message, (await client.CallAsync("/t.Echo/Echo", message)).Single);
        Assert.Equal([5], (await client.CallAsync("/t.Echo/Steps", [5])).Single);
        Assert.Equal(100, (await client.CallAsync("/t.Echo/Many", [100])).Messages.Count);
        byte[] body = [.. GrpcClient.Frame([1]), .. GrpcClient.Frame(new byte[90_000])];
        Assert.Equal([1, 90_000], (await client.SendAsync("/t.Echo/Pipe", body)).Messages.ConvertAll(m => m.Length));
        Assert.Equal(12, (await client.CallAsync("/t.Nope/Echo", [])).Code);
        Assert.Equal(15, (await client.CallAsync("/t.Echo/Fail", [])).Code);
    }

    [Fact]
    public async Task Calls_ManyAtOnce_EachGetsItsOwnAnswer()
    {
        using var client = new GrpcClient(_front.Port);
        var calls = new Task<GrpcAnswer>[500];
        for (int i = 0; i < calls.Length; i++)
        {
            calls[i] = client.CallAsync(i % 2 == 0 ? "/t.Echo/Echo" : "/t.Echo/Steps", BitConverter.GetBytes(i));
        }

        for (int i = 0; i < calls.Length; i++)
        {
            Assert.Equal(BitConverter.GetBytes(i), (await calls[i]).Single);
        }
    }

    [Theory]
    [InlineData(Data, 0, 0, "", 1)] // DATA on stream 0
    [InlineData(Data, 0, 1, "", 1)] // DATA on an idle stream
    [InlineData(Headers, 4, 2, "82", 1)] // a stream number of the server's
    [InlineData(Headers, 4, 1, "80", 9)] // no HPACK
    [InlineData(Headers, 12, 1, "0582", 1)] // padding longer than the frame
    [InlineData(Settings, 0, 0, "0004", 6)] // half a setting
    [InlineData(Settings, 0, 0, "000480000000", 3)] // a window above 2^31-1
    [InlineData(Settings, 0, 0, "000500000001", 1)] // frames smaller than allowed
    [InlineData(Settings, 1, 0, "000400000001", 6)] // an acknowledgement with content
    [InlineData(Ping, 0, 0, "00", 6)]
    [InlineData(Ping, 0, 1, "0000000000000000", 1)]
    [InlineData(WindowUpdate, 0, 0, "00000000", 1)]
    [InlineData(WindowUpdate, 0, 0, "7fffffff", 3)]
    [InlineData(WindowUpdate, 0, 0, "00", 6)]
    [InlineData(Reset, 0, 1, "00000000", 1)] // of an idle stream
    [InlineData(5, 4, 1, "0000000282", 1)] // PUSH_PROMISE
    [InlineData(Continuation, 4, 1, "82", 1)] // without HEADERS
    public async Task Frame_AgainstTheRules_EndsTheConnectionWithItsCode(byte type, byte flags, int stream, string payload, int error)
    {
        using Socket socket = await OpenAsync();
        await socket.SendAsync(Frame(type, flags, stream, Convert.FromHexString(payload)));
        Assert.Equal(error, await GoAwayAsync(socket));
        using var client = new GrpcClient(_front.Port);
        Assert.Equal(0, (await client.CallAsync("/t.Echo/Echo", [1])).Code);
    }

    [Fact]
    public async Task Continuations_WithoutEnd_EndTheConnection()
    {
        using Socket socket = await OpenAsync();
        await socket.SendAsync(Frame(Headers, 0, 1, [0x82]));
        await FloodAsync(socket, Frame(Continuation, 0, 1, []));
        Assert.Equal(11, await GoAwayAsync(socket));
    }

    [Theory]
    [InlineData(Settings, 0, "")]
    [InlineData(2, 3, "0000000000")]
    public async Task Flood_OfUselessFrames_EndsTheConnection(byte type, int stream, string payload)
    {
        using Socket socket = await OpenAsync();
        await FloodAsync(socket, Frame(type, 0, stream, Convert.FromHexString(payload)));
        Assert.Equal(11, await GoAwayAsync(socket));
    }

    [Fact]
    public async Task Pings_TooMany_EndTheConnection()
    {
        using Socket socket = await OpenAsync();
        await FloodAsync(socket, Frame(Ping, 0, 0, new byte[8]));
        Assert.Equal(11, await GoAwayAsync(socket));
    }

    [Fact]
    public async Task Resets_AtOnce_EndTheConnection()
    {
        using Socket socket = await OpenAsync();
        byte[] block = Block("/t.Echo/Wait");
        try
        {
            var many = new List<byte>();
            for (int i = 0; i < 20_000; i++)
            {
                many.AddRange(Frame(Headers, 4, (2 * i) + 1, block));
                many.AddRange(Frame(Reset, 0, (2 * i) + 1, new byte[4]));
                if (many.Count > 16_000)
                {
                    await socket.SendAsync(many.ToArray());
                    many.Clear();
                }
            }
        }
        catch (SocketException)
        {
            // Closed on us, as it should be.
        }

        Assert.Equal(11, await GoAwayAsync(socket));
    }

    // Every truncation and every flip of one bit of an honest conversation: the server lives, and others are served.
    [Fact]
    public async Task Conversation_Damaged_HurtsNobody()
    {
        byte[] talk = [.. Preface, .. Frame(Settings, 0, 0, []), .. Frame(Headers, 4, 1, Block("/t.Echo/Echo")), .. Frame(Data, 1, 1, GrpcClient.Frame([1, 2, 3]))];
        var random = new Random(7);
        for (int i = 0; i < 600; i++)
        {
            byte[] damaged = i < talk.Length ? talk[..i] : (byte[])talk.Clone();
            if (i >= talk.Length)
            {
                damaged[random.Next(24, damaged.Length)] ^= (byte)(1 << random.Next(8));
            }

            using Socket socket = await ConnectAsync();
            await socket.SendAsync(damaged);
        }

        using var client = new GrpcClient(_front.Port);
        Assert.Equal(0, (await client.CallAsync("/t.Echo/Echo", [1])).Code);
    }

    // Frames that an honest client might send, in an order and with contents that none would.
    [Fact]
    public void Frames_AtRandom_HurtNobody()
    {
        Gen<byte[]> payload = Gen.OneOf(
            Gen.Byte.Array[0, 40], Gen.Const(Block("/t.Echo/Echo")), Gen.Const(Block("/t.Echo/Pipe")), Gen.Const(Block("/t.Echo/Wait")),
            Gen.Const(GrpcClient.Frame([1, 2])), Gen.Byte.Array[4], Gen.Byte.Array[8], Gen.Const(Array.Empty<byte>()));
        Gen<byte[]> frame = Gen.Select(
            Gen.OneOf(Gen.Byte[0, 9], Gen.OneOfConst(Data, Headers, Data, Headers, WindowUpdate, Reset)),
            Gen.OneOfConst<byte>(0, 1, 4, 5, 8, 12, 32, 36), Gen.Int[0, 9], payload, (type, flags, stream, bytes) => Frame(type, flags, stream, bytes));
        using var client = new GrpcClient(_front.Port);
        frame.Array[1, 25].Sample(frames =>
        {
            using Socket socket = ConnectAsync().GetAwaiter().GetResult();
            var all = new List<byte>(Preface);
            all.AddRange(Frame(Settings, 0, 0, []));
            foreach (byte[] one in frames)
            {
                all.AddRange(one);
            }

            socket.Send([.. all]);
            socket.Shutdown(SocketShutdown.Send);
            Assert.Equal([5], client.CallAsync("/t.Echo/Steps", [5]).GetAwaiter().GetResult().Single);
        }, iter: 1_000, threads: 1);
    }

    private static ReadOnlySpan<byte> PrefaceBytes => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;

    private static byte[] Preface => PrefaceBytes.ToArray();

    private static byte[] Frame(byte type, byte flags, int stream, byte[] payload)
    {
        byte[] frame = new byte[9 + payload.Length];
        frame[0] = (byte)(payload.Length >> 16);
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = type;
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        return frame;
    }

    private static byte[] Block(string path)
    {
        var block = new List<byte> { 0x83, 0x86, 0x04, (byte)path.Length };
        block.AddRange(Encoding.ASCII.GetBytes(path));
        block.AddRange([0x0f, 0x10, 16]);
        block.AddRange(Encoding.ASCII.GetBytes("application/grpc"));
        return [.. block];
    }

    private static async Task FloodAsync(Socket socket, byte[] frame)
    {
        try
        {
            // Many at once: a slow sender would be forgiven faster than it sins.
            var many = new List<byte>();
            for (int i = 0; i < 400; i++)
            {
                many.AddRange(frame);
            }

            for (int i = 0; i < 100; i++)
            {
                await socket.SendAsync(many.ToArray());
            }
        }
        catch (SocketException)
        {
            // Closed on us.
        }
    }

    // The error code of the GOAWAY before the end of the connection.
    private static async Task<int> GoAwayAsync(Socket socket)
    {
        int error = -1;
        var bytes = new List<byte>();
        byte[] buffer = new byte[65536];
        while (true)
        {
            int count;
            try
            {
                count = await socket.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(60));
            }
            catch (SocketException)
            {
                break;
            }

            if (count == 0)
            {
                break;
            }

            bytes.AddRange(buffer.AsSpan(0, count));
        }

        byte[] all = [.. bytes];
        for (int at = 0; at + 9 <= all.Length;)
        {
            int length = (all[at] << 16) | (all[at + 1] << 8) | all[at + 2];
            if (all[at + 3] == GoAway)
            {
                error = BinaryPrimitives.ReadInt32BigEndian(all.AsSpan(at + 13));
            }

            at += 9 + length;
        }

        return error;
    }

    private async Task<Socket> OpenAsync()
    {
        Socket socket = await ConnectAsync();
        await socket.SendAsync((byte[])[.. Preface, .. Frame(Settings, 0, 0, [])]);
        return socket;
    }

    private async Task<Socket> ConnectAsync()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPAddress.Loopback, _front.Port);
        return socket;
    }
}
