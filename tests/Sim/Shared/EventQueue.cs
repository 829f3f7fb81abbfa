// EventQueue: what will happen, by simulated time; ties broken by a drawn number, then by order of insertion.
//
// A four-way heap of structs: millions of events a second pass through it, so nothing here allocates once it has grown.
using System;

namespace Cairn.Simulation;

/// <summary>Something that happens at a time. What the numbers mean depends on <see cref="Kind"/>.</summary>
internal struct SimEvent
{
    public long TimeNs;
    public ulong Order;
    public byte Kind;
    public int Node;
    public int Generation;
    public long Argument;
}

internal sealed class EventQueue
{
    private SimEvent[] _heap = new SimEvent[256];

    public int Count { get; private set; }

    public ref readonly SimEvent First => ref _heap[0];

    public void Add(in SimEvent added)
    {
        if (Count == _heap.Length)
        {
            Array.Resize(ref _heap, Count * 2);
        }

        int at = Count++;
        while (at > 0)
        {
            int parent = (at - 1) >> 2;
            if (!IsBefore(in added, in _heap[parent]))
            {
                break;
            }

            _heap[at] = _heap[parent];
            at = parent;
        }

        _heap[at] = added;
    }

    public SimEvent Take()
    {
        SimEvent first = _heap[0];
        SimEvent moved = _heap[--Count];
        int at = 0;
        while (true)
        {
            int child = (at << 2) + 1;
            if (child >= Count)
            {
                break;
            }

            int best = child;
            int end = Math.Min(child + 4, Count);
            for (int i = child + 1; i < end; i++)
            {
                if (IsBefore(in _heap[i], in _heap[best]))
                {
                    best = i;
                }
            }

            if (!IsBefore(in _heap[best], in moved))
            {
                break;
            }

            _heap[at] = _heap[best];
            at = best;
        }

        _heap[at] = moved;
        return first;
    }

    private static bool IsBefore(in SimEvent a, in SimEvent b) =>
        a.TimeNs < b.TimeNs || (a.TimeNs == b.TimeNs && a.Order < b.Order);
}
