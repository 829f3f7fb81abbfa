// HashAnswer: HashKV between members: the body of a PeerCall of kind HashKv. Request: revision i64 (0 = current). Answer, little
// endian: current revision i64 | hash u32 | hash revision i64 | compact revision i64. Pure.
using System;
using System.Buffers.Binary;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>Codec of the question and its answer.</summary>
internal static class HashAnswer
{
    private const int AnswerBytes = 28;

    internal static byte[] Ask(long revision)
    {
        byte[] body = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(body, revision);
        return body;
    }

    internal static bool TryReadQuestion(ReadOnlySpan<byte> body, out long revision)
    {
        revision = body.Length == 8 ? BinaryPrimitives.ReadInt64LittleEndian(body) : -1;
        return revision >= 0;
    }

    internal static byte[] Write(in HashKvResult result)
    {
        byte[] body = new byte[AnswerBytes];
        BinaryPrimitives.WriteInt64LittleEndian(body, result.CurrentRevision);
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(8), result.Hash);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(12), result.HashRevision);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(20), result.CompactRevision);
        return body;
    }

    internal static bool TryRead(ReadOnlySpan<byte> body, out HashKvResult result)
    {
        result = default;
        if (body.Length != AnswerBytes)
        {
            return false;
        }

        result = new HashKvResult(
            BinaryPrimitives.ReadUInt32LittleEndian(body[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(body[12..]),
            BinaryPrimitives.ReadInt64LittleEndian(body[20..]),
            BinaryPrimitives.ReadInt64LittleEndian(body));
        return true;
    }
}
