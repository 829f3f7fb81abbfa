// raftscript: runs scripts in the public interaction language of etcd's raft library (and the two table languages)
// against our core: dotnet run --project tests/RaftScript -- [-v] FILE…
// Prints per file how many commands agree, and for each that differs the lines only one side has (- theirs, + ours).
using System;
using System.Collections.Generic;
using System.IO;

namespace Cairn.RaftScript;

internal static class Program
{
    private static int Main(string[] args)
    {
        bool isVerbose = Array.IndexOf(args, "-v") >= 0;
        int differing = 0;
        foreach (string path in args)
        {
            if (path == "-v")
            {
                continue;
            }

            List<ScriptResult> results = ScriptRun.Run(File.ReadAllText(path));
            List<ScriptResult> different = results.FindAll(r => r.Differences.Count > 0);
            Console.WriteLine($"{path}: {results.Count - different.Count} of {results.Count} commands agree");
            foreach (ScriptResult result in different)
            {
                Console.WriteLine($"  line {result.Command.Line}: {result.Command.Name} differs");
                foreach (string line in result.Differences)
                {
                    Console.WriteLine("    " + line);
                }

                if (isVerbose)
                {
                    Console.WriteLine(result.Actual);
                }
            }

            differing += different.Count;
        }

        return differing == 0 ? 0 : 1;
    }
}
