// SnapshotActor: writes .snap files, a thread of its own because it waits for the disk.
//
// Order (storage.md §3.4, raft.md §2.4.6): the tree holds the captured point durably (SnapshotPlan waits for that)
// -> .snap written and synced with its directory -> raft puts the snapshot record and a hard state with
// commit >= its index into the WAL and syncs -> only then segments below are released.
using System;
using Cairn.Base;
using Cairn.Wal;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>A captured point on its way into a snapshot file and the WAL. Immutable.</summary>
internal sealed class SnapshotJob
{
    internal required ulong Index { get; init; }

    internal required ulong Term { get; init; }

    /// <summary>raftpb.ConfState bytes.</summary>
    internal required byte[] ConfState { get; init; }

    /// <summary>The v2 store as JSON (storage.md §4.1), which etcd 3.5 reads at its start.</summary>
    internal required byte[] V2Json { get; init; }
}

/// <summary>Saves snapshot files and purges old ones.</summary>
internal sealed class SnapshotActor : IActor
{
    private readonly IFileSystem _files;
    private readonly string _directory;
    private readonly int _keep;
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
        SpscRing<SnapshotJob> jobs,
        SpscRing<SnapshotJob> saved,
        IWaker raft)
    {
        _files = environment.FileSystem;
        _directory = directory;
        _keep = keep;
        _fatal = environment.Fatal;
        _log = environment.Log;
        _jobs = jobs;
        _saved = saved;
        _raft = raft;
        _warn = line => ServerLog.Warning(_log, line);
    }

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
            SnapFile.Save(_files, _directory, job.Term, job.Index, job.ConfState, job.V2Json);
            SnapFile.Purge(_files, _directory, _keep, _warn);
        }
        catch (FileSystemException e)
        {
            _fatal.Stop($"failed to save the snapshot file of index {job.Index}: {e.Message}", e);
        }

        ServerLog.SavedSnapshot(_log, job.Index);
    }
}
