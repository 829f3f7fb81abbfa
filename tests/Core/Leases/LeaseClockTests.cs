// The clock of leases against a plain model: deadlines, renewals, expiry, promotion, checkpoints. Time is a parameter.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using Cairn.Core.Leases;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Lessors;

public sealed class LeaseClockTests
{
    private const long Second = 1_000_000_000;
    private const long Start = 5_000_000_123;

    [Fact]
    public void Renew_BeforePromotion_IsNotDecidedHere()
    {
        LeaseClock clock = Make();
        clock.Granted(7, 10, 0, Start);
        Assert.Equal(LeaseRenewal.NotPrimary, clock.TryRenew(7, Start, out _));
        Assert.Equal(long.MaxValue, clock.NextDeadlineNs);
        Assert.Empty(Expired(clock, Start + (1000 * Second)));
        clock.Promote(Start);
        Assert.Equal(LeaseRenewal.Renewed, clock.TryRenew(7, Start, out long ttl));
        Assert.Equal(10, ttl);
        Assert.Equal(LeaseRenewal.Unknown, clock.TryRenew(8, Start, out _));
        Assert.Equal(LeaseRenewal.Unknown, clock.TryRenew(0, Start, out _));
    }

    [Fact]
    public void Promote_EveryLease_GetsItsTimeAndOneElectionTimeout()
    {
        LeaseClock clock = Make();
        clock.Granted(1, 10, 0, Start);
        clock.Granted(2, 10, 4, Start); // checkpointed: 4 s left
        clock.Promote(Start + (100 * Second));
        Assert.Empty(Expired(clock, Start + (105 * Second) - 1));
        Assert.Equal([2L], Expired(clock, Start + (105 * Second) + 1_000_000));
        Assert.Empty(Expired(clock, Start + (111 * Second) - 1));
        Assert.Equal([1L], Expired(clock, Start + (111 * Second) + 1_000_000));
    }

    [Fact]
    public void Demote_RunningDeadlines_StopUntilTheNextPromotion()
    {
        LeaseClock clock = Make(primary: true);
        clock.Granted(1, 2, 0, Start);
        clock.Demote();
        Assert.Empty(Expired(clock, Start + (50 * Second)));
        Assert.Equal(LeaseRenewal.NotPrimary, clock.TryRenew(1, Start + Second, out _));
        Assert.True(clock.TryGet(1, Start + (50 * Second), out LeaseTime time));
        Assert.Equal(2000, time.RemainingMs);
        clock.Promote(Start + (60 * Second));
        Assert.Equal([1L], Expired(clock, Start + (63 * Second) + 1_000_000));
    }

    [Fact]
    public void Renew_AfterTheDeadline_IsTooLateAlsoBeforeAnybodyLooked()
    {
        LeaseClock clock = Make(primary: true);
        clock.Granted(1, 2, 0, Start);
        Assert.Equal(LeaseRenewal.Renewed, clock.TryRenew(1, Start + (2 * Second) - 1, out _));
        Assert.Equal(LeaseRenewal.Expired, clock.TryRenew(1, Start + (5 * Second), out _));
        Assert.Equal([1L], Expired(clock, Start + (5 * Second)));
        Assert.Equal(LeaseRenewal.Expired, clock.TryRenew(1, Start, out _)); // the clock of a late caller does not help
        clock.Revoked(1);
        Assert.Equal(LeaseRenewal.Unknown, clock.TryRenew(1, Start + (5 * Second), out _));
        Assert.Equal(1, clock.Expirations);
    }

    [Fact]
    public void Take_RevokeThatDoesNotCome_IsHandedOutAgainAfterTheRetryTime()
    {
        LeaseClock clock = Make(primary: true);
        clock.Granted(1, 2, 0, Start);
        clock.Granted(2, 2, 0, Start);
        Assert.Equal([1L, 2L], Expired(clock, Start + (3 * Second)).Order());
        Assert.Empty(Expired(clock, Start + (9 * Second)));
        clock.Revoked(1);
        Assert.Equal([2L], Expired(clock, Start + (11 * Second)));
        clock.PutBack(2, Start + (12 * Second));
        Assert.Equal([2L], Expired(clock, Start + (12 * Second) + 1_000_000));
    }

    [Theory]
    [InlineData(long.MaxValue)]
    [InlineData(Lessor.MaxTtlSeconds)]
    [InlineData(0)]
    public void Granted_AnyTime_NeverOverflows(long seconds)
    {
        LeaseClock clock = Make(primary: true);
        clock.Granted(long.MinValue, seconds, 0, Start);
        Assert.True(clock.TryGet(long.MinValue, Start, out LeaseTime time));
        Assert.InRange(time.RemainingMs, 0, Lessor.MaxTtlSeconds * 1000);
        Assert.InRange(clock.NextDeadlineNs, Start, long.MaxValue);
        clock.Promote(Start);
        Assert.InRange(clock.NextDeadlineNs, Start, long.MaxValue);
    }

