// Http2Connection: one HTTP/2 connection (RFC 9113, server side). This part reads; the others: Frames (what each frame does),
// Output (what is sent and when).
//
// Thread     the loop's, all of it, but for Buffered.
// Memory     An idle connection holds no buffers: bytes are received into the loop's buffer and parsed there; a frame cut in
//            two waits in a block of its own; what could not be sent waits in another.
// Turns      One read of bounded size, and the handlers of what it brought, is a turn; then the others have theirs. Handlers on
//            this thread are short by construction (RpcStep, ReadBudget), all others run elsewhere.
// Abuse      Every frame that makes us work without being part of a call costs something (Annoy); streams whose handler
//            still runs count as open although the client has reset them, so resets buy nothing (CVE-2023-44487).
using System;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;

namespace Cairn.Net.Http2;

/// <summary>Where a connection is in its life.</summary>
internal enum ConnectionPhase : byte
{
    /// <summary>Not known yet whether it is HTTP/2.</summary>
    Sniffing,

    /// <summary>HTTP/2; the client's preface is not complete.</summary>
    Preface,

    /// <summary>The first frame must be SETTINGS.</summary>
    FirstSettings,
    Open,

    /// <summary>We said good-bye; what comes is thrown away until the client closes.</summary>
    Lingering,
    Closed,
}

/// <summary>One connection of a loop.</summary>
internal sealed unsafe partial class Http2Connection
{
    private readonly Http2Loop _loop;
    private readonly Http2Limits _limits;
    private readonly HpackDecoder _hpack = new();
    private readonly Dictionary<int, Http2Call> _streams = [];
    private readonly int _socket;
    private readonly ulong _tag;
    private readonly bool _sniffs;
    private ByteQueue _partial;
    private ByteQueue _block; // header block under way
    private int _blockStream;
    private byte _blockFlags;
    private int _continuations;
    private int _lastStream;
    private int _calls; // handlers under way, their streams open or not
    private int _lastServed; // once going away
    private bool _goingAway; // streams that are new from here on are not served
    private long _warnedNs; // the first GOAWAY of a stop was sent; 0 not
    private long _sinceNs; // of the phase
    private long _readNs; // anything was read
    private long _blockNs; // the header block began
    private long _buffered;

    public Http2Connection(Http2Loop loop, int socket, ulong tag, bool sniffs)
    {
        _loop = loop;
        _limits = loop.Limits;
        _socket = socket;
        _tag = tag;
        _sniffs = sniffs;
        _partial = new ByteQueue(loop.Pool);
        _block = new ByteQueue(loop.Pool);
        _send = new ByteQueue(loop.Pool);
        _sinceNs = _readNs = loop.NowNs;
        Annoyance = Http2Limits.AnnoyanceMax;
    }

    public ConnectionPhase Phase { get; private set; }

    public ulong Tag => _tag;

    /// <summary>The connection belongs to somebody else now: the loop must forget it without closing it.</summary>
    public bool IsGivenAway { get; private set; }

    /// <summary>Bytes of requests held for handlers of this connection; any thread may give back.</summary>
    public void AddBuffered(int bytes) => Interlocked.Add(ref _buffered, bytes);

    /// <summary>The kernel has something for us.</summary>
    public void OnEvents(EpollEvents events)
    {
        if (Phase == ConnectionPhase.Closed)
        {
            return;
        }

        if (Phase == ConnectionPhase.Sniffing && !TrySniff(events))
        {
            return;
        }

        if ((events & (EpollEvents.Readable | EpollEvents.Error | EpollEvents.HangUp | EpollEvents.PeerClosed)) != 0)
        {
            Receive();
        }

        if ((events & EpollEvents.Writable) != 0 && Phase != ConnectionPhase.Closed)
        {
            Flush();
        }
    }

