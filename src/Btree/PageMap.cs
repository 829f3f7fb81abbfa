// PageMap: the only holder of the mapped pointer. Hands out pages that are resident (as far as can be known),
// inside the file, and verified.
//
// Why       A managed thread stuck in a hard page fault stalls every collection and with it every thread. So a page
//           is touched only after a call that leaves managed code has made it resident. That call is too dear for
//           each visit (0.9 us), so each 64 KiB block remembers the age at which it was last populated: blocks
//           populated within the last two ages (seconds) count as warm. Clearing all of them is one increment.
// Thread    Page(): any thread that holds a pin on a root above which nothing is read. Forget(): the tree thread, for
//           pages no pinned root can reach. Age(): one thread.
// Invariants a pinned root's pages lie below its high-water mark, and the file is never cut below a pinned root's mark.
using System;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Btree;

internal sealed unsafe class PageMap
{
    private const int BlockShift = 16;
    private const long BlockBytes = 1L << BlockShift;
    private readonly IFile _file;
    private readonly string _path;
    private readonly int _pageShift;
    private readonly byte* _base;
    private readonly long _reserveBytes;
    private ulong* _verified; // one bit a page; set by any reader, cleared by the tree thread before a page is reused
    private uint* _populatedAt; // one age a block; written by any reader, torn never, lost updates harmless
    private uint _age = 2;
    private long _populateBytes = BlockBytes;

    public PageMap(IFile file, string path, int pageSize, long reserveBytes)
    {
        _file = file;
        _path = path;
        PageSize = pageSize;
        _pageShift = int.Log2(pageSize);
        _reserveBytes = reserveBytes;
        _base = file.Map(reserveBytes);
        _verified = (ulong*)NativeMemory.AllocZeroed((nuint)((reserveBytes >> _pageShift) + 63) / 64, sizeof(ulong));
        _populatedAt = (uint*)NativeMemory.AllocZeroed((nuint)((reserveBytes >> BlockShift) + 1), sizeof(uint));
    }

    public int PageSize { get; }

    public long ReserveBytes => _reserveBytes;

    public string Path => _path;

    /// <summary>While the whole file is being walked at open, larger reads serve better than 64 KiB.</summary>
    public bool PopulatesLargeChunks
    {
        set => _populateBytes = value ? 1 << 20 : BlockBytes;
    }

    /// <summary>A branch or leaf page with all its overflow; valid while a root that reaches it is pinned.</summary>
    /// <exception cref="TreeCorruptException">The page cannot be believed.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Page(ulong id, ulong highWater)
    {
        if (id < highWater && IsWarm((long)(id << _pageShift)) && (_verified[id >> 6] >> (int)(id & 63) & 1) != 0)
        {
            byte* page = _base + (id << _pageShift);
            if (PageFormat.Overflow(page) == 0)
            {
                return page;
            }
        }

        return PageSlow(id, highWater);
    }

    /// <summary>The same, but only if no visit would have to wait for the disk; else null.</summary>
    /// <exception cref="TreeCorruptException">The page cannot be believed.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* PageNow(ulong id, ulong highWater)
    {
        if (id < highWater && IsWarm((long)(id << _pageShift)) && (_verified[id >> 6] >> (int)(id & 63) & 1) != 0)
        {
            byte* page = _base + (id << _pageShift);
            if (PageFormat.Overflow(page) == 0)
            {
                return page;
            }
        }

        return PageNowSlow(id, highWater);
    }

    /// <summary>Makes bytes inside an earlier returned page resident again: time may have passed since.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Warm(byte* data, long length, ulong highWater)
    {
        long offset = data - _base;
        if ((ulong)offset >= (ulong)_reserveBytes || length == 0)
        {
            return; // not ours: arena or borrowed memory
        }

        if (length > BlockBytes || !IsWarm(offset) || !IsWarm(offset + length - 1))
        {
            Populate(offset, length, highWater);
        }
    }

    /// <summary>The page is about to be rewritten: verify it again at its next visit.</summary>
    public void Forget(ulong id) => Interlocked.And(ref _verified[id >> 6], ~(1UL << (int)(id & 63)));

    public void Age() => Volatile.Write(ref _age, _age + 1);

    public void ForgetResidency() => Volatile.Write(ref _age, _age + 2);

