// ProcessFigures: the process_* and os_fd_* metrics, read from /proc when a page is written, and the collector's
// counts and pauses. etcd's go_* describe the Go runtime; what is said here of .NET has names of its own.
using System;
using System.Globalization;
using System.IO;
using System.Threading;

namespace Cairn.Net.Http;

/// <summary>Figures of the process.</summary>
internal static class ProcessFigures
{
    /// <summary>Adds the families.</summary>
    public static void AddTo(MetricsPage page)
    {
        page.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
            static () => Environment.CpuUsage.TotalTime.TotalSeconds);
        page.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.", static () => Environment.WorkingSet);
        page.Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.",
            static () => Number(ReadAll("/proc/self/statm").Split(' ')[0]) * Environment.SystemPageSize);
        page.Gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.",
            static () => Limit("Max address space"));
        page.Gauge("process_open_fds", "Number of open file descriptors.", static () => OpenFiles());
        page.Gauge("process_max_fds", "Maximum number of open file descriptors.", static () => FileLimit());
        page.Gauge("os_fd_used", "The number of used file descriptors.", static () => OpenFiles());
        page.Gauge("os_fd_limit", "The file descriptor limit.", static () => FileLimit());
        page.Counter("process_network_receive_bytes_total", "Number of bytes received by the process over the network.",
            static () => Octets("InOctets"));
        page.Counter("process_network_transmit_bytes_total", "Number of bytes sent by the process over the network.",
            static () => Octets("OutOctets"));
#pragma warning disable RS0030 // the start of the process on the wall clock, once
        double start = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0;
#pragma warning restore RS0030
        page.Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", () => start);
        AddCollector(page);
    }

    /// <summary>Most file descriptors this process may have open.</summary>
    public static double FileLimit() => Limit("Max open files");

    /// <summary>File descriptors open now.</summary>
    public static int OpenFiles()
        => Directory.Exists("/proc/self/fd") ? Directory.GetFileSystemEntries("/proc/self/fd").Length : 0;

    private static void AddCollector(MetricsPage page)
    {
        PauseWatch.Start();
        string[] generations = ["generation=\"0\"", "generation=\"1\"", "generation=\"2\""];
        page.Add("dotnet_gc_collections_total", "Garbage collections.", MetricKind.Counter, writer =>
        {
            for (int generation = 0; generation <= GC.MaxGeneration && generation < generations.Length; generation++)
            {
                writer.Sample(generations[generation], GC.CollectionCount(generation));
            }
        });
        page.Counter("dotnet_gc_pause_seconds_total", "Time all threads stood still for the collector.",
            static () => GC.GetTotalPauseDuration().TotalSeconds);
        page.Gauge("dotnet_gc_pause_seconds_max", "Longest time all threads stood still for one collection, or an upper bound of it.",
            static () => PauseWatch.Longest.TotalSeconds);
        page.Counter("dotnet_gc_allocated_bytes_total", "Bytes allocated on the managed heap.",
            static () => GC.GetTotalAllocatedBytes(precise: true));
        page.Gauge("dotnet_gc_heap_bytes", "Size of the managed heap.", static () => GC.GetTotalMemory(forceFullCollection: false));
    }

    private static double Limit(string name)
    {
        foreach (string line in ReadAll("/proc/self/limits").Split('\n'))
        {
            if (line.StartsWith(name, StringComparison.Ordinal))
            {
                string soft = line[name.Length..].Trim().Split(' ')[0];
                return soft == "unlimited" ? ulong.MaxValue : Number(soft);
            }
        }

        return 0;
    }

    // Two lines a group: names, then numbers in the same order.
    private static double Octets(string name)
    {
        string[] lines = ReadAll("/proc/self/net/netstat").Split('\n');
        for (int i = 0; i + 1 < lines.Length; i += 2)
        {
            string[] names = lines[i].Split(' ');
            int at = names[0] == "IpExt:" ? Array.IndexOf(names, name) : -1;
            string[] numbers = lines[i + 1].Split(' ');
            if (at > 0 && at < numbers.Length)
            {
                return Number(numbers[at]);
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

    /// <summary>
    /// Looks after each collection how much the total pause has grown: an object nobody holds, whose finalizer runs
    /// then and leaves another one (a young one: an old one would see only the rare full collections). Where two
    /// collections follow each other faster than the finalizer thread comes round, their pauses count as one: what is
    /// told is never too small. It is the process's, as the collector is, hence static.
    /// </summary>
    private sealed class PauseWatch
    {
        private static int s_started;
        private static long s_seen;
        private static long s_longest;

        private PauseWatch()
        {
        }

        ~PauseWatch()
        {
            Look();
            if (!Environment.HasShutdownStarted)
            {
                _ = new PauseWatch();
            }
        }

        public static TimeSpan Longest
        {
            get
            {
                Look();
                return new TimeSpan(Volatile.Read(ref s_longest));
            }
        }

        public static void Start()
        {
            if (Interlocked.Exchange(ref s_started, 1) == 0)
            {
                _ = new PauseWatch();
            }
        }

        private static void Look()
        {
            long now = GC.GetTotalPauseDuration().Ticks;
            long pause = now - Interlocked.Exchange(ref s_seen, now);
            long longest = Volatile.Read(ref s_longest);
            while (pause > longest)
            {
                long seen = Interlocked.CompareExchange(ref s_longest, pause, longest);
                if (seen == longest)
                {
                    break;
                }

                longest = seen;
            }
        }
    }
}
