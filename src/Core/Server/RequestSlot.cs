// RequestSlot: one request on its way through the threads, and the place its answer lands.
//
// Why        A put must not allocate. A slot is rented by the I/O side, carries the entry's bytes in, the response
//            bytes out, and is itself the source of the ValueTask the caller awaits.
// Ownership  Two references at most: the caller's (Rent to Return) and the pipeline's (accepted to applied). The
//            slot goes back to its pool when both are dropped, so a caller that gives up early is harmless.
// Outcome    The first TryComplete wins; the store only writes Response while it holds the outcome (Claim), so a
//            late answer never touches a buffer whose caller has already been told "timed out".
// Threads    Caller: everything before ProposeAsync and after the await. Pipeline: in between.
using System;
using System.Threading;
using System.Threading.Tasks;
using System.Threading.Tasks.Sources;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>Which of the two proposal rings a request takes.</summary>
public enum ProposalLane : byte
{
    /// <summary>Client writes.</summary>
    Normal,

    /// <summary>Lease expiry and revoke, alarms, membership, compaction: never queued behind client writes.</summary>
    Control,
}

/// <summary>
/// Owner of a continuation that may run on whatever thread completes the request: it only notes the fact somewhere.
/// </summary>
public interface IRunsInPlace;

/// <summary>A pooled request; see the file header for who may touch what when.</summary>
public sealed unsafe class RequestSlot : IValueTaskSource<ErrorCode>, IThreadPoolWorkItem
{
    private const int Idle = 0;
    private const int Pending = 1;
    private const int Claimed = 2;
    private const int Completed = 3;
    private const int KeptResponseBytes = 64 * 1024;
    private const int HeaderField = 100;

    private readonly SlotPool _owner;
    private readonly NativePool _pool;
    private ManualResetValueTaskSourceCore<ErrorCode> _source;
    private NativeBlock* _payload;
    private int _state;
    private int _references;
    private int _inFlight; // bytes counted in the pool
    private bool _inPlace; // the continuation may run where the request completes

    internal RequestSlot(SlotPool owner, NativePool pool)
    {
        _owner = owner;
        _pool = pool;
        // The slot queues itself to the pool (Complete); letting the source do it would allocate a work item each time.
        _source.RunContinuationsAsynchronously = false;
        Response = new NativeBuffer(pool);
    }

    /// <summary>The request id (storage.md §7.4), unique in the cluster; new at each rent. Also the id of the entry.</summary>
    public ulong Id { get; internal set; }

    /// <summary>Ring to use; set before proposing.</summary>
    public ProposalLane Lane { get; set; }

    /// <summary>raftpb.EntryType of the entry: normal unless a membership change is proposed.</summary>
    internal EntryType EntryType { get; set; }

    /// <summary>User name the request runs as, UTF-8, borrowed until Return; empty = nobody.</summary>
    public ReadOnlyMemory<byte> Username { get; set; }

    /// <summary>Auth revision the caller's token was checked at.</summary>
    public ulong AuthRevision { get; set; }

    /// <summary>The response body, header included, when the outcome is <see cref="ErrorCode.None"/>.</summary>
    public NativeBuffer Response;

    /// <summary>Monotonic ns at which the request's last byte was there (set by the caller).</summary>
    public long ReceivedNs;

    /// <summary>Monotonic ns at which the raft thread took it.</summary>
    public long ProposedNs;

    /// <summary>Monotonic ns at which its entry was seen durable here.</summary>
    public long DurableNs;

    /// <summary>Monotonic ns at which its entry was committed.</summary>
    public long CommittedNs;

    /// <summary>Monotonic ns at which it was applied and its answer encoded.</summary>
    public long AppliedNs;

    /// <summary>Monotonic ns at which the answer was handed to the connection (set by the caller).</summary>
    public long SentNs;

    /// <summary>Index of the entry, once appended; 0 before. Of a read: the index it waited for.</summary>
    public ulong Index;

    /// <summary>Term of the entry at <see cref="Index"/>.</summary>
    internal ulong EntryTerm;

    /// <summary>When the member gives up on it (monotonic ns). Set when it is submitted.</summary>
    internal long DeadlineNs;

    /// <summary>
    /// Applying it touches a handful of keys: the thread that brings it may take it through the pipeline itself. Set by
    /// the service after <see cref="BeginRequest"/>; false when rented.
    /// </summary>
    public bool IsLight { get; set; }

