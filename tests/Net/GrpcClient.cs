// GrpcClient: a small gRPC client over HttpClient, written for the tests so that both ends are not our own code:
// frames by hand, HTTP/2 with prior knowledge by the framework.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading.Tasks;

namespace Cairn.Net.Tests;

internal sealed record GrpcAnswer(int HttpStatus, int Code, string Message, List<byte[]> Messages, HttpResponseHeaders Headers)
{
    public byte[] Single => Messages.Count == 1
        ? Messages[0]
        : throw new InvalidOperationException($"{Messages.Count} messages, status {Code} {Message}");
}

internal sealed class GrpcClient(int port) : IDisposable
{
    private readonly HttpClient _http = new(new SocketsHttpHandler { AllowAutoRedirect = false })
    {
        BaseAddress = new Uri($"http://127.0.0.1:{port}"),
        Timeout = TimeSpan.FromSeconds(30),
    };

    public Task<GrpcAnswer> CallAsync(string path, byte[] message, params (string Name, string Value)[] metadata)
        => SendAsync(path, Frame(message), metadata);

    public async Task<GrpcAnswer> SendAsync(string path, byte[] body, params (string Name, string Value)[] metadata)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(body),
        };
        string type = "application/grpc";
        foreach ((string name, string value) in metadata)
        {
            if (name == "content-type")
            {
                type = value;
            }
            else if (name == ":method")
            {
                request.Method = new HttpMethod(value);
            }
            else
            {
                request.Headers.TryAddWithoutValidation(name, value);
            }
        }

        if (type.Length != 0)
        {
            request.Content.Headers.TryAddWithoutValidation("Content-Type", type);
        }

        using HttpResponseMessage response = await _http.SendAsync(request);
        byte[] bytes = await response.Content.ReadAsByteArrayAsync();
        string code = Header(response, "grpc-status") ?? "-1";
        string text = Uri.UnescapeDataString(Header(response, "grpc-message") ?? "");
        return new GrpcAnswer((int)response.StatusCode, int.Parse(code), text, Unframe(bytes), response.Headers);
    }

    public static byte[] Frame(byte[] message, byte flag = 0)
    {
        byte[] frame = new byte[message.Length + 5];
        frame[0] = flag;
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(1), (uint)message.Length);
        message.CopyTo(frame, 5);
        return frame;
    }

    public void Dispose() => _http.Dispose();

    private static List<byte[]> Unframe(byte[] bytes)
    {
        var messages = new List<byte[]>();
        int offset = 0;
        while (offset < bytes.Length)
        {
            int length = (int)BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(offset + 1));
            byte[] message = bytes.AsSpan(offset + 5, length).ToArray();
            if (bytes[offset] == 1)
            {
                using var packed = new System.IO.Compression.GZipStream(
                    new MemoryStream(message), System.IO.Compression.CompressionMode.Decompress);
                using var plain = new MemoryStream();
                packed.CopyTo(plain);
                message = plain.ToArray();
            }

            messages.Add(message);
            offset += 5 + length;
        }

        return messages;
    }

    private static string? Header(HttpResponseMessage response, string name)
    {
        foreach (HttpHeaders headers in new HttpHeaders[] { response.TrailingHeaders, response.Headers })
        {
            if (headers.TryGetValues(name, out IEnumerable<string>? values))
            {
                foreach (string value in values)
                {
                    return value;
                }
            }
        }

        return null;
    }
}
