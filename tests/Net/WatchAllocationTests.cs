// No garbage per event: a put, its match, a response for each watcher, and their way through our own HTTP/2 engine and a real
// socket, counted over all threads of the process. The client (bench/StreamConnection.cs) allocates nothing per message either.
using System;
using System.Diagnostics;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Bench;
using Cairn.Net.Host;
using Xunit;
using static Cairn.Net.Tests.ProtoBytes;

namespace Cairn.Net.Tests;

[Collection("alone")]
public sealed class WatchAllocationTests
{
    private const int Watchers = 100, Puts = 200, Rounds = 5;

    private long _events;
    private int _created;

    [Fact]
    public async Task Events_ThroughTheSocket_CostNoGarbage()
    {
        await using MemberFixture member = await MemberFixture.StartAsync(
            o => o with { UnsafeNoSync = true, SnapshotCount = 1_000_000 }, o => o with { Engine = Http2Engine.Cairn });
        using var watching = new StreamConnection(member.Port);
        watching.OnMessage = Count;
        watching.PumpInBackground();
        int stream = watching.Open("/etcdserverpb.Watch/Watch");
        for (int i = 0; i < Watchers; i++)
        {
            watching.Send(stream, WatchMessages.Create("some/key"u8));
        }

        watching.Flush();
        Await(ref _created, Watchers);
        using var putting = new H2Loop(member.Port, "/etcdserverpb.KV/Put", Message(Text(1, "some/key"), Bytes(2, new byte[64])));
        PutAll(putting); // warms up

        // The least of several: what happens once a second or once a commit is not the events'.
        long least = long.MaxValue;
        for (int round = 0; round < Rounds; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            PutAll(putting);
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        // One object of the smallest size per response would be 24 bytes times 20,000; one per put 4,800.
        Assert.True(least < 4_000, $"{least} bytes for {Puts} puts and {Puts * Watchers} events");
        Assert.Equal((Rounds + 1) * Puts * Watchers, Volatile.Read(ref _events));
    }

    private void PutAll(H2Loop putting)
    {
        for (int i = 0; i < Puts; i++)
        {
            long expected = Volatile.Read(ref _events) + Watchers;
            putting.Call();
            Await(ref _events, expected);
        }
    }

    private void Count(int stream, ReadOnlySpan<byte> message)
    {
        int events = 0;
        var fields = new Fields(message);
        while (fields.Next())
        {
            events += fields.Number == 11 ? 1 : 0;
            _created += fields.Number == 3 ? 1 : 0;
        }

        Volatile.Write(ref _events, _events + events);
    }

    private static void Await(ref long count, long wanted)
    {
        long began = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref count) < wanted)
        {
            Assert.True(Stopwatch.GetElapsedTime(began).TotalSeconds < 60, "events are missing");
            _ = Thread.Yield();
        }
    }

    private static void Await(ref int count, int wanted)
    {
        long began = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref count) < wanted)
        {
            Assert.True(Stopwatch.GetElapsedTime(began).TotalSeconds < 60, "watchers are missing");
            _ = Thread.Yield();
        }
    }
}
