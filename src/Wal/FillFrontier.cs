// FillFrontier: lets one thread put zeros into the rest of a segment that another thread is appending to.
//
// Why        A segment made in a hurry (at start, or when the prepared one is not ready) has space that was only
//            allocated; each sync into it changes file metadata and costs half as much again. So the fill thread
//            writes its zeros while it is in use, always ahead of the appends.
// Thread     Reserve: wal. TryClaim, Release: walfill. The two words are a Dekker pair: each side writes its own,
//            passes a full barrier, then reads the other's, so at least one sees an overlap. The appender never
//            gives way: it waits for the one chunk in flight; the filler skips ahead.
using System.Threading;

namespace Cairn.Wal;

/// <summary>Who may write where in the segment in use.</summary>
internal sealed class FillFrontier
{
    /// <summary>How far ahead of its need the appender reserves, so that it rarely passes the barrier.</summary>
    public const int SlackBytes = 1 << 20;

    private const int AlignBytes = 4096;

    private readonly long _end;
    private long _reserved; // bytes below belong to the appender; written by wal
    private long _claim; // 0, or offset + 1 of the chunk being filled; written by walfill
    private long _next; // walfill only

    /// <param name="reserved">Bytes that belong to the appender from the start.</param>
    /// <param name="end">Where the prepared space ends.</param>
    public FillFrontier(long reserved, long end)
    {
        _reserved = reserved;
        _end = end;
    }

    /// <summary>The appender is about to write below an offset.</summary>
    public void Reserve(long end)
    {
        if (end <= _reserved)
        {
            return;
        }

        long reserved = end > long.MaxValue - SlackBytes ? end : end + SlackBytes;
        Volatile.Write(ref _reserved, reserved);
        Interlocked.MemoryBarrier();
        SpinWait spin = default;
        while (true)
        {
            long claim = Volatile.Read(ref _claim);
            if (claim == 0 || claim - 1 >= reserved)
            {
                return;
            }

            spin.SpinOnce();
        }
    }

    /// <summary>The appender leaves the segment: nobody fills it any more.</summary>
    public void Close() => Reserve(long.MaxValue);

    /// <summary>Takes the next chunk to fill; false when nothing is left to do.</summary>
    public bool TryClaim(int chunkBytes, out long offset, out int length)
    {
        while (true)
        {
            long reserved = Volatile.Read(ref _reserved);
            offset = System.Math.Max(_next, reserved > _end ? _end : (reserved + AlignBytes - 1) / AlignBytes * AlignBytes);
            length = (int)System.Math.Min(chunkBytes, _end - offset);
            if (length <= 0)
            {
                return false;
            }

            Volatile.Write(ref _claim, offset + 1);
            Interlocked.MemoryBarrier();
            if (Volatile.Read(ref _reserved) <= offset)
            {
                _next = offset + length;
                return true;
            }

            Volatile.Write(ref _claim, 0);
        }
    }

    /// <summary>The claimed chunk is written, or will not be.</summary>
    public void Release() => Volatile.Write(ref _claim, 0);
}
