// ProtoBytes: protobuf by hand for the tests, independent of the project's own readers and writers.
using System;
using System.Collections.Generic;
using System.Text;

namespace Cairn.Net.Tests;

internal static class ProtoBytes
{
    public static byte[] Message(params byte[][] fields) => fields.AsSpan().ToArray() is { } all ? Join(all) : [];

    public static byte[] Text(int field, string value) => Bytes(field, Encoding.UTF8.GetBytes(value));

    public static byte[] Bytes(int field, byte[] value)
        => Join([Varint(((ulong)field << 3) | 2), Varint((ulong)value.Length), value]);

    public static byte[] Number(int field, long value) => Join([Varint((ulong)field << 3), Varint((ulong)value)]);

    /// <summary>The fields of a message in order: numbers as long, the rest as byte[].</summary>
    public static List<(int Field, object Value)> Read(ReadOnlySpan<byte> message)
    {
        var fields = new List<(int, object)>();
        int offset = 0;
        while (offset < message.Length)
        {
            ulong tag = ReadVarint(message, ref offset);
            if ((tag & 7) == 0)
            {
                fields.Add(((int)(tag >> 3), (long)ReadVarint(message, ref offset)));
            }
            else
            {
                int length = (int)ReadVarint(message, ref offset);
                fields.Add(((int)(tag >> 3), message.Slice(offset, length).ToArray()));
                offset += length;
            }
        }

        return fields;
    }

    /// <summary>The number in a field, 0 when absent.</summary>
    public static long NumberOf(byte[] message, int field)
        => Read(message).Find(f => f.Field == field).Value is long value ? value : 0;

    /// <summary>Every value of a bytes field.</summary>
    public static List<byte[]> AllOf(byte[] message, int field)
        => Read(message).FindAll(f => f.Field == field).ConvertAll(f => (byte[])f.Value);

    private static ulong ReadVarint(ReadOnlySpan<byte> message, ref int offset)
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte b = message[offset++];
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
            {
                return value;
            }
        }
    }

    private static byte[] Varint(ulong value)
    {
        var bytes = new List<byte>();
        while (value >= 0x80)
        {
            bytes.Add((byte)(value | 0x80));
            value >>= 7;
        }

        bytes.Add((byte)value);
        return [.. bytes];
    }

    private static byte[] Join(byte[][] parts)
    {
        var all = new List<byte>();
        foreach (byte[] part in parts)
        {
            all.AddRange(part);
        }

        return [.. all];
    }
}
