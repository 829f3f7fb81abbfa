// NativePool: blocks of native memory that move between threads with their ownership (proposal payloads,
// responses). Outside the managed heap, so that however many are in flight the collector does not see them.
//
// Size classes double from 256 bytes to 4 MiB; each keeps its free blocks in a bounded lock-free ring (Vyukov).
// A block above the largest class, or one that meets a full ring, goes back to the system.
// Thread   any; a block has one owner at a time.
using System;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Cairn.Base;

/// <summary>Header in front of a block's bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct NativeBlock
{
    /// <summary>Bytes that fit.</summary>
    public int Capacity;

    /// <summary>Bytes in use; the owner's business.</summary>
    public int Length;

    internal int SizeClass;

    internal int Guard; // tells a live block from a returned one

    /// <summary>First byte after the header.</summary>
    public static byte* Data(NativeBlock* block) => (byte*)(block + 1);

    /// <summary>The used bytes; valid until the block is returned.</summary>
    public static Span<byte> Span(NativeBlock* block) => new(Data(block), block->Length);

    /// <summary>The whole capacity; valid until the block is returned.</summary>
    public static Span<byte> Room(NativeBlock* block) => new(Data(block), block->Capacity);
}

/// <summary>The pool of one member.</summary>
public sealed unsafe class NativePool
{
    private const int SmallestShift = 8;
    private const int Classes = 15; // 256 B .. 4 MiB
    private const int Live = 0x11FE;
    private const int Free = 0x0FEE;
    private readonly PointerRing[] _free = new PointerRing[Classes];
    private long _allocatedBytes;

    /// <param name="bytesPerClass">How much memory each size class may keep when idle.</param>
    public NativePool(int bytesPerClass = 8 << 20)
    {
        for (int i = 0; i < Classes; i++)
        {
            int blocks = Math.Clamp(bytesPerClass >> (i + SmallestShift), 2, 4096);
            _free[i] = new PointerRing((int)BitOperations.RoundUpToPowerOf2((uint)blocks));
        }
    }

    /// <summary>Bytes held from the system, in use or idle.</summary>
    public long AllocatedBytes => Volatile.Read(ref _allocatedBytes);

    /// <summary>A block of at least so many bytes, Length 0, contents undefined.</summary>
    public NativeBlock* Rent(int minBytes)
    {
        int sizeClass = ClassOf(minBytes);
        if (sizeClass < Classes && _free[sizeClass].TryPop(out nint pointer))
        {
            NativeBlock* block = (NativeBlock*)pointer;
            Invariant.Check(block->Guard == Free, "an idle block was written to");
            block->Guard = Live;
            block->Length = 0;
            return block;
        }

        return Allocate(minBytes, sizeClass);
    }

    /// <summary>Gives a block back; the caller's pointer is dead afterwards.</summary>
    public void Return(NativeBlock* block)
    {
        Invariant.Check(block->Guard == Live, "a block was returned twice");
        block->Guard = Free;
        if (block->SizeClass >= Classes || !_free[block->SizeClass].TryPush((nint)block))
        {
            Interlocked.Add(ref _allocatedBytes, -(long)(block->Capacity + sizeof(NativeBlock)));
            NativeMemory.Free(block);
        }
    }

    private static int ClassOf(int bytes) =>
        bytes <= 1 << SmallestShift ? 0 : 32 - BitOperations.LeadingZeroCount((uint)(bytes - 1)) - SmallestShift;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private NativeBlock* Allocate(int minBytes, int sizeClass)
    {
        int capacity = sizeClass < Classes ? 1 << (sizeClass + SmallestShift) : minBytes;
        NativeBlock* block = (NativeBlock*)NativeMemory.Alloc((nuint)(capacity + sizeof(NativeBlock)));
        block->Capacity = capacity;
        block->Length = 0;
        block->SizeClass = sizeClass;
        block->Guard = Live;
        Interlocked.Add(ref _allocatedBytes, capacity + sizeof(NativeBlock));
        return block;
    }

    /// <summary>Vyukov's bounded queue of pointers, many producers and consumers.</summary>
    private sealed class PointerRing
    {
        private readonly Cell[] _cells;
        private readonly int _mask;
        private PaddedLong _tail;
        private PaddedLong _head;

