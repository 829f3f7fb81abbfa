// ServiceFigures: durations of what the services do themselves, for the metrics page. Any I/O thread.
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Net.Services;

/// <summary>Counters of one member's services.</summary>
internal sealed class ServiceFigures
{
    private static readonly long[] s_range = Distribution.Doubling(100_000, 20);
    private static readonly long[] s_hash = Distribution.Doubling(10_000_000, 15);
    private int _defragments;

    /// <summary>Ranges that were answered.</summary>
    public SharedDistribution GoodRanges { get; } = new(s_range, 1e9);

    /// <summary>Ranges that the store refused.</summary>
    public SharedDistribution BadRanges { get; } = new(s_range, 1e9);

    /// <summary>Maintenance.Hash.</summary>
    public SharedDistribution Hash { get; } = new(s_hash, 1e9);

    /// <summary>Maintenance.HashKV.</summary>
    public SharedDistribution HashKv { get; } = new(s_hash, 1e9);

    /// <summary>Maintenance.Defragment.</summary>
    public SharedDistribution Defragment { get; } = new(Distribution.Doubling(100_000_000, 13), 1e9);

    /// <summary>Maintenance.Snapshot, from the pin to the last byte handed over.</summary>
    public SharedDistribution Snapshot { get; } = new(Distribution.Doubling(10_000_000, 17), 1e9);

    /// <summary>1 while the file is being made smaller, else 0.</summary>
    public int Defragmenting => Volatile.Read(ref _defragments) > 0 ? 1 : 0;

    /// <summary>A range outside a transaction has its outcome.</summary>
    public void Range(ErrorCode outcome, long ns) => (outcome == ErrorCode.None ? GoodRanges : BadRanges).Observe(ns);

    /// <summary>A defragmentation has begun.</summary>
    public void BeginDefragment() => Interlocked.Increment(ref _defragments);

    /// <summary>It has ended.</summary>
    public void EndDefragment(long ns)
    {
        _ = Interlocked.Decrement(ref _defragments);
        Defragment.Observe(ns);
    }
}
