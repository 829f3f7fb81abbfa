// Http2Call: a gRPC call over one stream of our own engine. This part is its life; Input reads, Output answers.
//
// Thread     Calls in steps (puts, ranges) run on the loop's thread, and handlers that do little between two waits
//            (RpcMethod.ContinuesInPlace). Other handlers run on the pool from their first line, and so does a call whose
//            request is large or packed, so that the loop is never kept long. They read and write through the queues under
//            the gate; what must happen on the loop is posted (Http2Loop.Post).
// Lifetime   Pooled by the loop: free again when the handler has ended and the stream is closed, whichever comes last.
// Streams    A handler's waits end in the pool; of methods that say so (RpcMethod.ContinuesInPlace) on the loop's thread,
//            but never inside the handler's own call nor while the loop looks through its connections to end them.
// Steps      A unary call in steps is resumed on the loop: a request slot completes it in place (IRunsInPlace), on whatever
//            thread, and all that does there is to post.
using System;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http2;

/// <summary>What is posted to the loop about a call.</summary>
[Flags]
internal enum CallSignals
{
    None = 0,

    /// <summary>The wait of a step has ended.</summary>
    Resumed = 1,

    /// <summary>The handler's task has ended.</summary>
    Ended = 2,

    /// <summary>There is something to send.</summary>
    Output = 4,

    /// <summary>Request bytes were read; the client may send more.</summary>
    Consumed = 8,

    /// <summary>The handler has been notified and goes on here.</summary>
    Notified = 16,
}

/// <summary>Our own engine's side of <see cref="RpcCall"/>.</summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage(
    "Design", "CA1001", Justification = "reused, never disposed; Finish disposes the sources of each call")]
internal sealed unsafe partial class Http2Call : RpcCall, IRunsInPlace, IThreadPoolWorkItem
{
    private readonly Http2Loop _loop;
    private readonly RpcServerState _server;
    private readonly Lock _gate = new();
    private readonly Action _resumed;
    private readonly Action _ended;
    private readonly RpcSignal _readable = new();
    private readonly RpcSignal _flushed = new();
    private readonly RpcBuffer _assembled = new();
    private Http2Connection _connection = null!;
    private RpcStep _step;
    private ValueTask _handler;
    private CallPhase _phase;
    private string? _token;
    private string? _version;
    private bool _wantsLeader;
    private bool _streamClosed;
    private volatile bool _gone;
    private bool _over;
    private bool _checksElsewhere;
    private int _signals;
    private RpcSignal? _signal;
    private CallEnd? _end;
    private CancellationTokenSource? _cancelled;
    private CancellationTokenSource? _deadlineSource;
    private CancellationTokenRegistration _goneRegistration;

    public Http2Call(Http2Loop loop)
    {
        _loop = loop;
        _server = loop.Server;
        _resumed = () => Post(CallSignals.Resumed);
        _ended = () => Post(CallSignals.Ended);
        _in = new ByteQueue(loop.Pool);
        _out = new ByteQueue(loop.Pool);
        _message = new ByteQueue(loop.Pool);
    }

    private enum CallPhase : byte
    {
        /// <summary>Its single message is not complete.</summary>
        Message,

        /// <summary>The handler runs and takes what comes.</summary>
        Stream,

        /// <summary>The handler runs or has run; further bytes are dropped.</summary>
        Deaf,
    }

    /// <summary>Number of the stream.</summary>
    public int Stream { get; private set; }

    /// <summary>Next in the loop's list of posted calls; the list's business.</summary>
    public Http2Call? NextPosted { get; set; }

    /// <summary>Monotonic ns at which the stream was opened.</summary>
    public long OpenedNs { get; private set; }

    /// <summary>In the connection's queue for room.</summary>
    public bool IsWaiting { get; set; }

    public override string? Token => _token;

    public override bool RequiresLeader => _wantsLeader;

    public override string? ClientApiVersion => _version;

    public override bool IsOver => Volatile.Read(ref _over);

    public override CancellationToken Cancelled
    {
        get
        {
            lock (_gate)
            {
                if (_cancelled is null)
                {
                    _cancelled = new CancellationTokenSource();
                    if (DeadlineNs != long.MaxValue)
                    {
                        long left = Math.Max(0, DeadlineNs - _server.Clock.NowNs) / 1_000_000;
                        _deadlineSource = new CancellationTokenSource(TimeSpan.FromMilliseconds(Math.Min(left, int.MaxValue - 1)));
                        _deadlineSource.Token.UnsafeRegister(static o => Cancel((CancellationTokenSource)o!), _cancelled);
                    }

                    if (_gone)
                    {
                        Cancel(_cancelled);
                    }
                }

                return _cancelled.Token;
            }
        }
    }

