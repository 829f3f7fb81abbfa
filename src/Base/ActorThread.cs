// ActorThread: runs one actor on one thread of its own. With BlockingThread the only place that makes threads.
//
// Waiting: after an idle poll the thread spins briefly (not at all on machines with few cores, where spinning
// would take the core from whoever is to wake us), then sleeps on a futex until a wake or the actor's deadline.
// A wake is a word: 0 running, 1 a wake is pending, -1 asleep. Wake() swaps in 1 and makes the system call only
// when it saw -1, so waking a running actor costs one interlocked instruction.
using System;
using System.Threading;

namespace Cairn.Base;

/// <summary>One thread, one actor.</summary>
public sealed unsafe class ActorThread : IWaker, IDisposable
{
    private const int Running = 0;
    private const int Pending = 1;
    private const int Asleep = -1;

    private readonly IActor _actor;
    private readonly IClock _clock;
    private readonly IFatal _fatal;
    private readonly int _spins;
    private readonly int* _word;
    private readonly Thread _thread;
    private volatile bool _stopping;

    /// <param name="actor">Polled by the new thread only.</param>
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

    public void Wake()
    {
        // The caller's enqueue must be visible before the word is looked at: with store and load reordered, this
        // read could see a stale "pending" that the actor is just consuming, and the wake would be lost.
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref *_word) == Pending)
        {
            return;
        }

        if (Interlocked.Exchange(ref *_word, Pending) == Asleep)
        {
            _ = Libc.Futex(Libc.FutexNumber, _word, Libc.FutexWakePrivate, 1, null, 0, 0);
        }
    }

    /// <summary>Stops the loop. The wake word is kept for ever: a late Wake from another thread must not fault.</summary>
    public void Dispose() => Stop();

    private void Run()
    {
        try
        {
            int idle = 0;
            while (!_stopping)
            {
                Volatile.Write(ref *_word, Running);
                Thread.MemoryBarrier(); // the word is written before the actor looks at its rings
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
    }

    private void Sleep()
    {
        long deadline = _actor.NextDeadlineNs;
        long wait = deadline == long.MaxValue ? long.MaxValue : deadline - _clock.NowNs;
        if (wait <= 0)
        {
            return;
        }

        if (Interlocked.CompareExchange(ref *_word, Asleep, Running) != Running)
        {
            return; // a wake came since the last poll
        }

        Libc.TimeSpec time;
        time.Seconds = wait / 1_000_000_000;
        time.Nanoseconds = wait % 1_000_000_000;
        _ = Libc.Futex(
            Libc.FutexNumber, _word, Libc.FutexWaitPrivate, Asleep, wait == long.MaxValue ? null : &time, 0, 0);
    }
}
