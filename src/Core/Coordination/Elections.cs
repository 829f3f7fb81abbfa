// Elections: v3electionpb.Election. The oldest key of a name's queue leads; its value is what the leader proclaims.
//
// Headers    of a campaign and of a proclamation are those of the txn that wrote: a campaign that waited a day answers with
//            the revision at which it entered. So does etcd.
// Observe    tells the leader's key as it is, each change of it, and after its deletion the next leader's. What a leader
//            proclaimed before the observer came to it is not told. A client that does not read holds up its own watcher.
using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Core.Coordination;

/// <summary>v3electionpb.LeaderKey.</summary>
/// <param name="Name">Of the election.</param>
/// <param name="Key">The key that leads.</param>
/// <param name="Revision">Its create revision.</param>
/// <param name="Lease">Its lease.</param>
public sealed record LeaderKey(byte[] Name, byte[] Key, long Revision, long Lease);

/// <summary>How an election call ended.</summary>
/// <param name="Outcome">None: the rest is set.</param>
/// <param name="Header">ResponseHeader, encoded.</param>
/// <param name="Leader">Of a campaign.</param>
/// <param name="Pair">KeyValue of the leader, encoded; of a question for it.</param>
public readonly record struct ElectionResult(ErrorCode Outcome, byte[] Header, LeaderKey? Leader, byte[] Pair);

/// <summary>Takes what an observer is told.</summary>
public interface ILeaderSink
{
    /// <summary>The leader's pair at a revision. False: the observer wants no more.</summary>
    /// <param name="header">ResponseHeader, encoded; empty: made of the revision.</param>
    /// <param name="revision">The header's.</param>
    /// <param name="pair">KeyValue, encoded.</param>
    ValueTask<bool> TellAsync(byte[] header, long revision, byte[] pair);
}

/// <summary>Elections on one member. Stateless; any thread.</summary>
public sealed class Elections
{
    private readonly QueueClient _client;
    private readonly KeyQueue _queue;

    public Elections(Member member, IClock clock)
    {
        _client = new QueueClient(member, clock);
        _queue = new KeyQueue(_client);
    }

    /// <summary>Waits until the caller leads. A caller that goes away while it waits resigns.</summary>
    /// <param name="caller">Who.</param>
    /// <param name="name">Of the election.</param>
    /// <param name="lease">0: a new one of a minute.</param>
    /// <param name="value">To proclaim.</param>
    public async ValueTask<ElectionResult> CampaignAsync(ICaller caller, byte[] name, long lease, byte[] value)
    {
        (ErrorCode outcome, lease) = await _queue.LeaseAsync(caller, lease).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        byte[] prefix = QueueKeys.Prefix(name);
        byte[] key = QueueKeys.Key(prefix, lease);
        (outcome, QueueAnswer entered) = await _client
            .TxnAsync(caller, QueueKeys.Enter(key, value, lease, queue: null)).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        var leader = new LeaderKey(name, key, entered.Succeeded ? entered.Revision : entered.First!.CreateRevision, lease);
        if (!entered.Succeeded && !entered.First!.Value.AsSpan().SequenceEqual(value))
        {
            ElectionResult proclaimed = await ProclaimAsync(caller, leader, value).ConfigureAwait(false);
            if (proclaimed.Outcome != ErrorCode.None)
            {
                if (proclaimed.Outcome != ErrorCode.ElectionNotLeader)
                {
                    await LeaveAsync(caller, leader).ConfigureAwait(false);
                }

                return proclaimed;
            }
        }

        outcome = await _queue.WaitForOlderAsync(caller, prefix, leader.Revision).ConfigureAwait(false);
        if (caller.IsGone)
        {
            await LeaveAsync(caller, leader).ConfigureAwait(false);
        }

        return outcome == ErrorCode.None ? new ElectionResult(outcome, entered.Header, leader, []) : Failed(outcome);
    }

    /// <summary>Sets the leader's value, if the key still is the leader's.</summary>
    public async ValueTask<ElectionResult> ProclaimAsync(ICaller caller, LeaderKey leader, byte[] value)
    {
        (ErrorCode outcome, long lease) = await _queue.LeaseAsync(caller, leader.Lease).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        (outcome, QueueAnswer answer) = await _client
            .TxnAsync(caller, QueueKeys.Replace(leader.Key, leader.Revision, value, lease)).ConfigureAwait(false);
        return outcome != ErrorCode.None ? Failed(outcome)
            : answer.Succeeded ? new ElectionResult(outcome, answer.Header, null, [])
            : Failed(ErrorCode.ElectionNotLeader);
    }

    /// <summary>Takes the key away, if it still is that leader's; else nothing happens.</summary>
    public async ValueTask<ElectionResult> ResignAsync(ICaller caller, LeaderKey leader)
    {
        (ErrorCode outcome, _) = await _queue.LeaseAsync(caller, leader.Lease).ConfigureAwait(false);
        if (outcome != ErrorCode.None)
        {
            return Failed(outcome);
        }

        (outcome, QueueAnswer answer) = await _client
            .TxnAsync(caller, QueueKeys.Leave(leader.Key, leader.Revision)).ConfigureAwait(false);
        return outcome == ErrorCode.None ? new ElectionResult(outcome, answer.Header, null, []) : Failed(outcome);
    }

