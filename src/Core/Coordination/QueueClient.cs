// QueueClient: a client of this member inside this member: what locks and elections ask of the store, checked and proposed
// as if it had come from outside (quota, limits, permissions of the caller).
//
// Thread     any; no state. Each request takes a slot of its own, since an entry's id is used once.
using System;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Core.Coordination;

/// <summary>Requests of locks and elections to the own member.</summary>
internal sealed class QueueClient(Member member, IClock clock)
{
    public Member Member => member;

    /// <summary>A txn that writes; the answer, or why not.</summary>
    /// <param name="caller">For whom.</param>
    /// <param name="request">A TxnRequest of our own making.</param>
    /// <param name="evenIfGone">It is done whatever the caller waits for: something is put in order behind it.</param>
    public async ValueTask<(ErrorCode Outcome, QueueAnswer Answer)> TxnAsync(ICaller caller, byte[] request, bool evenIfGone = false)
    {
        ErrorCode refusal = member.CheckQuota(RequestKind.Txn, request);
        if (refusal == ErrorCode.None)
        {
            refusal = CheckTxn(request);
        }

        if (refusal != ErrorCode.None)
        {
            return (refusal, default);
        }

        RequestSlot slot = caller.Rent();
        try
        {
            request.CopyTo(slot.BeginRequest(RequestKind.Txn, request.Length));
            ErrorCode outcome = await member.ProposeAsync(slot, Deadline(caller, evenIfGone)).ConfigureAwait(false);
            return (outcome, outcome == ErrorCode.None ? QueueAnswer.OfTxn(slot.Response.WrittenSpan) : default);
        }
        finally
        {
            member.Return(slot);
        }
    }

    /// <summary>Deletes one key, whatever it is.</summary>
    public async ValueTask<(ErrorCode Outcome, QueueAnswer Answer)> DeleteAsync(ICaller caller, byte[] key)
    {
        if (key.Length == 0)
        {
            return (ErrorCode.KeyNotProvided, default);
        }

        RequestSlot slot = caller.Rent();
        try
        {
            byte[] request = QueueKeys.Delete(key);
            request.CopyTo(slot.BeginRequest(RequestKind.DeleteRange, request.Length));
            ErrorCode outcome = await member.ProposeAsync(slot, Deadline(caller, evenIfGone: false)).ConfigureAwait(false);
            return (outcome, outcome == ErrorCode.None ? QueueAnswer.OfRange(slot.Response.WrittenSpan) : default);
        }
        finally
        {
            member.Return(slot);
        }
    }

    /// <summary>A range.</summary>
    /// <param name="caller">For whom.</param>
    /// <param name="request">A RangeRequest of our own making.</param>
    /// <param name="isBarrier">See everything acknowledged before; else what has been applied here is enough.</param>
    public async ValueTask<(ErrorCode Outcome, QueueAnswer Answer)> RangeAsync(ICaller caller, byte[] request, bool isBarrier)
    {
        RequestSlot slot = caller.Rent();
        try
        {
            ErrorCode outcome = isBarrier
                ? await member.ReadIndexAsync(slot, Deadline(caller, evenIfGone: false)).ConfigureAwait(false)
                : ErrorCode.None;
            if (outcome == ErrorCode.None && !TryRead(slot, request, out outcome))
            {
                outcome = await member.ReadColdAsync(slot, ColdReadKind.Range, request).ConfigureAwait(false);
            }

            return (outcome, outcome == ErrorCode.None ? QueueAnswer.OfRange(slot.Response.WrittenSpan) : default);
        }
        finally
        {
            member.Return(slot);
        }
    }

    /// <summary>Grants a lease whose id the server picks.</summary>
    public async ValueTask<(ErrorCode Outcome, long Lease)> GrantAsync(ICaller caller, long ttlSeconds)
    {
        var grant = new LeaseGrantRequest { Ttl = ttlSeconds };
        byte[] message = new byte[grant.Size];
        var whole = new ProtoWriter(message);
        grant.Write(ref whole);
        ErrorCode refusal = member.CheckQuota(RequestKind.LeaseGrant, message);
        if (refusal != ErrorCode.None)
        {
            return (refusal, 0);
        }

        while (grant.Id == 0)
        {
            grant.Id = member.NextLeaseId();
        }

        RequestSlot slot = caller.Rent();
        try
        {
            Fill(slot, in grant);
            return (await member.ProposeAsync(slot, Deadline(caller, evenIfGone: false)).ConfigureAwait(false), grant.Id);
        }
        finally
        {
            member.Return(slot);
        }
    }

    private static void Fill(RequestSlot slot, in LeaseGrantRequest grant)
    {
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.LeaseGrant, grant.Size));
        grant.Write(ref writer);
    }

    private ErrorCode CheckTxn(byte[] request)
    {
        Invariant.Check(TxnRequest.TryParse(request, out TxnRequest txn), "a txn of our own making parses");
        return RequestChecks.CheckTxn(in txn, member.Options.MaxTxnOps);
    }

    private bool TryRead(RequestSlot slot, byte[] request, out ErrorCode outcome)
    {
        MvccStore store = member.Store;
        ViewPin pin = store.Pin();
        try
        {
            return store.TryRangeNow(request, pin, member.Header, ref slot.Response, out outcome);
        }
        finally
        {
            store.Unpin(pin);
        }
    }

    private long Deadline(ICaller caller, bool evenIfGone)
    {
        long limit = clock.NowNs + member.Options.RequestTimeoutNs;
        return evenIfGone ? limit : Math.Min(limit, caller.DeadlineNs);
    }
}
