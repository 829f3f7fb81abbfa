// RangeStreamService: KV.RangeStream of etcd 3.7: one range in many messages, all from one revision.
//
// Why        A View is pinned per message, not for the whole stream: a client that drains slowly must not hold
//            memory. Every message reads at the revision the first one saw; if that is compacted meanwhile the
//            stream ends with that error, as a client that pages by hand would find.
// Layout     Each chunk is an ordinary range [last key + \0, end) with a limit. Its kvs are copied into the stream
//            message; header, more and count go into the last message only.
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
    private const long FirstChunkKeys = 10;
    private const long ChunkKeysMax = 1 << 20;

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

            var cursor = new Cursor(call.Request);
            while (!cursor.Finished)
            {
                outcome = Step(call, slot, cursor);
                if (outcome != ErrorCode.None)
                {
                    call.Fail(outcome);
                    return;
                }

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
        finally
        {
            port.Member.Return(slot);
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

    // Reads one chunk and writes one message.
    private ErrorCode Step(RpcCall call, RequestSlot slot, Cursor cursor)
    {
        if (!RangeRequest.TryParse(cursor.Request, out RangeRequest range))
        {
            return ErrorCode.MalformedRequest;
        }

        ViewPin pin = port.Store.Pin();
        try
        {
            if (cursor.Revision == 0)
            {
                cursor.Revision = range.Revision > 0 ? range.Revision : pin.Revision;
            }

            long left = cursor.Limit - cursor.Sent;
            range.Revision = cursor.Revision;
            range.Limit = cursor.Limit > 0 ? Math.Min(left, cursor.ChunkKeys) : cursor.ChunkKeys;
            if (cursor.Next.Length != 0)
            {
                range.Key = cursor.Next;
            }

            byte[] encoded = new byte[range.Size];
            var writer = new ProtoWriter(encoded);
            range.Write(ref writer);
            slot.Response.Reset();
            ErrorCode outcome = port.Store.Range(encoded, pin, port.Header(), ref slot.Response);
            if (outcome != ErrorCode.None)
            {
                return outcome;
            }
        }
        finally
        {
            port.Store.Unpin(pin);
        }

        Forward(call, slot.Response.WrittenSpan, cursor, range.CountOnly);
        return ErrorCode.None;
    }

    private void Forward(RpcCall call, ReadOnlySpan<byte> chunk, Cursor cursor, bool countOnly)
    {
        Summary summary = Summarise(chunk);
        if (cursor.Total < 0)
        {
            cursor.Total = summary.Count;
        }

        cursor.Sent += summary.Keys;
        bool limitReached = cursor.Limit > 0 && cursor.Sent >= cursor.Limit;
        cursor.Finished = countOnly || !summary.More || limitReached;
        bool more = limitReached && summary.More;
        int tail = cursor.Finished ? summary.HeaderBytes + RangeResponseWriter.TailSize(more, cursor.Total) : 0;
        int inner = summary.KvBytes + tail;
        call.BeginMessage(ProtoSize.BytesField(RangeResponseField, inner));

        Span<byte> prefix = stackalloc byte[16];
        var start = new ProtoWriter(prefix);
        start.WriteTag(RangeResponseField, WireType.Bytes);
        start.WriteVarint((ulong)inner);
        call.Append(start.Written);
        if (cursor.Finished)
        {
            call.Append(chunk.Slice(summary.HeaderStart, summary.HeaderBytes));
        }

        call.Append(chunk.Slice(summary.KvStart, summary.KvBytes));
        if (cursor.Finished)
        {
            Span<byte> end = stackalloc byte[16];
            var last = new ProtoWriter(end);
            RangeResponseWriter.WriteTail(ref last, more, cursor.Total);
            call.Append(last.Written);
            return;
        }

        cursor.Advance(summary.LastKey);
        long target = port.Member.Options.MaxRequestBytes;
        cursor.ChunkKeys = inner > target ? Math.Max(1, cursor.ChunkKeys / 2)
            : inner < target / 2 ? Math.Min(ChunkKeysMax, cursor.ChunkKeys * 2)
            : cursor.ChunkKeys;
    }

    // The store writes header, kvs (one after the other), more, count, in this order.
    private static Summary Summarise(ReadOnlySpan<byte> response)
    {
        var summary = new Summary();
        var reader = new ProtoReader(response);
        int start = 0;
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    _ = reader.ReadBytes();
                    summary.HeaderStart = start;
                    summary.HeaderBytes = reader.Position - start;
                    break;
                case 2:
                    ReadOnlySpan<byte> pair = reader.ReadBytes();
                    if (summary.Keys++ == 0)
                    {
                        summary.KvStart = start;
                    }

                    summary.KvBytes = reader.Position - summary.KvStart;
                    var inside = new ProtoReader(pair);
                    while (inside.NextField())
                    {
                        if (inside.Field == 1)
                        {
                            summary.LastKey = inside.ReadBytes();
                            break;
                        }

                        inside.Skip();
                    }

                    break;
                case 3:
                    summary.More = reader.ReadBool();
                    break;
                case 4:
                    summary.Count = reader.ReadInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }

            start = reader.Position;
        }

        return summary;
    }

    private ref struct Summary
    {
        public int HeaderStart;
        public int HeaderBytes;
        public int KvStart;
        public int KvBytes;
        public long Keys;
        public bool More;
        public long Count;
        public ReadOnlySpan<byte> LastKey;
    }

    /// <summary>Where the stream is.</summary>
    private sealed class Cursor
    {
        public Cursor(ReadOnlySpan<byte> request)
        {
            Request = request.ToArray();
            _ = RangeRequest.TryParse(request, out RangeRequest range);
            Limit = Math.Max(0, range.Limit);
        }

        public byte[] Request { get; }

        /// <summary>Keys wanted in all; 0 = no limit.</summary>
        public long Limit { get; }

        public long Sent { get; set; }

        /// <summary>Count of the whole range, from the first chunk.</summary>
        public long Total { get; set; } = -1;

        public long Revision { get; set; }

        public long ChunkKeys { get; set; } = FirstChunkKeys;

        public bool Finished { get; set; }

        /// <summary>Where the next chunk starts; empty at the beginning.</summary>
        public byte[] Next { get; private set; } = [];

        public void Advance(ReadOnlySpan<byte> lastKey)
        {
            Next = new byte[lastKey.Length + 1];
            lastKey.CopyTo(Next);
        }
    }
}
