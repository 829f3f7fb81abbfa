// KestrelCall: a gRPC call over one HTTP/2 stream of Kestrel.
//
// Why        Kestrel keeps the objects of closed streams per connection and hands them out again; this object is
//            kept with them (KestrelExchange), so a call in steady state allocates nothing of ours. The features
//            are looked up once per stream object, not once per call.
// Thread     Kestrel runs one call of a stream object at a time.
using System;
using System.Buffers;
using System.IO;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;

namespace Cairn.Net.Rpc;

/// <summary>The Kestrel side of <see cref="RpcCall"/>.</summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage(
    "Design", "CA1001", Justification = "reused, never disposed; Finish disposes the sources of each call")]
internal sealed class KestrelCall : RpcCall
{
    private readonly RpcServerState _server;
    private readonly IHttpRequestFeature _request;
    private readonly IHttpResponseFeature _response;
    private readonly IFeatureCollection _features;
    private readonly RpcBuffer _assembled = new();

    private PipeReader? _reader;
    private PipeWriter? _writer;
    private ReadOnlyMemory<byte> _message;
    private SequencePosition _heldEnd;
    private bool _holding;
    private RpcBuffer? _plainAnswer;
    private bool _gzip;
    private string? _echoedType;
    private bool _begun;
    private int _remaining;
    private CancellationTokenSource? _deadlineSource;
    private CancellationTokenSource? _cancelled;
    private RpcSignal? _signal;
    private CallEnd? _end;
    private CancellationTokenRegistration _goneRegistration;
    private bool _over;

    public KestrelCall(RpcServerState server, IFeatureCollection features)
    {
        _server = server;
        _features = features;
        _request = features.GetRequiredFeature<IHttpRequestFeature>();
        _response = features.GetRequiredFeature<IHttpResponseFeature>();
    }

    public override ReadOnlySpan<byte> Request => _message.Span;

    public override string? Token => Metadata("token") ?? Metadata("authorization");

    public override bool RequiresLeader => Metadata("hasleader") == "true";

    public override string? ClientApiVersion => Metadata("client-api-version");

    public override CancellationToken Cancelled
    {
        get
        {
            if (_cancelled is null)
            {
                CancellationToken aborted = _features.GetRequiredFeature<IHttpRequestLifetimeFeature>().RequestAborted;
                _cancelled = CancellationTokenSource.CreateLinkedTokenSource(aborted);
                if (DeadlineNs != long.MaxValue)
                {
                    long left = Math.Max(0, DeadlineNs - _server.Clock.NowNs) / 1_000_000;
                    _deadlineSource = new CancellationTokenSource(TimeSpan.FromMilliseconds(Math.Min(left, int.MaxValue - 1)));
                    _deadlineSource.Token.UnsafeRegister(static o => ((CancellationTokenSource)o!).Cancel(), _cancelled);
                }
            }

            return _cancelled.Token;
        }
    }

    /// <summary>Serves the stream's request to its end. Faults only when the connection itself is broken.</summary>
    public async Task RunAsync()
    {
        if (!TryAdmit())
        {
            return;
        }

        RpcMethod method = Method;
        _server.CountStarted(method, ClientApiVersion);
        try
        {
            bool ready = true;
            if (method.HasSingleRequest)
            {
                ValueTask<bool> read = ReadAsync();
                ready = read.IsCompletedSuccessfully ? read.Result : await read;
                if (!ready && Status == RpcCode.Ok)
                {
                    // The words of etcd's server for a stream that ends before its message.
                    Fail(RpcCode.Unknown, RpcWords.Eof);
                }
            }

            if (ready && DeadlineNs <= ReceivedNs)
            {
                Fail(RpcCode.DeadlineExceeded, "context deadline exceeded");
            }
            else if (ready && method.Steps is not null)
            {
                RpcStep step = method.Steps(this);
                while (step.Resume is not null)
                {
                    ErrorCode outcome = step.Wait.IsCompletedSuccessfully ? step.Wait.Result : await step.Wait;
                    step = step.Resume(this, step.State!, outcome);
                }
            }
            else if (ready)
            {
                if (method.MayWait)
                {
                    EnterStreams();
                }

                ValueTask handled = method.Handler!(this);
                if (!handled.IsCompletedSuccessfully)
                {
                    await handled;
                }
            }
        }
        catch (Exception e) when (IsGone(e))
        {
            // The client reset the stream or hung up; nobody reads the answer.
            bool late = _deadlineSource is { IsCancellationRequested: true } || _server.Clock.NowNs >= DeadlineNs;
            Fail(late ? RpcCode.DeadlineExceeded : RpcCode.Canceled, late ? "context deadline exceeded" : "context canceled");
        }
        catch (Exception e)
        {
            RpcLog.HandlerFailed(_server.Logger, method.Path, e);
            Fail(RpcCode.Internal, RpcWords.InternalError);
        }

        if (_signal is not null)
        {
            LeaveStreams();
        }

        Finish(method);
    }

