// LeaseQueries: answers of LeaseTimeToLive and LeaseLeases from the lease table. Store thread.
//
// Remaining time comes from the clock of deadlines; a lease whose grant the clock has not been told of has just begun. Where
// this member does not lead, the leader has been asked for it; the keys are here as they are there.
using System;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>Response bodies of lease reads.</summary>
internal static class LeaseQueries
{
    /// <summary>LeaseTimeToLiveResponse {1 header, 2 ID, 3 TTL, 4 grantedTTL, 5 repeated keys}; TTL -1 = unknown.</summary>
    internal static void TimeToLive(
        Lessor leases,
        LeaseClock clock,
        long nowNs,
        in StoreQuery query,
        in HeaderFields header,
        long revision,
        LeaseKeySet keys,
        ref NativeBuffer output)
    {
        ResponseScratch.WriteHeader(ref output, in header, revision);
        bool found = leases.TryGet(query.LeaseId, out LeaseInfo info);
        long left = -1;
        if (found)
        {
            left = query.Remaining
                ?? (clock.TryGet(query.LeaseId, nowNs, out LeaseTime time) ? time.RemainingSeconds : info.Ttl);
        }

        var writer = new ProtoWriter(output.GetSpan(48));
        writer.WriteVarintFieldIfSet(2, (ulong)query.LeaseId);
        writer.WriteVarintFieldIfSet(3, (ulong)left);
        writer.WriteVarintFieldIfSet(4, found ? (ulong)info.Ttl : 0);
        output.Advance(writer.Position);
        if (!found || !query.Keys || !leases.TryCopyKeys(query.LeaseId, keys))
        {
            return;
        }

        for (int i = 0; i < keys.Count; i++)
        {
            var item = new ProtoWriter(output.GetSpan(ProtoSize.BytesField(5, keys[i].Length)));
            item.WriteBytesField(5, keys[i]);
            output.Advance(item.Position);
        }

        keys.Clear();
    }

    /// <summary>LeaseLeasesResponse {1 header, 2 repeated LeaseStatus {1 ID}}; a lease seen twice is told once.</summary>
    internal static void List(
        ReadOnlySpan<(long RemainingMs, long Id)> sorted, in HeaderFields header, long revision, ref NativeBuffer output)
    {
        ResponseScratch.WriteHeader(ref output, in header, revision);
        long last = 0;
        foreach ((_, long id) in sorted)
        {
            if (id == last)
            {
                continue;
            }

            last = id;
            int inner = ProtoSize.VarintFieldIfSet(1, (ulong)id);
            var writer = new ProtoWriter(output.GetSpan(inner + 8));
            writer.WriteTag(2, WireType.Bytes);
            writer.WriteVarint((ulong)inner);
            writer.WriteVarintFieldIfSet(1, (ulong)id);
            output.Advance(writer.Position);
        }
    }
}
