// TlsOptions: what the flags say about TLS on one side of a member (its peers, or its clients). Immutable.
using System.Collections.Generic;
using System.Security.Authentication;

namespace Cairn.Net.Tls;

/// <summary>Files and rules; all empty: no certificate of our own, the system's authorities for others'.</summary>
public sealed record TlsOptions
{
    /// <summary>PEM certificate, intermediates behind it; empty for none.</summary>
    public string CertFile { get; init; } = "";

    /// <summary>Its PEM key.</summary>
    public string KeyFile { get; init; } = "";

    /// <summary>Another certificate for outgoing connections; empty: the same.</summary>
    public string ClientCertFile { get; init; } = "";

    /// <summary>Its key.</summary>
    public string ClientKeyFile { get; init; } = "";

    /// <summary>PEM certificates of the authorities whose certificates are believed; empty: the system's.</summary>
    public string TrustedCaFile { get; init; } = "";

    /// <summary>DER revocation list; empty for none. Read at every handshake, as etcd 3.6 does.</summary>
    public string CrlFile { get; init; } = "";

    /// <summary>Who connects has to show a certificate. A CA file demands it too.</summary>
    public bool ClientCertAuth { get; init; }

    /// <summary>Make a self-signed certificate when none is given, and believe everybody's.</summary>
    public bool AutoTls { get; init; }

    /// <summary>How long a self-signed certificate lasts, years.</summary>
    public ulong SelfSignedYears { get; init; } = 1;

    /// <summary>Common names believed; empty for all. Not together with <see cref="AllowedHosts"/>.</summary>
    public IReadOnlyList<string> AllowedNames { get; init; } = [];

    /// <summary>Host names of which a certificate must carry one; empty for all.</summary>
    public IReadOnlyList<string> AllowedHosts { get; init; } = [];

    /// <summary>A certificate need not name the address its bearer connects from.</summary>
    public bool SkipAddressCheck { get; init; }

    /// <summary>The name looked for in certificates of those we dial, instead of the host in their URL; empty for that.</summary>
    public string ServerName { get; init; } = "";

    /// <summary>Versions spoken.</summary>
    public SslProtocols Protocols { get; init; } = SslProtocols.Tls12 | SslProtocols.Tls13;

    /// <summary>No certificate of our own is given.</summary>
    public bool IsEmpty => CertFile.Length == 0 && KeyFile.Length == 0;

    /// <summary>Who connects has to show a certificate.</summary>
    public bool DemandsCertificate => ClientCertAuth || TrustedCaFile.Length != 0;
}
