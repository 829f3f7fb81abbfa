// RequestChecks: what is wrong with a request before anything is read or written. Pure.
//
// Order      etcd's, because a request may be wrong in several ways and clients see the first: at each level of a txn
//            the number of operations, then the keys of compares, then the operations of both branches in order
//            (nested ones with the budget that is left), and overlaps only after everything else passed.
// Depth      Each level takes at least one of the budget, so a checked txn is at most max-txn-ops deep; beyond
//            MaxDepth it is refused as too many operations whatever the option says, because what follows recurses.
using System;

namespace Cairn.Core.Protocol;

/// <summary>Validation and pricing of key-value requests.</summary>
public static class RequestChecks
{
    /// <summary>Operations and compares of a txn that still counts as light.</summary>
    private const int LightOps = 16;

    /// <summary>Levels of nesting that are served at most.</summary>
    public const int MaxDepth = 512;

    /// <summary>Bytes etcd adds to every put when it compares a request with the quota.</summary>
    public const int PutOverhead = 256;

    /// <summary>Quota cost of a lease grant.</summary>
    public const int LeaseGrantCost = 64;

    /// <summary>Key present; sort order and target known.</summary>
    public static ErrorCode CheckRange(scoped in RangeRequest request) =>
        request.Key.IsEmpty ? ErrorCode.KeyNotProvided
        : request.SortOrder is < SortOrder.None or > SortOrder.Descend ? ErrorCode.InvalidSortOption
        : request.SortTarget is < SortTarget.Key or > SortTarget.Value ? ErrorCode.InvalidSortOption
        : ErrorCode.None;

    /// <summary>Key present; no value or lease beside the option that ignores it.</summary>
    public static ErrorCode CheckPut(scoped in PutRequest request) =>
        request.Key.IsEmpty ? ErrorCode.KeyNotProvided
        : request.IgnoreValue && !request.Value.IsEmpty ? ErrorCode.ValueProvided
        : request.IgnoreLease && request.Lease != 0 ? ErrorCode.LeaseProvided
        : ErrorCode.None;

    /// <summary>Key present.</summary>
    public static ErrorCode CheckDeleteRange(scoped in DeleteRangeRequest request) =>
        request.Key.IsEmpty ? ErrorCode.KeyNotProvided : ErrorCode.None;

    /// <summary>Everything about a txn that does not depend on the store.</summary>
    /// <param name="request">Parsed, so valid to full depth.</param>
    /// <param name="maxTxnOps">The option max-txn-ops.</param>
    public static ErrorCode CheckTxn(scoped in TxnRequest request, int maxTxnOps)
    {
        ErrorCode error = CheckLevel(in request, maxTxnOps, 0, out bool mayOverlap);
        return error == ErrorCode.None && mayOverlap ? TxnOverlap.Check(in request) : error;
    }

    /// <summary>
    /// True if the txn is answered without the log: plain ranges in both branches. A nested txn, even of ranges only,
    /// goes through the log.
    /// </summary>
    public static bool IsReadOnly(scoped in TxnRequest request) =>
        OnlyRanges(request.Success, false) && OnlyRanges(request.Failure, false);

    /// <summary>
    /// True if a read-only txn may be answered from local state: all its ranges say so. A txn without any operation
    /// counts as such, compares or not (as in etcd).
    /// </summary>
    public static bool IsSerializable(scoped in TxnRequest request) =>
        OnlyRanges(request.Success, true) && OnlyRanges(request.Failure, true);

    /// <summary>True if applying the txn touches a handful of keys: few operations, each on one key, none nested.</summary>
    public static bool IsLight(scoped in TxnRequest request)
    {
        if (request.CompareCount + request.SuccessCount + request.FailureCount > LightOps)
        {
            return false;
        }

        foreach (Compare compare in request.Compares)
        {
            if (!compare.RangeEnd.IsEmpty)
            {
                return false;
            }
        }

        return OnlySingleKeys(request.Success) && OnlySingleKeys(request.Failure);
    }

    /// <summary>Cost of a request by its kind. Malformed bytes cost nothing: somebody else refuses them.</summary>
    public static long QuotaCost(RequestKind kind, ReadOnlySpan<byte> body) => kind switch
    {
        RequestKind.Put => PutRequest.TryParse(body, out PutRequest put) ? QuotaCost(in put) : 0,
        RequestKind.Txn => TxnRequest.TryParse(body, out TxnRequest txn) ? QuotaCost(in txn) : 0,
        RequestKind.LeaseGrant => LeaseGrantCost,
        _ => 0,
    };

