// HostLog: the log lines of the host.
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Host;

internal static partial class HostLog
{
    private const string Caller = "host/MemberHost.cs";

    [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "ready to serve client requests", EventName = Caller)]
    public static partial void Ready(ILogger logger);

    [LoggerMessage(EventId = 2, Level = LogLevel.Information,
        Message = "serving client traffic insecurely; this is strongly discouraged!", EventName = Caller)]
    public static partial void Serving(ILogger logger, string traffic);
}
