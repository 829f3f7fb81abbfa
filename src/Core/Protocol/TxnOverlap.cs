// TxnOverlap: the rule that no key is written twice on one path of a txn. Pure.
//
// The rule, with the quirks clients can see (behaviour.md §2.7), judged for each branch of the whole txn:
//   1. a put under a deletion of the same level is refused, whatever their order;
//   2. a nested txn's puts are judged against the level's deletions and against what its EARLIER siblings put or
//      delete. A later sibling's deletion is not seen by an earlier sibling's put;
//   3. within one nested txn the same put in both branches is fine: only one of them runs;
//   4. the level's own puts come last and are judged against everything below and beside them;
//   5. a deletion to the end of the keyspace (range_end one zero byte) or with range_end below its key covers nothing.
// Shape      A level owns the tail of two lists, puts and covers, both sorted and free of overlaps within the level.
//            A nested txn's tail is judged against the part before it and then merged into it.
// Bounds     A request can hold a quarter of a million operations; the cost is about (operations × siblings a level),
//            which max-txn-ops bounds.
// Memory     Up to 64 elements a list live on the stack of the call, more borrow arrays.
using System;
using System.Buffers;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>Judges one txn.</summary>
internal ref struct TxnOverlap
{
    private const int Inline = 64;
    private readonly ReadOnlySpan<byte> _source;
    private List _puts;
    private List _covers;
    private List _scratch;

    private TxnOverlap(ReadOnlySpan<byte> source, Span<Piece> puts, Span<Piece> covers, Span<Piece> scratch)
    {
        _source = source;
        _puts = new List(puts);
        _covers = new List(covers);
        _scratch = new List(scratch);
    }

    /// <summary>DuplicateKey or None. The txn has passed every other check, so its depth is bounded.</summary>
    public static ErrorCode Check(scoped in TxnRequest request)
    {
        var overlap = new TxnOverlap(
            request.Bytes, stackalloc Piece[Inline], stackalloc Piece[Inline], stackalloc Piece[Inline]);
        bool isFine = overlap.Judge(request.Success);
        overlap._puts.Count = 0;
        overlap._covers.Count = 0;
        isFine = isFine && overlap.Judge(request.Failure);
        overlap._puts.Free();
        overlap._covers.Free();
        overlap._scratch.Free();
        return isFine ? ErrorCode.None : ErrorCode.DuplicateKey;
    }

    /// <summary>Judges a branch and leaves its puts and covers as the tails of the two lists.</summary>
    private bool Judge(scoped RequestOpEnumerable ops)
    {
        int firstPut = _puts.Count;
        int firstCover = _covers.Count;
        foreach (RequestOp op in ops)
        {
            if (op.Kind == RequestOpKind.DeleteRange)
            {
                DeleteRangeRequest delete = op.AsDeleteRange();
                AddCover(delete.Key, delete.RangeEnd);
            }
        }

        Sort(ref _covers, firstCover);
        Unite(ref _covers, firstCover);
        foreach (RequestOp op in ops)
        {
            if (op.Kind == RequestOpKind.Txn && !JudgeNested(op.AsTxn(), firstPut, firstCover))
            {
                return false;
            }
        }

        int ownPut = _puts.Count;
        foreach (RequestOp op in ops)
        {
            if (op.Kind == RequestOpKind.Put)
            {
                _puts.Add(PieceOf(op.AsPut().Key));
            }
        }

        Sort(ref _puts, ownPut);
        for (int i = ownPut + 1; i < _puts.Count; i++)
        {
            if (CompareStarts(_puts.Items[i - 1], _puts.Items[i]) == 0)
            {
                return false;
            }
        }

        ReadOnlySpan<Piece> own = _puts.Items[ownPut.._puts.Count];
        if (HaveCommon(own, _puts.Items[firstPut..ownPut]) || AnyCovered(own, _covers.Items[firstCover.._covers.Count]))
        {
            return false;
        }

        Merge(ref _puts, firstPut, ownPut);
        return true;
    }

    private bool JudgeNested(scoped TxnRequest nested, int firstPut, int firstCover)
    {
        int thenPut = _puts.Count;
        int thenCover = _covers.Count;
        if (!Judge(nested.Success))
        {
            return false;
        }

        int elsePut = _puts.Count;
        int elseCover = _covers.Count;
        if (!Judge(nested.Failure))
        {
            return false;
        }

        ReadOnlySpan<Piece> below = _puts.Items[thenPut.._puts.Count];
        ReadOnlySpan<Piece> covers = _covers.Items[firstCover..thenCover];
        ReadOnlySpan<Piece> before = _puts.Items[firstPut..thenPut];
        if (AnyCovered(below, covers)
            || HaveCommon(_puts.Items[thenPut..elsePut], before)
            || HaveCommon(_puts.Items[elsePut.._puts.Count], before))
        {
            return false;
        }

        Merge(ref _puts, thenPut, elsePut);
        DropEqual(ref _puts, thenPut);
        Merge(ref _puts, firstPut, thenPut);
        Merge(ref _covers, thenCover, elseCover);
        Unite(ref _covers, thenCover);
        Merge(ref _covers, firstCover, thenCover);
        Unite(ref _covers, firstCover);
        return true;
    }

    private Piece PieceOf(scoped ReadOnlySpan<byte> key)
    {
        int offset = OffsetOf(key);
        return new Piece { Start = offset, StartLength = key.Length, End = offset, EndLength = key.Length, EndsAfter = true };
    }

    private void AddCover(scoped ReadOnlySpan<byte> key, scoped ReadOnlySpan<byte> rangeEnd)
    {
        Piece piece = PieceOf(key);
        if (!rangeEnd.IsEmpty)
        {
            piece.End = OffsetOf(rangeEnd);
            piece.EndLength = rangeEnd.Length;
            piece.EndsAfter = false;
            if (key.SequenceCompareTo(rangeEnd) >= 0)
            {
                return; // covers nothing, an end of one zero byte included
            }
        }

        _covers.Add(piece);
    }

    private readonly int OffsetOf(scoped ReadOnlySpan<byte> part)
    {
        Invariant.Check(_source.Overlaps(part, out int offset), "a key lies within the request");
        return offset;
    }

    private readonly ReadOnlySpan<byte> StartOf(in Piece piece) => _source.Slice(piece.Start, piece.StartLength);

    private readonly int CompareStarts(in Piece left, in Piece right) => StartOf(left).SequenceCompareTo(StartOf(right));

    /// <summary>Compares the exclusive end of a piece with a key.</summary>
    private readonly int CompareEnd(in Piece piece, ReadOnlySpan<byte> key)
    {
        ReadOnlySpan<byte> end = _source.Slice(piece.End, piece.EndLength);
        if (!piece.EndsAfter)
        {
            return end.SequenceCompareTo(key);
        }

        // The end is the bytes followed by one zero byte: the successor of the bytes.
        if (key.SequenceCompareTo(end) <= 0)
        {
            return 1;
        }

        return key.Length == end.Length + 1 && key[^1] == 0 && key.StartsWith(end) ? 0 : -1;
    }

    private readonly int CompareEnds(in Piece left, in Piece right)
    {
        if (!right.EndsAfter)
        {
            return CompareEnd(left, _source.Slice(right.End, right.EndLength));
        }

        return left.EndsAfter
            ? _source.Slice(left.End, left.EndLength).SequenceCompareTo(_source.Slice(right.End, right.EndLength))
            : -CompareEnd(right, _source.Slice(left.End, left.EndLength));
    }

    /// <summary>True if a key is in both sorted lists.</summary>
    private readonly bool HaveCommon(ReadOnlySpan<Piece> left, ReadOnlySpan<Piece> right)
    {
        if (left.Length > right.Length)
        {
            ReadOnlySpan<Piece> swap = left;
            left = right;
            right = swap;
        }

        foreach (ref readonly Piece piece in left)
        {
            int at = LastNotAbove(right, StartOf(piece));
            if (at >= 0 && CompareStarts(right[at], piece) == 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>True if a put lies in one of the sorted, disjoint covers.</summary>
    private readonly bool AnyCovered(ReadOnlySpan<Piece> puts, ReadOnlySpan<Piece> covers)
    {
        foreach (ref readonly Piece put in puts)
        {
            ReadOnlySpan<byte> key = StartOf(put);
            int at = LastNotAbove(covers, key);
            if (at >= 0 && CompareEnd(covers[at], key) > 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Index of the last piece that starts at or below a key; -1 if none.</summary>
    private readonly int LastNotAbove(ReadOnlySpan<Piece> sorted, ReadOnlySpan<byte> key)
    {
        int low = 0;
        int high = sorted.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (StartOf(sorted[middle]).SequenceCompareTo(key) <= 0)
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

    /// <summary>Bottom-up merge sort of the tail from an index on.</summary>
    private void Sort(scoped ref List list, int first)
    {
        int count = list.Count - first;
        for (int width = 1; width < count; width *= 2)
        {
            for (int left = 0; left + width < count; left += 2 * width)
            {
                MergeRuns(list.Items.Slice(first + left, Math.Min(2 * width, count - left)), width);
            }
        }
    }

    /// <summary>Merges the sorted tails [first, middle) and [middle, end) of a list.</summary>
    private void Merge(scoped ref List list, int first, int middle)
    {
        if (middle > first && middle < list.Count)
        {
            MergeRuns(list.Items[first..list.Count], middle - first);
        }
    }

    private void MergeRuns(scoped Span<Piece> run, int middle)
    {
        if (CompareStarts(run[middle - 1], run[middle]) <= 0)
        {
            return; // in order already
        }

        _scratch.Count = 0;
        _scratch.AddRange(run[..middle]);
        ReadOnlySpan<Piece> left = _scratch.Items[..middle];
        int l = 0;
        int r = middle;
        int to = 0;
        while (l < left.Length)
        {
            run[to++] = r < run.Length && CompareStarts(run[r], left[l]) < 0 ? run[r++] : left[l++];
        }
    }

    /// <summary>Drops repeated keys from a sorted tail.</summary>
    private readonly void DropEqual(scoped ref List list, int first)
    {
        int to = first;
        for (int i = first; i < list.Count; i++)
        {
            if (to == first || CompareStarts(list.Items[to - 1], list.Items[i]) != 0)
            {
                list.Items[to++] = list.Items[i];
            }
        }

        list.Count = to;
    }

    /// <summary>Unites overlapping or touching pieces of a sorted tail.</summary>
    private readonly void Unite(scoped ref List list, int first)
    {
        int to = first;
        for (int i = first; i < list.Count; i++)
        {
            Piece piece = list.Items[i];
            if (to > first && CompareEnd(list.Items[to - 1], StartOf(piece)) >= 0)
            {
                ref Piece last = ref list.Items[to - 1];
                if (CompareEnds(last, piece) < 0)
                {
                    last.End = piece.End;
                    last.EndLength = piece.EndLength;
                    last.EndsAfter = piece.EndsAfter;
                }
            }
            else
            {
                list.Items[to++] = piece;
            }
        }

        list.Count = to;
    }

    /// <summary>A half-open range of keys; both ends are parts of the request's bytes.</summary>
    private struct Piece
    {
        public int Start;
        public int StartLength;
        public int End;
        public int EndLength;
        public bool EndsAfter; // the end is those bytes and one zero byte more: just behind the key
    }

    /// <summary>A growing list that starts on the caller's stack.</summary>
    private ref struct List(Span<Piece> inline)
    {
        public Span<Piece> Items = inline;
        public int Count;
        private Piece[]? _borrowed;

        public void Add(Piece piece)
        {
            EnsureRoom(1);
            Items[Count++] = piece;
        }

        public void AddRange(scoped ReadOnlySpan<Piece> pieces)
        {
            EnsureRoom(pieces.Length);
            pieces.CopyTo(Items[Count..]);
            Count += pieces.Length;
        }

        public readonly void Free()
        {
            if (_borrowed != null)
            {
                ArrayPool<Piece>.Shared.Return(_borrowed);
            }
        }

        private void EnsureRoom(int extra)
        {
            if (Items.Length - Count >= extra)
            {
                return;
            }

            Piece[] larger = ArrayPool<Piece>.Shared.Rent(Math.Max(Items.Length * 2, Count + extra));
            Items[..Count].CopyTo(larger);
            if (_borrowed != null)
            {
                ArrayPool<Piece>.Shared.Return(_borrowed);
            }

            _borrowed = larger;
            Items = larger;
        }
    }
}