    public override bool IsOver => Volatile.Read(ref _over);

    public override ValueTask WaitAsync() => IsOver ? ValueTask.CompletedTask : _signal!.WaitAsync();

    public override void Notify() => _signal?.Set();

    public override void End(RpcCode code, string message)
    {
        if (Interlocked.CompareExchange(ref _end, new CallEnd(code, message), null) is null)
        {
            Volatile.Write(ref _over, true);
            _signal!.Set();
            try
            {
                _writer!.CancelPendingFlush();
                _reader!.CancelPendingRead();
            }
            catch (Exception e) when (IsGone(e) || e is ObjectDisposedException)
            {
                // The connection has broken: Kestrel ends what is pending by itself and lets nobody cancel it.
            }
        }
    }

    public override void ReleaseRequest()
    {
        _message = default;
        if (_holding)
        {
            _holding = false;
            _reader!.AdvanceTo(_heldEnd);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<bool> ReadAsync()
    {
        ReleaseRequest();
        PipeReader reader = _reader ??= _features.GetRequiredFeature<IRequestBodyPipeFeature>().Reader;
        while (!IsOver)
        {
            ReadResult result;
            try
            {
                result = await reader.ReadAsync();
            }
            catch (Exception e) when (_signal is not null && IsGone(e))
            {
                End(RpcCode.Canceled, "context canceled");
                return false;
            }

            ReadOnlySequence<byte> body = result.Buffer;
            switch (RpcFrame.TryRead(body, _server.MaxMessageSize, out uint length, out bool compressed))
            {
                case RpcFrameState.Complete:
                    return Take(body.Slice(RpcFrame.HeaderSize, length), compressed);
                case RpcFrameState.TooLarge:
                    reader.AdvanceTo(body.Start, body.End);
                    Fail(RpcCode.ResourceExhausted, RpcWords.TooLarge(length, _server.MaxMessageSize));
                    return false;
                case RpcFrameState.BadFlag:
                    reader.AdvanceTo(body.Start, body.End);
                    Fail(RpcCode.Internal, RpcWords.BadFlag(length));
                    return false;
                default:
                    // Half a header counts as nothing: etcd says "EOF" to both.
                    bool empty = body.Length < RpcFrame.HeaderSize;
                    reader.AdvanceTo(body.Start, body.End);
                    if (!result.IsCompleted && !result.IsCanceled)
                    {
                        continue;
                    }

                    if (!empty && !result.IsCanceled)
                    {
                        Fail(RpcCode.Unknown, RpcWords.UnexpectedEof);
                    }

                    return false;
            }
        }

        return false;
    }

    public override void BeginMessage(int length)
    {
        Invariant.Check(_remaining == 0, "an answer message was begun inside another one");
        Start();
        CountMessage();
        _remaining = length;
        Interlocked.Add(ref _server.BytesSent, length);
        if (_gzip)
        {
            _plainAnswer ??= new RpcBuffer();
            _plainAnswer.Clear();
            if (length == 0)
            {
                SendPacked();
            }

            return;
        }

        Span<byte> header = _writer!.GetSpan(RpcFrame.HeaderSize);
        RpcFrame.Write(header, length, compressed: false);
        _writer.Advance(RpcFrame.HeaderSize);
    }

    public override void Append(ReadOnlySpan<byte> part)
    {
        _remaining -= part.Length;
        Invariant.Check(_remaining >= 0, "an answer message is longer than announced");
        if (!_gzip)
        {
            _writer!.Write(part);
            return;
        }

        _plainAnswer!.Append(part);
        if (_remaining == 0 && !part.IsEmpty)
        {
            SendPacked();
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

        Start();
        _writer!.Write(frames);
        Interlocked.Add(ref _server.BytesSent, frames.Length);
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
        Start();
        ValueTask<FlushResult> flush = _writer!.FlushAsync(_signal is null && _cancelled is not null ? _cancelled.Token : default);
        if (flush.IsCompletedSuccessfully)
        {
            FlushResult result = flush.Result;
            return new ValueTask<bool>(!result.IsCompleted && !result.IsCanceled);
        }

        return FlushedAsync(flush);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<bool> FlushedAsync(ValueTask<FlushResult> flush)
    {
        try
        {
            FlushResult result = await flush;
            return !result.IsCompleted && !result.IsCanceled;
        }
        catch (Exception e) when (_signal is not null && IsGone(e))
        {
            return false;
        }
    }

    // Kestrel keeps this object for later calls of the connection: an end must never reach the wrong one, so the set
    // is left before the object is free again.
    private void EnterStreams()
    {
        _reader ??= _features.GetRequiredFeature<IRequestBodyPipeFeature>().Reader;
        _writer ??= _features.GetRequiredFeature<IHttpResponseBodyFeature>().Writer;
        _end = null;
        _over = false;
        _signal = new RpcSignal();
        _server.Streams.Add(this);
        _goneRegistration = Cancelled.UnsafeRegister(static o => ((KestrelCall)o!).Gone(), this);
    }

    private void LeaveStreams()
    {
        _goneRegistration.Dispose(); // waits for Gone on another thread, so that it cannot meet the next call
        _server.Streams.Remove(this);
        if (Interlocked.Exchange(ref _end, CallEnd.None) is { } end)
        {
            Fail(end.Code, end.Message);
        }

        _signal = null;
        _over = false;
    }

    private void Gone()
    {
        bool late = _deadlineSource is { IsCancellationRequested: true };
        End(late ? RpcCode.DeadlineExceeded : RpcCode.Canceled, late ? "context deadline exceeded" : "context canceled");
    }

    private static bool IsGone(Exception e)
        => e is ConnectionAbortedException or ConnectionResetException or IOException or OperationCanceledException;

    private bool TryAdmit()
    {
        ResetStatus();
        ReceivedNs = _server.Clock.NowNs;
        _begun = false;
        _remaining = 0;
        _message = default;
        _reader = null;
        _writer = null;

        IHeaderDictionary headers = _request.Headers;
        StringValues timeout = headers["grpc-timeout"];
        StringValues encoding = headers["grpc-encoding"];
        var head = new RpcHead
        {
            ContentType = headers.ContentType,
            HttpMethod = _request.Method,
            HasTimeout = timeout.Count != 0,
            Timeout = timeout.Count != 0 ? timeout[0] : null,
            Method = _server.Table.Find(_request.Path, out string whyNot),
            WhyNoMethod = whyNot,
            Encoding = encoding.Count != 0 ? encoding[0] ?? "" : null,
        };
        RpcVerdict verdict = RpcAdmission.Judge(head, ReceivedNs);
        DeadlineNs = verdict.DeadlineNs;
        if (!verdict.IsAdmitted)
        {
            _response.StatusCode = verdict.HttpStatus;
            IHeaderDictionary answer = _response.Headers;
            answer.ContentType = RpcAdmission.ContentType;
            answer["grpc-status"] = RpcCodes.Number(verdict.Code);
            answer["grpc-message"] = RpcText.EncodeMessage(verdict.Message);
            return false;
        }

        _gzip = verdict.IsGzip;
        _echoedType = verdict.EchoedType;
        Method = head.Method!;
        return true;
    }

    private bool Take(in ReadOnlySequence<byte> message, bool compressed)
    {
        _heldEnd = message.End;
        _holding = true;
        if (!compressed && message.IsSingleSegment)
        {
            _message = message.First;
        }
        else if (!compressed)
        {
            _assembled.Set(message);
            ReleaseRequest();
            _message = _assembled.Written;
        }
        else if (!TryUnpack(message))
        {
            return false;
        }

        Method.CountReceived();
        Interlocked.Add(ref _server.BytesReceived, _message.Length);
        return true;
    }

    private bool TryUnpack(in ReadOnlySequence<byte> message)
    {
        if (!_gzip)
        {
            ReleaseRequest();
            Fail(RpcCode.Internal, RpcWords.FlagWithoutEncoding);
            return false;
        }

        byte[] packed = message.ToArray();
        ReleaseRequest();
        try
        {
            if (!_assembled.TryUnpack(packed, _server.MaxMessageSize))
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

        _message = _assembled.Written;
        return true;
    }

    // Headers leave with the first flush; they are set once, just before the first byte is written.
    private void Start()
    {
        if (_begun)
        {
            return;
        }

        _begun = true;
        _response.StatusCode = 200;
        _response.Headers.ContentType = _echoedType ?? RpcAdmission.ContentType;
        if (_gzip)
        {
            _response.Headers["grpc-encoding"] = "gzip";
        }

        _writer = _features.GetRequiredFeature<IHttpResponseBodyFeature>().Writer;
    }

    private void SendPacked()
    {
        var packed = new RpcBuffer();
        packed.Pack(_plainAnswer!.Written.Span);
        Span<byte> header = _writer!.GetSpan(RpcFrame.HeaderSize);
        RpcFrame.Write(header, packed.Length, compressed: true);
        _writer.Advance(RpcFrame.HeaderSize);
        _writer.Write(packed.Written.Span);
        packed.Release();
        _plainAnswer.Clear();
    }

    private void Finish(RpcMethod method)
    {
        ReleaseRequest();
        _server.Measure(this);
        if (_remaining != 0)
        {
            // A message cut off in the middle cannot be followed by trailers that the client would believe.
            method.CountHandled(Status == RpcCode.Ok ? RpcCode.Internal : Status);
            _features.GetRequiredFeature<IHttpRequestLifetimeFeature>().Abort();
        }
        else
        {
            if (Status == RpcCode.Ok && MessagesSent == 0 && method.Kind == RpcKind.Unary)
            {
                RpcLog.NoAnswer(_server.Logger, method.Path);
                Fail(RpcCode.Internal, RpcWords.InternalError);
            }

            method.CountHandled(Status);
            SendStatus();
        }

        _assembled.Release();
        _plainAnswer?.Release();
        if (_cancelled is not null)
        {
            _deadlineSource?.Dispose();
            _cancelled.Dispose();
            _deadlineSource = null;
            _cancelled = null;
        }
    }

    private void SendStatus()
    {
        string code = RpcCodes.Number(Status);
        if (!_begun)
        {
            _begun = true;
            _response.StatusCode = 200;
            IHeaderDictionary headers = _response.Headers;
            headers.ContentType = _echoedType ?? RpcAdmission.ContentType;
            headers["grpc-status"] = code;
            headers["grpc-message"] = RpcText.EncodeMessage(StatusMessage);
            return;
        }

        IHeaderDictionary trailers = _features.GetRequiredFeature<IHttpResponseTrailersFeature>().Trailers;
        trailers.GrpcStatus = code;
        if (Status != RpcCode.Ok)
        {
            trailers.GrpcMessage = RpcText.EncodeMessage(StatusMessage);
        }
    }

    private string? Metadata(string name)
    {
        StringValues values = _request.Headers[name];
        return values.Count == 0 ? null : values[0];
    }
}
