// SlowWorker: one thread for reads that are long or that may meet cold pages (hashes, images of the database).
//
// Why        The I/O threads must stay free, and a managed thread stuck in a page fault stalls every collection.
// Thread     cairn:slow. Any thread queues; a full queue refuses (the caller answers "too many requests").
using System;
using System.Threading.Tasks;
using Cairn.Base;

namespace Cairn.Net.Services;

/// <summary>Runs functions one after the other.</summary>
internal sealed class SlowWorker : IActor
{
    private const int QueueLength = 64;

    private readonly MpscRing<Action> _queue = new(QueueLength);
    private IWaker? _waker;

    public string RoleName => "slow";

    public long NextDeadlineNs => long.MaxValue;

    /// <summary>Called once before the first poll.</summary>
    public void Attach(IWaker waker) => _waker = waker;

    public bool Poll(long nowNs)
    {
        if (!_queue.TryDequeue(out Action work))
        {
            return false;
        }

        work();
        return true;
    }

    /// <summary>Runs a function on the slow thread; null when the queue is full.</summary>
    public Task<T>? TryRun<T>(Func<T> function)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        bool queued = _queue.TryEnqueue(() =>
        {
            try
            {
                done.SetResult(function());
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        if (!queued)
        {
            return null;
        }

        _waker?.Wake();
        return done.Task;
    }
}
