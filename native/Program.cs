// Program: options -> log -> host -> wait for a signal or the member's own end. The exit statuses are etcd's.
using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Server;
using Cairn.Native.Logging;
using Cairn.Native.Options;
using Cairn.Net.Host;

namespace Cairn.Native;

internal static class Program
{
    private const string Caller = "native/Program.cs";

    private static int Main(string[] arguments)
    {
        CommandLineResult result = CommandLine.Read(arguments, ReadEnvironment(), File.ReadAllText);
        Console.Out.Write(result.Output);
        Console.Error.Write(result.Error);
        if (result.ExitCode is int status)
        {
            LogEarly(result.Log, new LogOptions(["stderr"], LogLevels.Level.Info, Console: false));
            return status;
        }

        return Run(result);
    }

    private static int Run(CommandLineResult result)
    {
        LogOptions options = result.Plan!.Log;
        var formatter = new LogFormatter(options.Console);
        LogSink sink;
        try
        {
            sink = new LogSink(options, formatter);
        }
        catch (IOException e)
        {
            result.Log.Add(new EarlyLine("warn", "failed to verify flags", ("error", e.Message)));
            LogEarly(result.Log, new LogOptions(["stderr"], LogLevels.Level.Info, Console: false));
            return 1;
        }

        using (sink)
        using (var log = new LogProvider(sink, formatter, options.Level))
        {
            sink.Start();
            WriteEarly(log, result.Log);
            int signal;
            int status;
            using (var signals = new Signals())
            {
                (status, signal) = ServeAsync(result.Plan.Host, log, sink, signals).GetAwaiter().GetResult();
            }

            sink.Flush();
            return signal == 0 ? status : Signals.Die(signal);
        }
    }

    private static async Task<(int Status, int Signal)> ServeAsync(
        HostOptions options, LogProvider log, LogSink sink, Signals signals)
    {
        var fatal = new ProcessFatal((message, cause) =>
        {
            log.Write(LogLevels.Level.Fatal, Caller, message, Field("error", cause?.ToString() ?? ""));
            sink.Flush();
        });

        // While other members are waited for, a signal ends the wait.
        using var cancelled = new CancellationTokenSource();
        _ = CancelAsync(signals, cancelled);
        MemberHost host;
        try
        {
            host = MemberHost.Open(options, log, fatal, cancelled.Token);
        }
        catch (OperationCanceledException)
        {
            return (0, await signals.First);
        }
        catch (MemberStartException e)
        {
            log.Write(LogLevels.Level.Fatal, Caller, "discovery failed", Field("error", e.Message));
            return (1, 0);
        }
        catch (ListenException e)
        {
            log.Write(LogLevels.Level.Fatal, Caller, "listener failed", Field("error", e.Message));
            return (1, 0);
        }
        catch (Exception e) when (e is FileSystemException or IOException or UnauthorizedAccessException)
        {
            log.Write(LogLevels.Level.Fatal, Caller, "discovery failed", Field("error", e.Message));
            return (1, 0);
        }

        await using (host)
        {
            Task started = host.StartAsync();
            Task ended = await Task.WhenAny(signals.First, started);
            if (ended == started)
            {
                await started;
                if (Systemd.NotifyReady() is string failure)
                {
                    log.Write(LogLevels.Level.Error, Caller, "failed to notify systemd for readiness", Field("error", failure));
                }

                ended = await Task.WhenAny(signals.First, host.Ended);
            }

            if (ended != signals.First)
            {
                // The member ended by itself: it was removed from the cluster (0), or its data differs from its peers' (1).
                await host.StopAsync();
                log.Write(
                    LogLevels.Level.Error, Caller, "the member has stopped", Field("reason", host.Member.StopReason ?? "it was told to"));
                return (host.Member.IsStartRefused ? 1 : 0, 0);
            }

            int signal = await signals.First;
            log.Write(LogLevels.Level.Info, Caller, "received signal; shutting down", Field("signal", Signals.NameOf(signal)));
            await host.StopAsync();
            log.Write(LogLevels.Level.Info, Caller, "closed server");
            return (0, signal);
        }
    }

    private static async Task CancelAsync(Signals signals, CancellationTokenSource cancelled)
    {
        _ = await signals.First;
        try
        {
            await cancelled.CancelAsync();
        }
        catch (ObjectDisposedException)
        {
            // The server has ended already.
        }
    }

    private static Dictionary<string, string> ReadEnvironment()
    {
        var variables = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            variables[(string)variable.Key] = (string?)variable.Value ?? "";
        }

        return variables;
    }

    private static void LogEarly(List<EarlyLine> lines, LogOptions options)
    {
        var formatter = new LogFormatter(options.Console);
        using var sink = new LogSink(options, formatter);
        using var log = new LogProvider(sink, formatter, options.Level);
        WriteEarly(log, lines);
    }

    private static void WriteEarly(LogProvider log, List<EarlyLine> lines)
    {
        foreach (EarlyLine line in lines)
        {
            _ = LogLevels.TryParse(line.Level, out LogLevels.Level level);
            log.Write(level, Caller, line.Message, Array.ConvertAll(line.Fields, f => Field(f.Name, f.Value)));
        }
    }

    private static KeyValuePair<string, object?> Field(string name, object? value) => new(name, value);
}
