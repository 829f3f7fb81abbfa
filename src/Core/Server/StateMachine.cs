// StateMachine: what a committed entry does. Pure but for the stores it owns: no clock, no randomness, no I/O.
//
// Thread     store. Everything here is replicated state, so an outcome may depend on the state and the entry only.
// Order      per entry: alarms (CORRUPT before NOSPACE) -> Authorize -> the store; the quota is looked at last and
//            never refuses here: a write that meets it is applied, its caller is told, and an alarm is wanted.
// Exactly once  apply begins behind the consistent index of the opened file; each entry, refused or empty ones
//            included, moves it by one, in the same tree commit as its effects.
// Failure    An entry that does not decode, or of a kind nobody built, ends the member: going on would make this
//            replica differ from the others.
using System;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Auth;
using Cairn.Core.Leases;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>The replicated state of one member.</summary>
internal sealed partial class StateMachine : IDisposable
{
    /// <summary>Where a response goes that nobody waits for. Never written to.</summary>
    internal NativeBuffer Discarded;

    private readonly ulong _clusterId;
    private readonly ulong _memberId;
    private readonly long _quotaBytes;
    private readonly bool _persistsLeaseCheckpoints;
    private readonly IFatal _fatal;
    private readonly ILogger _log;
    private readonly LeaseKeySet _revokedKeys = new();
    private readonly ResponseScratch _scratch;
    private MvccStore _store;
    private Cluster _cluster;
    private AlarmStore _alarms;
    private AuthStore _auth;

    internal StateMachine(
        MvccStore store,
        Lessor leases,
        AlarmStore alarms,
        AuthStore auth,
        Cluster cluster,
        ulong clusterId,
        ulong memberId,
        MemberOptions options,
        MemberEnvironment environment)
    {
        _store = store;
        Leases = leases;
        _alarms = alarms;
        _auth = auth;
        _cluster = cluster;
        _clusterId = clusterId;
        _memberId = memberId;
        _quotaBytes = options.EffectiveQuotaBytes;
        _persistsLeaseCheckpoints = options.LeaseCheckpointPersist;
        _fatal = environment.Fatal;
        _log = environment.Log;
        _scratch = new ResponseScratch(environment.Pool);
        Discarded = new NativeBuffer(environment.Pool);
    }

    /// <summary>Any thread; changes when a snapshot of a leader takes the state's place.</summary>
    internal MvccStore Store => Volatile.Read(ref _store);

    internal Lessor Leases { get; private set; }

    /// <summary>Any thread, as <see cref="Store"/>.</summary>
    internal AlarmStore Alarms => Volatile.Read(ref _alarms);

    /// <summary>Any thread, as <see cref="Store"/>.</summary>
    internal AuthStore Auth => Volatile.Read(ref _auth);

    /// <summary>Any thread, as <see cref="Store"/>.</summary>
    internal Cluster Cluster => Volatile.Read(ref _cluster);

    /// <summary>
    /// Called on the store thread after the whole state was replaced (a snapshot of the leader): whoever follows it (watch
    /// hub, lease clock) begins anew from here. Subscribed before the actors run.
    /// </summary>
    internal Action<StateMachine>? Replaced { get; set; }

    /// <summary>An applied write met the quota. Reset by whoever proposes the alarm.</summary>
    internal bool SpaceAlarmWanted { get; set; }

    /// <summary>The last applied entry was a compaction whose caller wants to wait for the deletes.</summary>
    internal bool WaitsForCompaction { get; private set; }

    /// <summary>Kind of the last applied entry, for the log line about slow ones.</summary>
    internal RequestKind LastKind { get; private set; }

    /// <summary>Applies one entry.</summary>
    /// <param name="entry">The next one in log order.</param>
    /// <param name="wanted">Whether somebody waits; if not, nothing is encoded and reads are not run.</param>
    /// <param name="output">Receives the response body.</param>
    internal ErrorCode Apply(in CommittedEntry entry, bool wanted, ref NativeBuffer output)
    {
        WaitsForCompaction = false;
        LastKind = RequestKind.None;
        switch ((EntryType)entry.Type)
        {
            case EntryType.Normal:
                return entry.Length == 0 ? ErrorCode.None : ApplyNormal(in entry, wanted, ref output);
            case EntryType.ConfChange:
                return ApplyConfChange(in entry, wanted, ref output);
            default:
                Refuse(in entry, $"entry type {entry.Type} is not one etcd writes");
                return ErrorCode.Internal;
        }
    }