    /// <summary>The thread that carries this request through the pipeline right now (Carrier); 0: none.</summary>
    internal int CarryingThread { get; set; }

    /// <summary>Bytes written so far of the entry.</summary>
    internal int PayloadLength => _payload is null ? 0 : _payload->Length;

    /// <summary>The bytes of the payload.</summary>
    internal ReadOnlySpan<byte> Payload => _payload is null ? default : NativeBlock.Span(_payload);

    /// <summary>Copies a request that becomes no entry.</summary>
    internal void SetPayload(ReadOnlySpan<byte> request)
    {
        ReleasePayload();
        _payload = _pool.Rent(request.Length);
        _payload->Length = request.Length;
        request.CopyTo(NativeBlock.Span(_payload));
    }

    /// <summary>
    /// Starts the entry: room for one request of the given kind. The caller fills the returned span completely; the
    /// header (id, user, auth revision) is written by this call, so set those first.
    /// </summary>
    public Span<byte> BeginRequest(RequestKind kind, int bodyLength)
    {
        ReleasePayload();
        int header = ProtoSize.VarintFieldIfSet(1, Id)
            + ProtoSize.BytesFieldIfSet(2, Username.Length)
            + ProtoSize.VarintFieldIfSet(3, AuthRevision);
        int prefix = ProtoSize.Tag((int)kind) + ProtoSize.Varint((ulong)bodyLength);
        int headerField = ProtoSize.BytesField(HeaderField, header);
        int total = prefix + bodyLength + headerField;
        _payload = _pool.Rent(total);
        _payload->Length = total;

        // Fields ascend, as etcd writes them: kinds above 100 stand behind the header.
        bool headerFirst = (int)kind > HeaderField;
        Span<byte> entry = NativeBlock.Span(_payload);
        WriteHeader(headerFirst ? entry : entry[(prefix + bodyLength)..], header);
        Span<byte> request = headerFirst ? entry[headerField..] : entry;
        ProtoWriter writer = new(request);
        writer.WriteTag((int)kind, WireType.Bytes);
        writer.WriteVarint((ulong)bodyLength);
        return request.Slice(prefix, bodyLength);
    }

    /// <summary>Makes it a change of membership: the entry is a raftpb.ConfChange with this slot's id.</summary>
    /// <param name="type">What changes.</param>
    /// <param name="nodeId">Which member.</param>
    /// <param name="context">JSON of the member; empty for a removal.</param>
    internal void BeginConfChange(ConfChangeType type, ulong nodeId, ReadOnlySpan<byte> context)
    {
        ReleasePayload();
        EntryType = EntryType.ConfChange;
        Lane = ProposalLane.Control;
        var change = new ConfChange { Id = Id, Type = type, NodeId = nodeId, Context = context };
        _payload = _pool.Rent(change.Size);
        _payload->Length = change.Size;
        var writer = new ProtoWriter(NativeBlock.Span(_payload));
        change.Write(ref writer);
    }

    /// <summary>
    /// The caller no longer wants the answer (its client went away, its own deadline passed): ends the await with
    /// <paramref name="reason"/> unless the outcome is already there. The request itself may still take effect.
    /// </summary>
    public bool TryAbandon(ErrorCode reason) => TryComplete(reason);

    ErrorCode IValueTaskSource<ErrorCode>.GetResult(short token) => _source.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<ErrorCode>.GetStatus(short token) => _source.GetStatus(token);

