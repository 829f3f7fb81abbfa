// LeaseMessages: the lease messages found in log entries and in the lease bucket. Pure.
using System;
using Cairn.Core.Protocol;

namespace Cairn.Core.Leases;

/// <summary>Readers of small lease messages; false means the bytes are not that message.</summary>
internal static class LeaseMessages
{
    /// <summary>LeaseGrantRequest {1 TTL, 2 ID}.</summary>
    public static bool TryParseGrant(ReadOnlySpan<byte> body, out long id, out long ttl) =>
        NumberFields.TryParse(body, 2, out ttl, out id, out _);

    /// <summary>LeaseRevokeRequest {1 ID}.</summary>
    public static bool TryParseId(ReadOnlySpan<byte> body, out long id) => NumberFields.TryParse(body, 1, out id, out _, out _);

    /// <summary>LeaseCheckpoint {1 ID, 2 remaining_TTL}.</summary>
    public static bool TryParseCheckpoint(ReadOnlySpan<byte> body, out long id, out long remaining) =>
        NumberFields.TryParse(body, 2, out id, out remaining, out _);

    /// <summary>leasepb.Lease {1 ID, 2 TTL, 3 RemainingTTL}.</summary>
    public static bool TryParseLease(ReadOnlySpan<byte> value, out long id, out long ttl, out long remaining) =>
        NumberFields.TryParse(value, 3, out id, out ttl, out remaining);
}
