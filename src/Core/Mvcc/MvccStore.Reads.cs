// MvccStore, reads: what any thread may ask, on a View it has pinned.
//
// Failure    A broken invariant or a damaged page met by a reader stops the member like one met by an actor: the I/O
//            threads have nobody else to tell.
using System;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    /// <summary>Pins the newest View. Waits (spinning) only if all slots are taken.</summary>
    /// <remarks>
    /// On a store that was replaced the pin is one of its successor. The slot is claimed with a full fence before the
    /// successor is looked for, as the successor is named before the slots are looked at (<see cref="TryEnd"/>): so
    /// either the pin is seen there, or the successor here.
    /// </remarks>
    public ViewPin Pin()
    {
        int slot = _views.Pin(out View view);
        MvccStore? successor = System.Threading.Volatile.Read(ref _successor);
        if (successor is not null)
        {
            _views.Unpin(slot);
            return successor.Pin();
        }

        return new ViewPin(this, slot, view);
    }

#pragma warning disable CA1822 // a pin knows its store, but it is a store one asks
    /// <summary>Gives a pin back; a default value is ignored.</summary>
    public void Unpin(in ViewPin pin)
    {
        if (pin.IsValid)
        {
            pin.Owner._views.Unpin(pin.Slot);
        }
    }
#pragma warning restore CA1822

    /// <summary>
    /// Answers a RangeRequest body from a View: the RangeResponse body is appended to the output. Waits for the disk
    /// where it must, so not on a thread that serves others.
    /// </summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output)
    {
        bool answered = TryRange(request, pin, header, mayWait: true, ref output, out ErrorCode outcome);
        Invariant.Check(answered, "a read that may wait has an answer");
        return outcome;
    }

    /// <summary>
    /// The same for any thread: gives up where it would have to wait for the disk (design: page faults), and where the
    /// answer costs more than a thread that serves others may spend on one request (<see cref="ReadBudget"/>).
    /// </summary>
    /// <returns>False: nothing was written; ask again on a thread that may take its time.</returns>
    public bool TryRangeNow(
        ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output, out ErrorCode outcome) =>
        TryRange(request, pin, header, mayWait: false, ref output, out outcome);

    /// <summary>Answers a TxnRequest of plain ranges only (both branches) from a View. May wait for the disk.</summary>
    public ErrorCode ReadTxn(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output)
    {
        bool answered = TryReadTxn(request, pin, header, mayWait: true, ref output, out ErrorCode outcome);
        Invariant.Check(answered, "a read that may wait has an answer");
        return outcome;
    }

    /// <summary>The same for any thread; see <see cref="TryRangeNow"/>.</summary>
    public bool TryReadTxnNow(
        ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output, out ErrorCode outcome) =>
        TryReadTxn(request, pin, header, mayWait: false, ref output, out outcome);

    /// <summary>
    /// One chunk of a streamed range: the pairs from the stream's place on, at its revision, until a byte or pair
    /// budget is used up. Pin anew for each chunk: the revision stays, memory is freed in between.
    /// </summary>
    /// <param name="request">The original request; no sort, no filters.</param>
    /// <param name="stream">Where it stands; a new one for a new stream. Dispose when done.</param>
    /// <param name="pin">Any pin; a later one than the last chunk's is fine.</param>
    /// <param name="header">Goes into the last chunk only.</param>
    /// <param name="maxPairs">At most so many pairs.</param>
    /// <param name="maxBytes">Stop after the pair that passes this size.</param>
    /// <param name="mayWait">False: give up where it would have to wait for the disk.</param>
    /// <param name="output">The RangeResponse of this chunk is appended.</param>
    /// <param name="outcome">Compacted or FutureRev as for a range; the stream then ends with that error.</param>
    /// <returns>False: nothing has moved or was written; ask again on a thread that may wait.</returns>
    public bool TryRangeChunk(
        scoped in RangeRequest request, ref RangeStream stream, in ViewPin pin, in HeaderFields header, int maxPairs, long maxBytes,
        bool mayWait, ref NativeBuffer output, out ErrorCode outcome)
    {
        View view = pin.View;
        view.NeverWaits = !mayWait;
        try
        {
            outcome = stream.Next(
                _pool, pin.Owner._index, view, request, Header(header, view.Revision), maxPairs, maxBytes, ref output, out bool isCold);
            return !isCold;
        }
        catch (Exception exception) when (IsDamage(exception))
        {
            throw Damaged(exception);
        }
    }

    private bool TryRange(
        ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, bool mayWait, ref NativeBuffer output, out ErrorCode outcome)
    {
        if (!RangeRequest.TryParse(request, out RangeRequest range))
        {
            outcome = ErrorCode.MalformedRequest;
            return true;
        }

        if (pin.Owner != this)
        {
            return pin.Owner.TryRange(request, pin, header, mayWait, ref output, out outcome);
        }

        View view = pin.View;
        int work = ReadBudget.Units;
        view.NeverWaits = !mayWait;
        view.Work = mayWait ? null : &work;
        bool answered = TryAnswerRange(view, range, Header(header, view.Revision), ref output, nested: false, out outcome);
        if (answered)
        {
            Figures.ViewRange();
        }

        return answered;
    }

    private bool TryReadTxn(
        ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, bool mayWait, ref NativeBuffer output, out ErrorCode outcome)
    {
        if (!TxnRequest.TryParse(request, out TxnRequest txn))
        {
            outcome = ErrorCode.MalformedRequest;
            return true;
        }

        View view = pin.View;
        int work = ReadBudget.Units;
        view.NeverWaits = !mayWait;
        view.Work = mayWait ? null : &work;
        outcome = ErrorCode.None;
        CompareVerdict verdict;
        int ranges;
        try
        {
            verdict = TxnCompare.AllHold(view, pin.Owner._index, txn, out ranges);
        }
        catch (Exception exception) when (IsDamage(exception))
        {
            throw Damaged(exception);
        }

        if (verdict == CompareVerdict.Cold)
        {
            return false;
        }

        bool succeeded = verdict == CompareVerdict.Holds;
        foreach (RequestOp op in txn.Branch(succeeded))
        {
            Invariant.Check(op.Kind == RequestOpKind.Range, "a read-only txn holds ranges only");
            outcome = CheckRange(view, op.AsRange().Revision);
            if (outcome != ErrorCode.None)
            {
                pin.Owner.Figures.ViewTxn(ranges);
                return true;
            }
        }

        ResponseHeader full = Header(header, view.Revision);
        var writer = new ProtoWriter(output.GetSpan(TxnResponseWriter.HeadSize(full, succeeded)));
        TxnResponseWriter.WriteHead(ref writer, full, succeeded);
        output.Advance(writer.Position);
        foreach (RequestOp op in txn.Branch(succeeded))
        {
            if (!pin.Owner.TryAnswerRange(view, op.AsRange(), NestedHeader(view.Revision), ref output, nested: true, out outcome))
            {
                output.Reset();
                return false;
            }

            Invariant.Check(outcome == ErrorCode.None, "a checked range can be read");
            ranges++;
        }

        pin.Owner.Figures.ViewTxn(ranges);
        return true;
    }

    private static ResponseHeader Header(in HeaderFields fields, long revision) => new()
    {
        ClusterId = fields.ClusterId,
        MemberId = fields.MemberId,
        Revision = revision,
        RaftTerm = fields.RaftTerm,
    };

    /// <summary>A range on a View that may wait.</summary>
    private ErrorCode AnswerRange(
        in View view, scoped in RangeRequest request, scoped in ResponseHeader header, ref NativeBuffer output, bool nested)
    {
        bool answered = TryAnswerRange(view, request, header, ref output, nested, out ErrorCode outcome);
        Invariant.Check(answered, "a read that may wait has an answer");
        return outcome;
    }

    private bool TryAnswerRange(
        in View view, scoped in RangeRequest request, scoped in ResponseHeader header, ref NativeBuffer output, bool nested,
        out ErrorCode outcome)
    {
        RangeHit* local = stackalloc RangeHit[RangeReader.LocalHits];
        var reader = new RangeReader(_pool, local);
        try
        {
            outcome = reader.Run(view, _index, request);
            if (reader.IsCold || outcome != ErrorCode.None)
            {
                return !reader.IsCold;
            }

            long size = header.FieldSize + reader.BodySize(request.KeysOnly);
            if (size > Array.MaxLength - 64)
            {
                outcome = ErrorCode.TooManyRequests; // no transport carries such an answer; etcd's refuses it as well
                return true;
            }

            ProtoWriter writer = BeginResponse(ref output, RequestOpKind.Range, (int)size, nested);
            RangeResponseWriter.WriteHeader(ref writer, header);
            reader.WriteBody(ref writer, request.KeysOnly);
            output.Advance(writer.Position);
            return true;
        }
        catch (Exception exception) when (IsDamage(exception))
        {
            throw Damaged(exception);
        }
        finally
        {
            reader.Dispose();
        }
    }

    private static bool IsDamage(Exception exception) =>
        exception is InvariantException or TreeCorruptException or FileSystemException;

    private Exception Damaged(Exception exception)
    {
        _fatal.Stop("a read met state that cannot be: the member's data, disk or memory is damaged", exception);
        return exception;
    }
}
