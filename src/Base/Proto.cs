// Proto: protobuf wire reading and writing over spans. Pure, allocation-free.
//
// Reading never throws on bad bytes: a reader turns Failed and every later call says "no more". Nothing is
// read outside the span and no length is believed before it is compared with what is left.
// Source: https://protobuf.dev/programming-guides/encoding
using System;
using System.Runtime.CompilerServices;

namespace Cairn.Base;

/// <summary>The low three bits of a tag.</summary>
public enum WireType
{
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

/// <summary>Forward reader over one message.</summary>
public ref struct ProtoReader
{
    private readonly ReadOnlySpan<byte> _data;
    private int _position;
    private bool _failed;

    public ProtoReader(ReadOnlySpan<byte> data)
    {
        _data = data;
        _position = 0;
        _failed = false;
        Field = 0;
        Wire = WireType.Varint;
    }

    /// <summary>Field number of the current tag.</summary>
    public int Field { get; private set; }

    /// <summary>Wire type of the current tag.</summary>
    public WireType Wire { get; private set; }

    /// <summary>True once the bytes proved malformed.</summary>
    public readonly bool Failed => _failed;

    /// <summary>Offset of the next unread byte.</summary>
    public readonly int Position => _position;

    public readonly bool AtEnd => _position == _data.Length;

    /// <summary>Moves to the next field; false at the end or on failure.</summary>
    public bool NextField()
    {
        if (_failed || _position == _data.Length)
        {
            return false;
        }

        ulong tag = ReadVarint();
        if (_failed || tag >> 3 == 0 || tag > uint.MaxValue || (tag & 7) > 5)
        {
            _failed = true;
            return false;
        }

        Field = (int)(tag >> 3);
        Wire = (WireType)(tag & 7);
        return true;
    }

    /// <summary>A varint of at most ten bytes; 0 after failure.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong ReadVarint()
    {
        if ((uint)_position < (uint)_data.Length && _data[_position] < 0x80)
        {
            return _data[_position++];
        }

        return ReadVarintSlow();
    }

    public long ReadInt64() => (long)ReadVarint();

    public bool ReadBool() => ReadVarint() != 0;

    /// <summary>An int32 or enum; the upper bits of the varint are dropped, as all protobuf runtimes do.</summary>
    public int ReadInt32() => (int)ReadVarint();

    /// <summary>A length-delimited value; valid as long as the span given to the constructor.</summary>
    public ReadOnlySpan<byte> ReadBytes()
    {
        ulong length = ReadVarint();
        if (_failed || length > (ulong)(_data.Length - _position))
        {
            _failed = true;
            return default;
        }

        ReadOnlySpan<byte> value = _data.Slice(_position, (int)length);
        _position += (int)length;
        return value;
    }

    public ulong ReadFixed64()
    {
        if (_failed || _data.Length - _position < 8)
        {
            _failed = true;
            return 0;
        }

        ulong value = System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(_data[_position..]);
        _position += 8;
        return value;
    }

    public uint ReadFixed32()
    {
        if (_failed || _data.Length - _position < 4)
        {
            _failed = true;
            return 0;
        }

        uint value = System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(_data[_position..]);
        _position += 4;
        return value;
    }

    /// <summary>Skips the value of the current field, groups included (nesting at most 100).</summary>
    public void Skip() => Skip(0);

    /// <summary>Marks the input as malformed (a known field with a wrong wire type, say).</summary>
    public void Fail() => _failed = true;

    private void Skip(int depth)
    {
        switch (Wire)
        {
            case WireType.Varint:
                ReadVarint();
                break;
            case WireType.Fixed64:
                ReadFixed64();
                break;
            case WireType.Bytes:
                ReadBytes();
                break;
            case WireType.Fixed32:
                ReadFixed32();
                break;
            case WireType.StartGroup:
                SkipGroup(depth);
                break;
            default:
                _failed = true;
                break;
        }
    }

    private void SkipGroup(int depth)
    {
        int group = Field;
        if (depth == 100)
        {
            _failed = true;
            return;
        }

        while (NextField())
        {
            if (Wire == WireType.EndGroup)
            {
                _failed |= Field != group;
                return;
            }

            Skip(depth + 1);
        }

        _failed = true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private ulong ReadVarintSlow()
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            if (_failed || _position >= _data.Length)
            {
                break;
            }

            byte b = _data[_position++];
            if (shift == 63 && b > 1)
            {
                break;
            }

            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
            {
                return value;
            }
        }

        _failed = true;
        return 0;
    }
}

/// <summary>Writer into a span that is known to be large enough (sizes are computed first).</summary>
public ref struct ProtoWriter
{
    private readonly Span<byte> _buffer;

    public ProtoWriter(Span<byte> buffer)
    {
        _buffer = buffer;
        Position = 0;
    }

    /// <summary>Bytes written so far.</summary>
    public int Position { get; private set; }

    public readonly ReadOnlySpan<byte> Written => _buffer[..Position];

    public void WriteVarint(ulong value)
    {
        while (value >= 0x80)
        {
            _buffer[Position++] = (byte)(value | 0x80);
            value >>= 7;
        }

        _buffer[Position++] = (byte)value;
    }

    public void WriteTag(int field, WireType wire) => WriteVarint(((ulong)field << 3) | (uint)wire);

    /// <summary>Tag and varint, also when zero (proto2 style).</summary>
    public void WriteVarintField(int field, ulong value)
    {
        WriteTag(field, WireType.Varint);
        WriteVarint(value);
    }

    /// <summary>Tag and varint unless zero (proto3 style).</summary>
    public void WriteVarintFieldIfSet(int field, ulong value)
    {
        if (value != 0)
        {
            WriteVarintField(field, value);
        }
    }

    /// <summary>Tag, length and bytes, also when empty.</summary>
    public void WriteBytesField(int field, scoped ReadOnlySpan<byte> value)
    {
        WriteTag(field, WireType.Bytes);
        WriteVarint((ulong)value.Length);
        WriteRaw(value);
    }

    /// <summary>Tag, length and bytes unless empty (proto3 style).</summary>
    public void WriteBytesFieldIfSet(int field, scoped ReadOnlySpan<byte> value)
    {
        if (!value.IsEmpty)
        {
            WriteBytesField(field, value);
        }
    }

    public void WriteRaw(scoped ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_buffer[Position..]);
        Position += bytes.Length;
    }
}

/// <summary>Encoded sizes.</summary>
public static class ProtoSize
{
    public static int Varint(ulong value) => (int)((uint)(63 - System.Numerics.BitOperations.LeadingZeroCount(value | 1)) / 7) + 1;

    public static int Tag(int field) => Varint((ulong)field << 3);

    public static int VarintField(int field, ulong value) => Tag(field) + Varint(value);

    public static int VarintFieldIfSet(int field, ulong value) => value == 0 ? 0 : VarintField(field, value);

    public static int BytesField(int field, int length) => Tag(field) + Varint((ulong)length) + length;

    public static int BytesFieldIfSet(int field, int length) => length == 0 ? 0 : BytesField(field, length);
}
