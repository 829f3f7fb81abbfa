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
    public ViewPin Pin()
    {
        int slot = _views.Pin(out View view);
        return new ViewPin(slot, view);
    }

    /// <summary>Gives a pin back; a default value is ignored.</summary>
    public void Unpin(in ViewPin pin)
    {
        if (pin.IsValid)
        {
            _views.Unpin(pin.Slot);
        }
    }

    /// <summary>Answers a RangeRequest body from a View: the RangeResponse body is appended to the output.</summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output) =>
        RangeRequest.TryParse(request, out RangeRequest range)
            ? Range(range, pin, header, ref output)
            : ErrorCode.MalformedRequest;

    /// <summary>The same for a parsed request.</summary>
    public ErrorCode Range(scoped in RangeRequest request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output) =>
        AnswerRange(pin.View, request, Header(header, pin.View.Revision), ref output, nested: false);

    /// <summary>
    /// True if the answer is likely to come from memory: a single key whose value is in a write buffer or on pages
    /// believed resident. Anything else belongs on a thread that may wait for the disk (design: page faults).
    /// </summary>
    public bool IsWarm(scoped in RangeRequest request, in ViewPin pin)
    {
        if (request.CountOnly)
        {
            return true;
        }

        if (!request.RangeEnd.IsEmpty || request.HasEmptyRangeEnd)
        {
            return false;
        }

        long revision = request.Revision <= 0 ? pin.Revision : request.Revision;
        KeyRecord* record = _index.Find(request.Key);
        return record == null || !KeyHistory.TryGetLive(record, revision, out KeyState state) || pin.View.IsWarm(state.Main, state.Sub);
    }

    /// <summary>Answers a TxnRequest of plain ranges only (both branches) from a View.</summary>
    public ErrorCode ReadTxn(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output)
    {
        if (!TxnRequest.TryParse(request, out TxnRequest txn))
        {
            return ErrorCode.MalformedRequest;
        }

        ref readonly View view = ref pin.View;
        bool succeeded = TxnCompare.AllHold(view, _index, txn);
        foreach (RequestOp op in txn.Branch(succeeded))
        {
            Invariant.Check(op.Kind == RequestOpKind.Range, "a read-only txn holds ranges only");
            ErrorCode error = CheckRange(view, op.AsRange().Revision);
            if (error != ErrorCode.None)
            {
                return error;
            }
        }

        ResponseHeader full = Header(header, view.Revision);
        var writer = new ProtoWriter(output.GetSpan(TxnResponseWriter.HeadSize(full, succeeded)));
        TxnResponseWriter.WriteHead(ref writer, full, succeeded);
        output.Advance(writer.Position);
        foreach (RequestOp op in txn.Branch(succeeded))
        {
            ErrorCode error = AnswerRange(view, op.AsRange(), NestedHeader(view.Revision), ref output, nested: true);
            Invariant.Check(error == ErrorCode.None, "a checked range can be read");
        }

        return ErrorCode.None;
    }

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
    /// <param name="output">The RangeResponse of this chunk is appended.</param>
    /// <returns>Compacted or FutureRev as for a range; the stream then ends with that error.</returns>
    public ErrorCode RangeChunk(
        scoped in RangeRequest request, ref RangeStream stream, in ViewPin pin, in HeaderFields header, int maxPairs, long maxBytes,
        ref NativeBuffer output) => stream.Next(_pool, _index, pin.View, request, Header(header, pin.View.Revision), maxPairs, maxBytes, ref output);

    private static ResponseHeader Header(in HeaderFields fields, long revision) => new()
    {
        ClusterId = fields.ClusterId,
        MemberId = fields.MemberId,
        Revision = revision,
        RaftTerm = fields.RaftTerm,
    };

    private ErrorCode AnswerRange(
        in View view, scoped in RangeRequest request, scoped in ResponseHeader header, ref NativeBuffer output, bool nested)
    {
        RangeHit* local = stackalloc RangeHit[RangeReader.LocalHits];
        var reader = new RangeReader(_pool, local);
        try
        {
            ErrorCode error = reader.Run(view, _index, request);
            if (error != ErrorCode.None)
            {
                return error;
            }

            long size = header.FieldSize + reader.BodySize(request.KeysOnly);
            if (size > Array.MaxLength - 64)
            {
                return ErrorCode.TooManyRequests; // no transport carries such an answer; etcd's refuses it as well
            }

            ProtoWriter writer = BeginResponse(ref output, RequestOpKind.Range, (int)size, nested);
            RangeResponseWriter.WriteHeader(ref writer, header);
            reader.WriteBody(ref writer, request.KeysOnly);
            output.Advance(writer.Position);
            return ErrorCode.None;
        }
        catch (Exception exception) when (exception is InvariantException or TreeCorruptException)
        {
            _fatal.Stop("a range met state that cannot be: the member's data or memory is damaged", exception);
            throw;
        }
        finally
        {
            reader.Dispose();
        }
    }
}
