// MemberLeases: clients that keep leases alive, and the rules of raft.md section 3.5 about their end.
//
// L1   A lease may only be ended by the server when nobody renewed it for its time, counted from when the last answered
//      keep-alive was sent, less what clocks may differ.
// L3   Once faults have ended, a lease nobody renews is gone within its time, one more for each change of leader, and slack.
using System.Collections.Generic;
using Cairn.Core.Leases;

namespace Cairn.Simulation;

internal sealed class MemberLeases(MembersWorld world, SimRandom random)
{
    private readonly SortedDictionary<long, Lease> _leases = [];
    private long _nextId;

    private sealed class Lease
    {
        public long Ttl;
        public long RenewedNs; // when the last answered renewal, or the grant, was sent
        public bool IsKept;
    }

    public int Renewals { get; private set; }

    public int Expirations { get; private set; }

    /// <summary>A request that grants a lease; the server's shortest time is longer than some of these.</summary>
    public StoreRequest NewGrant()
    {
        long shortest = (world.Config.ElectionMs * 3L / 2 + 999) / 1000;
        long id = random.Chance(15) && _nextId > 0 ? 1000 + random.Below(_nextId) + 1 : 1000 + ++_nextId;
        return new StoreRequest(StoreRequestKind.LeaseGrant) { Lease = id, Ttl = shortest + random.Below(3) };
    }

    public StoreRequest NewRevoke() => new(StoreRequestKind.LeaseRevoke) { Lease = AnyId() };

    /// <summary>Some lease that was asked for; 0: none yet.</summary>
    public long AnyId() => _nextId == 0 ? 1 : 1000 + 1 + random.Below(_nextId);

    /// <summary>A grant was answered.</summary>
    public void Granted(long id, long ttl, long askedNs)
    {
        _leases[id] = new Lease { Ttl = ttl, RenewedNs = askedNs, IsKept = random.Chance(60) };
        Next(id);
    }

    /// <summary>Revoked by a client.</summary>
    public void Ended(long id) => _ = _leases.Remove(id);

    /// <summary>The server has ended it; only now is that in the log.</summary>
    public void Expired(long id, ulong index)
    {
        Expirations++;
        if (_leases.Remove(id, out Lease? lease))
        {
            long allowed = lease.Ttl * 1_000_000L * (1000 - (2 * world.Config.ClockErrorPermille)) - 2_000_000;
            SimCheck.That(
                world.NowNs - lease.RenewedNs >= allowed,
                $"L1: lease {id} with {lease.Ttl} s was ended at index {index}, {(world.NowNs - lease.RenewedNs) / 1_000_000} ms after it was renewed");
        }
    }

    /// <summary>Nobody renews any more.</summary>
    public void LetGo()
    {
        foreach (Lease lease in _leases.Values)
        {
            lease.IsKept = false;
        }
    }

    private void Next(long id)
    {
        Lease lease = _leases[id];
        long period = lease.Ttl * 1_000_000_000L / 3;
        world.After((period / 2) + random.Below(period), () => Renew(id, lease));
    }

    private void Renew(long id, Lease lease)
    {
        if (!_leases.TryGetValue(id, out Lease? now) || now != lease || !lease.IsKept)
        {
            return;
        }

        // Whoever is asked; one that does not decide says so. An answer may get lost on its way back.
        int first = random.Below(world.Nodes.Count);
        for (int i = 0; i < world.Nodes.Count; i++)
        {
            MemberNode node = world.Nodes[(first + i) % world.Nodes.Count];
            if (!node.IsServing || node.Member!.TryRenewLease(id, out long ttl) != LeaseRenewal.Renewed)
            {
                continue;
            }

            Renewals++;
            SimCheck.That(ttl == lease.Ttl, $"L1: {node.Name} renewed lease {id} for {ttl} s, granted {lease.Ttl} s");
            if (random.Chance(95))
            {
                lease.RenewedNs = world.NowNs;
            }

            break;
        }

        if (random.Chance(5))
        {
            lease.IsKept = false; // its owner is gone
        }

        Next(id);
    }
}
