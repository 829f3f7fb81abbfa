// RpcSignal: wakes the one task that waits for it: "there may be something to send". Sets while nobody waits are
// remembered as one. Nothing is allocated per wait or set.
//
// Thread     Set: any. WaitAsync: one task at a time.
// Why        A stream's handler sleeps here between answers; whoever has something for it (the hub, its own read
//            loop, the end of the call) sets it. The continuation runs on the pool, unless the setter says that it may
//            run on the setter's own thread (SetHere).
using System;
using System.Threading;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;

namespace Cairn.Net.Rpc;

/// <summary>An auto-reset event for one asynchronous waiter.</summary>
internal sealed class RpcSignal : IValueTaskSource, IThreadPoolWorkItem
{
    private const int Idle = 0;
    private const int Signalled = 1;
    private const int Waiting = 2;

    // The signal queues itself to the pool; letting the source do it would allocate a work item for each wake.
    private ManualResetValueTaskSourceCore<bool> _source;
    private int _state;

    /// <summary>Lets the waiter go on, or the next wait end at once.</summary>
    public void Set()
    {
        if (TrySet())
        {
            _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        }
    }

    /// <summary>As <see cref="Set"/>, but the waiter goes on inside this call.</summary>
    public void SetHere()
    {
        if (TrySet())
        {
            _source.SetResult(true);
        }
    }

    /// <summary>Completes at the next <see cref="Set"/>, or now if there was one since the last wait.</summary>
    public ValueTask WaitAsync()
    {
        if (Interlocked.CompareExchange(ref _state, Idle, Signalled) == Signalled)
        {
            return ValueTask.CompletedTask;
        }

        _source.Reset();
        if (Interlocked.CompareExchange(ref _state, Waiting, Idle) != Idle)
        {
            Volatile.Write(ref _state, Idle);
            return ValueTask.CompletedTask;
        }

        return new ValueTask(this, _source.Version);
    }

    /// <summary>Runs the waiter, on a pool thread. Called by the pool only.</summary>
    void IThreadPoolWorkItem.Execute() => _source.SetResult(true);

    void IValueTaskSource.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
        => _source.OnCompleted(continuation, state, token, flags);

    // True: somebody waited, and the caller has to run him.
    private bool TrySet()
    {
        int seen = Volatile.Read(ref _state);
        while (seen != Signalled)
        {
            int before = Interlocked.CompareExchange(ref _state, seen == Waiting ? Idle : Signalled, seen);
            if (before == seen)
            {
                return seen == Waiting;
            }

            seen = before;
        }

        return false;
    }
}
