// HttpCall: one plain HTTP request as a page sees it. Nothing here names the HTTP engine. Pages are small and cold.
using System;
using System.Collections.Generic;

namespace Cairn.Net.Http;

/// <summary>A request without a body worth reading, and its whole answer.</summary>
public sealed class HttpCall
{
    private readonly List<KeyValuePair<string, string>> _headers = [];

    public HttpCall(string method, string path, string query, string host, string acceptEncoding, string origin)
    {
        Method = method;
        Path = path;
        Query = query;
        Host = host;
        AcceptEncoding = acceptEncoding;
        Origin = origin;
    }

    public string Method { get; }

    /// <summary>The path as the client sent it, still escaped, without the query.</summary>
    public string Path { get; }

    /// <summary>The query without its question mark.</summary>
    public string Query { get; }

    /// <summary>The Host header, empty when absent.</summary>
    public string Host { get; }

    public string AcceptEncoding { get; }

    /// <summary>The Origin header, empty when absent.</summary>
    public string Origin { get; }

    /// <summary>The answer's status.</summary>
    public int Status { get; private set; } = 200;

    /// <summary>The answer's body.</summary>
    public ReadOnlyMemory<byte> Body { get; private set; }

    /// <summary>The answer's further headers.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Headers => _headers;

    public bool IsGet => Method == "GET";

    /// <summary>Adds a header to the answer.</summary>
    public void SetHeader(string name, string value) => _headers.Add(new KeyValuePair<string, string>(name, value));

    /// <summary>Sets status and body; an empty <paramref name="contentType"/> sends none.</summary>
    public void Reply(int status, string contentType, ReadOnlyMemory<byte> body)
    {
        Status = status;
        Body = body;
        if (contentType.Length != 0)
        {
            SetHeader("Content-Type", contentType);
        }
    }

    /// <summary>Sets status and a text body.</summary>
    public void Reply(int status, string contentType, string body)
        => Reply(status, contentType, System.Text.Encoding.UTF8.GetBytes(body));

    /// <summary>An error page in the form Go's server gives: plain text that browsers must not sniff.</summary>
    public void ReplyError(int status, string body)
    {
        Reply(status, "text/plain; charset=utf-8", body);
        SetHeader("X-Content-Type-Options", "nosniff");
    }

    /// <summary>The page for an unknown path.</summary>
    public void NotFound() => ReplyError(404, "404 page not found\n");

    /// <summary>All values of a query parameter, unescaped, in order.</summary>
    public List<string> QueryValues(string name)
    {
        var values = new List<string>();
        foreach (Range range in Query.AsSpan().Split('&'))
        {
            ReadOnlySpan<char> part = Query.AsSpan()[range];
            int equals = part.IndexOf('=');
            ReadOnlySpan<char> key = equals < 0 ? part : part[..equals];
            if (Unescape(key) == name)
            {
                values.Add(equals < 0 ? "" : Unescape(part[(equals + 1)..]));
            }
        }

        return values;
    }

    /// <summary>True when the parameter is named in the query, with or without a value.</summary>
    public bool HasQuery(string name) => QueryValues(name).Count != 0;

    private static string Unescape(ReadOnlySpan<char> text) => Uri.UnescapeDataString(text.ToString().Replace('+', ' '));
}
