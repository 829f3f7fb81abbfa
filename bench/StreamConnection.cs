// StreamConnection: many gRPC calls at once on one connection: streams that stay open, and unary calls beside one another.
//
// Why        The client of a measurement has to cost much less than the server: one blocking socket, frames and messages are
//            read in place in the receive buffer, nothing is allocated per message, no HPACK table is kept.
// Threads    One thread reads (Pump, which calls the two handlers); any thread sends. A sender waits while the server's
//            window is full, so the thread that reads must not send more than windows allow.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;

namespace Cairn.Bench;

/// <summary>A whole message of a call; the bytes are valid during the call only.</summary>
internal delegate void MessageHandler(int stream, ReadOnlySpan<byte> message);

internal sealed class StreamConnection : IDisposable
{
    private const byte FrameData = 0, FrameHeaders = 1, FrameReset = 3, FrameSettings = 4, FramePing = 6, FrameGoAway = 7, FrameWindowUpdate = 8;
    private const int HeadBytes = 9, ConnectionCredit = 1 << 20, StreamCredit = 1 << 24;
    private readonly Socket _socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
    private readonly byte[] _received = new byte[1 << 20];
    private readonly Dictionary<int, Call> _calls = [];
    private readonly Dictionary<string, byte[]> _headers = [];
    private readonly object _gate = new();
    private readonly bool _creditsByHand;
    private byte[] _send = new byte[1 << 16];
    private int _sendLength;
    private int _start, _end; // of what was received and not read yet
    private int _nextStream = 1;
    private int _uncredited;
    private long _window = 65_535;
    private int _streamWindow = 65_535;
    private int _reader;

