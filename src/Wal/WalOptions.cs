// WalOptions: the tunables of the log, with etcd's values as defaults. Immutable.
namespace Cairn.Wal;

/// <summary>How a log behaves.</summary>
public sealed record WalOptions
{
    /// <summary>etcd's segment size: 64 million bytes, not 64 MiB.</summary>
    public const long DefaultSegmentBytes = 64_000_000;

    /// <summary>A segment is cut before a batch that would pass this many bytes.</summary>
    public long SegmentBytes { get; init; } = DefaultSegmentBytes;

    /// <summary>Segments kept on disk (--max-wals); older ones go when a snapshot has released them. 0 keeps all.</summary>
    public int MaxSegments { get; init; } = 5;

    /// <summary>Bytes of zeros written per step while the next segment is prepared.</summary>
    public int FillChunkBytes { get; init; } = 1 << 20;

    /// <summary>Pause between two such steps, nanoseconds.</summary>
    public long FillPauseNs { get; init; } = 20_000_000;

    /// <summary>Quiet time after which an unsynced commit index is written, nanoseconds.</summary>
    public long QuietNs { get; init; } = 100_000_000;

    /// <summary>Pause between two purges, nanoseconds.</summary>
    public long PurgeIntervalNs { get; init; } = 30_000_000_000;

    /// <summary>Units queued between raft and the WAL thread; a power of two.</summary>
    public int QueueCapacity { get; init; } = 1024;

    /// <summary>A batch takes no further unit once it holds this many bytes.</summary>
    public int BatchBytes { get; init; } = 4 << 20;

    /// <summary>Leaves out the fdatasync of batches (--unsafe-no-fsync): a power cut may lose what was acknowledged.</summary>
    public bool NoSync { get; init; }

    /// <summary>Receives one line for the operator (a repair, an ignored file, a failed purge). May be null.</summary>
    public System.Action<string>? Warn { get; init; }
}
