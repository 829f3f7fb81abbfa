// RaftActor.Snapshots: records of snapshots in the WAL, what the log keeps behind them, and snapshots to and from peers.
// Raft thread.
//
// Local      SnapshotActor has the .snap file synced -> mark unit (record + hard state) -> durable -> log compacted.
// Sending    The core's Snapshot message names a point; SnapshotSender takes whatever the tree holds durably, which is at
//            least that, and reports how it ended.
// Receiving  The sink has made image and .snap durable before it delivered the message. Then: record in the WAL (one unit
//            with a hard state that covers it) -> durable -> the store switches -> Installed.
// Kept       Behind a snapshot, CatchupEntries; while a peer is being sent one, everything behind its point, up to a
//            bound, or it would need another when it is done.
using System;
using Cairn.Base;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

internal sealed unsafe partial class RaftActor
{
    private const ulong MostKept = 1_000_000;
    private ulong _lastConfIndex;

    private bool TakeInstalled()
    {
        ulong installed = _counters.InstalledIndex;
        if (installed == 0 || installed != _core.PendingSnapshot)
        {
            return false;
        }

        DropWaiters(_core.Applied, installed);
        _core.SnapshotInstalled(installed);
        FailForwarded(); // the snapshot may hold them: nobody can tell
        _lastConfIndex = installed;
        _wiring.SnapshotEnded(installed);
        ServerLog.InstalledSnapshot(_log, installed);
        PublishReads();
        return true;
    }

    private bool GiveSnapshots()
    {
        bool any = false;
        if (_wal.TakeMarked(out SnapshotJob? done))
        {
            _counters.SnapshotIndex = done.Index;
            ulong keepFrom = KeepFrom(done.Index);
            if (keepFrom > 0 && keepFrom <= _core.Applied)
            {
                _core.Compact(keepFrom);
            }

            done.Release();
        }

        if (!_wal.IsMarking && _wal.HasRoom && _core.PendingSnapshot == 0 && _snapshots.TryDequeue(out SnapshotJob job))
        {
            any = true;
            if (job.Index > _wal.LastMarkIndex)
            {
                Invariant.Check(_core.Commit >= job.Index, "a snapshot holds only what is committed");
                _wal.GiveMark(_core, job, KeepFrom(job.Index));
            }
            else
            {
                job.Release(); // a snapshot of the leader is past it
            }
        }

        while (_core.TryTakeSnapshot(out SnapshotInstall install))
        {
            bool taken = _wiring.Installs.TryEnqueue(install);
            Invariant.Check(taken, "one snapshot is installed at a time");
            _store.Wake();
            any = true;
        }

        while (_wiring.SentSnapshots.TryDequeue(out (ulong Peer, bool Succeeded) sent))
        {
            _core.ReportSnapshot(sent.Peer, sent.Succeeded);
            any = true;
        }

        OfferSnapshot();
        return any;
    }

    /// <summary>
    /// The core may send what the tree holds durably, once that contains the newest configuration. The freeze that brings
    /// it there comes by itself within a batch interval.
    /// </summary>
    private void OfferSnapshot()
    {
        if (!_core.IsSnapshotWanted)
        {
            return;
        }

        ulong durable = Math.Min(_counters.TreeIndex, _core.Applied);
        if (durable >= _lastConfIndex && durable > 0)
        {
            _core.SnapshotTaken(durable, _core.Configuration.ToConfState());
        }
    }

    private void SendSnapshot(in RaftMessage message)
    {
        if (_transport is null || !_wiring.SendSnapshots.TryEnqueue(in message))
        {
            _core.ReportSnapshot(message.To, succeeded: false);
            return;
        }

        ServerLog.SendingSnapshot(_log, ServerLog.Id(_core.Id), ServerLog.Id(message.To), message.Index);
        _wiring.SnapshotSender.Wake();
    }

    /// <summary>Up to where entries may go once a snapshot at an index is durable.</summary>
    private ulong KeepFrom(ulong index)
    {
        ulong keep = index > _options.CatchupEntries ? index - _options.CatchupEntries : 0;
        for (int i = 0; i < _core.ProgressCount; i++)
        {
            ProgressStatus peer = _core.ProgressAt(i);
            if (peer.State == ProgressState.Snapshot && peer.PendingSnapshot != 0 && index - Math.Min(index, peer.PendingSnapshot) < MostKept)
            {
                keep = Math.Min(keep, peer.PendingSnapshot);
            }
        }

        return keep;
    }
}
