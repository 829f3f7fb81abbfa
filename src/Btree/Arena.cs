// Arena: bytes that live until the transaction ends, handed out by moving a pointer; freed all at once.
// Thread   tree.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Cairn.Btree;

internal sealed unsafe class Arena : IDisposable
{
    private const int ChunkBytes = 1 << 20;
    private const int ChunksKept = 16;
    private readonly List<nint> _chunks = new();
    private readonly List<nint> _large = new(); // one allocation each: more than a quarter chunk
    private int _chunk = -1;
    private byte* _next;
    private long _left;

    /// <summary>Bytes handed out since the last reset.</summary>
    public long UsedBytes { get; private set; }

    public byte* Copy(ReadOnlySpan<byte> bytes)
    {
        byte* copy = Take(bytes.Length);
        bytes.CopyTo(new Span<byte>(copy, bytes.Length));
        return copy;
    }

    public byte* Take(int bytes)
    {
        UsedBytes += bytes;
        if (bytes <= _left)
        {
            byte* taken = _next;
            _next += bytes;
            _left -= bytes;
            return taken;
        }

        if (bytes > ChunkBytes / 4)
        {
            byte* own = (byte*)NativeMemory.Alloc((nuint)bytes);
            _large.Add((nint)own);
            return own;
        }

        if (++_chunk == _chunks.Count)
        {
            _chunks.Add((nint)NativeMemory.Alloc(ChunkBytes));
        }

        byte* start = (byte*)_chunks[_chunk];
        _next = start + bytes;
        _left = ChunkBytes - bytes;
        return start;
    }

    /// <summary>Forgets everything; keeps some chunks for the next transaction.</summary>
    public void Reset()
    {
        foreach (nint large in _large)
        {
            NativeMemory.Free((void*)large);
        }

        _large.Clear();
        while (_chunks.Count > ChunksKept)
        {
            NativeMemory.Free((void*)_chunks[^1]);
            _chunks.RemoveAt(_chunks.Count - 1);
        }

        _chunk = -1;
        _next = null;
        _left = 0;
        UsedBytes = 0;
    }

    public void Dispose()
    {
        Reset();
        foreach (nint chunk in _chunks)
        {
            NativeMemory.Free((void*)chunk);
        }

        _chunks.Clear();
    }
}