    /// <summary>What time alone brings about.</summary>
    /// <returns>When to look again (monotonic ns).</returns>
    public long OnTime(long nowNs)
    {
        long patience = Phase switch
        {
            ConnectionPhase.Lingering => Http2Limits.LingerNs,
            ConnectionPhase.Open => long.MaxValue,
            ConnectionPhase.Sniffing => _limits.HeaderPatienceNs,
            _ => _limits.HandshakePatienceNs,
        };
        if (patience != long.MaxValue)
        {
            if (nowNs - _sinceNs >= patience)
            {
                Close();
                return long.MaxValue;
            }

            return _sinceNs + patience;
        }

        if (_blockStream != 0 && nowNs - _blockNs >= _limits.HeaderPatienceNs)
        {
            Close();
            return long.MaxValue;
        }

        long next = _blockStream != 0 ? _blockNs + _limits.HeaderPatienceNs : long.MaxValue;
        if (_warnedNs != 0 && !_goingAway)
        {
            if (nowNs - _warnedNs >= Http2Limits.WarningNs)
            {
                EndShutdown();
            }
            else
            {
                next = Math.Min(next, _warnedNs + Http2Limits.WarningNs);
            }
        }

        return Math.Min(next, KeepAlive(nowNs));
    }

    /// <summary>
    /// Asks the client to go (RFC 9113 section 6.8): first a GOAWAY that forbids no stream yet, with a ping behind it. What
    /// the client had sent before it read that is served; when its answer to the ping is here, the second GOAWAY names the
    /// last stream, and calls under way end in peace.
    /// </summary>
    public void BeginShutdown()
    {
        if (Phase is ConnectionPhase.Sniffing or ConnectionPhase.Preface or ConnectionPhase.FirstSettings)
        {
            Close();
            return;
        }

        if (Phase == ConnectionPhase.Open && !_goingAway && _warnedNs == 0)
        {
            _warnedNs = _loop.NowNs;
            WriteGoAway(int.MaxValue, Http2Error.None, default);
            WriteFrame(FrameType.Ping, 0, 0, FarewellPing);
            _loop.MarkDirty(this);
            _loop.LookAt(this);
        }
    }

    // The second GOAWAY.
    private void EndShutdown()
    {
        if (!_goingAway)
        {
            EndStreams();
            WriteGoAway(_lastServed, Http2Error.None, default);
        }
    }

    // From here on no stream is opened.
    private void EndStreams()
    {
        if (!_goingAway)
        {
            _goingAway = true;
            _lastServed = _lastStream;
        }

        _loop.MarkDirty(this);
    }

    /// <summary>Cuts the connection; handlers learn that their client has gone.</summary>
    public void Close()
    {
        if (Phase == ConnectionPhase.Closed)
        {
            return;
        }

        Phase = ConnectionPhase.Closed;
        AbandonStreams();
        _partial.Free();
        _block.Free();
        _send.Free();
        _loop.Forget(this);
        if (!IsGivenAway)
        {
            SocketCalls.Close(_socket);
            _loop.Gate.Leave();
        }
    }

    /// <summary>A handler has ended whose stream was closed before, or ends with it.</summary>
    public void CallEnded()
    {
        _calls--;
        if (_goingAway)
        {
            _loop.MarkDirty(this);
        }
    }

    private void Enter(ConnectionPhase phase)
    {
        Phase = phase;
        _sinceNs = _loop.NowNs;
        _loop.LookAt(this);
    }

    // "PRI" opens every HTTP/2 connection and no HTTP/1.1 request. The bytes stay in the kernel, so that whoever gets
    // the connection finds it untouched. Edge-triggered until then: a client that stops after "PR" must not spin us.
    private bool TrySniff(EpollEvents events)
    {
        byte* first = stackalloc byte[3];
        int seen = _sniffs ? Epoll.Receive(_socket, first, 3, peek: true) : 3;
        if (seen == -1)
        {
            return false;
        }

        bool gone = (events & (EpollEvents.PeerClosed | EpollEvents.HangUp | EpollEvents.Error)) != 0;
        if (seen <= 0)
        {
            Close();
            return false;
        }

        if (_sniffs && !"PRI"u8.StartsWith(new ReadOnlySpan<byte>(first, seen)))
        {
            IsGivenAway = _loop.GiveAway(_socket);
            Close();
            return false;
        }

        if (seen < 3)
        {
            if (gone)
            {
                Close();
            }

            return false;
        }

        _loop.Watch(_socket, EpollEvents.Readable, _tag);
        Enter(ConnectionPhase.Preface);
        WriteGreeting();
        _loop.MarkDirty(this);
        return true;
    }

