// Watcher, WatchTarget, SlabTable: what is kept for each watcher, outside the managed heap, and the tables that hold it.
//
// Size       a watcher takes 56 bytes; each different key or range that is watched takes a target of 64 bytes and its
//            bytes; two hash tables take 4 to 8 bytes each per entry. So a watcher on a key of its own costs about 150
//            bytes and its key (counted from the structs, not measured yet), and the collector does not see it.
// Links      by index, not by pointer: half the size, and a table may grow. 0 is "none"; the first element is unused.
// Thread     the hub's.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>What a watcher asked for and where it stands.</summary>
[Flags]
internal enum WatcherFlags : ushort
{
    None = 0,
    NoPut = 1,
    NoDelete = 2,
    PrevKv = 4,
    Fragment = 8,
    ProgressNotify = 16,

    /// <summary>Nothing has been sent to it since the last progress tick.</summary>
    Quiet = 32,

    /// <summary>Reads history from <see cref="Watcher.Next"/> on; live events pass it by.</summary>
    Lagging = 64,

    /// <summary>Started above the current revision: no progress is reported before it is reached.</summary>
    Future = 128,

    /// <summary>Ended by a compaction: only its id is still taken.</summary>
    Silent = 256,
}

/// <summary>One watcher.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Watcher
{
    public long Id;

    /// <summary>The first revision it still has to get; of one that is not lagging only a lower bound.</summary>
    public long Next;

    public int Stream;
    public int Target;
    public int NextInTarget;
    public int PreviousInTarget;
    public int NextInStream;
    public int PreviousInStream;
    public int NextLagging;
    public int PreviousLagging;
    public int NextSameHash;

    public WatcherFlags Flags;
}

/// <summary>A key or a range that is watched, with its watchers.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct WatchTarget
{
    /// <summary>The key, directly followed by the range end.</summary>
    public byte* Bytes;

    public int KeyLength;

    /// <summary>Length of the range end; <see cref="SingleKey"/> or <see cref="OpenEnd"/>.</summary>
    public int EndLength;

    /// <summary>First of its watchers.</summary>
    public int First;

    public int Count;
    public uint Hash;
    public int NextSameHash;

    /// <summary>Ranges only: children, priority and the child (or itself) with the largest end below it.</summary>
    public int Left;
    public int Right;
    public uint Priority;
    public int MaxEnd;

    /// <summary>The last catch-up pass that served watchers of this target, and the first of its picks plus one.</summary>
    public int Pass;
    public int FirstInPass;

    public const int SingleKey = -1;
    public const int OpenEnd = -2;

    public readonly ReadOnlySpan<byte> Key => new(Bytes, KeyLength);

    public readonly ReadOnlySpan<byte> End => new(Bytes + KeyLength, Math.Max(0, EndLength));

    /// <summary>True if the range contains a key that is not below its start.</summary>
    public readonly bool EndsAfter(ReadOnlySpan<byte> key) => EndLength == OpenEnd || End.SequenceCompareTo(key) > 0;
}

