// ScriptFile: the text form all three languages share: comments (#), a command with arguments, input lines, "----",
// what is expected up to an empty line (or between doubled "----" lines, if it holds empty lines).
using System;
using System.Collections.Generic;

namespace Cairn.RaftScript;

/// <summary>One command of a script and what it is expected to print.</summary>
internal sealed class ScriptCommand
{
    public required int Line { get; init; }

    public required string Name { get; init; }

    /// <summary>Arguments in order; a bare one has no values.</summary>
    public required List<(string Key, string[] Values)> Arguments { get; init; }

    public required string[] Input { get; init; }

    public required string Expected { get; init; }

    /// <summary>Bare arguments as node ids.</summary>
    public List<ulong> Ids
    {
        get
        {
            var ids = new List<ulong>();
            foreach ((string key, string[] values) in Arguments)
            {
                if (values.Length == 0 && ulong.TryParse(key, out ulong id))
                {
                    ids.Add(id);
                }
            }

            return ids;
        }
    }

    public string[] Values(string key) => Arguments.Find(a => a.Key == key).Values ?? [];

    public string? Value(string key) => Values(key) is { Length: > 0 } values ? values[0] : null;

    public bool Flag(string key) => Value(key) is "true" || Arguments.Exists(a => a.Key == key && a.Values.Length == 0);

    public List<ulong> IdsOf(string key)
    {
        var ids = new List<ulong>();
        foreach (string value in Values(key))
        {
            ids.Add(ulong.Parse(value));
        }

        return ids;
    }
}

/// <summary>Reads scripts.</summary>
internal static class ScriptFile
{
    public static List<ScriptCommand> Parse(string text)
    {
        var commands = new List<ScriptCommand>();
        string[] lines = text.ReplaceLineEndings("\n").Split('\n');
        for (int i = 0; i < lines.Length;)
        {
            string line = lines[i].Trim();
            if (line.Length == 0 || line[0] == '#')
            {
                i++;
                continue;
            }

            int start = i++;
            while (line.EndsWith('\\') && i < lines.Length)
            {
                line = line[..^1] + lines[i++].Trim();
            }

            var input = new List<string>();
            while (i < lines.Length && lines[i].Trim() != "----")
            {
                if (lines[i].Trim().Length > 0 && !lines[i].TrimStart().StartsWith('#'))
                {
                    input.Add(lines[i].Trim());
                }

                i++;
            }

            i++;
            var expected = new List<string>();
            bool isDouble = i < lines.Length && lines[i].Trim() == "----";
            if (isDouble)
            {
                i++;
                while (i < lines.Length && !(lines[i].Trim() == "----" && i + 1 < lines.Length && lines[i + 1].Trim() == "----"))
                {
                    expected.Add(lines[i++]);
                }

                i += 2;
            }
            else
            {
                while (i < lines.Length && lines[i].Trim().Length > 0)
                {
                    expected.Add(lines[i++]);
                }
            }

            // Several commands above one separator are run one after the other.
            bool hasOwnInput = line.StartsWith("propose-conf-change", StringComparison.Ordinal)
                || line is "simple" or "leave-joint" || line.StartsWith("enter-joint", StringComparison.Ordinal);
            if (!hasOwnInput)
            {
                foreach (string further in input)
                {
                    commands.Add(Command(start + 1, line, [], ""));
                    line = further;
                }

                input.Clear();
            }

            commands.Add(Command(start + 1, line, [.. input], string.Join('\n', expected)));
        }

        return commands;
    }

    private static ScriptCommand Command(int lineNumber, string line, string[] input, string expected)
    {
        List<string> words = Words(line);
        var arguments = new List<(string, string[])>();
        for (int i = 1; i < words.Count; i++)
        {
            int equals = words[i].IndexOf('=', StringComparison.Ordinal);
            if (equals < 0)
            {
                arguments.Add((words[i], []));
                continue;
            }

            string value = words[i][(equals + 1)..];
            string[] values = value.StartsWith('(')
                ? value.Trim('(', ')').Split([',', ' '], StringSplitOptions.RemoveEmptyEntries)
                : [value];
            arguments.Add((words[i][..equals], values));
        }

        return new ScriptCommand { Line = lineNumber, Name = words[0], Arguments = arguments, Input = input, Expected = expected };
    }

    // Words by blanks, but a parenthesis holds its blanks.
    private static List<string> Words(string line)
    {
        var words = new List<string>();
        int depth = 0, start = -1;
        for (int i = 0; i <= line.Length; i++)
        {
            bool ends = i == line.Length || (line[i] == ' ' && depth == 0);
            if (ends)
            {
                if (start >= 0)
                {
                    words.Add(line[start..i]);
                }

                start = -1;
                continue;
            }

            start = start < 0 ? i : start;
            depth += line[i] == '(' ? 1 : line[i] == ')' ? -1 : 0;
        }

        return words;
    }
}
