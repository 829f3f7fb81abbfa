// Certificates: authorities, certificates and revocation lists for tests, made here and now, in files of a folder of its own.
using System;
using System.IO;
using System.Net;
using System.Numerics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Cairn.Net.Tests.Peer;

/// <summary>A certificate and its key, as files.</summary>
internal sealed record CertificateFiles(string Cert, string Key, byte[] Serial);

/// <summary>An authority.</summary>
internal sealed class Certificates : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("cairn-tls-");
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _authority;
    private int _count;

    public Certificates()
    {
        var request = new CertificateRequest("CN=authority of tests", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        _authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-30), DateTimeOffset.UtcNow.AddDays(30));
        CaFile = Path.Combine(_folder.FullName, "ca.pem");
        File.WriteAllText(CaFile, _authority.ExportCertificatePem());
    }

    public string CaFile { get; }

    /// <summary>A fresh path in the folder.</summary>
    public string PathOf(string name) => Path.Combine(_folder.FullName, name);

    /// <summary>A certificate for loopback unless it is told otherwise.</summary>
    /// <param name="name">Common name; empty for none.</param>
    /// <param name="hosts">Alternative names; null for 127.0.0.1 and localhost.</param>
    /// <param name="usages">"server", "client"; null for both.</param>
    /// <param name="endsInDays">Negative: it is over.</param>
    public CertificateFiles Issue(string name, string[]? hosts = null, string[]? usages = null, int endsInDays = 10)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(name.Length == 0 ? "O=nobody" : "CN=" + name, key, HashAlgorithmName.SHA256);
        OidCollection purposes = [];
        foreach (string usage in usages ?? ["server", "client"])
        {
            purposes.Add(new Oid(usage == "server" ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2"));
        }

        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(purposes, false));
        var names = new SubjectAlternativeNameBuilder();
        foreach (string host in hosts ?? ["127.0.0.1", "localhost"])
        {
            if (IPAddress.TryParse(host, out IPAddress? address))
            {
                names.AddIpAddress(address);
            }
            else
            {
                names.AddDnsName(host);
            }
        }

        if ((hosts ?? [""]).Length != 0)
        {
            request.CertificateExtensions.Add(names.Build());
        }

        byte[] serial = RandomNumberGenerator.GetBytes(12);
        serial[0] = (byte)((serial[0] & 0x3f) | 0x40);
        using X509Certificate2 certificate = request.Create(
            _authority, DateTimeOffset.UtcNow.AddDays(-20), DateTimeOffset.UtcNow.AddDays(endsInDays), serial);
        string file = PathOf($"{++_count}-{name}");
        var files = new CertificateFiles(file + ".crt", file + ".key", serial);
        File.WriteAllText(files.Cert, certificate.ExportCertificatePem());
        File.WriteAllText(files.Key, key.ExportPkcs8PrivateKeyPem());
        return files;
    }

    /// <summary>A revocation list.</summary>
    public string Revoke(bool pem, params CertificateFiles[] revoked)
    {
        var list = new CertificateRevocationListBuilder();
        foreach (CertificateFiles files in revoked)
        {
            list.AddEntry(files.Serial);
        }

        byte[] der = list.Build(_authority, BigInteger.One, DateTimeOffset.UtcNow.AddDays(5), HashAlgorithmName.SHA256);
        string file = PathOf($"{++_count}.crl");
        if (pem)
        {
            File.WriteAllText(file, PemEncoding.WriteString("X509 CRL", der));
        }
        else
        {
            File.WriteAllBytes(file, der);
        }

        return file;
    }

    public void Dispose()
    {
        _authority.Dispose();
        _key.Dispose();
        _folder.Delete(recursive: true);
    }
}
