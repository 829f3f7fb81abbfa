// SnapshotPlan: when a snapshot is due, and the wait for its tree commit. Owned by the store thread.
//
// A snapshot is a captured freeze whose commit is durable, never merely "applied" (design §3). One at a time.
using Cairn.Base;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Turns every N-th freeze into a snapshot.</summary>
internal sealed class SnapshotPlan
{
    private readonly ulong _every;
    private readonly SpscRing<SnapshotJob> _jobs;
    private readonly IWaker _actor;
    private readonly ILogger _log;
    private ulong _last;
    private SnapshotJob? _captured;

    internal SnapshotPlan(ulong every, ulong last, SpscRing<SnapshotJob> jobs, IWaker actor, ILogger log)
    {
        _every = every;
        _last = last;
        _jobs = jobs;
        _actor = actor;
        _log = log;
    }

    /// <summary>A snapshot of the leader took the state's place.</summary>
    internal void Reset(ulong index)
    {
        _captured = null;
        _last = index;
    }

    /// <summary>A freeze was handed to the tree; takes its point if a snapshot is due.</summary>
    internal void Captured(ulong index, ulong term, StateMachine machine)
    {
        if (_captured is not null || index - _last <= _every)
        {
            return;
        }

        ServerLog.TriggeringSnapshot(_log, index, _last, _every);
        _captured = new SnapshotJob
        {
            Index = index,
            Term = term,
            ConfState = machine.ConfStateBytes,
            V2Json = machine.V2Json(),
        };
    }

    /// <summary>Passes the captured point on once the tree holds it.</summary>
    internal bool Poll(ulong durableIndex)
    {
        if (_captured is null || durableIndex < _captured.Index || !_jobs.TryEnqueue(_captured))
        {
            return false;
        }

        _last = _captured.Index;
        _captured = null;
        _actor.Wake();
        return true;
    }
}
