// PeerWriter: the one thread that writes to peers: urgent frames of all peers first, then one piece of bulk, then again.
//
// Why        A heartbeat waits for nothing but one piece of an append (256 KiB), and never for another peer: sends take
//            what the kernel has room for and come back.
// Thread     cairn:peer-out. Connections are added by any thread through a ring; aborted ones are cleared here.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Net.Peer;

/// <summary>A peer's two outgoing connections.</summary>
/// <param name="Urgent">Its urgent lane.</param>
/// <param name="Bulk">Its bulk lane; null for the answering side of an accepted urgent connection.</param>
internal sealed record PeerWire(UrgentSocket Urgent, BulkPipe? Bulk);

/// <summary>Writes to every peer.</summary>
internal sealed unsafe class PeerWriter : IActor
{
    private const long StuckRetryNs = 1_000_000;
    private const long PingNs = 1_000_000_000;
    private const long GraveNs = 2_000_000_000;
    private const long ScanNs = 20_000_000;

    private readonly MpscRing<PeerWire> _added = new(256);
    private readonly List<PeerWire> _wires = [];
    private readonly List<(PeerWire Wire, long UntilNs)> _closed = [];
    private readonly byte[] _scratch = new byte[64 << 10];
    private readonly NativePool _pool;
    private readonly PendingCalls _calls;
    private readonly long _stuckLimitNs;
    private long _nextScanNs;
    private long _deadlineNs;

    public PeerWriter(NativePool pool, PendingCalls calls, TimeSpan writeTimeout)
    {
        _pool = pool;
        _calls = calls;
        _stuckLimitNs = writeTimeout.Ticks * 100;
    }

    /// <inheritdoc/>
    public string RoleName => "peer-out";

    /// <inheritdoc/>
    public long NextDeadlineNs => _deadlineNs;

    /// <summary>Takes connections over; any thread, wake afterwards. False when too many are waiting.</summary>
    public bool TryAdd(PeerWire wire) => _added.TryEnqueue(wire);

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        bool worked = false;
        while (_added.TryDequeue(out PeerWire added))
        {
            added.Urgent.NextPingNs = nowNs;
            _wires.Add(added);
            worked = true;
        }

        _deadlineNs = long.MaxValue;
        worked |= FlushUrgent(nowNs);
        for (int i = 0; i < _wires.Count; i++)
        {
            if (_wires[i].Bulk is { } bulk && bulk.Pump(nowNs, _stuckLimitNs))
            {
                worked = true;
                _ = FlushUrgent(nowNs);
            }

            if (_wires[i].Bulk is { IsFlushing: true })
            {
                Sooner(nowNs + _stuckLimitNs);
            }
        }

        Clear(nowNs);
        if (nowNs >= _nextScanNs)
        {
            _calls.Expire(nowNs);
            _nextScanNs = nowNs + ScanNs;
        }

        if (!_calls.IsEmpty)
        {
            Sooner(_nextScanNs);
        }

        return worked;
    }

    /// <summary>Everything that is left, after the thread has ended.</summary>
    public void Close()
    {
        while (_added.TryDequeue(out PeerWire added))
        {
            _wires.Add(added);
        }

        foreach (PeerWire wire in _wires)
        {
            wire.Urgent.Abort();
            wire.Bulk?.Abort();
            End(wire);
        }

        foreach ((PeerWire wire, _) in _closed)
        {
            Drain(wire);
        }

        _wires.Clear();
        _closed.Clear();
    }

    private static void Drain(PeerWire wire)
    {
        wire.Urgent.Drain();
        wire.Bulk?.Drain();
    }

    private static void End(PeerWire wire)
    {
        Drain(wire);
        wire.Urgent.Channel.Dispose();
    }

    private bool FlushUrgent(long nowNs)
    {
        bool any = false;
        foreach (PeerWire wire in _wires)
        {
            UrgentSocket socket = wire.Urgent;
            if (socket.Pings)
            {
                if (nowNs >= socket.NextPingNs)
                {
                    Ping(socket, nowNs);
                }

                Sooner(socket.NextPingNs);
            }

            any |= socket.Flush(_scratch, nowNs, _stuckLimitNs);
            if (socket.IsStuck)
            {
                Sooner(nowNs + StuckRetryNs);
            }
        }

        return any;
    }

    private void Ping(UrgentSocket socket, long nowNs)
    {
        socket.NextPingNs = nowNs + PingNs;
        NativeBlock* frame = _pool.Rent(PeerFrame.HeaderBytes + 8);
        frame->Length = PeerFrame.HeaderBytes + 8;
        BinaryPrimitives.WriteInt64LittleEndian(NativeBlock.Span(frame)[PeerFrame.HeaderBytes..], nowNs);
        PeerFrame.Seal(NativeBlock.Span(frame), FrameType.Ping);
        _ = socket.TrySend(frame);
    }

    private void Clear(long nowNs)
    {
        for (int i = _wires.Count - 1; i >= 0; i--)
        {
            PeerWire wire = _wires[i];
            if (wire.Urgent.IsAborted || wire.Bulk is { IsAborted: true })
            {
                // One lane without the other is no link: the reader ends it and dials again.
                wire.Urgent.Abort();
                wire.Bulk?.Abort();
                End(wire);
                _wires.RemoveAt(i);
                _closed.Add((wire, nowNs + GraveNs));
            }
        }

        for (int i = _closed.Count - 1; i >= 0; i--)
        {
            if (nowNs >= _closed[i].UntilNs)
            {
                Drain(_closed[i].Wire);
                _closed.RemoveAt(i);
            }
            else
            {
                Sooner(_closed[i].UntilNs);
            }
        }
    }

    private void Sooner(long deadlineNs) => _deadlineNs = Math.Min(_deadlineNs, deadlineNs);
}
