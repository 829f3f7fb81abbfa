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

    [LoggerMessage(EventId = 2, Level = LogLevel.Information,
        Message = "serving client traffic insecurely; this is strongly discouraged!", EventName = Caller)]
    public static partial void Serving(ILogger logger, string traffic);
}
