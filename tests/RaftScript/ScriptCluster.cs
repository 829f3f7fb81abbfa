// ScriptCluster: the interaction language: nodes, the messages between them, and one method per command.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.RaftScript;

internal sealed class ScriptCluster : IDisposable
{
    private readonly List<ScriptNode> _nodes = [];
    private readonly List<ScriptMessage> _network = [];
    private readonly List<string> _output = [];
    private bool _isMuted;

    /// <summary>Runs one command; what it printed.</summary>
    public string Run(ScriptCommand command)
    {
        _output.Clear();
        bool muted = _isMuted || command.Value("log-level") == "none";
        Handle(command);
        return muted || _isMuted ? "ok" : string.Join('\n', _output);
    }

    public void Dispose()
    {
        foreach (ScriptNode node in _nodes)
        {
            node.Core.Dispose();
        }
    }

    private void Handle(ScriptCommand command)
    {
        switch (command.Name)
        {
            case "_breakpoint":
                break;
            case "log-level":
                _isMuted = command.Arguments[0].Key.Equals("none", StringComparison.OrdinalIgnoreCase);
                break;
            case "add-nodes":
                AddNodes(command);
                break;
            case "campaign":
                Node(command).Core.CampaignNow();
                break;
            case "propose":
                Propose(Node(command), EntryType.Normal, Encoding.UTF8.GetBytes(command.Arguments[1].Key));
                break;
            case "propose-conf-change":
                ProposeChange(command);
                break;
            case "process-ready":
                ForEach(command, "handling Ready", node => node.ProcessReady(_network, _output));
                break;
            case "process-append-thread":
                ForEach(command, "processing append thread", node => Append(node));
                break;
            case "process-apply-thread":
                ForEach(command, "processing apply thread", node => ApplyThread(node));
                break;
            case "deliver-msgs":
                DeliverMessages(command);
                break;
            case "stabilize":
                Stabilize(command.Ids);
                break;
            case "tick-heartbeat":
                Node(command).Core.TickOnce();
                break;
            case "tick-election":
                for (int i = 0; i < 3; i++)
                {
                    Node(command).Core.TickOnce();
                }

                break;
            case "set-randomized-election-timeout":
                Node(command).Core.SetRandomizedTimeout(int.Parse(command.Value("timeout")!));
                break;
            case "transfer-leadership":
                ScriptNode from = _nodes[int.Parse(command.Value("from")!) - 1];
                from.Core.TransferLeader(ulong.Parse(command.Value("to")!));
                break;
            case "forget-leader":
                Node(command).Core.ForgetLeader();
                break;
            case "report-unreachable":
                Node(command).Core.ReportUnreachable(command.Ids[1]);
                break;
            case "send-snapshot":
                SendSnapshot(Node(command), command.Ids[1]);
                break;
            case "compact":
                Node(command).Core.Compact(command.Ids[1]);
                break;
            case "raft-state":
                RaftState();
                break;
            case "raft-log":
                RaftLog(Node(command).Core);
                break;
            case "status":
                Status(Node(command).Core);
                break;
            default:
                throw new FormatException($"line {command.Line}: unknown command {command.Name}");
        }
    }

    private ScriptNode Node(ScriptCommand command) => _nodes[(int)command.Ids[0] - 1];

    private void AddNodes(ScriptCommand command)
    {
        ulong index = ulong.Parse(command.Value("index") ?? "0");
        var state = new ConfState { Voters = [.. command.IdsOf("voters")], Learners = [.. command.IdsOf("learners")] };
        for (ulong i = 0; i < command.Ids[0]; i++)
        {
            var config = new RaftConfig
            {
                Id = (ulong)_nodes.Count + 1,
                ElectionTicks = 3,
                HeartbeatTicks = 1,
                PreVote = command.Flag("prevote"),
                CheckQuorum = command.Flag("checkquorum"),
                EnsuresSuccession = false,
                StepDownOnRemoval = command.Flag("step-down-on-removal"),
                ValidateConfChanges = !command.Flag("disable-conf-change-validation"),
                MaxInFlightMessages = int.Parse(command.Value("inflight") ?? "1000000"),
                MaxInFlightBytes = long.MaxValue,
                MaxMessageBytes = long.MaxValue,
                MaxMessageEntries = int.MaxValue,
                MaxUncommittedBytes = long.MaxValue / 2,
                MaxApplyingBytes = long.MaxValue,
                RetainBytes = long.MaxValue,
                RetainEntries = int.MaxValue,
                AllowsTermBehindLog = true,
            };
            _nodes.Add(new ScriptNode(
                config, new HardState(0, 0, index), index == 0 ? ConfState.Empty : state, index, command.Flag("async-storage-writes")));
        }
    }

    private void Propose(ScriptNode node, EntryType type, byte[] payload)
    {
        if (node.Propose(type, payload, _network) is not (ProposalResult.Appended or ProposalResult.Forward))
        {
            _output.Add("raft proposal dropped");
        }
    }

