// Tables: the two small languages: changes of configuration (simple, enter-joint, leave-joint) and quorums (committed,
// vote). Each command prints one result.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using Cairn.Core.Raft;

namespace Cairn.RaftScript;

/// <summary>Configurations one after the other; the "log" grows by one with each command.</summary>
internal sealed class ConfChangeTable
{
    private readonly SortedDictionary<ulong, ulong> _next = [];
    private Configuration _configuration = Configuration.Empty;
    private ulong _lastIndex;

    public string Run(ScriptCommand command)
    {
        ulong last = _lastIndex++;
        var steps = Describe.ParseSteps(command.Input).ConvertAll(s => new ConfChangeStep(s.Type, s.Id)).ToArray();
        string problem;
        Configuration? next = command.Name switch
        {
            "simple" => _configuration.Simple(steps, out problem),
            "enter-joint" => _configuration.EnterJoint(command.Flag("autoleave"), steps, out problem),
            _ => _configuration.LeaveJoint(out problem),
        };
        if (next == null)
        {
            return problem switch
            {
                "the last voter cannot be removed" => "removed all voters",
                "more than one voter changed without a joint configuration" =>
                    "more than one voter changed without entering joint config",
                "a simple change is not possible in a joint configuration" => "can't apply simple config change in joint config",
                "the configuration is joint already" => "config is already joint",
                "a configuration without voters cannot become joint" => "can't make a zero-voter config joint",
                "the configuration is not joint" => "can't leave a non-joint config",
                _ => problem,
            };
        }

        _configuration = next;
        var members = new SortedSet<ulong>(next.Incoming);
        members.UnionWith(next.Outgoing);
        members.UnionWith(next.Learners);
        foreach (ulong gone in new List<ulong>(_next.Keys))
        {
            if (!members.Contains(gone))
            {
                _ = _next.Remove(gone);
            }
        }

        var text = new StringBuilder(Describe.Configuration(next));
        foreach (ulong id in members)
        {
            _ = _next.TryAdd(id, Math.Max(last, 1));
            text.Append('\n').Append(Describe.Progress(new ProgressStatus(
                id, ProgressState.Probe, 0, _next[id], false, true, next.IsLearner(id), 0, 0, false)));
        }

        return text.ToString();
    }
}

internal static class QuorumTable
{
    public static string Run(ScriptCommand command)
    {
        List<ulong> incoming = command.IdsOf("cfg");
        bool isJoint = command.Value("cfgj") != null;
        List<ulong> outgoing = command.Value("cfgj") == "zero" ? [] : command.IdsOf("cfgj");
        var order = new List<ulong>(incoming);
        order.AddRange(outgoing.FindAll(id => !incoming.Contains(id)));
        string[] given = command.Values(command.Name == "vote" ? "votes" : "idx");
        var values = new SortedDictionary<ulong, string>();
        for (int i = 0; i < order.Count; i++)
        {
            values[order[i]] = i < given.Length ? given[i] : "_";
        }

        if (command.Name == "vote")
        {
            return "Vote" + Quorum.Both(Votes(incoming, values), Votes(outgoing, values));
        }

        ulong committed = Math.Min(Committed(incoming, values), Committed(outgoing, values));
        string result = committed == ulong.MaxValue ? "∞" : committed.ToString(CultureInfo.InvariantCulture);
        return Drawing(values, isJoint) + result;
    }

    private static ulong Committed(List<ulong> half, SortedDictionary<ulong, string> values)
    {
        ulong[] indexes = half.ConvertAll(id => Index(values[id])).ToArray();
        return Quorum.Majority(indexes);
    }

    private static VoteResult Votes(List<ulong> half, SortedDictionary<ulong, string> values) => Quorum.Votes(
        half.Count, half.FindAll(id => values[id] == "y").Count, half.FindAll(id => values[id] == "n").Count);

    private static ulong Index(string value) => value == "_" ? 0 : ulong.Parse(value, CultureInfo.InvariantCulture);

    private static string Drawing(SortedDictionary<ulong, string> values, bool isJoint)
    {
        int n = values.Count;
        if (n == 0)
        {
            return isJoint ? "<empty majority quorum>&&<empty majority quorum>\n" : "<empty majority quorum>\n";
        }

        var ranked = new List<ulong>(values.Keys);
        ranked.Sort((a, b) => Index(values[a]) != Index(values[b])
            ? Index(values[a]).CompareTo(Index(values[b])) : a.CompareTo(b));
        var bars = new Dictionary<ulong, int>();
        for (int i = 0; i < n; i++)
        {
            bars[ranked[i]] = i == 0 ? 0
                : Index(values[ranked[i - 1]]) < Index(values[ranked[i]]) ? i : bars[ranked[i - 1]];
        }

        var text = new StringBuilder(new string(' ', n) + "    idx\n");
        foreach ((ulong id, string value) in values)
        {
            string bar = value == "_" ? "?" + new string(' ', n) : new string('x', bars[id]) + ">" + new string(' ', n - bars[id]);
            text.Append(CultureInfo.InvariantCulture, $"{bar} {Index(value),5}    (id={id})\n");
        }

        return text.ToString();
    }
}
