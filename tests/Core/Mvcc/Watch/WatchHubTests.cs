// Single rules of watching, one by one. Expected values: behaviour.md §4 and the recorded streams of etcd 3.6.14.
using System;
using System.Collections.Generic;
using System.Linq;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc.Watch;

public sealed class WatchHubTests
{
    [Fact]
    public void Create_AnswersBeforeItsEvents_AndGivesTheRevision()
    {
        using var world = new WatchHarness();
        world.Put("a", "1");
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a")));
        world.Put("a", "2"); // published before the hub looked: not "from now" for this watcher
        world.Settle(client);
        world.Put("a", "3");
        world.Settle(client);
        Assert.Equal(2, client.Seen.Count);
        Assert.Equal((3, 0, true), (client.Seen[0].Revision, client.Seen[0].Id, client.Seen[0].Created));
        Assert.Equal("rev 4 id 0 compact 0 '' [SeenEvent { Delete = False, Key = a, Created = 2, Modified = 4, Version = 3, Value = 3, Previous =  }]", client.Seen[1].ToString());
    }

    [Fact]
    public void Ids_ArePickedFromTheSmallestNeverUsed()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        foreach (long id in new long[] { 1, 0, 0, 0, -7, -7 })
        {
            Assert.True(client.TryCreate(new Wish("a") { Id = id }));
        }

