// H2Loop: a client that sends the same gRPC call over and over on one HTTP/2 connection and allocates nothing, so
// that what the process allocates is the server's. Frames and headers by hand (RFC 9113, RFC 7541); no flow control
// towards the server, whose windows are far larger than what is ever under way.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Cairn.Net.Tests;

internal sealed class H2Loop : IDisposable
{
    private const int FrameHeader = 9;
    private const byte Data = 0;
    private const byte Headers = 1;
    private const byte ResetStream = 3;
    private const byte Settings = 4;
    private const byte Ping = 6;
    private const byte GoAway = 7;
    private const byte WindowUpdate = 8;
    private const int WindowStep = 16 * 1024;

    private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
    private readonly byte[] _received = new byte[64 * 1024];
    private readonly byte[] _control = new byte[FrameHeader + 8];
    private readonly byte[] _call;
    private readonly int _dataAt;
    private int _start;
    private int _end;
    private int _stream = -1;
    private int _unacknowledged;

    public H2Loop(int port, string path, byte[] message)
    {
        byte[] block = HeaderBlock(path);
        byte[] body = GrpcClient.Frame(message);
        _dataAt = FrameHeader + block.Length;
        _call = new byte[_dataAt + FrameHeader + body.Length];
        Frame(_call, block.Length, Headers, 4); // END_HEADERS
        block.CopyTo(_call, FrameHeader);
        Frame(_call.AsSpan(_dataAt), body.Length, Data, 1); // END_STREAM
        body.CopyTo(_call, _dataAt + FrameHeader);

        _socket.Connect(IPAddress.Loopback, port);
        Send(Encoding.ASCII.GetBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        byte[] settings = new byte[FrameHeader];
        Frame(settings, 0, Settings, 0);
        Send(settings);
    }

    /// <summary>Messages' bytes received in all.</summary>
    public long DataBytes { get; private set; }

    /// <summary>One call from its headers to the end of its stream.</summary>
    public void Call()
    {
        _stream += 2;
        BinaryPrimitives.WriteInt32BigEndian(_call.AsSpan(5), _stream);
        BinaryPrimitives.WriteInt32BigEndian(_call.AsSpan(_dataAt + 5), _stream);
        Send(_call);
        while (!ReadFrame())
        {
        }
    }

    public void Dispose() => _socket.Dispose();

    // True when the frame ended our stream.
    private bool ReadFrame()
    {
        Fill(FrameHeader);
        ReadOnlySpan<byte> header = _received.AsSpan(_start, FrameHeader);
        int length = (header[0] << 16) | (header[1] << 8) | header[2];
        byte type = header[3];
        byte flags = header[4];
        int stream = BinaryPrimitives.ReadInt32BigEndian(header[5..]);
        Fill(FrameHeader + length);
        Span<byte> payload = _received.AsSpan(_start + FrameHeader, length);
        _start += FrameHeader + length;
        switch (type)
        {
            case Data:
                DataBytes += length;
                Acknowledge(length);
                return stream == _stream && (flags & 1) != 0;
            case Headers:
                return stream == _stream && (flags & 1) != 0;
            case Settings when (flags & 1) == 0:
                Frame(_control, 0, Settings, 1);
                Send(_control.AsSpan(0, FrameHeader));
                return false;
            case Ping when (flags & 1) == 0:
                Frame(_control, 8, Ping, 1);
                payload.CopyTo(_control.AsSpan(FrameHeader));
                Send(_control.AsSpan(0, FrameHeader + 8));
                return false;
            case ResetStream or GoAway:
                throw new IOException($"the server ended the stream or connection (frame {type})");
            default:
                return false;
        }
    }

    private void Acknowledge(int length)
    {
        _unacknowledged += length;
        if (_unacknowledged >= WindowStep)
        {
            Frame(_control, 4, WindowUpdate, 0);
            BinaryPrimitives.WriteInt32BigEndian(_control.AsSpan(FrameHeader), _unacknowledged);
            Send(_control.AsSpan(0, FrameHeader + 4));
            _unacknowledged = 0;
        }
    }

    private void Fill(int wanted)
    {
        if (_received.Length - _start < wanted)
        {
            _received.AsSpan(_start, _end - _start).CopyTo(_received);
            _end -= _start;
            _start = 0;
        }

        while (_end - _start < wanted)
        {
            int count = _socket.Receive(_received.AsSpan(_end), SocketFlags.None);
            if (count == 0)
            {
                throw new EndOfStreamException();
            }

            _end += count;
        }
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            bytes = bytes[_socket.Send(bytes, SocketFlags.None)..];
        }
    }

    private static void Frame(Span<byte> target, int length, byte type, byte flags)
    {
        target[0] = (byte)(length >> 16);
        target[1] = (byte)(length >> 8);
        target[2] = (byte)length;
        target[3] = type;
        target[4] = flags;
        target.Slice(5, 4).Clear();
    }

    private static byte[] HeaderBlock(string path)
    {
        var block = new List<byte> { 0x83, 0x86 }; // :method POST, :scheme http
        block.Add(0x04); // :path, value follows
        Text(block, path);
        block.Add(0x01); // :authority
        Text(block, "x");
        block.AddRange([0x0f, 0x10]); // content-type
        Text(block, "application/grpc");
        block.Add(0x00);
        Text(block, "te");
        Text(block, "trailers");
        return [.. block];
    }

    private static void Text(List<byte> block, string text)
    {
        block.Add((byte)text.Length);
        block.AddRange(Encoding.ASCII.GetBytes(text));
    }
}
