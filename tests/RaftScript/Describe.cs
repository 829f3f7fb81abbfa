// Describe: messages, entries and states in the words of the interaction language.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.RaftScript;

/// <summary>An entry outside a core.</summary>
internal sealed record ScriptEntry(ulong Term, ulong Index, EntryType Type, byte[] Payload);

/// <summary>A message outside a core.</summary>
internal sealed record ScriptMessage(RaftMessage Message, List<ScriptEntry> Entries);

internal static class Describe
{
    public static string Entry(ScriptEntry entry)
    {
        string head = $"{entry.Term}/{entry.Index} Entry{entry.Type}";
        if (entry.Type == EntryType.Normal)
        {
            return $"{head} \"{Encoding.UTF8.GetString(entry.Payload)}\"";
        }

        string steps = Steps(entry);
        return steps.Length == 0 ? head : $"{head} {steps}";
    }

    public static string Message(ScriptMessage message)
    {
        RaftMessage m = message.Message;
        string type = m.Type switch
        {
            MessageType.Append => "MsgApp",
            MessageType.AppendResponse => "MsgAppResp",
            MessageType.Heartbeat => "MsgHeartbeat",
            MessageType.HeartbeatResponse => "MsgHeartbeatResp",
            MessageType.Vote => "MsgVote",
            MessageType.VoteResponse => "MsgVoteResp",
            MessageType.PreVote => "MsgPreVote",
            MessageType.PreVoteResponse => "MsgPreVoteResp",
            MessageType.Snapshot => "MsgSnap",
            MessageType.TimeoutNow => "MsgTimeoutNow",
            MessageType.Propose => "MsgProp",
            MessageType.ReadIndex => "MsgReadIndex",
            MessageType.ReadIndexResponse => "MsgReadIndexResp",
            _ => "MsgTransferLeader",
        };
        bool hasLog = m.Type is not (MessageType.Snapshot or MessageType.Propose);
        var text = new StringBuilder();
        text.Append($"{m.From:x}->{m.To:x} {type} Term:{m.Term} Log:{(hasLog ? m.LogTerm : 0)}/{(hasLog ? m.Index : 0)}");
        if (m.IsReject)
        {
            text.Append($" Rejected (Hint: {m.Hint})");
        }

        if (m.Commit != 0)
        {
            text.Append($" Commit:{m.Commit}");
        }

        if (message.Entries.Count > 0)
        {
            text.Append($" Entries:[{string.Join(' ', message.Entries.ConvertAll(Entry))}]");
        }

        if (m.Type == MessageType.Snapshot)
        {
            text.Append($" Snapshot: {Snapshot(m.Index, m.LogTerm, m.SnapshotState!)}");
        }

        return text.ToString();
    }

    public static string Snapshot(ulong index, ulong term, ConfState state) =>
        $"Index:{index} Term:{term} ConfState:Voters:[{List(state.Voters)}] VotersOutgoing:[{List(state.VotersOutgoing)}] "
        + $"Learners:[{List(state.Learners)}] LearnersNext:[{List(state.LearnersNext)}] "
        + $"AutoLeave:{(state.AutoLeave ? "true" : "false")}";

    public static string HardState(ulong term, ulong vote, ulong commit) =>
        vote == 0 ? $"HardState Term:{term} Commit:{commit}" : $"HardState Term:{term} Vote:{vote} Commit:{commit}";

    public static string Progress(in ProgressStatus status)
    {
        var text = new StringBuilder($"{status.Id}: State{status.State} match={status.Match} next={status.Next}");
        text.Append(status.IsLearner ? " learner" : "").Append(status.IsPaused ? " paused" : "");
        text.Append(status.PendingSnapshot > 0 ? $" pendingSnap={status.PendingSnapshot}" : "");
        text.Append(status.IsRecentActive ? "" : " inactive");
        if (status.InFlight > 0)
        {
            text.Append($" inflight={status.InFlight}").Append(status.IsWindowFull ? "[full]" : "");
        }

        return text.ToString();
    }

    public static string Configuration(Configuration configuration)
    {
        var text = new StringBuilder($"voters=({List(configuration.Incoming)})");
        text.Append(configuration.IsJoint ? $"&&({List(configuration.Outgoing)})" : "");
        text.Append(configuration.Learners.Length > 0 ? $" learners=({List(configuration.Learners)})" : "");
        text.Append(configuration.LearnersNext.Length > 0 ? $" learners_next=({List(configuration.LearnersNext)})" : "");
        return text.Append(configuration.AutoLeave ? " autoleave" : "").ToString();
    }

    /// <summary>"v1 l2 r3 u4" as steps.</summary>
    public static List<(ConfChangeType Type, ulong Id)> ParseSteps(IEnumerable<string> lines)
    {
        var steps = new List<(ConfChangeType, ulong)>();
        foreach (string line in lines)
        {
            foreach (string word in line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                ConfChangeType type = word[0] switch
                {
                    'v' => ConfChangeType.AddNode,
                    'l' => ConfChangeType.AddLearnerNode,
                    'r' => ConfChangeType.RemoveNode,
                    'u' => ConfChangeType.UpdateNode,
                    _ => throw new FormatException($"unknown step {word}"),
                };
                steps.Add((type, ulong.Parse(word.AsSpan(1))));
            }
        }

        return steps;
    }

    private static string Steps(ScriptEntry entry)
    {
        var steps = new List<(ConfChangeType, ulong)>();
        if (entry.Type == EntryType.ConfChange && ConfChange.TryParse(entry.Payload, out ConfChange single))
        {
            steps.Add((single.Type, single.NodeId));
        }
        else if (ConfChangeV2.TryParse(entry.Payload, out ConfChangeV2 change))
        {
            steps.AddRange(change.Steps);
        }

        return string.Join(' ', steps.ConvertAll(s => s.Item1 switch
        {
            ConfChangeType.AddNode => "v",
            ConfChangeType.AddLearnerNode => "l",
            ConfChangeType.RemoveNode => "r",
            _ => "u",
        } + s.Item2));
    }

    private static string List(ulong[] ids) => string.Join(' ', ids);
}
