// MessageReader: protobuf reading with exactly the tolerance of the code etcd 3.6 is built with. Pure.
//
// Why        A client, and a log written by etcd, must be understood as etcd understands it: what it refuses we
//            refuse with the same code, what it lets pass we let pass. Its generated decoders differ from the
//            book in corners: bits of a varint above the 64th are dropped, a tag's field number is cut to 32
//            bits, groups are skipped by counting only. Base.ProtoReader follows the book and serves our files.
// Failure    Never throws on bad bytes: the reader turns Failed and says "no more". Nothing is read outside the
//            span; no length is believed before it is compared with what is left.
using System;
using System.Runtime.CompilerServices;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>Forward reader over one message. Spans it returns live as long as the span it was given.</summary>
public ref struct MessageReader
{
    private readonly ReadOnlySpan<byte> _data;
    private int _position;

    public MessageReader(ReadOnlySpan<byte> data)
    {
        _data = data;
        _position = 0;
        Failed = false;
        Field = 0;
        Wire = WireType.Varint;
        IsOddlyEncoded = false;
    }

    /// <summary>Field number of the current tag, at least 1.</summary>
    public int Field { get; private set; }

    /// <summary>Wire type of the current tag; 6 and 7 are possible and are no type.</summary>
    public WireType Wire { get; private set; }

    /// <summary>True once the bytes proved malformed.</summary>
    public bool Failed { get; private set; }

    /// <summary>
    /// True once something was read that etcd 3.6 understands but a decoder by the book may not: a varint with
    /// bits above the 64th, a tag that is longer than needed.
    /// </summary>
    public bool IsOddlyEncoded { get; private set; }

    /// <summary>Offset of the next unread byte.</summary>
    public readonly int Position => _position;

    /// <summary>Moves to the next field; false at the end or on failure.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool NextField()
    {
        if (Failed || (uint)_position >= (uint)_data.Length)
        {
            return false;
        }

        byte first = _data[_position];
        if (first is >= 8 and < 0x80 && (first & 7) != (int)WireType.EndGroup)
        {
            _position++;
            Field = first >> 3;
            Wire = (WireType)(first & 7);
            return true;
        }

        return NextFieldSlow();
    }

    /// <summary>True if the current field has this wire type; else the message is malformed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Expect(WireType wire)
    {
        if (Wire == wire)
        {
            return true;
        }

        Failed = true;
        return false;
    }

    /// <summary>The varint of a known field; 0 (and failure) if the wire type is another.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ulong ReadUInt64() => Expect(WireType.Varint) ? ReadVarint() : 0;

    /// <inheritdoc cref="ReadUInt64"/>
    public long ReadInt64() => (long)ReadUInt64();

    /// <summary>An enum or int32: the upper bits of the varint are dropped.</summary>
    public int ReadInt32() => (int)ReadUInt64();

    /// <inheritdoc cref="ReadUInt64"/>
    public bool ReadBool() => ReadUInt64() != 0;

    /// <summary>The bytes of a known length-delimited field; empty (and failure) if the wire type is another.</summary>
    public ReadOnlySpan<byte> ReadBytes()
    {
        if (!Expect(WireType.Bytes))
        {
            return default;
        }

        ulong length = ReadVarint();
        if (Failed || length > (ulong)(_data.Length - _position))
        {
            Failed = true;
            return default;
        }

        ReadOnlySpan<byte> value = _data.Slice(_position, (int)length);
        _position += (int)length;
        return value;
    }

    /// <summary>Skips the value of an unknown field. Groups are skipped by counting starts and ends.</summary>
    public void Skip()
    {
        int depth = 0;
        WireType wire = Wire;
        while (true)
        {
            switch (wire)
            {
                case WireType.Varint:
                    _ = ReadVarint();
                    break;
                case WireType.Fixed64:
                    Advance(8);
                    break;
                case WireType.Bytes:
                    ulong length = ReadVarint();
                    if (!Failed && length <= (ulong)(_data.Length - _position))
                    {
                        _position += (int)length;
                    }
                    else
                    {
                        Failed = true;
                    }

                    break;
                case WireType.StartGroup:
                    depth++;
                    break;
                case WireType.EndGroup:
                    depth--;
                    break;
                case WireType.Fixed32:
                    Advance(4);
                    break;
                default:
                    Failed = true;
                    break;
            }

            if (Failed || depth == 0)
            {
                return;
            }

            // Inside a group even field number 0 passes: only the wire type is looked at.
            wire = (WireType)(ReadVarint() & 7);
            if (Failed)
            {
                return;
            }
        }
    }

    /// <summary>Marks the input as malformed.</summary>
    public void Fail() => Failed = true;

    private void Advance(int count)
    {
        if (_data.Length - _position < count)
        {
            Failed = true;
            return;
        }

        _position += count;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool NextFieldSlow()
    {
        int start = _position;
        ulong tag = ReadVarint();
        int field = (int)(tag >> 3); // cut to 32 bits, as etcd's decoders do
        if (Failed || field <= 0 || (tag & 7) == (int)WireType.EndGroup)
        {
            Failed = true;
            return false;
        }

        IsOddlyEncoded |= _position - start != ProtoSize.Varint(tag) || tag > uint.MaxValue;
        Field = field;
        Wire = (WireType)(tag & 7);
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong ReadVarint()
    {
        if ((uint)_position < (uint)_data.Length && _data[_position] < 0x80)
        {
            return _data[_position++];
        }

        return ReadVarintSlow();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private ulong ReadVarintSlow()
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            if (Failed || _position >= _data.Length)
            {
                break;
            }

            byte b = _data[_position++];
            value |= (ulong)(b & 0x7f) << shift;
            if (b < 0x80)
            {
                IsOddlyEncoded |= shift == 63 && b > 1;
                return value;
            }
        }

        Failed = true;
        return 0;
    }
}
