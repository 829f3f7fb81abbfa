// Free pages against a plain set: the lowest run that fits is taken, and no page is ever handed out twice.
// Pending pages against the plain rule: a page is free once no pinned root lies between its making and its end.
using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class FreePagesTests
{
    [Fact]
    public void Take_AlwaysGivesTheLowestRunThatFits()
    {
        Gen.Int[0, int.MaxValue].Sample(
            seed =>
            {
                Random random = new(seed);
                using FreePages pages = new(1 << 14) { HighWater = 4 };
                SortedSet<ulong> free = new();
                List<(ulong First, uint Count)> used = new();
                ulong mark = 4;
                (ulong From, ulong To) avoided = (0, 0);
                for (int i = 0; i < 400; i++)
                {
                    if (random.Next(15) == 0)
                    {
                        // Also a window that the mark lies in, or below.
                        ulong start = (ulong)random.Next(2, (int)mark + 50);
                        avoided = random.Next(3) == 0 ? (0, 0) : (start, start + (ulong)random.Next(1, 100));
                        pages.Avoid(avoided.From, avoided.To);
                    }

                    if (used.Count > 0 && random.Next(5) < 2)
                    {
                        int index = random.Next(used.Count);
                        (ulong first, uint count) = used[index];
                        used.RemoveAt(index);
                        pages.Add(first, count);
                        for (uint k = 0; k < count; k++)
                        {
                            free.Add(first + k);
                        }
                    }
                    else if (random.Next(20) == 0)
                    {
                        pages.TrimEnd();
                        while (mark > 4 && free.Remove(mark - 1))
                        {
                            mark--;
                        }
                    }
                    else
                    {
                        uint want = random.Next(3) == 0 ? (uint)random.Next(1, 40) : 1;
                        bool below = random.Next(4) == 0;
                        ulong limit = (ulong)random.Next(2, (int)mark + 10);
                        ulong? expected = free.Where(p => Enumerable.Range(0, (int)want).All(k => free.Contains(p + (ulong)k) && (below || p + (ulong)k < avoided.From || p + (ulong)k >= avoided.To))).Select(p => (ulong?)p).FirstOrDefault();
                        ulong taken;
                        if (below)
                        {
                            bool fits = expected is not null && expected + want <= limit;
                            Assert.Equal(fits, pages.TryTakeBelow(want, limit, out taken));
                            if (!fits)
                            {
                                continue;
                            }
                        }
                        else
                        {
                            Assert.True(pages.TryTake(want, out taken));
                        }

                        Assert.Equal(expected ?? mark, taken);
                        for (uint k = 0; k < want && expected is not null; k++)
                        {
                            free.Remove(taken + k);
                        }

                        mark += expected is null ? want : 0;
                        used.Add((taken, want));
                    }

                    Assert.Equal(free.Count, pages.Count);
                    Assert.Equal(mark, pages.HighWater);
                    ulong from = (ulong)random.Next(2, (int)mark + 1);
                    Assert.Equal(free.Where(p => p >= from).Select(p => (ulong?)p).FirstOrDefault() ?? mark, pages.NextFree(from));
                    Assert.Equal(free.Count(p => p < from), pages.CountBelow(from));
                }
            },
            iter: 60,
            threads: 2);
    }

    [Fact]
    public void Take_BeyondTheReservation_Fails()
    {
        using FreePages pages = new(100) { HighWater = 4 };
        Assert.True(pages.TryTake(96, out _));
        Assert.False(pages.TryTake(1, out _));
        pages.Add(50, 1);
        Assert.True(pages.TryTake(1, out ulong page));
        Assert.Equal(50UL, page);
    }

    [Fact]
    public void Release_FreesExactlyWhatNoPinSees()
    {
        Gen.Int[0, int.MaxValue].Sample(
            seed =>
            {
                Random random = new(seed);
                using FreePages free = new(1 << 14) { HighWater = 1000 };
                using PendingPages pending = new(1 << 14);
                Dictionary<ulong, (uint Made, uint End)> waiting = new();
                HashSet<ulong> expectedFree = new();
                SortedSet<uint> pins = new();
                ulong next = 4;
                for (uint commit = 1; commit < 60; commit++)
                {
                    for (int i = random.Next(4); i > 0; i--)
                    {
                        uint made = (uint)random.Next((int)commit);
                        pending.NoteMade(next, made);
                        pending.Add(next, 1, commit);
                        waiting.Add(next++, (made, commit));
                    }

                    if (random.Next(3) == 0)
                    {
                        pins.Add(commit);
                    }

                    if (pins.Count > 0 && random.Next(3) == 0)
                    {
                        pins.Remove(pins.ElementAt(random.Next(pins.Count)));
                    }

                    pending.Release(pins.ToArray(), free);
                    foreach ((ulong page, (uint made, uint end)) in waiting.ToArray())
                    {
                        if (!pins.Any(p => p >= made && p < end))
                        {
                            expectedFree.Add(page);
                            waiting.Remove(page);
                        }
                    }

                    Assert.Equal(waiting.Count, pending.Count);
                    Assert.Equal(expectedFree.Count, free.Count);
                    Assert.All(expectedFree, p => Assert.True(free.IsFree(p)));
                }
            },
            iter: 100,
            threads: 2);
    }
}
