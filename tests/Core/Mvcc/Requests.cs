// Requests: typed requests for the model tests, their bytes, and answers rendered as text to compare.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

internal abstract record Op
{
    public abstract byte[] Encode();

    protected static byte[] Build(Action<List<byte>> fill)
    {
        var bytes = new List<byte>();
        fill(bytes);
        return bytes.ToArray();
    }

    protected static void Number(List<byte> bytes, int field, long value)
    {
        if (value != 0)
        {
            Always(bytes, field, value);
        }
    }

    protected static void Always(List<byte> bytes, int field, long value)
    {
        byte[] buffer = new byte[20];
        var writer = new ProtoWriter(buffer);
        writer.WriteVarintField(field, (ulong)value);
        bytes.AddRange(writer.Written.ToArray());
    }

    protected static void Bytes(List<byte> bytes, int field, byte[] value, bool always = false)
    {
        if (value.Length > 0 || always)
        {
            byte[] buffer = new byte[value.Length + 20];
            var writer = new ProtoWriter(buffer);
            writer.WriteBytesField(field, value);
            bytes.AddRange(writer.Written.ToArray());
        }
    }
}

internal sealed record RangeOp(byte[] Key, byte[] End) : Op
{
    public long Limit { get; init; }

    public long Revision { get; init; }

    public int Order { get; init; }

    public int Target { get; init; }

    public bool KeysOnly { get; init; }

    public bool CountOnly { get; init; }

    public long MinMod { get; init; }

    public long MaxMod { get; init; }

    public long MinCreate { get; init; }

    public long MaxCreate { get; init; }

    public override byte[] Encode() => Build(b =>
    {
        Bytes(b, 1, Key);
        Bytes(b, 2, End);
        Number(b, 3, Limit);
        Number(b, 4, Revision);
        Number(b, 5, Order);
        Number(b, 6, Target);
        Number(b, 8, KeysOnly ? 1 : 0);
        Number(b, 9, CountOnly ? 1 : 0);
        Number(b, 10, MinMod);
        Number(b, 11, MaxMod);
        Number(b, 12, MinCreate);
        Number(b, 13, MaxCreate);
    });
}

internal sealed record PutOp(byte[] Key, byte[] Value) : Op
{
    public long Lease { get; init; }

    public bool PrevKv { get; init; }

    public bool IgnoreValue { get; init; }

    public bool IgnoreLease { get; init; }

    public override byte[] Encode() => Build(b =>
    {
        Bytes(b, 1, Key);
        Bytes(b, 2, Value);
        Number(b, 3, Lease);
        Number(b, 4, PrevKv ? 1 : 0);
        Number(b, 5, IgnoreValue ? 1 : 0);
        Number(b, 6, IgnoreLease ? 1 : 0);
    });
}

internal sealed record DeleteOp(byte[] Key, byte[] End, bool PrevKv) : Op
{
    public override byte[] Encode() => Build(b =>
    {
        Bytes(b, 1, Key);
        Bytes(b, 2, End);
        Number(b, 3, PrevKv ? 1 : 0);
    });
}

internal sealed record CompareOp(int Result, int Target, byte[] Key, byte[] End, long Operand, byte[] Value) : Op
{
    public override byte[] Encode() => Build(b =>
    {
        Number(b, 1, Result);
        Number(b, 2, Target);
        Bytes(b, 3, Key);
        if (Target == 3)
        {
            Bytes(b, 7, Value, always: true);
        }
        else
        {
            Always(b, Target switch { 0 => 4, 1 => 5, 2 => 6, _ => 8 }, Operand);
        }

        Bytes(b, 64, End);
    });
}

