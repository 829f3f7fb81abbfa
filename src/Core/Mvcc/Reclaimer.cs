// Reclaimer: memory that was unlinked from the index but may still be under the eyes of a reader.
//
// Why        Readers take no lock. What the writer unlinks while View n is the newest can be reached by readers
//            pinned at n or earlier, never by one pinned later: it is freed once no pin at or below n is left.
// Thread     store.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Core.Mvcc;

/// <summary>A queue of (piece, size, View) in the order of retirement.</summary>
internal sealed unsafe class Reclaimer : IDisposable
{
    private readonly NativeArena _arena;
    private Entry* _entries;
    private long _capacity = 1024;
    private long _head;
    private long _tail;

    public Reclaimer(NativeArena arena)
    {
        _arena = arena;
        _entries = (Entry*)NativeMemory.Alloc((nuint)(_capacity * sizeof(Entry)));
    }

    /// <summary>Pieces waiting.</summary>
    public long Count => _tail - _head;

    /// <summary>The View under which the last waiting piece was retired; -1 when none waits.</summary>
    public long NewestView => _tail == _head ? -1 : _entries[(_tail - 1) & (_capacity - 1)].View;

    /// <summary>Sequence of the newest published View: what is retired now may be reached from it.</summary>
    public long CurrentView { get; set; }

    /// <summary>No reader exists (open, tests): pieces are freed at once.</summary>
    public bool IsExclusive { get; set; }

    public void Retire(void* piece, int bytes)
    {
        if (IsExclusive)
        {
            _arena.Free((byte*)piece, bytes);
            return;
        }

        if (_tail - _head == _capacity)
        {
            Grow();
        }

        _entries[_tail++ & (_capacity - 1)] = new Entry { Piece = (nint)piece, Bytes = bytes, View = CurrentView };
    }

    /// <summary>Frees what only Views below <paramref name="lowestPin"/> could reach, at most so many pieces.</summary>
    /// <returns>Pieces freed.</returns>
    public int Collect(long lowestPin, int atMost)
    {
        int freed = 0;
        while (freed < atMost && _head != _tail)
        {
            ref Entry entry = ref _entries[_head & (_capacity - 1)];
            if (entry.View >= lowestPin)
            {
                break;
            }

            _arena.Free((byte*)entry.Piece, entry.Bytes);
            _head++;
            freed++;
        }

        return freed;
    }

    public void Dispose()
    {
        NativeMemory.Free(_entries);
        _entries = null;
        _head = _tail = 0;
    }

    private void Grow()
    {
        Entry* bigger = (Entry*)NativeMemory.Alloc((nuint)(_capacity * 2 * sizeof(Entry)));
        for (long i = _head; i < _tail; i++)
        {
            bigger[i & (_capacity * 2 - 1)] = _entries[i & (_capacity - 1)];
        }

        NativeMemory.Free(_entries);
        _entries = bigger;
        _capacity *= 2;
    }

    private struct Entry
    {
        public nint Piece;
        public long View;
        public int Bytes;
    }
}
