// BlockingThread: a thread whose work is to wait in the kernel: a blocking read, an accept, a dial. The other kind of thread
// beside ActorThread; the two are the only ones that make any.
//
// Why        An actor never waits for anything but a wake. A reader of a blocking socket waits for nothing else, is ended by
//            shutting its socket down, and has to run at once when bytes come, however busy the thread pool is.
using System;
using System.Threading;

namespace Cairn.Base;

/// <summary>Runs one function to its end.</summary>
public sealed class BlockingThread
{
    private readonly Thread _thread;

    /// <param name="name">Becomes the thread name <c>cairn:NAME</c>.</param>
    /// <param name="body">Must end soon after whatever it waits on is shut down.</param>
    /// <param name="fatal">Told when the body throws: it handles its own errors, so this one is a bug.</param>
    public BlockingThread(string name, Action body, IFatal fatal)
    {
        _thread = new Thread(() =>
        {
            try
            {
                body();
            }
            catch (Exception e)
            {
                fatal.Stop("thread cairn:" + name + " failed: " + e.Message, e);
            }
        })
        {
            Name = "cairn:" + name,
            IsBackground = true,
        };
    }

    /// <summary>It was started and its body has returned.</summary>
    public bool HasEnded => (_thread.ThreadState & ThreadState.Stopped) != 0;

    public void Start() => _thread.Start();

    /// <summary>Waits for the end of the body. Nothing when it was never started or is the caller itself.</summary>
    public void Join()
    {
        if (_thread.ThreadState != (ThreadState.Background | ThreadState.Unstarted) && Thread.CurrentThread != _thread)
        {
            _thread.Join();
        }
    }
}
