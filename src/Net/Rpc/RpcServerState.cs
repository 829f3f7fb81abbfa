// RpcServerState: what all calls of one server share. Immutable but for the counters, which any I/O thread bumps.
using System.Globalization;
using Cairn.Base;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Rpc;

/// <summary>Table, limits and counters of one server.</summary>
internal sealed class RpcServerState
{
    /// <summary>Bytes of request messages (<c>etcd_network_client_grpc_received_bytes_total</c>).</summary>
    public long BytesReceived;

    /// <summary>Bytes of answer messages (<c>etcd_network_client_grpc_sent_bytes_total</c>).</summary>
    public long BytesSent;

    /// <summary>Calls by client version.</summary>
    public ClientVersions Clients { get; } = new();

    /// <summary>Streams under way.</summary>
    public StreamSet Streams { get; } = new();

    public required RpcTable Table { get; init; }

    public required IClock Clock { get; init; }

    public required ILogger Logger { get; init; }

    /// <summary>Unary calls that take longer are logged, ns.</summary>
    public long WarningUnaryNs { get; init; } = long.MaxValue;

    /// <summary>Largest request message in bytes, packed or unpacked.</summary>
    public required int MaxMessageSize { get; init; }

    /// <summary>A call has been admitted.</summary>
    public void CountStarted(RpcMethod method, string? clientVersion)
    {
        method.CountStarted();
        Clients.Count(clientVersion, method.Kind == RpcKind.Unary);
    }

    /// <summary>The handler of a call has ended: how long it took, and a line if that was long for a unary one.</summary>
    public void Measure(RpcCall call)
    {
        RpcMethod method = call.Method;
        long took = Clock.NowNs - call.ReceivedNs;
        method.Durations?.Observe(took);
        if (took > WarningUnaryNs && method.Kind == RpcKind.Unary)
        {
            string milliseconds = (took / 1e6).ToString("0.######", CultureInfo.InvariantCulture) + "ms";
            RpcLog.SlowCall(Logger, method.Path, milliseconds, RpcCodes.Name(call.Status));
        }
    }
}
