// PendingPages: pages that commits have given up but that some pinned root can still see.
//
// A page made by commit a and given up by commit f is visible to the roots a <= r < f. As long as one of them is
// pinned the page stays; it is filed under the oldest such pin and looked at again only when that pin is gone, so
// that a pin held for minutes (a snapshot download) costs nothing per commit and holds only what it can see.
// Thread    tree.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>A run of pages given up by one commit.</summary>
internal readonly struct PendingRun
{
    public readonly ulong Page;
    public readonly uint Pages;
    public readonly uint MadeBy; // commit number relative to the one found at open; 0 = older than that
    public readonly uint GivenUpBy;

    public PendingRun(ulong page, uint pages, uint madeBy, uint givenUpBy)
    {
        Page = page;
        Pages = pages;
        MadeBy = madeBy;
        GivenUpBy = givenUpBy;
    }
}

internal sealed unsafe class PendingPages : IDisposable
{
    private readonly List<PendingRun> _unsorted = new();
    private readonly List<Holder> _holders = new();
    private readonly Stack<List<PendingRun>> _spareLists = new();
    private uint* _madeBy; // by page; address space for the whole reservation, touched only where pages were written

    public PendingPages(ulong capacityPages)
    {
        _madeBy = (uint*)NativeMemory.AllocZeroed((nuint)capacityPages + 1, sizeof(uint));
    }

    /// <summary>Pages, not runs.</summary>
    public long Count { get; private set; }

    public void NoteMade(ulong page, uint commit) => _madeBy[page] = commit;

    /// <summary>Takes over a run given up by a commit that is now durable.</summary>
    public void Add(ulong page, uint pages, uint givenUpBy)
    {
        _unsorted.Add(new PendingRun(page, pages, _madeBy[page], givenUpBy));
        Count += pages;
    }

    /// <summary>Moves everything that no pin can see to the free pages.</summary>
    /// <param name="pins">Commit numbers (relative) of the pinned roots, ascending.</param>
    /// <param name="free">Receives the pages.</param>
    public void Release(ReadOnlySpan<uint> pins, FreePages free)
    {
        for (int i = _holders.Count - 1; i >= 0; i--)
        {
            Holder holder = _holders[i];
            if (pins.BinarySearch(holder.Pin) < 0)
            {
                _unsorted.AddRange(holder.Runs);
                holder.Runs.Clear();
                _spareLists.Push(holder.Runs);
                _holders.RemoveAt(i);
            }
        }

        foreach (PendingRun run in CollectionsMarshal.AsSpan(_unsorted))
        {
            int pin = pins.BinarySearch(run.MadeBy);
            pin = pin < 0 ? ~pin : pin;
            if (pin < pins.Length && pins[pin] < run.GivenUpBy && !Mutations.Is(Mutation.PagesReusedWhileRead))
            {
                RunsHeldBy(pins[pin]).Add(run);
            }
            else
            {
                free.Add(run.Page, run.Pages);
                Count -= run.Pages;
            }
        }

        _unsorted.Clear();
    }

    /// <summary>Calls back for every pending run (the stored free list, the check).</summary>
    public void CopyTo(List<PendingRun> runs)
    {
        runs.AddRange(_unsorted);
        foreach (Holder holder in _holders)
        {
            runs.AddRange(holder.Runs);
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_madeBy);
        _madeBy = null;
    }

    private List<PendingRun> RunsHeldBy(uint pin)
    {
        foreach (Holder holder in _holders)
        {
            if (holder.Pin == pin)
            {
                return holder.Runs;
            }
        }

        Holder made = new(pin, _spareLists.TryPop(out List<PendingRun>? spare) ? spare : new List<PendingRun>());
        _holders.Add(made);
        return made.Runs;
    }

    private readonly record struct Holder(uint Pin, List<PendingRun> Runs);
}
