// RangeReader: one range over a View: select, filter, sort, cut, then write the answer in two passes.
//
// Why        The answer's exact size is known before its first byte is written, and each pair is copied once, as it
//            is stored. Sorting and filtering by revision or version need only the index, so values are looked up
//            for the pairs that are answered, not for those that were cut.
// Thread     any with a View pinned; the store thread for ranges inside a txn. Lives on its caller's stack.
// Source     behaviour.md §2.6, quirks included.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>One selected pair.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RangeHit
{
    public long Main;

    /// <summary>What it is sorted by; for values: offset and length inside the stored pair.</summary>
    public long SortValue;

    /// <summary>The stored pair; null until looked up.</summary>
    public byte* Data;

    public int Length;

    public uint SubFlags;
}

/// <summary>Runs one range; dispose gives its scratch memory back.</summary>
internal unsafe ref struct RangeReader
{
    /// <summary>Hits a caller provides for on its stack.</summary>
    public const int LocalHits = 16;

    private readonly NativePool _pool;
    private RangeHit* _hits;
    private NativeBlock* _block;
    private int _capacity;
    private int _hitCount;

    /// <param name="pool">For more hits than the local ones.</param>
    /// <param name="local">Room for <see cref="LocalHits"/>, alive as long as the reader.</param>
    public RangeReader(NativePool pool, RangeHit* local)
    {
        _pool = pool;
        _hits = local;
        _capacity = LocalHits;
    }

    /// <summary>Keys in the range at that revision, whatever limit and filters say.</summary>
    public long Count { get; private set; }

    /// <summary>The limit cut something.</summary>
    public bool More { get; private set; }

    /// <summary>
    /// The View never waits and a value would have to come from the disk, or the range is larger than the View's budget:
    /// there is no answer.
    /// </summary>
    public bool IsCold { get; private set; }

    /// <summary>Pairs in the answer.</summary>
    public readonly int HitCount => _hitCount;

    /// <summary>An answered pair, as stored.</summary>
    public readonly ReadOnlySpan<byte> PairAt(int i) => new(_hits[i].Data, _hits[i].Length);

    /// <summary>Selects the pairs. Anything but None: nothing was selected. Look at <see cref="IsCold"/> first.</summary>
    public ErrorCode Run(scoped in View view, KeyIndex index, scoped in RangeRequest request)
    {
        long revision = request.Revision <= 0 ? view.Revision : request.Revision;
        if (revision > view.Revision)
        {
            return ErrorCode.FutureRev;
        }

        if (revision < view.CompactRevision)
        {
            return ErrorCode.Compacted;
        }

        if (request.RangeEnd.IsEmpty && !request.HasEmptyRangeEnd)
        {
            SelectOne(index, request, revision);
        }
        else
        {
            SelectRange(view, index, request, revision);
        }

        if (!IsCold)
        {
            Arrange(view, request);
        }

        if (!IsCold)
        {
            Locate(view);
        }

        return ErrorCode.None;
    }

    /// <summary>
    /// Selects a piece of a streamed range: key order, no filters. Budgets run out after the pair that passes them.
    /// </summary>
    /// <param name="view">Pinned now; the revision is the stream's.</param>
    /// <param name="index">Keys.</param>
    /// <param name="request">The stream's request.</param>
    /// <param name="revision">What the stream reads at.</param>
    /// <param name="from">First key of the piece.</param>
    /// <param name="maxPairs">Pairs that may be selected.</param>
    /// <param name="maxBytes">Stored bytes that may be selected.</param>
    /// <param name="next">Where the next piece starts; set when false is returned.</param>
    /// <returns>True if the range ended before a budget did. Look at <see cref="IsCold"/> first.</returns>
    public bool RunPiece(
        scoped in View view, KeyIndex index, scoped in RangeRequest request, long revision, ReadOnlySpan<byte> from, long maxPairs,
        long maxBytes, ref NativeBuffer next)
    {
        bool openEnd = request.HasEmptyRangeEnd || (request.RangeEnd.Length == 1 && request.RangeEnd[0] == 0);
        bool single = request.RangeEnd.IsEmpty && !openEnd;
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(from); more; more = cursor.Next())
        {
            ReadOnlySpan<byte> key = KeyRecord.Key(cursor.Current);
            if (single ? !key.SequenceEqual(request.Key) : !openEnd && key.SequenceCompareTo(request.RangeEnd) >= 0)
            {
                break;
            }

            if (!KeyHistory.TryGetLive(cursor.Current, revision, out KeyState state))
            {
                continue;
            }

            if (_hitCount >= maxPairs || maxBytes <= 0)
            {
                next.Reset();
                next.Write(key);
                return false;
            }

            Add(state, SortTarget.Key);
            if (!Locate(view, _hitCount - 1))
            {
                return false;
            }

            maxBytes -= _hits[_hitCount - 1].Length;
        }

        return true;
    }

    /// <summary>Keys of the range from a key on.</summary>
    public static long CountKeys(KeyIndex index, scoped in RangeRequest request, ReadOnlySpan<byte> from, long revision)
    {
        bool openEnd = request.HasEmptyRangeEnd || (request.RangeEnd.Length == 1 && request.RangeEnd[0] == 0);
        bool single = request.RangeEnd.IsEmpty && !openEnd;
        long count = 0;
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(from); more; more = cursor.Next())
        {
            ReadOnlySpan<byte> key = KeyRecord.Key(cursor.Current);
            if (single ? !key.SequenceEqual(request.Key) : !openEnd && key.SequenceCompareTo(request.RangeEnd) >= 0)
            {
                break;
            }

            count += KeyHistory.TryGetLive(cursor.Current, revision, out _) ? 1 : 0;
        }

        return count;
    }

    /// <summary>What a stream says at its end.</summary>
    public void SetTail(bool more, long count)
    {
        More = more;
        Count = count;
    }

    /// <summary>Bytes of the answer after its header.</summary>
    public readonly long BodySize(bool keysOnly)
    {
        long size = RangeResponseWriter.TailSize(More, Count);
        for (int i = 0; i < _hitCount; i++)
        {
            int length = _hits[i].Length;
            if (keysOnly)
            {
                length -= ValueField(PairAt(i), out _);
            }

            size += RangeResponseWriter.KvSize(length);
        }

        return size;
    }

    /// <summary>Writes the answer after its header.</summary>
    public readonly void WriteBody(scoped ref ProtoWriter writer, bool keysOnly)
    {
        for (int i = 0; i < _hitCount; i++)
        {
            ReadOnlySpan<byte> pair = PairAt(i);
            int cut = keysOnly ? ValueField(pair, out int start) : SkipInit(out start);
            if (cut == 0)
            {
                RangeResponseWriter.WriteKv(ref writer, pair);
            }
            else
            {
                writer.WriteTag(2, WireType.Bytes);
                writer.WriteVarint((ulong)(pair.Length - cut));
                writer.WriteRaw(pair[..start]);
                writer.WriteRaw(pair[(start + cut)..]);
            }
        }

        RangeResponseWriter.WriteTail(ref writer, More, Count);
    }

    public void Dispose()
    {
        if (_block != null)
        {
            _pool.Return(_block);
            _block = null;
        }
    }

    private static int SkipInit(out int start)
    {
        start = 0;
        return 0;
    }

    /// <summary>Bytes the value takes in a stored pair, tag and length included, and where they start.</summary>
    private static int ValueField(ReadOnlySpan<byte> pair, out int start)
    {
        Invariant.Check(KeyValue.TryParse(pair, out KeyValue parsed), "a stored pair parses");
        start = 0;
        if (parsed.Value.IsEmpty)
        {
            return 0;
        }

        int value = OffsetWithin(pair, parsed.Value);
        start = value - ProtoSize.Varint((ulong)parsed.Value.Length) - 1;
        return value + parsed.Value.Length - start;
    }

    private static int OffsetWithin(ReadOnlySpan<byte> whole, ReadOnlySpan<byte> part) =>
        (int)Unsafe.ByteOffset(ref MemoryMarshal.GetReference(whole), ref MemoryMarshal.GetReference(part));

    private void SelectOne(KeyIndex index, scoped in RangeRequest request, long revision)
    {
        KeyRecord* record = index.Find(request.Key);
        if (record == null || !KeyHistory.TryGetLive(record, revision, out KeyState state))
        {
            return;
        }

        Count = 1;
        if (!request.CountOnly && Passes(state, request))
        {
            Add(state, request.SortTarget);
        }
    }

    private void SelectRange(scoped in View view, KeyIndex index, scoped in RangeRequest request, long revision)
    {
        bool openEnd = request.HasEmptyRangeEnd || (request.RangeEnd.Length == 1 && request.RangeEnd[0] == 0);
        bool loadsAll = request.Limit <= 0 || request.SortOrder != SortOrder.None || HasFilter(request);

        // Without an order given, only one pair more than the limit is fetched, also when a target is given: the
        // sort then sees just those (a quirk of etcd that clients can observe).
        long fetchMax = loadsAll || request.Limit == long.MaxValue ? long.MaxValue : request.Limit + 1;
        ReadOnlySpan<byte> end = request.RangeEnd;
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(request.Key); more; more = cursor.Next())
        {
            KeyRecord* record = cursor.Current;
            if (!openEnd && KeyRecord.Key(record).SequenceCompareTo(end) >= 0)
            {
                break;
            }

            if (!view.TrySpend(ReadBudget.Key))
            {
                IsCold = true;
                return;
            }

            if (!KeyHistory.TryGetLive(record, revision, out KeyState state))
            {
                continue;
            }

            Count++;
            if (!request.CountOnly && _hitCount < fetchMax && Passes(state, request))
            {
                Add(state, request.SortTarget);
            }
        }
    }

    private static bool HasFilter(scoped in RangeRequest request) =>
        (request.MinModRevision | request.MaxModRevision | request.MinCreateRevision | request.MaxCreateRevision) != 0;

    private static bool Passes(in KeyState state, scoped in RangeRequest request) =>
        !HasFilter(request)
        || ((request.MaxModRevision == 0 || state.Main <= request.MaxModRevision)
            && (request.MinModRevision == 0 || state.Main >= request.MinModRevision)
            && (request.MaxCreateRevision == 0 || state.Created <= request.MaxCreateRevision)
            && (request.MinCreateRevision == 0 || state.Created >= request.MinCreateRevision));

    private void Add(in KeyState state, SortTarget target)
    {
        if (_hitCount == _capacity)
        {
            Grow();
        }

        RangeHit* hit = _hits + _hitCount++;
        hit->Main = state.Main;
        hit->SubFlags = state.SubFlags;
        hit->Data = null;
        hit->SortValue = target switch
        {
            SortTarget.Version => state.Version,
            SortTarget.Create => state.Created,
            SortTarget.Mod => state.Main,
            _ => 0,
        };
    }

    private void Arrange(scoped in View view, scoped in RangeRequest request)
    {
        SortOrder order = request.SortOrder;
        if (order == SortOrder.None && request.SortTarget != SortTarget.Key)
        {
            order = SortOrder.Ascend;
        }

        if (_hitCount > 1 && order is SortOrder.Ascend or SortOrder.Descend)
        {
            if (request.SortTarget == SortTarget.Key)
            {
                if (order == SortOrder.Descend)
                {
                    new Span<RangeHit>(_hits, _hitCount).Reverse();
                }
            }
            else if (request.SortTarget is SortTarget.Version or SortTarget.Create or SortTarget.Mod or SortTarget.Value)
            {
                if (request.SortTarget == SortTarget.Value)
                {
                    Locate(view);
                    if (IsCold)
                    {
                        return;
                    }

                    RememberValues();
                }

                Sort(request.SortTarget == SortTarget.Value, order == SortOrder.Descend);
            }
        }

        if (request.Limit > 0 && _hitCount > request.Limit)
        {
            _hitCount = (int)request.Limit;
            More = true;
        }
    }

    private void Locate(scoped in View view)
    {
        for (int i = 0; i < _hitCount && Locate(view, i); i++)
        {
        }
    }

    private bool Locate(scoped in View view, int i)
    {
        RangeHit* hit = _hits + i;
        if (hit->Data == null)
        {
            ReadOnlySpan<byte> pair = view.Value(hit->Main, (int)(hit->SubFlags >> HistoryEntry.SubShift));
            if (pair.IsEmpty || !view.TrySpend(ReadBudget.Pair(pair.Length)))
            {
                IsCold = true;
                return false;
            }

            hit->Data = View.Pointer(pair);
            hit->Length = pair.Length;
        }

        return true;
    }

    private readonly void RememberValues()
    {
        for (int i = 0; i < _hitCount; i++)
        {
            ReadOnlySpan<byte> pair = PairAt(i);
            Invariant.Check(KeyValue.TryParse(pair, out KeyValue parsed), "a stored pair parses");
            long offset = parsed.Value.IsEmpty ? 0 : OffsetWithin(pair, parsed.Value);
            _hits[i].SortValue = (offset << 32) | (uint)parsed.Value.Length;
        }
    }

    private static int Order(RangeHit* left, RangeHit* right, bool byValue) =>
        byValue ? ValueOf(left).SequenceCompareTo(ValueOf(right)) : left->SortValue.CompareTo(right->SortValue);

    private static ReadOnlySpan<byte> ValueOf(RangeHit* hit) => new(hit->Data + (hit->SortValue >> 32), (int)(uint)hit->SortValue);

    /// <summary>Merge sort: ties stay in key order, ascending or descending.</summary>
    private readonly void Sort(bool byValue, bool descending)
    {
        int sign = descending ? -1 : 1;
        NativeBlock* block = _pool.Rent(checked(_hitCount * sizeof(RangeHit)));
        RangeHit* from = _hits;
        RangeHit* to = (RangeHit*)NativeBlock.Data(block);
        for (long width = 1; width < _hitCount; width *= 2)
        {
            for (long start = 0; start < _hitCount; start += 2 * width)
            {
                long middle = Math.Min(start + width, _hitCount);
                long end = Math.Min(start + 2 * width, _hitCount);
                long left = start;
                long right = middle;
                for (long i = start; i < end; i++)
                {
                    bool takeLeft = left < middle && (right >= end || sign * Order(from + left, from + right, byValue) <= 0);
                    to[i] = takeLeft ? from[left++] : from[right++];
                }
            }

            RangeHit* sorted = to;
            to = from;
            from = sorted;
        }

        if (from != _hits)
        {
            new ReadOnlySpan<RangeHit>(from, _hitCount).CopyTo(new Span<RangeHit>(_hits, _hitCount));
        }

        _pool.Return(block);
    }

    private void Grow()
    {
        NativeBlock* bigger = _pool.Rent(checked(_capacity * 4 * sizeof(RangeHit)));
        new ReadOnlySpan<RangeHit>(_hits, _hitCount).CopyTo(new Span<RangeHit>(NativeBlock.Data(bigger), _hitCount));
        if (_block != null)
        {
            _pool.Return(_block);
        }

        _block = bigger;
        _hits = (RangeHit*)NativeBlock.Data(bigger);
        _capacity = bigger->Capacity / sizeof(RangeHit);
    }
}