    [Fact]
    public void RemainingSeconds_RightAfterTheGrant_IsOneLessAsInEtcd()
    {
        LeaseClock clock = Make(primary: true);
        clock.Granted(1, 1000, 0, Start);
        Assert.True(clock.TryGet(1, Start, out LeaseTime time));
        Assert.Equal(999, time.RemainingSeconds);
        Assert.True(clock.TryGet(1, Start + (2000 * Second), out time));
        Assert.Equal(0, time.RemainingSeconds);
    }

    [Fact]
    public void Checkpoints_LongLeases_AreDueEveryIntervalWhileMoreThanOneIsLeft()
    {
        LeaseClock clock = Make(primary: true, checkpoints: true);
        clock.Granted(1, 700, 0, Start);
        clock.Granted(2, 300, 0, Start); // not more than one interval: none
        clock.Granted(3, 1000, 0, Start);
        Assert.Equal(LeaseRenewal.Renewed, clock.TryRenew(3, Start + (299 * Second), out _));
        Assert.Equal([(1L, 400L), (3L, 999L)], Due(clock, Start + (300 * Second) + 1).Order());
        clock.Checkpointed(1, 400);
        Assert.Equal(LeaseRenewal.NeedsClear, clock.TryRenew(1, Start + (301 * Second), out _));
        clock.Checkpointed(1, 0);
        Assert.Equal(LeaseRenewal.Renewed, clock.TryRenew(1, Start + (301 * Second), out _));
        Assert.Equal([2L], Expired(clock, Start + (310 * Second)));
        Assert.Equal([(1L, 401L), (3L, 699L)], Due(clock, Start + (600 * Second) + 2_000_000).Order());
    }

    [Fact]
    public void Take_AnyHistory_AgreesWithAModel()
    {
        Gen<(int Kind, long Id, int Number)> step = Gen.Select(Gen.Int[0, 99], Gen.Long[1, 12], Gen.Int[0, 4000]);
        step.Array[1, 300].Sample(steps =>
        {
            LeaseClock clock = Make();
            var model = new Model();
            long now = Start;
            foreach ((int kind, long id, int number) in steps)
            {
                now += number * 1_000_003L;
                switch (kind)
                {
                    case < 25:
                        clock.Granted(id, 2 + (number % 7), 0, now);
                        model.Grant(id, 2 + (number % 7), now);
                        break;
                    case < 35:
                        clock.Revoked(id);
                        model.Leases.Remove(id);
                        break;
                    case < 60:
                        Assert.Equal(model.Renew(id, now), clock.TryRenew(id, now, out _));
                        break;
                    case < 65:
                        clock.Demote();
                        clock.Promote(now);
                        model.Promote(now);
                        break;
                    case < 67:
                        clock.Demote();
                        model.Primary = false;
                        break;
                    default:
                        Assert.Equal(model.Expire(now), Expired(clock, now).Order());
                        break;
                }

                Assert.Equal(model.Leases.Count, clock.Count);
                if (model.Primary && model.Leases.Count > 0)
                {
                    // Never later than the first deadline; earlier is allowed, the heap holds lower bounds.
                    Assert.InRange(clock.NextDeadlineNs, 0, model.Leases.Values.Min(static lease => lease.WakeNs) + 2_000_000);
                }
            }
        });
    }

    [Fact]
    public void CopyTo_ManyLeases_ListsEachOnceAndGrowsWithoutLosing()
    {
        LeaseClock clock = Make(primary: true);
        for (int i = 1; i <= 20_000; i++)
        {
            clock.Granted(i * 7919L, 2 + (i % 100), 0, Start);
        }

        for (int i = 1; i <= 20_000; i += 2)
        {
            clock.Revoked(i * 7919L);
        }

        var all = new (long RemainingMs, long Id)[20_000];
        Assert.Equal(10_000, clock.CopyTo(all, Start));
        Assert.Equal(
            Enumerable.Range(1, 10_000).Select(static i => i * 2 * 7919L), all.Take(10_000).Select(static x => x.Id).Order());
        for (int i = 2; i <= 20_000; i += 2)
        {
            Assert.True(clock.TryGet(i * 7919L, Start, out LeaseTime time));
            Assert.Equal(2 + (i % 100), time.TtlSeconds);
        }
    }

