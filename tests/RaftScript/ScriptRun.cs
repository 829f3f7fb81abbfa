// ScriptRun: a whole file of any of the three languages, and where it and the core disagree.
using System;
using System.Collections.Generic;

namespace Cairn.RaftScript;

/// <summary>What one command printed beside what it should have.</summary>
internal sealed record ScriptResult(ScriptCommand Command, string Actual, List<string> Differences);

internal static class ScriptRun
{
    public static List<ScriptResult> Run(string text)
    {
        var results = new List<ScriptResult>();
        using var cluster = new ScriptCluster();
        var table = new ConfChangeTable();
        foreach (ScriptCommand command in ScriptFile.Parse(text))
        {
            string actual;
            try
            {
                actual = command.Name switch
                {
                    "simple" or "enter-joint" or "leave-joint" => table.Run(command),
                    "committed" or "vote" => QuorumTable.Run(command),
                    _ => cluster.Run(command),
                };
            }
            catch (Exception problem) when (problem is not OutOfMemoryException)
            {
                actual = "stopped: " + problem.Message;
            }

            results.Add(new ScriptResult(command, actual, Comparison.Differences(command.Expected, actual)));
        }

        return results;
    }
}
