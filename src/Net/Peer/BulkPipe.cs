// BulkPipe: the sending end of the bulk lane to one peer: frames go from a bounded ring into the connection's output pipe.
//
// Thread     Raft puts frames in; the writer thread moves them into the pipe, in pieces, and never waits: while a flush is
//            under way nothing is moved, and its completion wakes the writer. The pipe's own send runs inline on that
//            thread as long as the kernel takes the bytes.
// Bound      By bytes, above raft's own window of unacknowledged appends; a full queue says no, and raft slows down.
using System;
using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Pipelines.Sockets.Unofficial;

namespace Cairn.Net.Peer;

/// <summary>Sends appends to one peer.</summary>
internal sealed unsafe partial class BulkPipe
{
    private const int FramesMax = 4096;
    private const long BytesMax = 64 << 20;
    private const int PieceBytes = 256 << 10;

    private static readonly PipeOptions s_sending = new(
        readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, pauseWriterThreshold: 1 << 20,
        resumeWriterThreshold: 512 << 10, minimumSegmentSize: 64 << 10, useSynchronizationContext: false);

    private static readonly PipeOptions s_receiving = new(
        readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, pauseWriterThreshold: 1 << 20,
        resumeWriterThreshold: 512 << 10, minimumSegmentSize: 64 << 10, useSynchronizationContext: false);

    private readonly MpscRing<nint> _ring = new(FramesMax);
    private readonly PeerChannel _channel;
    private readonly IDuplexPipe _connection;
    private readonly PeerCounters _counters;
    private readonly NativePool _pool;
    private readonly IWaker _writer;
    private readonly Action _wake;
    private ValueTask<FlushResult> _flush;
    private bool _flushing;
    private long _flushingSinceNs;
    private NativeBlock* _partial;
    private int _partialOffset;
    private long _queuedBytes;
    private int _aborted;
    private bool _completed;

    public BulkPipe(PeerChannel channel, PeerCounters counters, NativePool pool, IWaker writer)
    {
        _channel = channel;
        _connection = Connect(channel);
        _counters = counters;
        _pool = pool;
        _writer = writer;
        _wake = writer.Wake;
        _ = WatchAsync();
    }

    public bool IsAborted => Volatile.Read(ref _aborted) != 0;

    public long QueuedBytes => Volatile.Read(ref _queuedBytes);

    /// <summary>A flush is under way: its completion wakes the writer.</summary>
    public bool IsFlushing => _flushing;

    /// <summary>The pipes of the bulk lane.</summary>
    public static IDuplexPipe Connect(PeerChannel channel) => channel.OpenPipe(s_sending, s_receiving);

    /// <summary>Queues a sealed frame; takes the block. False when it was dropped.</summary>
    public bool TrySend(NativeBlock* frame)
    {
        int length = frame->Length;
        if (IsAborted || Interlocked.Add(ref _queuedBytes, length) > BytesMax || !_ring.TryEnqueue((nint)frame))
        {
            if (!IsAborted)
            {
                Interlocked.Add(ref _queuedBytes, -length);
            }

            _pool.Return(frame);
            _counters.SendFailed();
            return false;
        }

        _writer.Wake();
        return true;
    }

    /// <summary>The writer: moves one piece on. False when there was nothing to do.</summary>
    public bool Pump(long nowNs, long stuckLimitNs)
    {
        if (IsAborted || (_flushing && !HasFlushed(nowNs, stuckLimitNs)))
        {
            return false;
        }

        int moved = 0;
        int frames = 0;
        PipeWriter output = _connection.Output;
        while (moved < PieceBytes)
        {
            if (_partial == null)
            {
                if (!_ring.TryDequeue(out nint next))
                {
                    break;
                }

                _partial = (NativeBlock*)next;
                _partialOffset = 0;
            }

            int count = Math.Min(PieceBytes - moved, _partial->Length - _partialOffset);
            output.Write(NativeBlock.Span(_partial).Slice(_partialOffset, count));
            moved += count;
            _partialOffset += count;
            if (_partialOffset == _partial->Length)
            {
                frames++;
                _pool.Return(_partial);
                _partial = null;
            }
        }

        if (moved == 0)
        {
            return false;
        }

        _counters.Sent(ConnectionLane.Bulk, frames, moved);
        Interlocked.Add(ref _queuedBytes, -moved);
#pragma warning disable CA2012 // one flush at a time, its result taken once, in HasFlushed
        _flush = output.FlushAsync();
#pragma warning restore CA2012
        _flushing = true;
        _flushingSinceNs = nowNs;
        if (!_flush.IsCompleted)
        {
            _flush.GetAwaiter().UnsafeOnCompleted(_wake);
        }

        return true;
    }

    /// <summary>Any thread.</summary>
    public void Abort()
    {
        if (Interlocked.Exchange(ref _aborted, 1) == 0)
        {
            _channel.Cut();
            _writer.Wake();
        }
    }

    /// <summary>The writer, after Abort: closes, returns what is queued. May be called again.</summary>
    public void Drain()
    {
        if (!_completed)
        {
            _completed = true;
            _connection.Output.Complete();
        }

        while (_ring.TryDequeue(out nint frame))
        {
            _pool.Return((NativeBlock*)frame);
        }

        if (_partial != null)
        {
            _pool.Return(_partial);
            _partial = null;
        }
    }

    private bool HasFlushed(long nowNs, long stuckLimitNs)
    {
        if (!_flush.IsCompleted)
        {
            if (nowNs - _flushingSinceNs > stuckLimitNs)
            {
                _counters.SendFailed();
                Abort();
            }

            return false;
        }

        _flushing = false;
        try
        {
            if (!_flush.Result.IsCompleted)
            {
                return true;
            }
        }
        catch (Exception e) when (e is SocketException or System.IO.IOException or InvalidOperationException
            or ConnectionAbortedException or ConnectionResetException)
        {
            // Counted and aborted below.
        }

        _counters.SendFailed();
        Abort();
        return false;
    }
}

internal sealed partial class BulkPipe
{
    // Nobody talks in this direction: anything but silence is the end.
    private async Task WatchAsync()
    {
        try
        {
            _ = await _connection.Input.ReadAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or System.IO.IOException or InvalidOperationException
            or ObjectDisposedException or ConnectionAbortedException or ConnectionResetException)
        {
            // Closed one way or the other.
        }

        _connection.Input.Complete();
        Abort();
    }
}
