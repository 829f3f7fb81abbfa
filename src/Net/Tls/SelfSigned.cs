// SelfSigned: the certificate of --peer-auto-tls and --auto-tls, made once under the data directory as etcd does and used again
// afterwards: ECDSA P-521, subject O=etcd, for servers, naming the hosts listened on.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Cairn.Base;

namespace Cairn.Net.Tls;

/// <summary>Makes certificates.</summary>
internal static class SelfSigned
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerEnters = OwnerOnly | UnixFileMode.UserExecute;

    /// <summary>Uses or makes <c>cert.pem</c> and <c>key.pem</c> of a directory.</summary>
    /// <param name="options">Whose other settings are kept.</param>
    /// <param name="directory">Such as <c>DATA-DIR/fixtures/peer</c>.</param>
    /// <param name="hosts">IP addresses and names, with or without ports.</param>
    /// <param name="clock">When.</param>
    /// <param name="made">True if it was made just now.</param>
    /// <exception cref="TlsException">It cannot be made or written.</exception>
    public static TlsOptions Use(TlsOptions options, string directory, IReadOnlyList<string> hosts, IClock clock, out bool made)
    {
        made = false;
        if (options.SelfSignedYears == 0)
        {
            throw new TlsException("selfSignedCertValidity is invalid,it should be greater than 0");
        }

        string cert = Path.Combine(directory, "cert.pem"), key = Path.Combine(directory, "key.pem");
        try
        {
            if (!File.Exists(cert) || !File.Exists(key))
            {
                MakeDirectory(directory);
                (string certificate, string secret) = Make(options.SelfSignedYears, hosts, clock.UnixMilliseconds);
                Write(key, secret, OwnerOnly);
                Write(cert, certificate, OwnerOnly | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
                made = true;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
        {
            throw new TlsException("cannot make a self-signed certificate in " + directory + ": " + e.Message, e);
        }

        return options with { CertFile = cert, KeyFile = key, ClientCertFile = cert, ClientKeyFile = key };
    }

    // The data directory itself may be missing too: a mode is given to the last part of a path only.
    private static void MakeDirectory(string path)
    {
        if (path.Length != 0 && !Directory.Exists(path))
        {
            MakeDirectory(Path.GetDirectoryName(path) ?? "");
            _ = Directory.CreateDirectory(path, OwnerEnters);
        }
    }

    // With its mode from the first byte on, and never half of it under its name.
    private static void Write(string path, string text, UnixFileMode mode)
    {
        string temporary = path + ".tmp";
        File.Delete(temporary);
        using (var file = File.OpenHandle(temporary, FileMode.CreateNew, FileAccess.Write))
        {
            File.SetUnixFileMode(file, mode);
            RandomAccess.Write(file, System.Text.Encoding.ASCII.GetBytes(text), 0);
            RandomAccess.FlushToDisk(file);
        }

        File.Move(temporary, path, overwrite: true);
    }

    private static (string Certificate, string Key) Make(ulong years, IReadOnlyList<string> hosts, long unixMilliseconds)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP521);
        var request = new CertificateRequest("O=etcd", key, HashAlgorithmName.SHA512);
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature | X509KeyUsageFlags.KeyEncipherment | X509KeyUsageFlags.CrlSign, critical: true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], critical: false));
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, critical: true));
        var names = new SubjectAlternativeNameBuilder();
        foreach (string host in hosts)
        {
            if (IPAddress.TryParse(host, out IPAddress? address))
            {
                names.AddIpAddress(address);
            }
            else if (host.Length != 0)
            {
                names.AddDnsName(host);
            }
        }

        request.CertificateExtensions.Add(names.Build());
        DateTimeOffset from = DateTimeOffset.FromUnixTimeMilliseconds(unixMilliseconds);
        using X509Certificate2 certificate = request.CreateSelfSigned(from, from.AddYears((int)Math.Min(years, 1000)));
        return (certificate.ExportCertificatePem() + "\n", key.ExportECPrivateKeyPem() + "\n");
    }
}
