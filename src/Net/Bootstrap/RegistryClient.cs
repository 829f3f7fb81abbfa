// RegistryClient: the few calls of etcd's KV service that discovery needs, over HTTP/2 as any client makes them. Cold.
//
// Why        The v3 form of discovery is a conversation with an ordinary etcd (or Cairn) at another place; three unary calls
//            with hand-written messages are less than a client library.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Host;
using Cairn.Net.Services;

namespace Cairn.Net.Bootstrap;

/// <summary>A key of the registry with its create revision.</summary>
internal readonly record struct RegistryKey(byte[] Key, byte[] Value, long CreateRevision);

/// <summary>The registry could not be asked; trying again may help.</summary>
internal sealed class RegistryException(string message) : Exception(message);

/// <summary>What discovery asks a registry.</summary>
internal interface IRegistry
{
    /// <summary>All keys with a prefix, or the one key.</summary>
    /// <exception cref="RegistryException">No answer.</exception>
    Task<List<RegistryKey>> GetAsync(byte[] key, bool isPrefix, CancellationToken cancelled);

    /// <summary>Puts a key.</summary>
    /// <exception cref="RegistryException">No answer.</exception>
    Task PutAsync(byte[] key, byte[] value, CancellationToken cancelled);
}

/// <summary>A registry at client URLs of an etcd cluster.</summary>
internal sealed class RegistryClient : IRegistry, IDisposable
{
    private readonly HttpClient _client;
    private readonly List<string> _endpoints = [];
    private readonly TimeSpan _requestTimeout;
    private int _next;

    public RegistryClient(DiscoveryOptions options)
    {
        foreach (string endpoint in options.Endpoints)
        {
            // Clients may leave the scheme out.
            string text = endpoint.Contains("://", StringComparison.Ordinal) ? endpoint : "http://" + endpoint;
            if (ListenUrl.TryParse(text, out ListenUrl url, out _))
            {
                _endpoints.Add(url.Text);
            }
        }

        _requestTimeout = options.RequestTimeout;
        _client = new HttpClient(new SocketsHttpHandler { UseProxy = false, ConnectTimeout = options.DialTimeout })
        {
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Timeout = Timeout.InfiniteTimeSpan,
        };
    }

    /// <inheritdoc/>
    public async Task<List<RegistryKey>> GetAsync(byte[] key, bool isPrefix, CancellationToken cancelled)
    {
        // RangeRequest {1 key, 2 range_end}
        var request = new ProtoText();
        request.Bytes(1, key);
        if (isPrefix)
        {
            byte[] end = [.. key];
            end[^1]++;
            request.Bytes(2, end);
        }

        byte[] answer = await CallAsync("Range", request.Written.ToArray(), cancelled);
        return Parse(answer);
    }

    /// <inheritdoc/>
    public async Task PutAsync(byte[] key, byte[] value, CancellationToken cancelled)
    {
        // PutRequest {1 key, 2 value}
        var request = new ProtoText();
        request.Bytes(1, key);
        request.Bytes(2, value);
        _ = await CallAsync("Put", request.Written.ToArray(), cancelled);
    }

    public void Dispose() => _client.Dispose();

    // RangeResponse {2 repeated KeyValue {1 key, 2 create_revision, 5 value}}
    private static List<RegistryKey> Parse(byte[] answer)
    {
        var keys = new List<RegistryKey>();
        var reader = new ProtoReader(answer);
        while (reader.NextField())
        {
            if (reader.Field != 2 || reader.Wire != WireType.Bytes)
            {
                reader.Skip();
                continue;
            }

            var pair = new ProtoReader(reader.ReadBytes());
            byte[] key = [], value = [];
            long created = 0;
            while (pair.NextField())
            {
                switch (pair.Field)
                {
                    case 1:
                        key = pair.ReadBytes().ToArray();
                        break;
                    case 2:
                        created = (long)pair.ReadVarint();
                        break;
                    case 5:
                        value = pair.ReadBytes().ToArray();
                        break;
                    default:
                        pair.Skip();
                        break;
                }
            }

            keys.Add(new RegistryKey(key, value, created));
        }

        return reader.Failed ? throw new RegistryException("the answer is not a RangeResponse") : keys;
    }

    private async Task<byte[]> CallAsync(string method, byte[] message, CancellationToken cancelled)
    {
        if (_endpoints.Count == 0)
        {
            throw new RegistryException("no endpoint is a URL");
        }

        string endpoint = _endpoints[_next % _endpoints.Count];
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancelled);
        limit.CancelAfter(_requestTimeout);
        try
        {
            byte[] body = new byte[5 + message.Length];
            BinaryPrimitives.WriteInt32BigEndian(body.AsSpan(1), message.Length);
            message.CopyTo(body, 5);
            using var request = new HttpRequestMessage(HttpMethod.Post, endpoint + "/etcdserverpb.KV/" + method)
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new ByteArrayContent(body),
            };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
            request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
            using HttpResponseMessage response = await _client.SendAsync(request, limit.Token);
            byte[] answer = await response.Content.ReadAsByteArrayAsync(limit.Token);
            string status = First(response.TrailingHeaders, "grpc-status") ?? First(response.Headers, "grpc-status") ?? "";
            if (status != "0")
            {
                string text = First(response.TrailingHeaders, "grpc-message") ?? First(response.Headers, "grpc-message") ?? "";
                throw new RegistryException(endpoint + ": " + Uri.UnescapeDataString(text) + " (status " + status + ")");
            }

            return answer.Length >= 5 && BinaryPrimitives.ReadInt32BigEndian(answer.AsSpan(1)) == answer.Length - 5
                ? answer[5..]
                : throw new RegistryException(endpoint + ": the answer is not one message");
        }
        catch (Exception e) when (!cancelled.IsCancellationRequested
            && e is HttpRequestException or IOException or OperationCanceledException or RegistryException)
        {
            _next++;
            throw e as RegistryException ?? new RegistryException(
                endpoint + ": " + (e is OperationCanceledException ? "context deadline exceeded" : e.Message));
        }
    }

    private static string? First(HttpHeaders headers, string name)
    {
        if (headers.TryGetValues(name, out IEnumerable<string>? values))
        {
            foreach (string value in values)
            {
                return value;
            }
        }

        return null;
    }
}
