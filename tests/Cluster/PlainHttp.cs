// PlainHttp: one HTTP/1.1 exchange over a socket of its own. HttpClient normalizes paths and adds headers; this does not.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Cluster;

internal static class PlainHttp
{
    internal sealed record Reply(int Status, string Reason, List<KeyValuePair<string, string>> Headers, byte[] Body);

    /// <summary>Sends one request with a Content-Length and reads the answer to its end.</summary>
    public static async Task<Reply> Send(
        int port, string method, string path, IEnumerable<KeyValuePair<string, string>> headers, byte[] body)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(20));
        using TcpClient client = new();
        await client.ConnectAsync("127.0.0.1", port, limit.Token);
        NetworkStream stream = client.GetStream();
        StringBuilder head = new();
        head.Append(CultureInfo.InvariantCulture, $"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        foreach ((string name, string value) in headers)
        {
            head.Append(CultureInfo.InvariantCulture, $"{name}: {value}\r\n");
        }

        head.Append(CultureInfo.InvariantCulture, $"Content-Length: {body.Length}\r\nConnection: close\r\n\r\n");
        await stream.WriteAsync(Encoding.ASCII.GetBytes(head.ToString()), limit.Token);
        await stream.WriteAsync(body, limit.Token);
        MemoryStream all = new();
        await stream.CopyToAsync(all, limit.Token);
        return Parse(all.ToArray(), method == "HEAD");
    }

    private static Reply Parse(byte[] bytes, bool head)
    {
        int end = bytes.AsSpan().IndexOf("\r\n\r\n"u8);
        if (end < 0)
        {
            throw new InvalidDataException($"no HTTP answer: {Schema.Show(bytes)}");
        }

        string[] lines = Encoding.ASCII.GetString(bytes, 0, end).Split("\r\n");
        string[] status = lines[0].Split(' ', 3);
        List<KeyValuePair<string, string>> headers = [];
        bool chunked = false;
        foreach (string line in lines[1..])
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            headers.Add(KeyValuePair.Create(line[..colon], line[(colon + 1)..].Trim()));
            chunked |= line.Equals("Transfer-Encoding: chunked", StringComparison.OrdinalIgnoreCase);
        }

        byte[] body = bytes[(end + 4)..];
        return new Reply(
            int.Parse(status[1], CultureInfo.InvariantCulture), status.Length > 2 ? status[2] : "", headers,
            chunked && !head ? Unchunk(body) : body);
    }

    private static byte[] Unchunk(byte[] body)
    {
        MemoryStream whole = new();
        int at = 0;
        while (true)
        {
            int line = body.AsSpan(at).IndexOf("\r\n"u8);
            int size = int.Parse(Encoding.ASCII.GetString(body, at, line), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            if (size == 0)
            {
                return whole.ToArray();
            }

            whole.Write(body, at + line + 2, size);
            at += line + 2 + size + 2;
        }
    }
}