        public PointerRing(int capacity)
        {
            _cells = new Cell[capacity];
            _mask = capacity - 1;
            for (int i = 0; i < capacity; i++)
            {
                _cells[i].Sequence = i;
            }
        }

        public bool TryPush(nint pointer)
        {
            long tail = Volatile.Read(ref _tail.Value);
            while (true)
            {
                ref Cell cell = ref _cells[(int)tail & _mask];
                long difference = Volatile.Read(ref cell.Sequence) - tail;
                if (difference < 0)
                {
                    return false;
                }

                if (difference > 0)
                {
                    tail = Volatile.Read(ref _tail.Value);
                    continue;
                }

                long seen = Interlocked.CompareExchange(ref _tail.Value, tail + 1, tail);
                if (seen == tail)
                {
                    cell.Pointer = pointer;
                    Volatile.Write(ref cell.Sequence, tail + 1);
                    return true;
                }

                tail = seen;
            }
        }

        public bool TryPop(out nint pointer)
        {
            long head = Volatile.Read(ref _head.Value);
            while (true)
            {
                ref Cell cell = ref _cells[(int)head & _mask];
                long difference = Volatile.Read(ref cell.Sequence) - (head + 1);
                if (difference < 0)
                {
                    pointer = 0;
                    return false;
                }

                if (difference > 0)
                {
                    head = Volatile.Read(ref _head.Value);
                    continue;
                }

                long seen = Interlocked.CompareExchange(ref _head.Value, head + 1, head);
                if (seen == head)
                {
                    pointer = cell.Pointer;
                    Volatile.Write(ref cell.Sequence, head + _cells.Length);
                    return true;
                }

                head = seen;
            }
        }

        private struct Cell
        {
            public long Sequence;
            public nint Pointer;
        }
    }
}

/// <summary>A growing byte buffer over one pooled block. Not thread-safe; one owner. Default value is unusable.</summary>
public unsafe struct NativeBuffer
{
    private readonly NativePool _pool;
    private NativeBlock* _block;

    public NativeBuffer(NativePool pool)
    {
        _pool = pool;
        _block = null;
    }

    public readonly int Length => _block == null ? 0 : _block->Length;

    public readonly ReadOnlySpan<byte> WrittenSpan => _block == null ? default : NativeBlock.Span(_block);

    /// <summary>Start of the bytes; moves when the buffer grows.</summary>
    public readonly byte* Pointer => _block == null ? null : NativeBlock.Data(_block);

    /// <summary>At least so many writable bytes after the written ones; valid until the next call.</summary>
    public Span<byte> GetSpan(int sizeHint)
    {
        int used = Length;
        if (_block == null || _block->Capacity - used < sizeHint)
        {
            Grow(checked(used + sizeHint));
        }

        return NativeBlock.Room(_block)[used..];
    }

    /// <summary>Counts bytes written into the last span.</summary>
    public readonly void Advance(int count)
    {
        Invariant.Check(count >= 0 && _block != null && count <= _block->Capacity - _block->Length, "advance within the buffer");
        _block->Length += count;
    }

    public void Write(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(GetSpan(bytes.Length));
        if (!bytes.IsEmpty)
        {
            Advance(bytes.Length);
        }
    }

    /// <summary>Forgets the bytes, keeps the block.</summary>
    public readonly void Reset()
    {
        if (_block != null)
        {
            _block->Length = 0;
        }
    }

    /// <summary>Takes the block out: the caller owns it. May be null.</summary>
    public NativeBlock* Detach()
    {
        NativeBlock* block = _block;
        _block = null;
        return block;
    }

    /// <summary>Returns the block to the pool.</summary>
    public void Free()
    {
        if (_block != null)
        {
            _pool.Return(_block);
            _block = null;
        }
    }

    private void Grow(int atLeast)
    {
        NativeBlock* old = _block;
        int target = old == null ? atLeast : (int)Math.Min(Math.Max((long)atLeast, old->Capacity * 2L), int.MaxValue - 64);
        NativeBlock* bigger = _pool.Rent(target);
        if (old != null)
        {
            NativeBlock.Span(old).CopyTo(NativeBlock.Room(bigger));
            bigger->Length = old->Length;
            _pool.Return(old);
        }

        _block = bigger;
    }
}
