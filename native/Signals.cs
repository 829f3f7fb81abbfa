// Signals: SIGTERM and SIGINT. The first one starts the graceful stop; the second one ends the process at once. At
// the end the process dies by the signal it got, so that its exit status tells a supervisor the truth (as etcd does).
using System;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Native;

/// <summary>Waits for a stop signal.</summary>
internal sealed partial class Signals : IDisposable
{
    private const int Interrupt = 2;
    private const int Terminate = 15;

    private readonly TaskCompletionSource<int> _first = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly PosixSignalRegistration _interrupt;
    private readonly PosixSignalRegistration _terminate;
    private int _count;

    public Signals()
    {
        _interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => Handle(context, Interrupt));
        _terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Handle(context, Terminate));
    }

    /// <summary>Completes with the number of the first signal.</summary>
    public Task<int> First => _first.Task;

    /// <summary>The usual name of a signal this class waits for.</summary>
    public static string NameOf(int signal) => signal == Interrupt ? "interrupt" : "terminated";

    /// <summary>Ends the process by a signal's default action; as process 1, which has none, with status 0.</summary>
    public static int Die(int signal)
    {
        if (Environment.ProcessId == 1)
        {
            return 0;
        }

        _ = SetHandler(signal, 0);
        _ = Kill(Environment.ProcessId, signal);
        Thread.Yield();
        return 128 + signal;
    }

    public void Dispose()
    {
        _interrupt.Dispose();
        _terminate.Dispose();
    }

    [LibraryImport("libc", EntryPoint = "signal")]
    private static partial nint SetHandler(int signal, nint handler);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);

    private void Handle(PosixSignalContext context, int signal)
    {
        context.Cancel = true;
        if (Interlocked.Increment(ref _count) == 1)
        {
            _first.TrySetResult(signal);
        }
        else
        {
            _ = Die(signal);
        }
    }
}
