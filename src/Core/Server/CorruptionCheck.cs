// CorruptionCheck: compares what this member holds with what the others hold: at its start, periodically, by the hashes that
// compactions leave behind; and computes HashKV for peers that ask. A thread of its own, for a hash reads everything.
//
// Passes     A pass is a small machine: own hash -> ask the peers -> wait for their answers -> (read barrier, own hash
//            again) -> judge (HashJudge) -> raise CORRUPT through raft for whom it names. Nothing awaits: calls and slots
//            are looked at, so that the simulator sees the same steps.
// Who        Periodic and compaction passes run on the leader only; the initial one on every member that had data, before
//            it becomes ready. A peer that cannot be reached, is behind, or has compacted elsewhere proves nothing.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>The hash comparisons of one member.</summary>
internal sealed class CorruptionCheck : IActor
{
    private const long CallNs = 5_000_000_000;
    private const long InitialPatienceNs = 10_000_000_000;
    private readonly MemberOptions _options;
    private readonly MemberCounters _counters;
    private readonly Intake _intake;
    private readonly Member _member;
    private readonly IWaker _self;
    private readonly ILogger _log;
    private readonly Action<string> _refuseStart;
    private readonly IWaker _store;
    private readonly MpscRing<PeerRequest> _asked = new(64);
    private readonly List<PeerCall> _calls = [];
    private readonly List<PeerHash> _answers = [];
    private readonly List<ulong> _alarms = [];
    private readonly HashSet<long> _confirmed = [];
    private readonly HashSet<long> _tried = [];
    private Pass _pass;
    private Step _step;
    private HashKvResult _own;
    private RequestSlot? _slot;
    private long _nextPeriodicNs;
    private long _nextCompactNs;
    private long _startedNs;
    private bool _initialDone;

    internal CorruptionCheck(Member member, MemberEnvironment environment, MemberCounters counters, Intake intake,
        IWaker self, bool hadData, Action<string> refuseStart, IWaker store)
    {
        _member = member;
        _options = member.Options;
        _counters = counters;
        _intake = intake;
        _self = self;
        _log = environment.Log;
        _refuseStart = refuseStart;
        _store = store;
        _initialDone = !_options.InitialCorruptCheck || !hadData;
        member.Serve(PeerCallKind.HashKv, request =>
        {
            if (_asked.TryEnqueue(request))
            {
                self.Wake();
            }
            else
            {
                request.Reply(ErrorCode.TooManyRequests, default);
            }
        });
    }

    private enum Pass : byte
    {
        None,
        Initial,
        Periodic,
        Compaction,
    }

    private enum Step : byte
    {
        Ask,
        Wait,
        Barrier,
        Alarm,
    }

    /// <inheritdoc/>
    public string RoleName => "check";

    /// <inheritdoc/>
    public long NextDeadlineNs { get; private set; }

    /// <summary>The member may become ready.</summary>
    internal bool IsInitialDone => System.Threading.Volatile.Read(ref _initialDone);

    private bool IsLeader => _counters.Leader == _member.Id;

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        bool worked = Answer();
        if (_intake.IsClosed)
        {
            Drop();
            NextDeadlineNs = long.MaxValue;
            return worked;
        }

        if (_startedNs == 0)
        {
            _startedNs = nowNs;
            _nextPeriodicNs = Later(nowNs, _options.CorruptCheckMs);
            _nextCompactNs = _options.CompactHashCheck ? Later(nowNs, _options.CompactHashCheckMs) : long.MaxValue;
        }

        if (_pass == Pass.None && !Choose(nowNs))
        {
            long initial = _initialDone ? long.MaxValue : nowNs + 100_000_000;
            NextDeadlineNs = Math.Min(initial, Math.Min(_nextPeriodicNs, _nextCompactNs));
            return worked;
        }

