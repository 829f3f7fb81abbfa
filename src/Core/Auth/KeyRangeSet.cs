// KeyRangeSet: a set of keys as disjoint, sorted, half-open ranges. Immutable.
//
// Why        A range request is allowed if the union of all permissions covers it without gaps; merging once when
//            the permissions change makes the question one binary search.
using System;
using System.Collections.Generic;

namespace Cairn.Core.Auth;

/// <summary>One range of keys [Begin, End); End null means no end.</summary>
internal readonly record struct KeyRange(byte[] Begin, byte[]? End)
{
    /// <summary>etcd's convention: no end = the one key, a zero byte = every key from here on.</summary>
    public static KeyRange From(ReadOnlySpan<byte> key, ReadOnlySpan<byte> rangeEnd)
    {
        if (rangeEnd.IsEmpty)
        {
            byte[] next = new byte[key.Length + 1];
            key.CopyTo(next);
            return new KeyRange(key.ToArray(), next);
        }

        return new KeyRange(key.ToArray(), IsOpenEnd(rangeEnd) ? null : rangeEnd.ToArray());
    }

    public static bool IsOpenEnd(ReadOnlySpan<byte> rangeEnd) => rangeEnd.Length == 1 && rangeEnd[0] == 0;

    public bool IsEmpty => End is not null && Begin.AsSpan().SequenceCompareTo(End) >= 0;
}

/// <summary>Keys covered by a list of ranges.</summary>
internal sealed class KeyRangeSet
{
    private readonly KeyRange[] _ranges;

    public KeyRangeSet(List<KeyRange> ranges)
    {
        ranges.Sort(static (left, right) => left.Begin.AsSpan().SequenceCompareTo(right.Begin));
        var merged = new List<KeyRange>();
        foreach (KeyRange range in ranges)
        {
            if (range.IsEmpty)
            {
                continue;
            }

            if (merged.Count > 0 && Touches(merged[^1], range))
            {
                merged[^1] = Join(merged[^1], range);
            }
            else
            {
                merged.Add(range);
            }
        }

        _ranges = merged.ToArray();
    }

    /// <summary>True if every key that the request names is covered; ends as in <see cref="KeyRange.From"/>.</summary>
    public bool Covers(ReadOnlySpan<byte> key, ReadOnlySpan<byte> rangeEnd)
    {
        int low = 0;
        int high = _ranges.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_ranges[middle].Begin.AsSpan().SequenceCompareTo(key) <= 0)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        if (low == 0)
        {
            return false;
        }

        byte[]? end = _ranges[low - 1].End;
        if (end is null)
        {
            return true;
        }

        if (key.SequenceCompareTo(end) >= 0 || KeyRange.IsOpenEnd(rangeEnd))
        {
            return false;
        }

        // The successor of a covered key is at most the range's end, so one key needs no further check.
        return rangeEnd.IsEmpty || rangeEnd.SequenceCompareTo(end) <= 0;
    }

    private static bool Touches(KeyRange left, KeyRange right) =>
        left.End is null || right.Begin.AsSpan().SequenceCompareTo(left.End) <= 0;

    private static KeyRange Join(KeyRange left, KeyRange right)
    {
        if (left.End is null || right.End is null)
        {
            return new KeyRange(left.Begin, null);
        }

        bool rightIsLonger = right.End.AsSpan().SequenceCompareTo(left.End) > 0;
        return new KeyRange(left.Begin, rightIsLonger ? right.End : left.End);
    }
}
