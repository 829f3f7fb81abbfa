// RpcText: the textual bits of gRPC over HTTP/2: grpc-timeout and the percent encoding of grpc-message. Pure.
using System;
using System.Text;

namespace Cairn.Net.Rpc;

/// <summary>Header value forms.</summary>
internal static class RpcText
{
    /// <summary>A timeout this long or longer is treated as none: 100 years in nanoseconds.</summary>
    private const long NeverNs = 100L * 365 * 24 * 3600 * 1_000_000_000;

    /// <summary>Reads <c>grpc-timeout</c>: one to eight digits and a unit of H, M, S, m, u or n.</summary>
    /// <param name="text">The header value.</param>
    /// <param name="timeoutNs">The duration in nanoseconds, at most a hundred years.</param>
    /// <returns>False when malformed.</returns>
    public static bool TryParseTimeout(ReadOnlySpan<char> text, out long timeoutNs)
    {
        timeoutNs = 0;
        if (text.Length is < 2 or > 9)
        {
            return false;
        }

        long unit = text[^1] switch
        {
            'H' => 3600L * 1_000_000_000,
            'M' => 60L * 1_000_000_000,
            'S' => 1_000_000_000,
            'm' => 1_000_000,
            'u' => 1_000,
            'n' => 1,
            _ => 0,
        };
        if (unit == 0)
        {
            return false;
        }

        long value = 0;
        foreach (char c in text[..^1])
        {
            if (!char.IsAsciiDigit(c))
            {
                return false;
            }

            value = (value * 10) + (c - '0');
        }

        timeoutNs = value > NeverNs / unit ? NeverNs : value * unit;
        return true;
    }

    /// <summary>
    /// Encodes a status message for a header: UTF-8, with everything outside space..tilde, and the percent sign,
    /// as %XX. Returns the same string when nothing needs it.
    /// </summary>
    public static string EncodeMessage(string message)
    {
        int plain = 0;
        foreach (char c in message)
        {
            if (c is >= ' ' and <= '~' and not '%')
            {
                plain++;
            }
        }

        if (plain == message.Length)
        {
            return message;
        }

        const string Hex = "0123456789ABCDEF";
        var text = new StringBuilder(message.Length + 16);
        foreach (byte b in Encoding.UTF8.GetBytes(message))
        {
            if (b is >= (byte)' ' and <= (byte)'~' and not (byte)'%')
            {
                text.Append((char)b);
            }
            else
            {
                text.Append('%').Append(Hex[b >> 4]).Append(Hex[b & 15]);
            }
        }

        return text.ToString();
    }

    /// <summary>True for <c>application/grpc</c> with an optional <c>+</c> or <c>;</c> part, in any case.</summary>
    public static bool IsGrpcContentType(string? contentType)
    {
        const string Base = "application/grpc";
        return contentType is not null
            && contentType.StartsWith(Base, StringComparison.OrdinalIgnoreCase)
            && (contentType.Length == Base.Length || contentType[Base.Length] is '+' or ';');
    }
}
