// ActorThread: runs one actor on one thread of its own. With BlockingThread the only place that makes threads.
//
// Waiting    After an idle poll the thread spins briefly (not at all on machines with few cores, where spinning would
//            take the core from whoever is to wake us), then sleeps on a futex until a wake or the actor's deadline.
//            A wake is one word (the states below); waking a running actor costs one interlocked instruction.
// Borrowing  Waking a sleeping thread costs more than most polls do. A thread that brings work to a pipeline in which
//            everybody sleeps may instead take the actor's turn itself (Carrier): it swaps Asleep for Borrowed, polls,
//            and gives the word back. So an actor still has one owner at any moment, the word says who; the swaps are
//            full fences, so the next owner sees all the last one wrote. The owner's thread sleeps meanwhile; if the
//            borrowed poll asks for an earlier deadline than the sleep was set for, the thread is woken to set it.
using System;
using System.Threading;

namespace Cairn.Base;

/// <summary>One thread, one actor.</summary>
public sealed unsafe class ActorThread : IWaker, IDisposable
{
    private const int Running = 0;
    private const int Pending = 1; // running, and to look again before it sleeps; also what an ended thread leaves
    private const int Asleep = -1;
    private const int Borrowed = 2;
    private const int BorrowedPending = 3;
    private const long LentNs = 1_000_000;

    private readonly IActor _actor;
    private readonly IClock _clock;
    private readonly IFatal _fatal;
    private readonly int _spins;
    private readonly int* _word;
    private readonly Thread _thread;
    private long _armedNs;
    private volatile bool _stopping;

