// KvService: etcdserverpb.KV. Decode, check, submit, answer; no decisions of its own.
//
// Write      checks -> canonical bytes straight into the slot's payload block -> Member.ProposeAsync -> the response
//            body that apply encoded -> the connection. Nothing is allocated on the managed heap.
// Read       barrier (unless serializable) -> pin a View -> the store encodes the answer -> the connection. Where a
//            page would have to come from the disk, or the answer is large, the read is done again on a thread that may
//            take its time.
// Thread     any I/O thread.
using System.Threading.Tasks;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>Range, put, delete, txn, compact.</summary>
internal sealed class KvService
{
    private readonly RpcResume _finishRange;
    private readonly RpcResume _finishColdRange;
    private readonly RpcResume _finishTxn;
    private readonly MemberPort _port;

    public KvService(MemberPort port)
    {
        _port = port;
        _finishRange = (call, slot, outcome) => FinishRead(call, (RequestSlot)slot, outcome, isTxn: false);
        _finishColdRange = (call, slot, outcome) =>
        {
            _port.Figures.Range(outcome, _port.Clock.NowNs - ((RequestSlot)slot).ProposedNs);
            return _port.Ended(call, slot, outcome);
        };
        _finishTxn = (call, slot, outcome) => FinishRead(call, (RequestSlot)slot, outcome, isTxn: true);
    }

    private enum TxnRoute
    {
        Refused,
        Log,
        LinearizableRead,
        SerializableRead,
    }

    public RpcStep Range(RpcCall call)
    {
        ErrorCode refusal = CheckRange(call, out bool serializable);
        if (refusal != ErrorCode.None)
        {
            call.Fail(refusal);
            return RpcStep.Done;
        }

        return Read(call, serializable, _finishRange);
    }

    public RpcStep Put(RpcCall call)
    {
        if (!RequestCanon.TryPlanPut(call.Request, out PutRequest put, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = _port.AdmitWrite(call, RequestKind.Put);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckPut(put);
        }

        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        return _port.Propose(call, Fill(_port.Rent(call), plan, isLight: true));
    }

    public RpcStep DeleteRange(RpcCall call)
    {
        if (!RequestCanon.TryPlanDeleteRange(call.Request, out DeleteRangeRequest delete, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = _port.Admit(call);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckDeleteRange(delete);
        }

        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        return _port.Propose(call, Fill(_port.Rent(call), plan, delete.RangeEnd.IsEmpty));
    }

    public RpcStep Txn(RpcCall call)
    {
        switch (RouteTxn(call, out RequestSlot? slot))
        {
            case TxnRoute.Log:
                return _port.Propose(call, slot!);
            case TxnRoute.LinearizableRead:
                return Read(call, serializable: false, _finishTxn);
            case TxnRoute.SerializableRead:
                return Read(call, serializable: true, _finishTxn);
            default:
                return RpcStep.Done;
        }
    }

    public RpcStep Compact(RpcCall call)
    {
        if (!RequestCanon.TryPlanCompaction(call.Request, out _, out CanonPlan plan))
        {
            return Refuse(call, ErrorCode.MalformedRequest);
        }

        ErrorCode refusal = _port.Admit(call);
        if (refusal != ErrorCode.None)
        {
            return Refuse(call, refusal);
        }

        RequestSlot slot = _port.Rent(call);
        slot.Lane = ProposalLane.Control;
        return _port.Propose(call, Fill(slot, plan, isLight: false));
    }

    private static RpcStep Refuse(RpcCall call, ErrorCode refusal)
    {
        call.Fail(refusal);
        return RpcStep.Done;
    }

    private static RequestSlot Fill(RequestSlot slot, scoped in CanonPlan plan, bool isLight)
    {
        plan.WriteTo(slot.BeginRequest(plan.Kind, plan.Length));
        slot.IsLight = isLight;
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
        ErrorCode refusal = _port.Admit(call, learnerMayServe: serializable);
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

        ErrorCode refusal = _port.AdmitWrite(call, RequestKind.Txn);
        if (refusal == ErrorCode.None)
        {
            refusal = RequestChecks.CheckTxn(txn, _port.MaxTxnOps);
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

        slot = Fill(_port.Rent(call), RequestCanon.PlanTxn(txn, unusual), RequestChecks.IsLight(txn));
        return TxnRoute.Log;
    }

    private RpcStep Read(RpcCall call, bool serializable, RpcResume finish)
    {
        RequestSlot slot = _port.Rent(call);
        if (serializable)
        {
            return finish(call, slot, ErrorCode.None);
        }

        ValueTask<ErrorCode> barrier = _port.Member.ReadIndexAsync(slot, _port.Deadline(call));
        return barrier.IsCompletedSuccessfully
            ? finish(call, slot, barrier.Result)
            : new RpcStep(barrier, finish, slot);
    }

    private RpcStep FinishRead(RpcCall call, RequestSlot slot, ErrorCode outcome, bool isTxn)
    {
        bool answered = true;
        if (outcome == ErrorCode.None)
        {
            // When the read itself began; a read has no proposal.
            slot.ProposedNs = _port.Clock.NowNs;
            ViewPin pin = _port.Store.Pin();
            try
            {
                answered = isTxn
                    ? _port.Store.TryReadTxnNow(call.Request, pin, _port.Header(), ref slot.Response, out outcome)
                    : _port.Store.TryRangeNow(call.Request, pin, _port.Header(), ref slot.Response, out outcome);
            }
            finally
            {
                _port.Store.Unpin(pin);
            }

            if (answered && !isTxn)
            {
                _port.Figures.Range(outcome, _port.Clock.NowNs - slot.ProposedNs);
            }
        }

        if (!answered)
        {
            ColdReadKind kind = isTxn ? ColdReadKind.Txn : ColdReadKind.Range;
            ValueTask<ErrorCode> read = _port.Member.ReadColdAsync(slot, kind, call.Request);
            call.ReleaseRequest();
            return new RpcStep(read, isTxn ? _port.Ended : _finishColdRange, slot);
        }

        call.ReleaseRequest();
        return _port.Finish(call, slot, outcome);
    }
}