    /// <summary>A page that is damaged in a way only the caller could see.</summary>
    public TreeCorruptException Corrupt(ulong id, PageFault fault) =>
        new(_path, id, (long)(id << _pageShift) + fault.OffsetInPage, fault.What, fault.Expected, fault.Found);

    public void Free()
    {
        NativeMemory.Free(_verified);
        NativeMemory.Free(_populatedAt);
        _verified = null;
        _populatedAt = null;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool IsWarm(long offset) => _age - _populatedAt[offset >> BlockShift] <= 1;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private byte* PageSlow(ulong id, ulong highWater)
    {
        PageFault? fault = TryPage(id, highWater, out byte* page);
        return fault is null ? page : throw Corrupt(id, fault);
    }

    /// <summary>As <see cref="Page"/>, with the damage as a value.</summary>
    public PageFault? TryPage(ulong id, ulong highWater, out byte* page)
    {
        page = null;
        if (id < 2 || id >= highWater)
        {
            string found = id.ToString(CultureInfo.InvariantCulture);
            return new PageFault(0, "page number", $"2 to {highWater - 1}", found);
        }

        long offset = (long)(id << _pageShift);
        byte* candidate = _base + offset;
        if (!IsWarm(offset))
        {
            Populate(offset, PageSize, highWater);
        }

        bool verified = (Volatile.Read(ref _verified[id >> 6]) >> (int)(id & 63) & 1) != 0;
        if (!verified)
        {
            PageFault? fault = PageCheck.Header(candidate, id, highWater);
            if (fault is not null)
            {
                return fault;
            }
        }

        long bytes = ((long)PageFormat.Overflow(candidate) + 1) << _pageShift;
        if (bytes > PageSize)
        {
            Populate(offset, bytes, highWater);
        }

        if (!verified)
        {
            PageFault? fault = PageCheck.Body(candidate, bytes, highWater);
            if (fault is not null)
            {
                return fault;
            }

            Interlocked.Or(ref _verified[id >> 6], 1UL << (int)(id & 63));
        }

        page = candidate;
        return null;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private byte* PageNowSlow(ulong id, ulong highWater)
    {
        if (id >= 2 && id < highWater)
        {
            long offset = (long)(id << _pageShift);
            if (!CanPopulateNow(offset, PageSize, highWater))
            {
                return null;
            }

            if (!IsWarm(offset))
            {
                Populate(offset, PageSize, highWater);
            }

            // Not verified yet perhaps; what reaches beyond the file is refused below.
            long bytes = ((long)PageFormat.Overflow(_base + offset) + 1) << _pageShift;
            if (bytes > PageSize && offset + bytes <= (long)(highWater << _pageShift) && !CanPopulateNow(offset, bytes, highWater))
            {
                return null;
            }
        }

        return PageSlow(id, highWater);
    }

    /// <summary>Every block of the range is warm or in the page cache.</summary>
    private bool CanPopulateNow(long offset, long length, ulong highWater)
    {
        long end = Math.Min((offset + length + BlockBytes - 1) & ~(BlockBytes - 1), (long)(highWater << _pageShift));
        for (long block = offset & ~(BlockBytes - 1); block < end; block += BlockBytes)
        {
            if (!IsWarm(block) && !_file.IsResident(block, Math.Min(BlockBytes, end - block)))
            {
                return false;
            }
        }

        return true;
    }

    private void Populate(long offset, long length, ulong highWater)
    {
        uint age = Volatile.Read(ref _age);
        long end = (long)(highWater << _pageShift);
        long chunk = _populateBytes;
        for (long at = offset & ~(chunk - 1); at < offset + length; at += chunk)
        {
            long stop = at + chunk < end ? at + chunk : end;
            bool warm = true;
            for (long block = at; block < stop; block += BlockBytes)
            {
                warm &= age - _populatedAt[block >> BlockShift] <= 1;
            }

            if (warm)
            {
                continue;
            }

            _file.Populate(at, stop - at);

            // A block cut short by this root's mark may hold pages of a later root that were not made resident here.
            long whole = stop & ~(BlockBytes - 1);
            for (long block = at; block < whole || (block < stop && block <= offset); block += BlockBytes)
            {
                _populatedAt[block >> BlockShift] = age;
            }
        }
    }
}
