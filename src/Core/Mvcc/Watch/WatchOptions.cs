// WatchOptions, WatchFigures: the limits of the watch hub and its counters. Pure data; figures may be read by any thread.
using System.Threading;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>What watchers may hold and how much the hub does at a time. Immutable.</summary>
public sealed record WatchOptions
{
    /// <summary>Period of progress messages of watchers that asked for them, nanoseconds; up to a tenth is added.</summary>
    public long ProgressIntervalNs { get; init; } = 600_000_000_000;

    /// <summary>A response with more bytes than this is split if its watcher allows it and it has two events.</summary>
    public int FragmentBytes { get; init; } = 1_572_864 + (512 * 1024);

    /// <summary>
    /// Bytes of responses a stream may have waiting for its client. Beyond it its watchers lag: they keep a revision
    /// and read history later. One response may pass it.
    /// </summary>
    public int StreamBytesMax { get; init; } = 1 << 20;

    /// <summary>Bytes waiting over all streams beyond which every stream gets only <see cref="StreamBytesLow"/>.</summary>
    public long TotalBytesMax { get; init; } = 256L << 20;

    /// <summary>See <see cref="TotalBytesMax"/>.</summary>
    public int StreamBytesLow { get; init; } = 32 * 1024;

    /// <summary>Requests of one stream that may wait for the hub; its client is not read from meanwhile.</summary>
    public int StreamRequestsMax { get; init; } = 32;

    /// <summary>Watchers of one stream; more are refused.</summary>
    public int StreamWatchersMax { get; init; } = 4 << 20;

    /// <summary>Bytes of history one pass for lagging watchers collects.</summary>
    public int CatchUpBytes { get; init; } = 4 << 20;

    /// <summary>Revisions one pass for lagging watchers looks at.</summary>
    public int CatchUpRevisions { get; init; } = 4096;

    /// <summary>Lagging watchers served by one pass.</summary>
    public int CatchUpWatchers { get; init; } = 1024;

    /// <summary>Different revisions in one response to a lagging watcher (etcd's number).</summary>
    public int ResponseRevisionsMax { get; init; } = 1000;
}

/// <summary>Counters of one hub. Written by the hub (and by writers for what they sent), read by anybody.</summary>
public sealed class WatchFigures
{
    internal long StreamCount;
    internal long WatcherCount;
    internal long LaggingCount;
    internal long EventCount;
    internal long EventsQueuedCount;
    internal long EventsTakenCount;
    internal long QueuedBytesCount;
    internal long TakenBytesCount;
    internal long CatchUpPassCount;
    internal long ForcedLagCount;

    /// <summary>Streams open.</summary>
    public long Streams => Volatile.Read(ref StreamCount);

    /// <summary>Watchers of all streams.</summary>
    public long Watchers => Volatile.Read(ref WatcherCount);

    /// <summary>Watchers that read history.</summary>
    public long SlowWatchers => Volatile.Read(ref LaggingCount);

    /// <summary>Events put into responses since the start.</summary>
    public long Events => Volatile.Read(ref EventCount);

    /// <summary>Events in responses that wait for their clients; exact to within one buffer a stream.</summary>
    public long PendingEvents => System.Math.Max(0, Volatile.Read(ref EventsQueuedCount) - Volatile.Read(ref EventsTakenCount));

    /// <summary>Bytes of responses that wait for their clients.</summary>
    public long PendingBytes => System.Math.Max(0, Volatile.Read(ref QueuedBytesCount) - Volatile.Read(ref TakenBytesCount));

    /// <summary>Passes over history made for lagging watchers.</summary>
    public long CatchUpPasses => Volatile.Read(ref CatchUpPassCount);

    /// <summary>Times a watcher began to lag because its stream's limit was reached.</summary>
    public long StreamLimitHits => Volatile.Read(ref ForcedLagCount);
}
