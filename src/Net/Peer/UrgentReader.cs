// UrgentReader: the reading half of an urgent connection, on a thread that does nothing else: blocked in receive, it runs as
// soon as bytes come, however busy the pool is.
//
// Ends       by close, reset, silence beyond the read timeout, or a frame that is wrong: then the connection goes, since after
//            one wrong frame nothing behind it can be believed.
using System;
using System.Buffers.Binary;
using System.Net.Sockets;
using Cairn.Base;
using Cairn.Core.Raft;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Reads one connection to its end.</summary>
internal sealed unsafe class UrgentReader(PeerTransport transport, UrgentSocket socket, bool isDialler)
{
    private byte[] _buffer = new byte[16 << 10];
    private int _filled;
    private string _fault = "";

    /// <summary>Returns why it ended.</summary>
    public string Run()
    {
        try
        {
            while (true)
            {
                int count = socket.Channel.Receive(_buffer.AsSpan(_filled));
                if (count == 0)
                {
                    return "closed by the remote side";
                }

                _filled += count;
                int frames = Consume(out int used);
                socket.Counters.Received(frames, count);
                if (_fault.Length != 0)
                {
                    socket.Counters.ReceiveFailed();
                    return _fault;
                }

                _buffer.AsSpan(used, _filled - used).CopyTo(_buffer);
                _filled -= used;
                MakeRoom();
            }
        }
        catch (SocketException e)
        {
            bool silent = e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock;
            return silent ? "no sign of life within the read timeout" : e.Message;
        }
        catch (ObjectDisposedException)
        {
            return "closed here";
        }
    }

    // Frames in the buffer; what is left of the last one moves to the front.
    private int Consume(out int used)
    {
        used = 0;
        int frames = 0;
        while (_filled - used >= PeerFrame.HeaderBytes)
        {
            ReadOnlySpan<byte> rest = _buffer.AsSpan(used, _filled - used);
            if (!PeerFrame.TryReadHeader(rest, ConnectionLane.Urgent, out FrameHeader header))
            {
                _fault = "a frame of impossible type or length";
                return frames;
            }

            if (rest.Length < PeerFrame.HeaderBytes + header.Length)
            {
                return frames;
            }

            ReadOnlySpan<byte> body = rest.Slice(PeerFrame.HeaderBytes, header.Length);
            if (!PeerFrame.IsIntact(rest, body))
            {
                _fault = "a frame with a wrong checksum";
                return frames;
            }

            if (!Take(header.Type, body))
            {
                _fault = "a frame that cannot be understood: " + header.Type;
                return frames;
            }

            frames++;
            used += PeerFrame.HeaderBytes + header.Length;
        }

        return frames;
    }

    private void MakeRoom()
    {
        if (_filled < PeerFrame.HeaderBytes)
        {
            return;
        }

        // The header was judged: its length is one that this lane allows, and the peer one that shook hands.
        int needed = PeerFrame.HeaderBytes + BinaryPrimitives.ReadInt32LittleEndian(_buffer);
        if (needed > _buffer.Length)
        {
            Array.Resize(ref _buffer, needed);
        }
    }

    private bool Take(FrameType type, ReadOnlySpan<byte> body)
    {
        switch (type)
        {
            case FrameType.Raft when !isDialler:
                if (!PeerCodec.TryRead(body, out RaftMessage message, out int length) || length != body.Length
                    || message.EntryCount != 0)
                {
                    return false;
                }

                // Whatever the frame says, it is from whom the connection belongs to.
                message.From = socket.Peer;
                message.To = transport.Member.Identity.MemberId;
                _ = transport.Member.Deliver(in message, null);
                return true;

            case FrameType.Call when !isDialler:
                if (!PeerCodec.TryReadCallHead(body, out ulong id, out byte kind, out _))
                {
                    return false;
                }

                transport.Member.Receive(new IncomingCall(transport, socket, id)
                {
                    Kind = (PeerCallKind)kind,
                    From = socket.Peer,
                    Body = body[PeerCodec.CallHeadBytes..].ToArray(),
                });
                return true;

            case FrameType.Reply when isDialler:
                if (!PeerCodec.TryReadCallHead(body, out ulong answered, out byte error, out _))
                {
                    return false;
                }

                transport.Calls.Take(answered, socket)?.Complete(
                    PeerCallOutcome.Answered, (Core.Protocol.ErrorCode)error, body[PeerCodec.CallHeadBytes..].ToArray());
                return true;

            case FrameType.Ping when !isDialler && body.Length == 8:
                NativeBlock* pong = transport.Pool.Rent(PeerFrame.HeaderBytes + 8);
                pong->Length = PeerFrame.HeaderBytes + 8;
                body.CopyTo(NativeBlock.Span(pong)[PeerFrame.HeaderBytes..]);
                PeerFrame.Seal(NativeBlock.Span(pong), FrameType.Pong);
                _ = socket.TrySend(pong);
                return true;

            case FrameType.Pong when isDialler && body.Length == 8:
                long roundTrip = transport.Options.Clock.NowNs - BinaryPrimitives.ReadInt64LittleEndian(body);
                if (roundTrip >= 0)
                {
                    socket.Counters.Measured(roundTrip);
                    transport.Options.Observer?.RoundTrip(socket.Counters, roundTrip);
                }

                return true;

            default:
                return false;
        }
    }
}

/// <summary>A question that came in; the answer goes back on the same connection.</summary>
internal sealed unsafe class IncomingCall(PeerTransport transport, UrgentSocket socket, ulong id) : PeerRequest
{
    /// <inheritdoc/>
    public override void Reply(Core.Protocol.ErrorCode error, ReadOnlyMemory<byte> body)
    {
        Invariant.Check(body.Length <= PeerCall.MaxBodyBytes, "an answer is small");
        int length = PeerFrame.HeaderBytes + PeerCodec.CallHeadBytes + body.Length;
        NativeBlock* frame = transport.Pool.Rent(length);
        frame->Length = length;
        Span<byte> bytes = NativeBlock.Span(frame);
        PeerCodec.WriteCallHead(bytes[PeerFrame.HeaderBytes..], id, (byte)error, 0);
        body.Span.CopyTo(bytes[(PeerFrame.HeaderBytes + PeerCodec.CallHeadBytes)..]);
        PeerFrame.Seal(bytes, FrameType.Reply);
        _ = socket.TrySend(frame);
    }
}
