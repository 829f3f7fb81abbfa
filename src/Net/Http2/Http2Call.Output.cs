// The answer side of a call. See Http2Call.cs.
using System;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http2;

internal sealed partial class Http2Call
{
    private ByteQueue _out; // gate
    private RpcBuffer? _plainAnswer;
    private string? _echoedType;
    private int _httpStatus;
    private int _remaining; // of the message begun
    private int _sendWindow;
    private bool _begun; // a message or a flush: headers go first, the status comes as trailers
    private bool _headSent;
    private bool _finished;
    private bool _flushing; // gate

    /// <summary>The client has got something of an answer.</summary>
    public bool HasAnswered => _headSent;

    /// <summary>The client lets more through, or less (then the window may become negative).</summary>
    public bool TryGrowSendWindow(long change)
    {
        long window = _sendWindow + change;
        if (window > Http2Protocol.WindowMax)
        {
            return false;
        }

        _sendWindow = (int)window;
        return true;
    }

    public override void BeginMessage(int length)
    {
        Invariant.Check(_remaining == 0, "an answer message was begun inside another one");
        CountMessage();
        _remaining = length;
        Interlocked.Add(ref _server.BytesSent, length);
        if (_gzip)
        {
            Volatile.Write(ref _begun, true);
            _plainAnswer ??= new RpcBuffer();
            _plainAnswer.Clear();
            if (length == 0)
            {
                SendPacked();
            }

            return;
        }

        lock (_gate)
        {
            _begun = true;
            if (!_gone)
            {
                RpcFrame.Write(_out.Room(RpcFrame.HeaderSize + Math.Min(length, Http2Limits.StreamHigh)), length, compressed: false);
                _out.Advance(RpcFrame.HeaderSize);
            }
        }
    }

    public override void Append(ReadOnlySpan<byte> part)
    {
        _remaining -= part.Length;
        Invariant.Check(_remaining >= 0, "an answer message is longer than announced");
        if (_gzip)
        {
            _plainAnswer!.Append(part);
            if (_remaining == 0 && !part.IsEmpty)
            {
                SendPacked();
            }

            return;
        }

        lock (_gate)
        {
            if (!_gone)
            {
                _out.Append(part);
            }
        }
    }

    public override bool TakesFrameParts => !_gzip;

    public override void WriteFrames(ReadOnlySpan<byte> frames)
    {
        if (_gzip)
        {
            base.WriteFrames(frames);
            return;
        }

        Interlocked.Add(ref _server.BytesSent, frames.Length);
        lock (_gate)
        {
            _begun = true;
            if (!_gone)
            {
                _out.Append(frames);
            }
        }
    }

    public override void CountFrames(int messages)
    {
        if (!_gzip && messages != 0)
        {
            Method.CountSent(messages);
            Interlocked.Add(ref _server.BytesSent, -(long)messages * RpcFrame.HeaderSize);
        }
    }

    public override ValueTask<bool> FlushAsync()
    {
        bool full;
        lock (_gate)
        {
            _begun = true;
            if (_gone)
            {
                return new ValueTask<bool>(false);
            }

            full = _out.Length > Http2Limits.StreamHigh;
            _flushing = full;
        }

        if (_loop.IsHere)
        {
            Pump();
        }
        else
        {
            Post(CallSignals.Output);
        }

        return full ? FlushedAsync() : new ValueTask<bool>(!IsOver);
    }

    /// <summary>Puts as much of the answer into the connection's send buffer as windows and room allow. Loop only.</summary>
    public void Pump()
    {
        if (_streamClosed)
        {
            return;
        }

        bool done = false;
        bool flushed = false;
        lock (_gate)
        {
            if (!_begun)
            {
                if (!_finished)
                {
                    return;
                }

                WriteStatus(alone: true);
                done = true;
            }
            else
            {
                WriteHead();
                PumpData();
                if (_out.Length == 0 && _finished)
                {
                    WriteStatus(alone: false);
                    done = true;
                }
            }

            if (_flushing && _out.Length <= Http2Limits.StreamLow)
            {
                _flushing = false;
                flushed = true;
            }
        }

        if (flushed)
        {
            if (Method.ContinuesInPlace && !done)
            {
                _flushed.SetHere();
            }
            else
            {
                _flushed.Set();
            }
        }

        if (done)
        {
            _streamClosed = true;
            _connection.StreamDone(this, !ClientEnded);
            Recycle();
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> FlushedAsync()
    {
        while (!_gone && !IsOver)
        {
            lock (_gate)
            {
                if (!_flushing)
                {
                    return true;
                }
            }

            await _flushed.WaitAsync();
        }

        return false;
    }

    private unsafe void PumpData()
    {
        while (_out.Length > 0)
        {
            int part = Math.Min(Math.Min(_out.Length, _sendWindow), _connection.Room);
            if (part <= 0)
            {
                if (_sendWindow > 0)
                {
                    _connection.WaitForRoom(this);
                }

                return;
            }

            _connection.WriteData(Stream, new ReadOnlySpan<byte>(_out.Head, part));
            _sendWindow -= part;
            _out.Consume(part);
        }
    }

    private void WriteHead()
    {
        if (_headSent)
        {
            return;
        }

        _headSent = true;
        HeaderWriter headers = BeginBlock();
        headers.Status(200);
        WriteContentType(ref headers);
        if (_gzip)
        {
            headers.Header("grpc-encoding"u8, "gzip"u8);
        }

        _connection.EndHeaders(Stream, headers.Length, endStream: false);
    }

    private void WriteStatus(bool alone)
    {
        HeaderWriter headers = BeginBlock();
        if (alone)
        {
            _headSent = true;
            headers.Status(_httpStatus);
            WriteContentType(ref headers);
        }

        int code = (int)Status;
        Span<byte> digits = [(byte)('0' + (code / 10)), (byte)('0' + (code % 10))];
        headers.Header("grpc-status"u8, code < 10 ? digits[1..] : digits);
        if (alone || code != 0)
        {
            headers.Header("grpc-message"u8, RpcText.EncodeMessage(StatusMessage));
        }

        _connection.EndHeaders(Stream, headers.Length, endStream: true);
    }

    private HeaderWriter BeginBlock()
    {
        var headers = new HeaderWriter(_connection.BeginHeaders());
        if (_connection.TakeTableSizeNotice())
        {
            headers.TableSizeZero();
        }

        return headers;
    }

    private void WriteContentType(ref HeaderWriter headers)
    {
        if (_echoedType is null)
        {
            headers.ContentType("application/grpc"u8);
            return;
        }

        Span<byte> bytes = stackalloc byte[HeaderWriter.ValueMax];
        int length = System.Text.Encoding.Latin1.GetBytes(_echoedType.AsSpan(0, Math.Min(_echoedType.Length, 256)), bytes);
        headers.ContentType(bytes[..length]);
    }

    private void SendPacked()
    {
        var packed = new RpcBuffer();
        packed.Pack(_plainAnswer!.Written.Span);
        lock (_gate)
        {
            if (!_gone)
            {
                RpcFrame.Write(_out.Room(RpcFrame.HeaderSize), packed.Length, compressed: true);
                _out.Advance(RpcFrame.HeaderSize);
                _out.Append(packed.Written.Span);
            }
        }

        packed.Release();
        _plainAnswer.Clear();
    }
}