    /// <param name="actor">Polled by the new thread, or by a <see cref="Carrier"/> while that thread sleeps.</param>
    /// <param name="clock">Time given to each poll.</param>
    /// <param name="fatal">Told when a poll throws: the actor's state can no longer be trusted.</param>
    /// <param name="busyPoll">Never sleep (bare metal with cores to spare).</param>
    public ActorThread(IActor actor, IClock clock, IFatal fatal, bool busyPoll = false)
    {
        _actor = actor;
        _clock = clock;
        _fatal = fatal;
        _spins = busyPoll ? int.MaxValue : Environment.ProcessorCount > 4 ? 200 : 0;

        // A native word of its own cache line: its address must not move while the kernel waits on it.
        _word = (int*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc(64, 64);
        *_word = Running;
        _thread = new Thread(Run) { Name = "cairn:" + actor.RoleName, IsBackground = true };
    }

    /// <summary>The carrier that may borrow this actor. Set before <see cref="Start"/>; null: nobody does.</summary>
    internal Carrier? Carrier { get; set; }

    /// <summary>Nothing is pending and nobody polls. A hint: it may change at once.</summary>
    internal bool IsAsleep => Volatile.Read(ref *_word) == Asleep;

    public void Start() => _thread.Start();

    /// <summary>Asks the loop to end after its current poll and waits for it. Idempotent.</summary>
    public void Stop()
    {
        _stopping = true;
        Wake();
        if (_thread.IsAlive && Thread.CurrentThread != _thread)
        {
            _thread.Join();
        }
    }

    public void Wake() => Wake(lends: true);

    public void WakeElsewhere() => Wake(lends: false);

    /// <summary>Stops the loop. The wake word is kept for ever: a late Wake from another thread must not fault.</summary>
    public void Dispose() => Stop();

    /// <summary>Takes the actor's turn. On success the caller owns the actor until <see cref="TryReturn"/> says so.</summary>
    internal bool TryBorrow() => Swap(Asleep, Borrowed);

    /// <summary>One poll by the borrower. False: idle, give it back.</summary>
    internal bool PollBorrowed()
    {
        try
        {
            // Wakes up to here are answered by this poll; those that come later leave their mark.
            _ = Interlocked.Exchange(ref *_word, Borrowed);
            return _actor.Poll(_clock.NowNs);
        }
        catch (Exception e)
        {
            _fatal.Stop("actor " + _actor.RoleName + " failed: " + e.Message, e);
            return false;
        }
    }

    /// <summary>After an idle poll: the actor sleeps again. False: it was woken meanwhile and is still the caller's.</summary>
    internal bool TryReturn()
    {
        // The thread sleeps for longer than that; or a Stop has woken it, and our poll took the wake for its own.
        if (_actor.NextDeadlineNs < _armedNs || _stopping)
        {
            HandOver();
            return true;
        }

        return Swap(Borrowed, Asleep);
    }

    /// <summary>Gives the actor to its own thread, to be polled at once.</summary>
    internal void HandOver()
    {
        _ = Interlocked.Exchange(ref *_word, Pending);
        _ = Libc.Futex(Libc.FutexNumber, _word, Libc.FutexWakePrivate, 1, null, 0, 0);
    }

    private void Wake(bool lends)
    {
        // The caller's enqueue must be visible before the word is looked at: with store and load reordered, this
        // read could see a stale "pending" that the actor is just consuming, and the wake would be lost.
        Interlocked.MemoryBarrier();
        while (true)
        {
            int word = Volatile.Read(ref *_word);
            switch (word)
            {
                case Running when Swap(Running, Pending):
                case Borrowed when Swap(Borrowed, BorrowedPending):
                case Pending:
                case BorrowedPending:
                    return;
                case Asleep when lends && Carrier is { IsCarryingHere: true } carrier:
                    if (TryBorrow())
                    {
                        carrier.Add(this);
                        return;
                    }

                    break;
                case Asleep when Swap(Asleep, Pending):
                    _ = Libc.Futex(Libc.FutexNumber, _word, Libc.FutexWakePrivate, 1, null, 0, 0);
                    return;
                default:
                    break;
            }
        }
    }

    private bool Swap(int from, int to) => Interlocked.CompareExchange(ref *_word, to, from) == from;

    private void Run()
    {
        try
        {
            int idle = 0;
            while (true)
            {
                Volatile.Write(ref *_word, Running);
                Thread.MemoryBarrier(); // the word is written before the actor looks at its rings, and before the next line
                if (_stopping)
                {
                    break; // looked at only now: a Stop that still saw the old word has not woken us
                }

                if (_actor.Poll(_clock.NowNs))
                {
                    idle = 0;
                    continue;
                }

                if (idle++ < _spins)
                {
                    Thread.SpinWait(8);
                    continue;
                }

                idle = 0;
                Sleep();
            }
        }
        catch (Exception e)
        {
            _fatal.Stop("thread " + _thread.Name + " failed: " + e.Message, e);
        }

        // From here on nobody polls: a wake does nothing and nobody can borrow.
        Volatile.Write(ref *_word, Pending);
    }

    private void Sleep()
    {
        long deadline = _actor.NextDeadlineNs;
        if (deadline != long.MaxValue && deadline <= _clock.NowNs)
        {
            return;
        }

        _armedNs = deadline;
        if (!Swap(Running, Asleep))
        {
            return; // a wake came since the last poll
        }

        // Back to work only with the word in hand: it is Pending after a wake or a hand-over, and on a deadline this
        // thread takes it itself, unless it is lent out just then.
        while (true)
        {
            int word = Volatile.Read(ref *_word);
            if (word == Pending)
            {
                return;
            }

            // A borrower gives back without a system call, so while it is lent out the word is looked at now and then.
            bool lent = word is Borrowed or BorrowedPending;
            long wait = lent ? LentNs : deadline == long.MaxValue ? long.MaxValue : deadline - _clock.NowNs;
            if (wait > 0)
            {
                Wait(word, wait);
            }
            else if (Swap(Asleep, Running))
            {
                return;
            }
        }
    }

    private void Wait(int word, long nanoseconds)
    {
        Libc.TimeSpec time;
        time.Seconds = nanoseconds / 1_000_000_000;
        time.Nanoseconds = nanoseconds % 1_000_000_000;
        _ = Libc.Futex(
            Libc.FutexNumber, _word, Libc.FutexWaitPrivate, word, nanoseconds == long.MaxValue ? null : &time, 0, 0);
    }
}
