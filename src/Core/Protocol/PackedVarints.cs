// PackedVarints: the inside of a packed repeated field. Pure.
using System;

namespace Cairn.Core.Protocol;

/// <summary>Reads varints until the span ends.</summary>
internal ref struct PackedVarints
{
    private readonly ReadOnlySpan<byte> _data;
    private int _position;

    public PackedVarints(ReadOnlySpan<byte> data)
    {
        _data = data;
        _position = 0;
        Failed = false;
    }

    /// <summary>True once a varint did not end within the span or within ten bytes.</summary>
    public bool Failed { get; private set; }

    /// <summary>The next number; false at the end or on failure.</summary>
    public bool TryRead(out ulong value)
    {
        value = 0;
        if (Failed || _position == _data.Length)
        {
            return false;
        }

        for (int shift = 0; shift < 64 && _position < _data.Length; shift += 7)
        {
            byte b = _data[_position++];
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
            {
                return true;
            }
        }

        Failed = true;
        return false;
    }
}
