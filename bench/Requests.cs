// Requests: the few request bodies the bench sends.
using System;
using System.Globalization;
using System.Text;
using Cairn.Base;

namespace Cairn.Bench;

internal static class Requests
{
    public static byte[] Range(ReadOnlySpan<byte> key)
    {
        ProtoWriter writer = new(new byte[key.Length + 8]);
        writer.WriteBytesField(1, key);
        return writer.Written.ToArray();
    }

    public static byte[] Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        ProtoWriter writer = new(new byte[key.Length + value.Length + 16]);
        writer.WriteBytesField(1, key);
        writer.WriteBytesField(2, value);
        return writer.Written.ToArray();
    }

    /// <summary>A transaction of puts of 32-byte keys and 256-byte values, numbered from <paramref name="first"/>.</summary>
    public static byte[] Fill(int first, int count)
    {
        byte[] value = new byte[256];
        ProtoWriter writer = new(new byte[count * 320]);
        for (int i = first; i < first + count; i++)
        {
            new Random(i).NextBytes(value);
            byte[] put = Put(Key(i), value);
            ProtoWriter op = new(new byte[put.Length + 8]);
            op.WriteBytesField(2, put);
            writer.WriteBytesField(2, op.Written);
        }

        return writer.Written.ToArray();
    }

    /// <summary>A name of 32 bytes.</summary>
    public static byte[] Key(int number) =>
        Encoding.ASCII.GetBytes("/registry/bench/" + number.ToString("d16", CultureInfo.InvariantCulture));

    /// <summary>The message as h2load sends it: one gRPC frame.</summary>
    public static byte[] Framed(byte[] message)
    {
        byte[] framed = new byte[message.Length + 5];
        System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(framed.AsSpan(1), message.Length);
        message.CopyTo(framed, 5);
        return framed;
    }
}
