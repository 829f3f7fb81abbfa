// Member: one member's logic, composed of its actors. No sockets, no threads of its own: Host gives every actor an
// ActorThread, the simulator polls them in a seeded order.
//
// Threads  Everything public may be called from any thread unless it says otherwise. ProposeAsync, ReadIndexAsync,
//          Rent and Return allocate nothing in steady state.
// Order    raft -> wal -> raft -> store -> caller; store -> tree -> (snapshot) -> raft. docs/internals.md has the picture.
using System;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;

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
}

/// <summary>One running member.</summary>
public sealed partial class Member : IDisposable
{
    private readonly MemberOptions _options;
    private readonly MemberActor[] _actors = [];
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly MemberStatus _status;

    private Member(MemberOptions options, ulong id, ulong clusterId)
    {
        _options = options;
        _status = default;
        Id = id;
        ClusterId = clusterId;
    }

    /// <summary>
    /// Opens the data directory, or makes it, and builds the actors; nothing runs until they are polled. Everything
    /// that can be refused is refused before anything is written.
    /// </summary>
    /// <exception cref="MemberStartException">The directory or the options do not allow a start; one clear line.</exception>
    public static Member Open(MemberOptions options, MemberEnvironment environment) =>
        throw new NotImplementedException();

    /// <summary>This member's id.</summary>
    public ulong Id { get; }

    public ulong ClusterId { get; }

    public MemberOptions Options => _options;

    /// <summary>What Host or the simulator polls. Order is the order of the write path.</summary>
    public ReadOnlySpan<MemberActor> Actors => _actors;

    /// <summary>Completes when the member's attributes and the cluster version are committed; faults if it stops before.</summary>
    public Task Ready => _ready.Task;

    /// <summary>Completes when the stop sequence has ended: everything pending failed, WAL synced, tree committed.</summary>
    public Task Stopped => _stopped.Task;

    /// <summary>Figures of this moment; allocation-free.</summary>
    public MemberStatus Status => _status;

    /// <summary>A slot with a fresh id; give it back with <see cref="Return"/> exactly once.</summary>
    public RequestSlot Rent() => throw new NotImplementedException();

    /// <summary>The caller's part of the slot ends; Response and payload are dead.</summary>
    public void Return(RequestSlot slot) => throw new NotImplementedException();

    /// <summary>
    /// Proposes the request written into the slot and waits until it is applied here. Outcomes: None (Response
    /// holds the body), any refusal of the request itself, TooManyRequests, RequestTooLarge, NoSpace, Timeout
    /// (unknown), Stopped (unknown).
    /// </summary>
    /// <param name="slot">Rented, with <see cref="RequestSlot.BeginRequest"/> done.</param>
    /// <param name="deadlineNs">Monotonic; 0 = etcd's request timeout from now, long.MaxValue = none.</param>
    public ValueTask<ErrorCode> ProposeAsync(RequestSlot slot, long deadlineNs = 0) => throw new NotImplementedException();

    /// <summary>
    /// Waits until everything acknowledged before this call is visible in the store's published view. Completes
    /// synchronously when this member is the only voter and has committed in its own term.
    /// </summary>
    public ValueTask<ErrorCode> ReadIndexAsync(RequestSlot slot, long deadlineNs = 0) => throw new NotImplementedException();

    /// <summary>Runs a read of store-owned state (leases) on the store thread; the response body lands in the slot.</summary>
    public ValueTask<ErrorCode> QueryAsync(RequestSlot slot, in StoreQuery query, long deadlineNs = 0) =>
        throw new NotImplementedException();

    /// <summary>Freezes the store at what is applied now and waits until that is durable in the tree.</summary>
    public ValueTask<ErrorCode> FreezeAndWaitAsync(RequestSlot slot, long deadlineNs = 0) => throw new NotImplementedException();

    /// <summary>Moves pages towards the file's start and shortens it, in steps between commits; completes when done.</summary>
    public ValueTask<ErrorCode> DefragmentAsync(RequestSlot slot, long deadlineNs = 0) => throw new NotImplementedException();

    /// <summary>Starts the stop sequence; the actors must go on being polled until <see cref="Stopped"/>.</summary>
    public void BeginStop() => throw new NotImplementedException();

    /// <summary>Releases files and memory. Only after <see cref="Stopped"/>, or to drop a member as a crash would.</summary>
    public void Dispose()
    {
    }
}

/// <summary>What a query asks.</summary>
public enum StoreQueryKind : byte
{
    /// <summary>LeaseTimeToLiveResponse of one lease.</summary>
    LeaseTimeToLive,

    /// <summary>LeaseLeasesResponse.</summary>
    LeaseLeases,
}

/// <summary>A read of state that only the store thread may touch.</summary>
/// <param name="Kind">What is asked.</param>
/// <param name="LeaseId">Of LeaseTimeToLive.</param>
/// <param name="Keys">Of LeaseTimeToLive: list the attached keys.</param>
public readonly record struct StoreQuery(StoreQueryKind Kind, long LeaseId = 0, bool Keys = false);
