// FreePages: which pages nobody can see, as one bit each, and the choice among them: always the lowest that fits.
//
// Why       Preferring low pages lets the end of the file empty itself, so that it can be cut (design: no
//           defragmentation pause). A bitmap of a 64 GiB file is 2 MiB and survives fragmentation that would bloat
//           lists; hints make the lowest fit cheap: for each size class, no run that large starts below its hint.
// Thread    tree.
// Invariants no bit is set at or above the high-water mark; bits 0 and 1 are never set.
using System;
using System.Numerics;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Btree;

internal sealed unsafe class FreePages : IDisposable
{
    private const int Classes = 32;
    private readonly ulong[] _hints = new ulong[Classes]; // class c serves runs of 2^(c-1)+1 .. 2^c pages
    private readonly ulong _capacity;
    private ulong* _bits;
    private ulong _avoidFrom; // no run is taken from [_avoidFrom, _avoidTo) unless nothing else is left
    private ulong _avoidTo;

    public FreePages(ulong capacityPages)
    {
        _capacity = capacityPages;
        _bits = (ulong*)NativeMemory.AllocZeroed((nuint)(capacityPages / 64) + 2, sizeof(ulong));
    }

    /// <summary>Set bits.</summary>
    public long Count { get; private set; }

    /// <summary>First page never used so far; pages are taken from here when no free run fits.</summary>
    public ulong HighWater { get; set; }

    public bool IsFree(ulong page) => (_bits[page >> 6] >> (int)(page & 63) & 1) != 0;

    /// <summary>Adds a run of pages.</summary>
    public void Add(ulong first, uint pages)
    {
        Invariant.Check(first >= 2 && first + pages <= HighWater, "only used pages become free");
        for (ulong page = first; page < first + pages; page++)
        {
            ulong bit = 1UL << (int)(page & 63);
            Invariant.Check((_bits[page >> 6] & bit) == 0, "a page becomes free once");
            _bits[page >> 6] |= bit;
        }

        Count += pages;

        // The run may have grown downwards into free neighbours. They were too few for class c, else its hint were
        // low already: so the run that now serves class c starts less than 2^c below.
        for (int i = 0; i < Classes; i++)
        {
            ulong reach = 1UL << i;
            _hints[i] = Math.Min(_hints[i], first > reach + 2 ? first - reach : 2);
        }
    }

    /// <summary>Takes the lowest run, or moves the high-water mark; false if the reservation is used up.</summary>
    public bool TryTake(uint pages, out ulong first)
    {
        if (Count >= pages && TryFindRun(pages, _avoidFrom, _avoidTo, out first))
        {
            Take(first, pages);
            return true;
        }

        first = HighWater;
        if (first + pages > _capacity)
        {
            return _avoidTo != 0 && TryTakeBelow(pages, HighWater, out first);
        }

        HighWater += pages;
        return true;
    }

    /// <summary>Takes the lowest run, avoided pages included, if it ends at or before a page; never moves the mark.</summary>
    public bool TryTakeBelow(uint pages, ulong limit, out ulong first)
    {
        if (Count < pages || !TryFindRun(pages, 0, 0, out first) || first + pages > limit)
        {
            first = 0;
            return false;
        }

        Take(first, pages);
        return true;
    }

    /// <summary>Keeps <see cref="TryTake"/> away from [from, to), which is being emptied; (0, 0) ends that.</summary>
    public void Avoid(ulong from, ulong to)
    {
        _avoidFrom = from;
        _avoidTo = to;
    }

    /// <summary>Lowers the mark over free pages at the end.</summary>
    public void TrimEnd()
    {
        while (HighWater > 4 && IsFree(HighWater - 1))
        {
            HighWater--;
            _bits[HighWater >> 6] &= ~(1UL << (int)(HighWater & 63));
            Count--;
        }
    }

    /// <summary>Free pages from one page up to, not including, another.</summary>
    public long CountWithin(ulong from, ulong to) => CountBelow(to) - CountBelow(from);

    /// <summary>Free pages below a page number.</summary>
    public long CountBelow(ulong page)
    {
        long count = 0;
        for (ulong word = 0; word < page >> 6; word++)
        {
            count += BitOperations.PopCount(_bits[word]);
        }

        return count + BitOperations.PopCount(_bits[page >> 6] & ((1UL << (int)(page & 63)) - 1));
    }

    /// <summary>The next free page at or after one; <see cref="HighWater"/> if there is none.</summary>
    public ulong NextFree(ulong page)
    {
        ulong word = page >> 6;
        ulong last = HighWater >> 6;
        ulong bits = _bits[word] & (ulong.MaxValue << (int)(page & 63));
        while (bits == 0 && word < last)
        {
            bits = _bits[++word];
        }

        return bits == 0 ? HighWater : (word << 6) + (ulong)BitOperations.TrailingZeroCount(bits);
    }

    public void Dispose()
    {
        NativeMemory.Free(_bits);
        _bits = null;
    }

    private void Take(ulong first, uint pages)
    {
        for (ulong page = first; page < first + pages; page++)
        {
            _bits[page >> 6] &= ~(1UL << (int)(page & 63));
        }

        Count -= pages;
    }

    private bool TryFindRun(uint pages, ulong avoidFrom, ulong avoidTo, out ulong first)
    {
        int sizeClass = pages == 1 ? 0 : 32 - BitOperations.LeadingZeroCount(pages - 1);
        uint smallest = sizeClass == 0 ? 1 : (1u << (sizeClass - 1)) + 1;
        ulong page = _hints[sizeClass];
        bool hintMoved = avoidTo != 0; // what is avoided now may serve later, so the hint stays
        while (true)
        {
            page = NextFree(page);
            if (page >= HighWater)
            {
                if (!hintMoved)
                {
                    _hints[sizeClass] = HighWater;
                }

                first = 0;
                return false;
            }

            // Only behind the test above: the mark may have come down into the avoided pages.
            if (page >= avoidFrom && page < avoidTo)
            {
                page = avoidTo;
                continue;
            }

            ulong end = EndOfRun(page, pages);
            end = page < avoidFrom ? Math.Min(end, avoidFrom) : end;
            if (!hintMoved && end - page >= smallest)
            {
                _hints[sizeClass] = page;
                hintMoved = true;
            }

            if (end - page >= pages)
            {
                first = page;
                return true;
            }

            page = end;
        }
    }

    /// <summary>First page after <paramref name="page"/> that is not free, or the end of a run long enough.</summary>
    private ulong EndOfRun(ulong page, uint enough)
    {
        ulong end = page + 1;
        while (end - page < enough && end < HighWater && IsFree(end))
        {
            end++;
        }

        return end;
    }
}
