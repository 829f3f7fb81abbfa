// LeaseKeySet: the keys of one lease, sorted, as a revoke hands them to the store.
//
// Why        A revoke deletes the keys in byte order within one revision, on every member alike, and while it does
//            so the lease table changes under it. So the keys are moved out first.
// Thread     its owner. Reused from revoke to revoke; grows to the largest lease seen.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Core.Leases;

/// <summary>A list of keys in native memory, owned by this object until <see cref="Clear"/>.</summary>
public sealed unsafe class LeaseKeySet : IDisposable
{
    private Key[] _keys = new Key[16];

    ~LeaseKeySet()
    {
        Clear();
    }

    /// <summary>How many keys there are.</summary>
    public int Count { get; private set; }

    /// <summary>One key; valid until <see cref="Clear"/>.</summary>
    public ReadOnlySpan<byte> this[int index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Count, nameof(index));
            return new ReadOnlySpan<byte>(_keys[index].Data, _keys[index].Length);
        }
    }

    /// <summary>Copies one more key in.</summary>
    public void Add(ReadOnlySpan<byte> key)
    {
        byte* data = (byte*)NativeMemory.Alloc((nuint)Math.Max(key.Length, 1));
        key.CopyTo(new Span<byte>(data, key.Length));
        Own(data, key.Length);
    }

    /// <summary>Orders the keys by unsigned bytes.</summary>
    public void Sort() => _keys.AsSpan(0, Count).Sort();

    /// <summary>Frees all keys.</summary>
    public void Clear()
    {
        for (int i = 0; i < Count; i++)
        {
            NativeMemory.Free(_keys[i].Data);
        }

        Count = 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Clear();
        GC.SuppressFinalize(this);
    }

    /// <summary>Takes bytes made by <see cref="NativeMemory.Alloc(nuint)"/> over.</summary>
    internal void Own(byte* data, int length)
    {
        if (Count == _keys.Length)
        {
            Array.Resize(ref _keys, _keys.Length * 2);
        }

        _keys[Count++] = new Key { Data = data, Length = length };
    }

    private struct Key : IComparable<Key>
    {
        public byte* Data;
        public int Length;

        public readonly int CompareTo(Key other) =>
            new ReadOnlySpan<byte>(Data, Length).SequenceCompareTo(new ReadOnlySpan<byte>(other.Data, other.Length));
    }
}
