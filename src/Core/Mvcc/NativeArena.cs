// NativeArena: the memory of the key index: records, history blocks and nodes, outside the managed heap.
//
// Why        Ten million keys must cost the collector nothing, and a put must not allocate. Pieces are cut from
//            1 MiB chunks; a freed piece goes to the free list of its size class and is handed out again.
// Thread     store (the owner). Other threads only read what was handed out, under the rules of KeyIndex.
// Layout     sizes up to 2 KiB are kept in steps of 8 bytes, then four steps per doubling up to 64 KiB; larger
//            pieces come straight from the system and go straight back.
using System;
using System.Numerics;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>A single-owner allocator; the caller remembers the size of what it took.</summary>
internal sealed unsafe class NativeArena : IDisposable
{
    private const int ChunkBytes = 1 << 20;
    private const int ChunkHeader = 64; // a cache line, so that pieces keep their alignment
    private const int FineMax = 2048;
    private const int FineClasses = FineMax / 8 + 1;
    private const int CoarseMax = 64 * 1024;
    private const int CoarseClasses = 20; // four per doubling: 2 KiB .. 64 KiB
    private nint _chunks; // the newest; each begins with the address of the one before
    private readonly nint[] _free = new nint[FineClasses + CoarseClasses];
    private byte* _next;
    private long _room;

    /// <summary>Bytes taken from the system.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>Bytes handed out and not yet freed.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Memory of at least so many bytes, 8-byte aligned, contents undefined.</summary>
    public byte* Allocate(int bytes)
    {
        int sizeClass = ClassOf(bytes, out int rounded);
        UsedBytes += rounded;
        if (sizeClass < 0)
        {
            ReservedBytes += rounded;
            return (byte*)NativeMemory.Alloc((nuint)rounded);
        }

        nint head = _free[sizeClass];
        if (head != 0)
        {
            _free[sizeClass] = *(nint*)head;
            return (byte*)head;
        }

        if (_room < rounded)
        {
            AddChunk();
        }

        byte* piece = _next;
        _next += rounded;
        _room -= rounded;
        return piece;
    }

    /// <summary>Gives memory back; the size is the one it was asked with.</summary>
    public void Free(byte* piece, int bytes)
    {
        int sizeClass = ClassOf(bytes, out int rounded);
        UsedBytes -= rounded;
        if (sizeClass < 0)
        {
            ReservedBytes -= rounded;
            NativeMemory.Free(piece);
            return;
        }

        *(nint*)piece = _free[sizeClass];
        _free[sizeClass] = (nint)piece;
    }

    public void Dispose()
    {
        while (_chunks != 0)
        {
            nint before = *(nint*)_chunks;
            NativeMemory.AlignedFree((void*)_chunks);
            _chunks = before;
        }

        Array.Clear(_free);
        _room = 0;
    }

    private static int ClassOf(int bytes, out int rounded)
    {
        Invariant.Check(bytes > 0, "an allocation has a size");
        if (bytes <= FineMax)
        {
            rounded = (bytes + 7) & ~7;
            return rounded >> 3;
        }

        if (bytes > CoarseMax)
        {
            rounded = checked(bytes + 7) & ~7;
            return -1;
        }

        int log = BitOperations.Log2((uint)(bytes - 1)); // 11..15
        int step = 1 << (log - 2);
        int quarter = (bytes - 1 - (1 << log)) / step; // 0..3
        rounded = (1 << log) + (quarter + 1) * step;
        return FineClasses + ((log - 11) << 2) + quarter;
    }

    private void AddChunk()
    {
        // What is left of the old chunk becomes a free piece of the largest fine class that fits.
        while (_room >= 8)
        {
            int piece = (int)Math.Min(_room, FineMax) & ~7;
            *(nint*)_next = _free[piece >> 3];
            _free[piece >> 3] = (nint)_next;
            _next += piece;
            _room -= piece;
        }

        byte* chunk = (byte*)NativeMemory.AlignedAlloc(ChunkBytes, 64);
        *(nint*)chunk = _chunks;
        _chunks = (nint)chunk;
        _next = chunk + ChunkHeader;
        _room = ChunkBytes - ChunkHeader;
        ReservedBytes += ChunkBytes;
    }
}