/// <summary>Elements of one size that are found by index and never move.</summary>
internal sealed unsafe class SlabTable<T> : IDisposable
    where T : unmanaged
{
    private const int SlabShift = 10;
    private const int SlabLength = 1 << SlabShift;
    private nint* _slabs;
    private int _slabCount;
    private int _slabRoom;
    private int _used = 1; // element 0 stands for "none"
    private int* _free;
    private int _freeCount;
    private int _freeRoom;

    /// <summary>Elements in use.</summary>
    public int Count => _used - 1 - _freeCount;

    public T* this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (T*)_slabs[index >> SlabShift] + (index & (SlabLength - 1));
    }

    /// <summary>A zeroed element.</summary>
    public int Add()
    {
        int index = _freeCount > 0 ? _free[--_freeCount] : _used++;
        if (index >> SlabShift == _slabCount)
        {
            AddSlab();
        }

        *this[index] = default;
        return index;
    }

    /// <summary>The index may be handed out again.</summary>
    public void Remove(int index)
    {
        if (Count == 1)
        {
            // The last one: give the memory back rather than keep the peak for ever.
            Clear();
            return;
        }

        if (_freeCount == _freeRoom)
        {
            _freeRoom = Math.Max(256, _freeRoom * 2);
            _free = (int*)NativeMemory.Realloc(_free, (nuint)_freeRoom * sizeof(int));
        }

        _free[_freeCount++] = index;
    }

    public void Dispose() => Clear();

    private void Clear()
    {
        for (int i = 0; i < _slabCount; i++)
        {
            NativeMemory.Free((void*)_slabs[i]);
        }

        NativeMemory.Free(_slabs);
        NativeMemory.Free(_free);
        _slabs = null;
        _free = null;
        _slabCount = _slabRoom = _freeCount = _freeRoom = 0;
        _used = 1;
    }

    private void AddSlab()
    {
        if (_slabCount == _slabRoom)
        {
            _slabRoom = Math.Max(16, _slabRoom * 2);
            _slabs = (nint*)NativeMemory.Realloc(_slabs, (nuint)_slabRoom * (nuint)sizeof(nint));
        }

        _slabs[_slabCount++] = (nint)NativeMemory.Alloc(SlabLength, (nuint)sizeof(T));
    }
}

/// <summary>Heads of hash chains over a slab table; the links are in the elements.</summary>
internal unsafe struct ChainTable
{
    private const int Smallest = 64;
    private int* _heads;
    private int _mask;

    /// <summary>Number of chains; 0 before the first <see cref="Resize"/>.</summary>
    public readonly int Length => _heads == null ? 0 : _mask + 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ref int Head(uint hash) => ref _heads[hash & (uint)_mask];

    /// <summary>How many chains there should be for so many elements; equal to <see cref="Length"/> when that will do.</summary>
    public readonly int Wanted(int count)
    {
        int length = Length;
        if (count > length || length == 0)
        {
            return Math.Max(Smallest, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)count + 1));
        }

        return length > Smallest && count < length / 8
            ? Math.Max(Smallest, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)count * 2 + 1))
            : length;
    }

    /// <summary>Makes all chains empty, so many of them; the owner puts its elements in again.</summary>
    public void Resize(int length)
    {
        NativeMemory.Free(_heads);
        _heads = (int*)NativeMemory.AllocZeroed((nuint)length, sizeof(int));
        _mask = length - 1;
    }

    public void Free()
    {
        NativeMemory.Free(_heads);
        _heads = null;
        _mask = 0;
    }
}

/// <summary>A growing native array that is reused.</summary>
internal unsafe struct Scratch<T>
    where T : unmanaged
{
    private const int KeptBytes = 1 << 20;
    private T* _items;
    private int _room;

    public int Count;

    public readonly T* Items => _items;

    public readonly Span<T> Span => new(_items, Count);

    public void Add(in T item)
    {
        if (Count == _room)
        {
            _room = Math.Max(256, checked(_room * 2));
            _items = (T*)NativeMemory.Realloc(_items, (nuint)_room * (nuint)sizeof(T));
        }

        _items[Count++] = item;
    }

    /// <summary>Room for so many more items, contents undefined.</summary>
    public Span<T> Extend(int count)
    {
        if (_room - Count < count)
        {
            _room = checked((int)Math.Min(Math.Max((long)Count + count, Math.Max(256, _room * 2L)), Array.MaxLength));
            _items = (T*)NativeMemory.Realloc(_items, (nuint)_room * (nuint)sizeof(T));
        }

        int start = Count;
        Count = checked(Count + count);
        return new Span<T>(_items + start, count);
    }

    /// <summary>Forgets the items; memory beyond what is usual goes back.</summary>
    public void Reset()
    {
        Count = 0;
        if ((long)_room * sizeof(T) > KeptBytes)
        {
            Free();
        }
    }

    public void Free()
    {
        NativeMemory.Free(_items);
        _items = null;
        _room = 0;
        Count = 0;
    }
}
