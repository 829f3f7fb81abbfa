// WatchMessages: what the bench says on watch and lease streams, and how it counts the answers: one walk over the fields of a
// message, nothing copied. Field numbers are etcd's.
using System;
using Cairn.Base;

namespace Cairn.Bench;

internal static class WatchMessages
{
    /// <summary>WatchRequest {create_request {key, start_revision}} ; a start of 0 is "from now on".</summary>
    public static byte[] Create(ReadOnlySpan<byte> key, ReadOnlySpan<byte> end = default, long start = 0)
    {
        ProtoWriter create = new(new byte[key.Length + end.Length + 32]);
        create.WriteBytesField(1, key);
        create.WriteBytesFieldIfSet(2, end);
        create.WriteVarintFieldIfSet(3, (ulong)start);
        ProtoWriter request = new(new byte[create.Position + 8]);
        request.WriteBytesField(1, create.Written);
        return request.Written.ToArray();
    }

    public static byte[] Grant(long id, long ttl)
    {
        ProtoWriter writer = new(new byte[32]);
        writer.WriteVarintField(1, (ulong)ttl);
        writer.WriteVarintField(2, (ulong)id);
        return writer.Written.ToArray();
    }

    public static byte[] LeaseId(long id)
    {
        ProtoWriter writer = new(new byte[16]);
        writer.WriteVarintField(1, (ulong)id);
        return writer.Written.ToArray();
    }

    /// <summary>A varint field of a message; 0 when it is not there.</summary>
    public static long Number(ReadOnlySpan<byte> message, int field)
    {
        Fields fields = new(message);
        while (fields.Next())
        {
            if (fields.Number == field && fields.IsVarint)
            {
                return (long)fields.Value;
            }
        }

        return 0;
    }

    /// <summary>A field with a length; empty when it is not there.</summary>
    public static ReadOnlySpan<byte> Bytes(ReadOnlySpan<byte> message, int field)
    {
        Fields fields = new(message);
        while (fields.Next())
        {
            if (fields.Number == field && !fields.IsVarint)
            {
                return fields.Bytes;
            }
        }

        return default;
    }
}

/// <summary>The fields of a message, one after the other.</summary>
internal ref struct Fields(ReadOnlySpan<byte> message)
{
    private ReadOnlySpan<byte> _rest = message;

    public int Number;
    public bool IsVarint;
    public ulong Value;
    public ReadOnlySpan<byte> Bytes;

    public bool Next()
    {
        if (_rest.IsEmpty)
        {
            return false;
        }

        ulong tag = Varint();
        Number = (int)(tag >> 3);
        IsVarint = (tag & 7) == 0;
        if (IsVarint)
        {
            Value = Varint();
            return true;
        }

        if ((tag & 7) != 2)
        {
            throw new InvalidOperationException("a wire type that these messages do not have");
        }

        int length = (int)Varint();
        Bytes = _rest[..length];
        _rest = _rest[length..];
        return true;
    }

    private ulong Varint()
    {
        ulong value = 0;
        int shift = 0;
        for (int i = 0; ; i++)
        {
            byte b = _rest[i];
            value |= (ulong)(b & 0x7f) << shift;
            shift += 7;
            if (b < 0x80)
            {
                _rest = _rest[(i + 1)..];
                return value;
            }
        }
    }
}
