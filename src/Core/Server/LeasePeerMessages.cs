// LeasePeerMessages: bodies of the lease questions between members. Small, cold, allocated. Pure.
using System;
using Cairn.Base;

namespace Cairn.Core.Server;

/// <summary>Questions are etcd's request messages; answers are the fields of etcd's responses without the header.</summary>
internal static class LeasePeerMessages
{
    private const int TtlField = 3;

    /// <summary>LeaseKeepAliveRequest {1 ID}.</summary>
    internal static byte[] Renew(long id)
    {
        byte[] body = new byte[ProtoSize.VarintFieldIfSet(1, (ulong)id)];
        new ProtoWriter(body).WriteVarintFieldIfSet(1, (ulong)id);
        return body;
    }

    /// <summary>LeaseKeepAliveResponse {3 TTL}.</summary>
    internal static byte[] Renewed(long ttlSeconds)
    {
        byte[] body = new byte[ProtoSize.VarintField(TtlField, (ulong)ttlSeconds)];
        new ProtoWriter(body).WriteVarintField(TtlField, (ulong)ttlSeconds);
        return body;
    }

    /// <summary>False when the bytes are no such answer.</summary>
    internal static bool TryReadRenewed(ReadOnlySpan<byte> body, out long ttlSeconds)
    {
        ttlSeconds = 0;
        bool found = false;
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field == TtlField && reader.Wire == WireType.Varint)
            {
                ttlSeconds = reader.ReadInt64();
                found = true;
            }
            else
            {
                reader.Skip();
            }
        }

        return found && !reader.Failed;
    }

    /// <summary>LeaseTimeToLiveRequest {1 ID}: the keys are not asked for, every member has them.</summary>
    internal static byte[] TimeToLive(in StoreQuery query)
    {
        byte[] body = new byte[ProtoSize.VarintFieldIfSet(1, (ulong)query.LeaseId)];
        new ProtoWriter(body).WriteVarintFieldIfSet(1, (ulong)query.LeaseId);
        return body;
    }

    /// <summary>Remaining seconds of a LeaseTimeToLiveResponse {3 TTL}; -1: nobody knows the lease.</summary>
    internal static long Remaining(ReadOnlySpan<byte> body)
        => TryReadRenewed(body, out long seconds) ? seconds : 0; // the field is absent when zero

    /// <summary>A response without its first field, the header, which is the answering member's own.</summary>
    internal static byte[] WithoutHeader(ReadOnlySpan<byte> response)
    {
        var reader = new ProtoReader(response);
        if (reader.NextField() && reader.Field == 1)
        {
            reader.Skip();
            return response[reader.Position..].ToArray();
        }

        return response.ToArray();
    }
}