    /// <summary>An upper bound of that by length alone: a put in a txn takes at least four bytes.</summary>
    public static long QuotaCostBound(RequestKind kind, int length) =>
        kind == RequestKind.Txn ? length + ((long)PutOverhead * ((length / 4) + 1)) : PutOverhead + length;

    /// <summary>What the quota is asked for.</summary>
    public static long QuotaCost(scoped in PutRequest request) => PutOverhead + request.Key.Length + (long)request.Value.Length;

    /// <summary>The dearer branch; nested puts count; 0 (always allowed) without a put.</summary>
    /// <remarks>Asked before the checks, as in etcd; what lies deeper than is served costs nothing.</remarks>
    public static long QuotaCost(scoped in TxnRequest request) => QuotaCost(in request, 0);

    private static long QuotaCost(scoped in TxnRequest request, int depth) =>
        Math.Max(BranchCost(request.Success, depth), BranchCost(request.Failure, depth));

    private static long BranchCost(scoped RequestOpEnumerable ops, int depth)
    {
        long cost = 0;
        foreach (RequestOp op in ops)
        {
            if (op.Kind == RequestOpKind.Put)
            {
                PutRequest put = op.AsPut();
                cost += QuotaCost(in put);
            }
            else if (op.Kind == RequestOpKind.Txn && depth < MaxDepth)
            {
                TxnRequest nested = op.AsTxn();
                cost += QuotaCost(in nested, depth + 1);
            }
        }

        return cost;
    }

    private static bool OnlySingleKeys(scoped RequestOpEnumerable ops)
    {
        foreach (RequestOp op in ops)
        {
            bool single = op.Kind switch
            {
                RequestOpKind.Range => op.AsRange() is { RangeEnd.IsEmpty: true, HasEmptyRangeEnd: false },
                RequestOpKind.Put => true,
                RequestOpKind.DeleteRange => op.AsDeleteRange().RangeEnd.IsEmpty,
                _ => false,
            };
            if (!single)
            {
                return false;
            }
        }

        return true;
    }

    private static bool OnlyRanges(scoped RequestOpEnumerable ops, bool serializable)
    {
        foreach (RequestOp op in ops)
        {
            if (op.Kind != RequestOpKind.Range || (serializable && !op.AsRange().Serializable))
            {
                return false;
            }
        }

        return true;
    }

    private static ErrorCode CheckLevel(scoped in TxnRequest request, int budget, int depth, out bool mayOverlap)
    {
        mayOverlap = false;
        int largest = Math.Max(request.CompareCount, Math.Max(request.SuccessCount, request.FailureCount));
        if (largest > budget || depth > MaxDepth)
        {
            return ErrorCode.TooManyOps;
        }

        foreach (Compare compare in request.Compares)
        {
            if (compare.Key.IsEmpty)
            {
                return ErrorCode.KeyNotProvided;
            }
        }

        ErrorCode error = CheckOps(request.Success, budget - largest, depth, ref mayOverlap);
        return error == ErrorCode.None ? CheckOps(request.Failure, budget - largest, depth, ref mayOverlap) : error;
    }

    private static ErrorCode CheckOps(scoped RequestOpEnumerable ops, int budget, int depth, ref bool mayOverlap)
    {
        int writes = 0;
        foreach (RequestOp op in ops)
        {
            ErrorCode error = ErrorCode.KeyNotFound; // an operation with nothing set
            switch (op.Kind)
            {
                case RequestOpKind.Range:
                    RangeRequest range = op.AsRange();
                    error = CheckRange(in range);
                    break;
                case RequestOpKind.Put:
                    PutRequest put = op.AsPut();
                    error = CheckPut(in put);
                    writes++;
                    break;
                case RequestOpKind.DeleteRange:
                    DeleteRangeRequest delete = op.AsDeleteRange();
                    error = CheckDeleteRange(in delete);
                    writes++;
                    break;
                case RequestOpKind.Txn:
                    TxnRequest nested = op.AsTxn();
                    error = CheckLevel(in nested, budget, depth + 1, out _);
                    mayOverlap = true;
                    break;
            }

            if (error != ErrorCode.None)
            {
                return error;
            }
        }

        mayOverlap |= writes > 1; // one write alone overlaps with nothing
        return ErrorCode.None;
    }
}
