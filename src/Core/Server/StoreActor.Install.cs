// StoreActor.Install: a snapshot of the leader takes the place of this member's state, without a restart. Thread: store.
//
// When       Its record is durable in the WAL, so whatever happens the next start finishes it (MemberOpener), and raft has
//            stopped handing out entries. What was handed out before is applied first.
// How        1. the tree thread comes to rest behind the commit under way
//            2. INDEX.snap.db is renamed over db, directory synced; the old file lives on for those who read it
//            3. tree, key index, leases, alarms, auth, membership are loaded from it
//            4. state machine, views, tree thread go over to it; then the applied index moves and raft is told
// Readers    A pin belongs to the store it was taken from and stays good; a new pin of the old store is one of the new
//            (MvccStore.Pin). The old store and its file are freed when the last pin is gone.
// Watchers, leases and others that follow the state hear of it through StateMachine.Replaced.
using System;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

internal sealed partial class StoreActor
{
    private readonly List<MvccStore> _replaced = [];
    private SnapshotInstall? _install;

    /// <summary>True while no entry may be applied.</summary>
    private bool Install()
    {
        EndReplaced();
        if (_install is null)
        {
            // Looked at in this order: raft gives nothing more to apply once it has given the snapshot.
            if (!_installs.TryDequeue(out SnapshotInstall next))
            {
                return false;
            }

            _install = next;
        }

        if (!_entries.IsEmpty)
        {
            return false; // handed out before
        }

        if (!_tree.IsResting)
        {
            _tree.AskToRest();
            if (Mutations.Is(Mutation.InstalledBeforeLive))
            {
                _counters.InstalledIndex = _install.Value.Index;
                _counters.AppliedIndex = _install.Value.Index;
            }

            return true;
        }

        SnapshotInstall install = _install.Value;
        try
        {
            Switch(install);
        }
        catch (Exception e) when (e is FileSystemException or TreeCorruptException or TreeLockedException
            or InvalidDataException)
        {
            _environment.Fatal.Stop(
                $"the snapshot at index {install.Index} that the leader sent cannot be taken into use: {e.Message}", e);
        }

        _install = null;
        return true;
    }

    private void Switch(in SnapshotInstall install)
    {
        IFileSystem files = _environment.FileSystem;
        files.Rename(_directory.SnapshotDatabase(install.Index), _directory.Tree);
        files.SyncDirectory(_directory.Snap);
        Tree tree = Tree.Open(files, _directory.Tree, DataDirectory.TreeOptions(_options, _environment.Clock), _environment.Fatal);
        LoadedState loaded = LoadedState.From(tree, _options, _environment);
        MvccStore old = _store;
        Invariant.Check(loaded.Store.DurableIndex == install.Index, "an image is of the index it was received for");
        var cluster = new Cluster(_machine.Cluster.LocalId, _machine.Cluster.ClusterId, _options.MaxLearners);
        cluster.RestoreFromBuckets(loaded.Store, takeMembers: true);

        TreeActor actor = loaded.Store.TreeActor;
        actor.StoreWaker = old.TreeActor.StoreWaker;
        actor.Waker = old.TreeActor.Waker;
        actor.MajorFaults = old.TreeActor.MajorFaults;
        _machine.Replace(in loaded, cluster);
        loaded.Leases.Observer = _feed;
        _feed.Replaced(loaded.Leases);
        _store = loaded.Store;
        old.Replace(loaded.Store);
        _replaced.Add(old);
        _tree.Use(actor);

        _applied = install.Index;
        _appliedTerm = Math.Max(install.Term, _appliedTerm);
        _frozenIndex = install.Index;
        _firstPendingNs = 0;
        _freezeWanted = false;
        _snapshots.Reset(install.Index);
        _counters.Revision = _store.Revision;
        _counters.CompactRevision = _store.CompactRevision;
        _counters.AppliedTerm = _appliedTerm;
        _counters.TreeIndex = install.Index;
        _counters.InstalledIndex = install.Index; // before the applied index: raft looks in the other order
        _counters.AppliedIndex = install.Index;
        if (Mutations.AreCompiled)
        {
            _environment.Observer?.Installed(install.Index);
        }

        System.Threading.Interlocked.MemoryBarrier();
        _watch.Published();
        _raft.Wake();
    }

    private void EndReplaced()
    {
        for (int i = _replaced.Count - 1; i >= 0; i--)
        {
            if (_replaced[i].TryEnd())
            {
                _replaced.RemoveAt(i);
            }
        }
    }

    /// <summary>The member ends: nobody reads any more.</summary>
    internal void DisposeReplaced()
    {
        foreach (MvccStore store in _replaced)
        {
            store.End();
        }

        _replaced.Clear();
    }
}