        world.Settle(client);
        Assert.True(client.Stream.TryCancel(0));
        Assert.True(client.Stream.TryCancel(99));
        Assert.True(client.TryCreate(new Wish("a")));
        world.Settle(client);
        Assert.Equal([1, 0, 2, 3, -7, -1, 0, 4], client.Seen.Select(r => r.Id));
        Assert.Equal("mvcc: duplicate watch ID provided on the WatchStream", client.Seen[5].Reason);
        Assert.True(client.Seen[6] is { Canceled: true, Created: false, Reason: "", CompactRevision: 0 });
        Assert.Equal(5, world.Hub.Figures.Watchers);
    }

    [Theory]
    [InlineData("z", "a", 0, "mvcc: watcher range is empty")]
    [InlineData("z", "z", 0, "mvcc: watcher range is empty")]
    [InlineData("z", "a", -1, "etcdserver: mvcc: required revision has been compacted")]
    [InlineData("a", "", long.MinValue, "etcdserver: mvcc: required revision has been compacted")]
    public void Create_Impossible_IsCreatedAndCanceledAtOnce(string key, string end, long start, string reason)
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish(key, end) { Start = start, Id = 5 }));
        world.Settle(client);
        SeenResponse only = Assert.Single(client.Seen);
        Assert.Equal((1, -1, true, true, reason), (only.Revision, only.Id, only.Created, only.Canceled, only.Reason));
        Assert.Equal(0, world.Hub.Figures.Watchers);
    }

    [Fact]
    public void Create_WithoutPermission_SaysSoAsGoDoes()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a"), ErrorCode.PermissionDenied));
        world.Settle(client);
        Assert.Equal("rpc error: code = PermissionDenied desc = etcdserver: permission denied", Assert.Single(client.Seen).Reason);
    }

    [Fact]
    public void Start_AtTheCompactRevision_IsServed_BelowItIsCanceled()
    {
        using var world = new WatchHarness();
        for (int i = 0; i < 10; i++)
        {
            world.Put("a", "v" + i); // revisions 2..11
        }

        world.Compact(6);
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a") { Start = 6, PrevKv = true }));
        Assert.True(client.TryCreate(new Wish("a") { Start = 5 }));
        world.Settle(client);
        world.Put("a", "w");
        world.Settle(client);
        Assert.Equal([(11, 0), (11, 1)], client.Seen.Take(2).Select(r => (r.Revision, r.Id)));
        SeenResponse canceled = client.Seen.Single(r => r.Canceled);
        Assert.Equal((0, 1, 6, ""), (canceled.Revision, canceled.Id, canceled.CompactRevision, canceled.Reason));
        List<SeenEvent> events = client.Seen.Where(r => r.Id == 0).SelectMany(r => r.Events).ToList();
        Assert.Equal([6, 7, 8, 9, 10, 11, 12], events.Select(e => e.Modified));
        Assert.Equal("", events[0].Previous); // at 5: compacted away
        Assert.Equal("v4@6", events[1].Previous);
        Assert.Equal("v9@11", events[6].Previous);
    }

    [Fact]
    public void Id_OfAWatcherThatACompactionEnded_StaysTakenUntilItIsCanceled()
    {
        using var world = new WatchHarness();
        for (int i = 0; i < 10; i++)
        {
            world.Put("a", "v" + i);
        }

        world.Compact(6);
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a") { Start = 5, Id = 3 }));
        world.Settle(client);
        Assert.Equal(0, world.Hub.Figures.Watchers);
        Assert.True(client.TryCreate(new Wish("a") { Id = 3 }));
        Assert.True(client.Stream.TryCancel(3));
        Assert.True(client.Stream.TryCancel(3));
        Assert.True(client.TryCreate(new Wish("a") { Id = 3 }));
        world.Settle(client);
        Assert.Equal([6, 0, 0, 0, 0], client.Seen.Select(r => r.CompactRevision).Order().Reverse());
        Assert.Equal([3, 3, -1, 3, 3], client.Seen.Select(r => r.Id));
        Assert.Equal([false, true, true, true, false], client.Seen.Select(r => r.Canceled));
        Assert.Equal(1, world.Hub.Figures.Watchers);
    }

    [Fact]
    public void Txn_OfManyChanges_ComesInOneResponse()
    {
        using var world = new WatchHarness();
        world.Put("b", "old");
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a", "z") { PrevKv = true }));
        Assert.True(client.TryCreate(new Wish("a") { NoPut = true }));
        Assert.True(client.TryCreate(new Wish("a", "\0") { NoDelete = true }));
        world.Settle(client);
        client.Seen.Clear();
        Assert.Equal(ErrorCode.None, world.Store.Txn(new TxnOp([], [
            new PutOp("c"u8.ToArray(), "1"u8.ToArray()), new DeleteOp("b"u8.ToArray(), [], false), new PutOp("a"u8.ToArray(), "2"u8.ToArray())], []).Encode()).Error);
        world.Settle(client);
        Assert.Equal(2, client.Seen.Count);
        SeenResponse all = client.Seen.Single(r => r.Id == 0);
        Assert.Equal([(false, "c"), (true, "b"), (false, "a")], all.Events.Select(e => (e.Delete, e.Key)));
        Assert.Equal(["", "old@2", ""], all.Events.Select(e => e.Previous));
        Assert.Equal((0, 3), (all.Events[1].Created, all.Events[1].Modified));
        Assert.Equal(["c", "a"], client.Seen.Single(r => r.Id == 2).Events.Select(e => e.Key));
    }

    [Fact]
    public void History_ComesInResponsesOfAThousandRevisions()
    {
        using var world = new WatchHarness();
        for (int i = 0; i < 2600; i++)
        {
            world.Put("a", "v");
            if (i == 1000)
            {
                world.Store.Freeze();
            }
        }

        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a") { Start = 2 }));
        world.Settle(client);
        Assert.Equal([0, 1000, 1000, 600], client.Seen.Select(r => r.Events.Count));
        Assert.All(client.Seen, r => Assert.Equal(2601, r.Revision));
        Assert.Equal(Enumerable.Range(2, 2600).Select(r => (long)r), client.Seen.SelectMany(r => r.Events).Select(e => e.Modified));
    }

    [Fact]
    public void Progress_OnRequest_OnlyWhenEveryWatcherIsThere()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        Assert.True(client.Stream.TryProgress()); // nobody watches
        Assert.True(client.TryCreate(new Wish("a")));
        Assert.True(client.Stream.TryProgress());
        world.Settle(client);
        Assert.Equal([(1, 0, true), (1, -1, false)], client.Seen.Select(r => (r.Revision, r.Id, r.Created)));
        Assert.True(client.TryCreate(new Wish("b") { Start = 3 }));
        Assert.True(client.Stream.TryProgress()); // that one waits for the future
        world.Settle(client);
        Assert.Equal(3, client.Seen.Count);
        world.Put("x", "1");
        Assert.True(client.Stream.TryProgress());
        world.Settle(client);
        Assert.Equal(3, client.Seen.Count);
        world.Put("x", "1");
        Assert.True(client.Stream.TryProgress());
        world.Settle(client);
        Assert.Equal((3, -1), (client.Seen[^1].Revision, client.Seen[^1].Id));
    }

    [Fact]
    public void Progress_ByTime_SkipsWhoHadEvents()
    {
        using var world = new WatchHarness(new WatchOptions { ProgressIntervalNs = 1000 });
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a") { Progress = true }));
        Assert.True(client.TryCreate(new Wish("b")));
        world.Settle(client);
        client.Seen.Clear();
        world.NowNs += 1101;
        world.Settle(client);
        Assert.Equal((1, 0), (client.Seen[0].Revision, client.Seen[0].Id));
        world.Put("a", "1");
        world.Settle(client);
        Assert.Equal(2, client.Seen.Count);
        world.NowNs += 1101; // it had an event since the last tick
        world.Settle(client);
        Assert.Equal(2, client.Seen.Count);
        world.NowNs += 1101;
        world.Settle(client);
        Assert.Equal((2, 0, 0), (client.Seen[^1].Revision, client.Seen[^1].Id, client.Seen[^1].Events.Count));
    }

    [Fact]
    public void Fragment_SplitsBetweenEvents_AndMarksAllButTheLast()
    {
        using var world = new WatchHarness(new WatchOptions { FragmentBytes = 2 * 1024 * 1024 });
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("f/", "f0") { Fragment = true, PrevKv = true }));
        Assert.True(client.TryCreate(new Wish("f/", "f0") { PrevKv = true }));
        world.Settle(client);
        for (int i = 0; i < 4; i++)
        {
            world.Put("f/" + i, new string('x', 900_000));
            world.Settle(client);
        }

        client.Seen.Clear();
        world.Delete("f/", "f0");
        world.Settle(client);
        Assert.Equal(
            [(0, true, "f/0 f/1"), (0, false, "f/2 f/3"), (1, false, "f/0 f/1 f/2 f/3")],
            client.Seen.OrderBy(r => r.Id).Select(r => ((int)r.Id, r.Fragment, string.Join(' ', r.Events.Select(e => e.Key)))));
    }

    [Fact]
    public void Client_ThatDoesNotRead_CostsItsLimitAndMissesNothing()
    {
        var options = new WatchOptions { StreamBytesMax = 4096, StreamRequestsMax = 4 };
        using var world = new WatchHarness(options);
        WatchClient slow = world.Open();
        WatchClient quick = world.Open();
        Assert.True(slow.TryCreate(new Wish("a")));
        Assert.True(quick.TryCreate(new Wish("a")));
        world.Settle(quick);
        for (int i = 0; i < 3000; i++)
        {
            world.Put("a", "value " + i);
            world.Poll();
            quick.Drain();
            Assert.InRange(world.Hub.Figures.PendingBytes, 0, 4096 + 200);
        }

        Assert.Equal(1, world.Hub.Figures.SlowWatchers);
        Assert.True(world.Hub.Figures.StreamLimitHits >= 1);
        Assert.Equal(3001, quick.Seen.Count);

        // Nor do its requests pile up: the ring is full, the rest is refused until there is room.
        Assert.Equal(4, Enumerable.Range(0, 50).Count(_ =>
        {
            bool taken = slow.TryCreate(new Wish("b"));
            world.Poll();
            return taken;
        }));

        world.Settle(slow, quick);
        Assert.Equal(Enumerable.Range(2, 3000).Select(r => (long)r), slow.Seen.SelectMany(r => r.Events).Select(e => e.Modified));
        Assert.Equal(0, world.Hub.Figures.SlowWatchers);
        Assert.Equal(0, world.Hub.Figures.PendingBytes);
        Assert.Equal(0, world.Hub.Figures.PendingEvents);
    }

    [Fact]
    public void Compaction_WaitsForWatchersThatAreNotLate()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a")));
        world.Settle(client);
        for (int i = 0; i < 20; i++)
        {
            world.Put("a", "v" + i);
        }

        world.Compact(21);
        world.Store.Freeze();
        for (int i = 0; i < 100; i++)
        {
            _ = world.Store.Step();
        }

        Assert.Equal(-1, world.Store.Store.FinishedCompactRevision);
        world.Settle(client);
        world.Store.Settle();
        Assert.Equal(21, world.Store.Store.FinishedCompactRevision);
        Assert.Equal(20, client.Seen.Sum(r => r.Events.Count));
    }

    [Fact]
    public void Close_RemovesEveryWatcher_AndTheMemoryGoesBack()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        WatchClient other = world.Open();
        for (int i = 0; i < 20_000; i++)
        {
            Assert.True(client.TryCreate(new Wish("key/" + i)));
            world.Settle(client, other);
        }

        Assert.True(other.TryCreate(new Wish("key/7")));
        world.Settle(client, other);
        Assert.Equal((2, 20_001), (world.Hub.Figures.Streams, world.Hub.Figures.Watchers));
        client.Stream.Close();
        world.Settle(other);
        Assert.Equal((1, 1), (world.Hub.Figures.Streams, world.Hub.Figures.Watchers));
        world.Put("key/7", "x");
        world.Settle(other);
        Assert.Single(other.Seen[^1].Events);
        other.Stream.Close();
        world.Settle();
        Assert.Equal((0, 0), (world.Hub.Figures.Streams, world.Hub.Figures.Watchers));
        Assert.False(world.Hub.IsWanted);
        Assert.Equal(0, world.Hub.Figures.PendingBytes);
    }

    [Fact]
    public void Swap_OfTheStore_GoesOnWhereEachWatcherStood()
    {
        using var world = new WatchHarness();
        using var other = new StoreHarness();
        WatchClient client = world.Open();
        Assert.True(client.TryCreate(new Wish("a")));
        Assert.True(client.TryCreate(new Wish("a") { Start = 8 }));
        world.Settle(client);
        for (int i = 0; i < 9; i++)
        {
            byte[] put = new PutOp("a"u8.ToArray(), WatchHarness.Bytes("v" + i)).Encode();
            Assert.Equal(ErrorCode.None, other.Put(put).Error);
            if (i < 3)
            {
                Assert.Equal(ErrorCode.None, world.Store.Put(put).Error);
            }
        }

        world.Settle(client);
        world.Store.Store.Replace(other.Store);
        world.Settle(client);
        Assert.Equal(Enumerable.Range(2, 9).Select(r => (long)r), client.Seen.Where(r => r.Id == 0).SelectMany(r => r.Events).Select(e => e.Modified));
        Assert.Equal([8, 9, 10], client.Seen.Where(r => r.Id == 1).SelectMany(r => r.Events).Select(e => e.Modified));
        Assert.Equal(ErrorCode.None, other.Put(new PutOp("a"u8.ToArray(), [1]).Encode()).Error);
        world.Settle(client);
        Assert.Equal([0, 1], client.Seen.TakeLast(2).Select(r => r.Id).Order());
        client.Stream.Close();
        world.Settle();
    }

    [Fact]
    public void Events_InSteadyState_AllocateNothing()
    {
        using var world = new WatchHarness();
        WatchClient client = world.Open();
        for (int i = 0; i < 100; i++)
        {
            Assert.True(client.TryCreate(new Wish("a", i % 2 == 0 ? "" : "b") { PrevKv = i % 3 == 0 }));
            world.Settle(client);
        }

        byte[] put = new PutOp("a"u8.ToArray(), new byte[200]).Encode();
        long allocated = 0;
        for (int i = 0; i < 300; i++)
        {
            Assert.Equal(ErrorCode.None, world.Store.Put(put).Error);
            long before = GC.GetAllocatedBytesForCurrentThread();
            world.Poll();
            while (client.Stream.Peek() is { IsEmpty: false } frames)
            {
                _ = client.Stream.Take(frames.Length);
            }

            allocated += i < 100 ? 0 : GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, allocated);
        Assert.Equal(300 * 100, world.Hub.Figures.Events);
    }
}
