// NativeList: a growing array outside the managed heap, for the short-lived lists of a commit.
// Thread   its owner's.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Btree;

internal sealed unsafe class NativeList<T> : IDisposable
    where T : unmanaged
{
    private T* _items;
    private int _capacity;

    public int Count { get; private set; }

    public Span<T> Items => new(_items, Count);

    public void Add(in T item)
    {
        if (Count == _capacity)
        {
            T copy = item; // the argument may lie in the array that moves
            _capacity = Math.Max(64, _capacity * 2);
            _items = (T*)NativeMemory.Realloc(_items, (nuint)_capacity * (nuint)sizeof(T));
            _items[Count++] = copy;
            return;
        }

        _items[Count++] = item;
    }

    /// <summary>Drops everything from an index on.</summary>
    public void Truncate(int count) => Count = count;

    public void Dispose()
    {
        NativeMemory.Free(_items);
        _items = null;
        _capacity = 0;
        Count = 0;
    }
}
