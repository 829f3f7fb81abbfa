// HeaderWriter: the header blocks we send. Literals without indexing only: no table is kept for the client's side, so nothing
// has to be remembered between answers, at the price of some forty bytes each. Pure.
using System;
using System.Text;

namespace Cairn.Net.Http2;

/// <summary>Writes HPACK literals into a span.</summary>
internal ref struct HeaderWriter
{
    /// <summary>Longest value written; longer ones are cut. Keeps a block inside one frame.</summary>
    public const int ValueMax = 4096;

    /// <summary>Room that any block of ours fits into.</summary>
    public const int BlockMax = 2 * ValueMax;

    private readonly Span<byte> _target;

    public HeaderWriter(Span<byte> target)
    {
        _target = target;
        Length = 0;
    }

    /// <summary>Bytes written.</summary>
    public int Length { get; private set; }

    /// <summary>Says that our table is empty from now on; the client changed its size.</summary>
    public void TableSizeZero() => _target[Length++] = 0x20;

    public void Status(int status)
    {
        if (status == 200)
        {
            _target[Length++] = 0x88;
            return;
        }

        _target[Length++] = 0x08;
        _target[Length++] = 3;
        _target[Length++] = (byte)('0' + (status / 100));
        _target[Length++] = (byte)('0' + (status / 10 % 10));
        _target[Length++] = (byte)('0' + (status % 10));
    }

    /// <summary>content-type, entry 31 of the static table.</summary>
    public void ContentType(scoped ReadOnlySpan<byte> value)
    {
        _target[Length++] = 0x0f;
        _target[Length++] = 31 - 15;
        Text(value);
    }

    public void Header(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        _target[Length++] = 0;
        Text(name);
        Text(value);
    }

    public void Header(scoped ReadOnlySpan<byte> name, string value)
    {
        Span<byte> bytes = stackalloc byte[ValueMax];
        ReadOnlySpan<char> text = value.AsSpan(0, Math.Min(value.Length, ValueMax));
        Header(name, bytes[..Encoding.Latin1.GetBytes(text, bytes)]);
    }

    private void Text(scoped ReadOnlySpan<byte> value)
    {
        int length = Math.Min(value.Length, ValueMax);
        if (length < 127)
        {
            _target[Length++] = (byte)length;
        }
        else
        {
            _target[Length++] = 127;
            int rest = length - 127;
            while (rest >= 128)
            {
                _target[Length++] = (byte)(rest | 128);
                rest >>= 7;
            }

            _target[Length++] = (byte)rest;
        }

        value[..length].CopyTo(_target[Length..]);
        Length += length;
    }
}
