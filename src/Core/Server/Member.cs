// Member: one member's logic, composed of its actors. No sockets, no threads of its own: Host gives every actor an
// ActorThread, the simulator polls them in a seeded order.
//
// Threads  Everything public may be called from any thread unless it says otherwise. ProposeAsync, ReadIndexAsync,
//          Rent and Return allocate nothing in steady state.
// Order    raft -> wal -> raft -> store -> caller; store -> tree -> (snapshot) -> raft.
// Reads    While this member is the only voter and has committed in its own term, whatever was acknowledged is in the
//          published view, because callers are completed after the view. So the barrier of a linearizable read is one
//          volatile load, without a thread hop; otherwise reads are batched through raft (ReadBarrier).
// Stop     BeginStop -> raft refuses and finishes what is appended, writes the final hard state -> store applies it all
//          and waits for the tree -> Stopped. Dispose without that is what a kill does.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Wal;
using Microsoft.Extensions.Logging;

namespace Cairn.Core.Server;

/// <summary>An actor of a member together with the place where its waker goes.</summary>
public sealed class MemberActor
{
    private readonly WakerCell _cell;

    internal MemberActor(IActor actor, WakerCell cell)
    {
        Actor = actor;
        _cell = cell;
    }

    /// <summary>What to poll.</summary>
    public IActor Actor { get; }

    /// <summary>Called once by whoever polls the actor, before the first poll.</summary>
    public void Attach(IWaker waker) => _cell.Target = waker;
}

/// <summary>A waker that may be attached after it was handed out. Wakes before that are dropped.</summary>
internal sealed class WakerCell : IWaker
{
    private IWaker? _target;

    public IWaker? Target
    {
        get => Volatile.Read(ref _target);
        set => Volatile.Write(ref _target, value);
    }

    public void Wake() => Target?.Wake();

    public void WakeElsewhere() => Target?.WakeElsewhere();
}

/// <summary>One running member.</summary>
public sealed partial class Member : IDisposable
{
    private readonly MemberParts _parts;
    private readonly MemberCounters _counters = new();
    private readonly SlotPool _slots;
    private readonly Intake _intake;
    private readonly MpscRing<StoreCommand> _commands = new(1024);
    private readonly RaftActor _raft;
    private readonly WalActor _wal;
    private readonly WalFillActor _fill;
    private readonly StoreActor _store;
    private readonly RaftWiring _wiring;
    private readonly SnapshotReceiver _snapshots;
    private readonly SnapshotActor _snapshotFiles;
    private readonly Duties _duties;
    private readonly LeaseFeed _feed = new();
    private readonly LeaseDuty _leases;
    private readonly ITransport? _transport;
    private readonly PeerTable _peers = new();
    private readonly PeerInbox _inbox;
    private readonly WakerCell _raftCell = new();
    private readonly WakerCell _storeCell = new();
    private readonly MemberActor[] _actors;
    private readonly ColdReads _coldReads;
    private readonly IClock _clock;
    private readonly ILogger _log;
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private string? _stopReason;
    private bool _startRefused;
    private bool _disposed;

