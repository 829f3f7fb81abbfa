// TlsFiles: certificates, keys and authorities as they lie in files, checked at the start in etcd's words and read again at
// every handshake, so that they can be replaced without a restart. Cold; any thread.
//
// Rotation   The files are compared with what was read last; only changed ones are parsed. Files that are wrong at a later
//            handshake fail that handshake, with a reason that names the file.
using System;
using System.IO;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;

namespace Cairn.Net.Tls;

/// <summary>Why TLS cannot be set up, or a handshake was refused: one line an operator can act on.</summary>
public sealed class TlsException : Exception
{
    public TlsException(string message)
        : base(message)
    {
    }

    public TlsException(string message, Exception cause)
        : base(message, cause)
    {
    }
}

/// <summary>What the files hold now.</summary>
/// <param name="Server">Shown to those who connect; null when there is none.</param>
/// <param name="Client">Shown to those we connect to; null when there is none.</param>
/// <param name="Authorities">Believed; null for the system's.</param>
internal sealed record TlsMaterial(
    SslStreamCertificateContext? Server, SslStreamCertificateContext? Client, X509Certificate2Collection? Authorities);

/// <summary>Reads them.</summary>
internal sealed class TlsFiles
{
    private readonly Lock _lock = new();
    private readonly TlsOptions _options;
    private byte[][] _read = [];
    private TlsMaterial? _material;

    public TlsFiles(TlsOptions options) => _options = options;

    /// <summary>What etcd demands before it listens; the flags alone, no file is read.</summary>
    /// <exception cref="TlsException">In etcd's words.</exception>
    public static void Check(TlsOptions options)
    {
        if (options.CertFile.Length == 0 || options.KeyFile.Length == 0)
        {
            throw new TlsException($"KeyFile and CertFile must both be present[key: {options.KeyFile}, cert: {options.CertFile}]");
        }

        if (options.ClientCertFile.Length == 0 != (options.ClientKeyFile.Length == 0))
        {
            throw new TlsException(
                $"ClientKeyFile and ClientCertFile must both be present or both absent: key: {options.ClientKeyFile}, cert: {options.ClientCertFile}]");
        }

        if (options.AllowedNames.Count != 0 && options.AllowedHosts.Count != 0)
        {
            throw new TlsException(
                $"AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{Quoted(options.AllowedNames)}], hostnames=[{Quoted(options.AllowedHosts)}])");
        }
    }

    /// <summary>Certificates of now.</summary>
    /// <exception cref="TlsException">A file is missing or wrong.</exception>
    public TlsMaterial Current()
    {
        string[] paths = [_options.CertFile, _options.KeyFile, _options.ClientCertFile, _options.ClientKeyFile, _options.TrustedCaFile];
        byte[][] read = Array.ConvertAll(paths, static path => path.Length == 0 ? [] : Read(path));
        lock (_lock)
        {
            if (_material is { } known && AreEqual(read, _read))
            {
                return known;
            }

            SslStreamCertificateContext? server = Pair(paths[0], read[0], paths[1], read[1]);
            SslStreamCertificateContext? client = paths[2].Length == 0 ? server : Pair(paths[2], read[2], paths[3], read[3]);
            _material = new TlsMaterial(server, client, paths[4].Length == 0 ? null : Authorities(paths[4], read[4]));
            _read = read;
            return _material;
        }
    }

    /// <summary>A file, or etcd's words for why not.</summary>
    /// <exception cref="TlsException">It cannot be read.</exception>
    public static byte[] Read(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new TlsException("open " + path + ": no such file or directory", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new TlsException("open " + path + ": permission denied", e);
        }
        catch (IOException e)
        {
            throw new TlsException("open " + path + ": " + e.Message, e);
        }
    }

    private static SslStreamCertificateContext? Pair(string certPath, byte[] cert, string keyPath, byte[] key)
    {
        if (certPath.Length == 0)
        {
            return null;
        }

        string certText = System.Text.Encoding.UTF8.GetString(cert);
        string keyText = System.Text.Encoding.UTF8.GetString(key);
        if (!certText.Contains("-----BEGIN CERTIFICATE-----", StringComparison.Ordinal))
        {
            throw new TlsException("tls: failed to find any PEM data in certificate input (" + certPath + ")");
        }

        if (!keyText.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
        {
            throw new TlsException("tls: failed to find any PEM data in key input (" + keyPath + ")");
        }

        X509Certificate2Collection chain = [];
        try
        {
            chain.ImportFromPem(certText);
        }
        catch (CryptographicException e)
        {
            throw new TlsException("x509: malformed certificate in " + certPath + ": " + e.Message, e);
        }

        X509Certificate2 own;
        try
        {
            own = X509Certificate2.CreateFromPem(certText, keyText);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            // The certificate could be read above: it is the key that cannot, or that belongs to another.
            throw new TlsException("tls: private key does not match public key (" + keyPath + ", " + certPath + "): " + e.Message, e);
        }

        chain.RemoveAt(0);
        return SslStreamCertificateContext.Create(own, chain, offline: true);
    }

    private static X509Certificate2Collection Authorities(string path, byte[] pem)
    {
        X509Certificate2Collection authorities = [];
        try
        {
            authorities.ImportFromPem(System.Text.Encoding.UTF8.GetString(pem));
        }
        catch (CryptographicException e)
        {
            throw new TlsException("x509: malformed certificate in " + path + ": " + e.Message, e);
        }

        return authorities.Count != 0 ? authorities
            : throw new TlsException("no certificate in " + path + ": nobody could be believed");
    }

    private static bool AreEqual(byte[][] left, byte[][] right)
    {
        if (left.Length != right.Length)
        {
            return false;
        }

        for (int i = 0; i < left.Length; i++)
        {
            if (!left[i].AsSpan().SequenceEqual(right[i]))
            {
                return false;
            }
        }

        return true;
    }

    private static string Quoted(System.Collections.Generic.IReadOnlyList<string> words)
    {
        var quoted = new System.Collections.Generic.List<string>();
        foreach (string word in words)
        {
            quoted.Add('"' + word + '"');
        }

        return string.Join(' ', quoted);
    }
}
