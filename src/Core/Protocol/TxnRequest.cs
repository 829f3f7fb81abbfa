// TxnRequest: a view of etcdserverpb.TxnRequest whose compares and operations are read one by one. Pure,
// allocation-free.
//
// TryParse validates to full depth, so the enumerators below cannot meet bad bytes: they assert instead of failing.
// Depth      etcd's decoder recurses without a bound; its check of max-txn-ops then refuses anything deeper than
//            that number. Validation here keeps its own stack of ends instead of recursing (MessageWalk.cs), so a
//            request of any depth is told apart as well-formed or not.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>Compare.CompareResult.</summary>
public enum CompareResult
{
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

/// <summary>Compare.CompareTarget.</summary>
public enum CompareTarget
{
    Version = 0,
    Create = 1,
    Mod = 2,
    Value = 3,
    Lease = 4,
}

/// <summary>Which member of Compare.target_union is set; values are the field numbers.</summary>
public enum CompareOperand
{
    None = 0,
    Version = 4,
    CreateRevision = 5,
    ModRevision = 6,
    Value = 7,
    Lease = 8,
}

/// <summary>View of one condition of a txn.</summary>
public ref struct Compare
{
    /// <summary>May hold an unknown number, which compares as true.</summary>
    public CompareResult Result;

    /// <summary>May hold an unknown number, which compares as equal.</summary>
    public CompareTarget Target;

    public ReadOnlySpan<byte> Key;

    /// <summary>As in a range; empty: the one key.</summary>
    public ReadOnlySpan<byte> RangeEnd;

    /// <summary>Which operand was sent last.</summary>
    public CompareOperand Operand;

    /// <summary>The numeric operand; 0 unless <see cref="Operand"/> is one of the numbers.</summary>
    public long Number;

    /// <summary>The bytes operand; empty unless <see cref="Operand"/> is Value.</summary>
    public ReadOnlySpan<byte> Value;

    /// <summary>The number to compare the target with: an operand of another kind counts as 0.</summary>
    public readonly long NumberForTarget => Operand == OperandOf(Target) && Operand != CompareOperand.Value ? Number : 0;

    /// <summary>The bytes to compare a value with: an operand of another kind counts as empty.</summary>
    public readonly ReadOnlySpan<byte> ValueForTarget => Operand == CompareOperand.Value ? Value : default;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes. Unknown fields are skipped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out Compare compare)
    {
        compare = default;
        return TryParse(data, ref compare, out _);
    }

    /// <summary>The same; <paramref name="unusual"/> says that the bytes may not go into the log as they are.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> data, ref Compare compare, out bool unusual)
    {
        var reader = new MessageReader(data);
        uint seen = 0;
        unusual = false;
        while (reader.NextField())
        {
            int slot = reader.Field;
            switch (reader.Field)
            {
                case 1:
                    compare.Result = (CompareResult)reader.ReadInt32();
                    break;
                case 2:
                    compare.Target = (CompareTarget)reader.ReadInt32();
                    break;
                case 3:
                    compare.Key = reader.ReadBytes();
                    unusual |= compare.Key.IsEmpty;
                    break;
                case 4 or 5 or 6 or 8:
                    compare.Operand = (CompareOperand)reader.Field;
                    compare.Number = reader.ReadInt64();
                    compare.Value = default;
                    slot = 4; // members of one oneof share a place: two of them count as repeated
                    break;
                case 7:
                    compare.Operand = CompareOperand.Value;
                    compare.Value = reader.ReadBytes();
                    compare.Number = 0;
                    slot = 4;
                    break;
                case 64:
                    compare.RangeEnd = reader.ReadBytes();
                    unusual |= compare.RangeEnd.IsEmpty;
                    slot = 9;
                    break;
                default:
                    reader.Skip();
                    unusual = true;
                    continue;
            }

            uint bit = 1u << slot;
            unusual |= (seen & bit) != 0;
            seen |= bit;
        }

        unusual |= reader.IsOddlyEncoded;
        return !reader.Failed;
    }

    /// <summary>Bytes of the canonical encoding.</summary>
    public readonly int Size =>
        ProtoSize.VarintFieldIfSet(1, (ulong)(long)Result)
        + ProtoSize.VarintFieldIfSet(2, (ulong)(long)Target)
        + ProtoSize.BytesFieldIfSet(3, Key.Length)
        + (Operand switch
        {
            CompareOperand.None => 0,
            CompareOperand.Value => ProtoSize.BytesField(7, Value.Length),
            _ => ProtoSize.VarintField((int)Operand, (ulong)Number),
        })
        + ProtoSize.BytesFieldIfSet(64, RangeEnd.Length);

    /// <summary>Writes the canonical encoding: a member of the oneof is written even when zero.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintFieldIfSet(1, (ulong)(long)Result);
        writer.WriteVarintFieldIfSet(2, (ulong)(long)Target);
        writer.WriteBytesFieldIfSet(3, Key);
        if (Operand == CompareOperand.Value)
        {
            writer.WriteBytesField(7, Value);
        }
        else if (Operand != CompareOperand.None)
        {
            writer.WriteVarintField((int)Operand, (ulong)Number);
        }

        writer.WriteBytesFieldIfSet(64, RangeEnd);
    }

    private static CompareOperand OperandOf(CompareTarget target) => target switch
    {
        CompareTarget.Version => CompareOperand.Version,
        CompareTarget.Create => CompareOperand.CreateRevision,
        CompareTarget.Mod => CompareOperand.ModRevision,
        CompareTarget.Value => CompareOperand.Value,
        CompareTarget.Lease => CompareOperand.Lease,
        _ => CompareOperand.None,
    };
}