    /// <summary>Answers a read of state that only this thread may touch.</summary>
    internal ErrorCode Query(in StoreQuery query, LeaseClock clock, long nowNs, ulong raftTerm, ref NativeBuffer output)
    {
        HeaderFields header = new(_clusterId, _memberId, raftTerm);
        switch (query.Kind)
        {
            case StoreQueryKind.LeaseTimeToLive:
                if (query.Remaining is null && !clock.IsPrimary)
                {
                    return ErrorCode.LeaderChanged;
                }

                LeaseQueries.TimeToLive(Leases, clock, nowNs, in query, in header, Store.Revision, _revokedKeys, ref output);
                return ErrorCode.None;
            default:
                return ErrorCode.UnknownMethod;
        }
    }

    /// <summary>Another state takes the place of this one; nothing of the old one is written any more.</summary>
    internal void Replace(in LoadedState loaded, Cluster cluster)
    {
        Leases.Dispose();
        Leases = loaded.Leases;
        Volatile.Write(ref _alarms, loaded.Alarms);
        Volatile.Write(ref _auth, loaded.Auth);
        Volatile.Write(ref _cluster, cluster);
        Volatile.Write(ref _store, loaded.Store);
        ConfChanges.Clear();
        ConfigurationChanged(unwritten: true);
        Replaced?.Invoke(this);
    }

    public void Dispose()
    {
        _scratch.Free();
        _revokedKeys.Dispose();
        Leases.Dispose();
    }

    private ErrorCode ApplyNormal(in CommittedEntry entry, bool wanted, ref NativeBuffer output)
    {
        if (!InternalRaftRequest.TryParse(entry.Payload, out InternalRaftRequest request))
        {
            Refuse(in entry, "its bytes are neither an InternalRaftRequest nor a v2 Request");
        }

        LastKind = request.Kind;
        ErrorCode refusal = Alarms.Judge(request.Kind, request.Body);
        if (refusal != ErrorCode.None)
        {
            return refusal;
        }

        AuthInfo who = new(request.Username, request.AuthRevision);
        refusal = EntryAuthorizer.Authorize(_auth, request.Kind, request.Body, in who, Leases);
        if (refusal != ErrorCode.None)
        {
            return refusal;
        }

        HeaderFields header = new(_clusterId, _memberId, entry.Term);
        var context = new ApplyContext(Leases, header, wanted);
        switch (request.Kind)
        {
            case RequestKind.Put:
                return Charge(in request, Decoded(in entry, Store.Put(request.Body, in context, ref output)));
            case RequestKind.DeleteRange:
                return Decoded(in entry, Store.DeleteRange(request.Body, in context, ref output));
            case RequestKind.Txn:
                return Charge(in request, Decoded(in entry, Store.Txn(request.Body, in context, ref output)));
            case RequestKind.Range:
                return wanted ? Decoded(in entry, Store.Range(request.Body, in context, ref output)) : ErrorCode.None;
            case RequestKind.Compaction:
                return ApplyCompaction(in entry, request.Body, in context, ref output);
            case RequestKind.LeaseGrant:
            case RequestKind.LeaseRevoke:
            case RequestKind.LeaseCheckpoint:
                return ApplyLease(in entry, in request, in header, wanted, ref output);
            case RequestKind.Alarm:
                return ApplyAlarm(in entry, request.Body, in header, wanted, ref output);
            case RequestKind.V2:
            case RequestKind.ClusterVersionSet:
            case RequestKind.ClusterMemberAttrSet:
            case RequestKind.DowngradeInfoSet:
                return ApplyCluster(in entry, in request);
            case RequestKind.DowngradeVersionTest:
                return ErrorCode.None;
            default:
                if (InternalRaftRequest.IsKnown((int)request.Kind) && request.Kind >= RequestKind.AuthEnable)
                {
                    return ApplyAuth(in entry, in request, in header, wanted, ref output);
                }

                Refuse(in entry, $"request kind {(int)request.Kind} is unknown to this server");
                return ErrorCode.Internal;
        }
    }

    /// <summary>A write that met the quota has happened; only its caller hears of it.</summary>
    private ErrorCode Charge(in InternalRaftRequest request, ErrorCode outcome)
    {
        // The request itself is in the write buffer by now, and so among the live bytes.
        if (outcome != ErrorCode.None
            || !Quota.IsMet(_quotaBytes, Store.Tree, Store.BufferedBytes)
            || RequestChecks.QuotaCost(request.Kind, request.Body) == 0)
        {
            return outcome;
        }

        SpaceAlarmWanted = true;
        return ErrorCode.NoSpace;
    }

    private ErrorCode ApplyCompaction(
        in CommittedEntry entry, ReadOnlySpan<byte> body, in ApplyContext context, ref NativeBuffer output)
    {
        ErrorCode outcome = Decoded(in entry, Store.Compact(body, in context, ref output));
        if (outcome == ErrorCode.None && context.WantsResponse)
        {
            WaitsForCompaction = CompactionRequest.TryParse(body, out CompactionRequest request) && request.Physical;
        }

        return outcome;
    }

