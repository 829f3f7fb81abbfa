// GrpcStream: one gRPC stream in both directions with bare hands: messages as bytes, the end as code and text.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;

namespace Cairn.Cluster;

/// <summary>A stream; a background task puts what arrives into a queue.</summary>
internal sealed class GrpcStream : IAsyncDisposable
{
    private readonly CancellationTokenSource _cut = new();
    private readonly Channel<byte[]> _messages = Channel.CreateUnbounded<byte[]>();
    private readonly PushContent _content = new();
    private readonly Task _receiving;

    /// <summary>Opens a stream on a connection that the client's other calls may share.</summary>
    public GrpcStream(HttpClient http, string method, IEnumerable<KeyValuePair<string, string>>? metadata = null)
    {
        HttpRequestMessage request = new(HttpMethod.Post, method)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = _content,
        };
        request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
        foreach (KeyValuePair<string, string> pair in metadata ?? [])
        {
            request.Headers.TryAddWithoutValidation(pair.Key, pair.Value);
        }

        _receiving = Receive(http, request);
    }

    /// <summary>Code and text once the server has ended the stream; -1 when the connection broke or we cancelled.</summary>
    public (int Code, string Message)? End { get; private set; }

    /// <summary>Completes when nothing more will arrive.</summary>
    public Task Ended => _receiving;

    public async Task Send(byte[] message)
    {
        Stream stream = await _content.Stream.Task.WaitAsync(TimeSpan.FromSeconds(60));
        byte[] frame = new byte[message.Length + 5];
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
        message.CopyTo(frame, 5);
        await stream.WriteAsync(frame);
        await stream.FlushAsync();
    }

    public Task Send(Pb message) => Send(message.Bytes);

    public void HalfClose() => _content.Done.TrySetResult();

    /// <summary>What has arrived, at once; null if nothing has.</summary>
    public byte[]? TryReceive() => _messages.Reader.TryRead(out byte[]? message) ? message : null;

    /// <summary>The next message; null when none comes in time or the stream has ended.</summary>
    public async Task<byte[]?> Receive(int milliseconds = 60_000)
    {
        using CancellationTokenSource patience = new(milliseconds);
        try
        {
            return await _messages.Reader.ReadAsync(patience.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or ChannelClosedException)
        {
            return null;
        }
    }

    public async Task Cancel()
    {
        await _cut.CancelAsync();
        _content.Done.TrySetResult();
        await _receiving;
    }

    public async ValueTask DisposeAsync()
    {
        await Cancel();
        _cut.Dispose();
    }

    private async Task Receive(HttpClient http, HttpRequestMessage request)
    {
        try
        {
            using HttpResponseMessage response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, _cut.Token);
            await using Stream body = await response.Content.ReadAsStreamAsync(_cut.Token);
            byte[] head = new byte[5];
            while (await body.ReadAtLeastAsync(head, 5, throwOnEndOfStream: false, _cut.Token) == 5)
            {
                byte[] message = new byte[BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(1))];
                await body.ReadExactlyAsync(message, _cut.Token);
                _messages.Writer.TryWrite(message);
            }

            string code = Header(response.TrailingHeaders, "grpc-status") ?? Header(response.Headers, "grpc-status") ?? "-1";
            string text = Header(response.TrailingHeaders, "grpc-message") ?? Header(response.Headers, "grpc-message") ?? "";
            End = (int.Parse(code, CultureInfo.InvariantCulture), Uri.UnescapeDataString(text));
        }
        catch (Exception e) when (e is OperationCanceledException or HttpRequestException or IOException)
        {
            End = (-1, e.Message);
        }
        finally
        {
            _content.Done.TrySetResult();
            _messages.Writer.TryComplete();
            request.Dispose();
        }
    }

    private static string? Header(HttpHeaders headers, string name)
        => headers.TryGetValues(name, out IEnumerable<string>? values) ? string.Concat(values) : null;

    private sealed class PushContent : HttpContent
    {
        public PushContent() => Headers.ContentType = new MediaTypeHeaderValue("application/grpc");

        public TaskCompletionSource<Stream> Stream { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.FlushAsync();
            Stream.TrySetResult(stream);
            await Done.Task;
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
