// Duties: what a member proposes by itself: its attributes after the start (field 1301), the cluster version when
// there is none (1300), a NOSPACE alarm (10). Owned by the store thread, which knows what is applied.
//
// Each duty is one proposal at a time, tried again after a failure. Nothing awaits: the slot is looked at in Poll,
// so that the simulator sees the same steps.
// The way back (design §5): a fresh cluster is set to 3.5.0 and never raised by us; a later version is kept.
using System;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>Proposals of the member itself.</summary>
internal sealed class Duties
{
    private const long RetryNs = 500_000_000;

    private readonly MemberOptions _options;
    private readonly MemberCounters _counters;
    private readonly Intake _intake;
    private readonly StateMachine _machine;
    private readonly ulong _memberId;
    private readonly ulong _clusterId;
    private readonly ILogger _log;
    private readonly TaskCompletionSource _ready;
    private readonly Duty _publish = new();
    private readonly Duty _version = new();
    private readonly Duty _alarm = new();
    private bool _isReady;
    private bool _spaceAlarmWanted;
    private bool _diskFull; // why it is wanted, for the log line

    internal Duties(
        MemberOptions options,
        MemberCounters counters,
        Intake intake,
        StateMachine machine,
        ulong memberId,
        ulong clusterId,
        ILogger log,
        TaskCompletionSource ready)
    {
        _options = options;
        _counters = counters;
        _intake = intake;
        _machine = machine;
        _memberId = memberId;
        _clusterId = clusterId;
        _log = log;
        _ready = ready;
    }

    internal long NextDeadlineNs =>
        Math.Min(_publish.RetryAtNs, Math.Min(_version.RetryAtNs, _alarm.RetryAtNs));

    /// <summary>What else has to be true before the member is ready.</summary>
    internal Func<bool> MayBeReady { get; set; } = static () => true;

    internal bool IsReady => Volatile.Read(ref _isReady);

    /// <summary>A request met the quota, or the log's disk is full. Any thread; the caller wakes the store.</summary>
    internal void WantSpaceAlarm(bool diskFull = false)
    {
        if (diskFull)
        {
            Volatile.Write(ref _diskFull, true);
        }

        Volatile.Write(ref _spaceAlarmWanted, true);
    }

    internal bool Poll(long nowNs)
    {
        if (_intake.IsClosed)
        {
            _publish.Drop();
            _version.Drop();
            _alarm.Drop();
            return false;
        }

        return PollReady(nowNs) | PollAlarm(nowNs);
    }

    private bool PollReady(long nowNs)
    {
        if (_isReady || _counters.Leader == 0)
        {
            return false;
        }

        bool worked = false;
        if (!_publish.Done)
        {
            worked = _publish.Step(nowNs, this, static (duties, slot) => duties.WriteAttributes(slot));
            if (_publish.Done)
            {
                ServerLog.Published(_log, ServerLog.Id(_memberId), _options.Name, ServerLog.Id(_clusterId));
            }

            return worked;
        }

        if (_machine.ClusterVersion is null)
        {
            if (_counters.Leader == _memberId)
            {
                worked = _version.Step(nowNs, this, static (duties, slot) => duties.WriteVersion(slot));
            }

            return worked;
        }

        if (!MayBeReady())
        {
            return false;
        }

        if (_machine.Auth.IsEnabled)
        {
            ServerLog.AuthNotEnforced(_log);
        }

        Volatile.Write(ref _isReady, true);
        _ = _ready.TrySetResult();
        return true;
    }

    private bool PollAlarm(long nowNs)
    {
        if (!Volatile.Read(ref _spaceAlarmWanted) && !_machine.SpaceAlarmWanted)
        {
            return false;
        }

        if (_machine.Alarms.IsRaised(_memberId, AlarmKind.NoSpace) || _alarm.Done)
        {
            Volatile.Write(ref _spaceAlarmWanted, false);
            _machine.SpaceAlarmWanted = false;
            _alarm.Again();
            return true;
        }

        bool worked = _alarm.Step(nowNs, this, static (duties, slot) => duties.WriteAlarm(slot));
        return worked;
    }