        bool moved = Move(nowNs);
        NextDeadlineNs = moved ? nowNs : nowNs + 50_000_000;
        return worked | moved;
    }

    private static long Later(long nowNs, long milliseconds) =>
        milliseconds <= 0 ? long.MaxValue : nowNs + (milliseconds * 1_000_000);

    private bool Choose(long nowNs)
    {
        if (!_initialDone)
        {
            // The peers first, as long as it makes sense to wait for them.
            if (!ArePeersConnected() && nowNs - _startedNs < InitialPatienceNs)
            {
                return false;
            }

            return Begin(Pass.Initial);
        }

        if (nowNs >= _nextPeriodicNs)
        {
            _nextPeriodicNs = Later(nowNs, _options.CorruptCheckMs);
            return IsLeader && Begin(Pass.Periodic);
        }

        if (nowNs >= _nextCompactNs)
        {
            _nextCompactNs = Later(nowNs, _options.CompactHashCheckMs);
            return IsLeader && Begin(Pass.Compaction);
        }

        return false;
    }

    private bool ArePeersConnected()
    {
        foreach (ClusterMember member in _member.ClusterView.Members)
        {
            if (member.Id != _member.Id && _member.ConnectedSinceNs(member.Id) == 0)
            {
                return false;
            }
        }

        return true;
    }

    private bool Begin(Pass pass)
    {
        (_pass, _step) = (pass, Step.Ask);
        _alarms.Clear();
        return true;
    }

    private bool Move(long nowNs) => _step switch
    {
        Step.Ask => Ask(nowNs),
        Step.Wait => Wait(nowNs),
        Step.Barrier => Barrier(),
        _ => Alarm(),
    };

    private bool Ask(long nowNs)
    {
        long revision = 0;
        if (_pass == Pass.Compaction)
        {
            revision = NextCompaction();
            if (revision == 0)
            {
                return End();
            }
        }

        if (_member.Store.HashKv(revision, out _own) != ErrorCode.None)
        {
            return End(); // compacted meanwhile
        }

        _calls.Clear();
        _answers.Clear();
        foreach (ClusterMember member in _member.ClusterView.Members)
        {
            if (member.Id != _member.Id)
            {
                var call = new PeerCall(
                    PeerCallKind.HashKv, member.Id, HashAnswer.Ask(_own.HashRevision), nowNs + CallNs) { Waker = _self };
                _calls.Add(call);
                _member.Call(call);
            }
        }

        _step = Step.Wait;
        return true;
    }

    /// <summary>The newest compaction that not everybody has confirmed; 0: none.</summary>
    private long NextCompaction()
    {
        foreach (long revision in _member.Store.CompactionHashRevisions())
        {
            if (_confirmed.Contains(revision))
            {
                return 0; // everything before it was the same, too
            }

            if (_tried.Add(revision))
            {
                return revision;
            }
        }

        return 0;
    }

    private bool Wait(long nowNs)
    {
        if (!_calls.TrueForAll(call => call.IsCompleted || call.DeadlineNs < nowNs))
        {
            return false;
        }

        foreach (PeerCall call in _calls)
        {
            if (call.Outcome == PeerCallOutcome.Answered && call.Error == ErrorCode.None
                && HashAnswer.TryRead(call.Response.Span, out HashKvResult hash))
            {
                _answers.Add(new PeerHash(call.To, hash));
            }
            else
            {
                ServerLog.NoHash(_log, ServerLog.Id(call.To), call.Outcome == PeerCallOutcome.Answered
                    ? Errors.Get(call.Error).Message
                    : "unreachable");
            }
        }

        _calls.Clear();
        switch (_pass)
        {
            case Pass.Initial:
                return JudgeStart();
            case Pass.Compaction:
                if (HashJudge.Compaction(
                    _member.Id, in _own, _answers, _member.ClusterView.Members.Length, out List<ulong> verdict))
                {
                    _confirmed.Clear();
                    _ = _confirmed.Add(_own.HashRevision);
                    return End();
                }

                _alarms.AddRange(verdict);
                _step = verdict.Count > 0 ? Step.Alarm : Step.Ask;
                return true;
            default:
                _step = Step.Barrier;
                return true;
        }
    }

    private bool JudgeStart()
    {
        List<ulong> differing = HashJudge.Initial(in _own, _answers);
        if (differing.Count > 0)
        {
            ServerLog.Inconsistent(_log, ServerLog.Id(_member.Id), ServerLog.Id(differing[0]), _own.HashRevision);
            _refuseStart($"{_member.Id:x} found data inconsistency with peers");
            return End();
        }

        System.Threading.Volatile.Write(ref _initialDone, true);
        _store.Wake(); // it says when the member is ready
        return End();
    }

    /// <summary>A read barrier between the two own hashes: the second is of a state no older than any answer.</summary>
    private bool Barrier()
    {
        if (_slot is null)
        {
            _slot = _intake.Slots.Rent();
            if (_intake.Read(_slot, 0) != ErrorCode.None)
            {
                return End();
            }

            return true;
        }

        if (!_slot.IsCompleted)
        {
            return false;
        }

        bool passed = _slot.Outcome == ErrorCode.None;
        _slot.DropReference();
        _slot = null;
        if (!passed || _member.Store.HashKv(0, out HashKvResult after) != ErrorCode.None)
        {
            return End();
        }

        _alarms.AddRange(HashJudge.Periodic(_member.Id, in _own, in after, _answers));
        _step = Step.Alarm;
        return true;
    }

    /// <summary>Raises CORRUPT for the members found, one after the other.</summary>
    private bool Alarm()
    {
        if (_slot is { } running)
        {
            if (!running.IsCompleted)
            {
                return false;
            }

            running.DropReference();
            _slot = null;
        }

        if (_alarms.Count == 0 || !IsLeader)
        {
            return End();
        }

        ulong member = _alarms[^1];
        _alarms.RemoveAt(_alarms.Count - 1);
        if (IsRaised(member))
        {
            return true;
        }

        ServerLog.CorruptFound(_log, ServerLog.Id(member), _own.HashRevision);
        RequestSlot slot = _intake.Slots.Rent();
        slot.Lane = ProposalLane.Control;

        // AlarmRequest {1 action = ACTIVATE, 2 memberID, 3 alarm}
        int length = ProtoSize.VarintField(1, 1) + ProtoSize.VarintFieldIfSet(2, member)
            + ProtoSize.VarintField(3, (ulong)AlarmKind.Corrupt);
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.Alarm, length));
        writer.WriteVarintField(1, 1);
        writer.WriteVarintFieldIfSet(2, member);
        writer.WriteVarintField(3, (ulong)AlarmKind.Corrupt);
        if (_intake.Propose(slot, 0) == ErrorCode.None)
        {
            _slot = slot;
        }
        else
        {
            slot.DropReference();
        }

        return true;
    }

    private bool IsRaised(ulong member)
    {
        foreach (Alarm alarm in _member.Alarms.Alarms)
        {
            if (alarm.Kind == AlarmKind.Corrupt && alarm.MemberId == member)
            {
                return true;
            }
        }

        return false;
    }

    private bool End()
    {
        _pass = Pass.None;
        _tried.Clear();
        _slot?.DropReference();
        _slot = null;
        return true;
    }

    /// <summary>Hashes for peers, one a poll.</summary>
    private bool Answer()
    {
        if (!_asked.TryDequeue(out PeerRequest request))
        {
            return false;
        }

        if (!HashAnswer.TryReadQuestion(request.Body.Span, out long revision))
        {
            request.Reply(ErrorCode.MalformedRequest, default);
            return true;
        }

        HashKvResult result = default;
        ErrorCode outcome = _intake.IsClosed ? ErrorCode.Stopped : _member.Store.HashKv(revision, out result);
        request.Reply(outcome, outcome == ErrorCode.None ? HashAnswer.Write(in result) : default);
        return true;
    }

    private void Drop()
    {
        if (_slot is { IsCompleted: true })
        {
            _slot.DropReference();
            _slot = null;
        }
    }
}
