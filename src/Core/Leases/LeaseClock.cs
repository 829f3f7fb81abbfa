// LeaseClock: when leases end. Replicated state says which leases there are; this says, on the leader, until when.
//
// Thread     raft, but for TryRenew, TryGet and CopyTo, which any thread may call (LeaseTable says how that is safe).
// Pure       time comes in as a parameter (monotonic ns); nothing here waits, logs or proposes.
// Primary    Deadlines exist only while this member leads and has applied an entry of its own term (then every older
//            grant and revoke is in): Promote arms each lease with its checkpointed or full time plus one election
//            timeout, because the leader before may have renewed it up to an election timeout after losing its quorum.
//            Before that, and after Demote, nothing ends and nothing is renewed.
// Expiry     A deadline that has passed is swapped for "expiring" under the renewers' eyes: a renewal either came before
//            and counts, or sees it. Rounding is always in the lease's favour. The lease stays, not renewable, until its
//            revoke is applied; if that does not happen in time it is handed out again.
using System;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>What became of a renewal.</summary>
public enum LeaseRenewal : byte
{
    /// <summary>The deadline is now at least the full time away.</summary>
    Renewed,

    /// <summary>No such lease here; it may be granted by an entry that is not seen yet.</summary>
    Unknown,

    /// <summary>Its time is over; the revoke is under way.</summary>
    Expired,

    /// <summary>This member does not decide about leases now.</summary>
    NotPrimary,

    /// <summary>
    /// A checkpoint shortens what the next leader would give it: that must be cleared by an entry first, or a client that
    /// was told "renewed" could lose its lease early.
    /// </summary>
    NeedsClear,
}

/// <summary>One lease as of now.</summary>
/// <param name="TtlSeconds">Granted.</param>
/// <param name="RemainingMs">Until the deadline, at least 0; the full or checkpointed time when this member is not primary.</param>
public readonly record struct LeaseTime(long TtlSeconds, long RemainingMs)
{
    /// <summary>Whole seconds left. A deadline is rounded up to the next millisecond, which is taken off again here.</summary>
    public long RemainingSeconds => Math.Max(0, RemainingMs - 1) / 1000;
}

/// <summary>
/// Deadlines of all leases of a member. Its native memory is freed when nobody can reach it any more: a keep-alive may still
/// look while its member is being closed.
/// </summary>
public sealed unsafe class LeaseClock
{
    private readonly LeaseTable _table;
    private readonly LeaseHeap _heap;
    private readonly LeaseClockOptions _options;
    private readonly long _originNs;
    private bool _primary;
    private long _renewed;

    /// <param name="options">Times.</param>
    /// <param name="nowNs">The clock's origin; no later time may be before it.</param>
    /// <param name="hashSeed">Random.</param>
    public LeaseClock(LeaseClockOptions options, long nowNs, ulong hashSeed)
    {
        _options = options;
        _originNs = nowNs;
        _table = new LeaseTable(hashSeed);
        _heap = new LeaseHeap(_table);
    }

    /// <summary>Leases known.</summary>
    public int Count => _table.Count;

    /// <summary>Deadlines run here. Any thread may look.</summary>
    public bool IsPrimary => Volatile.Read(ref _primary);

    /// <summary>Renewals that succeeded (<c>etcd_debugging_lease_renewed_total</c>).</summary>
    public long Renewals => Volatile.Read(ref _renewed);

    /// <summary>Leases that were revoked after their time was over, while this member decided that.</summary>
    public long Expirations { get; private set; }

    /// <summary>Monotonic ns at which <see cref="Take"/> has something to look at; <see cref="long.MaxValue"/> = never.</summary>
    public long NextDeadlineNs => _heap.FirstMs > (long.MaxValue - _originNs) / 1_000_000
        ? long.MaxValue
        : _originNs + (_heap.FirstMs * 1_000_000);

    /// <summary>A grant was applied.</summary>
    public void Granted(long id, long ttlSeconds, long remainingSeconds, long nowNs)
    {
        if (_table.Find(id) != LeaseTable.None)
        {
            return; // a feed that starts over may tell again what is known
        }

        if (!_primary)
        {
            _ = _table.Add(id, ttlSeconds, remainingSeconds, LeaseTable.Never);
            return;
        }

        long deadline = DeadlineMs(nowNs, remainingSeconds > 0 ? remainingSeconds : ttlSeconds, 0);
        int slot = _table.Add(id, ttlSeconds, remainingSeconds, deadline);
        _heap.Add(slot, Math.Min(deadline, ScheduleCheckpoint(_table.At(slot), FloorMs(nowNs))));
    }

    /// <summary>A revoke was applied.</summary>
    public void Revoked(long id)
    {
        int slot = _table.Find(id);
        if (slot == LeaseTable.None)
        {
            return;
        }

        if (_primary)
        {
            if (LeaseTable.Deadline(_table.At(slot)->Word) == LeaseTable.Expiring)
            {
                Expirations++;
            }

            _heap.Remove(slot);
        }

        _table.Remove(slot);
    }

