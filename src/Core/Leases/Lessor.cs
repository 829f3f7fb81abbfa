// Lessor: the lease table: grants, their time to live, and the keys attached.
//
// Why        Leases are part of the replicated state: a grant, a revoke or a checkpoint is a log entry, applied in
//            order, refused alike on every member. Time is not: deadlines are the leader's business and live
//            outside; an expired lease exists until its revoke entry is applied.
// Thread     store. Other threads ask through the store's requests.
// Layout     bucket lease: id int64 big-endian -> leasepb.Lease {1 ID, 2 TTL, 3 RemainingTTL}, zeros omitted.
//            Attachments are in no bucket: field lease of the stored keys is their only record.
using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Leases;

/// <summary>One lease as a caller sees it. Times in whole seconds.</summary>
/// <param name="Id">Never 0; may be negative when a client chose it so.</param>
/// <param name="Ttl">Granted, after raising to the minimum.</param>
/// <param name="RemainingTtl">From the last checkpoint; 0 means none, then the full time counts.</param>
/// <param name="KeyCount">Attached keys.</param>
public readonly record struct LeaseInfo(long Id, long Ttl, long RemainingTtl, int KeyCount);

/// <summary>Told of every applied change, so that deadlines can be kept elsewhere. Called on the store thread.</summary>
public interface ILeaseObserver
{
    void Granted(long id, long ttlSeconds);

    void Revoked(long id);

    void Checkpointed(long id, long remainingTtlSeconds);
}

/// <summary>The leases of a member and their keys.</summary>
public sealed class Lessor : ILeaseBook, IDisposable
{
    /// <summary>Largest TTL a grant may ask for, seconds.</summary>
    public const long MaxTtlSeconds = 9_000_000_000;

    private readonly long _minTtlSeconds;
    private readonly Dictionary<long, int> _slots = [];
    private readonly AttachmentTable _attachments;
    private Lease[] _leases = new Lease[16];
    private int _used;
    private int _free = AttachmentTable.None;

    /// <param name="minTtlSeconds">ceil(1.5 × election timeout): shorter grants are raised to it.</param>
    /// <param name="hashSeed">Random.</param>
    public Lessor(long minTtlSeconds, ulong hashSeed)
    {
        _minTtlSeconds = minTtlSeconds;
        _attachments = new AttachmentTable(hashSeed);
    }

    /// <summary>Where deadlines are kept; may be null.</summary>
    public ILeaseObserver? Observer { get; set; }

    /// <summary>Leases granted and not revoked.</summary>
    public int Count => _slots.Count;

    /// <summary>Attachments of all leases together.</summary>
    public int AttachmentCount => _attachments.Count;

    /// <summary>ceil(1.5 × election timeout) in seconds.</summary>
    public static long MinimumTtlSeconds(long electionTimeoutMs, long heartbeatMs)
    {
        long ticks = heartbeatMs == 0 ? 0 : electionTimeoutMs / heartbeatMs;
        long minimumMs = 3 * ticks / 2 * heartbeatMs;
        return (minimumMs + 999) / 1000;
    }

    /// <summary>Fills the empty table from the lease bucket. Keys are attached afterwards by the store's scan.</summary>
    /// <exception cref="System.IO.InvalidDataException">A value is not a lease.</exception>
    public void Restore(IBucketReader buckets)
    {
        Invariant.Check(_slots.Count == 0, "leases are restored into an empty table");
        var visitor = new RestoreVisitor(this);
        buckets.ForEach(BucketId.Lease, ref visitor);
    }

    /// <inheritdoc/>
    public bool Exists(long id) => _slots.ContainsKey(id);

    /// <inheritdoc/>
    public void Attach(long id, ReadOnlySpan<byte> key)
    {
        if (_slots.TryGetValue(id, out int slot))
        {
            ref Lease lease = ref _leases[slot];
            if (_attachments.TryAdd(slot, key, ref lease.FirstKey))
            {
                lease.KeyCount++;
            }
        }
    }

    /// <inheritdoc/>
    public void Detach(long id, ReadOnlySpan<byte> key)
    {
        if (_slots.TryGetValue(id, out int slot))
        {
            ref Lease lease = ref _leases[slot];
            if (_attachments.Remove(slot, key, ref lease.FirstKey))
            {
                lease.KeyCount--;
            }
        }
    }

