// CertificateJudge: whether the certificate the other side shows is believed, by etcd's rules; and why not, in words that say what
// to change. One judge a handshake; it runs on the thread of the handshake.
//
// Dialling   signed by a known authority, for servers, valid now, names the host dialled (SAN only, as Go does); allowed name.
// Accepting  only when a certificate is demanded: signed, for clients, valid now; allowed name; it names the address its bearer
//            comes from, unless it names none, or that check is switched off; it is not in the revocation list.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Numerics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Cairn.Net.Tls;

/// <summary>Judges one handshake.</summary>
/// <param name="options">The rules.</param>
/// <param name="isDialler">The other side is a server.</param>
/// <param name="host">Dialling: its host.</param>
/// <param name="from">Accepting: where it comes from; null when that is no IP address.</param>
internal sealed class CertificateJudge(TlsOptions options, bool isDialler, string host, IPAddress? from)
{
    private const string ServerAuth = "1.3.6.1.5.5.7.3.1";
    private const string ClientAuth = "1.3.6.1.5.5.7.3.2";

    /// <summary>Why it was refused; empty when it was not.</summary>
    public string Reason { get; private set; } = "";

    /// <summary>How a chain is built: from what the other side sent, never from the network.</summary>
    public X509ChainPolicy Policy(X509Certificate2Collection? authorities)
    {
        var policy = new X509ChainPolicy
        {
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
            VerificationTimeIgnored = true,
        };
        _ = policy.ApplicationPolicy.Add(new Oid(isDialler ? ServerAuth : ClientAuth));
        if (authorities is not null)
        {
            policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
            policy.CustomTrustStore.AddRange(authorities);
        }

        return policy;
    }

    /// <summary>The callback of SslStream.</summary>
    public bool Believes(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (isDialler ? options.AutoTls : !options.DemandsCertificate)
        {
            return true;
        }

        Reason = certificate is not X509Certificate2 shown
            ? "tls: no certificate was shown, and one is demanded: give the other side a certificate for clients"
            : JudgeChain(shown, chain, errors) ?? JudgeNames(shown) ?? (isDialler ? null : JudgeBearer(shown, chain)) ?? "";
        return Reason.Length == 0;
    }

    private string? JudgeChain(X509Certificate2 shown, X509Chain? chain, SslPolicyErrors errors)
    {
        if ((errors & SslPolicyErrors.RemoteCertificateChainErrors) != 0)
        {
            X509ChainStatusFlags all = X509ChainStatusFlags.NoError;
            foreach (X509ChainStatus status in chain?.ChainStatus ?? [])
            {
                all |= status.Status;
            }

            string who = "(subject " + shown.Subject + ", issuer " + shown.Issuer + ")";
            if ((all & X509ChainStatusFlags.NotTimeValid) != 0)
            {
                return string.Create(
                    CultureInfo.InvariantCulture,
                    $"x509: certificate has expired or is not yet valid {who}: it is valid from {shown.NotBefore.ToUniversalTime():s}Z to {shown.NotAfter.ToUniversalTime():s}Z");
            }

            if ((all & (X509ChainStatusFlags.PartialChain | X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.NotSignatureValid)) != 0)
            {
                return "x509: certificate signed by unknown authority " + who + ": "
                    + (options.TrustedCaFile.Length == 0
                        ? "no trusted-ca-file is given and the system does not know that authority"
                        : options.TrustedCaFile + " does not hold that authority");
            }

            return (all & X509ChainStatusFlags.NotValidForUsage) != 0
                ? "x509: certificate specifies an incompatible key usage " + who + ": it needs extended key usage "
                    + (isDialler ? "serverAuth" : "clientAuth")
                : "x509: certificate is not valid " + who + ": " + all;
        }

        return !isDialler || Carries(shown, host)
            ? null
            : "x509: certificate is valid for " + Names(shown) + ", not " + host + ": it needs that name among its subject alternative names";
    }

    private string? JudgeNames(X509Certificate2 shown)
    {
        if (options.AllowedNames.Count == 0 && options.AllowedHosts.Count == 0)
        {
            return null;
        }

        string name = shown.GetNameInfo(X509NameType.SimpleName, forIssuer: false);
        foreach (string allowed in options.AllowedNames)
        {
            if (name == allowed)
            {
                return null;
            }
        }

        foreach (string allowed in options.AllowedHosts)
        {
            if (Carries(shown, allowed))
            {
                return null;
            }
        }

        return "client certificate authentication failed: common name " + name + ", alternative names " + Names(shown)
            + (options.AllowedNames.Count != 0 ? "; allowed common names " + string.Join(',', options.AllowedNames)
                : "; allowed host names " + string.Join(',', options.AllowedHosts));
    }

