// GoJsonWriter: JSON with exactly the bytes of Go's encoding/json, which is what etcd's buckets and files hold.
//
// Why        The bytes are compared: by etcd's Hash, by members with each other, by people. System.Text.Json escapes
//            other characters and other ways.
// Source     https://pkg.go.dev/encoding/json (Marshal: HTML characters, U+2028 and U+2029 are escaped)
using System;
using System.Buffers;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Cairn.Core.Membership;

/// <summary>Appends pieces of JSON; structure is the caller's.</summary>
internal readonly ref struct GoJsonWriter(IBufferWriter<byte> output)
{
    private readonly IBufferWriter<byte> _output = output;

    /// <summary>Punctuation and names that need no escape.</summary>
    public void Raw(ReadOnlySpan<byte> json) => _output.Write(json);

    public void Number(ulong value)
    {
        Span<byte> digits = _output.GetSpan(20);
        value.TryFormat(digits, out int written, default, CultureInfo.InvariantCulture);
        _output.Advance(written);
    }

    public void Boolean(bool value) => Raw(value ? "true"u8 : "false"u8);

    /// <summary>A list; empty is null, as a Go slice that was never made.</summary>
    public void Strings(IReadOnlyList<string> values)
    {
        if (values.Count == 0)
        {
            Raw("null"u8);
            return;
        }

        for (int i = 0; i < values.Count; i++)
        {
            Raw(i == 0 ? "["u8 : ","u8);
            String(values[i]);
        }

        Raw("]"u8);
    }

    public void Numbers(ReadOnlySpan<ulong> values)
    {
        Raw("["u8);
        for (int i = 0; i < values.Length; i++)
        {
            if (i > 0)
            {
                Raw(","u8);
            }

            Number(values[i]);
        }

        Raw("]"u8);
    }

    /// <summary>A quoted string.</summary>
    public void String(string value) => String(Encoding.UTF8.GetBytes(value));

    /// <summary>A quoted string from UTF-8; bytes that are none become U+FFFD, written as an escape.</summary>
    public void String(ReadOnlySpan<byte> utf8)
    {
        Raw("\""u8);
        while (!utf8.IsEmpty)
        {
            byte first = utf8[0];
            if (first < 0x80)
            {
                Ascii(first);
                utf8 = utf8[1..];
                continue;
            }

            if (Rune.DecodeFromUtf8(utf8, out Rune rune, out int length) != OperationStatus.Done)
            {
                Raw("\\ufffd"u8);
                utf8 = utf8[1..];
                continue;
            }

            if (rune.Value is 0x2028 or 0x2029)
            {
                Raw(rune.Value == 0x2028 ? "\\u2028"u8 : "\\u2029"u8);
            }
            else
            {
                Raw(utf8[..length]);
            }

            utf8 = utf8[length..];
        }

        Raw("\""u8);
    }

    private void Ascii(byte value)
    {
        switch (value)
        {
            case (byte)'"':
                Raw("\\\""u8);
                break;
            case (byte)'\\':
                Raw("\\\\"u8);
                break;
            case (byte)'\b':
                Raw("\\b"u8);
                break;
            case (byte)'\f':
                Raw("\\f"u8);
                break;
            case (byte)'\n':
                Raw("\\n"u8);
                break;
            case (byte)'\r':
                Raw("\\r"u8);
                break;
            case (byte)'\t':
                Raw("\\t"u8);
                break;
            case < 0x20 or (byte)'<' or (byte)'>' or (byte)'&':
                Raw("\\u00"u8);
                Span<byte> digits = _output.GetSpan(2);
                digits[0] = Hex(value >> 4);
                digits[1] = Hex(value & 15);
                _output.Advance(2);
                break;
            default:
                _output.GetSpan(1)[0] = value;
                _output.Advance(1);
                break;
        }

        static byte Hex(int digit) => (byte)(digit < 10 ? '0' + digit : 'a' + digit - 10);
    }
}
