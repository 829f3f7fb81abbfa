// Grpc: the smallest possible gRPC client. Bytes in, bytes and status out; nothing is retried, decoded or prettified, so
// that what the server really sent is what a test sees. HTTP/2 with prior knowledge by HttpClient, frames by hand.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Cluster;

/// <summary>What a call came back with. Messages are the bodies without their 5-byte frames.</summary>
internal sealed record Answer(int Code, string Message, IReadOnlyList<byte[]> Messages)
{
    public byte[] Body => Messages.Count > 0 ? Messages[0] : [];

    public List<string> Lines(string method) => Schema.Lines(Schema.Response(method), Body);

    public override string ToString() => $"{Code} {Message} ({Messages.Count} messages)";
}

internal sealed class Grpc : IDisposable
{
    public const string Range = "/etcdserverpb.KV/Range";
    public const string Put = "/etcdserverpb.KV/Put";
    public const string DeleteRange = "/etcdserverpb.KV/DeleteRange";
    public const string Txn = "/etcdserverpb.KV/Txn";
    public const string Compact = "/etcdserverpb.KV/Compact";
    public const string RangeStream = "/etcdserverpb.KV/RangeStream";
    public const string HashKv = "/etcdserverpb.Maintenance/HashKV";
    public const string Hash = "/etcdserverpb.Maintenance/Hash";
    public const string Status = "/etcdserverpb.Maintenance/Status";
    public const string Alarm = "/etcdserverpb.Maintenance/Alarm";
    public const string Snapshot = "/etcdserverpb.Maintenance/Snapshot";
    public const string Defragment = "/etcdserverpb.Maintenance/Defragment";
    public const string MemberList = "/etcdserverpb.Cluster/MemberList";
    public const string MemberAdd = "/etcdserverpb.Cluster/MemberAdd";
    public const string MemberRemove = "/etcdserverpb.Cluster/MemberRemove";
    public const string MemberUpdate = "/etcdserverpb.Cluster/MemberUpdate";
    public const string MemberPromote = "/etcdserverpb.Cluster/MemberPromote";
    public const string MoveLeader = "/etcdserverpb.Maintenance/MoveLeader";
    public const string LeaseGrant = "/etcdserverpb.Lease/LeaseGrant";
    public const string LeaseRevoke = "/etcdserverpb.Lease/LeaseRevoke";
    public const string LeaseTimeToLive = "/etcdserverpb.Lease/LeaseTimeToLive";
    public const string LeaseLeases = "/etcdserverpb.Lease/LeaseLeases";
    public const string LeaseKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive";
    public const string Lock = "/v3lockpb.Lock/Lock";
    public const string Unlock = "/v3lockpb.Lock/Unlock";
    public const string Campaign = "/v3electionpb.Election/Campaign";
    public const string Observe = "/v3electionpb.Election/Observe";
    public const string Watch = "/etcdserverpb.Watch/Watch";
    public const string Authenticate = "/etcdserverpb.Auth/Authenticate";

    private readonly HttpClient _http;

    /// <summary>A client with a connection of its own.</summary>
    public Grpc(string baseUrl)
    {
        SocketsHttpHandler handler = new()
        {
            EnableMultipleHttp2Connections = false,
            UseProxy = false,
            AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None,
        };
        _http = new HttpClient(handler, disposeHandler: true)
        {
            BaseAddress = new Uri(baseUrl),
            Timeout = Timeout.InfiniteTimeSpan,
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
    }

    /// <summary>One call with one request message; reads the answer to its end. Throws only when the connection fails.</summary>
    public async Task<Answer> Call(
        string method, byte[] request, IEnumerable<KeyValuePair<string, string>>? metadata = null, TimeSpan? timeout = null)
    {
        byte[] framed = new byte[request.Length + 5];
        BinaryPrimitives.WriteInt32BigEndian(framed.AsSpan(1), request.Length);
        request.CopyTo(framed, 5);
        return await CallRaw(method, framed, metadata, timeout);
    }

    /// <summary>The same with the bytes of the request stream given whole, frames included, and any content type.</summary>
    public async Task<Answer> CallRaw(
        string method, byte[] stream, IEnumerable<KeyValuePair<string, string>>? metadata = null, TimeSpan? timeout = null,
        string contentType = "application/grpc")
    {
        using HttpRequestMessage message = new(HttpMethod.Post, method)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(stream),
        };
        message.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(contentType);
        message.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        foreach (KeyValuePair<string, string> pair in metadata ?? [])
        {
            message.Headers.TryAddWithoutValidation(pair.Key, pair.Value);
        }

        using CancellationTokenSource cancel = new(timeout ?? TimeSpan.FromSeconds(60));
        using HttpResponseMessage response = await _http.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, cancel.Token);
        byte[] body = await response.Content.ReadAsByteArrayAsync(cancel.Token);
        string? code = Header(response.TrailingHeaders, "grpc-status") ?? Header(response.Headers, "grpc-status");
        if (code is null)
        {
            return new Answer(-(int)response.StatusCode, "no grpc-status; HTTP " + (int)response.StatusCode, []);
        }

        string text = Header(response.TrailingHeaders, "grpc-message") ?? Header(response.Headers, "grpc-message") ?? "";
        return new Answer(int.Parse(code, CultureInfo.InvariantCulture), Uri.UnescapeDataString(text), Split(body));
    }

    /// <summary>A stream in both directions on this client's connection.</summary>
    public GrpcStream Open(string method, IEnumerable<KeyValuePair<string, string>>? metadata = null) => new(_http, method, metadata);

    public Task<Answer> Call(string method, Pb request) => Call(method, request.Bytes);

    /// <summary>A call that has to succeed; the decoded answer.</summary>
    public async Task<List<string>> Ok(string method, Pb request, IEnumerable<KeyValuePair<string, string>>? metadata = null)
    {
        Answer answer = await Call(method, request.Bytes, metadata);
        Xunit.Assert.True(answer.Code == 0, $"{method}: {answer}");
        return answer.Lines(method);
    }

    public void Dispose() => _http.Dispose();

    private static string? Header(HttpHeaders headers, string name) =>
        headers.TryGetValues(name, out IEnumerable<string>? values) ? values.First() : null;

    private static List<byte[]> Split(byte[] body)
    {
        List<byte[]> messages = [];
        int at = 0;
        while (at < body.Length)
        {
            if (body.Length - at < 5)
            {
                throw new InvalidDataException("half a frame header at the end of an answer");
            }

            int length = BinaryPrimitives.ReadInt32BigEndian(body.AsSpan(at + 1));
            if (body[at] != 0 || length > body.Length - at - 5)
            {
                throw new InvalidDataException("a frame that is compressed or longer than the answer");
            }

            messages.Add(body.AsSpan(at + 5, length).ToArray());
            at += 5 + length;
        }

        return messages;
    }
}
