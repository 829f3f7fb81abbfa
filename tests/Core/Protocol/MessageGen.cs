// MessageGen: draws encoded messages, mostly legal, some broken in every way an encoder can be broken.
using System;
using System.Collections.Generic;
using CsCheck;

namespace Cairn.Core.Tests.Protocol;

internal static class MessageGen
{
    private static readonly Gen<byte[]> Key = Gen.Byte[0, 3].Array[0, 3];

    private static readonly Gen<ulong> Number = Gen.OneOf(
        Gen.ULong[0, 3], Gen.ULong, Gen.Const(ulong.MaxValue), Gen.Const(1UL << 31), Gen.ULong[0, 300]);

    /// <summary>Bytes of a message of the schema; about one in three is odd or malformed.</summary>
    public static Gen<byte[]> Of(SlowSchema schema, int depth = 3)
    {
        Gen<byte[]> plain = Fields(schema, depth, false);
        Gen<byte[]> odd = Fields(schema, depth, true);
        return Gen.Frequency(
            (6, plain),
            (5, odd),
            (1, Gen.Select(odd, Gen.Int[0, 200], (b, n) => b[..Math.Min(n, b.Length)])),
            (1, Gen.Select(odd, Gen.Int[0, 200], Gen.Byte, Flip)),
            (1, Gen.Byte.Array[0, 12]));
    }

    public static void Varint(List<byte> to, ulong value)
    {
        while (value >= 0x80)
        {
            to.Add((byte)(value | 0x80));
            value >>= 7;
        }

        to.Add((byte)value);
    }

    private static byte[] Flip(byte[] bytes, int at, byte with)
    {
        if (bytes.Length > 0)
        {
            bytes[at % bytes.Length] = with;
        }

        return bytes;
    }

    private static Gen<byte[]> Fields(SlowSchema schema, int depth, bool odd)
    {
        var choices = new List<(int, Gen<byte[]>)>();
        foreach (SlowField field in schema.Fields)
        {
            if (field.Kind == FieldKind.Message)
            {
                if (depth > 0)
                {
                    choices.Add((3, Fields(field.Message!, depth - 1, odd).Select(body => Delimited(field.Number, body))));
                }
            }
            else if (field.Kind == FieldKind.Bytes)
            {
                choices.Add((4, Key.Select(body => Delimited(field.Number, body))));
            }
            else
            {
                choices.Add((2, Number.Select(value => Tagged(field.Number, 0, value))));
            }
        }

        if (choices.Count == 0)
        {
            return Gen.Const(Array.Empty<byte>());
        }

        if (odd)
        {
            Gen<int> field = Gen.OneOf(Gen.Int[1, 16], Gen.Const(64), Gen.Const(100_000), Gen.Const(1 << 28));
            choices.Add((1, Gen.Select(field, Gen.Int[0, 7], Number, (f, w, v) => Tagged(f, w, v))));
            choices.Add((1, Gen.Select(field, Gen.Int[0, 1], Group)));
            choices.Add((1, Gen.Select(Gen.Int[1, 6], Gen.Byte[0, 0x7f], LongVarint)));
            choices.Add((1, Gen.Select(Gen.Int[1, 6], Number, PaddedTag)));
            choices.Add((1, Gen.Select(Gen.Int[1, 6], Number, HighTag)));
        }

        return Gen.Frequency([.. choices]).Array[0, odd ? 6 : 8].Select(parts =>
        {
            var all = new List<byte>();
            foreach (byte[] part in parts)
            {
                all.AddRange(part);
            }

            return all.ToArray();
        });
    }

    private static byte[] Delimited(int field, byte[] body)
    {
        var bytes = new List<byte>();
        Varint(bytes, ((ulong)field << 3) | 2);
        Varint(bytes, (ulong)body.Length);
        bytes.AddRange(body);
        return [.. bytes];
    }

    private static byte[] Tagged(int field, int wire, ulong value)
    {
        var bytes = new List<byte>();
        Varint(bytes, ((ulong)field << 3) | (uint)wire);
        switch (wire)
        {
            case 1:
                bytes.AddRange(BitConverter.GetBytes(value));
                break;
            case 5:
                bytes.AddRange(BitConverter.GetBytes((uint)value));
                break;
            case 2:
                Varint(bytes, value % 4);
                for (ulong i = 0; i < value % 4; i++)
                {
                    bytes.Add((byte)i);
                }

                break;
            default:
                Varint(bytes, value);
                break;
        }

        return [.. bytes];
    }

    // A group with a varint in it; closed by its own number or by another.
    private static byte[] Group(int field, int wrong)
    {
        var bytes = new List<byte>();
        Varint(bytes, ((ulong)field << 3) | 3);
        bytes.AddRange([0x08, 0x05]);
        Varint(bytes, ((ulong)(field + wrong) << 3) | 4);
        return [.. bytes];
    }

    // Ten bytes, of which the last may hold bits that do not fit.
    private static byte[] LongVarint(int field, byte last) =>
        [(byte)(field << 3), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, last];

    private static byte[] PaddedTag(int field, ulong value)
    {
        var bytes = new List<byte> { (byte)((field << 3) | 0x80), 0x80, 0x00 };
        Varint(bytes, value);
        return [.. bytes];
    }

    // A tag above 32 bits whose low part names a field.
    private static byte[] HighTag(int field, ulong value)
    {
        var bytes = new List<byte>();
        Varint(bytes, (1UL << 35) | ((ulong)field << 3));
        Varint(bytes, value);
        return [.. bytes];
    }
}