    /// <summary>Begins a call on a new stream.</summary>
    public void Open(Http2Connection connection, int stream, bool ended, int sendWindow)
    {
        _connection = connection;
        Stream = stream;
        OpenedNs = _loop.NowNs;
        ClientEnded = ended;
        _sendWindow = sendWindow;
        IsWaiting = false;
        _receiveWindow = _loop.Limits.StreamWindow;
        _uncredited = 0;
        _consumed = 0;
        _received = 0;
        _contentLength = -1;
        _begun = _headSent = _finished = false;
        _httpStatus = 200;
        _remaining = 0;
        _gzip = false;
        _echoedType = null;
        _token = null;
        _version = null;
        _wantsLeader = false;
        _streamClosed = false;
        _gone = false;
        _over = false;
        _end = null;
        _phase = CallPhase.Message;
    }

    /// <summary>Looks at the headers and refuses or begins the call.</summary>
    public void Admit(RequestHead head)
    {
        ResetStatus();
        ReceivedNs = _server.Clock.NowNs;
        DeadlineNs = long.MaxValue;
        Method = null!;
        if (head.Has(HeaderName.ContentLength)
            && (!System.Buffers.Text.Utf8Parser.TryParse(head.Get(HeaderName.ContentLength), out _contentLength, out int read)
                || read != head.Get(HeaderName.ContentLength).Length || _contentLength < 0 || (ClientEnded && _contentLength != 0)))
        {
            _connection.FailStream(this, Http2Error.Protocol);
            return;
        }

        if (!TryAdmit(head))
        {
            return;
        }

        TextCache texts = _loop.Texts;
        HeaderName token = head.Has(HeaderName.Token) ? HeaderName.Token : HeaderName.Authorization;
        _token = head.Has(token) ? texts.Get(head.Get(token)) : null;
        _version = head.Has(HeaderName.ClientApiVersion) ? texts.Get(head.Get(HeaderName.ClientApiVersion)) : null;
        _wantsLeader = head.Get(HeaderName.HasLeader).SequenceEqual("true"u8);
        _server.CountStarted(Method, _version);
        if (!Method.HasSingleRequest)
        {
            _phase = CallPhase.Stream;
            RunHandler();
        }
        else if (ClientEnded)
        {
            LackMessage();
        }
    }

    /// <summary>What was posted about this call. Loop only.</summary>
    public void OnSignals()
    {
        var signals = (CallSignals)Interlocked.Exchange(ref _signals, 0);
        if ((signals & CallSignals.Consumed) != 0)
        {
            CreditConsumed();
        }

        if ((signals & CallSignals.Output) != 0)
        {
            Pump();
        }

        if ((signals & CallSignals.Notified) != 0)
        {
            // A late one may find the object in another call's service.
            if (Method is { ContinuesInPlace: true })
            {
                _signal?.SetHere();
            }
            else
            {
                _signal?.Set();
            }
        }

        if ((signals & CallSignals.Resumed) != 0)
        {
            Drive();
        }

        if ((signals & CallSignals.Ended) != 0)
        {
            HandlerEnded();
        }
    }

    /// <summary>The stream or its connection is gone. Loop only.</summary>
    public void Abandon()
    {
        bool starting = _phase == CallPhase.Message;
        _streamClosed = true;
        lock (_gate)
        {
            _gone = true;
            _out.Free();
            FreeInput();
            if (_cancelled is { } cancelled)
            {
                // Its callbacks are the handler's: not on this thread.
                _ = ThreadPool.UnsafeQueueUserWorkItem(static o => Cancel(o), cancelled, preferLocal: false);
            }
        }

        if (_signal is not null)
        {
            (RpcCode code, string text) = RpcWords.Gone(_server.Clock.NowNs >= DeadlineNs);
            End(code, text);
        }

        _flushed.Set();
        _readable.Set();
        if (starting && Method is { } method)
        {
            // No handler has seen it.
            (RpcCode code, string text) = RpcWords.Gone(_server.Clock.NowNs >= DeadlineNs);
            Fail(code, text);
            method.CountHandled(Status);
            Recycle();
        }
        else if (_finished || Method is null)
        {
            Recycle();
        }
    }

    public override ValueTask WaitAsync() => IsOver ? ValueTask.CompletedTask : _signal!.WaitAsync();