    /// <summary>A checkpoint was applied; 0 seconds clear it.</summary>
    public void Checkpointed(long id, long remainingSeconds)
    {
        int slot = _table.Find(id);
        if (slot != LeaseTable.None)
        {
            Volatile.Write(ref _table.At(slot)->RemainingSeconds, remainingSeconds);
        }
    }

    /// <summary>Forgets every lease: another state takes the place of this one.</summary>
    public void Clear()
    {
        _heap.Clear();
        for (int slot = 0; slot < _table.Used; slot++)
        {
            if (_table.At(slot)->Id != 0)
            {
                _table.Remove(slot);
            }
        }
    }

    /// <summary>From now on this member decides: every lease gets its time again, plus one election timeout. Linear.</summary>
    public void Promote(long nowNs)
    {
        long nowMs = FloorMs(nowNs);
        _heap.Clear();
        for (int i = 0; i < _table.Used; i++)
        {
            LeaseSlot* slot = _table.At(i);
            if (slot->Id == 0)
            {
                continue;
            }

            long seconds = slot->RemainingSeconds > 0 ? slot->RemainingSeconds : slot->TtlSeconds;
            long deadline = DeadlineMs(
                nowNs, Mutations.Is(Mutation.LeaseTimeNotExtended) ? 0 : seconds, _options.ExtensionMs);
            Volatile.Write(ref slot->Word, LeaseTable.With(slot->Word, deadline));
            _heap.Append(i, Math.Min(deadline, ScheduleCheckpoint(slot, nowMs)));
        }

        _heap.Order();
        Volatile.Write(ref _primary, true);
    }

    /// <summary>This member no longer decides.</summary>
    public void Demote()
    {
        Volatile.Write(ref _primary, false);
        _heap.Clear();
    }

    /// <summary>Moves a lease's deadline to its full time from now. Any thread; allocation-free.</summary>
    /// <param name="id">Which.</param>
    /// <param name="nowNs">Now, read by the caller after it had the request.</param>
    /// <param name="ttlSeconds">The granted time when known.</param>
    public LeaseRenewal TryRenew(long id, long nowNs, out long ttlSeconds)
    {
        ttlSeconds = 0;
        if (!IsPrimary)
        {
            return LeaseRenewal.NotPrimary;
        }

        while (true)
        {
            int index = id == 0 ? LeaseTable.None : _table.Find(id);
            if (index == LeaseTable.None)
            {
                return LeaseRenewal.Unknown;
            }

            LeaseSlot* slot = _table.At(index);
            long word = Volatile.Read(ref slot->Word);
            if (Volatile.Read(ref slot->Id) != id)
            {
                continue; // revoked, and perhaps granted again elsewhere, since we found it
            }

            long deadline = LeaseTable.Deadline(word);
            if (deadline == LeaseTable.Never)
            {
                return LeaseRenewal.NotPrimary; // granted to a member that was not primary then
            }

            if (deadline == LeaseTable.Expiring || deadline <= FloorMs(nowNs))
            {
                return LeaseRenewal.Expired;
            }

            ttlSeconds = Volatile.Read(ref slot->TtlSeconds);
            if (_options.Checkpoints && Volatile.Read(ref slot->RemainingSeconds) > 0)
            {
                return LeaseRenewal.NeedsClear;
            }

            // Swapped also when nothing changes (a new leader's extension is not taken back): it proves that all of the
            // above was read of one lease.
            long renewed = Math.Max(deadline, DeadlineMs(nowNs, ttlSeconds, 0));
            if (Interlocked.CompareExchange(ref slot->Word, LeaseTable.With(word, renewed), word) == word)
            {
                Interlocked.Increment(ref _renewed);
                return LeaseRenewal.Renewed;
            }
        }
    }

    /// <summary>How much time a lease has. Any thread; allocation-free.</summary>
    public bool TryGet(long id, long nowNs, out LeaseTime time)
    {
        while (true)
        {
            int index = id == 0 ? LeaseTable.None : _table.Find(id);
            if (index == LeaseTable.None)
            {
                time = default;
                return false;
            }

            LeaseSlot* slot = _table.At(index);
            long word = Volatile.Read(ref slot->Word);
            long ttl = Volatile.Read(ref slot->TtlSeconds);
            long remaining = Volatile.Read(ref slot->RemainingSeconds);
            if (Volatile.Read(ref slot->Id) != id || Volatile.Read(ref slot->Word) != word)
            {
                continue;
            }

            time = new LeaseTime(ttl, RemainingMs(word, ttl, remaining, nowNs));
            return true;
        }
    }

    /// <summary>
    /// Ids and what they have left, in no order, as far as they could be seen: leases that come or go meanwhile may be
    /// missing, or there twice. Any thread.
    /// </summary>
    /// <returns>How many there were; only the first <paramref name="into"/>.Length were copied.</returns>
    public int CopyTo(Span<(long RemainingMs, long Id)> into, long nowNs)
    {
        int count = 0;
        int used = _table.Used;
        for (int i = 0; i < used; i++)
        {
            LeaseSlot* slot = _table.At(i);
            long id = Volatile.Read(ref slot->Id);
            if (id == 0)
            {
                continue;
            }

            if (count < into.Length)
            {
                into[count] = (RemainingMs(Volatile.Read(ref slot->Word), slot->TtlSeconds, slot->RemainingSeconds, nowNs), id);
            }

            count++;
        }

        return count;
    }