    private void ProposeChange(ScriptCommand command)
    {
        List<(ConfChangeType Type, ulong Id)> steps = Describe.ParseSteps(command.Input);
        if (command.Flag("v1"))
        {
            var single = new ConfChange { Type = steps[0].Type, NodeId = steps[0].Id };
            byte[] bytes = new byte[single.Size];
            var writer = new Cairn.Base.ProtoWriter(bytes);
            single.Write(ref writer);
            Propose(Node(command), EntryType.ConfChange, bytes);
            return;
        }

        var change = new ConfChangeV2
        {
            Transition = command.Value("transition") switch
            {
                "implicit" => ConfChangeTransition.JointImplicit,
                "explicit" => ConfChangeTransition.JointExplicit,
                _ => ConfChangeTransition.Auto,
            },
            Steps = [.. steps],
        };
        Propose(Node(command), EntryType.ConfChangeV2, change.ToBytes());
    }

    private void ForEach(ScriptCommand command, string doing, Action<ScriptNode> action)
    {
        foreach (ulong id in command.Ids)
        {
            if (command.Ids.Count > 1)
            {
                _output.Add($"> {id} {doing}");
            }

            action(_nodes[(int)id - 1]);
        }
    }

    private void Append(ScriptNode node)
    {
        if (node.HasAppendWork)
        {
            node.ProcessAppend(_network);
        }
    }

    private void ApplyThread(ScriptNode node)
    {
        if (node.HasApplyWork)
        {
            node.ProcessApply(_network, _output);
        }
    }

    private void DeliverMessages(ScriptCommand command)
    {
        string? kind = command.Value("type");
        foreach (ulong id in command.Ids)
        {
            _ = Deliver(id, kind, isDropped: false);
        }

        foreach (ulong id in command.IdsOf("drop"))
        {
            _ = Deliver(id, kind, isDropped: true);
        }
    }

    private bool Deliver(ulong id, string? kind, bool isDropped)
    {
        List<ScriptMessage> mine = _network.FindAll(
            m => m.Message.To == id && (kind == null || Describe.Message(m).Contains($" {kind} ", StringComparison.Ordinal)));
        foreach (ScriptMessage message in mine)
        {
            bool isLocal = message.Message.Type == MessageType.None;
            if (isDropped && isLocal)
            {
                continue;
            }

            _ = _network.Remove(message);
            if (!isLocal)
            {
                _output.Add((isDropped ? "dropped: " : "") + Describe.Message(message));
            }

            if (!isDropped)
            {
                _nodes[(int)id - 1].Step(message);
            }
        }

        return mine.Count > 0;
    }

    private void Stabilize(List<ulong> ids)
    {
        for (bool moved = true; moved;)
        {
            moved = false;
            List<ScriptNode> nodes = ids.Count == 0 ? [.. _nodes] : ids.ConvertAll(id => _nodes[(int)id - 1]);
            foreach (ScriptNode node in nodes)
            {
                if (node.HasReady)
                {
                    _output.Add($"> {node.Id} handling Ready");
                    node.ProcessReady(_network, _output);
                    moved = true;
                }
            }

            foreach (ScriptNode node in nodes)
            {
                int heading = _output.Count;
                if (Deliver(node.Id, null, isDropped: false))
                {
                    _output.Insert(heading, $"> {node.Id} receiving messages");
                    moved = true;
                }
            }

            foreach (ScriptNode node in nodes)
            {
                if (node.HasAppendWork)
                {
                    _output.Add($"> {node.Id} processing append thread");
                    node.ProcessAppend(_network);
                    moved = true;
                }
            }

            foreach (ScriptNode node in nodes)
            {
                if (node.HasApplyWork)
                {
                    _output.Add($"> {node.Id} processing apply thread");
                    node.ProcessApply(_network, _output);
                    moved = true;
                }
            }
        }
    }

    private void SendSnapshot(ScriptNode node, ulong to)
    {
        Cairn.Base.Invariant.Check(node.Core.TryGetTerm(node.Core.Applied, out ulong term) == LogAnswer.Ready, "applied has a term");
        var message = new ScriptMessage(
            new RaftMessage
            {
                Type = MessageType.Snapshot,
                From = node.Id,
                To = to,
                Term = node.Core.Term,
                Index = node.Core.Applied,
                LogTerm = term,
                SnapshotState = node.Core.Configuration.ToConfState(),
            }, []);
        _output.Add(Describe.Message(message));
        _network.Add(message);
    }

    private void RaftState()
    {
        foreach (ScriptNode node in _nodes)
        {
            string voter = node.Core.Configuration.IsVoter(node.Id) ? "Voter" : "Non-Voter";
            _output.Add($"{node.Id}: State{node.Core.Role} ({voter}) Term:{node.Core.Term} Lead:{node.Core.Leader}");
        }
    }

    private void RaftLog(RaftCore core)
    {
        ScriptNode node = _nodes[(int)core.Id - 1];
        if (core.Durable <= core.CompactedIndex)
        {
            _output.Add($"log is empty: first index={core.CompactedIndex + 1}, last index={core.CompactedIndex}");
        }

        for (ulong i = core.CompactedIndex + 1; i <= core.Durable; i++)
        {
            _output.Add(Describe.Entry(node.Read(i)));
        }
    }

    private void Status(RaftCore core)
    {
        for (int i = 0; i < core.ProgressCount && core.Role == RaftRole.Leader; i++)
        {
            _output.Add(Describe.Progress(core.ProgressAt(i)));
        }
    }
}
