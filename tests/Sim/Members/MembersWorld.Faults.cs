// MembersWorld.Faults: what each fault of the plan does to whole members, and changes of the cluster.
using System;
using System.Collections.Generic;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Simulation;

internal sealed partial class MembersWorld
{
    private const int MaxNodes = 9;
    private readonly List<(ulong Id, int Number)> _joining = [];
    private (Member.MembershipCall Call, MemberNode Node, int Generation)? _change;

    private MemberNode Pick(int target) => Nodes[target % Nodes.Count];

    private void Begin(int number)
    {
        if (IsHealed)
        {
            return;
        }

        Fault fault = Faults[number];
        FaultsDone++;
        Coverage.Faulted(fault.Kind);
        Say(fault.ToString());
        var random = new SimRandom(fault.Salt);
        MemberNode node = Pick(fault.Target);
        long end = NowNs + fault.DurationNs;
        switch (fault.Kind)
        {
            case FaultKind.Kill or FaultKind.PowerCut:
                Crash(node, fault.Kind == FaultKind.PowerCut, fault.DurationNs, random);
                break;
            case FaultKind.KillLeader:
                Crash(FindLeader() ?? node, random.Chance(50), fault.DurationNs, random);
                break;
            case FaultKind.PowerCutAll:
                foreach (MemberNode each in Nodes)
                {
                    each.Down(power: true);
                    StartLater(each, random.Below(fault.DurationNs + 1));
                }

                break;
            case FaultKind.RollingRestart:
                for (int i = 0; i < Nodes.Count; i++)
                {
                    MemberNode next = Nodes[i];
                    After(i * (fault.DurationNs + Config.ElectionNs), () => Crash(next, false, fault.DurationNs / 4, random));
                }

                break;
            case FaultKind.CleanRestart:
                node.Member?.BeginStop(); // started again when it has ended
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
            case FaultKind.FailSync:
                node.IsSyncFailing = true;
                node.Files.FailSyncAt = node.Files.Syncs + 1 + random.Below(20);
                StartLater(node, fault.DurationNs);
                break;
            case FaultKind.Clog:
                _links.Hold(node.Number, Pick(fault.Target + 1 + random.Below(4)).Number, end);
                break;
            case FaultKind.Reset:
                Reset(node);
                break;
            case FaultKind.Flap:
                List<(int From, int To)> link = Pairs(fault, node, random);
                bool seen = random.Chance(50);
                for (int i = 0; i < 6; i++)
                {
                    long at = i * ((Config.ElectionNs / 2) + random.Below(Config.ElectionNs));
                    bool isCut = i % 2 == 0;
                    After(at, () => Cut(link, isCut, seen));
                }

                break;
            case FaultKind.Split or FaultKind.Shatter or FaultKind.Isolate or FaultKind.IsolateLeader or FaultKind.Bridge
                or FaultKind.OneWay:
                List<(int From, int To)> pairs = Pairs(
                    fault, fault.Kind == FaultKind.IsolateLeader ? FindLeader() ?? node : node, random);
                bool isSeen = random.Chance(50);
                Cut(pairs, true, isSeen);
                After(fault.DurationNs, () => Cut(pairs, false, isSeen));
                break;
            case FaultKind.AddMember or FaultKind.PromoteMember or FaultKind.RemoveMember or FaultKind.RemoveLeader:
                Change(fault.Kind, random);
                break;
            case FaultKind.TransferLeader:
                FindLeader()?.Member!.BeginHandOver(node.Member?.Id ?? 0);
                break;
        }
    }

    private void Crash(MemberNode node, bool power, long forNs, SimRandom random)
    {
        if (node.Member is null || IsHealed)
        {
            return;
        }

        if (random.Chance(60))
        {
            // At one of the next events of its disk, inside whatever it does there.
            node.Files.CutAt = node.Files.Events + 1 + random.Below(60);
            node.NextCutIsPower = power;
        }
        else
        {
            node.Down(power);
        }

        StartLater(node, forNs);
    }

    /// <summary>Starts a process after a while; some starts meet another power cut.</summary>
    public void StartLater(MemberNode node, long forNs) => After(forNs, () =>
    {
        if (!IsHealed)
        {
            if (node.Member is null && Random.Chance(20))
            {
                node.Files.CutAt = node.Files.Events + 1 + Random.Below(80); // and again, perhaps while it recovers
                node.NextCutIsPower = Random.Chance(60);
                StartLater(node, Config.ElectionNs);
            }

            node.Start();
        }
    });

