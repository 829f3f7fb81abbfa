// Http2Client: one unary gRPC call at a time over one blocking socket, with as little of its own in the measured time as
// can be: two writes' worth of bytes in one send, then reads until the stream ends. No HPACK table is kept: requests use
// literals only, and of the answer's headers only the presence of `grpc-status: 0` is looked for.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Text;

namespace Cairn.Bench;

internal sealed class Http2Client : IDisposable
{
    private const byte FrameData = 0, FrameHeaders = 1, FrameReset = 3, FrameSettings = 4, FramePing = 6, FrameGoAway = 7, FrameWindowUpdate = 8;
    private readonly TcpClient _tcp;
    private readonly NetworkStream _stream;
    private readonly byte[] _send = new byte[4 << 20];
    private readonly byte[] _frame = new byte[1 << 20];
    private readonly byte[] _head = new byte[9];
    private readonly Dictionary<string, byte[]> _headers = [];
    private uint _streamId = 1;
    private int _received;
    private int _answerBytes;

    /// <param name="port">On the loopback address.</param>
    /// <param name="readTimeout">Milliseconds that an answer may take.</param>
    public Http2Client(int port, int readTimeout = 30_000)
    {
        _tcp = new TcpClient("127.0.0.1", port) { NoDelay = true };
        _stream = _tcp.GetStream();
        _stream.ReadTimeout = readTimeout;

        // SETTINGS: HEADER_TABLE_SIZE 0, so that the server sends no references to a table we do not keep; large windows.
        byte[] settings = [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, 0, 0, 12, FrameSettings, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
        byte[] window = [0, 0, 4, FrameWindowUpdate, 0, 0, 0, 0, 0, 0x7f, 0xf0, 0, 0];
        _stream.Write([.. settings, .. window]);
    }

    /// <summary>One call; the bytes of its answer.</summary>
    public int CallForBytes(string path, ReadOnlySpan<byte> message)
    {
        _answerBytes = 0;
        return Call(path, message) == 0 ? _answerBytes : throw new IOException(path + " was refused");
    }

    /// <summary>One call; returns 0 when the answer carried data and a clean end, -1 when it ended without data.</summary>
    public int Call(string path, ReadOnlySpan<byte> message)
    {
        byte[] headers = Headers(path);
        int at = Frame(_send, 0, FrameHeaders, 4, _streamId, headers);
        int grpc = message.Length + 5;
        int sent = 0;
        byte[] body = new byte[grpc];
        BinaryPrimitives.WriteInt32BigEndian(body.AsSpan(1), message.Length);
        message.CopyTo(body.AsSpan(5));
        while (sent < grpc)
        {
            int part = Math.Min(16_384, grpc - sent);
            at = Frame(_send, at, FrameData, (byte)(sent + part == grpc ? 1 : 0), _streamId, body.AsSpan(sent, part));
            sent += part;
        }

        _stream.Write(_send, 0, at);
        bool data = false;
        while (true)
        {
            _stream.ReadExactly(_head);
            int length = (_head[0] << 16) | (_head[1] << 8) | _head[2];
            byte type = _head[3], flags = _head[4];
            uint stream = BinaryPrimitives.ReadUInt32BigEndian(_head.AsSpan(5)) & 0x7fffffff;
            _stream.ReadExactly(_frame, 0, length);
            switch (type)
            {
                case FrameSettings when (flags & 1) == 0:
                    _stream.Write([0, 0, 0, FrameSettings, 1, 0, 0, 0, 0]);
                    break;
                case FramePing when (flags & 1) == 0:
                    _stream.Write([0, 0, 8, FramePing, 1, 0, 0, 0, 0, .. _frame.AsSpan(0, 8)]);
                    break;
                case FrameGoAway:
                    throw new IOException("the server closes the connection");
                case FrameReset when stream == _streamId:
                    throw new IOException("the server reset the stream");
                case FrameData:
                    data |= length > 0;
                    _answerBytes += length;
                    Credit(length);
                    break;
                default:
                    break;
            }

            if (stream == _streamId && type is FrameData or FrameHeaders && (flags & 1) != 0)
            {
                _streamId += 2;
                return data ? 0 : -1;
            }
        }
    }

    public void Dispose()
    {
        _stream.Dispose();
        _tcp.Dispose();
    }

    private void Credit(int length)
    {
        _received += length;
        if (_received > 1 << 20)
        {
            byte[] update = [0, 0, 4, FrameWindowUpdate, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            BinaryPrimitives.WriteInt32BigEndian(update.AsSpan(9), _received);
            _stream.Write(update);
            _received = 0;
        }
    }

    private static int Frame(byte[] into, int at, byte type, byte flags, uint stream, ReadOnlySpan<byte> payload)
    {
        into[at] = (byte)(payload.Length >> 16);
        into[at + 1] = (byte)(payload.Length >> 8);
        into[at + 2] = (byte)payload.Length;
        into[at + 3] = type;
        into[at + 4] = flags;
        BinaryPrimitives.WriteUInt32BigEndian(into.AsSpan(at + 5), stream);
        payload.CopyTo(into.AsSpan(at + 9));
        return at + 9 + payload.Length;
    }

    private byte[] Headers(string path)
    {
        if (_headers.TryGetValue(path, out byte[]? known))
        {
            return known;
        }

        List<byte> block = [0x83, 0x86];
        Literal(block, ":path", path);
        Literal(block, ":authority", "127.0.0.1");
        Literal(block, "content-type", "application/grpc");
        Literal(block, "te", "trailers");
        return _headers[path] = [.. block];
    }

    private static void Literal(List<byte> block, string name, string value)
    {
        block.Add(0x00);
        block.Add((byte)name.Length);
        block.AddRange(Encoding.ASCII.GetBytes(name));
        block.Add((byte)value.Length);
        block.AddRange(Encoding.ASCII.GetBytes(value));
    }
}