    /// <param name="port">On the loopback address.</param>
    /// <param name="streamWindow">Bytes of each call the server may send before <see cref="Credit"/>; 0: as many as it likes.</param>
    public StreamConnection(int port, int streamWindow = 0)
    {
        _creditsByHand = streamWindow != 0;
        _socket.Connect(IPAddress.Loopback, port);
        Queue("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8);
        Span<byte> settings = stackalloc byte[12];
        BinaryPrimitives.WriteUInt16BigEndian(settings, 1); // no header table
        BinaryPrimitives.WriteInt32BigEndian(settings[2..], 0);
        BinaryPrimitives.WriteUInt16BigEndian(settings[6..], 4);
        BinaryPrimitives.WriteInt32BigEndian(settings[8..], _creditsByHand ? streamWindow : int.MaxValue);
        QueueFrame(FrameSettings, 0, 0, settings);
        Span<byte> window = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(window, int.MaxValue - 65_535);
        QueueFrame(FrameWindowUpdate, 0, 0, window);
        Flush();
    }

    /// <summary>Called by <see cref="Pump"/> for each message.</summary>
    public MessageHandler? OnMessage { get; set; }

    /// <summary>Called by <see cref="Pump"/> when the server has ended a call; with the number of its messages.</summary>
    public Action<int, int>? OnEnd { get; set; }

    /// <summary>Begins a call; its number. Nothing leaves before <see cref="Flush"/>.</summary>
    public int Open(string path)
    {
        lock (_gate)
        {
            int stream = _nextStream;
            _nextStream += 2;
            _calls[stream] = new Call { Window = _streamWindow };
            QueueFrame(FrameHeaders, 4, stream, Headers(path));
            return stream;
        }
    }

    /// <summary>A message of a call, at most 16 KiB; waits for the server's windows.</summary>
    public void Send(int stream, ReadOnlySpan<byte> message, bool end = false)
    {
        int length = message.Length + 5;
        lock (_gate)
        {
            Call call = _calls[stream];
            while (_window < length || call.Window < length)
            {
                if (Environment.CurrentManagedThreadId == _reader)
                {
                    throw new InvalidOperationException("the reading thread must not wait for a window");
                }

                Flush();
                if (!Monitor.Wait(_gate, 60_000))
                {
                    throw new TimeoutException("the server gives no window");
                }
            }

            _window -= length;
            call.Window -= length;
            Span<byte> head = Room(HeadBytes + length);
            WriteHead(head, length, FrameData, (byte)(end ? 1 : 0), stream);
            head[HeadBytes] = 0;
            BinaryPrimitives.WriteInt32BigEndian(head[(HeadBytes + 1)..], message.Length);
            message.CopyTo(head[(HeadBytes + 5)..]);
            _sendLength += HeadBytes + length;
            if (_sendLength > 32 * 1024)
            {
                Flush();
            }
        }
    }

    /// <summary>Ends a call at once.</summary>
    public void Reset(int stream)
    {
        lock (_gate)
        {
            _ = _calls.Remove(stream);
            QueueFrame(FrameReset, 0, stream, [0, 0, 0, 8]);
            Flush();
        }
    }

    /// <summary>Lets the server send so many more bytes of a call.</summary>
    public void Credit(int stream, int bytes)
    {
        lock (_gate)
        {
            GiveWindow(stream, bytes);
            Flush();
        }
    }

    /// <summary>Sends what was queued.</summary>
    public void Flush()
    {
        lock (_gate)
        {
            if (_sendLength > 0)
            {
                _ = _socket.Send(_send.AsSpan(0, _sendLength));
                _sendLength = 0;
            }
        }
    }

    /// <summary>Reads once and hands on what came. False when the connection has ended, or nothing came in time.</summary>
    public bool Pump(int milliseconds = -1)
    {
        _reader = Environment.CurrentManagedThreadId;
        if (milliseconds >= 0 && !_socket.Poll(milliseconds * 1000, SelectMode.SelectRead))
        {
            return false;
        }

        if (_start > 0)
        {
            _received.AsSpan(_start, _end - _start).CopyTo(_received);
            _end -= _start;
            _start = 0;
        }

        int count;
        try
        {
            count = _socket.Receive(_received.AsSpan(_end));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }

        if (count == 0)
        {
            return false;
        }

        _end += count;
        while (_end - _start >= HeadBytes)
        {
            ReadOnlySpan<byte> head = _received.AsSpan(_start, HeadBytes);
            int length = (head[0] << 16) | (head[1] << 8) | head[2];
            if (_end - _start < HeadBytes + length)
            {
                break;
            }

            OnFrame(head[3], head[4], BinaryPrimitives.ReadInt32BigEndian(head[5..]) & int.MaxValue, _received.AsSpan(_start + HeadBytes, length));
            _start += HeadBytes + length;
        }

        Flush();
        return true;
    }

    /// <summary>Reads on a thread of its own until the connection ends.</summary>
    public void PumpInBackground()
    {
        Thread thread = new(() =>
        {
            try
            {
                while (Pump())
                {
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // Closed here, between reading and saying that it was read.
            }
        })
        { IsBackground = true, Name = "bench-read" };
        thread.Start();
    }

    public void Dispose() => _socket.Dispose();

    private void OnFrame(byte type, byte flags, int stream, ReadOnlySpan<byte> payload)
    {
        switch (type)
        {
            case FrameData:
                OnData(stream, payload);
                break;
            case FrameSettings when (flags & 1) == 0:
                OnSettings(payload);
                break;
            case FramePing when (flags & 1) == 0:
                lock (_gate)
                {
                    QueueFrame(FramePing, 1, 0, payload);
                }

                break;
            case FrameWindowUpdate:
                lock (_gate)
                {
                    int more = BinaryPrimitives.ReadInt32BigEndian(payload);
                    if (stream == 0)
                    {
                        _window += more;
                    }
                    else if (_calls.TryGetValue(stream, out Call? call))
                    {
                        call.Window += more;
                    }

                    Monitor.PulseAll(_gate);
                }

                break;
            case FrameGoAway:
                throw new IOException($"the server closes the connection: error {BinaryPrimitives.ReadInt32BigEndian(payload[4..])} {Encoding.ASCII.GetString(payload[8..])}");
            case FrameReset:
                throw new IOException($"the server reset stream {stream}");
            default:
                break;
        }

        if (type is FrameData or FrameHeaders && (flags & 1) != 0)
        {
            Call? ended;
            lock (_gate)
            {
                _ = _calls.Remove(stream, out ended);
            }

            if (ended is not null)
            {
                OnEnd?.Invoke(stream, ended.Messages);
            }
        }
    }

    private void OnData(int stream, ReadOnlySpan<byte> payload)
    {
        Call? call;
        lock (_gate)
        {
            _uncredited += payload.Length;
            if (_uncredited > ConnectionCredit)
            {
                GiveWindow(0, _uncredited);
                _uncredited = 0;
            }

            if (!_calls.TryGetValue(stream, out call))
            {
                return; // we have reset it
            }

            call.Uncredited += payload.Length;
            if (!_creditsByHand && call.Uncredited > StreamCredit)
            {
                GiveWindow(stream, call.Uncredited);
                call.Uncredited = 0;
            }
        }

        if (call.PartLength > 0)
        {
            payload = call.Complete(payload, stream, OnMessage);
        }

        while (payload.Length >= 5)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(payload[1..]);
            if (payload.Length < 5 + length)
            {
                break;
            }

            call.Messages++;
            OnMessage?.Invoke(stream, payload.Slice(5, length));
            payload = payload[(5 + length)..];
        }

        call.Keep(payload);
    }

    private void OnSettings(ReadOnlySpan<byte> payload)
    {
        lock (_gate)
        {
            for (; payload.Length >= 6; payload = payload[6..])
            {
                if (BinaryPrimitives.ReadUInt16BigEndian(payload) == 4)
                {
                    int window = BinaryPrimitives.ReadInt32BigEndian(payload[2..]);
                    foreach (Call call in _calls.Values)
                    {
                        call.Window += window - _streamWindow;
                    }

                    _streamWindow = window;
                }
            }

            QueueFrame(FrameSettings, 1, 0, default);
            Monitor.PulseAll(_gate);
        }
    }

    private void GiveWindow(int stream, int bytes)
    {
        Span<byte> update = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(update, bytes);
        QueueFrame(FrameWindowUpdate, 0, stream, update);
    }

    private void Queue(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Room(bytes.Length));
        _sendLength += bytes.Length;
    }

