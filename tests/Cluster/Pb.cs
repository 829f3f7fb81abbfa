// Pb: a growing protobuf message for tests. Deliberately apart from Cairn's own codecs, which it is used to test: it can
// write what they never would (wrong wire types, repeated singular fields, unknown fields).
using System.Collections.Generic;
using System.Text;

namespace Cairn.Cluster;

/// <summary>A message under construction; every call appends one field and returns the message.</summary>
internal sealed class Pb
{
    private readonly List<byte> _bytes = [];

    public byte[] Bytes => [.. _bytes];

    public int Length => _bytes.Count;

    /// <summary>A varint field; zero is left out, as proto3 writers do.</summary>
    public Pb Number(int field, long value) => value == 0 ? this : ExplicitNumber(field, value);

    /// <summary>A varint field, also when zero.</summary>
    public Pb ExplicitNumber(int field, long value)
    {
        Varint(((ulong)field << 3) | 0);
        Varint((ulong)value);
        return this;
    }

    public Pb Flag(int field, bool value) => Number(field, value ? 1 : 0);

    /// <summary>A bytes field; empty is left out.</summary>
    public Pb Data(int field, byte[] value) => value.Length == 0 ? this : ExplicitData(field, value);

    public Pb Text(int field, string value) => Data(field, Encoding.UTF8.GetBytes(value));

    public Pb ExplicitData(int field, byte[] value)
    {
        Varint(((ulong)field << 3) | 2);
        Varint((ulong)value.Length);
        _bytes.AddRange(value);
        return this;
    }

    /// <summary>An embedded message, also when empty.</summary>
    public Pb Message(int field, Pb value) => ExplicitData(field, value.Bytes);

    /// <summary>Bytes as they are.</summary>
    public Pb Raw(params byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    private void Varint(ulong value)
    {
        while (value >= 0x80)
        {
            _bytes.Add((byte)(value | 0x80));
            value >>= 7;
        }

        _bytes.Add((byte)value);
    }
}
