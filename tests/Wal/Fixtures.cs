// Fixtures: real etcd 3.5.30 directories, unpacked once per test run. Tests that change one take a copy.
using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO;
using System.Runtime.CompilerServices;

namespace Cairn.Wal.Tests;

internal static class Fixtures
{
    private static readonly ConcurrentDictionary<string, Lazy<string>> Unpacked = new();

    static Fixtures() => AppDomain.CurrentDomain.ProcessExit += (_, _) =>
    {
        foreach (Lazy<string> directory in Unpacked.Values)
        {
            Directory.Delete(directory.Value, recursive: true);
        }
    };

    /// <summary>The unpacked data directory; do not write to it.</summary>
    public static string Data(string name) => Path.Combine(Unpacked.GetOrAdd(name, n => new Lazy<string>(() => Unpack(n))).Value, name);

    /// <summary>Its log.</summary>
    public static string Wal(string name) => Path.Combine(Data(name), "member", "wal");

    /// <summary>Its snapshots.</summary>
    public static string Snap(string name) => Path.Combine(Data(name), "member", "snap");

    /// <summary>A copy of the data directory under <paramref name="target"/>; holes stay holes.</summary>
    public static string Copy(string name, string target)
    {
        Run("cp", "-r", "--sparse=always", Data(name), target);
        return Path.Combine(target, name);
    }

    /// <summary>The repository's root, by the place of this file at build time.</summary>
    public static string Root([CallerFilePath] string file = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(file)!, "..", ".."));

    public static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Xunit.Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {error}");
    }

    private static string Unpack(string name)
    {
        string target = Path.Combine(Path.GetTempPath(), "cairn-fixture-" + Guid.NewGuid().ToString("N"));
        Directory.CreateDirectory(target);
        Run("tar", "--sparse", "-xzf", Path.Combine(Root(), "tests", "fixtures", name + ".tar.gz"), "-C", target);
        return target;
    }
}