    /// <summary>Applies lease_grant (entry field 8).</summary>
    /// <param name="body">LeaseGrantRequest {1 TTL, 2 ID}; the ID was chosen before proposing.</param>
    /// <param name="writer">Takes the bucket change.</param>
    /// <param name="granted">Id and effective TTL when the result is <see cref="ErrorCode.None"/>.</param>
    public ErrorCode ApplyGrant(ReadOnlySpan<byte> body, IBucketWriter writer, out LeaseInfo granted)
    {
        granted = default;
        if (!LeaseMessages.TryParseGrant(body, out long id, out long ttl))
        {
            return ErrorCode.MalformedRequest;
        }

        if (id == 0)
        {
            return ErrorCode.LeaseNotFound;
        }

        if (ttl > MaxTtlSeconds)
        {
            return ErrorCode.LeaseTtlTooLarge;
        }

        if (_slots.ContainsKey(id))
        {
            return ErrorCode.LeaseExists;
        }

        ttl = Math.Max(ttl, _minTtlSeconds);
        Add(id, ttl, 0);
        Persist(writer, id, ttl, 0);
        granted = new LeaseInfo(id, ttl, 0, 0);
        Observer?.Granted(id, ttl);
        return ErrorCode.None;
    }

    /// <summary>Applies lease_revoke (entry field 9).</summary>
    /// <param name="body">LeaseRevokeRequest {1 ID}.</param>
    /// <param name="writer">Takes the bucket change.</param>
    /// <param name="keys">Receives the attached keys, sorted: the caller deletes them in one revision.</param>
    public ErrorCode ApplyRevoke(ReadOnlySpan<byte> body, IBucketWriter writer, LeaseKeySet keys)
    {
        keys.Clear();
        if (!LeaseMessages.TryParseId(body, out long id))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_slots.Remove(id, out int slot))
        {
            return ErrorCode.LeaseNotFound;
        }

        ref Lease lease = ref _leases[slot];
        _attachments.Drain(ref lease.FirstKey, keys);
        keys.Sort();
        lease = default;
        lease.FirstKey = _free;
        _free = slot;

