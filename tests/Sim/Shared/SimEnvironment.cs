// SimEnvironment: randomness, time and the end of a member, all decided by one seed.
using System;
using System.Diagnostics.CodeAnalysis;
using Cairn.Base;

namespace Cairn.Simulation;

/// <summary>The machine lost power, or the process died: thrown out of whatever was running.</summary>
internal sealed class PowerLossException() : Exception("simulated loss of power");

/// <summary>A member stopped itself through IFatal.</summary>
internal sealed class MemberStoppedException(string message, Exception? cause) : Exception(message, cause);

/// <summary>SplitMix64 with the few shapes the simulator draws. Streams of one seed are independent.</summary>
internal sealed class SimRandom(ulong seed) : IRandom
{
    private ulong _state = seed;

    public ulong NextUInt64()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>Uniform in [0, count).</summary>
    public int Below(int count) => (int)(NextUInt64() % (ulong)count);

    /// <summary>Uniform in [0, count).</summary>
    public long Below(long count) => (long)(NextUInt64() % (ulong)count);

    public bool Chance(int percent) => Below(100) < percent;

    public void Fill(Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)NextUInt64();
        }
    }

    /// <summary>An independent stream, so that drawing more here does not shift what happens there.</summary>
    public SimRandom Fork(string name)
    {
        ulong hash = 14695981039346656037;
        foreach (char c in name)
        {
            hash = (hash ^ c) * 1099511628211;
        }

        return new SimRandom(new SimRandom(_state ^ hash).NextUInt64());
    }
}

/// <summary>Simulated time; moves only when the scheduler says so.</summary>
internal sealed class SimClock : IClock
{
    public long NowNs { get; set; } = 1_000_000_000;

    public long UnixMilliseconds => 1_800_000_000_000 + (NowNs / 1_000_000);
}

/// <summary>Stops the member that calls it by unwinding its actor.</summary>
internal sealed class SimFatal : IFatal
{
    public string? Message { get; private set; }

    [DoesNotReturn]
    public void Stop(string message, Exception? cause = null)
    {
        Message ??= message;
        throw new MemberStoppedException(message, cause);
    }
}