    private Member(MemberOptions options, MemberEnvironment environment, MemberParts parts, IWalObserver? observer)
    {
        Options = options;
        _parts = parts;
        _clock = environment.Clock;
        _log = environment.Log;
        _counters.AppliedIndex = parts.AppliedIndex;
        _counters.AppliedTerm = parts.AppliedTerm;
        _counters.CommittedIndex = parts.Core.Commit;
        _counters.SnapshotIndex = parts.SnapshotIndex;
        _counters.TreeIndex = parts.Machine.Store.DurableIndex;
        _counters.Revision = parts.Machine.Store.Revision;
        _counters.CompactRevision = parts.Machine.Store.CompactRevision;
        _counters.Term = parts.Core.Term;

        WakerCell raftCell = _raftCell, walCell = new(), fillCell = new(), treeCell = new(), snapCell = new(),
            fetchCell = new(), sendCell = new(), checkCell = new(), watchCell = new();
        _transport = environment.Transport;
        _inbox = new PeerInbox(environment.Pool, raftCell);
        Identity = new PeerIdentity(
            parts.Identity.ClusterId, parts.Identity.MemberId, parts.Boot, parts.Identity.StorageId, options.ServerVersion);
        _slots = new SlotPool(
            environment.Pool, Id, environment.Clock.UnixMilliseconds, options.RequestSlots, () => parts.Machine.Auth.View);
        _intake = new Intake(options, _counters, _clock, raftCell, _slots);
        _duties = new Duties(
            options, _counters, _intake, parts.Machine, Id, ClusterId, environment.Log, _ready);

        _wal = new WalActor(parts.Log, _clock, environment.Fatal, observer) { Completed = raftCell, Self = walCell };
        _fill = new WalFillActor(parts.Log, _clock) { Self = fillCell, DiskFull = OnDiskFull };
        Watch = new WatchHub(parts.Machine.Store, options.WatchLimits, environment.Pool, environment.Random, () => Header)
        {
            Waker = watchCell,
        };
        SpscRing<SnapshotJob> jobs = new(4), saved = new(4);
        var fetch = new FetchActor(parts.Log, environment.Fatal, raftCell, fetchCell);
        var wiring = _wiring = new RaftWiring
        {
            ToStore = new SpscRing<CommittedEntry>(8192),
            ConfChanges = new SpscRing<AppliedConfChange>(1024),
            Snapshots = saved,
            Store = _storeCell,
            SnapshotSender = sendCell,
            Fetch = fetch,
            Inbox = _inbox,
            Peers = _peers,
            Transport = _transport,
            View = () => ClusterView,
            StopMember = StopBecause,
            SnapshotEnded = index => _snapshots!.Ended(index),
        };
        _snapshots = new SnapshotReceiver(environment, options, parts.Directory, Deliver);
        _leases = MakeLeases(environment);
        _raft = new RaftActor(
            options, _counters, parts.Core, new WalHandOff(_wal, environment.Pool), _intake, _leases, wiring, _clock,
            environment.Log);
        TreeActor tree = parts.Machine.Store.TreeActor;
        var treeHost = new TreeHost(tree, treeCell, _storeCell);
        _store = new StoreActor(options, environment, _counters, parts, wiring, _commands, raftCell, _duties, _feed, Leases, treeHost,
            new SnapshotPlan(options.SnapshotCount, parts.SnapshotIndex, jobs, snapCell), Watch);
        SnapshotActor snapshots = _snapshotFiles = new SnapshotActor(
            environment, parts.Directory.Snap, options.MaxSnapshots, options.SnapshotCount, parts.SnapshotIndex, jobs, saved, raftCell);
        tree.StoreWaker = _storeCell;
        tree.Waker = treeCell;
        tree.MajorFaults = environment.MajorFaults;
        var check = new CorruptionCheck(
            this, environment, _counters, _intake, checkCell, hadData: parts.AppliedIndex > 0, RefuseStart, _storeCell);
        _actors =
        [
            new MemberActor(_raft, raftCell),
            new MemberActor(_wal, walCell),
            new MemberActor(_store, _storeCell),
            new MemberActor(treeHost, treeCell),
            new MemberActor(_fill, fillCell),
            new MemberActor(snapshots, snapCell),
            new MemberActor(Watch, watchCell),
            .. MakeColdReaders(options.ColdReaders, out _coldReads),
            new MemberActor(fetch, fetchCell),
            new MemberActor(
                new SnapshotSender(environment, options, () => Store, wiring.SendSnapshots, SnapshotSent), sendCell),
            new MemberActor(check, checkCell),
        ];
        _store.Stopped = _stopped;
        _duties.MayBeReady = () => check.IsInitialDone;
        ServePromotions();
        ServeLeases();
        _transport?.Attach(this);
    }

