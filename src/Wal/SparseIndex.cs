// SparseIndex: where in the segments an entry can be found, one point for every 64 KiB or so.
//
// Why        A follower that lags behind raft's memory is served from the files; without an index every such read
//            would begin at the head of a segment.
// Thread     written by wal (and by the opening thread before), read by any; a lock that is held for a few
//            instructions, once a batch at most.
// Invariants Points ascend by entry index. Between a point's offset and the next point, the entries from the point's
//            index up to the next one's stand in the file consecutively: writing an index again drops the points at
//            or above it and starts a new one.
using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Cairn.Wal;

/// <summary>The frame at <paramref name="Offset"/> of segment <paramref name="Sequence"/> holds entry <paramref name="Index"/>.</summary>
/// <param name="Index">Entry index.</param>
/// <param name="Sequence">Segment.</param>
/// <param name="Offset">Of the frame, from the segment's start.</param>
/// <param name="Crc">Running checksum before the frame.</param>
/// <param name="Previous">The entry before it in the log: one below, or lower when a snapshot stands between.</param>
internal readonly record struct SparsePoint(ulong Index, ulong Sequence, int Offset, uint Crc, ulong Previous);

/// <summary>The points, and the range of entries that can be read.</summary>
internal sealed unsafe class SparseIndex
{
    public const int BytesBetweenPoints = 64 << 10;

    private readonly Lock _lock = new();
    private SparsePoint* _points; // native: grows with the log, a thousand points a segment, and is nobody's garbage
    private int _count;
    private int _capacity;
    private ulong _lastIndex;

    // Read by threads that may outlive the log's owner; freed when nobody can ask any more.
    ~SparseIndex() => NativeMemory.Free(_points);

    /// <summary>Last entry that is written, 0 before the first.</summary>
    public ulong LastIndex
    {
        get
        {
            lock (_lock)
            {
                return _lastIndex;
            }
        }
    }

    /// <summary>True if the next entry should begin a new point, given where the last point stands.</summary>
    public static bool Wants(in SparsePoint last, ulong sequence, long offset, ulong index, ulong previousIndex) =>
        last.Sequence != sequence || offset - last.Offset >= BytesBetweenPoints || index != previousIndex + 1 || last.Index == 0;

    public void Add(in SparsePoint point)
    {
        lock (_lock)
        {
            // A jump means that a snapshot took the place of everything before.
            int keep = point.Index > point.Previous + 1 ? 0 : Find(point.Index - 1) + 1;
            _count = keep;
            if (_count == _capacity)
            {
                _capacity = Math.Max(4096, _capacity * 2);
                _points = (SparsePoint*)NativeMemory.Realloc(_points, (nuint)_capacity * (nuint)sizeof(SparsePoint));
            }

            _points[_count++] = point;
        }
    }

    /// <summary>Makes entries up to an index visible; going back hides what was replaced.</summary>
    public void SetLast(ulong index)
    {
        lock (_lock)
        {
            _lastIndex = index;
        }
    }

    /// <summary>Forgets the points in segments below a sequence.</summary>
    public void DropBelow(ulong sequence)
    {
        lock (_lock)
        {
            int count = 0;
            while (count < _count && _points[count].Sequence < sequence)
            {
                count++;
            }

            new ReadOnlySpan<SparsePoint>(_points + count, _count - count).CopyTo(new Span<SparsePoint>(_points, _count - count));
            _count -= count;
        }
    }

    /// <summary>
    /// The point from which to look for an entry, and the first index of the following point (the end of the run;
    /// one above the last entry if there is none).
    /// </summary>
    public WalReadStatus Find(ulong index, out SparsePoint point, out ulong runEnd)
    {
        lock (_lock)
        {
            point = default;
            runEnd = 0;
            if (index > _lastIndex)
            {
                return WalReadStatus.Unavailable;
            }

            int at = Find(index);
            if (at < 0)
            {
                return WalReadStatus.Compacted;
            }

            point = _points[at];
            runEnd = at + 1 < _count ? _points[at + 1].Index : _lastIndex + 1;
            return WalReadStatus.Ok;
        }
    }

    /// <summary>Position of the last point at or below an index, or -1.</summary>
    private int Find(ulong index)
    {
        int low = 0;
        int high = _count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_points[middle].Index <= index)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low - 1;
    }
}
