// RpcServerState: what all calls of one server share. Immutable but for the counters, which any I/O thread bumps.
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
}
