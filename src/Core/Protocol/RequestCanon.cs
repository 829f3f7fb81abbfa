// RequestCanon: turns the bytes of a client's request into the bytes that go into the log. Pure.
//
// Why        A log entry is read by every etcd from 3.4 to 3.7, whose decoders differ at the edges: 3.6 merges and
//            drops what 3.7 refuses, and a range_end that is present but empty is an open end to some and a single
//            key to others. Such bytes in the log could delete a whole store on one member only. So bytes are copied
//            as they came only when there is one way to read them: known fields, right wire types, no singular field
//            twice, no explicit empty bytes, no odd varints. Anything else that etcd 3.6 accepts is written anew from
//            what it understood.
// Cost       The usual request is looked at once and copied once. Writing a txn anew takes two walks: sizes, bytes.
using System;
using System.Buffers;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>How a request's body goes into an entry; valid as long as the bytes it was planned from.</summary>
public readonly ref struct CanonPlan
{
    private readonly ReadOnlySpan<byte> _source;

    internal CanonPlan(RequestKind kind, ReadOnlySpan<byte> source, bool copiesAsIs, int length)
    {
        _source = source;
        Kind = kind;
        CopiesAsIs = copiesAsIs;
        Length = length;
    }

    /// <summary>Field of InternalRaftRequest.</summary>
    public RequestKind Kind { get; }

    /// <summary>True if the bytes are copied as they came.</summary>
    public bool CopiesAsIs { get; }

    /// <summary>Bytes of the body in the entry.</summary>
    public int Length { get; }

    /// <summary>Writes the body; the span has exactly <see cref="Length"/> bytes.</summary>
    public void WriteTo(Span<byte> destination)
    {
        Invariant.Check(destination.Length == Length, "a body gets exactly its room");
        if (CopiesAsIs)
        {
            _source.CopyTo(destination);
            return;
        }

        RequestCanon.WriteAnew(Kind, _source, destination);
    }
}

/// <summary>Plans entries for the requests that come in clients' own bytes.</summary>
public static class RequestCanon
{
    /// <summary>Reads a put and plans its entry; false if etcd 3.6 would refuse the bytes.</summary>
    public static bool TryPlanPut(ReadOnlySpan<byte> body, out PutRequest request, out CanonPlan plan)
    {
        request = default;
        plan = default;
        if (!PutRequest.TryParse(body, ref request, out bool unusual))
        {
            return false;
        }

        plan = new CanonPlan(RequestKind.Put, body, !unusual, unusual ? request.Size : body.Length);
        return true;
    }

    /// <summary>Reads a deletion and plans its entry; false if etcd 3.6 would refuse the bytes.</summary>
    public static bool TryPlanDeleteRange(ReadOnlySpan<byte> body, out DeleteRangeRequest request, out CanonPlan plan)
    {
        request = default;
        plan = default;
        if (!DeleteRangeRequest.TryParse(body, ref request, out bool unusual))
        {
            return false;
        }

        plan = new CanonPlan(RequestKind.DeleteRange, body, !unusual, unusual ? request.Size : body.Length);
        return true;
    }

    /// <summary>Reads a compaction and plans its entry (always written anew); false if etcd 3.6 would refuse the bytes.</summary>
    public static bool TryPlanCompaction(ReadOnlySpan<byte> body, out CompactionRequest request, out CanonPlan plan)
    {
        plan = default;
        if (!CompactionRequest.TryParse(body, out request))
        {
            return false;
        }

        plan = new CanonPlan(RequestKind.Compaction, body, false, request.Size);
        return true;
    }

    /// <summary>
    /// Reads a txn to full depth; false if etcd 3.6 would refuse the bytes. The entry is planned by
    /// <see cref="PlanTxn"/> once the request is checked, which bounds its depth.
    /// </summary>
    /// <param name="body">The message.</param>
    /// <param name="request">The view.</param>
    /// <param name="unusual">To be handed to <see cref="PlanTxn"/>.</param>
    public static bool TryReadTxn(ReadOnlySpan<byte> body, out TxnRequest request, out bool unusual)
    {
        if (!MessageWalk.IsValidTxn(body, out unusual))
        {
            request = default;
            return false;
        }

        request = TxnRequest.FromValidated(body);
        return true;
    }

    /// <summary>Plans the entry of a txn that has passed <see cref="RequestChecks.CheckTxn"/>.</summary>
    public static CanonPlan PlanTxn(in TxnRequest request, bool unusual)
    {
        if (!unusual)
        {
            return new CanonPlan(RequestKind.Txn, request.Bytes, true, request.Bytes.Length);
        }

        var sizes = new SizeList();
        int length = MeasureTxn(in request, ref sizes);
        sizes.Dispose();
        return new CanonPlan(RequestKind.Txn, request.Bytes, false, length);
    }

