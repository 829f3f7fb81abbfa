// What is sent, and when. See Http2Connection.cs.
//
// Order      Everything written during one pass of the loop leaves with one send at its end. Streams put their answers into the
//            send buffer as far as windows and room allow; those that found no room wait in a queue, first come first served.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Net.Http2;

internal sealed unsafe partial class Http2Connection
{
    private const int SpareWaiting = 64;

    private readonly Queue<(Http2Call Call, int Stream)> _waiting = new();
    private ByteQueue _send;
    private int _clientWindow = Http2Protocol.DefaultWindow;
    private int _clientStreamWindow = Http2Protocol.DefaultWindow;
    private int _clientFrameSize = Http2Protocol.DefaultFrameSize;
    private EpollEvents _watched = EpollEvents.Readable;
    private bool _saysTableSize;
    private bool _closedForWriting;

    /// <summary>In the loop's list of connections with something to send.</summary>
    public bool IsDirty { get; set; }

    /// <summary>Largest DATA payload that may be written now, as far as the connection is concerned.</summary>
    public int Room => Math.Min(
        Math.Min(_clientWindow, _clientFrameSize), Math.Max(0, Http2Limits.SendHigh - _send.Length));

    /// <summary>The next header block must begin by saying that we keep no table. Reading it clears it.</summary>
    public bool TakeTableSizeNotice()
    {
        bool says = _saysTableSize;
        _saysTableSize = false;
        return says;
    }

    /// <summary>Room for a header block; write it with <see cref="EndHeaders"/>.</summary>
    public Span<byte> BeginHeaders() => _send.Room(Http2Protocol.FrameHeadBytes + HeaderWriter.BlockMax)[Http2Protocol.FrameHeadBytes..];

    /// <summary>Sends the block written into the last <see cref="BeginHeaders"/>.</summary>
    public void EndHeaders(int stream, int length, bool endStream)
    {
        byte flags = (byte)(Http2Protocol.EndHeaders | (endStream ? Http2Protocol.EndStream : 0));
        Http2Protocol.WriteHead(_send.Room(Http2Protocol.FrameHeadBytes), length, FrameType.Headers, flags, stream);
        _send.Advance(Http2Protocol.FrameHeadBytes + length);
        PingsForgiven = true;
        _loop.MarkDirty(this);
    }

    /// <summary>Sends part of an answer; no more than <see cref="Room"/>.</summary>
    public void WriteData(int stream, ReadOnlySpan<byte> part)
    {
        _clientWindow -= part.Length;
        WriteFrame(FrameType.Data, 0, stream, part);
        PingsForgiven = true;
        _loop.MarkDirty(this);
    }

    public void WriteReset(int stream, Http2Error error)
    {
        Span<byte> payload = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(payload, (int)error);
        WriteFrame(FrameType.ResetStream, 0, stream, payload);
        _loop.MarkDirty(this);
    }

    /// <summary>The call has bytes to send as soon as there is room.</summary>
    public void WaitForRoom(Http2Call call)
    {
        if (!call.IsWaiting)
        {
            call.IsWaiting = true;
            _waiting.Enqueue((call, call.Stream));
            if (_waiting.Count > (2 * _streams.Count) + SpareWaiting)
            {
                DropEnded();
            }
        }

        _loop.MarkDirty(this);
    }

    /// <summary>Sends what is there; the end of a pass, or the socket has room again.</summary>
    public void Flush()
    {
        if (Phase == ConnectionPhase.Closed)
        {
            return;
        }

        bool blocked = false;
        while (true)
        {
            PumpWaiting();
            if (_send.Length == 0)
            {
                break;
            }

            int sent = SocketCalls.SendNow(_socket, _send.Span);
            if (sent < 0)
            {
                Close();
                return;
            }

            bool whole = sent == _send.Length;
            _send.Consume(sent);
            if (!whole)
            {
                blocked = true;
                break;
            }
        }

        if (_send.Length == 0)
        {
            SayGoodBye();
        }

        WatchFor(blocked);
    }

