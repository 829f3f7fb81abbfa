// Comparison: what of an output counts: message lines, hard states, entries, committed entries, snapshots, states and
// tables. Free-text log lines, headings, soft states and what travels between a member and its own threads do not, nor
// does the order within one command.
using System;
using System.Collections.Generic;
using System.Text.RegularExpressions;

namespace Cairn.RaftScript;

internal static partial class Comparison
{
    /// <summary>The lines only one side has, marked - (expected) and + (ours); empty when they agree.</summary>
    public static List<string> Differences(string expected, string actual)
    {
        List<string> wanted = Reduce(expected);
        List<string> got = Reduce(actual);
        var differences = new List<string>();
        foreach (string line in wanted)
        {
            if (!got.Remove(line))
            {
                differences.Add("- " + line);
            }
        }

        foreach (string line in got)
        {
            differences.Add("+ " + line);
        }

        return differences;
    }

    private static List<string> Reduce(string text)
    {
        var lines = new List<string>();
        string section = "";
        string[] all = text.Split('\n');
        for (int i = 0; i < all.Length; i++)
        {
            string line = all[i].Trim();
            bool isOpen = line.EndsWith("Entries:[", StringComparison.Ordinal) || line.EndsWith("Responses:[", StringComparison.Ordinal);
            if (isOpen)
            {
                for (i++; i < all.Length && all[i].Trim() is not "]" and not "] Responses:["; i++)
                {
                    line += (line[^1] == '[' ? "" : " ") + all[i].Trim();
                }

                if (i < all.Length && all[i].Trim() == "] Responses:[")
                {
                    while (i < all.Length && all[i].Trim() != "]")
                    {
                        i++;
                    }
                }

                line += "]";
            }

            if (i + 1 < all.Length && all[i + 1].TrimStart().StartsWith("Snapshot: ", StringComparison.Ordinal))
            {
                line += " " + all[++i].Trim();
            }

            if (line.StartsWith("> ", StringComparison.Ordinal))
            {
                section = line.EndsWith("receiving messages", StringComparison.Ordinal) ? "received "
                    : line.Contains(" thread", StringComparison.Ordinal) ? "skip" : "";
                continue;
            }

            switch (line)
            {
                case "Messages:":
                    section = "sent ";
                    continue;
                case "Entries:":
                    section = "entry ";
                    continue;
                case "CommittedEntries:":
                    section = "committed ";
                    continue;
                case "Processing:" or "Responses:":
                    section = "skip";
                    continue;
                case "" or "ok" or "<empty Ready>":
                    continue;
            }

            if (section == "skip" || FreeText().IsMatch(line) || line.Contains("MsgStorageA", StringComparison.Ordinal)
                || OwnMessage().IsMatch(line))
            {
                continue;
            }

            if (line.Contains("MsgAppResp", StringComparison.Ordinal))
            {
                line = CommitField().Replace(line, "");
            }

            line = ProgressCommit().Replace(line, "");
            bool isState = line.StartsWith("HardState", StringComparison.Ordinal) || line.StartsWith("Snapshot ", StringComparison.Ordinal);
            lines.Add((isState ? "" : section) + line);
        }

        return lines;
    }

    [GeneratedRegex("^(INFO|DEBUG|WARN|WARNING|ERROR|FATAL) |^Ready MustSync|^Lead:|^raft: cannot step")]
    private static partial Regex FreeText();

    [GeneratedRegex("^([0-9a-f]+)->\\1 ")]
    private static partial Regex OwnMessage();

    [GeneratedRegex(" Commit:[0-9]+")]
    private static partial Regex CommitField();

    [GeneratedRegex(" (commit|sentCommit)=[0-9]+")]
    private static partial Regex ProgressCommit();
}
