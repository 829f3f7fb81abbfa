// An actor has one owner at any moment, whoever polls it, and no wake is lost: pipelines of counting actors under many
// producers, some of which carry their work, some of which only wake.
using System;
using System.Diagnostics.CodeAnalysis;
using System.Threading;
using Xunit;

namespace Cairn.Base.Tests;

public sealed class CarrierTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    [Fact]
    public void Work_ThatIsAlone_IsDoneByTheThreadThatBringsIt()
    {
        using var line = new Line(stages: 3);
        line.Start();
        bool carried = false;
        for (int i = 0; i < 1000 && !carried; i++)
        {
            line.WaitUntilAsleep();
            carried = line.Carry();
            if (carried)
            {
                Assert.Equal(line.Given, line.Done);
                Assert.Equal(Environment.CurrentManagedThreadId, line.Last.PolledBy);
            }
        }

        Assert.True(carried);
    }

    [Fact]
    public void ManyProducers_SomeCarrying_LoseNothingAndNeverShareAnActor()
    {
        using var line = new Line(stages: 3);
        line.Start();
        const int Each = 20_000;
        int carried = 0;
        var producers = new Thread[4];
        for (int p = 0; p < producers.Length; p++)
        {
            int number = p;
            producers[p] = new Thread(() =>
            {
                for (int i = 0; i < Each; i++)
                {
                    if (number < 2 && line.Carry())
                    {
                        Interlocked.Increment(ref carried);
                    }
                    else if (number >= 2)
                    {
                        line.Give();
                    }

                    if (i % 64 == 0)
                    {
                        line.WaitUntilDone();
                    }
                }
            });
            producers[p].Start();
        }

        foreach (Thread producer in producers)
        {
            Assert.True(producer.Join(s_patience));
        }

        line.WaitUntilDone();
        Assert.Equal(4 * Each, line.Given);
        Assert.Equal(line.Given, line.Done);
        Assert.False(line.WasShared);
    }

    [Fact]
    public void Stage_BorrowedPastItsThreadsDeadline_StillMeetsTheNextOne()
    {
        var actor = new Ticker();
        var fatal = new Recorder();
        using var thread = new ActorThread(actor, SystemClock.Instance, fatal);
        var carrier = new Carrier(thread);
        thread.Start();
        for (int i = 0; i < 20; i++)
        {
            // The borrowed poll asks for a deadline that the sleeping thread does not know of.
            Assert.True(SpinWait.SpinUntil(carrier.TryBegin, s_patience));
            actor.Ask();
            thread.Wake();
            carrier.Run();
            Assert.True(SpinWait.SpinUntil(() => actor.IsAnswered, s_patience));
        }

        Assert.Null(fatal.Message);
    }

    [Fact]
    public void Stop_WhileWorkIsCarried_Ends()
    {
        for (int round = 0; round < 50; round++)
        {
            using var line = new Line(stages: 2);
            line.Start();
            var producer = new Thread(() =>
            {
                for (int i = 0; i < 200; i++)
                {
                    _ = line.Carry();
                }
            });
            producer.Start();
            line.Stop();
            Assert.True(producer.Join(s_patience));
            Assert.False(line.WasShared);
        }
    }

    /// <summary>Actors in a row: each takes what the one before has passed on, and wakes the next.</summary>
    private sealed class Line : IDisposable
    {
        private readonly Stage[] _stages;
        private readonly ActorThread[] _threads;
        private readonly Carrier _carrier;
        private readonly Recorder _fatal = new();
        private long _given;

        public Line(int stages)
        {
            _stages = new Stage[stages];
            _threads = new ActorThread[stages];
            for (int i = stages - 1; i >= 0; i--)
            {
                _stages[i] = new Stage(i + 1 < stages ? _stages[i + 1] : null, i + 1 < stages ? _threads[i + 1] : null);
                _threads[i] = new ActorThread(_stages[i], SystemClock.Instance, _fatal);
            }

            _carrier = new Carrier(_threads);
        }

        public long Given => Interlocked.Read(ref _given);

        public long Done => _stages[^1].Taken;

        public Stage Last => _stages[^1];

        public bool WasShared => Array.Exists(_stages, s => s.WasShared) || _fatal.Message is not null;

        public void Start() => Array.ForEach(_threads, t => t.Start());

        public void Stop() => Array.ForEach(_threads, t => t.Stop());

        public void Give()
        {
            Interlocked.Increment(ref _given);
            _stages[0].Pass(1);
            _threads[0].Wake();
        }

        /// <summary>Gives one piece in any case; true if this thread took it through.</summary>
        public bool Carry()
        {
            bool carries = _carrier.TryBegin();
            Give();
            if (carries)
            {
                _carrier.Run();
            }

            return carries;
        }

        public void WaitUntilDone() => Assert.True(SpinWait.SpinUntil(() => Done == Given, s_patience));

        public void WaitUntilAsleep() =>
            Assert.True(SpinWait.SpinUntil(() => Array.TrueForAll(_threads, t => t.IsAsleep), s_patience));

        public void Dispose() => Stop();
    }

    private sealed class Stage(Stage? next, ActorThread? nextThread) : IActor
    {
        private long _passed;
        private long _taken;
        private int _inside;

        public string RoleName => "stage";

        public long NextDeadlineNs => long.MaxValue;

        public long Taken => Interlocked.Read(ref _taken);

        public int PolledBy { get; private set; }

        public bool WasShared { get; private set; }

        public void Pass(long count) => Interlocked.Add(ref _passed, count);

        public bool Poll(long nowNs)
        {
            WasShared |= Interlocked.Exchange(ref _inside, 1) != 0;
            PolledBy = Environment.CurrentManagedThreadId;
            long count = Interlocked.Exchange(ref _passed, 0);
            if (count > 0)
            {
                next?.Pass(count);
                nextThread?.Wake();
                _taken += count;
            }

            Volatile.Write(ref _inside, 0);
            return count > 0;
        }
    }

    /// <summary>Sleeps for ever until asked; then wants to be polled 5 ms later, once.</summary>
    private sealed class Ticker : IActor
    {
        private long _deadline = long.MaxValue;
        private bool _asked;
        private bool _answered;

        public string RoleName => "ticker";

        public long NextDeadlineNs => Volatile.Read(ref _deadline);

        public bool IsAnswered => Volatile.Read(ref _answered);

        public void Ask()
        {
            Volatile.Write(ref _answered, false);
            Volatile.Write(ref _asked, true);
        }

        public bool Poll(long nowNs)
        {
            if (Volatile.Read(ref _asked))
            {
                Volatile.Write(ref _asked, false);
                Volatile.Write(ref _deadline, nowNs + 5_000_000);
                return true;
            }

            if (nowNs >= _deadline)
            {
                Volatile.Write(ref _deadline, long.MaxValue);
                Volatile.Write(ref _answered, true);
            }

            return false;
        }
    }

    private sealed class Recorder : IFatal
    {
        public string? Message { get; private set; }

        [DoesNotReturn]
        public void Stop(string message, Exception? cause = null)
        {
            Message = message;
            throw new InvalidOperationException(message, cause);
        }
    }
}
