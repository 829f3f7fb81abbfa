// ProtocolSniffer: lets one cleartext port serve HTTP/1.1 and HTTP/2 with prior knowledge.
//
// Why        Without TLS there is no ALPN to choose by, and Kestrel then takes HTTP/1.1. This connection middleware
//            looks at the first bytes ("PRI" opens every HTTP/2 connection and no HTTP/1.1 request) and, for
//            HTTP/2, sets the features by which Kestrel believes that ALPN chose h2. The scheme then reads http on
//            a connection that claims TLS, hence AllowAlternateSchemes in FrontEnd.
// Thread     Runs once per connection on an I/O thread; holds no memory beyond the connection's own buffer.
using System;
using System.IO.Pipelines;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Cairn.Net.Host;

/// <summary>Connection middleware that picks the protocol by the first three bytes.</summary>
internal sealed class ProtocolSniffer(ConnectionDelegate next, TimeSpan patience)
{
    private static readonly ChosenHttp2 Chosen = new();

    public async Task OnConnectionAsync(ConnectionContext connection)
    {
        // A client that connects and says nothing holds a socket only this long.
        using var silence = CancellationTokenSource.CreateLinkedTokenSource(connection.ConnectionClosed);
        silence.CancelAfter(patience);
        try
        {
            if (await IsHttp2Async(connection.Transport.Input, silence.Token))
            {
                connection.Features.Set<ITlsConnectionFeature>(Chosen);
                connection.Features.Set<ITlsApplicationProtocolFeature>(Chosen);
            }
        }
        catch (OperationCanceledException)
        {
            connection.Abort(new ConnectionAbortedException("no request within the time allowed"));
            return;
        }
        catch (ConnectionResetException)
        {
            return;
        }

        await next(connection);
    }

    private static async ValueTask<bool> IsHttp2Async(PipeReader input, CancellationToken cancelled)
    {
        while (true)
        {
            ReadResult result = await input.ReadAsync(cancelled);
            ReadOnlySpan<byte> first = result.Buffer.FirstSpan;
            bool enough = first.Length >= 3 || !"PRI"u8.StartsWith(first) || result.IsCompleted;
            bool http2 = first.StartsWith("PRI"u8);
            input.AdvanceTo(result.Buffer.Start, enough ? result.Buffer.Start : result.Buffer.End);
            if (enough)
            {
                return http2;
            }
        }
    }

    private sealed class ChosenHttp2 : ITlsConnectionFeature, ITlsApplicationProtocolFeature
    {
        public X509Certificate2? ClientCertificate
        {
            get => null;
            set { }
        }

        public ReadOnlyMemory<byte> ApplicationProtocol { get; } = "h2"u8.ToArray();

        public Task<X509Certificate2?> GetClientCertificateAsync(CancellationToken cancellationToken)
            => Task.FromResult<X509Certificate2?>(null);
    }
}
