// SnapshotActor: writes .snap files, a thread of its own because it waits for the disk.
//
// Order (storage.md §3.4, raft.md §2.4.6): the tree holds the captured point durably (SnapshotPlan waits for that)
// -> .snap written and synced with its directory -> raft puts the snapshot record and a hard state with
// commit >= its index into the WAL and syncs -> only then segments below are released.
using System;
using System.Buffers;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Wal;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>
/// A captured point on its way into a snapshot file and the WAL: store fills it, snap and raft read it, and it goes
/// back to the plan when raft has put its mark into the log.
/// </summary>
internal sealed class SnapshotJob
{
    private bool _inUse;

    internal ulong Index { get; private set; }

    internal ulong Term { get; private set; }

    /// <summary>raftpb.ConfState bytes; never changed once made.</summary>
    internal byte[] ConfState { get; private set; } = [];

    /// <summary>The members as of that point, from which the v2 JSON is made (storage.md §4.1).</summary>
    internal ClusterView Members { get; private set; } = null!;

    /// <summary>Somebody behind the store still needs it.</summary>
    internal bool InUse => Volatile.Read(ref _inUse);

    /// <summary>Store thread; only while not in use.</summary>
    internal void Fill(ulong index, ulong term, byte[] confState, ClusterView members)
    {
        Index = index;
        Term = term;
        ConfState = confState;
        Members = members;
        Volatile.Write(ref _inUse, true);
    }

    /// <summary>Raft thread, last of all.</summary>
    internal void Release() => Volatile.Write(ref _inUse, false);
}

/// <summary>Saves snapshot files and purges old ones.</summary>
internal sealed class SnapshotActor : IActor
{
    private readonly IFileSystem _files;
    private readonly IClock _clock;
    private readonly string _directory;
    private readonly int _keep;
    private readonly ulong _every;
    private ulong _last;
    private readonly IFatal _fatal;
    private readonly ILogger _log;
    private readonly SpscRing<SnapshotJob> _jobs;
    private readonly SpscRing<SnapshotJob> _saved;
    private readonly IWaker _raft;
    private readonly Action<string> _warn;
    private SnapshotJob? _waiting;

    internal SnapshotActor(
        MemberEnvironment environment,
        string directory,
        int keep,
        ulong every,
        ulong last,
        SpscRing<SnapshotJob> jobs,
        SpscRing<SnapshotJob> saved,
        IWaker raft)
    {
        _files = environment.FileSystem;
        _clock = environment.Clock;
        _directory = directory;
        _keep = keep;
        _every = every;
        _last = last;
        _fatal = environment.Fatal;
        _log = environment.Log;
        _jobs = jobs;
        _saved = saved;
        _raft = raft;
        _warn = line => ServerLog.Warning(_log, line);
    }

    /// <summary>What saving took. Any thread.</summary>
    internal SnapFigures Figures { get; } = new();

    /// <inheritdoc/>
    public string RoleName => "snap";

    /// <inheritdoc/>
    public long NextDeadlineNs => _waiting is null ? long.MaxValue : 0;

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (_waiting is null)
        {
            if (!_jobs.TryDequeue(out SnapshotJob job))
            {
                return false;
            }

            Save(job);
            _waiting = job;
        }

        if (_saved.TryEnqueue(_waiting))
        {
            _waiting = null;
            _raft.Wake();
            return true;
        }

        return false;
    }

    private void Save(SnapshotJob job)
    {
        try
        {
            ServerLog.TriggeringSnapshot(_log, job.Index, _last, _every);
            _last = job.Index;
            var json = new ArrayBufferWriter<byte>(1024);
            V2Store.Write(json, job.Members);
            SnapFile.Save(_files, _directory, job.Term, job.Index, job.ConfState, json.WrittenSpan, _clock, Figures);
            SnapFile.Purge(_files, _directory, _keep, _warn);
        }
        catch (FileSystemException e)
        {
            _fatal.Stop($"failed to save the snapshot file of index {job.Index}: {e.Message}", e);
        }

        ServerLog.SavedSnapshot(_log, job.Index);
    }
}
