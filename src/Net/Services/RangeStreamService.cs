// RangeStreamService: KV.RangeStream of etcd 3.7: one range in many messages, all from one revision.
//
// Why        A View is pinned per message, not for the whole stream: a client that drains slowly must not hold
//            memory. Every message reads at the revision the first one saw; if that is compacted meanwhile the
//            stream ends with that error, as a client that pages by hand would find.
// Layout     The store writes each chunk as a RangeResponse; header, more and count are in the last one only.
// Thread     any I/O thread; a chunk whose pages have to come from the disk is read by a thread that may wait.
using System;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Chunked ranges.</summary>
internal sealed class RangeStreamService(MemberPort port)
{
    private const int FirstChunkKeys = 10;
    private const int ChunkKeysMax = 1 << 20;

    /// <summary>Field of RangeStreamResponse that holds the range response.</summary>
    private const int RangeResponseField = 1;

    public async ValueTask RangeStreamAsync(RpcCall call)
    {
        ErrorCode refusal = Check(call, out bool serializable);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        RequestSlot slot = port.Rent(call);
        try
        {
            ErrorCode outcome = serializable
                ? ErrorCode.None
                : await port.Member.ReadIndexAsync(slot, port.Deadline(call));
            if (outcome != ErrorCode.None)
            {
                call.Fail(port.Explain(call, outcome));
                return;
            }

            var cursor = new Cursor(port, call.Request);
            call.ReleaseRequest();
            try
            {
                await SendAsync(call, slot, cursor);
            }
            finally
            {
                cursor.Stream.Dispose();
            }
        }
        finally
        {
            port.Member.Return(slot);
        }
    }

    private async ValueTask SendAsync(RpcCall call, RequestSlot slot, Cursor cursor)
    {
        while (!cursor.Stream.IsFinished)
        {
            if (!cursor.TryRead(slot, mayWait: false, out ErrorCode outcome))
            {
                outcome = await port.Member.ReadColdAsync(slot, cursor);
            }

            if (outcome != ErrorCode.None)
            {
                call.Fail(port.Explain(call, outcome));
                return;
            }

            Forward(call, slot.Response.WrittenSpan, cursor);
            if (!await call.FlushAsync())
            {
                call.Fail(RpcCode.Canceled, "context canceled");
                return;
            }

            if (call.DeadlineNs <= port.Clock.NowNs)
            {
                call.Fail(ErrorCode.ContextDeadlineExceeded);
                return;
            }
        }
    }

    private ErrorCode Check(RpcCall call, out bool serializable)
    {
        serializable = false;
        if (!RangeRequest.TryParse(call.Request, out RangeRequest range))
        {
            return ErrorCode.MalformedRequest;
        }

        serializable = range.Serializable;
        ErrorCode refusal = port.Admit(call);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckRange(range);
        }

        if (refusal != ErrorCode.None)
        {
            return refusal;
        }

        // The default order is key ascending; asking for it by name is no custom order.
        bool plain = range.SortTarget == SortTarget.Key && range.SortOrder is SortOrder.None or SortOrder.Ascend;
        if (!plain)
        {
            return ErrorCode.RangeStreamSort;
        }

        return (range.MinModRevision | range.MaxModRevision | range.MinCreateRevision | range.MaxCreateRevision) != 0
            ? ErrorCode.RangeStreamFilter
            : ErrorCode.None;
    }

    private void Forward(RpcCall call, ReadOnlySpan<byte> chunk, Cursor cursor)
    {
        call.BeginMessage(ProtoSize.BytesField(RangeResponseField, chunk.Length));
        Span<byte> prefix = stackalloc byte[16];
        var start = new ProtoWriter(prefix);
        start.WriteTag(RangeResponseField, WireType.Bytes);
        start.WriteVarint((ulong)chunk.Length);
        call.Append(start.Written);
        call.Append(chunk);
        long target = port.Member.Options.MaxRequestBytes;
        cursor.ChunkKeys = chunk.Length > target ? Math.Max(1, cursor.ChunkKeys / 2)
            : chunk.Length < target / 2 ? Math.Min(ChunkKeysMax, cursor.ChunkKeys * 2)
            : cursor.ChunkKeys;
    }

    /// <summary>Where the stream is; owned by one call.</summary>
    private sealed class Cursor(MemberPort port, ReadOnlySpan<byte> request) : IColdRead
    {
        private readonly byte[] _request = request.ToArray();

        public RangeStream Stream;

        public int ChunkKeys { get; set; } = FirstChunkKeys;

        /// <summary>The next chunk into the slot; false if it has to be read where waiting is allowed.</summary>
        public bool TryRead(RequestSlot slot, bool mayWait, out ErrorCode outcome)
        {
            if (!RangeRequest.TryParse(_request, out RangeRequest range))
            {
                outcome = ErrorCode.MalformedRequest;
                return true;
            }

            slot.Response.Reset();
            ViewPin pin = port.Store.Pin();
            try
            {
                return port.Store.TryRangeChunk(
                    range, ref Stream, pin, port.Header(), ChunkKeys, port.Member.Options.MaxRequestBytes, mayWait,
                    ref slot.Response, out outcome);
            }
            finally
            {
                port.Store.Unpin(pin);
            }
        }

        ErrorCode IColdRead.Read(RequestSlot slot)
        {
            _ = TryRead(slot, mayWait: true, out ErrorCode outcome);
            return outcome;
        }
    }
}
