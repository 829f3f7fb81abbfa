// RaftWorld.Faults: what each fault of the plan does at core level, and the phase after them.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftWorld
{
    private const int MaxMembers = 12;
    private readonly Dictionary<int, List<(int From, int To)>> _cuts = [];

    private RaftNode Pick(int target) => _nodes[target % _nodes.Count];

    private void Begin(int number)
    {
        Fault fault = _faults[number];
        Coverage.Faulted(fault.Kind);
        var random = new SimRandom(fault.Salt);
        RaftNode node = Pick(fault.Target);
        long end = NowNs + fault.DurationNs;
        switch (fault.Kind)
        {
            case FaultKind.Kill or FaultKind.PowerCut or FaultKind.FailSync or FaultKind.DiskFull or FaultKind.CleanRestart:
                // At this level they differ in nothing but how long the member is away.
                Stop(node, fault.Kind == FaultKind.CleanRestart ? Config.TickNs : fault.DurationNs, number);
                break;
            case FaultKind.KillLeader:
                Stop(FindLeader() ?? node, fault.DurationNs, number);
                break;
            case FaultKind.PowerCutAll:
                foreach (RaftNode each in _nodes)
                {
                    Stop(each, random.Below(fault.DurationNs + 1), number);
                }

                break;
            case FaultKind.RollingRestart:
                Schedule(RaftEvent.FaultEnds, NowNs, number, 0, 1000);
                break;
            case FaultKind.Pause:
                node.PausedUntilNs = Math.Max(node.PausedUntilNs, end);
                break;
            case FaultKind.DiskStall:
                node.DiskStalledUntilNs = Math.Max(node.DiskStalledUntilNs, end);
                break;
            case FaultKind.StoreStall:
                node.StoreStalledUntilNs = Math.Max(node.StoreStalledUntilNs, end);
                break;
            case FaultKind.Clog:
                _links.Hold(node.Number, Pick(fault.Target + 1 + random.Below(4)).Number, end);
                break;
            case FaultKind.Reset:
                foreach (RaftNode other in _nodes)
                {
                    _links.Reset(node.Number, other.Number);
                    _links.Reset(other.Number, node.Number);
                    if (node.IsUp)
                    {
                        node.Core.ReportUnreachable(other.Id);
                    }
                }

                break;
            case FaultKind.Flap:
                Cut(number, Pairs(fault, node, random));
                Schedule(RaftEvent.FaultEnds, NowNs + Config.ElectionNs / 2 + random.Below(Config.ElectionNs), number, 0, 2000);
                break;
            case FaultKind.Split or FaultKind.Shatter or FaultKind.Isolate or FaultKind.IsolateLeader or FaultKind.Bridge
                or FaultKind.OneWay:
                Cut(number, Pairs(fault, fault.Kind == FaultKind.IsolateLeader ? FindLeader() ?? node : node, random));
                Schedule(RaftEvent.FaultEnds, end, number, 0, 0);
                break;
            case FaultKind.AddMember or FaultKind.PromoteMember or FaultKind.RemoveMember or FaultKind.RemoveLeader
                or FaultKind.JointChange:
                ChangeMembers(fault, random);
                break;
            case FaultKind.TransferLeader:
                if (FindLeader() is { } leader)
                {
                    leader.Core.TransferLeader(node.Id);
                    leader.Wake(0);
                }

                break;
            case FaultKind.ForgetLeader:
                if (node.IsUp)
                {
                    node.Core.ForgetLeader();
                    node.Wake(0);
                }

                break;
            case FaultKind.Compact:
                node.IsSnapshotForced = true;
                if (node.IsUp)
                {
                    node.Wake(0);
                }

                break;
        }
    }

    private void End(int number, int argument)
    {
        Fault fault = _faults[number];
        if (argument is >= 1 and < 1000)
        {
            RaftNode node = _nodes[argument - 1];
            if (!node.IsUp && !node.IsStopped)
            {
                Start(node);
            }
        }
        else if (argument is >= 1000 and < 2000)
        {
            // A rolling restart: the next one.
            int next = argument - 1000;
            if (next < _nodes.Count && !_isHealed)
            {
                Stop(_nodes[next], 1 + (fault.DurationNs / 4), number);
                Schedule(RaftEvent.FaultEnds, NowNs + fault.DurationNs + Config.ElectionNs, number, 0, argument + 1);
            }
        }
        else if (argument >= 2000)
        {
            // A flapping link: every other time cut or mended.
            if (!_cuts.ContainsKey(number))
            {
                Cut(number, Pairs(fault, Pick(fault.Target), new SimRandom(fault.Salt)));
            }
            else
            {
                Mend(number);
            }

            if (argument < 2010 && !_isHealed)
            {
                Schedule(
                    RaftEvent.FaultEnds, NowNs + (Config.ElectionNs / 2) + Random.Below(Config.ElectionNs), number, 0, argument + 1);
            }
            else
            {
                Mend(number);
            }
        }
        else
        {
            Mend(number);
        }
    }

    private void Stop(RaftNode node, long forNs, int fault)
    {
        if (node.IsUp)
        {
            Coverage.Crashes++;
            node.Crash();
            Schedule(RaftEvent.FaultEnds, NowNs + forNs, fault, 0, node.Number + 1);
        }
    }

    private List<(int From, int To)> Pairs(Fault fault, RaftNode node, SimRandom random)
    {
        var pairs = new List<(int From, int To)>();
        int groups = fault.Kind == FaultKind.Shatter ? 3 : 2;
        var group = new int[MaxMembers + 64];
        for (int i = 0; i < group.Length; i++)
        {
            group[i] = random.Below(groups);
        }

        int other = (node.Number + 1 + random.Below(Math.Max(1, _nodes.Count - 1))) % _nodes.Count;
        for (int from = 0; from < _nodes.Count; from++)
        {
            for (int to = 0; to < _nodes.Count; to++)
            {
                bool isCut = from != to && fault.Kind switch
                {
                    FaultKind.Split or FaultKind.Shatter => group[from] != group[to],
                    FaultKind.Isolate or FaultKind.IsolateLeader => from == node.Number || to == node.Number,
                    FaultKind.Bridge => group[from] != group[to] && from != node.Number && to != node.Number,
                    FaultKind.OneWay => from == node.Number && to == other,
                    _ => (from == node.Number && to == other) || (from == other && to == node.Number),
                };
                if (isCut)
                {
                    pairs.Add((from, to));
                }
            }
        }

        return pairs;
    }

    private void Cut(int fault, List<(int From, int To)> pairs)
    {
        foreach ((int from, int to) in pairs)
        {
            _links.Cut(from, to, true);
        }

        _cuts[fault] = pairs;
    }

    private void Mend(int fault)
    {
        if (_cuts.Remove(fault, out List<(int From, int To)>? pairs))
        {
            foreach ((int from, int to) in pairs)
            {
                _links.Cut(from, to, false);
            }
        }
    }

    private RaftNode? FindLeader()
    {
        RaftNode? found = null;
        foreach (RaftNode node in _nodes)
        {
            if (node.IsUp && node.Core.Role == RaftRole.Leader && (found is null || node.Core.Term > found.Core.Term))
            {
                found = node;
            }
        }

        return found;
    }

    private void ChangeMembers(Fault fault, SimRandom random)
    {
        // Asked of the leader if there is one, else of somebody, who forwards or refuses.
        RaftNode asked = FindLeader() ?? Pick(fault.Target);
        if (!asked.IsUp)
        {
            return;
        }

        Configuration now = asked.Core.Configuration;
        switch (fault.Kind)
        {
            case FaultKind.AddMember when _nodes.Count < MaxMembers && now.Incoming.Length + now.Learners.Length < 8:
                RaftNode added = AddNode();
                Propose(asked, random.Chance(50) ? ConfChangeType.AddNode : ConfChangeType.AddLearnerNode, added.Id);
                break;
            case FaultKind.PromoteMember when now.Learners.Length > 0:
                Propose(asked, ConfChangeType.AddNode, now.Learners[random.Below(now.Learners.Length)]);
                break;
            case FaultKind.RemoveMember when now.Incoming.Length + now.Learners.Length > 1:
                int victim = random.Below(now.Incoming.Length + now.Learners.Length);
                Propose(
                    asked, ConfChangeType.RemoveNode,
                    victim < now.Incoming.Length ? now.Incoming[victim] : now.Learners[victim - now.Incoming.Length]);
                break;
            case FaultKind.RemoveLeader when now.Incoming.Length > 1:
                Propose(asked, ConfChangeType.RemoveNode, asked.Id);
                break;
            case FaultKind.JointChange when _nodes.Count < MaxMembers && now.Incoming.Length is > 1 and < 7:
                RaftNode second = AddNode();
                var change = new ConfChangeV2
                {
                    Transition = random.Chance(50) ? ConfChangeTransition.Auto : ConfChangeTransition.JointImplicit,
                    Steps =
                    [
                        (ConfChangeType.AddNode, second.Id),
                        (random.Chance(50) ? ConfChangeType.RemoveNode : ConfChangeType.AddLearnerNode,
                            now.Incoming[random.Below(now.Incoming.Length)]),
                    ],
                };
                Propose(asked, EntryType.ConfChangeV2, change.ToBytes());
                break;
        }

        // Two at once, as two administrators would: at most one may be in the log unapplied.
        if (random.Chance(30) && now.Learners.Length > 0)
        {
            Propose(asked, ConfChangeType.AddNode, now.Learners[0]);
        }
    }

    private RaftNode AddNode()
    {
        var empty = new RegisterImage(new RegisterState(Config.Keys), 0, 0, ConfState.Empty);
        var node = new RaftNode(this, _nodes.Count, empty, default, true);
        _nodes.Add(node);
        node.Start([]);
        return node;
    }

    private void Propose(RaftNode node, ConfChangeType type, ulong id)
    {
        nint data = Encode(type, id, out int length);
        node.Ask(new ClientRequest(-1, 0, false, data, EntryType.ConfChange, length));
    }

    private void Propose(RaftNode node, EntryType type, ReadOnlySpan<byte> payload)
    {
        byte* data = Allocate(payload.Length);
        payload.CopyTo(new Span<byte>(data, payload.Length));
        node.Ask(new ClientRequest(-1, 0, false, (nint)data, type, payload.Length));
    }

    private nint Encode(ConfChangeType type, ulong id, out int length)
    {
        var change = new ConfChange { Type = type, NodeId = id, Id = id };
        length = change.Size;
        byte* data = Allocate(length);
        var writer = new ProtoWriter(new Span<byte>(data, length));
        change.Write(ref writer);
        return (nint)data;
    }
}
