// HeaderName: the request headers that mean something to us, and HPACK's static table. Pure.
using System;

namespace Cairn.Net.Http2;

/// <summary>A header by meaning.</summary>
internal enum HeaderName : byte
{
    /// <summary>Kept by nobody.</summary>
    Other,
    Authority,
    Method,
    Path,
    Scheme,

    /// <summary>A pseudo header that no request may carry.</summary>
    BadPseudo,

    /// <summary>A header of HTTP/1.1 connections, forbidden in HTTP/2.</summary>
    Forbidden,
    Te,
    ContentType,
    ContentLength,
    GrpcTimeout,
    GrpcEncoding,
    Token,
    Authorization,
    HasLeader,
    ClientApiVersion,
}

/// <summary>Names and the static table of RFC 7541 Appendix A.</summary>
internal static class HeaderNames
{
    /// <summary>Entries of the static table.</summary>
    public const int StaticCount = 61;

    private static readonly (string Name, string Value)[] s_texts =
    [
        (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
        (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
        (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
        ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
        ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
        ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
        ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
        ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
        ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
        ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
        ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
        ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
        ("www-authenticate", ""),
    ];

    private static readonly byte[][] s_names = Encode(static t => t.Name);
    private static readonly byte[][] s_values = Encode(static t => t.Value);
    private static readonly HeaderName[] s_known = Known();

    /// <summary>Name of an entry, 1 to 61.</summary>
    public static ReadOnlySpan<byte> StaticName(int index) => s_names[index - 1];

    /// <summary>Value of an entry, 1 to 61.</summary>
    public static ReadOnlySpan<byte> StaticValue(int index) => s_values[index - 1];

    /// <summary>Meaning of an entry, 1 to 61.</summary>
    public static HeaderName StaticKnown(int index) => s_known[index - 1];

    /// <summary>The meaning of a name.</summary>
    public static HeaderName Find(ReadOnlySpan<byte> name)
    {
        if (!name.IsEmpty && name[0] == (byte)':')
        {
            return name.SequenceEqual(":path"u8) ? HeaderName.Path
                : name.SequenceEqual(":method"u8) ? HeaderName.Method
                : name.SequenceEqual(":scheme"u8) ? HeaderName.Scheme
                : name.SequenceEqual(":authority"u8) ? HeaderName.Authority
                : HeaderName.BadPseudo;
        }

        return name.Length switch
        {
            2 when name.SequenceEqual("te"u8) => HeaderName.Te,
            5 when name.SequenceEqual("token"u8) => HeaderName.Token,
            7 when name.SequenceEqual("upgrade"u8) => HeaderName.Forbidden,
            9 when name.SequenceEqual("hasleader"u8) => HeaderName.HasLeader,
            10 when name.SequenceEqual("connection"u8) || name.SequenceEqual("keep-alive"u8) => HeaderName.Forbidden,
            12 when name.SequenceEqual("content-type"u8) => HeaderName.ContentType,
            12 when name.SequenceEqual("grpc-timeout"u8) => HeaderName.GrpcTimeout,
            13 when name.SequenceEqual("grpc-encoding"u8) => HeaderName.GrpcEncoding,
            13 when name.SequenceEqual("authorization"u8) => HeaderName.Authorization,
            14 when name.SequenceEqual("content-length"u8) => HeaderName.ContentLength,
            16 when name.SequenceEqual("proxy-connection"u8) => HeaderName.Forbidden,
            17 when name.SequenceEqual("transfer-encoding"u8) => HeaderName.Forbidden,
            18 when name.SequenceEqual("client-api-version"u8) => HeaderName.ClientApiVersion,
            _ => HeaderName.Other,
        };
    }

    private static byte[][] Encode(Func<(string Name, string Value), string> part)
        => Array.ConvertAll(s_texts, t => System.Text.Encoding.ASCII.GetBytes(part(t)));

    private static HeaderName[] Known() => Array.ConvertAll(s_names, static n => Find(n));
}
