// RaftWorld.Liveness: the second phase: without it a deadlock looks like a slow network (R20).
//
// Faults end, links heal and are fast against the election timeout, everybody is started again; where membership did not
// change during the run, sometimes a minority stays away for good. Then new writes must be answered within a bound, every
// client must get an answer, and all members of the configuration must end with the same applied state.
using System;
using System.Globalization;
using System.Text;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftWorld
{
    private const int CommitBound = 60; // election timeouts
    private const int ProgressBound = 40;

    private void RunLiveness()
    {
        _isHealed = true;
        long quick = Math.Max(1_000, Config.ElectionNs / 50);
        _diskNs = Math.Min(_diskNs, quick);
        _storeNs = Math.Min(_storeNs, quick);
        _links.Heal(quick);
        _cuts.Clear();
        RaftNode? away = null;
        const ulong membership = (1UL << (int)FaultKind.AddMember) | (1UL << (int)FaultKind.PromoteMember)
            | (1UL << (int)FaultKind.RemoveMember) | (1UL << (int)FaultKind.RemoveLeader) | (1UL << (int)FaultKind.JointChange);
        if ((Config.FaultClasses & membership) == 0 && Config.Voters > 2 && Random.Chance(40))
        {
            away = _nodes[Random.Below(Config.Voters)];
        }

        foreach (RaftNode node in _nodes)
        {
            node.PausedUntilNs = 0;
            node.DiskStalledUntilNs = 0;
            node.StoreStalledUntilNs = 0;
            if (node == away)
            {
                node.Crash();
                node.IsStopped = true;
                node.IsRemoved = true;
            }
            else if (!node.IsUp)
            {
                Start(node);
            }
            else
            {
                node.Hurry();
            }
        }

        long marked = Completed;
        long deadline = NowNs + (CommitBound * Config.ElectionNs);
        for (int i = 0; i < _clients.Length; i++)
        {
            Schedule(RaftEvent.Client, NowNs, i, 0, 0);
        }

        ulong index = Ledger.LastIndex;
        while (Completed < marked + 2 || Ledger.LastIndex == index)
        {
            SimCheck.That(
                NowNs < deadline && Step(),
                $"R20: no progress within {CommitBound} election timeouts after all faults ended\n{Describe()}");
        }

        _clientsStop = true; // what they have asked must still be answered or given up
        ulong sum = 0;
        deadline = NowNs + (ProgressBound * Config.ElectionNs);
        while (!IsAtRest())
        {
            for (int i = 0; i < 50; i++)
            {
                _ = Step();
            }

            ulong now = Progressed();
            if (now != sum)
            {
                sum = now;
                deadline = NowNs + (ProgressBound * Config.ElectionNs);
            }

            SimCheck.That(
                NowNs < deadline,
                $"R20: no member moved for {ProgressBound} election timeouts, yet they are not equal\n{Describe()}");
        }
    }

    private void CheckEnd()
    {
        foreach (RaftNode node in _nodes)
        {
            if (node.IsUp)
            {
                Ledger.Applied(node.Id, node.Store);
                Coverage.MessagesRefused += node.Core.MessagesRefused;
                Coverage.MessagesLost += node.Core.MessagesLost;
            }
        }

        Coverage.LinkDrops += _links.Dropped;
        Coverage.LinkRepeats += _links.Repeated;
        if (History is not null)
        {
            Coverage.Histories++;
            History.Settle(FindInLedger);
            HistoryCheck.Demand(History, Coverage);
        }
    }

    private ulong Progressed()
    {
        ulong sum = (ulong)Completed + Ledger.LastIndex;
        foreach (RaftNode node in _nodes)
        {
            sum += node.IsUp ? node.AppliedByStore + node.Core.LastIndex + node.Core.Applied + node.Core.Durable : 0;
        }

        return sum;
    }

    private bool IsAtRest()
    {
        if (FindLeader() is not { } leader || leader.Core.Applied != leader.Core.LastIndex)
        {
            return false;
        }

        foreach (Client client in _clients)
        {
            if (client.IsAsking)
            {
                return false;
            }
        }

        Configuration members = leader.Core.Configuration;
        foreach (RaftNode node in _nodes)
        {
            if (node.IsUp && members.Contains(node.Id)
                && (node.AppliedByStore != Ledger.LastIndex || node.Core.Applied != Ledger.LastIndex))
            {
                return false;
            }
        }

        return !members.IsJoint;
    }

    private string Describe()
    {
        var text = new StringBuilder();
        foreach (RaftNode node in _nodes)
        {
            _ = text.Append("  ").Append(node).Append('\n');
            for (int i = 0; node.IsUp && node.Core.Role == RaftRole.Leader && i < node.Core.ProgressCount; i++)
            {
                _ = text.Append(CultureInfo.InvariantCulture, $"    {node.Core.ProgressAt(i)}\n");
            }
        }

        return text.ToString();
    }
}
