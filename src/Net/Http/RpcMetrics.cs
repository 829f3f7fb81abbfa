// RpcMetrics: the names of what the gRPC layer counts. The label sets of every method are there from the start with
// zeros, but for the lock and election services, which etcd, too, shows only once they are used.
using System;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Net.Rpc;

namespace Cairn.Net.Http;

/// <summary>The metrics of calls.</summary>
internal static class RpcMetrics
{
    private static readonly long[] s_bounds =
    [
        5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000,
        5_000_000_000, 10_000_000_000,
    ];

    public static void AddTo(MetricsPage page, RpcServerState rpc, bool timed)
    {
        page.Counter("etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.",
            () => Volatile.Read(ref rpc.BytesReceived));
        page.Counter("etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.",
            () => Volatile.Read(ref rpc.BytesSent));
        page.Add("etcd_server_client_requests_total", "The total number of client requests per client version.",
            MetricKind.Counter, writer => WriteVersions(writer, rpc.Clients));

        var methods = new List<(string Labels, RpcMethod Method)>();
        foreach (RpcMethod method in rpc.Table.Methods)
        {
            string labels = MetricsWriter.Labels(
                ("grpc_type", method.KindLabel), ("grpc_service", method.Service), ("grpc_method", method.Name));
            methods.Add((labels, method));
            if (timed)
            {
                method.Durations = new SharedDistribution(s_bounds, 1e9);
            }
        }

        methods.Sort(static (a, b) => string.CompareOrdinal(a.Labels, b.Labels));
        Each("grpc_server_started_total", "Total number of RPCs started on the server.", static m => m.Started);
        Each("grpc_server_msg_received_total", "Total number of RPC stream messages received on the server.",
            static m => m.MessagesReceived);
        Each("grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.", static m => m.MessagesSent);
        page.Add("grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.", MetricKind.Counter,
            writer => WriteHandled(writer, methods));
        if (timed)
        {
            page.Add("grpc_server_handling_seconds",
                "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
                MetricKind.Histogram, writer =>
                {
                    foreach ((string labels, RpcMethod method) in methods)
                    {
                        if (IsShown(method))
                        {
                            writer.Samples(labels, method.Durations!);
                        }
                    }
                });
        }

        void Each(string name, string help, Func<RpcMethod, long> value)
            => page.Add(name, help, MetricKind.Counter, writer =>
            {
                foreach ((string labels, RpcMethod method) in methods)
                {
                    if (IsShown(method))
                    {
                        writer.Sample(labels, value(method));
                    }
                }
            });
    }

    private static bool IsShown(RpcMethod method)
        => method.Started != 0 || !(method.Service.StartsWith("v3", StringComparison.Ordinal));

    private static void WriteHandled(MetricsWriter writer, List<(string Labels, RpcMethod Method)> methods)
    {
        var codes = new RpcCode[RpcCodes.Count];
        for (int i = 0; i < codes.Length; i++)
        {
            codes[i] = (RpcCode)i;
        }

        Array.Sort(codes, static (a, b) => string.CompareOrdinal(RpcCodes.Name(a), RpcCodes.Name(b)));
        foreach (RpcCode code in codes)
        {
            string first = "grpc_code=\"" + RpcCodes.Name(code) + "\",";
            foreach ((string labels, RpcMethod method) in methods)
            {
                if (IsShown(method))
                {
                    writer.Sample(first + labels, method.Handled(code));
                }
            }
        }
    }

    private static void WriteVersions(MetricsWriter writer, ClientVersions clients)
    {
        var lines = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach ((string version, long unary, long stream) in clients.All())
        {
            lines.Add(MetricsWriter.Labels(("type", "stream"), ("client_api_version", version)), stream);
            lines.Add(MetricsWriter.Labels(("type", "unary"), ("client_api_version", version)), unary);
        }

        foreach ((string labels, long count) in lines)
        {
            if (count != 0)
            {
                writer.Sample(labels, count);
            }
        }
    }
}