    /// <summary>
    /// Opens the data directory, or makes it, and builds the actors; nothing runs until they are polled. Everything
    /// that can be refused is refused before anything is written.
    /// </summary>
    /// <param name="options">Settings.</param>
    /// <param name="environment">The world.</param>
    /// <param name="walObserver">Told about every sync of the log, on the WAL thread. May be null.</param>
    /// <exception cref="MemberStartException">The directory or the options do not allow a start; one clear line.</exception>
    public static Member Open(MemberOptions options, MemberEnvironment environment, IWalObserver? walObserver = null) =>
        new(options, environment, MemberOpener.Open(options, environment), walObserver);

    /// <summary>This member's id.</summary>
    public ulong Id => _parts.Identity.MemberId;

    public ulong ClusterId => _parts.Identity.ClusterId;

    /// <summary>Consensus, for the simulator to look at between polls; everybody else asks <see cref="Status"/>.</summary>
    internal RaftCore Raft => _parts.Core;

    public MemberOptions Options { get; }

    /// <summary>
    /// Over raft, wal and store, if their threads may be borrowed for a write that is alone (Carrier). Set before the
    /// first proposal; null: every stage runs on its own thread.
    /// </summary>
    public Carrier? Carrier { get; set; }

    /// <summary>What Host or the simulator polls. Order is the order of the write path.</summary>
    public ReadOnlySpan<MemberActor> Actors => _actors;

    /// <summary>Completes when the member's attributes and a cluster version are committed. Never, if it stops before.</summary>
    public Task Ready => _ready.Task;

    /// <summary>Completes when the stop sequence has ended: everything pending failed, WAL synced, tree committed.</summary>
    public Task Stopped => _stopped.Task;

    /// <summary>A slot with a fresh id; give it back with <see cref="Return"/> exactly once.</summary>
    public RequestSlot Rent() => _slots.Rent();

    /// <summary>The caller's part of the slot ends; Response and payload are dead.</summary>
    /// <param name="slot">Completed, never submitted, or given up with <see cref="RequestSlot.TryAbandon"/>.</param>
    public void Return(RequestSlot slot)
    {
        ArgumentNullException.ThrowIfNull(slot);
        Invariant.Check(slot.IsOf(_slots), "a slot goes back to the member it was rented from");
        slot.DropReference();
    }

    /// <summary>A fresh id for a lease the server names (storage.md §7.4): the sign bit is clear.</summary>
    public long NextLeaseId() => (long)(_slots.NextId() & long.MaxValue);

    /// <summary>
    /// The quota pre-check of Put, Txn and LeaseGrant, before the fields are validated. NoSpace also has a NOSPACE
    /// alarm raised through raft.
    /// </summary>
    /// <param name="kind">Kind of the request; others than those three always pass.</param>
    /// <param name="body">The request message.</param>
    public ErrorCode CheckQuota(RequestKind kind, ReadOnlySpan<byte> body)
    {
        long quota = Options.EffectiveQuotaBytes;
        long uncommitted = Store.UncommittedBytes + _slots.InFlightBytes;
        if (!Quota.IsMet(quota, Tree, uncommitted + RequestChecks.QuotaCostBound(kind, body.Length)))
        {
            return ErrorCode.None;
        }

        long cost = RequestChecks.QuotaCost(kind, body);
        if (cost == 0 || !Quota.IsMet(quota, Tree, uncommitted + cost))
        {
            return ErrorCode.None;
        }

        _duties.WantSpaceAlarm();
        _storeCell.Wake();
        return ErrorCode.NoSpace;
    }

    /// <summary>The log's disk has no room for another segment: stop growing while there is room to say so.</summary>
    private void OnDiskFull()
    {
        _duties.WantSpaceAlarm(diskFull: true);
        _storeCell.Wake();
    }

