// WalReader: reads old entries back from segment files for followers that raft's memory no longer covers.
//
// Thread     any slow thread; opens its own handle, so that a cut, a release or a purge meanwhile does no harm.
// Checks     the checksum chain from the index point on, and that every entry has the expected index.
using System;
using System.Buffers;
using System.Buffers.Binary;
using Cairn.Base;

namespace Cairn.Wal;

internal static class WalReader
{
    private const int WindowBytes = 256 << 10;

    public static WalReadStatus Read(WalLog log, ulong lo, ulong hi, long maxBytes, WalEntryBuffer into)
    {
        into.Clear();
        long budget = maxBytes;
        ulong next = lo;
        while (next < hi && (budget > 0 || next == lo))
        {
            WalReadStatus status = log.Index.Find(next, out SparsePoint point, out ulong runEnd);
            if (status == WalReadStatus.Ok)
            {
                status = ReadRun(log, point, Math.Min(hi, runEnd), ref next, ref budget, next == lo, into);
            }

            if (status != WalReadStatus.Ok)
            {
                // What was read before is good; the next call meets the same obstacle at its first entry.
                return next > lo && status != WalReadStatus.Damaged ? WalReadStatus.Ok : status;
            }
        }

        return WalReadStatus.Ok;
    }

    private static WalReadStatus ReadRun(
        WalLog log, in SparsePoint point, ulong end, ref ulong next, ref long budget, bool first, WalEntryBuffer into)
    {
        string? path = log.Segments.PathOf(point.Sequence, log.Directory);
        if (path == null || !log.Files.FileExists(path))
        {
            return WalReadStatus.Compacted;
        }

        IFile file;
        try
        {
            file = log.Files.Open(path, FileOpenMode.Read);
        }
        catch (FileSystemException) when (!log.Files.FileExists(path))
        {
            return WalReadStatus.Compacted; // purged between the two calls
        }

        byte[] window = ArrayPool<byte>.Shared.Rent(WindowBytes);
        try
        {
            long offset = point.Offset;
            uint crc = point.Crc;
            ulong expected = point.Index;
            int start = 0; // of the unread bytes in the window
            int filled = 0;
            while (next < end && (budget > 0 || first))
            {
                if (!Fill(file, ref window, ref start, ref filled, offset) ||
                    FrameReader.TryFrame(window.AsSpan(start, filled - start), 0, out WalRecord record, out int length) != FrameStatus.Record)
                {
                    return WalReadStatus.Damaged;
                }

                start += length;
                offset += length;
                crc = Crc32C.Append(crc, record.Data);
                if (crc != record.Crc)
                {
                    return WalReadStatus.Damaged;
                }

                if (record.Type != RecordType.Entry)
                {
                    continue;
                }

                if (!FrameReader.TryEntry(record.Data, out ulong term, out ulong index, out byte type, out ReadOnlySpan<byte> payload) ||
                    index != expected)
                {
                    return WalReadStatus.Damaged;
                }

                expected++;
                if (index < next)
                {
                    continue;
                }

                into.Add(term, index, type, payload);
                next = index + 1;
                first = false;
                budget -= payload.Length + 32;
            }

            return WalReadStatus.Ok;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(window);
            file.Dispose();
        }
    }

    /// <summary>Makes the whole next frame stand in the window; false if the file has no whole frame there.</summary>
    private static bool Fill(IFile file, ref byte[] window, ref int start, ref int filled, long offset)
    {
        long needed = WalFormat.FrameHeaderBytes;
        while (true)
        {
            int have = filled - start;
            if (have >= WalFormat.FrameHeaderBytes)
            {
                ulong word = BinaryPrimitives.ReadUInt64LittleEndian(window.AsSpan(start));
                ulong padding = (word >> 63) != 0 ? (word >> 56) & 7 : 0;
                needed = (long)(word & 0x00FF_FFFF_FFFF_FFFF) + (long)padding + WalFormat.FrameHeaderBytes;
                if (have >= needed)
                {
                    return true;
                }

                if (needed > file.Length - offset)
                {
                    return false; // before any memory is taken for it
                }
            }

            if (needed > window.Length)
            {
                byte[] bigger = ArrayPool<byte>.Shared.Rent((int)needed);
                window.AsSpan(start, have).CopyTo(bigger);
                ArrayPool<byte>.Shared.Return(window);
                window = bigger;
            }
            else
            {
                window.AsSpan(start, have).CopyTo(window);
            }

            start = 0;
            filled = have;
            int got = file.Read(offset + have, window.AsSpan(have));
            if (got == 0)
            {
                return false;
            }

            filled += got;
        }
    }
}