    private ErrorCode ApplyLease(
        in CommittedEntry entry,
        in InternalRaftRequest request,
        in HeaderFields header,
        bool wanted,
        ref NativeBuffer output)
    {
        ErrorCode outcome;
        LeaseInfo granted = default;
        if (request.Kind == RequestKind.LeaseGrant)
        {
            outcome = Leases.ApplyGrant(request.Body, Store, out granted);
        }
        else if (request.Kind == RequestKind.LeaseCheckpoint)
        {
            outcome = Leases.ApplyCheckpoint(request.Body, Store, PersistsLeaseCheckpoints);
        }
        else
        {
            outcome = Leases.ApplyRevoke(request.Body, Store, _revokedKeys);
            if (outcome == ErrorCode.None && _revokedKeys.Count > 0)
            {
                Store.BeginRevoke();
                for (int i = 0; i < _revokedKeys.Count; i++)
                {
                    Store.RevokeKey(_revokedKeys[i]);
                }

                Store.EndRevoke();
            }

            _revokedKeys.Clear();
        }

        outcome = Decoded(in entry, outcome);
        if (wanted && outcome == ErrorCode.None)
        {
            ResponseScratch.WriteHeader(ref output, in header, Store.Revision);
            if (request.Kind == RequestKind.LeaseGrant)
            {
                _scratch.Reset();
                Lessor.WriteGrantResponse(in granted, _scratch);
                output.Write(_scratch.Written);
            }
        }

        return request.Kind == RequestKind.LeaseGrant ? Charge(in request, outcome) : outcome;
    }

    private ErrorCode ApplyAlarm(
        in CommittedEntry entry, ReadOnlySpan<byte> body, in HeaderFields header, bool wanted, ref NativeBuffer output)
    {
        AlarmList before = Alarms.Current;
        _scratch.Reset();
        ErrorCode outcome = Decoded(in entry, Alarms.Apply(body, Store, _scratch));
        AlarmList after = Alarms.Current;
        if (!ReferenceEquals(before, after))
        {
            LogAlarms(before, after);
        }

        Answer(outcome, in header, wanted, ref output);
        return outcome;
    }

    private ErrorCode ApplyAuth(
        in CommittedEntry entry,
        in InternalRaftRequest request,
        in HeaderFields header,
        bool wanted,
        ref NativeBuffer output)
    {
        _scratch.Reset();
        ErrorCode outcome = ErrorCode.Internal;
        try
        {
            outcome = Decoded(in entry, Auth.Apply(request.Kind, request.Body, entry.Index, Store, _scratch));
        }
        catch (System.IO.InvalidDataException e)
        {
            Refuse(in entry, e.Message);
        }

        Answer(outcome, in header, wanted, ref output);
        return outcome;
    }

    private void Answer(ErrorCode outcome, in HeaderFields header, bool wanted, ref NativeBuffer output)
    {
        if (wanted && outcome == ErrorCode.None)
        {
            ResponseScratch.WriteHeader(ref output, in header, Store.Revision);
            output.Write(_scratch.Written);
        }
    }

    /// <summary>Remaining times are stored when the operator asks, and always from cluster version 3.6 on (behaviour.md §5).</summary>
    private bool PersistsLeaseCheckpoints =>
        _persistsLeaseCheckpoints
        || (SemanticVersion.TryParse(Cluster.View.Version, out SemanticVersion version)
            && version >= new SemanticVersion(3, 6, 0));

    private ErrorCode Decoded(in CommittedEntry entry, ErrorCode outcome)
    {
        if (outcome == ErrorCode.MalformedRequest)
        {
            Refuse(in entry, "its request does not decode");
        }

        return outcome;
    }

    private void Refuse(in CommittedEntry entry, string reason) =>
        _fatal.Stop(
            $"log entry {entry.Index} of term {entry.Term} (request kind {(int)LastKind}) cannot be applied: {reason}. "
            + "Nothing of it was applied; use a server version that knows it");

    private void LogAlarms(AlarmList before, AlarmList after)
    {
        foreach (Alarm alarm in after.Alarms)
        {
            if (before.Alarms.IndexOf(alarm) < 0)
            {
                ServerLog.AlarmRaised(_log, AlarmName(alarm.Kind), ServerLog.Id(alarm.MemberId));
            }
        }

        foreach (Alarm alarm in before.Alarms)
        {
            if (after.Alarms.IndexOf(alarm) < 0)
            {
                ServerLog.AlarmDisarmed(_log, AlarmName(alarm.Kind), ServerLog.Id(alarm.MemberId));
            }
        }
    }

    private static string AlarmName(AlarmKind kind) => kind switch
    {
        AlarmKind.NoSpace => "NOSPACE",
        AlarmKind.Corrupt => "CORRUPT",
        _ => "NONE",
    };
}