    /// <summary>The leader's pair, or ElectionNoLeader.</summary>
    public async ValueTask<ElectionResult> LeaderAsync(ICaller caller, byte[] name)
    {
        (ErrorCode outcome, QueueAnswer answer) = await _client
            .RangeAsync(caller, QueueKeys.Oldest(QueueKeys.Prefix(name)), isBarrier: true).ConfigureAwait(false);
        return outcome != ErrorCode.None ? Failed(outcome)
            : answer.First is null ? Failed(ErrorCode.ElectionNoLeader)
            : new ElectionResult(outcome, answer.Header, null, answer.First.Bytes);
    }

    /// <summary>Tells who leads until the caller is gone; anything else that ends it is ElectionObserveClosed.</summary>
    public async ValueTask<ErrorCode> ObserveAsync(ICaller caller, byte[] name, ILeaderSink sink)
    {
        byte[] prefix = QueueKeys.Prefix(name);
        byte[] oldest = QueueKeys.Oldest(prefix);
        bool isFirst = true;
        while (!caller.IsGone)
        {
            (ErrorCode outcome, QueueAnswer answer) = await _client.RangeAsync(caller, oldest, isFirst).ConfigureAwait(false);
            isFirst = false;
            if (outcome != ErrorCode.None)
            {
                return ErrorCode.ElectionObserveClosed;
            }

            byte[] header = answer.Header;
            long revision = answer.Revision;
            QueuedKey? leader = answer.First;
            if (leader is null)
            {
                header = [];
                (outcome, leader) = await FirstPutAsync(caller, prefix, revision + 1).ConfigureAwait(false);
                if (outcome != ErrorCode.None || leader is null)
                {
                    return outcome;
                }

                revision = leader.ModRevision;
            }

            if (!await sink.TellAsync(header, revision, leader.Bytes).ConfigureAwait(false))
            {
                return ErrorCode.None;
            }

            outcome = await FollowAsync(caller, leader.Key, revision + 1, sink).ConfigureAwait(false);
            if (outcome != ErrorCode.None)
            {
                return outcome;
            }
        }

        return ErrorCode.None;
    }

    private static ElectionResult Failed(ErrorCode outcome) => new(outcome, [], null, []);

    private async ValueTask LeaveAsync(ICaller caller, LeaderKey leader)
        => _ = await _client
            .TxnAsync(caller, QueueKeys.Leave(leader.Key, leader.Revision), evenIfGone: true).ConfigureAwait(false);

    // The first key that somebody puts under the prefix; null when the caller is gone.
    private async ValueTask<(ErrorCode Outcome, QueuedKey? Key)> FirstPutAsync(ICaller caller, byte[] prefix, long start)
    {
        using var watch = new KeyWatch(
            _client.Member.Watch, caller, prefix, QueueKeys.PrefixEnd(prefix), start, deletesOnly: false);
        while (!caller.IsGone)
        {
            while (watch.TryTake() is { } message)
            {
                (QueuedKey? put, bool ended) = FirstPut(message);
                if (put is not null)
                {
                    return (ErrorCode.None, put);
                }

                if (ended)
                {
                    return (ErrorCode.ElectionObserveClosed, null);
                }
            }

            await caller.WaitAsync().ConfigureAwait(false);
        }

        return (ErrorCode.None, null);
    }

    private static (QueuedKey? Put, bool Ended) FirstPut(byte[] message)
    {
        var news = new WatchNews(message);
        while (news.Next())
        {
            if (!news.IsDelete)
            {
                return (QueuedKey.Of(news.PairBytes), false);
            }
        }

        return (null, news.HasEnded);
    }

    // Tells each change of the key until it is deleted (None).
    private async ValueTask<ErrorCode> FollowAsync(ICaller caller, byte[] key, long start, ILeaderSink sink)
    {
        using var watch = new KeyWatch(_client.Member.Watch, caller, key, default, start, deletesOnly: false);
        var puts = new List<QueuedKey>();
        while (!caller.IsGone)
        {
            while (watch.TryTake() is { } message)
            {
                puts.Clear();
                (bool deleted, bool ended) = Read(message, puts);
                foreach (QueuedKey put in puts)
                {
                    if (!await sink.TellAsync([], put.ModRevision, put.Bytes).ConfigureAwait(false))
                    {
                        return ErrorCode.None;
                    }
                }

                if (deleted || ended)
                {
                    return deleted ? ErrorCode.None : ErrorCode.ElectionObserveClosed;
                }
            }

            await caller.WaitAsync().ConfigureAwait(false);
        }

        return ErrorCode.None;
    }

    // Puts up to the deletion, if there is one.
    private static (bool Deleted, bool Ended) Read(byte[] message, List<QueuedKey> puts)
    {
        var news = new WatchNews(message);
        while (news.Next())
        {
            if (news.IsDelete)
            {
                return (true, false);
            }

            puts.Add(QueuedKey.Of(news.PairBytes));
        }

        return (false, news.HasEnded);
    }
}
