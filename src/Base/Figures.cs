// Figures: what is counted while serving and looked at by a metrics page: histograms and counters as plain numbers.
//
// Why        A hot path may pay a few nanoseconds for a number, never a byte of garbage and never a lock. So a number
//            belongs to whoever counts, and is added up, scaled and named only when somebody looks.
// Threads    OwnedDistribution: one writer, any reader. SharedDistribution and StripedCounter: any writer; each core
//            has cells of its own, so that writers do not take each other's cache lines. A reader sees every number
//            whole, but not all of one instant.
// Units      Values are integers (nanoseconds as a rule); Unit says how many of them make one of the unit shown.
using System;
using System.Threading;

namespace Cairn.Base;

/// <summary>A histogram: how many values were at most each bound, and their sum.</summary>
public abstract class Distribution
{
    private readonly long[] _bounds;

    private protected Distribution(ReadOnlySpan<long> bounds, double unit)
    {
        _bounds = bounds.ToArray();
        Unit = unit;
    }

    /// <summary>Upper ends of the buckets, inclusive, ascending, in counted units.</summary>
    public ReadOnlySpan<long> Bounds => _bounds;

    /// <summary>Counted units in one shown unit: 10⁹ where nanoseconds are shown as seconds.</summary>
    public double Unit { get; }

    /// <summary>Bounds that double: <paramref name="first"/>, twice that, and so on.</summary>
    public static long[] Doubling(long first, int count)
    {
        long[] bounds = new long[count];
        for (int i = 0; i < count; i++)
        {
            bounds[i] = first << i;
        }

        return bounds;
    }

    /// <summary>Copies the counts of each bucket (not cumulated; the last place is for what passes every bound).</summary>
    /// <param name="counts">One more than there are bounds.</param>
    /// <returns>The sum of all values, in counted units.</returns>
    public abstract long Read(Span<long> counts);

    /// <summary>The bucket of a value.</summary>
    private protected int BucketOf(long value)
    {
        long[] bounds = _bounds;
        int bucket = 0;
        while (bucket < bounds.Length && value > bounds[bucket])
        {
            bucket++;
        }

        return bucket;
    }
}

/// <summary>A distribution with one writing thread.</summary>
public sealed class OwnedDistribution : Distribution
{
    private readonly long[] _counts;
    private long _sum;

    /// <inheritdoc cref="Distribution"/>
    public OwnedDistribution(ReadOnlySpan<long> bounds, double unit)
        : base(bounds, unit) => _counts = new long[bounds.Length + 1];

    /// <summary>Counts a value. The owner only.</summary>
    public void Observe(long value)
    {
        ref long count = ref _counts[BucketOf(value)];
        Volatile.Write(ref count, count + 1);
        Volatile.Write(ref _sum, _sum + value);
    }

    /// <inheritdoc/>
    public override long Read(Span<long> counts)
    {
        for (int i = 0; i < _counts.Length; i++)
        {
            counts[i] = Volatile.Read(ref _counts[i]);
        }

        return Volatile.Read(ref _sum);
    }
}

/// <summary>A distribution that any thread may add to.</summary>
public sealed class SharedDistribution : Distribution
{
    private readonly long[] _cells; // of each stripe: the counts, then the sum, then room up to whole cache lines
    private readonly int _stride;
    private readonly int _sumAt;

    /// <inheritdoc cref="Distribution"/>
    public SharedDistribution(ReadOnlySpan<long> bounds, double unit)
        : base(bounds, unit)
    {
        _sumAt = bounds.Length + 1;
        _stride = ((_sumAt + 1 + 7) / 8 * 8) + 8;
        _cells = new long[_stride * StripedCounter.Stripes];
    }

    /// <summary>Counts a value.</summary>
    public void Observe(long value)
    {
        int stripe = StripedCounter.CurrentStripe * _stride;
        _ = Interlocked.Increment(ref _cells[stripe + BucketOf(value)]);
        _ = Interlocked.Add(ref _cells[stripe + _sumAt], value);
    }

    /// <inheritdoc/>
    public override long Read(Span<long> counts)
    {
        counts[.._sumAt].Clear();
        long sum = 0;
        for (int stripe = 0; stripe < _cells.Length; stripe += _stride)
        {
            for (int i = 0; i < _sumAt; i++)
            {
                counts[i] += Volatile.Read(ref _cells[stripe + i]);
            }

            sum += Volatile.Read(ref _cells[stripe + _sumAt]);
        }

        return sum;
    }
}

/// <summary>A counter that any thread may add to.</summary>
public sealed class StripedCounter
{
    /// <summary>Cells of one counter; more cores than that share.</summary>
    internal const int Stripes = 8;

    private const int Stride = 16;

    private readonly long[] _cells = new long[Stripes * Stride];

    /// <summary>The sum of all cells.</summary>
    public long Value
    {
        get
        {
            long sum = 0;
            for (int i = 0; i < _cells.Length; i += Stride)
            {
                sum += Volatile.Read(ref _cells[i]);
            }

            return sum;
        }
    }

    internal static int CurrentStripe => Thread.GetCurrentProcessorId() & (Stripes - 1);

    /// <summary>Adds to the cell of the core this thread is on.</summary>
    public void Add(long amount) => Interlocked.Add(ref _cells[CurrentStripe * Stride], amount);
}
