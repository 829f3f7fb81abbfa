// ProcessFigures: the process_* and os_fd_* metrics, read from /proc when a page is written, and the collector's
// counts and pauses under names of the runtime's own.
using System;
using System.Globalization;
using System.IO;
using Prometheus;

namespace Cairn.Net.Http;

/// <summary>Figures of the process.</summary>
internal sealed class ProcessFigures
{
    private readonly Counter _cpu;
    private readonly Gauge _resident;
    private readonly Gauge _virtual;
    private readonly Gauge _openFiles;
    private readonly Gauge _maxFiles;
    private readonly Gauge _osOpenFiles;
    private readonly Gauge _osMaxFiles;
    private readonly Counter _collections;
    private readonly Counter _pauses;
    private readonly Counter _allocated;
    private readonly Gauge _heap;

    public ProcessFigures(MetricFactory make)
    {
        _cpu = make.CreateCounter("process_cpu_seconds_total", "CPU time used, user and system.");
        _resident = make.CreateGauge("process_resident_memory_bytes", "Resident memory.");
        _virtual = make.CreateGauge("process_virtual_memory_bytes", "Address space in use.");
        _openFiles = make.CreateGauge("process_open_fds", "Open file descriptors.");
        _maxFiles = make.CreateGauge("process_max_fds", "Largest number of open file descriptors.");
        _osOpenFiles = make.CreateGauge("os_fd_used", "Open file descriptors.");
        _osMaxFiles = make.CreateGauge("os_fd_limit", "Largest number of open file descriptors.");
        _collections = make.CreateCounter("dotnet_gc_collections_total", "Garbage collections.", "generation");
        _pauses = make.CreateCounter("dotnet_gc_pause_seconds_total", "Time all threads stood still for the collector.");
        _allocated = make.CreateCounter("dotnet_gc_allocated_bytes_total", "Bytes allocated on the managed heap.");
        _heap = make.CreateGauge("dotnet_gc_heap_bytes", "Size of the managed heap.");
#pragma warning disable RS0030 // the start of the process on the wall clock, once
        double start = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0;
#pragma warning restore RS0030
        make.CreateGauge("process_start_time_seconds", "When the process started, seconds since 1970.").Set(start);
    }

    public void Fill()
    {
        _cpu.IncTo(Environment.CpuUsage.TotalTime.TotalSeconds);
        _resident.Set(Environment.WorkingSet);
        string[] sizes = ReadAll("/proc/self/statm").Split(' ');
        _virtual.Set(Number(sizes[0]) * Environment.SystemPageSize);
        int open = Directory.Exists("/proc/self/fd") ? Directory.GetFileSystemEntries("/proc/self/fd").Length : 0;
        _openFiles.Set(open);
        _osOpenFiles.Set(open);
        double limit = FileLimit();
        _maxFiles.Set(limit);
        _osMaxFiles.Set(limit);
        for (int generation = 0; generation <= GC.MaxGeneration; generation++)
        {
            _collections.WithLabels(generation.ToString(CultureInfo.InvariantCulture)).IncTo(GC.CollectionCount(generation));
        }

        _pauses.IncTo(GC.GetTotalPauseDuration().TotalSeconds);
        _allocated.IncTo(GC.GetTotalAllocatedBytes());
        _heap.Set(GC.GetTotalMemory(forceFullCollection: false));
    }

    private static double FileLimit()
    {
        foreach (string line in ReadAll("/proc/self/limits").Split('\n'))
        {
            if (line.StartsWith("Max open files", StringComparison.Ordinal))
            {
                return Number(line["Max open files".Length..].Trim().Split(' ')[0]);
            }
        }

        return 0;
    }

    private static double Number(string text)
        => double.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out double value) ? value : 0;

    private static string ReadAll(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (IOException)
        {
            return "";
        }
    }
}
