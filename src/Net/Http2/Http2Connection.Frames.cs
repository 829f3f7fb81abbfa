// What each frame does. See Http2Connection.cs.
using System;
using System.Buffers.Binary;
using Cairn.Base;

namespace Cairn.Net.Http2;

internal sealed unsafe partial class Http2Connection
{
    private int _receiveWindow = Http2Limits.ConnectionWindow;
    private int _uncredited;
    private long _annoyanceNs;
    private long _pingSentNs; // ours, unanswered; 0 none
    private long _pingSeenNs; // the client's last
    private int _pingStrikes;
    private RecentStreams _cut = new(); // we ended them while their client was still sending
    private RecentStreams _ended = new(); // their client had ended them, or reset them

    /// <summary>What the client may still do to us without being part of a call.</summary>
    private int Annoyance { get; set; }

    /// <summary>Something was sent that belongs to a call: pings are welcome again.</summary>
    private bool PingsForgiven { get; set; } = true;

    /// <summary>The client may send so many bytes more on a stream.</summary>
    public void CreditStream(int stream, int bytes)
    {
        WriteWindowUpdate(stream, bytes);
        _loop.MarkDirty(this);
    }

    private static ReadOnlySpan<byte> FarewellPing => "good-bye"u8;

    /// <summary>Ends a stream because of what the client did.</summary>
    public void FailStream(Http2Call call, Http2Error error)
    {
        WriteReset(call.Stream, error);
        Remember(call.Stream, !call.ClientEnded);
        _ = _streams.Remove(call.Stream);
        call.Abandon();
        _loop.MarkDirty(this);
    }

    /// <summary>Takes a finished stream out; a client that is still sending is told to stop.</summary>
    public void StreamDone(Http2Call call, bool clientStillSends)
    {
        if (clientStillSends)
        {
            WriteReset(call.Stream, Http2Error.None);
        }

        Remember(call.Stream, clientStillSends);

        _ = _streams.Remove(call.Stream);
    }

    /// <summary>True when so many bytes of requests may be held in addition.</summary>
    public bool MayBuffer(int bytes) => System.Threading.Volatile.Read(ref _buffered) + bytes <= _limits.BufferedMax;

    private void OnFrame(FrameType type, byte flags, int stream, byte* payload, int length)
    {
        if (_blockStream != 0 && (type != FrameType.Continuation || stream != _blockStream))
        {
            Fail(Http2Error.Protocol);
            return;
        }

        if (Phase == ConnectionPhase.FirstSettings)
        {
            if (type != FrameType.Settings || (flags & Http2Protocol.Ack) != 0)
            {
                Fail(Http2Error.Protocol);
                return;
            }

            Enter(ConnectionPhase.Open);
        }

        var bytes = new ReadOnlySpan<byte>(payload, length);
        switch (type)
        {
            case FrameType.Data:
                OnData(flags, stream, payload, length);
                break;
            case FrameType.Headers:
                OnHeaders(flags, stream, bytes);
                break;
            case FrameType.Continuation:
                OnContinuation(flags, stream, bytes);
                break;
            case FrameType.ResetStream:
                OnReset(stream, length);
                break;
            case FrameType.Settings:
                OnSettings(flags, stream, bytes);
                break;
            case FrameType.Ping:
                OnPing(flags, stream, bytes);
                break;
            case FrameType.WindowUpdate:
                OnWindowUpdate(stream, bytes);
                break;
            case FrameType.Priority:
                if (stream == 0 || length != 5)
                {
                    Fail(stream == 0 ? Http2Error.Protocol : Http2Error.FrameSize);
                    return;
                }

                Annoy(1);
                break;
            case FrameType.PushPromise:
                Fail(Http2Error.Protocol);
                break;
            case FrameType.GoAway:
                if (stream != 0 || length < 8)
                {
                    Fail(stream != 0 ? Http2Error.Protocol : Http2Error.FrameSize);
                    return;
                }

                // The client opens no streams any more; ours go on to their end.
                EndStreams();
                break;
            default:
                Annoy(1);
                break;
        }
    }

