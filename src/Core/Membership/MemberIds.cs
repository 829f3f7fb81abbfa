// MemberIds: how member and cluster ids come about. They are in every etcd directory, so the formulas are fixed.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Cairn.Core.Membership;

/// <summary>Id formulas and the text form of ids.</summary>
public static class MemberIds
{
    /// <summary>Id of a member named at bootstrap.</summary>
    /// <param name="peerUrls">In any order; sorted here as bytes.</param>
    /// <param name="token">--initial-cluster-token.</param>
    public static ulong OfBootstrapMember(IReadOnlyList<string> peerUrls, string token) =>
        OfMember(peerUrls, token, unixSeconds: null);

    /// <summary>Id of a member added to a running cluster: the clock takes the token's part, so retries differ.</summary>
    public static ulong OfAddedMember(IReadOnlyList<string> peerUrls, long unixSeconds) =>
        OfMember(peerUrls, string.Empty, unixSeconds);

    /// <summary>Id of a cluster: SHA-1 over the ids of its first members, ascending.</summary>
    public static ulong OfCluster(IReadOnlyList<ulong> memberIds)
    {
        ulong[] sorted = new ulong[memberIds.Count];
        for (int i = 0; i < sorted.Length; i++)
        {
            sorted[i] = memberIds[i];
        }

        Array.Sort(sorted);
        byte[] bytes = new byte[8 * sorted.Length];
        for (int i = 0; i < sorted.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(8 * i), sorted[i]);
        }

        return FirstEight(bytes);
    }

    /// <summary>Lower-case hex without leading zeros, as in bucket keys, paths and logs.</summary>
    public static string ToText(ulong id) => id.ToString("x", CultureInfo.InvariantCulture);

    /// <summary>Reads <see cref="ToText"/> back: 1 to 16 hex digits of either case.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out ulong id) =>
        ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out id);

    /// <inheritdoc cref="TryParse(ReadOnlySpan{char}, out ulong)"/>
    public static bool TryParse(ReadOnlySpan<byte> text, out ulong id) =>
        ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out id);

    private static ulong OfMember(IReadOnlyList<string> peerUrls, string token, long? unixSeconds)
    {
        var sorted = new List<string>(peerUrls);
        sorted.Sort(StringComparer.Ordinal);
        var text = new StringBuilder();
        foreach (string url in sorted)
        {
            text.Append(url);
        }

        text.Append(token);
        if (unixSeconds is { } seconds)
        {
            text.Append(CultureInfo.InvariantCulture, $"{seconds}");
        }

        return FirstEight(Encoding.UTF8.GetBytes(text.ToString()));
    }

    private static ulong FirstEight(ReadOnlySpan<byte> bytes)
    {
        Span<byte> hash = stackalloc byte[SHA1.HashSizeInBytes];
#pragma warning disable CA5350 // The formula is etcd's; an id is a name here, not a proof.
        SHA1.HashData(bytes, hash);
#pragma warning restore CA5350
        return BinaryPrimitives.ReadUInt64BigEndian(hash);
    }
}
