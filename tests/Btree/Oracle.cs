// Oracle: etcd's own offline tool, where it is installed: CAIRN_ETCDUTL, or .tools/ of the repository
// (scripts/install-test-tools). Tests that need it say so and pass without it elsewhere.
using System;
using System.Diagnostics;
using System.IO;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Cairn.Base;

namespace Cairn.Btree.Tests;

internal static class Oracle
{
    public static readonly string Root = FindRoot();

    public static readonly string? Etcdutl = FindEtcdutl();

    public const string Absent = "skipped: no etcdutl (set CAIRN_ETCDUTL or run scripts/install-test-tools)";

    /// <summary>Runs <c>etcdutl snapshot status</c>, which checks the whole structure; throws with its output if it refuses.</summary>
    public static (uint Hash, long Revision, long TotalKeys, long TotalSize) Status(string path)
    {
        // bbolt opens the file itself, so it must not be locked by us: look at a copy.
        string output = Run(Etcdutl!, ["snapshot", "status", path, "-w", "json"]);
        using JsonDocument json = JsonDocument.Parse(output);
        JsonElement status = json.RootElement;
        return (status.GetProperty("hash").GetUInt32(), status.GetProperty("revision").GetInt64(), status.GetProperty("totalKey").GetInt64(), status.GetProperty("totalSize").GetInt64());
    }

    /// <summary>What status computes: CRC-32C over bucket names, keys and values in order; keys counted.</summary>
    public static (uint Hash, long Keys) HashOf(TreeReader reader)
    {
        uint crc = 0;
        long keys = 0;
        TreeCursor top = reader.Cursor();
        for (bool more = top.First(); more; more = top.Next())
        {
            crc = Crc32C.Append(crc, top.Key);
            top.TryGetBucket(out BucketReader bucket);
            TreeCursor cursor = bucket.Cursor();
            for (bool inner = cursor.First(); inner; inner = cursor.Next())
            {
                crc = Crc32C.Append(crc, cursor.Key);
                crc = Crc32C.Append(crc, cursor.Value);
                keys++;
            }
        }

        return (crc, keys);
    }

    /// <summary>Unpacks one file of a fixture archive (made by a real etcd 3.5.30) to a path.</summary>
    public static void Unpack(string fixture, string directory)
    {
        string archive = Path.Combine(Root, "tests", "fixtures", fixture + ".tar.gz");
        Run("tar", ["-xzf", archive, "-C", directory, "--strip-components=3", fixture + "/member/snap/db"]);
    }

    private static string Run(string program, string[] arguments)
    {
        ProcessStartInfo start = new(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        System.Threading.Tasks.Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: exit {process.ExitCode}: {error.Result}{output}");
        }

        return output;
    }

    private static string FindRoot([CallerFilePath] string here = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../.."));

    private static string? FindEtcdutl()
    {
        string? named = Environment.GetEnvironmentVariable("CAIRN_ETCDUTL");
        if (!string.IsNullOrEmpty(named))
        {
            return named;
        }

        foreach (string suite in (string[])["trixie", "sid"])
        {
            string path = Path.Combine(Root, ".tools", suite, "etcdutl");
            if (File.Exists(path))
            {
                return path;
            }
        }

        return null;
    }
}