    private void OnData(byte flags, int stream, byte* payload, int length)
    {
        Http2Error bad = Strip(flags, ref payload, ref length, hasPriority: false, out int whole);
        if (stream == 0 || bad != Http2Error.None)
        {
            Fail(stream == 0 ? Http2Error.Protocol : bad);
            return;
        }

        if (whole > _receiveWindow)
        {
            Fail(Http2Error.FlowControl);
            return;
        }

        // Given back as it arrives: what is held is bounded by the streams' own windows and MayBuffer.
        _receiveWindow -= whole;
        _uncredited += whole;
        if (_uncredited >= Http2Limits.ConnectionWindow / 4)
        {
            WriteWindowUpdate(0, _uncredited);
            _receiveWindow += _uncredited;
            _uncredited = 0;
            _loop.MarkDirty(this);
        }

        bool end = (flags & Http2Protocol.EndStream) != 0;
        if (length == 0 && !end)
        {
            Annoy(10);
        }

        if (!_streams.TryGetValue(stream, out Http2Call? call))
        {
            if (stream > _lastStream || (stream & 1) == 0)
            {
                Fail(Http2Error.Protocol);
                return;
            }

            OnLateFrame(stream);
            return;
        }

        if (call.ClientEnded)
        {
            FailStream(call, Http2Error.StreamClosed);
            return;
        }

        if (!call.TryTakeWindow(whole))
        {
            FailStream(call, Http2Error.FlowControl);
            return;
        }

        call.OnData(payload, length, whole, end);
    }

