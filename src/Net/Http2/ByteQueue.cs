// ByteQueue: bytes that come in at one end and leave at the other, in one block of native memory that is given back whenever the
// queue runs empty: an idle connection holds none. Not thread-safe; default value is unusable.
using System;
using Cairn.Base;

namespace Cairn.Net.Http2;

/// <summary>A growing queue of bytes.</summary>
internal unsafe struct ByteQueue
{
    private readonly NativePool _pool;
    private NativeBlock* _block;
    private int _start;
    private int _end;

    public ByteQueue(NativePool pool)
    {
        _pool = pool;
        _block = null;
        _start = 0;
        _end = 0;
    }

    /// <summary>Bytes in the queue.</summary>
    public readonly int Length => _end - _start;

    /// <summary>The oldest byte; moves with the next <see cref="Room"/>.</summary>
    public readonly byte* Head => _block == null ? null : NativeBlock.Data(_block) + _start;

    /// <summary>All bytes; valid until the next change.</summary>
    public readonly ReadOnlySpan<byte> Span => new(Head, Length);

    /// <summary>At least so many writable bytes behind the last; count them with <see cref="Advance"/>.</summary>
    public Span<byte> Room(int count)
    {
        if (_block == null)
        {
            _block = _pool.Rent(count);
        }
        else if (_block->Capacity - _end < count)
        {
            Grow(count);
        }

        return new Span<byte>(NativeBlock.Data(_block) + _end, _block->Capacity - _end);
    }

    /// <summary>Counts bytes written into the last <see cref="Room"/>.</summary>
    public void Advance(int count)
    {
        Invariant.Check(count >= 0 && _block != null && count <= _block->Capacity - _end, "advance within the room");
        _end += count;
    }

    public void Append(ReadOnlySpan<byte> bytes)
    {
        if (!bytes.IsEmpty)
        {
            bytes.CopyTo(Room(bytes.Length));
            _end += bytes.Length;
        }
    }

    /// <summary>Drops the oldest bytes.</summary>
    public void Consume(int count)
    {
        Invariant.Check(count >= 0 && count <= Length, "no more leaves a queue than is in it");
        _start += count;
        if (_start == _end)
        {
            Free();
        }
    }

    /// <summary>Drops everything.</summary>
    public void Free()
    {
        _start = 0;
        _end = 0;
        if (_block != null)
        {
            _pool.Return(_block);
            _block = null;
        }
    }

    private void Grow(int count)
    {
        int used = Length;
        byte* data = NativeBlock.Data(_block);
        if (_start >= used && _block->Capacity - used >= count)
        {
            new ReadOnlySpan<byte>(data + _start, used).CopyTo(new Span<byte>(data, used));
        }
        else
        {
            NativeBlock* bigger = _pool.Rent(checked((int)Math.Max((long)used + count, Math.Min(2L * used, 64 << 20))));
            new ReadOnlySpan<byte>(data + _start, used).CopyTo(NativeBlock.Room(bigger));
            _pool.Return(_block);
            _block = bigger;
        }

        _start = 0;
        _end = used;
    }
}
