// ResponseScratch: where cold responses are put together before they go into a slot. Owned by the store thread.
using System;
using System.Buffers;
using Cairn.Base;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>An <see cref="IBufferWriter{T}"/> over a pooled native buffer, reused from entry to entry.</summary>
internal sealed class ResponseScratch : IBufferWriter<byte>
{
    private NativeBuffer _buffer;

    internal ResponseScratch(NativePool pool)
    {
        _buffer = new NativeBuffer(pool);
    }

    internal ReadOnlySpan<byte> Written => _buffer.WrittenSpan;

    public void Advance(int count) => _buffer.Advance(count);

    public Span<byte> GetSpan(int sizeHint = 0) => _buffer.GetSpan(Math.Max(sizeHint, 64));

    /// <summary>Native memory has no <see cref="Memory{T}"/> here; nobody on the store thread asks for one.</summary>
    public Memory<byte> GetMemory(int sizeHint = 0) => throw new NotSupportedException("a response is written by span");

    internal void Reset() => _buffer.Reset();

    internal void Free() => _buffer.Free();

    /// <summary>Appends field 1, the ResponseHeader {1 cluster_id, 2 member_id, 3 revision, 4 raft_term}.</summary>
    internal static void WriteHeader(ref NativeBuffer output, in HeaderFields header, long revision)
    {
        int body = ProtoSize.VarintFieldIfSet(1, header.ClusterId)
            + ProtoSize.VarintFieldIfSet(2, header.MemberId)
            + ProtoSize.VarintFieldIfSet(3, (ulong)revision)
            + ProtoSize.VarintFieldIfSet(4, header.RaftTerm);
        var writer = new ProtoWriter(output.GetSpan(body + 8));
        writer.WriteTag(1, WireType.Bytes);
        writer.WriteVarint((ulong)body);
        writer.WriteVarintFieldIfSet(1, header.ClusterId);
        writer.WriteVarintFieldIfSet(2, header.MemberId);
        writer.WriteVarintFieldIfSet(3, (ulong)revision);
        writer.WriteVarintFieldIfSet(4, header.RaftTerm);
        output.Advance(writer.Position);
    }
}
