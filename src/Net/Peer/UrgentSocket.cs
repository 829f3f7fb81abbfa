// UrgentSocket: one connection of the urgent lane, either end: a blocking channel that one thread reads and the writer thread
// writes without ever waiting.
//
// Ownership  A frame's block moves with TrySend, taken or not. Any thread may send; the writer thread alone takes frames
//            out, sends and closes. Abort (any thread) only marks and shuts down, which also wakes the reader.
// Bound      By count and bytes; a full queue says no.
// Closing    Whoever meets the mark too late leaves his frame in the ring; the writer looks into closed rings for a while
//            (PeerWriter), so that no block is lost.
using System;
using System.Threading;
using Cairn.Base;

namespace Cairn.Net.Peer;

/// <summary>A connection of the urgent lane.</summary>
internal sealed unsafe class UrgentSocket
{
    private const int FramesMax = 4096;
    private const long BytesMax = 8 << 20;

    private readonly MpscRing<nint> _ring = new(FramesMax);
    private readonly NativePool _pool;
    private readonly IWaker _writer;
    private NativeBlock* _partial; // what the kernel did not take of the last send
    private int _partialOffset;
    private long _stuckSinceNs;
    private long _queuedBytes;
    private int _aborted;

    public UrgentSocket(PeerChannel channel, ulong peer, PeerCounters counters, NativePool pool, IWaker writer)
    {
        Channel = channel;
        Peer = peer;
        Counters = counters;
        _pool = pool;
        _writer = writer;
    }

    /// <summary>The reader's; nobody else receives from it.</summary>
    public PeerChannel Channel { get; }

    public ulong Peer { get; }

    public PeerCounters Counters { get; }

    /// <summary>When to ask for a sign of life; the writer's.</summary>
    public long NextPingNs { get; set; }

    /// <summary>Only the dialling side asks.</summary>
    public bool Pings { get; init; }

    public bool IsAborted => Volatile.Read(ref _aborted) != 0;

    /// <summary>Bytes that wait to be sent.</summary>
    public long QueuedBytes => Volatile.Read(ref _queuedBytes);

    /// <summary>Something is left that the kernel did not take: look again soon.</summary>
    public bool IsStuck => _partial != null || Channel.HasLeft;

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
            Counters.SendFailed();
            return false;
        }

        _writer.Wake();
        return true;
    }

    /// <summary>The writer: sends what the kernel takes. False when there was nothing to do.</summary>
    public bool Flush(Span<byte> scratch, long nowNs, long stuckLimitNs)
    {
        bool any = false;
        while (!IsAborted)
        {
            if (_partial == null && Channel.HasLeft && !SendLeft(nowNs, stuckLimitNs))
            {
                return any;
            }

            if (_partial != null)
            {
                if (!SendPartial(nowNs, stuckLimitNs))
                {
                    return any;
                }

                any = true;
                continue;
            }

            if (!_ring.TryDequeue(out nint first))
            {
                return any;
            }

            any = true;
            Gather((NativeBlock*)first, scratch, nowNs);
        }

        return any;
    }

    /// <summary>Ends the connection: the reader's receive returns, the writer will clear up. Any thread.</summary>
    public void Abort()
    {
        if (Interlocked.Exchange(ref _aborted, 1) != 0)
        {
            return;
        }

        Channel.End();
        _writer.Wake();
    }

    /// <summary>The writer, after Abort: returns what is queued. May be called again.</summary>
    public void Drain()
    {
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

    /// <summary>Sends one frame, or as many small ones as fit into the scratch buffer, with one call.</summary>
    private void Gather(NativeBlock* first, Span<byte> scratch, long nowNs)
    {
        if (first->Length > scratch.Length)
        {
            _partial = first;
            _partialOffset = 0;
            _stuckSinceNs = 0;
            return;
        }

        int used = 0;
        int frames = 0;
        NativeBlock* block = first;
        while (true)
        {
            NativeBlock.Span(block).CopyTo(scratch[used..]);
            used += block->Length;
            frames++;
            _pool.Return(block);
            if (!_ring.TryDequeue(out nint next))
            {
                break;
            }

            block = (NativeBlock*)next;
            if (block->Length > scratch.Length - used)
            {
                // The scratch goes first; what it does not take waits before this one.
                Put(scratch[..used], frames, nowNs, behind: block);
                return;
            }
        }

        Put(scratch[..used], frames, nowNs, behind: null);
    }

    private void Put(ReadOnlySpan<byte> bytes, int frames, long nowNs, NativeBlock* behind)
    {
        int sent = Channel.SendNow(bytes);
        if (sent < 0)
        {
            if (behind != null)
            {
                _pool.Return(behind);
            }

            Counters.SendFailed();
            Abort();
            return;
        }

        Counters.Sent(ConnectionLane.Urgent, frames, sent);
        Interlocked.Add(ref _queuedBytes, -sent);
        int rest = bytes.Length - sent;
        if (rest == 0 && behind == null)
        {
            return;
        }

        if (rest == 0)
        {
            _partial = behind;
            _partialOffset = 0;
            _stuckSinceNs = 0;
            return;
        }

        int extra = behind == null ? 0 : behind->Length;
        _partial = _pool.Rent(rest + extra);
        _partial->Length = rest + extra;
        Span<byte> kept = NativeBlock.Span(_partial);
        bytes[sent..].CopyTo(kept);
        if (behind != null)
        {
            NativeBlock.Span(behind).CopyTo(kept[rest..]);
            _pool.Return(behind);
        }

        _partialOffset = 0;
        _stuckSinceNs = nowNs;
    }

    // What a channel has taken from us and the kernel not yet from it.
    private bool SendLeft(long nowNs, long stuckLimitNs)
    {
        bool alive = Channel.SendNow([]) >= 0;
        if (alive && !Channel.HasLeft)
        {
            _stuckSinceNs = 0;
            return true;
        }

        _stuckSinceNs = _stuckSinceNs == 0 ? nowNs : _stuckSinceNs;
        if (!alive || nowNs - _stuckSinceNs > stuckLimitNs)
        {
            Counters.SendFailed();
            Abort();
        }

        return false;
    }

    private bool SendPartial(long nowNs, long stuckLimitNs)
    {
        int sent = Channel.SendNow(NativeBlock.Span(_partial)[_partialOffset..]);
        if (sent < 0)
        {
            Counters.SendFailed();
            Abort();
            return false;
        }

        if (sent == 0)
        {
            _stuckSinceNs = _stuckSinceNs == 0 ? nowNs : _stuckSinceNs;
            if (nowNs - _stuckSinceNs > stuckLimitNs)
            {
                Counters.SendFailed();
                Abort();
            }

            return false;
        }

        _stuckSinceNs = nowNs;
        Counters.Sent(ConnectionLane.Urgent, 0, sent);
        Interlocked.Add(ref _queuedBytes, -sent);
        _partialOffset += sent;
        if (_partialOffset == _partial->Length)
        {
            Counters.Sent(ConnectionLane.Urgent, 1, 0);
            _pool.Return(_partial);
            _partial = null;
        }

        return true;
    }
}
