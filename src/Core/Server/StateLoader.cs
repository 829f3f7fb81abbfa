// StateLoader: everything that lives in the tree, restored in the order that counts: leases before keys. At the start and
// when a snapshot of the leader takes the place of the state.
using Cairn.Btree;
using Cairn.Core.Auth;
using Cairn.Core.Leases;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;

namespace Cairn.Core.Server;

/// <summary>The restored parts of a state machine, membership not included.</summary>
internal readonly record struct LoadedState(MvccStore Store, Lessor Leases, AlarmStore Alarms, AuthStore Auth)
{
    /// <exception cref="System.IO.InvalidDataException">A record of the file is not what it must be.</exception>
    internal static LoadedState From(Tree tree, MemberOptions options, MemberEnvironment environment)
    {
        var store = MvccStore.Open(
            tree,
            new MvccOptions
            {
                Pool = environment.Pool,
                BufferBytesMax = options.BufferBytes,
                CompactionBatchLimit = options.CompactionBatchLimit,
                CompactionPauseNs = options.CompactionPauseNs,
                Clock = environment.Clock,
            },
            environment.Fatal);
        var leases = new Lessor(
            Lessor.MinimumTtlSeconds(options.ElectionMs, options.HeartbeatMs), environment.Random.NextUInt64());
        leases.Restore(store);
        store.RestoreLeases(leases);
        var alarms = new AlarmStore();
        alarms.Restore(store);
        var auth = new AuthStore();
        auth.Restore(store);
        auth.EnsureRevision(store);
        return new LoadedState(store, leases, alarms, auth);
    }
}
