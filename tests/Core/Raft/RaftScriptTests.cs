// Every script of tests/RaftScript/scripts agrees with the core; and the runner does notice when one does not.
using System;
using System.Collections.Generic;
using System.IO;
using Cairn.RaftScript;
using Xunit;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftScriptTests
{
    public static TheoryData<string> Scripts
    {
        get
        {
            var names = new TheoryData<string>();
            string[] paths = Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "scripts"), "*.txt");
            Array.Sort(paths, StringComparer.Ordinal);
            foreach (string path in paths)
            {
                names.Add(Path.GetFileName(path));
            }

            return names;
        }
    }

    [Theory]
    [MemberData(nameof(Scripts))]
    public void Script_EveryCommand_Agrees(string name)
    {
        List<ScriptResult> results = ScriptRun.Run(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "scripts", name)));
        Assert.NotEmpty(results);
        var problems = new List<string>();
        foreach (ScriptResult result in results)
        {
            if (result.Differences.Count > 0)
            {
                problems.Add($"line {result.Command.Line} {result.Command.Name}:\n{string.Join('\n', result.Differences)}\n{result.Actual}");
            }
        }

        Assert.True(problems.Count == 0, string.Join("\n", problems));
    }

    [Fact]
    public void Script_WrongExpectation_Differs()
    {
        List<ScriptResult> results = ScriptRun.Run(
            "add-nodes 1 voters=(1) index=2\n----\nok\n\ncampaign 1\n----\nok\n\nraft-state\n----\n1: StateLeader (Voter) Term:1 Lead:1\n");
        Assert.Equal(["- 1: StateLeader (Voter) Term:1 Lead:1", "+ 1: StateCandidate (Voter) Term:1 Lead:0"], results[^1].Differences);
    }
}
