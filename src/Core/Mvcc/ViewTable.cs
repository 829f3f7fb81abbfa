// ViewTable: publishes Views and knows which of them readers still hold.
//
// Publish    The writer fills the next entry of a ring and then moves the published number with one release-store.
// Pin        A reader puts the number it saw into a free slot, with a full fence, and looks again: if the number
//            has not moved, every later look of the writer at the slots will see the pin. Then it copies the entry.
// Why slots  A read may cross awaits, so a pin belongs to a read, not to a thread.
// Thread     Publish, LowestPin, IsPinnedWithin: store. Pin, Unpin: any.
using System;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>The published Views and the pins on them.</summary>
internal sealed unsafe class ViewTable
{
    private const int RingLength = 256;
    private const int SlotStride = 8; // longs: one cache line a slot
    private readonly View[] _ring = new View[RingLength];
    private readonly int _slotMask;
    private readonly long[] _memory;
    private readonly long* _slots;
    private Padded _published;

    public ViewTable(int slots)
    {
        Invariant.Check(slots >= 1, "there is at least one pin slot");
        int count = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)slots);
        _slotMask = count - 1;

        // Pinned and managed, unlike the rest: a reader may knock at a store that was replaced long ago, and the slots
        // must still be there to turn it away.
        _memory = System.GC.AllocateArray<long>((count + 1) * SlotStride, pinned: true);
        nint start = (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _memory[0]);
        _slots = (long*)((start + 63) & ~(nint)63);
    }

    /// <summary>Number of the newest View; 0 before the first. Any thread.</summary>
    public long Published => Volatile.Read(ref _published.Value);

    /// <summary>Makes a View the newest one and returns its number.</summary>
    public long Publish(in View view)
    {
        long next = _published.Value + 1;
        _ring[next & (RingLength - 1)] = view;
        Volatile.Write(ref _published.Value, next);
        return next;
    }

    /// <summary>Takes a slot and the newest View.</summary>
    public int Pin(out View view)
    {
        int slot = Claim();
        long* pin = _slots + (nint)slot * SlotStride;
        long seen = *pin;
        while (true)
        {
            long now = Volatile.Read(ref _published.Value);
            if (now == seen)
            {
                view = _ring[seen & (RingLength - 1)];

                // A reader delayed here for a whole turn of the ring may have copied a half-written entry.
                Thread.MemoryBarrier();
                if (Volatile.Read(ref _published.Value) - seen < RingLength - 1)
                {
                    return slot;
                }

                now = Volatile.Read(ref _published.Value);
            }

            seen = now;
            _ = Interlocked.Exchange(ref *pin, seen);
        }
    }

    public void Unpin(int slot) => Volatile.Write(ref *(_slots + (nint)slot * SlotStride), 0);

    /// <summary>Number of the oldest pinned View; the newest published one when there is no pin.</summary>
    public long LowestPin()
    {
        Thread.MemoryBarrier();
        long lowest = _published.Value;
        for (int i = 0; i <= _slotMask; i++)
        {
            long pin = Volatile.Read(ref _slots[(nint)i * SlotStride]);
            if (pin != 0 && pin < lowest)
            {
                lowest = pin;
            }
        }

        return lowest;
    }

    /// <summary>Whether any View of [first, last] is pinned; last is below the published one.</summary>
    public bool IsPinnedWithin(long first, long last)
    {
        Thread.MemoryBarrier();
        for (int i = 0; i <= _slotMask; i++)
        {
            long pin = Volatile.Read(ref _slots[(nint)i * SlotStride]);
            if (pin >= first && pin <= last)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Pins held right now; approximate.</summary>
    public int CountPins()
    {
        int count = 0;
        for (int i = 0; i <= _slotMask; i++)
        {
            count += Volatile.Read(ref _slots[(nint)i * SlotStride]) != 0 ? 1 : 0;
        }

        return count;
    }

    private int Claim()
    {
        int start = Environment.CurrentManagedThreadId * 7;
        var spinner = default(SpinWait);
        while (true)
        {
            for (int i = 0; i <= _slotMask; i++)
            {
                int slot = (start + i) & _slotMask;
                long* pin = _slots + (nint)slot * SlotStride;
                if (Volatile.Read(ref *pin) == 0
                    && Interlocked.CompareExchange(ref *pin, Volatile.Read(ref _published.Value), 0) == 0)
                {
                    return slot;
                }
            }

            spinner.SpinOnce();
        }
    }

    [StructLayout(LayoutKind.Explicit, Size = 192)]
    private struct Padded
    {
        [FieldOffset(64)]
        public long Value;
    }
}
