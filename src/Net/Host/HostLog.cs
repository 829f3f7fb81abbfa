// HostLog: the log lines of the host.
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Host;

internal static partial class HostLog
{
    private const string Caller = "host/MemberHost.cs";

    [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "ready to serve client requests", EventName = Caller)]
    public static partial void Ready(ILogger logger);

    [LoggerMessage(EventId = 3, Level = LogLevel.Information, Message = "starting an etcd server", EventName = Caller)]
    public static partial void Starting(
        ILogger logger, string etcdVersion, string cairnVersion, int maxCpuAvailable, string name, string dataDir,
        string walDir, ulong snapshotCount, int heartbeatIntervalMs, int electionTimeoutMs, string initialCluster,
        string listenPeerUrls, string listenClientUrls, string advertiseClientUrls, long quotaBackendBytes,
        int maxRequestBytes);

    [LoggerMessage(EventId = 4, Level = LogLevel.Warning, Message = "automatically generate certificates", EventName = Caller)]
    public static partial void SelfSigned(ILogger logger, string directory);

    [LoggerMessage(EventId = 5, Level = LogLevel.Warning, Message = "ignoring peer auto TLS since certs given", EventName = Caller)]
    public static partial void IgnoringAutoTls(ILogger logger);

    [LoggerMessage(EventId = 6, Level = LogLevel.Warning,
        Message = "scheme is HTTP while key and cert files are present; ignoring key and cert files", EventName = Caller)]
    public static partial void IgnoringCertificates(ILogger logger, string peerUrl);

    [LoggerMessage(EventId = 7, Level = LogLevel.Warning,
        Message = "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL", EventName = Caller)]
    public static partial void IgnoringClientAuth(ILogger logger, string peerUrl);

    [LoggerMessage(EventId = 2, Level = LogLevel.Information,
        Message = "serving client traffic insecurely; this is strongly discouraged!", EventName = Caller)]
    public static partial void Serving(ILogger logger, string traffic);
}
