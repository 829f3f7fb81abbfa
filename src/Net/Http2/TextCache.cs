// TextCache: header values that clients repeat with every call (version, token), as strings made once.
//
// Thread     one loop. Bounded: a value takes the place of another one, so a client that makes up values only costs itself.
using System;
using System.Text;

namespace Cairn.Net.Http2;

/// <summary>A few recent strings.</summary>
internal sealed class TextCache
{
    private const int Slots = 64;

    private readonly byte[][] _bytes = new byte[Slots][];
    private readonly string[] _texts = new string[Slots];

    /// <summary>The bytes as text, one character a byte.</summary>
    public string Get(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return "";
        }

        int slot = ((bytes.Length * 31) + (bytes[^1] * 7) + bytes[bytes.Length / 2]) % Slots;
        if (_bytes[slot] is { } known && bytes.SequenceEqual(known))
        {
            return _texts[slot];
        }

        _bytes[slot] = bytes.ToArray();
        return _texts[slot] = Encoding.Latin1.GetString(bytes);
    }
}
