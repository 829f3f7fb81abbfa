// ProtoText: a growing protobuf message for cold answers. Allocates; not thread-safe.
using System;
using System.Buffers;
using Cairn.Base;

namespace Cairn.Net.Services;

/// <summary>Collects fields in order.</summary>
internal sealed class ProtoText
{
    private readonly ArrayBufferWriter<byte> _bytes = new(128);

    /// <summary>The message so far.</summary>
    public ReadOnlySpan<byte> Written => _bytes.WrittenSpan;

    /// <summary>Tag and varint unless zero.</summary>
    public void VarintIfSet(int field, ulong value)
    {
        if (value != 0)
        {
            var writer = new ProtoWriter(_bytes.GetSpan(ProtoSize.VarintField(field, value)));
            writer.WriteVarintField(field, value);
            _bytes.Advance(writer.Position);
        }
    }

    /// <summary>Tag, length and bytes, also when empty.</summary>
    public void Bytes(int field, ReadOnlySpan<byte> value)
    {
        var writer = new ProtoWriter(_bytes.GetSpan(ProtoSize.BytesField(field, value.Length)));
        writer.WriteBytesField(field, value);
        _bytes.Advance(writer.Position);
    }

    /// <summary>Tag, length and bytes unless empty.</summary>
    public void BytesIfSet(int field, ReadOnlySpan<byte> value)
    {
        if (!value.IsEmpty)
        {
            Bytes(field, value);
        }
    }
}
