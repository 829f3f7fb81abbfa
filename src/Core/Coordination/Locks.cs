// Locks: v3lockpb.Lock. A lock is held by the oldest key of its queue, for as long as that key's lease lives.
//
// Giving up  A caller that goes away while it waits takes its key with it. One that goes away while its key is being
//            written leaves it to its lease: the same lease may have asked twice, and the other call may own the key.
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Core.Coordination;

/// <summary>How a lock call ended.</summary>
/// <param name="Outcome">None: the rest is set.</param>
/// <param name="Header">ResponseHeader, encoded.</param>
/// <param name="Key">The key that holds the lock.</param>
public readonly record struct LockResult(ErrorCode Outcome, byte[] Header, byte[] Key);

/// <summary>Lock and unlock on one member. Stateless; any thread.</summary>
public sealed class Locks
{
    private readonly QueueClient _client;
    private readonly KeyQueue _queue;

    public Locks(Member member, IClock clock)
    {
        _client = new QueueClient(member, clock);
        _queue = new KeyQueue(_client);
    }

    /// <summary>
    /// Waits until the lock is the caller's. Where the caller is gone the outcome is None or what failed, and means
    /// nothing. Outcomes: those of a txn, MutexSessionExpired.
    /// </summary>
    /// <param name="caller">Who.</param>
    /// <param name="name">Of the lock.</param>
    /// <param name="lease">0: a new one of a minute.</param>
    public async ValueTask<LockResult> LockAsync(ICaller caller, byte[] name, long lease)
    {
        (ErrorCode outcome, lease) = await _queue.LeaseAsync(caller, lease).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        byte[] prefix = QueueKeys.Prefix(name);
        byte[] key = QueueKeys.Key(prefix, lease);
        (outcome, QueueAnswer entered) = await _client
            .TxnAsync(caller, QueueKeys.Enter(key, [], lease, prefix)).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        long created = entered.Succeeded ? entered.Revision : entered.First!.CreateRevision;
        if (entered.Second is null || entered.Second.CreateRevision == created)
        {
            return new LockResult(ErrorCode.None, entered.Header, key);
        }

        outcome = await _queue.WaitForOlderAsync(caller, prefix, created).ConfigureAwait(false);
        QueueAnswer own = default;
        if (outcome == ErrorCode.None && !caller.IsGone)
        {
            // The lease may have ended meanwhile, and with it the key.
            (outcome, own) = await _client.RangeAsync(caller, QueueKeys.One(key), isBarrier: true).ConfigureAwait(false);
        }

        if (outcome != ErrorCode.None || caller.IsGone)
        {
            _ = await _client.TxnAsync(caller, QueueKeys.Leave(key, created), evenIfGone: true).ConfigureAwait(false);
            return Failed(outcome);
        }

        return own.First is null
            ? Failed(ErrorCode.MutexSessionExpired)
            : new LockResult(ErrorCode.None, own.Header, key);
    }

    /// <summary>Deletes the key, whoever it belongs to; one that is not there is fine.</summary>
    public async ValueTask<LockResult> UnlockAsync(ICaller caller, byte[] key)
    {
        (ErrorCode outcome, QueueAnswer answer) = await _client.DeleteAsync(caller, key).ConfigureAwait(false);
        return outcome == ErrorCode.None ? new LockResult(outcome, answer.Header, key) : Failed(outcome);
    }

    private static LockResult Failed(ErrorCode outcome) => new(outcome, [], []);
}
