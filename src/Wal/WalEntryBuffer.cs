// WalEntryBuffer: native memory for entries read back from segments. One owner at a time.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Wal;

/// <summary>A reusable arena of entries and their payloads.</summary>
public sealed unsafe class WalEntryBuffer : IDisposable
{
    private byte* _bytes;
    private int _bytesUsed;
    private int _bytesCapacity;
    private WalEntry* _entries;
    private int _count;
    private int _capacity;

    ~WalEntryBuffer() => Free();

    /// <summary>What the last read delivered; valid until the next read, <see cref="Clear"/> or disposal.</summary>
    public ReadOnlySpan<WalEntry> Entries => new(_entries, _count);

    /// <summary>Forgets the content, keeps the memory.</summary>
    public void Clear()
    {
        _count = 0;
        _bytesUsed = 0;
    }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    internal void Add(ulong term, ulong index, byte type, ReadOnlySpan<byte> payload)
    {
        if (_count == _capacity)
        {
            _capacity = Math.Max(64, checked(_capacity * 2));
            _entries = (WalEntry*)NativeMemory.Realloc(_entries, (nuint)_capacity * (nuint)sizeof(WalEntry));
        }

        EnsureBytes(payload.Length);
        payload.CopyTo(new Span<byte>(_bytes + _bytesUsed, payload.Length));
        _entries[_count++] = new WalEntry
        {
            Term = term,
            Index = index,
            Type = type,
            Data = payload.IsEmpty ? null : _bytes + _bytesUsed,
            Length = payload.Length,
        };
        _bytesUsed += payload.Length;
    }

    private void EnsureBytes(int extra)
    {
        int needed = checked(_bytesUsed + extra);
        if (needed <= _bytesCapacity)
        {
            return;
        }

        int capacity = (int)Math.Min(Array.MaxLength, Math.Max((long)needed, _bytesCapacity * 2L));
        byte* moved = (byte*)NativeMemory.Alloc((nuint)capacity);
        new ReadOnlySpan<byte>(_bytes, _bytesUsed).CopyTo(new Span<byte>(moved, capacity));
        for (int i = 0; i < _count; i++)
        {
            if (_entries[i].Data != null)
            {
                _entries[i].Data = moved + (_entries[i].Data - _bytes);
            }
        }

        NativeMemory.Free(_bytes);
        _bytes = moved;
        _bytesCapacity = capacity;
    }

    private void Free()
    {
        NativeMemory.Free(_bytes);
        NativeMemory.Free(_entries);
        _bytes = null;
        _entries = null;
        _count = _capacity = _bytesUsed = _bytesCapacity = 0;
    }
}
