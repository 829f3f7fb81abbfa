// LeaseMessages: the lease messages found in log entries and in the lease bucket. Pure.
using System;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>Readers of small lease messages; false means the bytes are not that message.</summary>
internal static class LeaseMessages
{
    /// <summary>LeaseGrantRequest {1 TTL, 2 ID}.</summary>
    public static bool TryParseGrant(ReadOnlySpan<byte> body, out long id, out long ttl) =>
        TryParseThree(body, out ttl, out id, out _);

    /// <summary>LeaseRevokeRequest {1 ID}.</summary>
    public static bool TryParseId(ReadOnlySpan<byte> body, out long id) => TryParseThree(body, out id, out _, out _);

    /// <summary>LeaseCheckpoint {1 ID, 2 remaining_TTL}.</summary>
    public static bool TryParseCheckpoint(ReadOnlySpan<byte> body, out long id, out long remaining) =>
        TryParseThree(body, out id, out remaining, out _);

    /// <summary>leasepb.Lease {1 ID, 2 TTL, 3 RemainingTTL}.</summary>
    public static bool TryParseLease(ReadOnlySpan<byte> value, out long id, out long ttl, out long remaining) =>
        TryParseThree(value, out id, out ttl, out remaining);

    /// <summary>All of them are up to three int64 fields; unknown fields are skipped, the last value counts.</summary>
    private static bool TryParseThree(ReadOnlySpan<byte> body, out long first, out long second, out long third)
    {
        first = second = third = 0;
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field > 3)
            {
                reader.Skip();
                continue;
            }

            if (reader.Wire != WireType.Varint)
            {
                return false;
            }

            long value = reader.ReadInt64();
            switch (reader.Field)
            {
                case 1:
                    first = value;
                    break;
                case 2:
                    second = value;
                    break;
                default:
                    third = value;
                    break;
            }
        }

        return !reader.Failed;
    }
}
