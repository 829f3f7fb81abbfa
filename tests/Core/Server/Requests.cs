// Requests: request bodies and response fields, put together by hand for the tests of the server.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Xunit;

namespace Cairn.Core.Tests.Server;

internal static class Requests
{
    public static byte[] Put(string key, string value, long lease = 0) => Message(
        (1, Encoding.Latin1.GetBytes(key)), (2, Encoding.Latin1.GetBytes(value)), (3, (ulong)lease));

    public static byte[] Range(string key, long revision = 0, string rangeEnd = "") => Message(
        (1, Encoding.Latin1.GetBytes(key)), (2, Encoding.Latin1.GetBytes(rangeEnd)), (4, (ulong)revision));

    public static byte[] Delete(string key, string rangeEnd = "") => Message(
        (1, Encoding.Latin1.GetBytes(key)), (2, Encoding.Latin1.GetBytes(rangeEnd)));

    public static byte[] Compaction(long revision, bool physical = false) => Message(
        (1, (ulong)revision), (2, physical ? 1UL : 0UL));

    /// <summary>A message of varint fields 1, 2, 3: lease and alarm requests.</summary>
    public static byte[] Numbers(long first, long second = 0, long third = 0) => Message(
        (1, (ulong)first), (2, (ulong)second), (3, (ulong)third));

    /// <summary>A txn without compares: every operation is in success. Each is (RequestOp field, body).</summary>
    public static byte[] Txn(params (int Field, byte[] Body)[] operations)
    {
        var parts = new List<(int, object)>();
        foreach ((int field, byte[] body) in operations)
        {
            parts.Add((2, Message((field, body))));
        }

        return Message([.. parts]);
    }

    /// <summary>proto3: bytes and varints, empty and zero ones left out.</summary>
    public static byte[] Message(params (int Field, object Value)[] fields)
    {
        int size = 0;
        foreach ((int field, object value) in fields)
        {
            size += value is byte[] bytes
                ? ProtoSize.BytesFieldIfSet(field, bytes.Length)
                : ProtoSize.VarintFieldIfSet(field, (ulong)value);
        }

        byte[] message = new byte[size];
        var writer = new ProtoWriter(message);
        foreach ((int field, object value) in fields)
        {
            if (value is byte[] bytes)
            {
                writer.WriteBytesFieldIfSet(field, bytes);
            }
            else
            {
                writer.WriteVarintFieldIfSet(field, (ulong)value);
            }
        }

        return message;
    }

    /// <summary>The bytes of the first occurrence of a field; null when absent.</summary>
    public static byte[]? Field(ReadOnlySpan<byte> message, int field)
    {
        var reader = new ProtoReader(message);
        while (reader.NextField())
        {
            if (reader.Field == field && reader.Wire == WireType.Bytes)
            {
                return reader.ReadBytes().ToArray();
            }

            reader.Skip();
        }

        Assert.False(reader.Failed);
        return null;
    }

    public static ulong Varint(ReadOnlySpan<byte> message, int field)
    {
        var reader = new ProtoReader(message);
        while (reader.NextField())
        {
            if (reader.Field == field && reader.Wire == WireType.Varint)
            {
                return reader.ReadVarint();
            }

            reader.Skip();
        }

        Assert.False(reader.Failed);
        return 0;
    }

    /// <summary>Revision in the header of a response body.</summary>
    public static long HeaderRevision(ReadOnlySpan<byte> response) => (long)Varint(Field(response, 1), 3);

    /// <summary>Value of the first pair of a RangeResponse {2 kvs {5 value}}; null without pairs.</summary>
    public static string? FirstValue(ReadOnlySpan<byte> response)
    {
        byte[]? pair = Field(response, 2);
        return pair is null ? null : Encoding.Latin1.GetString(Field(pair, 5) ?? []);
    }
}
