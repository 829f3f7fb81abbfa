// LogProvider: joins the logging abstractions to the sink.
using System;
using System.Collections.Generic;
using Microsoft.Extensions.Logging;

namespace Cairn.Native.Logging;

/// <summary>Makes loggers that format on the calling thread and leave the writing to the sink.</summary>
internal sealed class LogProvider : ILoggerFactory
{
    private readonly LogSink _sink;
    private readonly LogFormatter _formatter;
    private readonly LogLevels.Level _level;

    public LogProvider(LogSink sink, LogFormatter formatter, LogLevels.Level level)
    {
        _sink = sink;
        _formatter = formatter;
        _level = level;
    }

    /// <inheritdoc/>
    public ILogger CreateLogger(string categoryName)
    {
        // The web server reports every client that hangs up, and warns that a port without TLS cannot serve HTTP/2,
        // which ours does (ProtocolSniffer). Only what it calls an error is news here; all of it with --log-level=debug.
        bool framework = categoryName.StartsWith("Microsoft.", StringComparison.Ordinal);
        LogLevels.Level least = framework && _level is LogLevels.Level.Info or LogLevels.Level.Warn
            ? LogLevels.Level.Error
            : _level;
        return new Logger(this, categoryName, framework ? least : _level);
    }

    /// <inheritdoc/>
    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    /// <summary>Logs a line without the abstractions.</summary>
    public void Write(LogLevels.Level level, string caller, string message, params KeyValuePair<string, object?>[] fields)
    {
        if (level >= _level)
        {
            (byte[] buffer, int length) = _formatter.Format(level, caller, message, fields, null);
            _sink.Enqueue(buffer, length);
        }
    }

    public void Dispose()
    {
    }

    private sealed class Logger(LogProvider provider, string category, LogLevels.Level least) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None && LogLevels.From(logLevel) >= least;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (!IsEnabled(logLevel))
            {
                return;
            }

            // House rule: the event name of a message is the file it is in.
            string caller = eventId.Name is { } name && name.Contains('/', StringComparison.Ordinal) ? name : category;
            IReadOnlyList<KeyValuePair<string, object?>> fields = state as IReadOnlyList<KeyValuePair<string, object?>> ?? [];
            (byte[] buffer, int length) = provider._formatter.Format(
                LogLevels.From(logLevel), caller, formatter(state, exception), fields, exception);
            provider._sink.Enqueue(buffer, length);
        }
    }
}
