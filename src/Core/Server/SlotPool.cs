// SlotPool: request slots at rest, and the numbering of requests (storage.md §7.4). Any thread.
//
// Users      Auth is not served yet, so where a directory of etcd's has it enabled every request runs as root (the
//            start warns): its entry says so in its header, with the auth revision of that moment. Apply judges every
//            entry alike, ours and those that etcd wrote: one without a user was refused by etcd and is refused again.
using System;
using System.Collections.Concurrent;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Auth;

namespace Cairn.Core.Server;

/// <summary>Rents slots and numbers them.</summary>
internal sealed class SlotPool
{
    private static readonly ReadOnlyMemory<byte> Root = "root"u8.ToArray();

    private readonly ConcurrentQueue<RequestSlot> _free = new();
    private readonly Func<AuthView> _auth;
    private readonly NativePool _pool;
    private long _lastId;
    private long _inFlightBytes;

    /// <param name="pool">Where payloads and responses live.</param>
    /// <param name="memberId">Its low 16 bits lead every id.</param>
    /// <param name="unixMilliseconds">The start; its low 40 bits follow.</param>
    /// <param name="count">Slots to make ahead.</param>
    /// <param name="auth">What auth knows now; any thread.</param>
    internal SlotPool(NativePool pool, ulong memberId, long unixMilliseconds, int count, Func<AuthView> auth)
    {
        _pool = pool;
        _auth = auth;
        ulong first = (memberId << 48) | (((ulong)unixMilliseconds & ((1UL << 40) - 1)) << 8);
        _lastId = (long)first;
        for (int i = 0; i < count; i++)
        {
            _free.Enqueue(new RequestSlot(this, pool));
        }
    }

    /// <summary>Bytes of the proposals that are neither applied nor refused yet, as far as this member's slots know.</summary>
    internal long InFlightBytes => Volatile.Read(ref _inFlightBytes);

    internal void AddInFlight(long bytes) => Interlocked.Add(ref _inFlightBytes, bytes);

    internal RequestSlot Rent()
    {
        if (!_free.TryDequeue(out RequestSlot? slot))
        {
            slot = new RequestSlot(this, _pool);
        }

        slot.Rented(NextId());
        AuthView auth = _auth();
        if (auth.IsEnabled)
        {
            slot.Username = Root;
            slot.AuthRevision = auth.Revision;
        }

        return slot;
    }

    /// <summary>The next request id; the counter carries into the time, never into the member's bits in practice.</summary>
    internal ulong NextId() => (ulong)Interlocked.Increment(ref _lastId);

    internal void Put(RequestSlot slot) => _free.Enqueue(slot);
}
