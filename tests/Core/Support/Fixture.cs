// Fixture: a data directory made by a real etcd 3.5.30 (tests/fixtures), unpacked once per test run.
using System;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.IO;
using System.Runtime.CompilerServices;

namespace Cairn.Core.Tests.Support;

internal static class Fixture
{
    private static readonly ConcurrentDictionary<string, Lazy<string>> Unpacked = new();

    public static string Single => Path.Combine(Get("etcd-3.5-single"), "etcd-3.5-single");

    public static string Auth => Path.Combine(Get("etcd-3.5-auth"), "etcd-3.5-auth");

    private static string Get(string name) => Unpacked.GetOrAdd(name, static n => new Lazy<string>(() => Unpack(n))).Value;

    private static string Unpack(string name, [CallerFilePath] string here = "")
    {
        string archive = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../fixtures", name + ".tar.gz"));
        string target = Directory.CreateTempSubdirectory("cairn-fixture-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(target, recursive: true);
        using Process tar = Process.Start("tar", ["--sparse", "-xzf", archive, "-C", target]);
        tar.WaitForExit();
        Xunit.Assert.Equal(0, tar.ExitCode);
        return target;
    }
}