    private void QueueFrame(byte type, byte flags, int stream, ReadOnlySpan<byte> payload)
    {
        WriteHead(Room(HeadBytes + payload.Length), payload.Length, type, flags, stream);
        _sendLength += HeadBytes;
        Queue(payload);
    }

    private Span<byte> Room(int bytes)
    {
        if (_send.Length - _sendLength < bytes)
        {
            Array.Resize(ref _send, Math.Max(_send.Length * 2, _sendLength + bytes));
        }

        return _send.AsSpan(_sendLength);
    }

    private static void WriteHead(Span<byte> into, int length, byte type, byte flags, int stream)
    {
        into[0] = (byte)(length >> 16);
        into[1] = (byte)(length >> 8);
        into[2] = (byte)length;
        into[3] = type;
        into[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(into[5..], stream);
    }

    private byte[] Headers(string path)
    {
        if (_headers.TryGetValue(path, out byte[]? known))
        {
            return known;
        }

        List<byte> block = [0x83, 0x86];
        foreach ((string name, string value) in new[]
        {
            (":path", path), (":authority", "127.0.0.1"), ("content-type", "application/grpc"), ("te", "trailers"),
        })
        {
            block.Add(0x00);
            block.Add((byte)name.Length);
            block.AddRange(Encoding.ASCII.GetBytes(name));
            block.Add((byte)value.Length);
            block.AddRange(Encoding.ASCII.GetBytes(value));
        }

        return _headers[path] = [.. block];
    }

    /// <summary>One call; messages that a frame cut in two are put together here.</summary>
    private sealed class Call
    {
        private byte[] _part = [];

        public long Window;
        public int Uncredited;
        public int Messages;

        public int PartLength { get; private set; }

        public void Keep(ReadOnlySpan<byte> rest)
        {
            if (PartLength + rest.Length > _part.Length)
            {
                Array.Resize(ref _part, Math.Max(256, 2 * (PartLength + rest.Length)));
            }

            rest.CopyTo(_part.AsSpan(PartLength));
            PartLength += rest.Length;
        }

        /// <summary>Adds to the message begun; what is left of the frame behind it.</summary>
        public ReadOnlySpan<byte> Complete(ReadOnlySpan<byte> payload, int stream, MessageHandler? handler)
        {
            if (PartLength < 5)
            {
                int more = Math.Min(5 - PartLength, payload.Length);
                Keep(payload[..more]);
                payload = payload[more..];
                if (PartLength < 5)
                {
                    return default;
                }
            }

            int length = 5 + BinaryPrimitives.ReadInt32BigEndian(_part.AsSpan(1));
            int missing = Math.Min(length - PartLength, payload.Length);
            Keep(payload[..missing]);
            payload = payload[missing..];
            if (PartLength < length)
            {
                return default;
            }

            PartLength = 0;
            Messages++;
            handler?.Invoke(stream, _part.AsSpan(5, length - 5));
            return payload;
        }
    }
}
