// Tools: where the executables under test and the oracles lie, and how to run one to its end.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Cairn.Cluster;

internal sealed record Finished(int ExitCode, string Out, string Error)
{
    public override string ToString() => $"exit {ExitCode}\nstdout: {Out}\nstderr: {Error}";
}

internal static class Tools
{
    private static int s_nextPort = 11000 + (Environment.ProcessId * 97 % 9000);

    /// <summary>The repository's root: the folder with Perf.sln.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The published executable: CAIRN_BINARY, or what scripts/publish leaves.</summary>
    public static string Cairn { get; } = Need(Environment.GetEnvironmentVariable("CAIRN_BINARY") is { Length: > 0 } given
        ? given : Path.Combine(Root, "out/cairn/cairn"), "scripts/publish");

    /// <summary>The oracle: the newest etcd 3.5 that Debian packages.</summary>
    public static string Etcd35 { get; } = Need(Path.Combine(Root, ".tools/sid/etcd"), "scripts/install-test-tools");

    public static string Etcdutl35 { get; } = Need(Path.Combine(Root, ".tools/sid/etcdutl"), "scripts/install-test-tools");

    public static string Etcdctl35 { get; } = Need(Path.Combine(Root, ".tools/trixie/etcdctl"), "scripts/install-test-tools");

    public static string Etcdctl34 { get; } = Need("/usr/bin/etcdctl", "scripts/install-test-tools");

    public static string Fixtures { get; } = Path.Combine(Root, "tests/fixtures");

    /// <summary>True when CAIRN_BINARY names a real etcd: how these tests are themselves tested.</summary>
    public static bool SubjectIsEtcd { get; } = Path.GetFileName(Cairn) == "etcd";

    /// <summary>A port nobody listens on, from a range below the kernel's own ephemeral ports.</summary>
    public static int FreePort()
    {
        while (true)
        {
            int port = 11000 + (Interlocked.Increment(ref s_nextPort) % 20000);
            try
            {
                using TcpListener listener = new(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Taken: the next one.
            }
        }
    }

    /// <summary>An integer from the environment, for longer runs on demand.</summary>
    public static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), out int value) ? value : otherwise;

    /// <summary>Runs a program to its end; kills it when it takes longer than the limit.</summary>
    public static async Task<Finished> Run(
        string program, IEnumerable<string> arguments, string input = "", int seconds = 30,
        IEnumerable<KeyValuePair<string, string>>? environment = null, string? directory = null)
    {
        ProcessStartInfo start = new(program)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = directory ?? Path.GetTempPath(),
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach (KeyValuePair<string, string> pair in environment ?? [])
        {
            start.Environment[pair.Key] = pair.Value;
        }

        using Process process = Process.Start(start)!;
        StringBuilder output = new(), error = new();
        process.OutputDataReceived += (_, e) => AppendLine(output, e.Data);
        process.ErrorDataReceived += (_, e) => AppendLine(error, e.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        try
        {
            await process.StandardInput.WriteAsync(input);
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // The program ended without reading its input: its exit code tells.
        }

        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(seconds));
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
            throw new TimeoutException($"{program} {string.Join(' ', arguments)}: still running after {seconds} s\n{output}\n{error}");
        }

        return new Finished(process.ExitCode, output.ToString(), error.ToString());
    }

    private static void AppendLine(StringBuilder text, string? line)
    {
        if (line is not null)
        {
            lock (text)
            {
                text.Append(line).Append('\n');
            }
        }
    }

    private static string Need(string path, string maker) =>
        File.Exists(path) ? path : throw new FileNotFoundException($"{path} is missing: run {maker} (./test does)");

    private static string FindRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Perf.sln")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new DirectoryNotFoundException("Perf.sln is in no folder above the tests");
    }
}

/// <summary>A temporary directory that goes away with its owner.</summary>
internal sealed class TempFolder : IDisposable
{
    public TempFolder() => Path = Directory.CreateTempSubdirectory("cairn-").FullName;

    public string Path { get; }

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public void Dispose()
    {
        try
        {
            Directory.Delete(Path, recursive: true);
        }
        catch (IOException)
        {
            // A killed member may still be closing its files; the system's own cleaning of /tmp gets the rest.
        }
    }
}