    private string? JudgeBearer(X509Certificate2 shown, X509Chain? chain)
    {
        if (options.CrlFile.Length != 0 && IsRevoked(shown, chain, out string why))
        {
            return why;
        }

        if (options.SkipAddressCheck || from is null)
        {
            return null;
        }

        (List<IPAddress> addresses, List<string> names) = AlternativeNames(shown);
        IPAddress bearer = from.IsIPv4MappedToIPv6 ? from.MapToIPv4() : from;
        if ((addresses.Count == 0 && names.Count == 0) || addresses.Contains(bearer) || IsAny(names, bearer))
        {
            return null;
        }

        return "tls: the certificate is for " + Names(shown) + ", but its bearer comes from " + bearer
            + ": add that address, or a name that resolves to it, or set --peer-skip-client-san-verification";
    }

    // Any serial of the chain in the list refuses it; the list's own signature is not looked at, as in etcd.
    private bool IsRevoked(X509Certificate2 shown, X509Chain? chain, out string why)
    {
        why = "";
        CertificateRevocationListBuilder list;
        try
        {
            list = CertificateRevocationListBuilder.Load(TlsFiles.Read(options.CrlFile), out BigInteger _);
        }
        catch (Exception e) when (e is TlsException or CryptographicException)
        {
            why = "the revocation list cannot be read (" + options.CrlFile + ", it has to be DER): " + e.Message;
            return true;
        }

        var all = new List<X509Certificate2> { shown };
        foreach (X509ChainElement element in chain?.ChainElements ?? (IEnumerable<X509ChainElement>)[])
        {
            all.Add(element.Certificate);
        }

        foreach (X509Certificate2 certificate in all)
        {
            if (list.RemoveEntry(certificate.SerialNumberBytes.Span))
            {
                why = "transport: certificate serial " + certificate.SerialNumber + " revoked";
                return true;
            }
        }

        return false;
    }

    // By name: the names that the address has, or the addresses that a name has.
    private static bool IsAny(List<string> names, IPAddress bearer)
    {
        if (names.Count == 0)
        {
            return false;
        }

        string known = "";
        try
        {
            known = Dns.GetHostEntry(bearer).HostName;
        }
        catch (SocketException)
        {
            // It has no name.
        }

        foreach (string name in names)
        {
            bool wild = name.StartsWith("*.", StringComparison.Ordinal);
            int dot = known.IndexOf('.', StringComparison.Ordinal);
            if (string.Equals(name, known, StringComparison.OrdinalIgnoreCase)
                || (wild && dot > 0 && known.AsSpan(dot).Equals(name.AsSpan(1), StringComparison.OrdinalIgnoreCase)))
            {
                return true;
            }

            try
            {
                if (!wild && Array.IndexOf(Dns.GetHostAddresses(name), bearer) >= 0)
                {
                    return true;
                }
            }
            catch (SocketException)
            {
                // It has no address.
            }
        }

        return false;
    }

    private static (List<IPAddress> Addresses, List<string> Names) AlternativeNames(X509Certificate2 shown)
    {
        List<IPAddress> addresses = [];
        List<string> names = [];
        foreach (X509Extension extension in shown.Extensions)
        {
            if (extension is X509SubjectAlternativeNameExtension alternative)
            {
                addresses.AddRange(alternative.EnumerateIPAddresses());
                names.AddRange(alternative.EnumerateDnsNames());
            }
        }

        return (addresses, names);
    }

    // A name that can be none is in no certificate.
    private static bool Carries(X509Certificate2 shown, string name) => Uri.CheckHostName(name) != UriHostNameType.Unknown
        && !name.StartsWith('*') && shown.MatchesHostname(name, allowWildcards: true, allowCommonName: false);

    private static string Names(X509Certificate2 shown)
    {
        (List<IPAddress> addresses, List<string> names) = AlternativeNames(shown);
        names.AddRange(addresses.ConvertAll(static address => address.ToString()));
        return names.Count == 0 ? "no name at all" : string.Join(',', names);
    }
}
