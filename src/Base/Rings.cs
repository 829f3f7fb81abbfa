// Rings: the bounded queues between threads. Capacity is a power of two; a full ring says no and the producer
// decides (reject, block or drop). Nothing is allocated after construction.
//
// MpscRing is Vyukov's bounded queue: each cell carries a sequence number that says whose turn it is, so
// producers claim a cell with one compare-and-swap and publish it with one release-store.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace Cairn.Base;

/// <summary>Many producers, one consumer.</summary>
public sealed class MpscRing<T>
{
    private readonly Cell[] _cells;
    private readonly int _mask;
    private PaddedLong _tail; // next cell to claim, any producer
    private PaddedLong _head; // next cell to take, consumer only

    public MpscRing(int capacity)
    {
        Invariant.Check(capacity >= 2 && (capacity & (capacity - 1)) == 0, "a ring's capacity is a power of two");
        _cells = new Cell[capacity];
        _mask = capacity - 1;
        for (int i = 0; i < capacity; i++)
        {
            _cells[i].Sequence = i;
        }
    }

    public int Capacity => _cells.Length;

    /// <summary>Approximate when read by anybody but the consumer.</summary>
    public int Count => (int)(Volatile.Read(ref _tail.Value) - Volatile.Read(ref _head.Value));

    /// <summary>Any thread. False when full.</summary>
    public bool TryEnqueue(in T item)
    {
        Cell[] cells = _cells;
        long tail = Volatile.Read(ref _tail.Value);
        while (true)
        {
            ref Cell cell = ref cells[(int)tail & _mask];
            long difference = Volatile.Read(ref cell.Sequence) - tail;
            if (difference == 0)
            {
                long seen = Interlocked.CompareExchange(ref _tail.Value, tail + 1, tail);
                if (seen == tail)
                {
                    cell.Item = item;
                    Volatile.Write(ref cell.Sequence, tail + 1);
                    return true;
                }

                tail = seen;
            }
            else if (difference < 0)
            {
                return false;
            }
            else
            {
                tail = Volatile.Read(ref _tail.Value);
            }
        }
    }

    /// <summary>The consumer. False when empty (or when the next producer has claimed but not yet published).</summary>
    public bool TryDequeue(out T item)
    {
        long head = _head.Value;
        ref Cell cell = ref _cells[(int)head & _mask];
        if (Volatile.Read(ref cell.Sequence) != head + 1)
        {
            item = default!;
            return false;
        }

        item = cell.Item;
        cell.Item = default!;
        Volatile.Write(ref cell.Sequence, head + _cells.Length);
        Volatile.Write(ref _head.Value, head + 1);
        return true;
    }

    /// <summary>The consumer: true if nothing can be taken now.</summary>
    public bool IsEmpty => Volatile.Read(ref _cells[(int)_head.Value & _mask].Sequence) != _head.Value + 1;

    private struct Cell
    {
        public long Sequence;
        public T Item;
    }
}

/// <summary>One producer, one consumer.</summary>
public sealed class SpscRing<T>
{
    private readonly T[] _items;
    private readonly int _mask;
    private PaddedLong _tail; // written by the producer
    private PaddedLong _head; // written by the consumer
    private PaddedLong _headSeen; // producer's copy of the head, spares a cache miss per item
    private PaddedLong _tailSeen; // consumer's copy of the tail

    public SpscRing(int capacity)
    {
        Invariant.Check(capacity >= 2 && (capacity & (capacity - 1)) == 0, "a ring's capacity is a power of two");
        _items = new T[capacity];
        _mask = capacity - 1;
    }

    public int Capacity => _items.Length;

    /// <summary>Exact for neither side while the other runs; a lower bound of free room for the producer.</summary>
    public int Count => (int)(Volatile.Read(ref _tail.Value) - Volatile.Read(ref _head.Value));

    /// <summary>True if nothing can be taken now. Any thread.</summary>
    public bool IsEmpty => Volatile.Read(ref _tail.Value) == Volatile.Read(ref _head.Value);

    /// <summary>The producer. False when full.</summary>
    public bool TryEnqueue(in T item)
    {
        long tail = _tail.Value;
        if (tail - _headSeen.Value == _items.Length)
        {
            _headSeen.Value = Volatile.Read(ref _head.Value);
            if (tail - _headSeen.Value == _items.Length)
            {
                return false;
            }
        }

        _items[(int)tail & _mask] = item;
        Volatile.Write(ref _tail.Value, tail + 1);
        return true;
    }

    /// <summary>The consumer. False when empty.</summary>
    public bool TryDequeue(out T item)
    {
        long head = _head.Value;
        if (head == _tailSeen.Value)
        {
            _tailSeen.Value = Volatile.Read(ref _tail.Value);
            if (head == _tailSeen.Value)
            {
                item = default!;
                return false;
            }
        }

        ref T slot = ref _items[(int)head & _mask];
        item = slot;
        if (RuntimeHelpers.IsReferenceOrContainsReferences<T>())
        {
            slot = default!;
        }

        Volatile.Write(ref _head.Value, head + 1);
        return true;
    }

    /// <summary>The consumer: looks at the next item without taking it.</summary>
    public bool TryPeek(out T item)
    {
        if (IsEmpty)
        {
            item = default!;
            return false;
        }

        item = _items[(int)_head.Value & _mask];
        return true;
    }
}

/// <summary>A counter alone on its cache lines, so that neighbours do not slow each other.</summary>
[StructLayout(LayoutKind.Explicit, Size = 192)]
internal struct PaddedLong
{
    [FieldOffset(64)]
    public long Value;
}
