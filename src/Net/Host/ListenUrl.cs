// ListenUrl: one address to listen on or to tell others, in etcd's URL form. Pure.
using System;
using System.Globalization;

namespace Cairn.Net.Host;

/// <summary>A parsed <c>http://host:port</c>, <c>https://…</c>, <c>unix://…</c> or <c>unixs://…</c>.</summary>
/// <param name="Scheme">Lower case: http, https, unix or unixs.</param>
/// <param name="Host">Name or address without brackets; for unix schemes the socket's path.</param>
/// <param name="Port">Port number; 0 for unix schemes.</param>
/// <param name="Text">The URL in normal form, as stored in the member list and printed in messages.</param>
public sealed record ListenUrl(string Scheme, string Host, int Port, string Text)
{
    /// <summary>Host and port as they stand in the URL.</summary>
    public string Authority => Text[(Text.IndexOf("://", StringComparison.Ordinal) + 3)..];

    public bool IsUnix => Scheme is "unix" or "unixs";

    public bool IsSecure => Scheme is "https" or "unixs";

    /// <summary>Parses and checks one URL by etcd's rules.</summary>
    /// <param name="text">The URL, surrounding blanks allowed.</param>
    /// <param name="url">The result.</param>
    /// <param name="error">etcd's words for what is wrong.</param>
    public static bool TryParse(string text, out ListenUrl url, out string error)
    {
        url = new ListenUrl("", "", 0, "");
        error = "";
        string trimmed = text.Trim();
        int colon = trimmed.IndexOf(':', StringComparison.Ordinal);
        bool hasScheme = colon > 0 && IsScheme(trimmed.AsSpan(0, colon));
        if (colon >= 0 && !hasScheme)
        {
            // Go's url.Parse: "127.0.0.1:80" has its first colon before any slash.
            error = colon == 0
                ? "parse \"" + trimmed + "\": missing protocol scheme"
                : "parse \"" + trimmed + "\": first path segment in URL cannot contain colon";
            return false;
        }

        string scheme = hasScheme ? trimmed[..colon].ToLowerInvariant() : "";
        if (scheme is not ("http" or "https" or "unix" or "unixs"))
        {
            error = "URL scheme must be http, https, unix, or unixs: " + trimmed;
            return false;
        }

        string rest = trimmed[(colon + 1)..];
        rest = rest.StartsWith("//", StringComparison.Ordinal) ? rest[2..] : "";
        if (scheme is "unix" or "unixs")
        {
            url = new ListenUrl(scheme, rest, 0, scheme + "://" + rest);
            return true;
        }

        int slash = rest.IndexOfAny(['/', '?', '#']);
        string authority = slash < 0 ? rest : rest[..slash];
        string path = slash < 0 || rest[slash] != '/' ? "" : rest[slash..];
        int query = path.IndexOfAny(['?', '#']);
        path = query < 0 ? path : path[..query];
        if (!TrySplit(authority, out string host, out int port))
        {
            error = "URL address does not have the form \"host:port\": " + trimmed;
            return false;
        }

        if (path.Length != 0)
        {
            error = "URL must not contain a path: " + trimmed;
            return false;
        }

        url = new ListenUrl(scheme, host, port, scheme + "://" + authority);
        return true;
    }

    private static bool IsScheme(ReadOnlySpan<char> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (!char.IsAsciiLetter(c) && (i == 0 || (!char.IsAsciiDigit(c) && c is not ('+' or '-' or '.'))))
            {
                return false;
            }
        }

        return true;
    }

    private static bool TrySplit(string authority, out string host, out int port)
    {
        host = "";
        port = 0;
        int at = authority.LastIndexOf('@');
        string address = at < 0 ? authority : authority[(at + 1)..];
        int colon = address.LastIndexOf(':');
        if (colon < 0 || (address.IndexOf(':', StringComparison.Ordinal) != colon && address[0] != '['))
        {
            return false;
        }

        host = address[..colon];
        if (host.StartsWith('['))
        {
            if (!host.EndsWith(']'))
            {
                return false;
            }

            host = host[1..^1];
        }

        return int.TryParse(address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port)
            && port <= 65535;
    }
}
