// StreamGuard: ends streams that asked for a leader (metadata hasleader) when there has been none at three looks, one
// election timeout apart, as etcd does.
//
// Thread     cairn:streams, woken once per election timeout; the work is one volatile read.
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Net.Rpc;

namespace Cairn.Net.Services;

/// <summary>The watch over missing leaders.</summary>
internal sealed class StreamGuard(MemberPort port, StreamSet streams) : IActor
{
    /// <summary>Looks without a leader before streams end.</summary>
    private const int PatienceLooks = 3;

    private readonly long _intervalNs = port.Member.Options.ElectionMs * 1_000_000L;
    private int _leaderless;

    public string RoleName => "streams";

    public long NextDeadlineNs { get; private set; }

    public bool Poll(long nowNs)
    {
        if (nowNs < NextDeadlineNs)
        {
            return false;
        }

        bool first = NextDeadlineNs == 0;
        NextDeadlineNs = nowNs + _intervalNs;
        if (first)
        {
            return false;
        }

        _leaderless = port.Member.Status.Leader == 0 ? _leaderless + 1 : 0;
        if (_leaderless >= PatienceLooks)
        {
            (int code, string message) = Errors.Get(ErrorCode.NoLeader);
            streams.EndLeaderless((RpcCode)code, message);
        }

        return false;
    }
}
