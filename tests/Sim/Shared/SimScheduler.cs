// SimScheduler: one thread that stands for all: polls actors and ends disk operations in an order drawn from a seed.
//
// An actor is polled when it was woken, when its deadline has come, or when its last poll asked for another. Among
// all that may happen now one is drawn; when nothing may, time jumps to the next deadline or event. Each poll costs
// a little simulated time, so that slow loops and long queues are schedules that happen.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Simulation;

internal sealed class SimScheduler(SimRandom random, SimClock clock)
{
    private readonly List<Task> _tasks = [];
    private int _added;
    private readonly PriorityQueue<Action, (long Time, ulong Tie)> _events = new();

    /// <summary>Fastest and slowest ordinary disk, and how often it is slow.</summary>
    public long DiskSyncNs { get; set; } = 500_000;

    public int SlowDiskPercent { get; set; } = 5;

    public SimClock Clock => clock;

    public SimRandom Random => random;

    public long Steps { get; private set; }

    /// <summary>Of everything that happened, in order: equal in two runs of one seed.</summary>
    public ulong TraceHash { get; private set; } = 14695981039346656037;

    /// <summary>Adds something to the trace.</summary>
    public void Note(ulong what) => TraceHash = ((TraceHash ^ what) * 1099511628211) ^ (TraceHash >> 29);

    /// <summary>Adds an actor; the returned waker is its own.</summary>
    public IWaker Add(IActor actor)
    {
        var task = new Task(actor, ++_added);
        _tasks.Add(task);
        return task;
    }

    /// <summary>Stops polling an actor.</summary>
    public void Remove(IActor actor) => _tasks.RemoveAll(task => task.Actor == actor);

    /// <summary>Runs something at a later simulated time.</summary>
    public void After(long delayNs, Action action) => _events.Enqueue(action, (clock.NowNs + delayNs, random.NextUInt64()));

    public long DrawDiskNs(bool isSync)
    {
        long ordinary = isSync ? DiskSyncNs : DiskSyncNs / 20;
        long drawn = 1_000 + random.Below((ordinary * 2) + 1);
        return random.Chance(SlowDiskPercent) ? drawn * (2 + random.Below(50)) : drawn;
    }

    /// <summary>Does one thing. False if nothing can ever happen again.</summary>
    public bool Step()
    {
        Steps++;
        int runnable = 0;
        Task? chosen = null;
        long next = long.MaxValue;
        foreach (Task task in _tasks)
        {
            long due = task.IsAwake ? long.MinValue : task.Actor.NextDeadlineNs;
            if (due <= clock.NowNs)
            {
                if (random.Below(++runnable) == 0)
                {
                    chosen = task;
                }
            }
            else
            {
                next = Math.Min(next, due);
            }
        }

        bool hasEvent = _events.TryPeek(out _, out (long Time, ulong Tie) first);
        bool eventIsDue = hasEvent && first.Time <= clock.NowNs;
        if (eventIsDue && (chosen is null || random.Below(runnable + 1) == 0))
        {
            Note((ulong)first.Time);
            _events.Dequeue()();
            return true;
        }

        if (chosen is not null)
        {
            Note((ulong)clock.NowNs + (ulong)chosen.Number);
            chosen.IsAwake = false;
            if (chosen.Actor.Poll(clock.NowNs))
            {
                chosen.IsAwake = true;
            }

            clock.NowNs += 200 + random.Below(5_000);
            return true;
        }

        if (hasEvent)
        {
            next = Math.Min(next, first.Time);
        }

        if (next == long.MaxValue)
        {
            return false;
        }

        clock.NowNs = next;
        return true;
    }

    /// <summary>Runs until a condition holds.</summary>
    /// <returns>False if it did not within the simulated time given.</returns>
    public bool RunUntil(Func<bool> condition, long withinNs)
    {
        long end = clock.NowNs + withinNs;
        while (!condition())
        {
            if (clock.NowNs > end || !Step())
            {
                return false;
            }
        }

        return true;
    }

    private sealed class Task(IActor actor, int number) : IWaker
    {
        public IActor Actor => actor;

        public int Number => number;

        public bool IsAwake { get; set; } = true;

        public void Wake() => IsAwake = true;
    }
}
