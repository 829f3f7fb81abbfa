// RpcErrors: the step from an internal refusal to a status. The table itself is Core's (Errors.Get).
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

internal static class RpcErrors
{
    /// <summary>Ends the call with the code and text clients know.</summary>
    public static void Fail(this RpcCall call, ErrorCode error)
    {
        (int code, string message) = Errors.Get(error);
        call.Fail((RpcCode)code, message);
    }
}