    // Streams that ended while they waited: nobody may make this queue long by opening and resetting them.
    private void DropEnded()
    {
        for (int left = _waiting.Count; left > 0; left--)
        {
            (Http2Call call, int stream) = _waiting.Dequeue();
            if (_streams.TryGetValue(stream, out Http2Call? open) && ReferenceEquals(open, call))
            {
                _waiting.Enqueue((call, stream));
            }
        }
    }

    private void PumpWaiting()
    {
        // Each waiting call once: those that still find no room queue up again behind the others.
        for (int left = _waiting.Count; left > 0 && _send.Length < Http2Limits.SendHigh && _clientWindow > 0; left--)
        {
            (Http2Call call, int stream) = _waiting.Dequeue();
            if (_streams.TryGetValue(stream, out Http2Call? open) && ReferenceEquals(open, call))
            {
                call.IsWaiting = false;
                call.Pump();
            }
        }
    }

    // Reading stops while a client lets our replies pile up; writing is waited for only while something is left.
    private void WatchFor(bool blocked)
    {
        EpollEvents wanted = (_send.Length < Http2Limits.SendStop ? EpollEvents.Readable : EpollEvents.None)
            | (blocked ? EpollEvents.Writable : EpollEvents.None);
        if (wanted != _watched && Phase != ConnectionPhase.Sniffing)
        {
            _watched = wanted;
            _loop.Watch(_socket, wanted, _tag);
        }
    }

    // All that had to be said has been sent: let the client read it before the socket goes.
    private void SayGoodBye()
    {
        bool idle = _goingAway && _calls == 0 && _streams.Count == 0;
        if (Phase == ConnectionPhase.Lingering || idle)
        {
            if (Phase != ConnectionPhase.Lingering)
            {
                Enter(ConnectionPhase.Lingering);
            }

            if (!_closedForWriting)
            {
                _closedForWriting = true;
                Epoll.EndWriting(_socket);
            }
        }
    }

    private void WriteGreeting()
    {
        Span<byte> settings = stackalloc byte[18];
        Setting(settings, Http2Setting.MaxConcurrentStreams, _limits.MaxStreams);
        Setting(settings[6..], Http2Setting.InitialWindowSize, _limits.StreamWindow);
        Setting(settings[12..], Http2Setting.MaxHeaderListSize, Http2Limits.HeaderListMax);
        WriteFrame(FrameType.Settings, 0, 0, settings);
        WriteWindowUpdate(0, Http2Limits.ConnectionWindow - Http2Protocol.DefaultWindow);
    }

    private static void Setting(Span<byte> target, Http2Setting setting, int value)
    {
        BinaryPrimitives.WriteInt16BigEndian(target, (short)setting);
        BinaryPrimitives.WriteInt32BigEndian(target[2..], value);
    }

    private void WriteWindowUpdate(int stream, int bytes)
    {
        Span<byte> payload = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(payload, bytes);
        WriteFrame(FrameType.WindowUpdate, 0, stream, payload);
    }

    private void WriteGoAway(int lastStream, Http2Error error, ReadOnlySpan<byte> reason)
    {
        Span<byte> payload = stackalloc byte[64];
        BinaryPrimitives.WriteInt32BigEndian(payload, lastStream);
        BinaryPrimitives.WriteInt32BigEndian(payload[4..], (int)error);
        reason.CopyTo(payload[8..]);
        WriteFrame(FrameType.GoAway, 0, 0, payload[..(8 + reason.Length)]);
    }

    private void WriteFrame(FrameType type, byte flags, int stream, ReadOnlySpan<byte> payload)
    {
        Span<byte> room = _send.Room(Http2Protocol.FrameHeadBytes + payload.Length);
        Http2Protocol.WriteHead(room, payload.Length, type, flags, stream);
        payload.CopyTo(room[Http2Protocol.FrameHeadBytes..]);
        _send.Advance(Http2Protocol.FrameHeadBytes + payload.Length);
    }
}
