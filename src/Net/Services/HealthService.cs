// HealthService: grpc.health.v1.Health. Only the empty service name is known, as in etcd. Any I/O thread.
// Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Says that the server serves.</summary>
internal sealed class HealthService(MemberPort port)
{
    /// <summary>HealthCheckResponse{status: SERVING}.</summary>
    private static ReadOnlySpan<byte> Serving => [0x08, 0x01];

    /// <summary>HealthCheckResponse{status: SERVICE_UNKNOWN}.</summary>
    private static ReadOnlySpan<byte> Unknown => [0x08, 0x03];

    /// <summary>HealthListResponse with the one entry "" -> SERVING.</summary>
    private static ReadOnlySpan<byte> List => [0x0a, 0x06, 0x0a, 0x00, 0x12, 0x02, 0x08, 0x01];

    public ValueTask CheckAsync(RpcCall call)
    {
        ErrorCode refusal = TryReadService(call.Request, out bool isServer) ? port.Admit(call) : ErrorCode.MalformedRequest;
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
        }
        else if (isServer)
        {
            call.Write(Serving);
        }
        else
        {
            call.Fail(RpcCode.NotFound, "unknown service");
        }

        return ValueTask.CompletedTask;
    }

    public ValueTask ListAsync(RpcCall call)
    {
        ErrorCode refusal = port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return ValueTask.CompletedTask;
        }

        call.Write(List);
        return ValueTask.CompletedTask;
    }

    /// <summary>Tells the status once; it does not change while the process lives.</summary>
    public static async ValueTask WatchAsync(RpcCall call)
    {
        if (!TryReadService(call.Request, out bool isServer))
        {
            call.Fail(ErrorCode.MalformedRequest);
            return;
        }

        call.ReleaseRequest();
        call.Write(isServer ? Serving : Unknown);
        CancellationToken gone = call.Cancelled;
        if (await call.FlushAsync())
        {
            await Task.Delay(Timeout.Infinite, gone);
        }
    }

    private static bool TryReadService(ReadOnlySpan<byte> request, out bool isServer)
    {
        isServer = true;
        var reader = new ProtoReader(request);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                isServer = reader.ReadBytes().IsEmpty;
            }
            else
            {
                reader.Skip();
            }
        }

        return !reader.Failed;
    }
}
