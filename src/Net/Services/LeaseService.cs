// LeaseService: the unary calls of etcdserverpb.Lease; the stream is in LeaseKeepAlive. Any I/O thread.
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Grant, revoke, time to live, list.</summary>
internal sealed class LeaseService(MemberPort port)
{
    public RpcStep Grant(RpcCall call)
    {
        if (!LeaseGrantRequest.TryParse(call.Request, out LeaseGrantRequest grant))
        {
            return RefuseStep(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = port.AdmitWrite(call, RequestKind.LeaseGrant);
        if (refusal != ErrorCode.None)
        {
            return RefuseStep(call, refusal);
        }

        while (grant.Id == 0)
        {
            grant.Id = port.Member.NextLeaseId();
        }

        RequestSlot slot = port.Rent(call);
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.LeaseGrant, grant.Size));
        grant.Write(ref writer);
        return port.Propose(call, slot);
    }

    public RpcStep Revoke(RpcCall call)
    {
        if (!LeaseIdRequest.TryParse(call.Request, out LeaseIdRequest revoke))
        {
            return RefuseStep(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            return RefuseStep(call, refusal);
        }

        RequestSlot slot = port.Rent(call);
        slot.Lane = ProposalLane.Control;
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.LeaseRevoke, revoke.Size));
        revoke.Write(ref writer);
        return port.Propose(call, slot);
    }

    public ValueTask TimeToLiveAsync(RpcCall call)
        => LeaseTimeToLiveRequest.TryParse(call.Request, out LeaseTimeToLiveRequest request)
            ? QueryAsync(call, new StoreQuery(StoreQueryKind.LeaseTimeToLive, request.Id, request.Keys))
            : Refuse(call, ErrorCode.MalformedRequest);

    public ValueTask LeasesAsync(RpcCall call)
        => MemberPort.IsMessage(call.Request)
            ? QueryAsync(call, null)
            : Refuse(call, ErrorCode.MalformedRequest);

    private static RpcStep RefuseStep(RpcCall call, ErrorCode refusal)
    {
        call.Fail(refusal);
        return RpcStep.Done;
    }

    private static ValueTask Refuse(RpcCall call, ErrorCode refusal)
    {
        call.Fail(refusal);
        return ValueTask.CompletedTask;
    }

    private async ValueTask QueryAsync(RpcCall call, StoreQuery? query)
    {
        call.ReleaseRequest();
        ErrorCode outcome = port.Admit(call);
        if (outcome != ErrorCode.None)
        {
            call.Fail(outcome);
            return;
        }

        RequestSlot slot = port.Rent(call);
        try
        {
            if (query is null)
            {
                outcome = await port.Member.ListLeasesAsync(slot);
            }
            else
            {
                outcome = await port.Member.LeaseTimeToLiveAsync(slot, query.Value, port.Deadline(call));
            }

            if (outcome == ErrorCode.None)
            {
                await port.AnswerAsync(call, slot);
            }
            else
            {
                call.Fail(port.Explain(call, outcome));
            }
        }
        finally
        {
            port.Member.Return(slot);
        }
    }
}