    private void Receive()
    {
        byte* buffer = _loop.Received;
        int have = _partial.Length;
        _partial.Span.CopyTo(new Span<byte>(buffer, have));
        int count = Epoll.Receive(_socket, buffer + have, Http2Loop.TurnBytes);
        if (count == -1)
        {
            return;
        }

        if (count <= 0)
        {
            Close();
            return;
        }

        if (Phase == ConnectionPhase.Lingering)
        {
            return;
        }

        _readNs = _loop.NowNs;
        _partial.Free();
        int total = have + count;
        int used = Parse(buffer, total);
        if (used < total && Phase < ConnectionPhase.Lingering)
        {
            _partial.Append(new ReadOnlySpan<byte>(buffer + used, total - used));
        }
    }

    private int Parse(byte* buffer, int total)
    {
        int at = 0;
        if (Phase == ConnectionPhase.Preface)
        {
            ReadOnlySpan<byte> preface = Http2Protocol.Preface;
            var got = new ReadOnlySpan<byte>(buffer, Math.Min(total, preface.Length));
            if (!preface.StartsWith(got))
            {
                Fail(Http2Error.Protocol);
                return 0;
            }

            if (got.Length < preface.Length)
            {
                return 0;
            }

            at = preface.Length;
            Enter(ConnectionPhase.FirstSettings);
        }

        while (total - at >= Http2Protocol.FrameHeadBytes && Phase < ConnectionPhase.Lingering)
        {
            byte* head = buffer + at;
            int length = (head[0] << 16) | (head[1] << 8) | head[2];
            if (length > Http2Protocol.DefaultFrameSize)
            {
                Fail(Http2Error.FrameSize);
                break;
            }

            if (total - at - Http2Protocol.FrameHeadBytes < length)
            {
                break;
            }

            at += Http2Protocol.FrameHeadBytes + length;
            var type = (FrameType)head[3];
            int stream = ((head[5] & 0x7f) << 24) | (head[6] << 16) | (head[7] << 8) | head[8];
            bool endFollows = type == FrameType.Data && (head[4] & Http2Protocol.EndStream) == 0
                && IsEmptyEnd(buffer + at, total - at, head + 5);
            if (endFollows)
            {
                // The end of the stream in an empty frame right behind the data: taken together with it.
                at += Http2Protocol.FrameHeadBytes;
            }

            // What follows would wait for a write that this thread takes to the disk by itself.
            Carrier.IsForbiddenHere = at < total || !_loop.MayBlock;
            byte flags = (byte)(endFollows ? head[4] | Http2Protocol.EndStream : head[4]);
            OnFrame(type, flags, stream, head + Http2Protocol.FrameHeadBytes, length);
        }

        return at;
    }

    private bool IsEmptyEnd(byte* next, int left, byte* stream)
        => _blockStream == 0 && left >= Http2Protocol.FrameHeadBytes
            && next[0] == 0 && next[1] == 0 && next[2] == 0 && next[3] == (byte)FrameType.Data && next[4] == Http2Protocol.EndStream
            && new ReadOnlySpan<byte>(next + 5, 4).SequenceEqual(new ReadOnlySpan<byte>(stream, 4));

    private void AbandonStreams()
    {
        if (_streams.Count == 0)
        {
            return;
        }

        foreach (Http2Call call in _streams.Values)
        {
            call.Abandon();
        }

        _streams.Clear();
    }
}
