// The request side of a call. See Http2Call.cs.
//
// In place   The one message of a unary call usually lies complete in the loop's receive buffer; steps read it there and it is copied
//            only if the call has to wait before it has let go of it. A message in pieces is put together in _in and then becomes
//            the handler's (_message): what is freed when the client goes is only what no handler can be reading.
using System;
using System.IO;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http2;

internal sealed partial class Http2Call
{
    private const int CreditStep = 64 * 1024;

    private ByteQueue _in; // gate
    private ByteQueue _message; // a message taken off _in, the handler's
    private unsafe byte* _request;
    private int _requestLength;
    private bool _requestIsForeign; // lies in the loop's receive buffer
    private int _held; // of _message, as counted by the connection
    private bool _packed; // the message in _request
    private bool _unpacked;
    private bool _gzip;
    private int _receiveWindow;
    private int _uncredited; // loop
    private int _consumed; // by the handler, not yet given back
    private long _received;
    private long _contentLength;

    /// <summary>The client has ended its side. Written by the loop.</summary>
    public bool ClientEnded { get; private set; }

    public override unsafe ReadOnlySpan<byte> Request
        => _unpacked ? _assembled.Written.Span : new ReadOnlySpan<byte>(_request, _requestLength);

    /// <summary>Counts received bytes against the stream's window.</summary>
    public bool TryTakeWindow(int bytes)
    {
        if (bytes > _receiveWindow)
        {
            return false;
        }

        _receiveWindow -= bytes;
        return true;
    }

    /// <summary>Bytes of the body. Loop only.</summary>
    /// <param name="payload">In the receive buffer.</param>
    /// <param name="length">Bytes without padding.</param>
    /// <param name="whole">Bytes that count for flow control.</param>
    /// <param name="end">The client has nothing more to say.</param>
    public unsafe void OnData(byte* payload, int length, int whole, bool end)
    {
        _received += length;
        if (_contentLength >= 0 && (_received > _contentLength || (end && _received != _contentLength)))
        {
            _connection.FailStream(this, Http2Error.Protocol);
            return;
        }

        switch (_phase)
        {
            case CallPhase.Message:
                ClientEnded = end;
                OnMessageBytes(payload, length, whole);
                break;
            case CallPhase.Stream:
                if (!_connection.MayBuffer(length))
                {
                    _connection.FailStream(this, Http2Error.EnhanceYourCalm);
                    return;
                }

                lock (_gate)
                {
                    _in.Append(new ReadOnlySpan<byte>(payload, length));
                    _connection.AddBuffered(length);
                    ClientEnded = end;
                }

                // Padding is nobody's to consume.
                Credit(whole - length);
                if (Method.ContinuesInPlace)
                {
                    _readable.SetHere();
                }
                else
                {
                    _readable.Set();
                }

                break;
            default:
                ClientEnded = end;
                break;
        }
    }

