// RpcLog: the log lines of the gRPC layer.
using System;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Rpc;

internal static partial class RpcLog
{
    private const string Caller = "rpc/RpcCall.cs";

    [LoggerMessage(EventId = 1, Level = LogLevel.Error, Message = "a request handler failed", EventName = Caller)]
    public static partial void HandlerFailed(ILogger logger, string method, Exception error);

    [LoggerMessage(EventId = 3, Level = LogLevel.Warning, Message = "request stats", EventName = Caller)]
    public static partial void SlowCall(ILogger logger, string method, string timeSpent, string status);

    [LoggerMessage(EventId = 2, Level = LogLevel.Error, Message = "a request handler ended without an answer", EventName = Caller)]
    public static partial void NoAnswer(ILogger logger, string method);
}