/// <summary>Which member of RequestOp.request is set; values are the field numbers.</summary>
public enum RequestOpKind
{
    /// <summary>Nothing set: refused as "key not found".</summary>
    None = 0,
    Range = 1,
    Put = 2,
    DeleteRange = 3,
    Txn = 4,
}

/// <summary>View of one operation of a txn. Its bytes are known to parse.</summary>
public ref struct RequestOp
{
    public RequestOpKind Kind;

    /// <summary>The message of that kind.</summary>
    public ReadOnlySpan<byte> Body;

    public readonly RangeRequest AsRange()
    {
        Invariant.Check(Kind == RequestOpKind.Range, "the operation is a range");
        Invariant.Check(RangeRequest.TryParse(Body, out RangeRequest request), "a validated range parses");
        return request;
    }

    public readonly PutRequest AsPut()
    {
        Invariant.Check(Kind == RequestOpKind.Put, "the operation is a put");
        Invariant.Check(PutRequest.TryParse(Body, out PutRequest request), "a validated put parses");
        return request;
    }

    public readonly DeleteRangeRequest AsDeleteRange()
    {
        Invariant.Check(Kind == RequestOpKind.DeleteRange, "the operation is a deletion");
        Invariant.Check(DeleteRangeRequest.TryParse(Body, out DeleteRangeRequest request), "a validated deletion parses");
        return request;
    }

    /// <summary>The nested txn; already validated, so this costs one scan of its top level.</summary>
    public readonly TxnRequest AsTxn()
    {
        Invariant.Check(Kind == RequestOpKind.Txn, "the operation is a txn");
        return TxnRequest.FromValidated(Body);
    }

    /// <summary>Reads a validated RequestOp: the last member set counts.</summary>
    internal static RequestOp FromValidated(ReadOnlySpan<byte> data)
    {
        RequestOp op = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            if (reader.Field <= 4)
            {
                op.Kind = (RequestOpKind)reader.Field;
                op.Body = reader.ReadBytes();
            }
            else
            {
                reader.Skip();
            }
        }

        Invariant.Check(!reader.Failed, "a validated operation parses");
        return op;
    }
}

/// <summary>View of a txn; spans live as long as the bytes it was parsed from.</summary>
public ref struct TxnRequest
{
    private ReadOnlySpan<byte> _data;

    public int CompareCount { get; private set; }

    public int SuccessCount { get; private set; }

    public int FailureCount { get; private set; }

    /// <summary>The message itself.</summary>
    public readonly ReadOnlySpan<byte> Bytes => _data;

    /// <summary>The conditions, in order. All must hold for the success branch.</summary>
    public readonly CompareEnumerable Compares => new(_data);

    /// <summary>The operations run when all conditions hold, in order.</summary>
    public readonly RequestOpEnumerable Success => new(_data, 2);

    /// <summary>The operations run otherwise, in order.</summary>
    public readonly RequestOpEnumerable Failure => new(_data, 3);

    /// <summary>The operations of one branch.</summary>
    public readonly RequestOpEnumerable Branch(bool success) => new(_data, success ? 2 : 3);

    /// <summary>Reads a message and validates everything in it; false if etcd 3.6 would refuse the bytes.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out TxnRequest request)
    {
        if (!MessageWalk.IsValidTxn(data, out _))
        {
            request = default;
            return false;
        }

        request = FromValidated(data);
        return true;
    }

    internal static TxnRequest FromValidated(ReadOnlySpan<byte> data)
    {
        TxnRequest request = default;
        request._data = data;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.CompareCount++;
                    break;
                case 2:
                    request.SuccessCount++;
                    break;
                case 3:
                    request.FailureCount++;
                    break;
            }

            reader.Skip();
        }

        Invariant.Check(!reader.Failed, "a validated txn parses");
        return request;
    }
}

/// <summary>For <c>foreach</c> over the conditions of a txn.</summary>
public readonly ref struct CompareEnumerable
{
    private readonly ReadOnlySpan<byte> _data;

    internal CompareEnumerable(ReadOnlySpan<byte> data) => _data = data;

    public Enumerator GetEnumerator() => new(_data);

    public ref struct Enumerator
    {
        private MessageReader _reader;
        private Compare _current;

        internal Enumerator(ReadOnlySpan<byte> data)
        {
            _reader = new MessageReader(data);
            _current = default;
        }

        public readonly Compare Current => _current;

        public bool MoveNext()
        {
            while (_reader.NextField())
            {
                if (_reader.Field == 1)
                {
                    Invariant.Check(Compare.TryParse(_reader.ReadBytes(), out _current), "a validated compare parses");
                    return true;
                }

                _reader.Skip();
            }

            return false;
        }
    }
}

/// <summary>For <c>foreach</c> over the operations of one branch.</summary>
public readonly ref struct RequestOpEnumerable
{
    private readonly ReadOnlySpan<byte> _data;
    private readonly int _field;

    internal RequestOpEnumerable(ReadOnlySpan<byte> data, int field)
    {
        _data = data;
        _field = field;
    }

    public Enumerator GetEnumerator() => new(_data, _field);

    public ref struct Enumerator
    {
        private readonly int _field;
        private MessageReader _reader;
        private RequestOp _current;

        internal Enumerator(ReadOnlySpan<byte> data, int field)
        {
            _reader = new MessageReader(data);
            _field = field;
            _current = default;
        }

        public readonly RequestOp Current => _current;

        public bool MoveNext()
        {
            while (_reader.NextField())
            {
                if (_reader.Field == _field)
                {
                    _current = RequestOp.FromValidated(_reader.ReadBytes());
                    return true;
                }

                _reader.Skip();
            }

            return false;
        }
    }
}