    private void Reset(MemberNode node)
    {
        var pairs = new List<(int From, int To)>();
        foreach (MemberNode other in Nodes)
        {
            _links.Reset(node.Number, other.Number);
            _links.Reset(other.Number, node.Number);
            if (other != node)
            {
                pairs.Add((node.Number, other.Number));
                pairs.Add((other.Number, node.Number));
            }
        }

        Cut(pairs, true, isSeen: true);
        After(1 + Random.Below(Config.ElectionNs / 10), () => Cut(pairs, false, isSeen: true));
    }

    private List<(int From, int To)> Pairs(Fault fault, MemberNode node, SimRandom random)
    {
        var pairs = new List<(int From, int To)>();
        int groups = fault.Kind == FaultKind.Shatter ? 3 : 2;
        var group = new int[MaxNodes];
        for (int i = 0; i < group.Length; i++)
        {
            group[i] = random.Below(groups);
        }

        int other = (node.Number + 1 + random.Below(Math.Max(1, Nodes.Count - 1))) % Nodes.Count;
        for (int from = 0; from < Nodes.Count; from++)
        {
            for (int to = 0; to < Nodes.Count; to++)
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

    private void Cut(List<(int From, int To)> pairs, bool isCut, bool isSeen)
    {
        if (IsHealed)
        {
            return;
        }

        foreach ((int from, int to) in pairs)
        {
            if (isSeen)
            {
                (ulong, ulong) link = (Nodes[from].Id, Nodes[to].Id);
                Network.Cut(link.Item1, link.Item2, isCut);
            }
            else
            {
                _links.Cut(from, to, isCut);
            }
        }
    }

    // ---- the cluster changes ----

    private void Change(FaultKind kind, SimRandom random)
    {
        if (_change is not null || (FindLeader() ?? Pick(random.Below(64))) is not { Member: { } member } node || !node.IsServing)
        {
            return;
        }

        ReadOnlySpan<ClusterMember> members = member.ClusterView.Members;
        ulong chosen = members.Length == 0 ? 0 : members[random.Below(members.Length)].Id;
        long deadline = node.Clock.NowNs + member.Options.RequestTimeoutNs;
        Member.MembershipCall? call = null;
        switch (kind)
        {
            case FaultKind.AddMember when members.Length < 6 && Nodes.Count < MaxNodes:
                int number = Nodes.Count;
                string[] urls = [MemberNode.Url(number)];
                var added = new ClusterMember
                {
                    Id = MemberIds.OfAddedMember(urls, number), PeerUrls = urls, IsLearner = random.Chance(50),
                };
                Nodes.Add(new MemberNode(this, number, joins: true));
                _joining.Add((added.Id, number));
                call = member.BeginAdd(added, deadline);
                break;
            case FaultKind.PromoteMember when member.Status.Leader == member.Id:
                foreach (ClusterMember each in members)
                {
                    chosen = each.IsLearner ? each.Id : chosen;
                }

                call = member.BeginPromote(chosen, deadline);
                break;
            case FaultKind.RemoveMember when members.Length > 1:
                call = member.BeginRemove(chosen, deadline);
                break;
            case FaultKind.RemoveLeader when members.Length > 1:
                call = member.BeginRemove(member.Id, deadline);
                break;
        }

        if (call is not null)
        {
            _change = (call, node, node.Generation);
            if (call.Advance())
            {
                EndChange(call.Outcome);
            }
        }
    }

    private void LookAtChanges()
    {
        if (_change is { } change)
        {
            if (change.Generation != change.Node.Generation)
            {
                _change = null; // nobody will say
            }
            else if (change.Call.IsReady && change.Call.Advance())
            {
                EndChange(change.Call.Outcome);
            }
        }

        for (int i = _joining.Count - 1; i >= 0; i--)
        {
            // Started when anybody knows it as a member, whatever its administrator was told.
            (ulong id, int number) = _joining[i];
            if (Nodes.Find(node => node.Member?.ClusterView.Find(id) is not null)?.Member is { } known)
            {
                _joining.RemoveAt(i);
                MemberNode node = Nodes[number];
                node.Joined = new JoinedCluster(known.ClusterId, id, known.ClusterView.Members.ToArray());
                Say($"{node.Name} joins as {id:x}");
                node.Start();
            }
        }
    }

    private void EndChange(ErrorCode outcome)
    {
        Coverage.Hit("change of the cluster: " + outcome);
        Say("change of the cluster: " + outcome);
        _change = null;
    }
}