    private void WriteAttributes(RequestSlot slot)
    {
        // ClusterMemberAttrSetRequest {1 member_ID, 2 Attributes {1 name, 2 repeated client_urls}}
        int inner = ProtoSize.BytesFieldIfSet(1, Encoding.UTF8.GetByteCount(_options.Name));
        foreach (string url in _options.AdvertiseClientUrls)
        {
            inner += ProtoSize.BytesField(2, Encoding.UTF8.GetByteCount(url));
        }

        int length = ProtoSize.VarintField(1, _memberId) + ProtoSize.BytesField(2, inner);
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.ClusterMemberAttrSet, length));
        writer.WriteVarintField(1, _memberId);
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)inner);
        writer.WriteBytesFieldIfSet(1, Encoding.UTF8.GetBytes(_options.Name));
        foreach (string url in _options.AdvertiseClientUrls)
        {
            writer.WriteBytesField(2, Encoding.UTF8.GetBytes(url));
        }
    }

    private void WriteVersion(RequestSlot slot)
    {
        // ClusterVersionSetRequest {1 ver}
        ServerLog.SettingInitialClusterVersion(_log, _options.InitialClusterVersion);
        byte[] version = Encoding.ASCII.GetBytes(_options.InitialClusterVersion);
        var writer = new ProtoWriter(
            slot.BeginRequest(RequestKind.ClusterVersionSet, ProtoSize.BytesField(1, version.Length)));
        writer.WriteBytesField(1, version);
    }

    private void WriteAlarm(RequestSlot slot)
    {
        // AlarmRequest {1 action = ACTIVATE, 2 memberID, 3 alarm}
        if (Volatile.Read(ref _diskFull))
        {
            Volatile.Write(ref _diskFull, false);
            ServerLog.DiskFull(_log, _options.DataDir);
        }
        else
        {
            ServerLog.QuotaExceeded(_log, _options.EffectiveQuotaBytes, _machine.Store.Tree.LiveBytes + _machine.Store.BufferedBytes);
        }

        slot.Lane = ProposalLane.Control;
        int length = ProtoSize.VarintField(1, 1) + ProtoSize.VarintField(2, _memberId)
            + ProtoSize.VarintField(3, (ulong)AlarmKind.NoSpace);
        var writer = new ProtoWriter(slot.BeginRequest(RequestKind.Alarm, length));
        writer.WriteVarintField(1, 1);
        writer.WriteVarintField(2, _memberId);
        writer.WriteVarintField(3, (ulong)AlarmKind.NoSpace);
    }

    /// <summary>One proposal with its retries.</summary>
    private sealed class Duty
    {
        private RequestSlot? _slot;

        internal bool Done { get; private set; }

        internal long RetryAtNs { get; private set; } = long.MaxValue;

        internal bool Step(long nowNs, Duties duties, Action<Duties, RequestSlot> write)
        {
            if (_slot is null)
            {
                if (RetryAtNs != long.MaxValue && nowNs < RetryAtNs)
                {
                    return false;
                }

                RequestSlot slot = duties._intake.Slots.Rent();
                write(duties, slot);
                if (duties._intake.Propose(slot, 0) != ErrorCode.None)
                {
                    slot.DropReference();
                    RetryAtNs = nowNs + RetryNs;
                    return true;
                }

                _slot = slot;
                RetryAtNs = long.MaxValue;
                return true;
            }

            if (!_slot.IsCompleted)
            {
                return false;
            }

            Done = _slot.Outcome == ErrorCode.None;
            RetryAtNs = Done ? long.MaxValue : nowNs + RetryNs;
            Drop();
            return true;
        }

        internal void Again() => Done = false;

        internal void Drop()
        {
            _slot?.DropReference();
            _slot = null;
        }
    }
}