    public override unsafe void ReleaseRequest()
    {
        _request = null;
        _requestLength = 0;
        _unpacked = false;
        if (_message.Length != 0)
        {
            _message.Free();
        }

        if (_held != 0)
        {
            _connection.AddBuffered(-_held);
            _held = 0;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<bool> ReadAsync()
    {
        ReleaseRequest();
        while (!IsOver && !_gone)
        {
            if (TryTake(out bool taken))
            {
                return taken;
            }

            await _readable.WaitAsync();
        }

        return false;
    }

    // False: nothing yet. Otherwise whether there is a message.
    private unsafe bool TryTake(out bool taken)
    {
        taken = false;
        bool compressed;
        lock (_gate)
        {
            ReadOnlySpan<byte> bytes = _in.Span;
            switch (RpcFrame.TryRead(bytes, _server.MaxMessageSize, out uint length, out compressed))
            {
                case RpcFrameState.Incomplete:
                    if (ClientEnded && bytes.Length >= RpcFrame.HeaderSize)
                    {
                        Fail(RpcCode.Unknown, RpcWords.UnexpectedEof);
                    }

                    return ClientEnded;
                case RpcFrameState.TooLarge:
                    Fail(RpcCode.ResourceExhausted, RpcWords.TooLarge(length, _server.MaxMessageSize));
                    return true;
                case RpcFrameState.BadFlag:
                    Fail(RpcCode.Internal, RpcWords.BadFlag(length));
                    return true;
                default:
                    _message.Append(bytes.Slice(RpcFrame.HeaderSize, (int)length));
                    int whole = RpcFrame.HeaderSize + (int)length;
                    _in.Consume(whole);
                    _connection.AddBuffered(-RpcFrame.HeaderSize);
                    _held = (int)length;
                    _consumed += whole;
                    break;
            }

            if (_consumed >= CreditStep)
            {
                Post(CallSignals.Consumed);
            }
        }

        _request = _message.Head;
        _requestLength = _message.Length;
        taken = Accept(compressed);
        return true;
    }

    private unsafe void OnMessageBytes(byte* payload, int length, int whole)
    {
        var bytes = new ReadOnlySpan<byte>(payload, length);
        bool inPlace = _in.Length == 0;
        if (!inPlace)
        {
            _in.Append(bytes);
            _connection.AddBuffered(length);
            bytes = _in.Span;
        }

        switch (RpcFrame.TryRead(bytes, _server.MaxMessageSize, out uint announced, out bool compressed))
        {
            case RpcFrameState.Complete:
                if (!inPlace)
                {
                    _held = _in.Length;
                    _message = _in;
                    _in = new ByteQueue(_loop.Pool);
                }

                _request = (inPlace ? payload : _message.Head) + RpcFrame.HeaderSize;
                _requestLength = (int)announced;
                _requestIsForeign = inPlace;
                _packed = compressed;
                if (compressed || announced > Http2Limits.LightRequest)
                {
                    RunElsewhere(checks: true);
                }
                else if (Accept(compressed))
                {
                    RunHandler();
                }
                else
                {
                    Finish();
                }

                break;
            case RpcFrameState.TooLarge:
                Fail(RpcCode.ResourceExhausted, RpcWords.TooLarge(announced, _server.MaxMessageSize));
                Finish();
                break;
            case RpcFrameState.BadFlag:
                Fail(RpcCode.Internal, RpcWords.BadFlag(announced));
                Finish();
                break;
            default:
                if (inPlace)
                {
                    _in.Append(bytes);
                    _connection.AddBuffered(length);
                }

                if (ClientEnded)
                {
                    LackMessage();
                }
                else if (!_connection.MayBuffer(0))
                {
                    _connection.FailStream(this, Http2Error.EnhanceYourCalm);
                }
                else
                {
                    Credit(whole);
                }

                break;
        }
    }

    // Counts the message in _request and unpacks it.
    private unsafe bool Accept(bool compressed)
    {
        if (compressed)
        {
            if (!_gzip)
            {
                Fail(RpcCode.Internal, RpcWords.FlagWithoutEncoding);
                return false;
            }

            try
            {
                if (!_assembled.TryUnpack(new ReadOnlySpan<byte>(_request, _requestLength).ToArray(), _server.MaxMessageSize))
                {
                    Fail(RpcCode.ResourceExhausted, RpcWords.TooLargeUnpacked(_server.MaxMessageSize));
                    return false;
                }
            }
            catch (InvalidDataException)
            {
                Fail(RpcCode.Internal, RpcWords.BadPacking);
                return false;
            }

            _unpacked = true;
        }

        Method.CountReceived();
        Interlocked.Add(ref _server.BytesReceived, Request.Length);
        return true;
    }

    // The receive buffer is about to be used for something else, or the request to be read on another thread. Not under
    // the gate: the call is deaf, so nobody else touches these.
    private unsafe void KeepRequest()
    {
        if (_request != null && !_unpacked && _requestIsForeign)
        {
            _message.Append(new ReadOnlySpan<byte>(_request, _requestLength));
            _request = _message.Head;
            _held = _requestLength;
            _connection.AddBuffered(_held);
        }

        _requestIsForeign = false;
    }

    private void Credit(int bytes)
    {
        _uncredited += bytes;
        if (_uncredited >= _loop.Limits.StreamWindow / 4 && !ClientEnded)
        {
            _receiveWindow += _uncredited;
            _connection.CreditStream(Stream, _uncredited);
            _uncredited = 0;
        }
    }

    private void CreditConsumed()
    {
        if (_streamClosed)
        {
            return;
        }

        int consumed;
        lock (_gate)
        {
            consumed = _consumed;
            _consumed = 0;
        }

        Credit(consumed);
    }

    // Gate held, or nobody else left.
    private void FreeInput()
    {
        _connection?.AddBuffered(-_in.Length);
        _in.Free();
    }
}
