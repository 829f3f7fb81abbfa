// H2Peer: a client of raw frames, for what no honest client sends and for looking at each frame that comes back.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Tasks;

namespace Cairn.Net.Tests;

internal enum H2 : byte
{
    Data, Headers, Priority, Reset, Settings, Push, Ping, GoAway, WindowUpdate, Continuation,
}

internal sealed record H2Frame(H2 Type, byte Flags, int Stream, byte[] Payload)
{
    public const byte EndStream = 1, Ack = 1, EndHeaders = 4, Padded = 8, HasPriority = 32;

    public bool Ends => Type is H2.Data or H2.Headers && (Flags & EndStream) != 0;

    /// <summary>The code of a GOAWAY or RST_STREAM.</summary>
    public int Code => BinaryPrimitives.ReadInt32BigEndian(Payload.AsSpan(Type == H2.GoAway ? 4 : 0));

    /// <summary>The last stream of a GOAWAY.</summary>
    public int Last => BinaryPrimitives.ReadInt32BigEndian(Payload) & int.MaxValue;

    public override string ToString() => $"{Type} flags {Flags} stream {Stream} {Convert.ToHexString(Payload.AsSpan(0, Math.Min(32, Payload.Length)))}";
}

internal sealed class H2Peer : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
    private readonly byte[] _buffer = new byte[1 << 19];
    private int _start;
    private int _end;

    /// <summary>Everything received, for messages.</summary>
    public List<string> Seen { get; } = [];

    public static byte[] Preface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray();

    public static byte[] Zero4 => new byte[4];

    /// <summary>Connects and says nothing.</summary>
    public static async Task<H2Peer> ConnectAsync(int port)
    {
        var peer = new H2Peer();
        await peer._socket.ConnectAsync(IPAddress.Loopback, port);
        return peer;
    }

    /// <summary>Connects and does what every client does first.</summary>
    public static async Task<H2Peer> OpenAsync(int port, params (int Setting, uint Value)[] settings)
    {
        H2Peer peer = await ConnectAsync(port);
        await peer.SendAsync(Preface, SettingsFrame(settings), Frame(H2.Settings, H2Frame.Ack, 0, []));
        return peer;
    }

    public static byte[] Frame(H2 type, byte flags, int stream, params byte[] payload)
    {
        byte[] frame = new byte[9 + payload.Length];
        frame[0] = (byte)(payload.Length >> 16);
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = (byte)type;
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        return frame;
    }

    public static byte[] SettingsFrame(params (int Setting, uint Value)[] settings)
    {
        byte[] payload = new byte[6 * settings.Length];
        for (int i = 0; i < settings.Length; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(payload.AsSpan(6 * i), (ushort)settings[i].Setting);
            BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan((6 * i) + 2), settings[i].Value);
        }

        return Frame(H2.Settings, 0, 0, payload);
    }

    public static byte[] WindowUpdate(int stream, uint step)
    {
        byte[] payload = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(payload, step);
        return Frame(H2.WindowUpdate, 0, stream, payload);
    }

    /// <summary>A header block of literals that no table remembers.</summary>
    public static byte[] Block(params (string Name, string Value)[] headers)
    {
        var block = new List<byte>();
        foreach ((string name, string value) in headers)
        {
            block.Add(0);
            Text(block, name);
            Text(block, value);
        }

        return [.. block];
    }

    /// <summary>The headers of a gRPC call.</summary>
    public static (string Name, string Value)[] Call(string path, params (string Name, string Value)[] more)
        => [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers"), .. more];

    /// <summary>HEADERS of a call whose message follows.</summary>
    public static byte[] Begin(int stream, string path, params (string Name, string Value)[] more)
        => Frame(H2.Headers, H2Frame.EndHeaders, stream, Block(Call(path, more)));

    /// <summary>DATA with one message, the last of its stream.</summary>
    public static byte[] Message(int stream, params byte[] message)
        => Frame(H2.Data, H2Frame.EndStream, stream, GrpcClient.Frame(message));

    public async Task SendAsync(params byte[][] frames)
    {
        var all = new List<byte>();
        foreach (byte[] frame in frames)
        {
            all.AddRange(frame);
        }

        byte[] bytes = [.. all];
        for (int sent = 0; sent < bytes.Length;)
        {
            sent += await _socket.SendAsync(bytes.AsMemory(sent)).AsTask().WaitAsync(Limit);
        }
    }

    /// <summary>The next frame; null at the end of the connection.</summary>
    public async Task<H2Frame?> ReadAsync()
    {
        while (true)
        {
            int have = _end - _start;
            if (have >= 9)
            {
                ReadOnlyMemory<byte> head = _buffer.AsMemory(_start);
                int length = (head.Span[0] << 16) | (head.Span[1] << 8) | head.Span[2];
                if (have >= 9 + length)
                {
                    var frame = new H2Frame(
                        (H2)head.Span[3], head.Span[4], BinaryPrimitives.ReadInt32BigEndian(head.Span[5..]), head.Slice(9, length).ToArray());
                    _start += 9 + length;
                    Seen.Add(frame.ToString());
                    return frame;
                }
            }

            Buffer.BlockCopy(_buffer, _start, _buffer, 0, have);
            _start = 0;
            _end = have;
            int count;
            try
            {
                count = await _socket.ReceiveAsync(_buffer.AsMemory(_end)).AsTask().WaitAsync(Limit);
            }
            catch (SocketException)
            {
                count = 0;
            }

            if (count == 0)
            {
                return null;
            }

            _end += count;
        }
    }

    /// <summary>The next frame that is one; the connection must not end before.</summary>
    public async Task<H2Frame> UntilAsync(Func<H2Frame, bool> isOne)
    {
        while (await ReadAsync() is { } frame)
        {
            if (isOne(frame))
            {
                return frame;
            }
        }

        throw new InvalidOperationException("the connection ended after\n" + string.Join('\n', Seen));
    }

    /// <summary>Reads until the connection ends.</summary>
    public async Task<List<H2Frame>> ToEndAsync()
    {
        var frames = new List<H2Frame>();
        while (await ReadAsync() is { } frame)
        {
            frames.Add(frame);
        }

        return frames;
    }

    /// <summary>What comes first, as text: for HTTP/1.1.</summary>
    public async Task<string> TextAsync()
    {
        int count = await _socket.ReceiveAsync(_buffer).WaitAsync(Limit);
        return Encoding.Latin1.GetString(_buffer, 0, count);
    }

    public void Dispose() => _socket.Dispose();

    private static void Text(List<byte> block, string text)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(text);
        int rest = bytes.Length;
        if (rest < 127)
        {
            block.Add((byte)rest);
        }
        else
        {
            block.Add(127);
            for (rest -= 127; rest >= 128; rest >>= 7)
            {
                block.Add((byte)(rest | 128));
            }

            block.Add((byte)rest);
        }

        block.AddRange(bytes);
    }
}
