// SlotQueue: a bounded first-in first-out of slots, owned by one thread. Nothing is allocated after construction.
using Cairn.Base;

namespace Cairn.Core.Server;

/// <summary>Ring of slots with access by position, for scans.</summary>
internal sealed class SlotQueue
{
    private readonly RequestSlot?[] _slots;
    private readonly int _mask;
    private long _head;
    private long _tail;

    internal SlotQueue(int capacity)
    {
        Invariant.Check((capacity & (capacity - 1)) == 0, "a queue's capacity is a power of two");
        _slots = new RequestSlot?[capacity];
        _mask = capacity - 1;
    }

    internal int Count => (int)(_tail - _head);

    internal bool IsFull => Count == _slots.Length;

    /// <summary>The slot at a distance from the head.</summary>
    internal RequestSlot this[int offset] => _slots[(int)(_head + offset) & _mask]!;

    internal void Enqueue(RequestSlot slot)
    {
        Invariant.Check(!IsFull, "the caller has looked for room");
        _slots[(int)_tail++ & _mask] = slot;
    }

    internal RequestSlot Dequeue()
    {
        int position = (int)_head++ & _mask;
        RequestSlot slot = _slots[position]!;
        _slots[position] = null;
        return slot;
    }
}