internal sealed record TxnOp(CompareOp[] Compares, Op[] Success, Op[] Failure) : Op
{
    public override byte[] Encode() => Build(b =>
    {
        foreach (CompareOp compare in Compares)
        {
            Bytes(b, 1, compare.Encode(), always: true);
        }

        foreach (Op op in Success)
        {
            Bytes(b, 2, Wrap(op), always: true);
        }

        foreach (Op op in Failure)
        {
            Bytes(b, 3, Wrap(op), always: true);
        }
    });

    private static byte[] Wrap(Op op) => Build(b => Bytes(
        b,
        op switch { RangeOp => 1, PutOp => 2, DeleteOp => 3, TxnOp => 4, _ => throw new InvalidOperationException() },
        op.Encode(),
        always: true));
}

/// <summary>Answers as text: what differs is seen at once.</summary>
internal static class Answers
{
    public static string Range(ReadOnlySpan<byte> body)
    {
        var text = new StringBuilder("range ");
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            text.Append(reader.Field switch
            {
                1 => Header(reader.ReadBytes()),
                2 => Pair(reader.ReadBytes()),
                3 => reader.ReadBool() ? "more " : throw new InvalidOperationException(),
                4 => $"count {reader.ReadInt64()}",
                _ => throw new InvalidOperationException(),
            });
        }

        Assert.False(reader.Failed);
        return text.ToString();
    }

    public static string Put(ReadOnlySpan<byte> body)
    {
        var text = new StringBuilder("put ");
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            text.Append(reader.Field == 1 ? Header(reader.ReadBytes()) : "prev " + Pair(reader.ReadBytes()));
        }

        Assert.False(reader.Failed);
        return text.ToString();
    }

    public static string Delete(ReadOnlySpan<byte> body)
    {
        var text = new StringBuilder("delete ");
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            text.Append(reader.Field switch
            {
                1 => Header(reader.ReadBytes()),
                2 => $"deleted {reader.ReadInt64()} ",
                3 => Pair(reader.ReadBytes()),
                _ => throw new InvalidOperationException(),
            });
        }

        Assert.False(reader.Failed);
        return text.ToString();
    }

    public static string Txn(ReadOnlySpan<byte> body)
    {
        var text = new StringBuilder("txn ");
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    text.Append(Header(reader.ReadBytes()));
                    break;
                case 2:
                    text.Append(reader.ReadBool() ? "succeeded " : "");
                    break;
                default:
                    var op = new ProtoReader(reader.ReadBytes());
                    Assert.True(op.NextField());
                    text.Append('(').Append(op.Field switch
                    {
                        1 => Range(op.ReadBytes()),
                        2 => Put(op.ReadBytes()),
                        3 => Delete(op.ReadBytes()),
                        4 => Txn(op.ReadBytes()),
                        _ => throw new InvalidOperationException(),
                    }).Append(')');
                    Assert.True(op.AtEnd);
                    break;
            }
        }

        Assert.False(reader.Failed);
        return text.ToString();
    }

    public static string Pair(byte[] key, long created, long modified, long version, byte[] value, long lease) =>
        $"[{Convert.ToHexString(key)} c{created} m{modified} v{version} l{lease} {Convert.ToHexString(value)}] ";

    private static string Pair(ReadOnlySpan<byte> bytes)
    {
        Assert.True(KeyValue.TryParse(bytes, out KeyValue pair));
        return Pair(pair.Key.ToArray(), pair.CreateRevision, pair.ModRevision, pair.Version, pair.Value.ToArray(), pair.Lease);
    }

    private static string Header(ReadOnlySpan<byte> bytes)
    {
        long revision = 0;
        int others = 0;
        var reader = new ProtoReader(bytes);
        while (reader.NextField())
        {
            long value = reader.ReadInt64();
            if (reader.Field == 3)
            {
                revision = value;
            }
            else
            {
                Assert.Equal(reader.Field == 4 ? 3 : reader.Field, value); // cluster 1, member 2, term 3
                others++;
            }
        }

        return $"rev {revision}{(others == 3 ? " full" : others == 0 ? "" : " odd")} ";
    }
}