    /// <summary>One writer, several renewers: a lease that was renewed does not expire early, and nothing is mixed up.</summary>
    [Fact]
    public void TryRenew_WhileTheWriterGrantsAndRevokes_NeverTouchesAnotherLease()
    {
        const int Stable = 2000;
        LeaseClock clock = Make(primary: true);
        for (long id = 1; id <= Stable; id++)
        {
            clock.Granted(id, 1000 + id, 0, Start);
        }

        bool stop = false;
        long renewals = 0;
        string? fault = null;
        var renewers = new Thread[3];
        for (int t = 0; t < renewers.Length; t++)
        {
            ulong state = (ulong)t + 1;
            renewers[t] = new Thread(() =>
            {
                while (!Volatile.Read(ref stop) && fault is null)
                {
                    state = (state * 6364136223846793005) + 1442695040888963407;
                    long id = (long)((state >> 33) % (Stable * 2)) + 1;
                    LeaseRenewal outcome = clock.TryRenew(id, Start, out long ttl);
                    if (id <= Stable && (outcome != LeaseRenewal.Renewed || ttl != 1000 + id))
                    {
                        fault = $"lease {id}: {outcome}, {ttl} s";
                    }
                    else if (id > Stable && outcome == LeaseRenewal.Renewed && ttl != id)
                    {
                        fault = $"lease {id} renewed with the time of another one: {ttl}";
                    }

                    Interlocked.Increment(ref renewals);
                }
            });
            renewers[t].Start();
        }

        // Leases come and go beside the stable ones, and the chains grow several times.
        for (int round = 0; round < 200 && fault is null; round++)
        {
            for (long id = Stable + 1; id <= Stable * 2; id++)
            {
                clock.Granted(id, id, 0, Start);
            }

            for (long id = Stable + 1; id <= Stable * 2; id++)
            {
                clock.Revoked(id);
            }

            if (round % 20 == 0)
            {
                for (long id = 1; id <= 3000; id++)
                {
                    clock.Granted(1_000_000L + (round * 10_000L) + id, 5, 0, Start);
                }
            }
        }

        SpinWait.SpinUntil(() => Interlocked.Read(ref renewals) > 10_000 || fault is not null, 30_000);
        Volatile.Write(ref stop, true);
        foreach (Thread renewer in renewers)
        {
            renewer.Join();
        }

        Assert.Null(fault);
        Assert.True(renewals > 10_000);
    }

    private static LeaseClock Make(bool primary = false, bool checkpoints = false)
    {
        var clock = new LeaseClock(
            new LeaseClockOptions { ExtensionMs = 1000, RetryMs = 7000, Checkpoints = checkpoints }, Start, 99);
        if (primary)
        {
            clock.Promote(Start);
        }

        return clock;
    }

    private static long[] Expired(LeaseClock clock, long nowNs)
    {
        Span<long> ids = stackalloc long[64];
        clock.Take(nowNs, ids, out int count, [], out _);
        return ids[..count].ToArray();
    }

    private static (long, long)[] Due(LeaseClock clock, long nowNs)
    {
        var due = new (long, long)[64];
        clock.Take(nowNs, new long[64], out _, due, out int count);
        return due[..count];
    }

    /// <summary>Deadlines in ns, exact; the clock rounds to a millisecond in the lease's favour.</summary>
    private sealed class Model
    {
        public Dictionary<long, Lease> Leases { get; } = [];

        public bool Primary { get; set; }

        public void Grant(long id, long seconds, long now) => Leases.TryAdd(
            id, new Lease { Seconds = seconds, WakeNs = Primary ? Up(now) + (seconds * Second) : long.MaxValue });

        public void Promote(long now)
        {
            Primary = true;
            foreach (Lease lease in Leases.Values)
            {
                lease.WakeNs = Up(now) + ((lease.Seconds + 1) * Second);
                lease.IsExpiring = false;
            }
        }

        public LeaseRenewal Renew(long id, long now)
        {
            if (!Primary)
            {
                return LeaseRenewal.NotPrimary;
            }

            if (!Leases.TryGetValue(id, out Lease? lease))
            {
                return LeaseRenewal.Unknown;
            }

            if (lease.IsExpiring || lease.WakeNs <= Down(now))
            {
                return LeaseRenewal.Expired;
            }

            lease.WakeNs = Math.Max(lease.WakeNs, Up(now) + (lease.Seconds * Second));
            return LeaseRenewal.Renewed;
        }

        public IEnumerable<long> Expire(long now)
        {
            var ids = new List<long>();
            foreach ((long id, Lease lease) in Leases)
            {
                if (Primary && lease.WakeNs <= Down(now))
                {
                    lease.IsExpiring = true;
                    lease.WakeNs = Down(now) + (7 * Second);
                    ids.Add(id);
                }
            }

            return ids.Order();
        }

        private static long Up(long now) => Start + ((now - Start + 999_999) / 1_000_000 * 1_000_000);

        private static long Down(long now) => Start + ((now - Start) / 1_000_000 * 1_000_000);

        public sealed class Lease
        {
            public long Seconds { get; init; }

            public long WakeNs { get; set; }

            public bool IsExpiring { get; set; }
        }
    }
}