    public override void Notify()
    {
        if (_signal is { } signal)
        {
            if (Method is { ContinuesInPlace: true }) // null for an instant, if this comes late
            {
                Post(CallSignals.Notified);
            }
            else
            {
                signal.Set();
            }
        }
    }

    public override void End(RpcCode code, string message)
    {
        if (Interlocked.CompareExchange(ref _end, new CallEnd(code, message), null) is null)
        {
            Volatile.Write(ref _over, true);
            _signal?.Set();
            _readable.Set();
            _flushed.Set();
        }
    }

    private static void Cancel(CancellationTokenSource source)
    {
        try
        {
            source.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // The call has ended meanwhile.
        }
    }

    private bool TryAdmit(RequestHead head)
    {
        TextCache texts = _loop.Texts;
        Span<char> timeout = stackalloc char[64];
        ReadOnlySpan<byte> timeoutBytes = head.Get(HeaderName.GrpcTimeout);
        int length = System.Text.Encoding.Latin1.GetChars(timeoutBytes[..Math.Min(timeout.Length, timeoutBytes.Length)], timeout);
        RpcMethod? method = _server.Table.Find(head.Get(HeaderName.Path));
        string whyNot = "";
        if (method is null)
        {
            method = _server.Table.Find(texts.Get(head.Get(HeaderName.Path)), out whyNot);
        }

        var rpc = new RpcHead
        {
            ContentType = head.Has(HeaderName.ContentType) ? texts.Get(head.Get(HeaderName.ContentType)) : null,
            HttpMethod = texts.Get(head.Get(HeaderName.Method)),
            HasTimeout = head.Has(HeaderName.GrpcTimeout),
            Timeout = timeout[..length],
            Method = method,
            WhyNoMethod = whyNot,
            Encoding = head.Has(HeaderName.GrpcEncoding) ? texts.Get(head.Get(HeaderName.GrpcEncoding)) : null,
        };
        RpcVerdict verdict = RpcAdmission.Judge(rpc, ReceivedNs);
        DeadlineNs = verdict.DeadlineNs;
        if (!verdict.IsAdmitted)
        {
            _phase = CallPhase.Deaf;
            _httpStatus = verdict.HttpStatus;
            Fail(verdict.Code, verdict.Message);
            _finished = true;
            Pump();
            return false;
        }

        _gzip = verdict.IsGzip;
        _echoedType = verdict.EchoedType;
        Method = method!;
        return true;
    }

    private void LackMessage()
    {
        Fail(RpcCode.Unknown, _in.Length < RpcFrame.HeaderSize ? RpcWords.Eof : RpcWords.UnexpectedEof);
        Finish();
    }

    // The call is to run; its message, if it has just one, is in _request. Steps read it where the kernel put it.
    private void RunHandler()
    {
        _phase = Method.HasSingleRequest ? CallPhase.Deaf : CallPhase.Stream;
        if (IsLate())
        {
            Finish();
        }
        else if (Method.Steps is null)
        {
            RunElsewhere(checks: false);
        }
        else
        {
            RunSteps();
            Drive();
        }
    }

    private bool IsLate()
    {
        bool late = Method.HasSingleRequest && DeadlineNs <= ReceivedNs;
        if (late)
        {
            Fail(RpcCode.DeadlineExceeded, "context deadline exceeded");
        }

        return late;
    }

    // Goes on in Execute, on the pool, which posts Resumed (steps) or Ended when it is the loop's turn again.
    private void RunElsewhere(bool checks)
    {
        _phase = Method.HasSingleRequest ? CallPhase.Deaf : CallPhase.Stream;
        _checksElsewhere = checks;
        KeepRequest();
        if (Method.MayWait)
        {
            EnterStreams();
        }

        if (Method.ContinuesInPlace)
        {
            Execute();
        }
        else
        {
            _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        }
    }

    /// <summary>Runs the handler, or its first step. Called by the pool, and by the loop for handlers that do little.</summary>
    public void Execute()
    {
        RpcMethod method = Method;
        bool runs = !_checksElsewhere || (Accept(_packed) && !IsLate());
        if (method.Steps is not null)
        {
            if (runs)
            {
                RunSteps();
            }

            Post(CallSignals.Resumed);
            return;
        }

        try
        {
            if (runs)
            {
#pragma warning disable CA2012 // kept until its end is posted, then asked once
                _handler = method.Handler!(this);
#pragma warning restore CA2012
            }
        }
        catch (Exception e)
        {
            Blame(e);
        }

        ValueTaskAwaiter awaiter = _handler.GetAwaiter();
        if (awaiter.IsCompleted)
        {
            Post(CallSignals.Ended);
        }
        else
        {
            awaiter.UnsafeOnCompleted(_ended);
        }
    }