        Span<byte> key = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(key, id);
        writer.Delete(BucketId.Lease, key);
        Observer?.Revoked(id);
        return ErrorCode.None;
    }

    /// <summary>Applies lease_checkpoint (entry field 11). Unknown leases are passed over.</summary>
    /// <param name="body">LeaseCheckpointRequest {1 repeated LeaseCheckpoint {1 ID, 2 remaining_TTL}}.</param>
    /// <param name="writer">Takes the bucket changes.</param>
    /// <param name="persist">True from cluster version 3.6 on, or when the operator asked for it.</param>
    public ErrorCode ApplyCheckpoint(ReadOnlySpan<byte> body, IBucketWriter writer, bool persist)
    {
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field != 1 || reader.Wire != WireType.Bytes)
            {
                reader.Skip();
                continue;
            }

            if (!LeaseMessages.TryParseCheckpoint(reader.ReadBytes(), out long id, out long remaining))
            {
                return ErrorCode.MalformedRequest;
            }

            if (_slots.TryGetValue(id, out int slot))
            {
                ref Lease lease = ref _leases[slot];
                lease.RemainingTtl = remaining;
                if (persist)
                {
                    Persist(writer, id, lease.Ttl, remaining);
                }

                Observer?.Checkpointed(id, remaining);
            }
        }

        return reader.Failed ? ErrorCode.MalformedRequest : ErrorCode.None;
    }

    /// <summary>One lease; false if it does not exist.</summary>
    public bool TryGet(long id, out LeaseInfo info)
    {
        if (!_slots.TryGetValue(id, out int slot))
        {
            info = default;
            return false;
        }

        ref readonly Lease lease = ref _leases[slot];
        info = new LeaseInfo(id, lease.Ttl, lease.RemainingTtl, lease.KeyCount);
        return true;
    }

    /// <summary>Copies the keys of a lease, sorted. False if it does not exist.</summary>
    public bool TryCopyKeys(long id, LeaseKeySet keys)
    {
        keys.Clear();
        if (!_slots.TryGetValue(id, out int slot))
        {
            return false;
        }

        _attachments.Copy(_leases[slot].FirstKey, keys);
        keys.Sort();
        return true;
    }

    /// <summary>All leases, in no particular order.</summary>
    public void CopyTo(List<LeaseInfo> leases)
    {
        for (int slot = 0; slot < _used; slot++)
        {
            ref readonly Lease lease = ref _leases[slot];
            if (lease.Id != 0)
            {
                leases.Add(new LeaseInfo(lease.Id, lease.Ttl, lease.RemainingTtl, lease.KeyCount));
            }
        }
    }

    /// <summary>Writes fields 2 and 3 of LeaseGrantResponse; the header is the caller's.</summary>
    public static void WriteGrantResponse(in LeaseInfo granted, IBufferWriter<byte> output)
    {
        var writer = new ProtoWriter(output.GetSpan(32));
        writer.WriteVarintFieldIfSet(2, (ulong)granted.Id);
        writer.WriteVarintFieldIfSet(3, (ulong)granted.Ttl);
        output.Advance(writer.Position);
    }

    /// <inheritdoc/>
    public void Dispose() => _attachments.Dispose();

    /// <summary>Walks the keys of a lease without copying; for the authorizer.</summary>
    internal LeaseKeyEnumerator EnumerateKeys(long id) =>
        new(_attachments, _slots.TryGetValue(id, out int slot) ? _leases[slot].FirstKey : AttachmentTable.None);

    private static void Persist(IBucketWriter writer, long id, long ttl, long remaining)
    {
        Span<byte> key = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(key, id);
        var value = new ProtoWriter(stackalloc byte[33]);
        value.WriteVarintFieldIfSet(1, (ulong)id);
        value.WriteVarintFieldIfSet(2, (ulong)ttl);
        value.WriteVarintFieldIfSet(3, (ulong)remaining);
        writer.Put(BucketId.Lease, key, value.Written);
    }

    private void Add(long id, long ttl, long remaining)
    {
        int slot = _free;
        if (slot != AttachmentTable.None)
        {
            _free = _leases[slot].FirstKey;
        }
        else
        {
            if (_used == _leases.Length)
            {
                Array.Resize(ref _leases, _leases.Length * 2);
            }

            slot = _used++;
        }

        _leases[slot] = new Lease
        {
            Id = id,
            Ttl = ttl,
            RemainingTtl = remaining,
            FirstKey = AttachmentTable.None,
        };
        _slots.Add(id, slot);
    }

    /// <summary>A slot; free when Id is 0, then FirstKey links to the next free one.</summary>
    private struct Lease
    {
        public long Id;
        public long Ttl;
        public long RemainingTtl;
        public int FirstKey;
        public int KeyCount;
    }

    private readonly struct RestoreVisitor(Lessor lessor) : IBucketVisitor
    {
        public void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            if (!LeaseMessages.TryParseLease(value, out long id, out long ttl, out long remaining)
                || id == 0
                || key.Length != 8
                || BinaryPrimitives.ReadInt64BigEndian(key) != id)
            {
                throw new System.IO.InvalidDataException(
                    $"bucket lease: key {Convert.ToHexStringLower(key)} does not hold its lease");
            }

            lessor.Add(id, Math.Max(ttl, lessor._minTtlSeconds), remaining);
            lessor.Observer?.Granted(id, remaining > 0 ? remaining : ttl);
        }
    }
}

/// <summary>Keys of one lease in no order; valid until the lease table changes.</summary>
internal struct LeaseKeyEnumerator
{
    private readonly AttachmentTable _table;
    private int _next;
    private int _current;

    public LeaseKeyEnumerator(AttachmentTable table, int first)
    {
        _table = table;
        _next = first;
        _current = AttachmentTable.None;
    }

    /// <summary>The key under the enumerator.</summary>
    public readonly ReadOnlySpan<byte> Current => _table.Key(_current);

    /// <summary>Moves on; false at the end.</summary>
    public bool MoveNext()
    {
        _current = _next;
        if (_current == AttachmentTable.None)
        {
            return false;
        }

        _next = _table.NextOfLease(_current);
        return true;
    }
}