    private void OnHeaders(byte flags, int stream, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            byte* payload = start;
            int length = bytes.Length;
            Http2Error bad = Strip(flags, ref payload, ref length, (flags & Http2Protocol.HasPriority) != 0, out _);
            if ((stream & 1) == 0 || bad != Http2Error.None)
            {
                Fail((stream & 1) == 0 ? Http2Error.Protocol : bad);
                return;
            }

            if ((flags & Http2Protocol.EndHeaders) != 0)
            {
                OnHeaderBlock(flags, stream, new ReadOnlySpan<byte>(payload, length));
                return;
            }

            _blockStream = stream;
            _blockFlags = flags;
            _blockNs = _loop.NowNs;
            _continuations = 0;
            _block.Append(new ReadOnlySpan<byte>(payload, length));
            _loop.LookAt(this);
        }
    }

    private void OnContinuation(byte flags, int stream, ReadOnlySpan<byte> bytes)
    {
        if (_blockStream == 0)
        {
            Fail(Http2Error.Protocol);
            return;
        }

        if (++_continuations > Http2Limits.ContinuationsMax || _block.Length + bytes.Length > Http2Limits.HeaderListMax)
        {
            Fail(Http2Error.EnhanceYourCalm);
            return;
        }

        _block.Append(bytes);
        if ((flags & Http2Protocol.EndHeaders) != 0)
        {
            _blockStream = 0;
            OnHeaderBlock(_blockFlags, stream, _block.Span);
            _block.Free();
        }
    }

    private void OnHeaderBlock(byte flags, int stream, ReadOnlySpan<byte> block)
    {
        RequestHead head = _loop.Head;
        head.Clear();
        if (!_hpack.TryDecode(block, _loop.Scratch, head))
        {
            Fail(Http2Error.Compression);
            return;
        }

        bool end = (flags & Http2Protocol.EndStream) != 0;
        if (_streams.TryGetValue(stream, out Http2Call? open))
        {
            OnTrailers(open, head, end);
            return;
        }

        if (stream <= _lastStream)
        {
            // Trailers that crossed our end of the stream, or a number that goes backwards (RFC 9113 section 5.1.1).
            if (_cut.Contains(stream))
            {
                Annoy(10);
            }
            else
            {
                Fail(_ended.Contains(stream) ? Http2Error.StreamClosed : Http2Error.Protocol);
            }

            return;
        }

        _lastStream = stream;
        if (_goingAway)
        {
            // Beyond the last stream we named: the client knows that it was not served.
            RefuseStream(stream, Http2Error.RefusedStream, 1);
            return;
        }

        if (head.IsTooLarge || head.IsMalformed || !head.IsComplete)
        {
            RefuseStream(stream, head.IsTooLarge ? Http2Error.EnhanceYourCalm : Http2Error.Protocol, 10);
            return;
        }

        if (_calls >= _limits.MaxStreams)
        {
            RefuseStream(stream, Http2Error.RefusedStream, 10);
            return;
        }

        _calls++;
        Http2Call call = _loop.Rent();
        _streams.Add(stream, call);
        call.Open(this, stream, end, _clientStreamWindow);
        call.Admit(head);
    }

    private void RefuseStream(int stream, Http2Error error, int cost)
    {
        WriteReset(stream, error);
        Remember(stream, clientStillSends: true);
        Annoy(cost);
    }

    private void OnTrailers(Http2Call call, RequestHead head, bool end)
    {
        if (call.ClientEnded)
        {
            FailStream(call, Http2Error.StreamClosed);
        }
        else if (!end || head.HasPseudo || head.IsMalformed)
        {
            FailStream(call, Http2Error.Protocol);
        }
        else
        {
            call.OnData(null, 0, 0, end: true);
        }
    }

    private void OnReset(int stream, int length)
    {
        if (length != 4)
        {
            Fail(Http2Error.FrameSize);
            return;
        }

        if (stream == 0 || stream > _lastStream)
        {
            Fail(Http2Error.Protocol);
            return;
        }

        if (_streams.Remove(stream, out Http2Call? call))
        {
            // Who has seen part of an answer, or has waited, is an honest client that lost its patience.
            bool hasty = !call.HasAnswered && _loop.NowNs - call.OpenedNs < Http2Limits.HastyNs;
            Annoy(hasty ? 5 : 0);
            Remember(stream, clientStillSends: false);
            call.Abandon();
        }
        else
        {
            Annoy(1);
        }
    }

    private void OnSettings(byte flags, int stream, ReadOnlySpan<byte> bytes)
    {
        if (stream != 0)
        {
            Fail(Http2Error.Protocol);
            return;
        }

        bool ack = (flags & Http2Protocol.Ack) != 0;
        if (ack ? bytes.Length != 0 : bytes.Length % 6 != 0)
        {
            Fail(Http2Error.FrameSize);
            return;
        }

        if (ack)
        {
            Annoy(1);
            return;
        }

        Annoy(10 + (_streams.Count / 64));
        for (; !bytes.IsEmpty && Phase == ConnectionPhase.Open; bytes = bytes[6..])
        {
            Apply((Http2Setting)BinaryPrimitives.ReadUInt16BigEndian(bytes), BinaryPrimitives.ReadUInt32BigEndian(bytes[2..]));
        }

        if (Phase == ConnectionPhase.Open)
        {
            WriteFrame(FrameType.Settings, Http2Protocol.Ack, 0, default);
            _loop.MarkDirty(this);
        }
    }

    private void Apply(Http2Setting setting, uint value)
    {
        switch (setting)
        {
            case Http2Setting.HeaderTableSize:
                _saysTableSize = true;
                break;
            case Http2Setting.EnablePush when value > 1:
                Fail(Http2Error.Protocol);
                break;
            case Http2Setting.InitialWindowSize:
                if (value > Http2Protocol.WindowMax)
                {
                    Fail(Http2Error.FlowControl);
                    return;
                }

                OnInitialWindow((int)value);
                break;
            case Http2Setting.MaxFrameSize:
                if (value is < Http2Protocol.DefaultFrameSize or > (1 << 24) - 1)
                {
                    Fail(Http2Error.Protocol);
                    return;
                }

                _clientFrameSize = (int)value;
                break;
            default:
                break;
        }
    }

    private void OnInitialWindow(int value)
    {
        long change = (long)value - _clientStreamWindow;
        _clientStreamWindow = value;
        foreach (Http2Call call in _streams.Values)
        {
            if (!call.TryGrowSendWindow(change))
            {
                Fail(Http2Error.FlowControl);
                return;
            }

            if (change > 0)
            {
                WaitForRoom(call);
            }
        }
    }

    // Pings keep a connection alive through middle boxes; more often than agreed they are an attack. The rules are those
    // of gRPC servers in Go: strikes count only while nothing of ours has been sent in between.
    private void OnPing(byte flags, int stream, ReadOnlySpan<byte> bytes)
    {
        if (stream != 0 || bytes.Length != 8)
        {
            Fail(stream != 0 ? Http2Error.Protocol : Http2Error.FrameSize);
            return;
        }

        if ((flags & Http2Protocol.Ack) != 0)
        {
            _pingSentNs = 0;
            if (_warnedNs != 0 && bytes.SequenceEqual(FarewellPing))
            {
                EndShutdown();
            }

            Annoy(1);
            return;
        }

        long now = _loop.NowNs;
        if (PingsForgiven)
        {
            PingsForgiven = false;
            _pingStrikes = 0;
        }
        else if (_pingSeenNs != 0 && now - _pingSeenNs < (_streams.Count == 0 ? Http2Limits.PingIdleNs : _limits.PingMinNs)
            && ++_pingStrikes > Http2Limits.PingStrikesMax)
        {
            Fail(Http2Error.EnhanceYourCalm, "too_many_pings"u8);
            return;
        }

        _pingSeenNs = now;
        WriteFrame(FrameType.Ping, Http2Protocol.Ack, 0, bytes);
        _loop.MarkDirty(this);
    }

    private void OnWindowUpdate(int stream, ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != 4)
        {
            Fail(Http2Error.FrameSize);
            return;
        }

        int step = BinaryPrimitives.ReadInt32BigEndian(bytes) & int.MaxValue;
        if (stream == 0)
        {
            if (step == 0 || _clientWindow > Http2Protocol.WindowMax - step)
            {
                Fail(step == 0 ? Http2Error.Protocol : Http2Error.FlowControl);
                return;
            }

            _clientWindow += step;
            _loop.MarkDirty(this);
            return;
        }

        if (!_streams.TryGetValue(stream, out Http2Call? call))
        {
            if (stream > _lastStream || (stream & 1) == 0)
            {
                Fail(Http2Error.Protocol);
            }

            return;
        }

        if (step == 0 || !call.TryGrowSendWindow(step))
        {
            FailStream(call, step == 0 ? Http2Error.Protocol : Http2Error.FlowControl);
            return;
        }

        WaitForRoom(call);
    }

    // Takes padding and the priority fields off. Whole: the length that counts for flow control.
    private static Http2Error Strip(byte flags, ref byte* payload, ref int length, bool hasPriority, out int whole)
    {
        whole = length;
        bool padded = (flags & Http2Protocol.Padded) != 0;
        int head = (padded ? 1 : 0) + (hasPriority ? 5 : 0);
        if (length < head)
        {
            return Http2Error.FrameSize;
        }

        int padding = padded ? *payload : 0;
        payload += head;
        length -= head;
        if (padding > length)
        {
            return Http2Error.Protocol;
        }

        length -= padding;
        return Http2Error.None;
    }

    // Frames that are cheap to send and not part of a call. An honest client never comes near the limit.
    private void Annoy(int cost)
    {
        Annoyance -= cost;
        if (Annoyance >= 0)
        {
            return;
        }

        long now = _loop.NowNs;
        long forgiven = Math.Min(Http2Limits.AnnoyanceMax, (now - _annoyanceNs) * Http2Limits.AnnoyancePerSecond / 1_000_000_000);
        _annoyanceNs = now;
        Annoyance += (int)forgiven;
        if (Annoyance < 0)
        {
            Fail(Http2Error.EnhanceYourCalm);
        }
    }

    private long KeepAlive(long nowNs)
    {
        if (_limits.KeepAliveNs == long.MaxValue)
        {
            return long.MaxValue;
        }

        if (_pingSentNs != 0)
        {
            if (_readNs > _pingSentNs)
            {
                _pingSentNs = 0; // it speaks: alive
            }
            else if (nowNs - _pingSentNs >= _limits.KeepAliveTimeoutNs)
            {
                Close();
                return long.MaxValue;
            }
            else
            {
                return _pingSentNs + _limits.KeepAliveTimeoutNs;
            }
        }

        if (nowNs - _readNs < _limits.KeepAliveNs)
        {
            return _readNs + _limits.KeepAliveNs;
        }

        _pingSentNs = nowNs;
        WriteFrame(FrameType.Ping, 0, 0, "cairn-ka"u8);
        _loop.MarkDirty(this);
        return nowNs + _limits.KeepAliveTimeoutNs;
    }

    // DATA of a stream that is no more. What crossed our own end of it is nobody's fault; after its own end or reset a
    // client must know better (RFC 9113 section 5.1).
    private void OnLateFrame(int stream)
    {
        if (!_cut.Contains(stream))
        {
            WriteReset(stream, Http2Error.StreamClosed);
            _loop.MarkDirty(this);
            Annoy(5);
        }

        Annoy(1);
    }

    private void Remember(int stream, bool clientStillSends) => (clientStillSends ? ref _cut : ref _ended).Add(stream);

    /// <summary>Ends the connection because of what the client did: GOAWAY with the reason, then silence.</summary>
    private void Fail(Http2Error error, ReadOnlySpan<byte> reason = default)
    {
        if (Phase >= ConnectionPhase.Lingering)
        {
            return;
        }

        Invariant.Check(error != Http2Error.None, "a connection fails for a reason");
        WriteGoAway(_goingAway ? _lastServed : _lastStream, error, reason);
        Enter(ConnectionPhase.Lingering);
        AbandonStreams();
        _loop.MarkDirty(this);
    }
}