    private void RunSteps()
    {
        try
        {
            _step = Method.Steps!(this);
        }
        catch (Exception e)
        {
            _step = default;
            Blame(e);
        }
    }

    private void Drive()
    {
        try
        {
            while (_step.Resume is { } resume)
            {
                ValueTaskAwaiterOf wait = new(_step.Wait);
                if (!wait.IsCompleted)
                {
                    KeepRequest();
                    wait.OnCompleted(_resumed);
                    return;
                }

                object state = _step.State!;
                _step = default;
                _step = resume(this, state, wait.Result);
            }
        }
        catch (Exception e)
        {
            Blame(e);
        }

        _step = default;
        Finish();
    }

    private void HandlerEnded()
    {
        try
        {
            _handler.GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            Blame(e);
        }

        _handler = default;
        Finish();
    }

    private void Blame(Exception e)
    {
        if (e is OperationCanceledException)
        {
            bool late = _deadlineSource is { IsCancellationRequested: true } || _server.Clock.NowNs >= DeadlineNs;
            (RpcCode code, string text) = RpcWords.Gone(late);
            Fail(code, text);
            return;
        }

        RpcLog.HandlerFailed(_server.Logger, Method.Path, e);
        Fail(RpcCode.Internal, RpcWords.InternalError);
    }

    private void EnterStreams()
    {
        _signal = new RpcSignal();
        _server.Streams.Add(this);
        if (DeadlineNs != long.MaxValue)
        {
            _goneRegistration = Cancelled.UnsafeRegister(static o => ((Http2Call)o!).EndLate(), this);
        }
    }

    private void EndLate()
    {
        (RpcCode code, string text) = RpcWords.Gone(_deadlineSource is { IsCancellationRequested: true });
        End(code, text);
    }

    private void LeaveStreams()
    {
        _goneRegistration.Dispose();
        _goneRegistration = default;
        _server.Streams.Remove(this);
        if (Interlocked.Exchange(ref _end, CallEnd.None) is { } end)
        {
            Fail(end.Code, end.Message);
        }

        _signal = null;
    }

    // The handler has ended, on the loop's thread: counts, then the status behind whatever is still to be sent.
    private void Finish()
    {
        if (_signal is not null)
        {
            LeaveStreams();
        }

        RpcMethod method = Method;
        _phase = CallPhase.Deaf;
        ReleaseRequest();
        _server.Measure(this);
        bool cut = _remaining != 0;
        if (cut)
        {
            // A message cut off in the middle cannot be followed by trailers that the client would believe.
            method.CountHandled(Status == RpcCode.Ok ? RpcCode.Internal : Status);
        }
        else
        {
            if (Status == RpcCode.Ok && MessagesSent == 0 && method.Kind == RpcKind.Unary && !_gone)
            {
                RpcLog.NoAnswer(_server.Logger, method.Path);
                Fail(RpcCode.Internal, RpcWords.InternalError);
            }

            method.CountHandled(Status);
        }

        lock (_gate)
        {
            FreeInput();
            _deadlineSource?.Dispose();
            _cancelled?.Dispose();
            _deadlineSource = null;
            _cancelled = null;
        }

        _assembled.Release();
        _plainAnswer?.Release();
        _finished = true;
        if (_streamClosed)
        {
            Recycle();
        }
        else if (cut)
        {
            _connection.FailStream(this, Http2Error.Internal);
        }
        else
        {
            Pump();
        }
    }

    private void Recycle()
    {
        lock (_gate)
        {
            _out.Free();
            FreeInput();
        }

        ReleaseRequest();
        Http2Connection connection = _connection;
        _connection = null!;
        _loop.Return(this);
        connection.CallEnded();
    }

    // Each call is in the list at most once: whoever sets the first signal puts it there.
    private void Post(CallSignals signal)
    {
        if (Interlocked.Or(ref _signals, (int)signal) == 0)
        {
            _loop.Post(this);
        }
    }

    // The awaiter of a step's wait; a value of its own because a ValueTask may be asked for its result only once.
    private readonly struct ValueTaskAwaiterOf(ValueTask<ErrorCode> wait)
    {
        private readonly ValueTaskAwaiter<ErrorCode> _awaiter = wait.GetAwaiter();

        public bool IsCompleted => _awaiter.IsCompleted;

        public ErrorCode Result => _awaiter.GetResult();

        public void OnCompleted(Action action) => _awaiter.UnsafeOnCompleted(action);
    }
}
