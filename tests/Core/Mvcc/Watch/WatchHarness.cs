// WatchHarness: a hub over a store, polled by the test; streams whose responses are decoded by a reader of its own.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Mvcc.Watch;

/// <summary>One event as a client sees it.</summary>
internal sealed record SeenEvent(bool Delete, string Key, long Created, long Modified, long Version, string Value, string Previous);

/// <summary>One WatchResponse.</summary>
internal sealed record SeenResponse(
    long Revision, long Id, bool Created, bool Canceled, long CompactRevision, string Reason, bool Fragment, List<SeenEvent> Events)
{
    public override string ToString()
        => $"rev {Revision} id {Id}{(Created ? " created" : "")}{(Canceled ? " canceled" : "")} compact {CompactRevision} '{Reason}'"
            + $"{(Fragment ? " fragment" : "")} [{string.Join("; ", Events)}]";

    public static SeenResponse Read(ReadOnlySpan<byte> body)
    {
        long revision = 0, id = 0, compact = 0;
        bool created = false, canceled = false, fragment = false;
        string reason = "";
        var events = new List<SeenEvent>();
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    var header = new ProtoReader(reader.ReadBytes());
                    while (header.NextField())
                    {
                        ulong value = header.ReadVarint();
                        revision = header.Field == 3 ? (long)value : revision;
                    }

                    break;
                case 2:
                    id = reader.ReadInt64();
                    break;
                case 3:
                    created = reader.ReadBool();
                    break;
                case 4:
                    canceled = reader.ReadBool();
                    break;
                case 5:
                    compact = reader.ReadInt64();
                    break;
                case 6:
                    reason = Encoding.UTF8.GetString(reader.ReadBytes());
                    break;
                case 7:
                    fragment = reader.ReadBool();
                    break;
                case 11:
                    events.Add(Event(reader.ReadBytes()));
                    break;
                default:
                    Assert.Fail($"field {reader.Field}");
                    break;
            }
        }

        Assert.False(reader.Failed);
        return new SeenResponse(revision, id, created, canceled, compact, reason, fragment, events);
    }

    private static SeenEvent Event(ReadOnlySpan<byte> body)
    {
        bool delete = false;
        ReadOnlySpan<byte> pair = default;
        string previous = "";
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    delete = reader.ReadVarint() == 1;
                    break;
                case 2:
                    pair = reader.ReadBytes();
                    break;
                case 3:
                    Assert.True(KeyValue.TryParse(reader.ReadBytes(), out KeyValue before));
                    previous = $"{Encoding.UTF8.GetString(before.Value)}@{before.ModRevision}";
                    break;
                default:
                    Assert.Fail($"field {reader.Field} of an event");
                    break;
            }
        }

        Assert.True(KeyValue.TryParse(pair, out KeyValue kv));
        return new SeenEvent(
            delete, Encoding.UTF8.GetString(kv.Key), kv.CreateRevision, kv.ModRevision, kv.Version, Encoding.UTF8.GetString(kv.Value), previous);
    }
}

/// <summary>What a test asks for.</summary>
internal sealed record Wish(string Key, string End = "")
{
    public long Start { get; init; }

    public long Id { get; init; }

    public bool PrevKv { get; init; }

    public bool NoPut { get; init; }

    public bool NoDelete { get; init; }

    public bool Fragment { get; init; }

    public bool Progress { get; init; }
}

/// <summary>The client's side of one stream.</summary>
internal sealed class WatchClient : IWatchSink
{
    private readonly List<byte> _partial = [];

    public WatchClient(WatchHub hub) => Stream = hub.Open(this);

    public WatchStream Stream { get; }

    /// <summary>Everything received, in order.</summary>
    public List<SeenResponse> Seen { get; } = [];

    public int Woken { get; private set; }

    public void FramesReady() => Woken++;

    public void RoomForRequests()
    {
    }

    public bool TryCreate(Wish wish, ErrorCode permission = ErrorCode.None) => Stream.TryCreate(
        new WatchCreateRequest
        {
            Key = Encoding.UTF8.GetBytes(wish.Key),
            RangeEnd = Encoding.UTF8.GetBytes(wish.End),
            StartRevision = wish.Start,
            WatchId = wish.Id,
            PrevKv = wish.PrevKv,
            NoPut = wish.NoPut,
            NoDelete = wish.NoDelete,
            Fragment = wish.Fragment,
            ProgressNotify = wish.Progress,
        },
        permission);

    /// <summary>Takes at most so many bytes and decodes what became complete.</summary>
    public bool Drain(int most = int.MaxValue)
    {
        bool any = false;
        while (most > 0)
        {
            ReadOnlySpan<byte> frames = Stream.Peek();
            if (frames.IsEmpty)
            {
                break;
            }

            frames = frames[..Math.Min(frames.Length, most)];
            most -= frames.Length;
            _partial.AddRange(frames.ToArray());
            _ = Stream.Take(frames.Length);
            any = true;
        }

        byte[] bytes = [.. _partial];
        int at = 0;
        while (bytes.Length - at >= 5)
        {
            Assert.Equal(0, bytes[at]);
            int length = BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(at + 1));
            if (bytes.Length - at - 5 < length)
            {
                break;
            }

            Seen.Add(SeenResponse.Read(bytes.AsSpan(at + 5, length)));
            at += 5 + length;
        }

        _partial.RemoveRange(0, at);
        return any;
    }
}

/// <summary>Seeded randomness.</summary>
internal sealed class SeededRandom(int seed) : IRandom
{
    private readonly Random _random = new(seed);

    public ulong NextUInt64() => (ulong)_random.NextInt64(long.MinValue, long.MaxValue);
}

/// <summary>Store and hub.</summary>
internal sealed class WatchHarness : IDisposable
{
    public WatchHarness(WatchOptions? options = null, int seed = 1)
    {
        Hub = new WatchHub(Store.Store, options ?? new WatchOptions(), Store.Pool, new SeededRandom(seed), () => Store.Header);
    }

    public StoreHarness Store { get; } = new();

    public WatchHub Hub { get; private set; }

    public long NowNs { get; set; } = 1;

    public WatchClient Open() => new(Hub);

    public void Poll() => Hub.Poll(NowNs);

    /// <summary>Polls and drains until nothing happens any more.</summary>
    public void Settle(params WatchClient[] clients)
    {
        for (int i = 0; ; i++)
        {
            Assert.True(i < 1_000_000, "the hub comes to rest");
            bool any = Hub.Poll(NowNs);
            foreach (WatchClient client in clients)
            {
                any |= client.Drain();
            }

            if (!any)
            {
                return;
            }
        }
    }

    public void Put(string key, string value)
        => Assert.Equal(ErrorCode.None, Store.Put(new PutOp(Bytes(key), Bytes(value)).Encode()).Error);

    public void Delete(string key, string end = "")
        => Assert.Equal(ErrorCode.None, Store.DeleteRange(new DeleteOp(Bytes(key), Bytes(end), false).Encode()).Error);

    public void Compact(long revision)
    {
        byte[] body = new byte[12];
        var writer = new ProtoWriter(body);
        writer.WriteVarintField(1, (ulong)revision);
        Assert.Equal(ErrorCode.None, Store.Compact(writer.Written.ToArray()).Error);
    }

    public static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    public void Dispose()
    {
        Hub.Dispose();
        Store.Dispose();
    }
}
