// LeaseHeap: a 4-ary heap of (time, slot) in native memory; every slot knows its position, so that it can be moved.
//
// Why        Keys are lower bounds: a renewal moves only the deadline in its slot, and the heap learns of it when the old
//            time comes. So keep-alives, the most frequent thing by far, never touch the heap.
// Thread     raft.
using System;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>Slots by time.</summary>
internal sealed unsafe class LeaseHeap(LeaseTable table)
{
    private Item* _items;
    private int _capacity;

    ~LeaseHeap()
    {
        NativeMemory.Free(_items);
    }

    /// <summary>Slots in the heap.</summary>
    public int Count { get; private set; }

    /// <summary>The earliest time; <see cref="LeaseTable.Never"/> when empty.</summary>
    public long FirstMs => Count == 0 ? LeaseTable.Never : _items[0].AtMs;

    /// <summary>The slot of the earliest time; only when not empty.</summary>
    public int First => _items[0].Slot;

    /// <summary>Forgets all.</summary>
    public void Clear() => Count = 0;

    /// <summary>Adds without order; <see cref="Order"/> must follow before anything else.</summary>
    public void Append(int slot, long atMs)
    {
        Reserve();
        Place(Count++, new Item { AtMs = atMs, Slot = slot });
    }

    /// <summary>Makes a heap of what was appended; linear.</summary>
    public void Order()
    {
        for (int i = Count < 2 ? -1 : (Count - 2) / 4; i >= 0; i--)
        {
            Down(i, _items[i]);
        }
    }

    /// <summary>Adds a slot that is not in the heap.</summary>
    public void Add(int slot, long atMs)
    {
        Reserve();
        Up(Count++, new Item { AtMs = atMs, Slot = slot });
    }

    /// <summary>Gives a slot of the heap another time.</summary>
    public void Move(int slot, long atMs)
    {
        int position = table.At(slot)->HeapPosition;
        Invariant.Check((uint)position < (uint)Count && _items[position].Slot == slot, "a lease knows its place in the heap");
        var item = new Item { AtMs = atMs, Slot = slot };
        if (atMs < _items[position].AtMs)
        {
            Up(position, item);
        }
        else
        {
            Down(position, item);
        }
    }

    /// <summary>Takes a slot out.</summary>
    public void Remove(int slot)
    {
        Move(slot, -1);
        Item last = _items[--Count];
        if (Count > 0)
        {
            Down(0, last);
        }

        table.At(slot)->HeapPosition = LeaseTable.None;
    }

    private void Reserve()
    {
        if (Count == _capacity)
        {
            _capacity = Math.Max(1024, checked(_capacity * 2));
            _items = (Item*)NativeMemory.Realloc(_items, (nuint)_capacity * (nuint)sizeof(Item));
        }
    }

    private void Place(int position, Item item)
    {
        _items[position] = item;
        table.At(item.Slot)->HeapPosition = position;
    }

    private void Up(int position, Item item)
    {
        while (position > 0)
        {
            int parent = (position - 1) / 4;
            if (_items[parent].AtMs <= item.AtMs)
            {
                break;
            }

            Place(position, _items[parent]);
            position = parent;
        }

        Place(position, item);
    }

    private void Down(int position, Item item)
    {
        while (true)
        {
            int child = (position * 4) + 1;
            if (child >= Count)
            {
                break;
            }

            int least = child;
            int end = Math.Min(child + 4, Count);
            for (int i = child + 1; i < end; i++)
            {
                if (_items[i].AtMs < _items[least].AtMs)
                {
                    least = i;
                }
            }

            if (_items[least].AtMs >= item.AtMs)
            {
                break;
            }

            Place(position, _items[least]);
            position = least;
        }

        Place(position, item);
    }

    private struct Item
    {
        public long AtMs;
        public int Slot;
    }
}
