// GoSyntax: values as Go's flag package reads and prints them. Operators have them in unit files and scripts, so
// every form Go takes is taken, and what it refuses is refused. Pure.
using System;
using System.Globalization;
using System.Text;

namespace Cairn.Native.Options;

/// <summary>Parsing and printing of flag values.</summary>
internal static class GoSyntax
{
    /// <summary>One of the twelve spellings of a boolean.</summary>
    public static bool TryParseBool(string text, out bool value)
    {
        value = text is "1" or "t" or "T" or "TRUE" or "true" or "True";
        return value || text is "0" or "f" or "F" or "FALSE" or "false" or "False";
    }

    /// <summary>
    /// An unsigned number of at most <paramref name="bits"/> bits: decimal, 0x, 0o or leading 0, 0b, with
    /// underscores between digits when prefixed.
    /// </summary>
    /// <param name="text">The number.</param>
    /// <param name="bits">Width, 1 to 64.</param>
    /// <param name="value">The result.</param>
    /// <param name="error">Go's words.</param>
    public static bool TryParseUInt(string text, int bits, out ulong value, out string error)
    {
        value = 0;
        error = "parse error";
        ReadOnlySpan<char> digits = text;
        uint radix = 10;
        bool prefixed = false;
        if (digits.Length > 1 && digits[0] == '0')
        {
            (radix, int skip) = char.ToLowerInvariant(digits[1]) switch
            {
                'x' => (16u, 2),
                'o' => (8u, 2),
                'b' => (2u, 2),
                _ => (8u, 1),
            };
            digits = digits[skip..];
            prefixed = true;
        }

        if (digits.IsEmpty)
        {
            return false;
        }

        bool underscore = !prefixed;
        UInt128 sum = 0;
        UInt128 max = (UInt128.One << bits) - 1;
        bool overflow = false;
        foreach (char c in digits)
        {
            if (c == '_')
            {
                if (underscore)
                {
                    return false;
                }

                underscore = true;
                continue;
            }

            underscore = !prefixed;
            int digit = char.IsAsciiHexDigit(c) ? Convert.ToInt32(c.ToString(), 16) : 99;
            if (digit >= radix)
            {
                return false;
            }

            sum = (sum * radix) + (uint)digit;
            overflow |= sum > max;
            sum = overflow ? max : sum;
        }

        if (prefixed && underscore)
        {
            return false;
        }

        if (overflow)
        {
            error = "value out of range";
            return false;
        }

        value = (ulong)sum;
        return true;
    }

    /// <summary>A signed 64-bit number in the same forms.</summary>
    public static bool TryParseInt(string text, out long value, out string error)
    {
        value = 0;
        error = "parse error";
        bool negative = text.StartsWith('-');
        string rest = negative || text.StartsWith('+') ? text[1..] : text;
        if (!TryParseUInt(rest, 64, out ulong magnitude, out error))
        {
            return false;
        }

        if (magnitude > (ulong)long.MaxValue + (negative ? 1UL : 0))
        {
            error = "value out of range";
            return false;
        }

        value = negative ? (long)(0 - magnitude) : (long)magnitude;
        return true;
    }

    /// <summary>A duration such as <c>300ms</c>, <c>1h30m</c>, <c>1.5s</c>, <c>0</c>; nanoseconds.</summary>
    public static bool TryParseDuration(string text, out long nanoseconds)
    {
        nanoseconds = 0;
        ReadOnlySpan<char> rest = text;
        bool negative = false;
        if (!rest.IsEmpty && rest[0] is '-' or '+')
        {
            negative = rest[0] == '-';
            rest = rest[1..];
        }

        if (rest is "0")
        {
            return true;
        }

        if (rest.IsEmpty)
        {
            return false;
        }

        decimal sum = 0;
        while (!rest.IsEmpty)
        {
            int end = 0;
            while (end < rest.Length && (char.IsAsciiDigit(rest[end]) || rest[end] == '.'))
            {
                end++;
            }

            if (end is 0 or > 20
                || !decimal.TryParse(rest[..end], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number))
            {
                return false;
            }

            rest = rest[end..];
            int unitEnd = 0;
            while (unitEnd < rest.Length && !char.IsAsciiDigit(rest[unitEnd]) && rest[unitEnd] != '.')
            {
                unitEnd++;
            }

            decimal unit = rest[..unitEnd] switch
            {
                "ns" => 1,
                "us" or "µs" or "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => 0,
            };
            if (unit == 0 || number > long.MaxValue / unit)
            {
                return false;
            }

            sum += number * unit;
            rest = rest[unitEnd..];
        }

        if (sum > long.MaxValue)
        {
            return false;
        }

        nanoseconds = (long)(negative ? -sum : sum);
        return true;
    }

    /// <summary>A duration as Go prints it: <c>1m0s</c>, <c>300ms</c>, <c>0s</c>.</summary>
    public static string FormatDuration(long nanoseconds)
    {
        if (nanoseconds == 0)
        {
            return "0s";
        }

        string sign = nanoseconds < 0 ? "-" : "";
        decimal left = Math.Abs((decimal)nanoseconds);
        if (left < 1_000_000_000)
        {
            (decimal unit, string name) = left < 1_000 ? (1m, "ns") : left < 1_000_000 ? (1_000m, "µs") : (1_000_000m, "ms");
            return sign + Plain(left / unit) + name;
        }

        decimal seconds = left / 1_000_000_000m;
        decimal hours = Math.Floor(seconds / 3600);
        decimal minutes = Math.Floor((seconds - (hours * 3600)) / 60);
        seconds -= (hours * 3600) + (minutes * 60);
        string text = Plain(seconds) + "s";
        if (hours > 0)
        {
            text = Plain(hours) + "h" + Plain(minutes) + "m" + text;
        }
        else if (minutes > 0)
        {
            text = Plain(minutes) + "m" + text;
        }

        return sign + text;
    }

    /// <summary>A string in Go's double-quoted form (%q).</summary>
    public static string Quote(string text)
    {
        var quoted = new StringBuilder(text.Length + 2).Append('"');
        foreach (char c in text)
        {
            _ = c switch
            {
                '"' => quoted.Append("\\\""),
                '\\' => quoted.Append("\\\\"),
                '\n' => quoted.Append("\\n"),
                '\r' => quoted.Append("\\r"),
                '\t' => quoted.Append("\\t"),
                < ' ' or '\x7f' => quoted.Append("\\x").Append(((int)c).ToString("x2", CultureInfo.InvariantCulture)),
                _ => quoted.Append(c),
            };
        }

        return quoted.Append('"').ToString();
    }

    private static string Plain(decimal number) => number.ToString("0.#########", CultureInfo.InvariantCulture);
}
