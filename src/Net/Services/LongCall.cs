// LongCall: a call of the lock or election service as their logic sees it, and how such calls fail.
//
// Codes      etcd's services are clients of their own server: what the store refuses arrives as UNKNOWN with its text. Only
//            what is refused before the service is asked, and the end of the caller's patience, keep their codes.
using System.Threading.Tasks;
using Cairn.Core.Coordination;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>The caller behind an RPC that may wait.</summary>
internal sealed class LongCall(RpcCall call, MemberPort port) : ICaller
{
    public bool IsGone => call.IsOver;

    public long DeadlineNs => call.DeadlineNs;

    public RequestSlot Rent() => port.Rent(call);

    public ValueTask WaitAsync() => call.WaitAsync();

    public void Wake() => call.Notify();

    /// <summary>Ends the call; one that is over already has its status.</summary>
    public void Fail(ErrorCode outcome)
    {
        outcome = port.Explain(call, outcome);
        if (outcome is ErrorCode.ContextCanceled or ErrorCode.ContextDeadlineExceeded)
        {
            call.Fail(outcome);
        }
        else if (!call.IsOver)
        {
            call.Fail(RpcCode.Unknown, Errors.Get(outcome).Message);
        }
    }
}
