// PendingCalls: questions that wait for their answers. Cold; one lock.
using System.Collections.Generic;
using System.Threading;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Calls under way by number. Any thread.</summary>
internal sealed class PendingCalls
{
    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, (PeerCall Call, UrgentSocket Socket)> _calls = [];
    private ulong _last;
    private int _count;
    private long _earliestNs = long.MaxValue; // no deadline is before this

    public bool IsEmpty => Volatile.Read(ref _count) == 0;

    /// <summary>Remembers a call that is about to be sent.</summary>
    public ulong Add(PeerCall call, UrgentSocket socket)
    {
        lock (_lock)
        {
            _calls.Add(++_last, (call, socket));
            Volatile.Write(ref _earliestNs, System.Math.Min(_earliestNs, call.DeadlineNs));
            Volatile.Write(ref _count, _calls.Count);
            return _last;
        }
    }

    /// <summary>The call that an answer is for, if it comes from where it was sent; null when nobody waits any more.</summary>
    public PeerCall? Take(ulong id, UrgentSocket from)
    {
        lock (_lock)
        {
            if (!_calls.TryGetValue(id, out (PeerCall Call, UrgentSocket Socket) found) || found.Socket != from)
            {
                return null;
            }

            _ = _calls.Remove(id);
            Volatile.Write(ref _count, _calls.Count);
            return found.Call;
        }
    }

    /// <summary>The connection is gone: nobody will answer.</summary>
    public void Fail(UrgentSocket socket) => End(pending => pending.Socket == socket);

    /// <summary>Gives up on those whose deadline has passed.</summary>
    public void Expire(long nowNs)
    {
        if (!IsEmpty && nowNs >= Volatile.Read(ref _earliestNs))
        {
            End(pending => pending.Call.DeadlineNs <= nowNs);
        }
    }

    private void End(System.Predicate<(PeerCall Call, UrgentSocket Socket)> ends)
    {
        List<PeerCall> ended = [];
        lock (_lock)
        {
            List<ulong> ids = [];
            long earliest = long.MaxValue;
            foreach ((ulong id, (PeerCall Call, UrgentSocket Socket) pending) in _calls)
            {
                if (ends(pending))
                {
                    ids.Add(id);
                    ended.Add(pending.Call);
                }
                else
                {
                    earliest = System.Math.Min(earliest, pending.Call.DeadlineNs);
                }
            }

            Volatile.Write(ref _earliestNs, earliest);

            foreach (ulong id in ids)
            {
                _ = _calls.Remove(id);
            }

            Volatile.Write(ref _count, _calls.Count);
        }

        foreach (PeerCall call in ended)
        {
            call.Complete(PeerCallOutcome.Unreachable);
        }
    }
}
