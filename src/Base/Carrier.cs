// Carrier: lets the thread that brings a piece of work take it through a whole pipeline of sleeping actors by itself.
//
// Why       A lone write passes raft, the log, raft again and the store. Waking four sleeping threads one after the other
//           costs more than the work (on a virtual machine 20 to 50 microseconds each), and with one write in the
//           pipeline there is nothing they could do at the same time.
// When      Only if every stage sleeps, so only for work that would be alone. Whoever comes meanwhile wakes the stages
//           in the usual way; a stage woken by others is handed to its own thread when the poll in hand ends. Work that
//           finds a stage awake was not alone, and neither will the next be: with many clients, every round begins with
//           one that finds all asleep and would only keep its thread from reading the others' requests. So after such a
//           meeting a number of pieces go the usual way.
// Guests    An actor behind the pipeline that is woken now and then (the hub of watchers): it is borrowed when it sleeps, but
//           whether it sleeps says nothing about the write being alone. Its waker says when a turn would be long.
// Blocking  The carrying thread does what the stages do, an fdatasync included. It is one thread at a time per carrier. A
//           thread that has others to serve forbids it (IsForbiddenHere) while somebody would have to wait.
// Bound     Polls are counted; past the bound everything goes to the stages' own threads.
using System;
using System.Threading;

namespace Cairn.Base;

/// <summary>Borrows the actors of one pipeline for one piece of work at a time. Any thread.</summary>
public sealed class Carrier
{
    private const int PollsMax = 64;
    private const int HoldOff = 16;

    [ThreadStatic]
    private static Carrier? t_here;

    [ThreadStatic]
    private static bool t_forbidden;

    [ThreadStatic]
    private static int t_runs;

    private readonly ActorThread[] _stages;
    private readonly ActorThread[] _woken;
    private int _wokenCount;
    private int _busy;
    private int _holdOff; // a hint; racing writers do no harm

    /// <param name="stages">The actors that may be borrowed; not started yet, and of no other carrier.</param>
    public Carrier(params ReadOnlySpan<ActorThread> stages)
        : this(stages, guest: null)
    {
    }

    /// <param name="stages">The actors of the pipeline; not started yet, and of no other carrier.</param>
    /// <param name="guest">Borrowed as well if it happens to sleep; may be null.</param>
    public Carrier(ReadOnlySpan<ActorThread> stages, ActorThread? guest)
    {
        _stages = stages.ToArray();
        _woken = new ActorThread[_stages.Length + 1];
        foreach (ActorThread stage in _stages)
        {
            Join(stage);
        }

        if (guest is not null)
        {
            Join(guest);
        }
    }

    /// <summary>The calling thread is between <see cref="TryBegin"/> and the end of <see cref="Run"/>.</summary>
    public bool IsCarryingHere => t_here == this;

    /// <summary>The calling thread does not carry: its work goes to the stages' own threads.</summary>
    public static bool IsForbiddenHere
    {
        get => t_forbidden;
        set => t_forbidden = value;
    }

    /// <summary>How often the calling thread has carried.</summary>
    public static int RunsHere => t_runs;

    /// <summary>Any carrier has the calling thread.</summary>
    public static bool IsAnyHere => t_here is not null;

    /// <summary>
    /// True if every stage sleeps and nobody else carries: from now on a stage this thread wakes is borrowed instead,
    /// and the caller must call <see cref="Run"/>, on this thread.
    /// </summary>
    public bool TryBegin()
    {
        if (t_forbidden)
        {
            return false;
        }

        foreach (ActorThread stage in _stages)
        {
            if (!stage.IsAsleep)
            {
                Volatile.Write(ref _holdOff, HoldOff);
                return false;
            }
        }

        int holdOff = Volatile.Read(ref _holdOff);
        if (holdOff > 0)
        {
            Volatile.Write(ref _holdOff, holdOff - 1);
            return false;
        }

        if (t_here is not null || Interlocked.CompareExchange(ref _busy, 1, 0) != 0)
        {
            return false;
        }

        t_here = this;
        return true;
    }

    /// <summary>Polls what was woken, and what that wakes, until all of it sleeps or belongs to its own thread again.</summary>
    public void Run()
    {
        int polls = 0;
        t_runs++;
        while (_wokenCount > 0)
        {
            ActorThread stage = TakeFirst();
            bool worked = true;
            while (worked && polls < PollsMax)
            {
                worked = stage.PollBorrowed();
                polls++;
            }

            if (worked || !stage.TryReturn())
            {
                stage.HandOver();
            }
        }

        t_here = null;
        Volatile.Write(ref _busy, 0);
    }

    /// <summary>A stage the carrying thread has borrowed by waking it.</summary>
    internal void Add(ActorThread stage) => _woken[_wokenCount++] = stage;

    private void Join(ActorThread stage)
    {
        Invariant.Check(stage.Carrier is null, "an actor has one carrier");
        stage.Carrier = this;
    }

    private ActorThread TakeFirst()
    {
        ActorThread first = _woken[0];
        _wokenCount--;
        Array.Copy(_woken, 1, _woken, 0, _wokenCount);
        return first;
    }
}
