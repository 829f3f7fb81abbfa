// SnapshotPlan: when a snapshot is due, and the wait for its tree commit. Owned by the store thread.
//
// A snapshot is a captured freeze whose commit is durable, never merely "applied" (design §3). One at a time.
using Cairn.Base;

namespace Cairn.Core.Server;

/// <summary>Turns every N-th freeze into a snapshot.</summary>
internal sealed class SnapshotPlan
{
    private const int JobsMax = 4; // what the ring between store and snap holds

    private readonly ulong _every;
    private readonly SpscRing<SnapshotJob> _jobs;
    private readonly IWaker _actor;
    private readonly SnapshotJob[] _made = new SnapshotJob[JobsMax];
    private ulong _last;
    private SnapshotJob? _captured;

    internal SnapshotPlan(ulong every, ulong last, SpscRing<SnapshotJob> jobs, IWaker actor)
    {
        _every = every;
        _last = last;
        _jobs = jobs;
        _actor = actor;
        for (int i = 0; i < JobsMax; i++)
        {
            _made[i] = new SnapshotJob();
        }
    }

    /// <summary>A snapshot of the leader took the state's place.</summary>
    internal void Reset(ulong index)
    {
        _captured?.Release();
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

        // With all of them on their way the next freeze will do.
        foreach (SnapshotJob job in _made)
        {
            if (!job.InUse)
            {
                job.Fill(index, term, machine.ConfStateBytes, machine.Cluster.View);
                _captured = job;
                return;
            }
        }
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