    internal static void WriteAnew(RequestKind kind, ReadOnlySpan<byte> source, Span<byte> destination)
    {
        var writer = new ProtoWriter(destination);
        switch (kind)
        {
            case RequestKind.Put:
                Invariant.Check(PutRequest.TryParse(source, out PutRequest put), "a planned put parses");
                put.Write(ref writer);
                break;
            case RequestKind.DeleteRange:
                Invariant.Check(DeleteRangeRequest.TryParse(source, out DeleteRangeRequest delete), "a planned deletion parses");
                delete.Write(ref writer);
                break;
            case RequestKind.Compaction:
                Invariant.Check(CompactionRequest.TryParse(source, out CompactionRequest compaction), "a planned compaction parses");
                compaction.Write(ref writer);
                break;
            case RequestKind.Txn:
                TxnRequest txn = TxnRequest.FromValidated(source);
                var sizes = new SizeList();
                _ = MeasureTxn(in txn, ref sizes);
                sizes.Rewind();
                WriteTxn(in txn, ref sizes, ref writer);
                sizes.Dispose();
                break;
            default:
                Invariant.Throw("only key-value requests are planned");
                break;
        }

        Invariant.Check(writer.Position == destination.Length, "a body fills exactly its room");
    }

    private static int MeasureTxn(in TxnRequest txn, ref SizeList sizes)
    {
        int total = 0;
        foreach (Compare compare in txn.Compares)
        {
            total += ProtoSize.BytesField(1, compare.Size);
        }

        total += MeasureOps(txn.Success, 2, ref sizes);
        total += MeasureOps(txn.Failure, 3, ref sizes);
        return total;
    }

    private static int MeasureOps(RequestOpEnumerable ops, int field, ref SizeList sizes)
    {
        int total = 0;
        foreach (RequestOp op in ops)
        {
            int slot = sizes.Reserve();
            int inner = 0;
            switch (op.Kind)
            {
                case RequestOpKind.Range:
                    inner = op.AsRange().Size;
                    break;
                case RequestOpKind.Put:
                    inner = op.AsPut().Size;
                    break;
                case RequestOpKind.DeleteRange:
                    inner = op.AsDeleteRange().Size;
                    break;
                case RequestOpKind.Txn:
                    TxnRequest nested = op.AsTxn();
                    inner = MeasureTxn(in nested, ref sizes);
                    break;
            }

            sizes.Set(slot, inner);
            total += ProtoSize.BytesField(field, OpSize(op.Kind, inner));
        }

        return total;
    }

    private static int OpSize(RequestOpKind kind, int inner) =>
        kind == RequestOpKind.None ? 0 : ProtoSize.BytesField((int)kind, inner);

    private static void WriteTxn(in TxnRequest txn, ref SizeList sizes, scoped ref ProtoWriter writer)
    {
        foreach (Compare compare in txn.Compares)
        {
            writer.WriteTag(1, WireType.Bytes);
            writer.WriteVarint((ulong)compare.Size);
            compare.Write(ref writer);
        }

        WriteOps(txn.Success, 2, ref sizes, ref writer);
        WriteOps(txn.Failure, 3, ref sizes, ref writer);
    }

    private static void WriteOps(
        RequestOpEnumerable ops, int field, ref SizeList sizes, scoped ref ProtoWriter writer)
    {
        foreach (RequestOp op in ops)
        {
            int inner = sizes.Next();
            writer.WriteTag(field, WireType.Bytes);
            writer.WriteVarint((ulong)OpSize(op.Kind, inner));
            if (op.Kind == RequestOpKind.None)
            {
                continue;
            }

            writer.WriteTag((int)op.Kind, WireType.Bytes);
            writer.WriteVarint((ulong)inner);
            switch (op.Kind)
            {
                case RequestOpKind.Range:
                    op.AsRange().Write(ref writer);
                    break;
                case RequestOpKind.Put:
                    op.AsPut().Write(ref writer);
                    break;
                case RequestOpKind.DeleteRange:
                    op.AsDeleteRange().Write(ref writer);
                    break;
                case RequestOpKind.Txn:
                    TxnRequest nested = op.AsTxn();
                    WriteTxn(in nested, ref sizes, ref writer);
                    break;
            }
        }
    }

    /// <summary>Sizes of operations in the order in which both walks meet them.</summary>
    private struct SizeList
    {
        private int[] _sizes;
        private int _count;
        private int _next;

        public SizeList()
        {
            _sizes = ArrayPool<int>.Shared.Rent(256);
        }

        public int Reserve()
        {
            if (_count == _sizes.Length)
            {
                int[] larger = ArrayPool<int>.Shared.Rent(_sizes.Length * 2);
                _sizes.CopyTo(larger, 0);
                ArrayPool<int>.Shared.Return(_sizes);
                _sizes = larger;
            }

            return _count++;
        }

        public readonly void Set(int slot, int size) => _sizes[slot] = size;

        public void Rewind() => _next = 0;

        public int Next() => _sizes[_next++];

        public readonly void Dispose() => ArrayPool<int>.Shared.Return(_sizes);
    }
}
