// SystemEnvironment: the production clock, randomness and end of the process.
using System;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Cairn.Base;

/// <summary>CLOCK_MONOTONIC and the wall clock.</summary>
public sealed class SystemClock : IClock
{
    public static readonly SystemClock Instance = new();

    /// <inheritdoc/>
    /// <remarks>On Linux the stopwatch ticks in nanoseconds, which the static constructor checks.</remarks>
    public long NowNs => Stopwatch.GetTimestamp();

    static SystemClock() =>
        Invariant.Check(Stopwatch.Frequency == 1_000_000_000, "the stopwatch ticks in nanoseconds (Linux)");

#pragma warning disable RS0030 // the one place that reads the wall clock
    public long UnixMilliseconds => DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
#pragma warning restore RS0030
}

/// <summary>SplitMix64 over a seed; not for secrets.</summary>
public sealed class SystemRandom : IRandom
{
    private ulong _state;

    /// <summary>Seeded from the system.</summary>
    public SystemRandom()
    {
        Span<byte> seed = stackalloc byte[8];
        RandomNumberGenerator.Fill(seed);
        _state = MemoryMarshal.Read<ulong>(seed);
    }

    public SystemRandom(ulong seed) => _state = seed;

    public ulong NextUInt64()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}

/// <summary>Ends the process: hands the message to the log first, then fails fast.</summary>
public sealed class ProcessFatal : IFatal
{
    private readonly Action<string, Exception?> _report;

    /// <param name="report">Writes the line synchronously; called at most once, from any thread.</param>
    public ProcessFatal(Action<string, Exception?> report) => _report = report;

    [DoesNotReturn]
    public void Stop(string message, Exception? cause = null)
    {
        _report(message, cause);
        Environment.FailFast(message, cause);
    }
}

/// <summary>What the kernel counts about this process.</summary>
public static unsafe class ProcessUsage
{
    /// <summary>Page faults so far that had to read a disk; those of populating a map on purpose count too.</summary>
    public static long MajorFaults()
    {
        Libc.ResourceUsage usage;
        int result = Libc.GetResourceUsage(Libc.UsageOfSelf, &usage);
        Invariant.Check(result == 0, "the usage of this process can be asked for");
        return usage.MajorFaults;
    }
}
