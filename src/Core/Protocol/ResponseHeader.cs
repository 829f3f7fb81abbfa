// ResponseHeader: the first field of nearly every answer.
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>etcdserverpb.ResponseHeader.</summary>
public struct ResponseHeader
{
    public ulong ClusterId;

    /// <summary>The member that answers.</summary>
    public ulong MemberId;

    /// <summary>Store revision at the time of the answer.</summary>
    public long Revision;

    /// <summary>Term of the last applied entry.</summary>
    public ulong RaftTerm;

    /// <summary>Encoded bytes of the message itself.</summary>
    public readonly int Size =>
        ProtoSize.VarintFieldIfSet(1, ClusterId)
        + ProtoSize.VarintFieldIfSet(2, MemberId)
        + ProtoSize.VarintFieldIfSet(3, (ulong)Revision)
        + ProtoSize.VarintFieldIfSet(4, RaftTerm);

    /// <summary>Bytes of the message as field 1 of a response, tag and length included.</summary>
    public readonly int FieldSize => ProtoSize.BytesField(1, Size);

    /// <summary>Writes the message as field 1, also when it is empty (a nested txn answers with an empty header).</summary>
    public readonly void WriteField(scoped ref ProtoWriter writer)
    {
        writer.WriteTag(1, WireType.Bytes);
        writer.WriteVarint((ulong)Size);
        writer.WriteVarintFieldIfSet(1, ClusterId);
        writer.WriteVarintFieldIfSet(2, MemberId);
        writer.WriteVarintFieldIfSet(3, (ulong)Revision);
        writer.WriteVarintFieldIfSet(4, RaftTerm);
    }
}
