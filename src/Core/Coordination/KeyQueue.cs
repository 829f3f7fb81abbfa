// KeyQueue: who is first under a prefix. A lock and an election are the same queue of keys; this is their shared part.
//
// Waiting    Everybody waits for the deletion of the one key just before theirs, so a release wakes one waiter, not all.
//            Whoever is woken looks again: the key before may have given up while older ones still wait.
// Reads      between waits are of what is applied here: no key can come in before ours any more, and a deletion we do not
//            know of yet will be told by the watch, which begins where the read ended.
using System.Threading.Tasks;
using Cairn.Core.Protocol;

namespace Cairn.Core.Coordination;

/// <summary>The queue logic. Stateless; any thread.</summary>
internal sealed class KeyQueue(QueueClient client)
{
    /// <summary>A lease made for a caller without one, seconds: etcd's number. Nobody renews it.</summary>
    private const long OwnLeaseSeconds = 60;

    /// <summary>The lease to use: the caller's, or a new one.</summary>
    public async ValueTask<(ErrorCode Outcome, long Lease)> LeaseAsync(ICaller caller, long lease)
        => lease != 0 ? (ErrorCode.None, lease) : await client.GrantAsync(caller, OwnLeaseSeconds).ConfigureAwait(false);

    /// <summary>Waits until no key of the queue is older than a create revision.</summary>
    /// <returns>None, also when the caller is gone: look at it. Anything else: the wait failed.</returns>
    public async ValueTask<ErrorCode> WaitForOlderAsync(ICaller caller, byte[] prefix, long created)
    {
        byte[] request = QueueKeys.Youngest(prefix, created - 1);
        while (!caller.IsGone)
        {
            (ErrorCode outcome, QueueAnswer answer) = await client.RangeAsync(caller, request, isBarrier: false).ConfigureAwait(false);
            if (outcome != ErrorCode.None || answer.First is null)
            {
                return outcome;
            }

            using var watch = new KeyWatch(
                client.Member.Watch, caller, answer.First.Key, default, answer.Revision + 1, deletesOnly: true);
            while (!caller.IsGone && !HasEnded(watch))
            {
                await caller.WaitAsync().ConfigureAwait(false);
            }
        }

        return ErrorCode.None;
    }

    // Deleted, or what the watcher needed is compacted: either way one has to look again.
    private static bool HasEnded(KeyWatch watch)
    {
        while (watch.TryTake() is { } message)
        {
            var news = new WatchNews(message);
            if (news.Next() || news.HasEnded)
            {
                return true;
            }
        }

        return false;
    }
}
