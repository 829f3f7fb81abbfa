// LogSink: takes finished lines from any thread and writes them from one thread of its own.
//
// Why        A slow disk or a full pipe behind standard error must never hold up a thread that serves. The ring is
//            bounded: when it is full a line is dropped and counted, and the count is logged when there is room.
// Thread     Any thread enqueues; cairn:log dequeues and writes.
// Failure    A failed write is dropped silently: there is nowhere to report it.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using Cairn.Base;
using Microsoft.Win32.SafeHandles;

namespace Cairn.Native.Logging;

/// <summary>Bounded ring, one writer thread, several outputs.</summary>
internal sealed class LogSink : IActor, IDisposable
{
    private const int RingLines = 8192;

    private readonly MpscRing<Line> _ring = new(RingLines);
    private readonly List<Stream> _streams = [];
    private readonly List<SafeFileHandle> _files = [];
    private readonly LogFormatter _formatter;
    private readonly ActorThread _thread;
    private readonly Lock _writing = new();
    private long _dropped;
    private int _stopped;

    /// <param name="options">Where to write.</param>
    /// <param name="formatter">For the sink's own line about dropped ones.</param>
    /// <exception cref="IOException">An output cannot be opened; the message is etcd's.</exception>
    public LogSink(LogOptions options, LogFormatter formatter)
    {
        _formatter = formatter;
        foreach (string output in options.Outputs)
        {
            switch (output)
            {
                case "default" or "stderr":
                    _streams.Add(Console.OpenStandardError());
                    break;
                case "stdout":
                    _streams.Add(Console.OpenStandardOutput());
                    break;
                default:
                    _files.Add(OpenFile(output));
                    break;
            }
        }

        _thread = new ActorThread(this, SystemClock.Instance, new ProcessFatal(static (_, _) => { }));
    }

    public string RoleName => "log";

    public long NextDeadlineNs => long.MaxValue;

    /// <summary>Lines lost because the ring was full.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>Starts the writer thread.</summary>
    public void Start() => _thread.Start();

    /// <summary>Queues a line; never waits. <paramref name="buffer"/> is rented and belongs to the sink from here on.</summary>
    public void Enqueue(byte[] buffer, int length)
    {
        if (_ring.TryEnqueue(new Line(buffer, length)))
        {
            _thread.Wake();
            return;
        }

        ArrayPool<byte>.Shared.Return(buffer);
        Interlocked.Increment(ref _dropped);
    }

    public bool Poll(long nowNs)
    {
        bool any = false;
        lock (_writing)
        {
            while (_ring.TryDequeue(out Line line))
            {
                any = true;
                Write(line.Buffer.AsSpan(0, line.Length));
                ArrayPool<byte>.Shared.Return(line.Buffer);
            }

            long dropped = Interlocked.Exchange(ref _dropped, 0);
            if (dropped != 0)
            {
                (byte[] buffer, int length) = _formatter.Format(
                    LogLevels.Level.Warn, "logging/LogSink.cs", "log lines were dropped because their output is slow",
                    [new KeyValuePair<string, object?>("dropped-lines", dropped)], null);
                Write(buffer.AsSpan(0, length));
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }

        return any;
    }

    /// <summary>Writes everything queued from the calling thread; for the last words of a process.</summary>
    public void Flush() => Poll(0);

    /// <summary>Stops the writer and writes what is left.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _stopped, 1) == 0)
        {
            _thread.Stop();
            Flush();
            foreach (SafeFileHandle file in _files)
            {
                file.Dispose();
            }
        }
    }

    private static SafeFileHandle OpenFile(string path)
    {
        try
        {
            return File.OpenHandle(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string reason = e switch
            {
                DirectoryNotFoundException or FileNotFoundException => "no such file or directory",
                UnauthorizedAccessException => Directory.Exists(path) ? "is a directory" : "permission denied",
                _ => e.Message,
            };
            throw new IOException("open sink \"" + path + "\": open " + path + ": " + reason, e);
        }
    }

    private void Write(ReadOnlySpan<byte> line)
    {
        foreach (Stream stream in _streams)
        {
            try
            {
                stream.Write(line);
            }
            catch (IOException)
            {
                // The reader of the pipe has gone; see the file header.
            }
        }

        foreach (SafeFileHandle file in _files)
        {
            try
            {
                RandomAccess.Write(file, line, RandomAccess.GetLength(file));
            }
            catch (IOException)
            {
                // A full disk; see the file header.
            }
        }
    }

    private readonly record struct Line(byte[] Buffer, int Length);
}
