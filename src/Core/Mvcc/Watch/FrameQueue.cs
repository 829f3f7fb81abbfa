// FrameQueue: the responses of one stream on their way to its client: whole gRPC messages with their five-byte prefix,
// one behind the other, in pooled native blocks.
//
// Threads    The hub appends, the stream's writer takes: one each. A block's end is published by a release-store;
//            whoever takes has every byte before it. The hub never touches a block again once it has linked the next.
// Why        One copy for the hub to build a response, one for the writer into the connection, and nothing that has to
//            be kept alive between the two: no reference counts, no pins held for a client that does not read.
// Bound      by the hub: it looks at Queued before it appends (WatchOptions.StreamBytesMax).
using System;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>Single producer, single consumer, unbounded by itself.</summary>
internal sealed unsafe class FrameQueue(NativePool pool, WatchFigures figures)
{
    private const int SmallBlock = 4096;
    private const int LargeBlock = 64 * 1024;

    private NativeBlock* _tail; // hub
    private nint _head; // NativeBlock*: set by the hub once, then moved on by the writer
    private int _taken; // bytes of _head that the writer has consumed
    private int _messagesTaken; // of _head
    private int _eventsTaken; // of _head
    private long _queuedBytes; // hub
    private long _takenBytes; // writer

    /// <summary>Bytes appended and not yet taken. Any thread; exact for the hub as an upper bound.</summary>
    public long Queued => Volatile.Read(ref _queuedBytes) - Volatile.Read(ref _takenBytes);

    /// <summary>Hub: room for a message of exactly so many bytes; <see cref="Commit"/> publishes it.</summary>
    public byte* Begin(int bytes)
    {
        NativeBlock* tail = _tail;
        if (tail == null || tail->Capacity - sizeof(Header) - Info(tail)->Written < bytes)
        {
            tail = Grow(bytes);
        }

        return Data(tail) + Info(tail)->Written;
    }

    /// <summary>Hub: publishes what was written.</summary>
    public void Commit(int bytes, int events)
    {
        Header* info = Info(_tail);
        info->Messages++;
        info->Events += events;
        Volatile.Write(ref _queuedBytes, _queuedBytes + bytes);
        Volatile.Write(ref info->Written, info->Written + bytes);
        figures.QueuedBytesCount += bytes;
        figures.EventsQueuedCount += events;
    }

    /// <summary>Writer: the next bytes, whole messages only; empty when there are none.</summary>
    public ReadOnlySpan<byte> Peek()
    {
        while (true)
        {
            var head = (NativeBlock*)Volatile.Read(ref _head);
            if (head == null)
            {
                return default;
            }

            Header* info = Info(head);
            int written = Volatile.Read(ref info->Written);
            if (written > _taken)
            {
                return new ReadOnlySpan<byte>(Data(head) + _taken, written - _taken);
            }

            nint next = Volatile.Read(ref info->Next);
            if (next == 0)
            {
                return default;
            }

            // The link was made after the last byte: look once more before leaving the block.
            if (Volatile.Read(ref info->Written) > _taken)
            {
                continue;
            }

            CountTaken(info);
            pool.Return(head);
            _taken = 0;
            _messagesTaken = 0;
            _eventsTaken = 0;
            _head = next;
        }
    }

    /// <summary>Writer: bytes of the last <see cref="Peek"/> have been copied.</summary>
    /// <returns>Messages completed by them, approximately: the sum over time is exact.</returns>
    public int Take(int bytes)
    {
        _taken += bytes;
        Volatile.Write(ref _takenBytes, _takenBytes + bytes);
        Interlocked.Add(ref figures.TakenBytesCount, bytes);
        return CountTaken(Info((NativeBlock*)_head));
    }

    /// <summary>After both sides have ended.</summary>
    public void Free()
    {
        var block = (NativeBlock*)_head;
        while (block != null)
        {
            NativeBlock* next = (NativeBlock*)Info(block)->Next;
            Interlocked.Add(ref figures.EventsTakenCount, Info(block)->Events - (block == (NativeBlock*)_head ? _eventsTaken : 0));
            pool.Return(block);
            block = next;
        }

        Interlocked.Add(ref figures.TakenBytesCount, _queuedBytes - _takenBytes);
        _takenBytes = _queuedBytes;
        _head = 0;
        _tail = null;
    }

    private static Header* Info(NativeBlock* block) => (Header*)NativeBlock.Data(block);

    private static byte* Data(NativeBlock* block) => NativeBlock.Data(block) + sizeof(Header);

    private int CountTaken(Header* info)
    {
        int events = Volatile.Read(ref info->Events);
        if (events != _eventsTaken)
        {
            Interlocked.Add(ref figures.EventsTakenCount, events - _eventsTaken);
            _eventsTaken = events;
        }

        int messages = Volatile.Read(ref info->Messages);
        int more = messages - _messagesTaken;
        _messagesTaken = messages;
        return more;
    }

    // A stream with little to say keeps one small block; a busy one moves on to large ones.
    private NativeBlock* Grow(int bytes)
    {
        int size = Math.Max(bytes + sizeof(Header), _tail == null || Queued == 0 ? SmallBlock : LargeBlock);
        NativeBlock* block = pool.Rent(size);
        *Info(block) = default;
        if (_tail == null)
        {
            _tail = block;
            Volatile.Write(ref _head, (nint)block);
            return block;
        }

        NativeBlock* before = _tail;
        _tail = block;
        Volatile.Write(ref Info(before)->Next, (nint)block);
        return block;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public nint Next;
        public int Written;
        public int Messages;
        public int Events;
        public int Unused;
    }
}
