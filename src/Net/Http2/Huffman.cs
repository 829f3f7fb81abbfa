// Huffman: the string code of HPACK, decoding only (we send plain literals). Pure.
//
// Layout     RFC 7541 Appendix B is a canonical code: the lengths alone say everything. Codes of up to nine bits, which is
//            nearly all of real headers, come from one look-up; longer ones from a search over the lengths.
using System;

namespace Cairn.Net.Http2;

/// <summary>Decodes strings of RFC 7541 section 5.2.</summary>
internal static class Huffman
{
    private const int FastBits = 9;
    private const int LongestBits = 30;
    private const int EndOfString = 256;

    /// <summary>Length of the code of each symbol in bits, then that of the end of string.</summary>
    private static ReadOnlySpan<byte> Lengths =>
    [
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
        28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
        6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
        5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
        13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
        15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
        6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
        20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
        24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
        22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
        21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
        26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
        19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
        20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
        26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
        30,
    ];

    /// <summary>By the first nine bits: symbol &lt;&lt; 4 | length, 0 when the code is longer.</summary>
    private static readonly ushort[] s_fast = new ushort[1 << FastBits];

    /// <summary>Symbols by length, then value.</summary>
    private static readonly ushort[] s_symbols = new ushort[257];

    /// <summary>By length: one past its last code, moved to the top of 32 bits; where its symbols begin, less its first code.</summary>
    private static readonly ulong[] s_limit = new ulong[LongestBits + 1];
    private static readonly int[] s_offset = new int[LongestBits + 1];

    static Huffman()
    {
        uint code = 0;
        int at = 0;
        for (int length = 1; length <= LongestBits; length++)
        {
            code <<= 1;
            s_offset[length] = at - (int)code;
            for (int symbol = 0; symbol < Lengths.Length; symbol++)
            {
                if (Lengths[symbol] != length)
                {
                    continue;
                }

                s_symbols[at++] = (ushort)symbol;
                if (length <= FastBits)
                {
                    s_fast.AsSpan((int)code << (FastBits - length), 1 << (FastBits - length)).Fill((ushort)((symbol << 4) | length));
                }

                code++;
            }

            s_limit[length] = (ulong)code << (32 - length);
        }
    }

    /// <summary>Decodes a whole string.</summary>
    /// <param name="source">The encoded bytes.</param>
    /// <param name="target">Room for the result; 8/5 of the source is always enough.</param>
    /// <param name="written">Bytes of the result.</param>
    /// <returns>False for a code that may not occur, wrong padding, or no room.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> source, Span<byte> target, out int written)
    {
        written = 0;
        ulong bits = 0; // left-aligned in 64 bits
        int count = 0;
        int at = 0;
        while (true)
        {
            while (count <= 56 && at < source.Length)
            {
                bits |= (ulong)source[at++] << (56 - count);
                count += 8;
            }

            if (count == 0)
            {
                return true;
            }

            int fast = s_fast[bits >> (64 - FastBits)];
            int length = fast & 15;
            int symbol = fast >> 4;
            if (length == 0)
            {
                ulong top = bits >> 32;
                length = FastBits + 1;
                while (length < LongestBits && top >= s_limit[length])
                {
                    length++;
                }

                symbol = s_symbols[s_offset[length] + (int)(top >> (32 - length))];
            }

            if (length > count)
            {
                // What is left must be padding: less than a byte, all ones.
                return count < 8 && bits >> (64 - count) == (1ul << count) - 1;
            }

            if (symbol == EndOfString || written == target.Length)
            {
                return false;
            }

            target[written++] = (byte)symbol;
            bits <<= length;
            count -= length;
        }
    }
}