    /// <summary>
    /// Takes leases whose time is over, and leases that are due for a checkpoint. An expired lease is handed out once,
    /// and again after the retry time if no revoke was applied until then.
    /// </summary>
    /// <param name="nowNs">Now.</param>
    /// <param name="expired">Receives ids to revoke.</param>
    /// <param name="expiredCount">How many.</param>
    /// <param name="checkpoints">Receives ids and whole seconds left, rounded up. May be empty to leave them for later.</param>
    /// <param name="checkpointCount">How many.</param>
    public void Take(
        long nowNs, Span<long> expired, out int expiredCount, Span<(long Id, long Seconds)> checkpoints, out int checkpointCount)
    {
        expiredCount = checkpointCount = 0;
        long nowMs = FloorMs(nowNs);
        while (_primary && _heap.FirstMs <= nowMs && expiredCount < expired.Length)
        {
            int index = _heap.First;
            LeaseSlot* slot = _table.At(index);
            long word = Volatile.Read(ref slot->Word);
            long deadline = LeaseTable.Deadline(word);
            if (deadline == LeaseTable.Expiring || deadline <= nowMs)
            {
                if (Interlocked.CompareExchange(ref slot->Word, LeaseTable.With(word, LeaseTable.Expiring), word) == word)
                {
                    expired[expiredCount++] = slot->Id;
                    _heap.Move(index, nowMs + _options.RetryMs);
                }

                continue; // a renewal came between: look again
            }

            if (slot->CheckpointAtMs <= nowMs)
            {
                if (checkpointCount == checkpoints.Length)
                {
                    break;
                }

                long seconds = (deadline - nowMs + 999) / 1000;
                slot->CheckpointAtMs = LeaseTable.Never;
                if (seconds < slot->TtlSeconds)
                {
                    checkpoints[checkpointCount++] = (slot->Id, seconds);
                }
            }

            if (slot->CheckpointAtMs == LeaseTable.Never)
            {
                slot->CheckpointAtMs = CheckpointMs(deadline - nowMs, nowMs);
            }

            _heap.Move(index, Math.Min(deadline, slot->CheckpointAtMs));
        }
    }

    /// <summary>A revoke could not be proposed: hands the lease out again soon.</summary>
    public void PutBack(long id, long againNs)
    {
        int slot = _table.Find(id);
        if (_primary && slot != LeaseTable.None)
        {
            _heap.Move(slot, CeilingMs(againNs));
        }
    }

    private long FloorMs(long nowNs) => (nowNs - _originNs) / 1_000_000;

    private long CeilingMs(long nowNs) => (nowNs - _originNs + 999_999) / 1_000_000;

    private long DeadlineMs(long nowNs, long seconds, long extensionMs) =>
        Math.Min(LeaseTable.LastDeadline, CeilingMs(nowNs) + (Math.Min(seconds, Lessor.MaxTtlSeconds) * 1000) + extensionMs);

    private long RemainingMs(long word, long ttlSeconds, long remainingSeconds, long nowNs)
    {
        long deadline = LeaseTable.Deadline(word);
        if (deadline == LeaseTable.Expiring)
        {
            return 0;
        }

        // Without a primary's deadline a lease has what the next leader will give it.
        return !IsPrimary || deadline == LeaseTable.Never
            ? (remainingSeconds > 0 ? remainingSeconds : ttlSeconds) * 1000
            : Math.Max(0, deadline - FloorMs(nowNs));
    }

    private long ScheduleCheckpoint(LeaseSlot* slot, long nowMs)
    {
        long seconds = slot->RemainingSeconds > 0 ? slot->RemainingSeconds : slot->TtlSeconds;
        return slot->CheckpointAtMs = CheckpointMs(seconds * 1000, nowMs);
    }

    private long CheckpointMs(long remainingMs, long nowMs) =>
        _options.Checkpoints && remainingMs > _options.CheckpointIntervalMs
            ? nowMs + _options.CheckpointIntervalMs
            : LeaseTable.Never;
}

/// <summary>Times of a <see cref="LeaseClock"/>.</summary>
public sealed record LeaseClockOptions
{
    /// <summary>What a new leader adds to every lease: one election timeout.</summary>
    public required long ExtensionMs { get; init; }

    /// <summary>When an expired lease whose revoke was not applied is handed out again.</summary>
    public long RetryMs { get; init; } = 7_000;

    /// <summary>Store remaining times now and then, so that a new leader does not give the full time again.</summary>
    public bool Checkpoints { get; init; }

    /// <summary>How often, and for leases with more than this left only.</summary>
    public long CheckpointIntervalMs { get; init; } = 300_000;
}
