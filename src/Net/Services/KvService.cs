// KvService: etcdserverpb.KV. Decode, check, submit, answer; no decisions of its own.
//
// Write      checks -> canonical bytes straight into the slot's payload block -> Member.ProposeAsync -> the response
//            body that apply encoded -> the connection. Nothing is allocated on the managed heap.
// Read       barrier (unless serializable) -> pin a View -> the store encodes the answer -> the connection.
// Thread     any I/O thread.
using System.Runtime.CompilerServices;
using System.Threading.Tasks;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Range, put, delete, txn, compact.</summary>
internal sealed class KvService(MemberPort port)
{
    private enum TxnRoute
    {
        Refused,
        Log,
        LinearizableRead,
        SerializableRead,
    }

    public ValueTask RangeAsync(RpcCall call)
    {
        ErrorCode refusal = CheckRange(call, out bool serializable);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return ValueTask.CompletedTask;
        }

        return ReadAsync(call, serializable, isTxn: false);
    }

    public ValueTask PutAsync(RpcCall call)
    {
        if (!RequestCanon.TryPlanPut(call.Request, out PutRequest put, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = port.AdmitWrite(call, RequestKind.Put);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckPut(put);
        }

        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        return port.ProposeAsync(call, Fill(port.Rent(call), plan));
    }

    public ValueTask DeleteRangeAsync(RpcCall call)
    {
        if (!RequestCanon.TryPlanDeleteRange(call.Request, out DeleteRangeRequest delete, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = port.Admit(call);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckDeleteRange(delete);
        }

        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        return port.ProposeAsync(call, Fill(port.Rent(call), plan));
    }

    public ValueTask TxnAsync(RpcCall call)
    {
        switch (RouteTxn(call, out RequestSlot? slot))
        {
            case TxnRoute.Log:
                return port.ProposeAsync(call, slot!);
            case TxnRoute.LinearizableRead:
                return ReadAsync(call, serializable: false, isTxn: true);
            case TxnRoute.SerializableRead:
                return ReadAsync(call, serializable: true, isTxn: true);
            default:
                return ValueTask.CompletedTask;
        }
    }

    public ValueTask CompactAsync(RpcCall call)
    {
        if (!RequestCanon.TryPlanCompaction(call.Request, out _, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        RequestSlot slot = port.Rent(call);
        slot.Lane = ProposalLane.Control;
        return port.ProposeAsync(call, Fill(slot, plan));
    }

    private static ValueTask Refuse(RpcCall call, ErrorCode refusal)
    {
        call.Fail(refusal);
        return ValueTask.CompletedTask;
    }

    private static RequestSlot Fill(RequestSlot slot, scoped in CanonPlan plan)
    {
        plan.WriteTo(slot.BeginRequest(plan.Kind, plan.Length));
        return slot;
    }

    private ErrorCode CheckRange(RpcCall call, out bool serializable)
    {
        serializable = false;
        if (!RangeRequest.TryParse(call.Request, out RangeRequest range))
        {
            return ErrorCode.MalformedRequest;
        }

        serializable = range.Serializable;
        ErrorCode refusal = port.Admit(call, learnerMayServe: serializable);
        return refusal != ErrorCode.None ? refusal : RequestChecks.CheckRange(range);
    }

    private TxnRoute RouteTxn(RpcCall call, out RequestSlot? slot)
    {
        slot = null;
        if (!RequestCanon.TryReadTxn(call.Request, out TxnRequest txn, out bool unusual))
        {
            call.Fail(ErrorCode.MalformedRequest);
            return TxnRoute.Refused;
        }

        ErrorCode refusal = port.AdmitWrite(call, RequestKind.Txn);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckTxn(txn, port.MaxTxnOps);
        }

        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return TxnRoute.Refused;
        }

        if (RequestChecks.IsReadOnly(txn))
        {
            return RequestChecks.IsSerializable(txn) ? TxnRoute.SerializableRead : TxnRoute.LinearizableRead;
        }

        slot = Fill(port.Rent(call), RequestCanon.PlanTxn(txn, unusual));
        return TxnRoute.Log;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ReadAsync(RpcCall call, bool serializable, bool isTxn)
    {
        RequestSlot slot = port.Rent(call);
        try
        {
            ErrorCode outcome = ErrorCode.None;
            if (!serializable)
            {
                outcome = await port.Member.ReadIndexAsync(slot, port.Deadline(call));
            }

            if (outcome == ErrorCode.None)
            {
                outcome = Read(call, slot, isTxn);
            }

            if (outcome == ErrorCode.None)
            {
                call.ReleaseRequest();
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

    private ErrorCode Read(RpcCall call, RequestSlot slot, bool isTxn)
    {
        ViewPin pin = port.Store.Pin();
        try
        {
            return isTxn
                ? port.Store.ReadTxn(call.Request, pin, port.Header(), ref slot.Response)
                : port.Store.Range(call.Request, pin, port.Header(), ref slot.Response);
        }
        finally
        {
            port.Store.Unpin(pin);
        }
    }
}
