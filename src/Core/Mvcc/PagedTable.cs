// PagedTable: a growing array of 64-bit values whose elements never move, so that readers need no lock.
//
// Thread     One writer appends; a reader only asks for elements that were there when its View was published.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>Two levels of native pages. A mutable struct; keep it in a field.</summary>
internal unsafe struct PagedTable
{
    private const int PageShift = 12;
    private const int PageLength = 1 << PageShift;
    private const int PagesMax = 1 << 17; // 2^29 elements; the directory is untouched memory until used
    private const int PagesKept = 16;
    private nint* _pages;
    private int _pageCount;
    private long _count;

    /// <summary>Elements appended since the last reset. The writer's.</summary>
    public readonly long Count => _count;

    public readonly ulong this[long index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ((ulong*)_pages[index >> PageShift])[index & (PageLength - 1)];
    }

    public void Add(ulong value)
    {
        int page = (int)(_count >> PageShift);
        if (page == _pageCount)
        {
            AddPage();
        }

        ((ulong*)_pages[page])[_count & (PageLength - 1)] = value;
        _count++;
    }

    /// <summary>Forgets all elements; no reader may be left.</summary>
    public void Reset()
    {
        _count = 0;
        while (_pageCount > PagesKept)
        {
            _pageCount--;
            NativeMemory.Free((void*)_pages[_pageCount]);
        }
    }

    public void Free()
    {
        for (int i = 0; i < _pageCount; i++)
        {
            NativeMemory.Free((void*)_pages[i]);
        }

        NativeMemory.Free(_pages);
        _pages = null;
        _pageCount = 0;
        _count = 0;
    }

    private void AddPage()
    {
        Invariant.Check(_pageCount < PagesMax, "a write buffer holds fewer than 2^29 changes");
        if (_pages == null)
        {
            _pages = (nint*)NativeMemory.AllocZeroed(PagesMax, (nuint)sizeof(nint));
        }

        _pages[_pageCount++] = (nint)NativeMemory.Alloc(PageLength * sizeof(ulong));
    }
}
