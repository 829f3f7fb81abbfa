// RangeStream: one range answered in pieces, all at the revision of the first (RangeStream of etcd 3.7).
//
// Between two pieces nothing is pinned: the place is a key, the state is a revision. A compaction past that revision
// ends the stream with "compacted", as it would end any later read of it.
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>Where a streamed range stands. A mutable struct, owned by one call; dispose once.</summary>
public struct RangeStream
{
    private NativeBuffer _next;
    private long _revision;
    private long _sent;
    private long _counted;
    private bool _started;

    /// <summary>True once the last piece, with header, more and count, has been written.</summary>
    public bool IsFinished { get; private set; }

    public void Dispose()
    {
        if (_started)
        {
            _next.Free();
        }
    }

    internal unsafe ErrorCode Next(
        NativePool pool, KeyIndex index, in View view, scoped in RangeRequest request, scoped in ResponseHeader header, int maxPairs,
        long maxBytes, ref NativeBuffer output, out bool isCold)
    {
        isCold = false;
        if (!_started)
        {
            _started = true;
            _next = new NativeBuffer(pool);
            _next.Write(request.Key);
            _revision = request.Revision <= 0 ? view.Revision : request.Revision;
        }

        Invariant.Check(!IsFinished, "a finished stream has no further piece");
        if (_revision > view.Revision)
        {
            return ErrorCode.FutureRev;
        }

        if (_revision < view.CompactRevision)
        {
            return ErrorCode.Compacted;
        }

        RangeHit* local = stackalloc RangeHit[RangeReader.LocalHits];
        var reader = new RangeReader(pool, local);
        try
        {
            long limit = request.CountOnly ? 0 : request.Limit > 0 ? request.Limit - _sent : long.MaxValue;
            long pairs = limit < maxPairs ? limit : maxPairs;
            bool ended = reader.RunPiece(view, index, request, _revision, _next.WrittenSpan, pairs, maxBytes, ref _next);
            if (reader.IsCold)
            {
                isCold = true; // nothing has moved: the same piece again, where waiting is allowed
                return ErrorCode.None;
            }

            _sent += reader.HitCount;
            _counted += reader.HitCount;
            bool limitReached = !ended && reader.HitCount == limit;
            if (limitReached)
            {
                _counted += CountRest(index, request);
            }

            IsFinished = ended || limitReached;
            if (IsFinished)
            {
                reader.SetTail(more: limitReached && !request.CountOnly, _counted);
            }

            long size = (IsFinished ? header.FieldSize : 0) + reader.BodySize(request.KeysOnly);
            var writer = new ProtoWriter(output.GetSpan(checked((int)size)));
            if (IsFinished)
            {
                RangeResponseWriter.WriteHeader(ref writer, header);
            }

            reader.WriteBody(ref writer, request.KeysOnly);
            output.Advance(writer.Position);
            return ErrorCode.None;
        }
        finally
        {
            reader.Dispose();
        }
    }

    private readonly long CountRest(KeyIndex index, scoped in RangeRequest request) =>
        RangeReader.CountKeys(index, request, _next.WrittenSpan, _revision);
}
