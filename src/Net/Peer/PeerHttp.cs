// PeerHttp: answers plain HTTP/1.1 on the peer port, for people and for members that ask before they are members: GET of a
// few pages, one request a connection, everything else refused. Any pool thread; cold.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Http;

namespace Cairn.Net.Peer;

/// <summary>Serves one request head that the door has read.</summary>
internal sealed class PeerHttp(HttpHandler pages)
{
    private const int AtOnceMax = 32;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);
    private int _running;

    /// <summary>Takes the socket over, or says no when too many are being served.</summary>
    /// <param name="channel">The head has been read from it.</param>
    /// <param name="head">Request line and header lines, without the empty line.</param>
    public bool TryServe(PeerChannel channel, string head)
    {
        if (Interlocked.Increment(ref _running) > AtOnceMax)
        {
            Interlocked.Decrement(ref _running);
            return false;
        }

        _ = ServeAsync(channel, head);
        return true;
    }

    /// <summary>The request of a head; null when it is none.</summary>
    internal static HttpCall? Parse(string head)
    {
        string[] lines = head.Split("\r\n");
        string[] words = lines[0].Split(' ');
        if (words.Length != 3 || !words[2].StartsWith("HTTP/1.", StringComparison.Ordinal) || !words[1].StartsWith('/'))
        {
            return null;
        }

        string host = "";
        foreach (string line in lines.AsSpan(1))
        {
            if (line.StartsWith("host:", StringComparison.OrdinalIgnoreCase))
            {
                host = line[5..].Trim();
            }
        }

        int mark = words[1].IndexOf('?', StringComparison.Ordinal);
        string path = mark < 0 ? words[1] : words[1][..mark];
        return new HttpCall(words[0], path, mark < 0 ? "" : words[1][(mark + 1)..], host, "", "");
    }

    /// <summary>The whole answer.</summary>
    internal static byte[] Format(HttpCall call)
    {
        var head = new StringBuilder(256);
        head.Append(CultureInfo.InvariantCulture, $"HTTP/1.1 {call.Status} {ReasonOf(call.Status)}\r\n");
        foreach (KeyValuePair<string, string> header in call.Headers)
        {
            head.Append(header.Key).Append(": ").Append(header.Value).Append("\r\n");
        }

        head.Append(CultureInfo.InvariantCulture, $"Content-Length: {call.Body.Length}\r\nConnection: close\r\n\r\n");
        byte[] first = Encoding.Latin1.GetBytes(head.ToString());
        byte[] whole = new byte[first.Length + call.Body.Length];
        first.CopyTo(whole, 0);
        call.Body.Span.CopyTo(whole.AsSpan(first.Length));
        return whole;
    }

    private async Task ServeAsync(PeerChannel channel, string head)
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        using var patience = new CancellationTokenSource(s_patience);
        try
        {
            HttpCall call = Parse(head) ?? new HttpCall("", "", "", "", "", "");
            if (call.Path.Length == 0)
            {
                call.ReplyError(400, "400 Bad Request\n");
            }
            else
            {
                await pages(call);
            }

            await channel.SendAsync(Format(call), patience.Token);
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or InvalidOperationException or System.IO.IOException)
        {
            // The client did not wait.
        }
        finally
        {
            channel.Dispose();
            Interlocked.Decrement(ref _running);
        }
    }

    private static string ReasonOf(int status) => status switch
    {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        503 => "Service Unavailable",
        _ => "Error",
    };
}
