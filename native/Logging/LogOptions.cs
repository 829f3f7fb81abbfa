// LogOptions and LogLevels: what the log shows and where it goes.
using System.Collections.Generic;
using Microsoft.Extensions.Logging;

namespace Cairn.Native.Logging;

/// <summary>Settings of the log.</summary>
/// <param name="Outputs">default, stderr, stdout or file paths.</param>
/// <param name="Level">Lowest level shown.</param>
/// <param name="Console">Tabs between the parts instead of JSON.</param>
internal sealed record LogOptions(IReadOnlyList<string> Outputs, LogLevels.Level Level, bool Console);

/// <summary>zap's levels.</summary>
internal static class LogLevels
{
    internal enum Level
    {
        Debug,
        Info,
        Warn,
        Error,
        DPanic,
        Panic,
        Fatal,
    }

    private static readonly string[] Names = ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"];

    /// <summary>The name in a log line.</summary>
    public static string Name(Level level) => Names[(int)level];

    /// <summary>Reads --log-level; an empty word means info, as in etcd.</summary>
    public static bool TryParse(string text, out Level level)
    {
        int index = System.Array.IndexOf(Names, text.Length == 0 ? "info" : text.ToLowerInvariant());
        level = index < 0 ? Level.Info : (Level)index;
        return index >= 0;
    }

    /// <summary>The nearest level of the logging abstractions.</summary>
    public static Level From(LogLevel level) => level switch
    {
        LogLevel.Trace or LogLevel.Debug => Level.Debug,
        LogLevel.Information => Level.Info,
        LogLevel.Warning => Level.Warn,
        LogLevel.Error => Level.Error,
        _ => Level.Fatal,
    };
}