    /// <summary>
    /// Proposes the request written into the slot and waits until it is applied here. Outcomes: None (Response
    /// holds the body), any refusal of the request itself, TooManyRequests, RequestTooLarge, NoSpace, Timeout
    /// (unknown), ContextDeadlineExceeded (no leader in time), Stopped (unknown).
    /// </summary>
    /// <param name="slot">Rented, with <see cref="RequestSlot.BeginRequest"/> done.</param>
    /// <param name="deadlineNs">Monotonic; 0 = etcd's request timeout from now, long.MaxValue = none.</param>
    public ValueTask<ErrorCode> ProposeAsync(RequestSlot slot, long deadlineNs = 0)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ErrorCode refusal;
        if (slot.IsLight && Carrier is { } carrier && carrier.TryBegin())
        {
            slot.CarryingThread = Environment.CurrentManagedThreadId;
            refusal = _intake.Propose(slot, deadlineNs);
            carrier.Run();
            slot.CarryingThread = 0;
        }
        else
        {
            refusal = _intake.Propose(slot, deadlineNs);
        }

        return refusal == ErrorCode.None ? slot.AsValueTask() : new ValueTask<ErrorCode>(refusal);
    }

    /// <summary>
    /// Waits until everything acknowledged before this call is visible in the store's published view. Completes
    /// synchronously when this member is the only voter and has committed in its own term.
    /// </summary>
    /// <param name="slot">Rented; nothing needs to be written into it.</param>
    /// <param name="deadlineNs">As in <see cref="ProposeAsync"/>.</param>
    public ValueTask<ErrorCode> ReadIndexAsync(RequestSlot slot, long deadlineNs = 0)
    {
        ArgumentNullException.ThrowIfNull(slot);
        if (_counters.ReadsAreLocal)
        {
            return new ValueTask<ErrorCode>(_intake.IsClosed ? ErrorCode.Stopped : ErrorCode.None);
        }

        ErrorCode refusal = _intake.Read(slot, deadlineNs);
        return refusal == ErrorCode.None ? slot.AsValueTask() : new ValueTask<ErrorCode>(refusal);
    }

    /// <summary>Runs a read of store-owned state (leases) on the store thread; the response body lands in the slot.</summary>
    public ValueTask<ErrorCode> QueryAsync(RequestSlot slot, in StoreQuery query) =>
        Command(slot, new StoreCommand { Kind = StoreCommandKind.Query, Slot = slot, Query = query });

    /// <summary>Reads that went to the threads that may wait for the disk, since the start.</summary>
    public long ColdReadCount => _coldReads.Count;

    /// <summary>
    /// Runs a read that would have to wait for the disk (MvccStore's Try…Now said so) on a thread that may; the
    /// response body lands in the slot. TooManyRequests when too many wait already.
    /// </summary>
    /// <param name="slot">Rented, and not awaited at the moment.</param>
    /// <param name="kind">What the request is.</param>
    /// <param name="request">Copied.</param>
    public ValueTask<ErrorCode> ReadColdAsync(RequestSlot slot, ColdReadKind kind, ReadOnlySpan<byte> request)
    {
        ArgumentNullException.ThrowIfNull(slot);
        slot.SetPayload(request);
        return ReadCold(new ColdRead { Slot = slot, Kind = kind });
    }

    /// <summary>The same for a read that keeps a state.</summary>
    public ValueTask<ErrorCode> ReadColdAsync(RequestSlot slot, IColdRead read)
    {
        ArgumentNullException.ThrowIfNull(slot);
        return ReadCold(new ColdRead { Slot = slot, Kind = ColdReadKind.Other, Other = read });
    }

    /// <summary>Freezes the store at what is applied now and waits until that is durable in the tree.</summary>
    public ValueTask<ErrorCode> FreezeAndWaitAsync(RequestSlot slot) =>
        Command(slot, new StoreCommand { Kind = StoreCommandKind.Freeze, Slot = slot });

    /// <summary>
    /// Moves pages towards the file's start and shortens it, in steps between commits; completes when it cannot get
    /// smaller. Allocates.
    /// </summary>
    public async Task DefragmentAsync()
    {
        RequestSlot slot = Rent();
        try
        {
            _ = await FreezeAndWaitAsync(slot).ConfigureAwait(false);
        }
        finally
        {
            Return(slot);
        }

        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        if (Store.TreeActor.Defragment(static state => ((TaskCompletionSource)state!).TrySetResult(), done))
        {
            await done.Task.ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Why the member stops by itself (it was removed from the cluster); null otherwise. It then goes through the stop
    /// sequence, and whoever runs it should end when <see cref="Stopped"/> completes.
    /// </summary>
    public string? StopReason => Volatile.Read(ref _stopReason);

    /// <summary>The member stopped itself before it was ready, because its data is not that of its peers: exit status 1.</summary>
    public bool IsStartRefused => Volatile.Read(ref _startRefused);

    /// <summary>Starts the stop sequence; the actors must go on being polled until <see cref="Stopped"/>.</summary>
    public void BeginStop() => _intake.Close();

    /// <summary>
    /// Closes files and frees memory. The actors must have ended. Without <see cref="Stopped"/> before it is a kill:
    /// nothing is written any more.
    /// </summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        _intake.Close();
        _coldReads.Fail();
        _inbox.Clear();
        _raft.Dispose();
        _wal.Dispose();
        _fill.Dispose();
        _parts.Log.Dispose();
        Watch.Dispose();
        _store.DisposeReplaced();
        MvccStore store = Store;
        Tree tree = store.Tree;
        store.Dispose();
        _parts.Machine.Dispose();
        tree.Dispose();
    }

    private void RefuseStart(string reason)
    {
        Volatile.Write(ref _startRefused, true);
        StopBecause(reason);
    }

    private void StopBecause(string reason)
    {
        Volatile.Write(ref _stopReason, reason);
        _intake.Close();
    }

    private MemberActor[] MakeColdReaders(int count, out ColdReads pool)
    {
        var readers = new ColdReader[count];
        var actors = new MemberActor[count];
        for (int i = 0; i < count; i++)
        {
            var cell = new WakerCell();
            readers[i] = new ColdReader(() => Store, () => Header, _counters, cell);
            actors[i] = new MemberActor(readers[i], cell);
        }

        pool = new ColdReads(readers);
        return actors;
    }

    private ValueTask<ErrorCode> ReadCold(in ColdRead read)
    {
        RequestSlot slot = read.Slot;
        if (_counters.StoreStopped)
        {
            return new ValueTask<ErrorCode>(ErrorCode.Stopped);
        }

        slot.Submit(long.MaxValue);
        if (!_coldReads.TryEnqueue(read))
        {
            slot.Withdraw();
            return new ValueTask<ErrorCode>(ErrorCode.TooManyRequests);
        }

        if (_counters.StoreStopped)
        {
            _ = slot.TryComplete(ErrorCode.Stopped);
        }

        return slot.AsValueTask();
    }

    private ValueTask<ErrorCode> Command(RequestSlot slot, in StoreCommand command)
    {
        ArgumentNullException.ThrowIfNull(slot);
        if (_intake.IsClosed)
        {
            return new ValueTask<ErrorCode>(ErrorCode.Stopped);
        }

        slot.Submit(long.MaxValue);
        if (!_commands.TryEnqueue(in command))
        {
            slot.Withdraw();
            return new ValueTask<ErrorCode>(ErrorCode.TooManyRequests);
        }

        _storeCell.Wake();
        if (_counters.StoreStopped)
        {
            _ = slot.TryComplete(ErrorCode.Stopped);
        }

        return slot.AsValueTask();
    }
}

/// <summary>What a query asks.</summary>
public enum StoreQueryKind : byte
{
    /// <summary>LeaseTimeToLiveResponse of one lease; LeaderChanged where its time is neither known nor told.</summary>
    LeaseTimeToLive,
}

/// <summary>A read of state that only the store thread may touch.</summary>
/// <param name="Kind">What is asked.</param>
/// <param name="LeaseId">Of LeaseTimeToLive.</param>
/// <param name="Keys">Of LeaseTimeToLive: list the attached keys.</param>
/// <param name="Remaining">Of LeaseTimeToLive: what the leader said, seconds.</param>
public readonly record struct StoreQuery(StoreQueryKind Kind, long LeaseId = 0, bool Keys = false, long? Remaining = null);
