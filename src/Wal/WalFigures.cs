// WalFigures: what the log and the snapshot files cost, for the metrics page. Each number has one writing thread.
using System.Threading;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Durations of the log's writes and syncs; counted by the WAL thread.</summary>
public sealed class WalFigures
{
    private static readonly long[] s_bounds = Distribution.Doubling(1_000_000, 14);
    private long _bytes;

    /// <summary>Durations of fdatasync.</summary>
    public OwnedDistribution Sync { get; } = new(s_bounds, 1e9);

    /// <summary>Durations of the write before it.</summary>
    public OwnedDistribution Write { get; } = new(s_bounds, 1e9);

    /// <summary>Bytes written.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    internal void Wrote(long bytes) => Volatile.Write(ref _bytes, _bytes + bytes);
}

/// <summary>Durations of saving snapshot files; counted by whoever saves, one thread.</summary>
public sealed class SnapFigures
{
    private static readonly long[] s_bounds = Distribution.Doubling(1_000_000, 14);

    /// <summary>From the first byte encoded until directory and file are durable.</summary>
    public OwnedDistribution Save { get; } = new(s_bounds, 1e9);

    /// <summary>Encoding alone.</summary>
    public OwnedDistribution Marshal { get; } = new(s_bounds, 1e9);

    /// <summary>fsync of the file alone.</summary>
    public OwnedDistribution Sync { get; } = new(s_bounds, 1e9);
}
