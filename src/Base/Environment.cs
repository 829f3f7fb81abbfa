// Environment: how the pure cores meet the world. Production implements these over Linux (Posix*.cs); the
// simulator implements them over a seeded scheduler. They are called at batch edges only; inside a core,
// time is a parameter and randomness is drawn from what was passed in.
using System;
using System.Diagnostics.CodeAnalysis;

namespace Cairn.Base;

/// <summary>Time. Reads are cheap (vDSO) but belong at the edge of a batch.</summary>
public interface IClock
{
    /// <summary>Monotonic nanoseconds; the origin is arbitrary.</summary>
    long NowNs { get; }

    /// <summary>Wall clock, milliseconds since 1970 UTC. May step; only for ids, logs and file names.</summary>
    long UnixMilliseconds { get; }
}

/// <summary>Randomness that a seed can replay.</summary>
public interface IRandom
{
    /// <summary>The next 64 uniformly distributed bits.</summary>
    ulong NextUInt64();
}

/// <summary>What happens when an invariant is broken or durability is lost.</summary>
public interface IFatal
{
    /// <summary>Ends the process (production) or stops this member (simulator). Never returns.</summary>
    /// <param name="message">What was seen, where, and what an operator should do.</param>
    /// <param name="cause">The exception behind it, if any.</param>
    [DoesNotReturn]
    void Stop(string message, Exception? cause = null);
}

/// <summary>Asks an actor to poll again soon. May be called from any thread, any number of times.</summary>
public interface IWaker
{
    /// <summary>Wakes the actor; returns at once. A wake between two polls is never lost.</summary>
    void Wake();

    /// <summary>The same, but the actor's turn is long: the calling thread must not take it (<see cref="Carrier"/>).</summary>
    void WakeElsewhere() => Wake();
}

/// <summary>A loop body with one owner: everything it holds is touched only from <see cref="Poll"/>.</summary>
public interface IActor
{
    /// <summary>Short name, becomes the thread name <c>cairn:NAME</c>.</summary>
    string RoleName { get; }

    /// <summary>Does a bounded amount of work.</summary>
    /// <param name="nowNs">Monotonic time of this poll.</param>
    /// <returns>True if anything was done (poll again at once), false if idle.</returns>
    bool Poll(long nowNs);

    /// <summary>When to poll again without a wake: monotonic ns, or <see cref="long.MaxValue"/>.</summary>
    long NextDeadlineNs { get; }
}
