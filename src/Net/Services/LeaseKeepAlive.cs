// LeaseKeepAlive: the stream that keeps leases alive. One handler a stream, any I/O thread.
//
// Path       A keep-alive is answered by the thread that has read it: look up, move the deadline, write the answer. Answers
//            leave when no further request is at hand, so a client that sends many gets few packets.
// Limits     Per stream: one message being read, FlushBytes of answers not sent. A client that does not read stops being
//            read: its window is full, the flush waits, and what it goes on sending fills its own request window.
// Errors     An unknown lease is an answer without TTL; anything else ends the stream, as in etcd.
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Lease.LeaseKeepAlive.</summary>
internal sealed class LeaseKeepAlive(MemberPort port)
{
    private const int FlushBytes = 8 * 1024;
    private const int AnswerBytesMax = 96;

    public async ValueTask KeepAliveAsync(RpcCall call)
    {
        ErrorCode refusal = port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return;
        }

        int unsent = 0;
        while (true)
        {
            ValueTask<bool> read = call.ReadAsync();
            if (unsent > 0 && (!read.IsCompleted || unsent >= FlushBytes))
            {
                unsent = 0;
                if (!await call.FlushAsync())
                {
                    _ = await read;
                    call.Fail(RpcCode.Canceled, "context canceled");
                    return;
                }
            }

            if (!await read)
            {
                return; // half-closed, or failed already
            }

            if (!LeaseIdRequest.TryParse(call.Request, out LeaseIdRequest request))
            {
                call.Fail(RpcCode.Internal, "grpc: failed to unmarshal the received message: proto: malformed message");
                return;
            }

            call.ReleaseRequest();
            ResponseHeader header = port.Header(port.Member.Status.Revision);
            LeaseRenewal renewal = port.Member.TryRenewLease(request.Id, out long ttl);
            if (renewal != LeaseRenewal.Renewed)
            {
                if (unsent > 0)
                {
                    unsent = 0;
                    _ = await call.FlushAsync(); // what is known already does not wait for what is not
                }

                (ErrorCode outcome, ttl) = await port.Member.RenewLeaseAsync(
                    request.Id, port.Clock.NowNs + port.Member.Options.RequestTimeoutNs);
                if (outcome is not (ErrorCode.None or ErrorCode.LeaseNotFound))
                {
                    call.Fail(outcome);
                    return;
                }
            }

            unsent += Answer(call, in header, request.Id, ttl);
        }
    }

    /// <summary>LeaseKeepAliveResponse {1 header, 2 ID, 3 TTL}.</summary>
    private static int Answer(RpcCall call, in ResponseHeader header, long id, long ttl)
    {
        var writer = new ProtoWriter(stackalloc byte[AnswerBytesMax]);
        header.WriteField(ref writer);
        writer.WriteVarintFieldIfSet(2, (ulong)id);
        writer.WriteVarintFieldIfSet(3, (ulong)ttl);
        call.Write(writer.Written);
        return writer.Position;
    }
}
