// Responses: sizes and writers of the key-value answers. Pure, allocation-free.
//
// Why        An answer is written in two passes: sizes first, then bytes into a span that is exactly large enough,
//            so that nested lengths are known when they are written and nothing is moved afterwards. A pair is
//            copied as it is stored: the stored bytes are the KeyValue message of the answer.
// Use        size = sum of the pieces; span = output.GetSpan(size); var writer = new ProtoWriter(span); the same
//            pieces in the same order; output.Advance(writer.Position).
// Source     rpc.proto field numbers; zero values are absent as in every proto3 encoder.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>Pieces of etcdserverpb.RangeResponse {1 header, 2 kvs, 3 more, 4 count}.</summary>
public static class RangeResponseWriter
{
    /// <summary>One pair whose encoded message has this many bytes.</summary>
    public static int KvSize(int encodedLength) => ProtoSize.BytesField(2, encodedLength);

    /// <summary>What follows the pairs.</summary>
    public static int TailSize(bool more, long count) => (more ? 2 : 0) + ProtoSize.VarintFieldIfSet(4, (ulong)count);

    public static void WriteHeader(scoped ref ProtoWriter writer, scoped in ResponseHeader header) => header.WriteField(ref writer);

    /// <summary>A pair as it is stored.</summary>
    public static void WriteKv(scoped ref ProtoWriter writer, scoped ReadOnlySpan<byte> encoded) => writer.WriteBytesField(2, encoded);

    /// <summary>A pair that has to be encoded.</summary>
    public static void WriteKv(scoped ref ProtoWriter writer, scoped in KeyValue pair)
    {
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)pair.Size);
        pair.Write(ref writer);
    }

    public static void WriteTail(scoped ref ProtoWriter writer, bool more, long count)
    {
        writer.WriteVarintFieldIfSet(3, more ? 1u : 0);
        writer.WriteVarintFieldIfSet(4, (ulong)count);
    }
}

/// <summary>etcdserverpb.PutResponse {1 header, 2 prev_kv}.</summary>
public static class PutResponseWriter
{
    /// <param name="header">Header.</param>
    /// <param name="hasPrevKv">False leaves the field unset (no previous value, or not asked for).</param>
    /// <param name="prevKvLength">Bytes of the encoded pair.</param>
    public static int Size(scoped in ResponseHeader header, bool hasPrevKv, int prevKvLength) =>
        header.FieldSize + (hasPrevKv ? ProtoSize.BytesField(2, prevKvLength) : 0);

    public static void Write(
        scoped ref ProtoWriter writer, scoped in ResponseHeader header, bool hasPrevKv, scoped ReadOnlySpan<byte> prevKv)
    {
        header.WriteField(ref writer);
        if (hasPrevKv)
        {
            writer.WriteBytesField(2, prevKv);
        }
    }
}

/// <summary>Pieces of etcdserverpb.DeleteRangeResponse {1 header, 2 deleted, 3 prev_kvs}.</summary>
public static class DeleteRangeResponseWriter
{
    public static int HeadSize(scoped in ResponseHeader header, long deleted) =>
        header.FieldSize + ProtoSize.VarintFieldIfSet(2, (ulong)deleted);

    public static int PrevKvSize(int encodedLength) => ProtoSize.BytesField(3, encodedLength);

    public static void WriteHead(scoped ref ProtoWriter writer, scoped in ResponseHeader header, long deleted)
    {
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, (ulong)deleted);
    }

    public static void WritePrevKv(scoped ref ProtoWriter writer, scoped ReadOnlySpan<byte> encoded) => writer.WriteBytesField(3, encoded);
}

/// <summary>Pieces of etcdserverpb.TxnResponse {1 header, 2 succeeded, 3 responses} and of ResponseOp.</summary>
public static class TxnResponseWriter
{
    public static int HeadSize(scoped in ResponseHeader header, bool succeeded) => header.FieldSize + (succeeded ? 2 : 0);

    public static void WriteHead(scoped ref ProtoWriter writer, scoped in ResponseHeader header, bool succeeded)
    {
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, succeeded ? 1u : 0);
    }

    /// <summary>One element of responses whose inner message (range, put, …) has this many bytes.</summary>
    public static int ResponseSize(RequestOpKind kind, int innerLength) =>
        ProtoSize.BytesField(3, ProtoSize.BytesField((int)kind, innerLength));

    /// <summary>Tag and lengths of one element; the inner message's bytes must follow.</summary>
    public static void WriteResponseStart(scoped ref ProtoWriter writer, RequestOpKind kind, int innerLength)
    {
        writer.WriteTag(3, WireType.Bytes);
        writer.WriteVarint((ulong)ProtoSize.BytesField((int)kind, innerLength));
        writer.WriteTag((int)kind, WireType.Bytes);
        writer.WriteVarint((ulong)innerLength);
    }
}

/// <summary>Answers that hold a header and nothing else: compaction, lease revoke, auth administration.</summary>
public static class HeaderResponseWriter
{
    public static int Size(scoped in ResponseHeader header) => header.FieldSize;

    public static void Write(scoped ref ProtoWriter writer, scoped in ResponseHeader header) => header.WriteField(ref writer);
}
