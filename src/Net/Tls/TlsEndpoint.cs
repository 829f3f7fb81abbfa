// TlsEndpoint: handshakes of one side of a member, with the files as they are now. Blocking; never on the pool's behalf.
using System;
using System.IO;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;

namespace Cairn.Net.Tls;

/// <summary>Makes secure streams.</summary>
internal sealed class TlsEndpoint
{
    private readonly TlsOptions _options;
    private readonly TlsFiles _files;

    /// <summary>Checks nothing; <see cref="Verify"/> does.</summary>
    public TlsEndpoint(TlsOptions options)
    {
        _options = options;
        _files = new TlsFiles(options);
    }

    /// <summary>Of a member without TLS: it can dial others that have it, by the system's authorities.</summary>
    public static TlsEndpoint None { get; } = new(new TlsOptions());

    public TlsOptions Options => _options;

    /// <summary>What has to hold before anything listens.</summary>
    /// <exception cref="TlsException">In etcd's words.</exception>
    public void Verify()
    {
        TlsFiles.Check(_options);
        _ = _files.Current();
    }

    /// <summary>Shakes hands with somebody who connected. Blocks as long as the stream does.</summary>
    /// <param name="wire">Reads block and may time out.</param>
    /// <param name="from">Where he comes from; null when that is no IP address.</param>
    /// <exception cref="TlsException">Not believed, or not TLS.</exception>
    public SslStream Accept(Stream wire, IPAddress? from)
    {
        TlsMaterial material = _files.Current();
        var judge = new CertificateJudge(_options, isDialler: false, "", from);
        var stream = new SslStream(wire, leaveInnerStreamOpen: false);
        return Shake(stream, judge, () => stream.AuthenticateAsServer(new SslServerAuthenticationOptions
        {
            ServerCertificateContext = material.Server,
            ClientCertificateRequired = _options.DemandsCertificate,
            CertificateChainPolicy = judge.Policy(material.Authorities),
            RemoteCertificateValidationCallback = judge.Believes,
            EnabledSslProtocols = _options.Protocols,
            AllowRenegotiation = false,
            AllowTlsResume = false,
        }));
    }

    /// <summary>Shakes hands with somebody we connected to.</summary>
    /// <param name="wire">Reads block and may time out.</param>
    /// <param name="host">Of the URL that was dialled.</param>
    /// <exception cref="TlsException">Not believed, or not TLS.</exception>
    public SslStream Connect(Stream wire, string host)
    {
        var judge = new CertificateJudge(_options, isDialler: true, NameOf(host), null);
        var stream = new SslStream(wire, leaveInnerStreamOpen: false);
        SslClientAuthenticationOptions dialling = Dialling(judge);
        dialling.TargetHost = NameOf(host);
        return Shake(stream, judge, () => stream.AuthenticateAsClient(dialling));
    }

    /// <summary>The same rules for an HTTP client.</summary>
    /// <exception cref="TlsException">A file is wrong.</exception>
    public SslClientAuthenticationOptions ForHttp()
    {
        TlsOptions options = _options;
        SslClientAuthenticationOptions dialling = Dialling(new CertificateJudge(options, isDialler: true, "", null));
        dialling.RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
        {
            // One option set for all hosts: the stream knows which one this is.
            var judge = new CertificateJudge(options, isDialler: true, ((SslStream)sender).TargetHostName, null);
            return judge.Believes(sender, certificate, chain, errors)
                ? true
                : throw new AuthenticationException(judge.Reason);
        };
        if (options.ServerName.Length != 0)
        {
            dialling.TargetHost = options.ServerName;
        }

        return dialling;
    }

    private string NameOf(string host) => _options.ServerName.Length != 0 ? _options.ServerName : host;

    private SslClientAuthenticationOptions Dialling(CertificateJudge judge)
    {
        TlsMaterial material = _files.Current();
        return new SslClientAuthenticationOptions
        {
            ClientCertificateContext = material.Client,
            CertificateChainPolicy = judge.Policy(material.Authorities),
            RemoteCertificateValidationCallback = judge.Believes,
            EnabledSslProtocols = _options.Protocols,
            AllowRenegotiation = false,
            AllowTlsResume = false,
        };
    }

    private static SslStream Shake(SslStream stream, CertificateJudge judge, Action shake)
    {
        try
        {
            shake();
            return stream;
        }
        catch (Exception e) when (e is AuthenticationException or IOException or InvalidOperationException or NotSupportedException
            or ArgumentException or CryptographicException or System.ComponentModel.Win32Exception)
        {
            stream.Dispose();
            throw new TlsException(judge.Reason.Length != 0 ? judge.Reason : "TLS handshake failed: " + Cause(e), e);
        }
    }

    // OpenSSL's own words are the innermost.
    private static string Cause(Exception e)
    {
        while (e.InnerException is { } inner)
        {
            e = inner;
        }

        return e is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock } ? "no answer in time" : e.Message;
    }
}
