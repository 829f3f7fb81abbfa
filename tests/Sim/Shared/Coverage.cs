// Coverage: what the runs went through, so that what was never reached can be listed. One per thread, merged at the end.
using System;
using System.Collections.Generic;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed class Coverage
{
    private const int Roles = 4;
    private const int Progresses = 4; // none, and the three states
    private static readonly int s_messages = (int)MessageType.TransferLeader + 1;

    private readonly long[] _stepped = new long[s_messages * Roles * Progresses];
    private readonly long[] _sent = new long[s_messages];
    private readonly long[] _proposed = new long[(int)ProposalResult.Forward + 1];
    private readonly long[] _reads = new long[(int)ReadIndexResult.NotLeader + 1];
    private readonly long[] _faults = new long[FaultPlan.KindCount];
    private readonly SortedDictionary<string, long> _named = new(StringComparer.Ordinal);

    public long Crashes { get; set; }

    public long TimedOut { get; set; }

    public long LostInNetwork { get; set; }

    public long LinkDrops { get; set; }

    public long LinkRepeats { get; set; }

    public long Fetches { get; set; }

    public long MessagesRefused { get; set; }

    public long MessagesLost { get; set; }

    public long Histories { get; set; }

    public long HistoriesUnknown { get; set; }

    public long HistoryOperations { get; set; }

    public void Sent(MessageType type) => _sent[(int)type]++;

    /// <summary>A message is about to be handled.</summary>
    public void Stepped(RaftCore core, in RaftMessage message)
    {
        int progress = 0;
        if (core.Role == RaftRole.Leader)
        {
            for (int i = 0; i < core.ProgressCount; i++)
            {
                ProgressStatus status = core.ProgressAt(i);
                if (status.Id == message.From)
                {
                    progress = 1 + (int)status.State;
                    break;
                }
            }
        }

        _stepped[(((int)message.Type * Roles) + (int)core.Role) * Progresses + progress]++;
    }

    public void Proposed(ProposalResult result) => _proposed[(int)result]++;

    public void ReadAsked(ReadIndexResult result) => _reads[(int)result]++;

    public void Faulted(FaultKind kind) => _faults[(int)kind]++;

    /// <summary>Counts something that has a name.</summary>
    public void Hit(string name)
    {
        _ = _named.TryGetValue(name, out long count);
        _named[name] = count + 1;
    }

    /// <summary>In which situations members die.</summary>
    public void CrashedWith(RaftCore core, RaftDisk disk)
    {
        Hit("crash as " + core.Role);
        if (core.PendingSnapshot != 0)
        {
            Hit("crash while a snapshot is installed");
        }

        if (core.UnitsInFlight > 0)
        {
            Hit("crash with units in flight");
        }

        if (disk.IsFlushing)
        {
            Hit("crash while the disk writes");
        }

        if (core.Configuration.IsJoint)
        {
            Hit("crash in a joint configuration");
        }

        if (core.Transferee != 0)
        {
            Hit("crash while handing over");
        }
    }

    public void Add(Coverage other)
    {
        Sum(_stepped, other._stepped);
        Sum(_sent, other._sent);
        Sum(_proposed, other._proposed);
        Sum(_reads, other._reads);
        Sum(_faults, other._faults);
        Crashes += other.Crashes;
        TimedOut += other.TimedOut;
        LostInNetwork += other.LostInNetwork;
        LinkDrops += other.LinkDrops;
        LinkRepeats += other.LinkRepeats;
        Fetches += other.Fetches;
        MessagesRefused += other.MessagesRefused;
        MessagesLost += other.MessagesLost;
        Histories += other.Histories;
        HistoriesUnknown += other.HistoriesUnknown;
        HistoryOperations += other.HistoryOperations;
        foreach ((string name, long count) in other._named)
        {
            _ = _named.TryGetValue(name, out long known);
            _named[name] = known + count;
        }

        static void Sum(long[] to, long[] from)
        {
            for (int i = 0; i < to.Length; i++)
            {
                to[i] += from[i];
            }
        }
    }

    /// <summary>Hit and possible points of the table message × role × progress.</summary>
    public (int Hit, int Possible, List<string> Missing) Messages()
    {
        int hit = 0;
        int possible = 0;
        var missing = new List<string>();
        for (int type = 1; type < s_messages; type++)
        {
            for (int role = 0; role < Roles; role++)
            {
                for (int progress = 0; progress < Progresses; progress++)
                {
                    if (role != (int)RaftRole.Leader && progress > 0)
                    {
                        continue; // only a leader keeps track
                    }

                    possible++;
                    if (_stepped[(((type * Roles) + role) * Progresses) + progress] > 0)
                    {
                        hit++;
                    }
                    else
                    {
                        missing.Add(
                            $"{(MessageType)type} at a {(RaftRole)role}"
                            + (role != (int)RaftRole.Leader ? "" : progress == 0 ? " from an unknown member" : $" from a peer in {(ProgressState)(progress - 1)}"));
                    }
                }
            }
        }

        return (hit, possible, missing);
    }

    /// <summary>Everything else that was never hit.</summary>
    public List<string> Missing()
    {
        var missing = new List<string>();
        for (int i = 0; i < _faults.Length; i++)
        {
            if (_faults[i] == 0)
            {
                missing.Add("fault " + (FaultKind)i);
            }
        }

        for (int i = 0; i < _proposed.Length; i++)
        {
            if (_proposed[i] == 0)
            {
                missing.Add("proposal answered " + (ProposalResult)i);
            }
        }

        for (int i = 0; i < _reads.Length; i++)
        {
            if (_reads[i] == 0)
            {
                missing.Add("read answered " + (ReadIndexResult)i);
            }
        }

        return missing;
    }

    public IEnumerable<(string Name, long Count)> Counts()
    {
        yield return ("crashes", Crashes);
        yield return ("requests given up", TimedOut);
        yield return ("packets lost on arrival", LostInNetwork);
        yield return ("packets dropped by links", LinkDrops);
        yield return ("packets repeated", LinkRepeats);
        yield return ("entries fetched from disk", Fetches);
        yield return ("messages refused as implausible", MessagesRefused);
        yield return ("messages nobody took", MessagesLost);
        yield return ("histories searched", Histories);
        yield return ("histories given up by the search", HistoriesUnknown);
        yield return ("operations in searched histories", HistoryOperations);
        for (int i = 0; i < _faults.Length; i++)
        {
            yield return ("fault " + (FaultKind)i, _faults[i]);
        }

        for (int i = 0; i < _proposed.Length; i++)
        {
            yield return ("proposal " + (ProposalResult)i, _proposed[i]);
        }

        foreach ((string name, long count) in _named)
        {
            yield return (name, count);
        }
    }
}