    void IValueTaskSource<ErrorCode>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags)
    {
        // Before it is registered: a completion that does not see it yet goes through the pool, which is never wrong.
        Volatile.Write(ref _inPlace, state is Action { Target: IRunsInPlace });
        _source.OnCompleted(continuation, state, token, flags);
    }

    /// <summary>Runs the caller's continuation, on a pool thread. Called by the pool only.</summary>
    void IThreadPoolWorkItem.Execute()
    {
        _source.SetResult(Outcome);
        DropReference();
    }

    internal bool IsOf(SlotPool pool) => ReferenceEquals(_owner, pool);

    internal ValueTask<ErrorCode> AsValueTask() => new(this, _source.Version);

    /// <summary>True once <see cref="Outcome"/> is there; for callers that poll instead of awaiting.</summary>
    public bool IsCompleted => Volatile.Read(ref _state) == Completed;

    /// <summary>The outcome; only once completed.</summary>
    public ErrorCode Outcome { get; private set; }

    /// <summary>The outcome is already decided or being written.</summary>
    internal bool IsDecided => Volatile.Read(ref _state) != Pending;

    internal void Rented(ulong id)
    {
        Id = id;
        Lane = ProposalLane.Normal;
        EntryType = EntryType.Normal;
        Username = default;
        AuthRevision = 0;
        ReceivedNs = ProposedNs = DurableNs = CommittedNs = AppliedNs = SentNs = 0;
        Index = 0;
        EntryTerm = 0;
        IsLight = false;
        _state = Idle;
        Volatile.Write(ref _references, 1);
    }

    /// <summary>Makes the slot awaitable again and gives the pipeline its reference.</summary>
    internal void Submit(long deadlineNs)
    {
        Invariant.Check(_state is Idle or Completed, "a request slot was submitted twice");
        DeadlineNs = deadlineNs;
        _inPlace = false;
        _source.Reset();
        Volatile.Write(ref _state, Pending);
        AddReference();
    }

    /// <summary>Undoes a submit that the ring refused. Nobody else has seen the slot.</summary>
    internal void Withdraw()
    {
        Volatile.Write(ref _state, Idle);
        Interlocked.Decrement(ref _references);
    }

    internal void AddReference() => Interlocked.Increment(ref _references);

    internal void DropReference()
    {
        if (Interlocked.Decrement(ref _references) == 0)
        {
            Recycle();
        }
    }

    /// <summary>Takes the right to write the answer; false when the caller was already told something else.</summary>
    internal bool TryClaim() => Interlocked.CompareExchange(ref _state, Claimed, Pending) == Pending;

    /// <summary>
    /// Gives the right back without an outcome: the answer is written, but the end must wait for something else.
    /// </summary>
    internal void Unclaim() => Volatile.Write(ref _state, Pending);

    /// <summary>Ends the await after a successful claim.</summary>
    internal void CompleteClaimed(ErrorCode outcome)
    {
        Complete(outcome);
    }

    /// <summary>Ends the await unless somebody else did or has claimed it.</summary>
    internal bool TryComplete(ErrorCode outcome)
    {
        if (Interlocked.CompareExchange(ref _state, Claimed, Pending) != Pending)
        {
            return false;
        }

        Complete(outcome);
        return true;
    }

    /// <summary>Hands the entry's block over; the slot no longer knows it.</summary>
    internal NativeBlock* TakePayload()
    {
        NativeBlock* payload = _payload;
        _payload = null;
        return payload;
    }

    /// <summary>Takes a block back that was appended nowhere.</summary>
    internal void GivePayload(NativeBlock* payload) => _payload = payload;

    // The reference keeps a slot whose caller has given up from being rented again before the pool has run it.
    private void Complete(ErrorCode outcome)
    {
        Outcome = outcome;
        if (CarryingThread == Environment.CurrentManagedThreadId)
        {
            // The caller itself took the request through the pipeline: nobody awaits it yet.
            Volatile.Write(ref _state, Completed);
            _source.SetResult(outcome);
            return;
        }

        AddReference();
        Volatile.Write(ref _state, Completed);
        if (Volatile.Read(ref _inPlace))
        {
            _source.SetResult(outcome);
            DropReference();
            return;
        }

        _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    private void WriteHeader(Span<byte> destination, int length)
    {
        ProtoWriter writer = new(destination);
        writer.WriteTag(HeaderField, WireType.Bytes);
        writer.WriteVarint((ulong)length);
        writer.WriteVarintFieldIfSet(1, Id);
        writer.WriteBytesFieldIfSet(2, Username.Span);
        writer.WriteVarintFieldIfSet(3, AuthRevision);
    }

    internal void ReleasePayload()
    {
        if (_payload is not null)
        {
            _pool.Return(_payload);
            _payload = null;
        }
    }

    /// <summary>Counts the payload as in flight until the slot is recycled.</summary>
    internal void BeginFlight()
    {
        _inFlight = PayloadLength;
        _owner.AddInFlight(_inFlight);
    }

    /// <summary>It was not taken.</summary>
    internal void EndFlight()
    {
        if (_inFlight != 0)
        {
            _owner.AddInFlight(-_inFlight);
            _inFlight = 0;
        }
    }

    private void Recycle()
    {
        EndFlight();
        ReleasePayload();
        if (Response.Length > KeptResponseBytes)
        {
            Response.Free();
        }
        else
        {
            Response.Reset();
        }

        _state = Idle;
        _owner.Put(this);
    }
}
