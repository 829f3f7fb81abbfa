// QuotaCost: how much space a request counts for against the quota (behaviour.md §2.1). Pure.
//
// Puts count 256 bytes beside key and value, a lease grant 64, a txn its dearer branch with nested txns included;
// what needs no space costs nothing and always passes. Malformed bytes cost nothing: somebody else refuses them.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>Costs of requests in bytes.</summary>
internal static class QuotaCost
{
    private const long PutOverhead = 256;
    private const long LeaseOverhead = 64;
    private const int NestingMax = 1000;

    /// <summary>Cost of a request by its kind.</summary>
    internal static long Of(RequestKind kind, ReadOnlySpan<byte> body) => kind switch
    {
        RequestKind.Put => Put(body),
        RequestKind.Txn => Txn(body, 0),
        RequestKind.LeaseGrant => LeaseOverhead,
        _ => 0,
    };

    /// <summary>An upper bound of <see cref="Of"/> by length alone: a put in a txn takes at least four bytes.</summary>
    internal static long UpperBound(RequestKind kind, int length) =>
        kind == RequestKind.Txn ? length + (PutOverhead * ((length / 4) + 1)) : PutOverhead + length;

    private static long Put(ReadOnlySpan<byte> body)
    {
        // PutRequest {1 key, 2 value}
        long cost = PutOverhead;
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field is 1 or 2 && reader.Wire == WireType.Bytes)
            {
                cost += reader.ReadBytes().Length;
            }
            else
            {
                reader.Skip();
            }
        }

        return cost;
    }

    private static long Txn(ReadOnlySpan<byte> body, int depth)
    {
        // TxnRequest {1 compare, 2 success, 3 failure}; RequestOp {2 request_put, 4 request_txn}
        long success = 0;
        long failure = 0;
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field is not (2 or 3) || reader.Wire != WireType.Bytes)
            {
                reader.Skip();
                continue;
            }

            bool inSuccess = reader.Field == 2;
            long cost = Operation(reader.ReadBytes(), depth);
            if (inSuccess)
            {
                success += cost;
            }
            else
            {
                failure += cost;
            }
        }

        return Math.Max(success, failure);
    }

    private static long Operation(ReadOnlySpan<byte> operation, int depth)
    {
        long cost = 0;
        var reader = new ProtoReader(operation);
        while (reader.NextField())
        {
            if (reader.Wire != WireType.Bytes)
            {
                reader.Skip();
                continue;
            }

            int field = reader.Field;
            ReadOnlySpan<byte> body = reader.ReadBytes();
            if (field == 2)
            {
                cost = Put(body);
            }
            else if (field == 4 && depth < NestingMax)
            {
                cost = Txn(body, depth + 1);
            }
            else
            {
                cost = 0;
            }
        }

        return cost;
    }
}
