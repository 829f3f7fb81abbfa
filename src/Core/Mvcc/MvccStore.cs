// MvccStore: the revisioned key-value store and the buckets beside it.
//
// Why        Apply changes memory only: the key index (native, lock-free to read) and a write buffer. A freeze hands
//            the buffer to the tree actor, which writes it with the raft position in one commit. Readers work on
//            Views and never wait for apply or for the disk's writes.
// Threads    store: everything but the section "any thread". The tree actor talks to it through two rings.
// Parts      MvccStore.Open.cs (start), .Apply.cs (put, delete, txn), .Compaction.cs, .Reads.cs (any thread).
// Invariants A value with main >= _active.FirstMain is in the active buffer, >= _frozen.FirstMain in the frozen one,
//            else in the pinned root. A buffer or root is reused only when no View that names it is pinned.
// Failure    What does not fit the state (a revision without its value) is a broken invariant: the member stops.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

/// <summary>One member's data. See the file header for which thread may call what.</summary>
public sealed unsafe partial class MvccStore : IBucketWriter, IBucketReader, IDisposable
{
    private const int BuffersKept = 2;
    private const int ReclaimSlice = 1024;
    private const long ReclaimIntervalNs = 1_000_000;
    private readonly Tree _tree;
    private readonly MvccOptions _options;
    private readonly NativePool _pool;
    private readonly IFatal _fatal;
    private readonly KeyIndex _index = new();
    private readonly ViewTable _views;
    private readonly SpscRing<TreeCommand> _commands = new(16);
    private readonly SpscRing<TreeReport> _reports = new(64);
    private readonly TreeActor _treeActor;
    private readonly Stack<WriteBuffer> _idleBuffers = new();
    private readonly List<Retired> _retired = new(16);
    private WriteBuffer _active;
    private WriteBuffer? _frozen;
    private TreePin _pin;
    private BucketReader _pages;
    private long _pinFirstView;
    private MvccStore? _successor;
    private bool _isEnded;
    private long _bufferSerial;
    private long _revision = 1;
    private long _compactRevision = -1;
    private long _nextReclaimNs;
    private ulong _frozenIndex; // raft position of the last freeze
    private long _finishedCompactRevision = -1;
    private long _publishedBytes; // of the active buffer
    private long _frozenBytes; // of the frozen one; cleared by the tree actor as soon as the tree counts them
    private ulong _durableIndex;
    private ulong _durableTerm;

    private MvccStore(Tree tree, MvccOptions options, IFatal fatal)
    {
        _tree = tree;
        _options = options;
        _pool = options.Pool;
        _fatal = fatal;
        _views = new ViewTable(options.PinSlots);
        _active = new WriteBuffer();
        _txnResponses = new NativeBuffer(_pool);
        _sweepKey = new NativeBuffer(_pool);
        _treeActor = new TreeActor(this, tree, options, _commands, _reports);
    }

    /// <summary>The actor that commits for this store; runs on the tree thread.</summary>
    public TreeActor TreeActor => _treeActor;

    public Tree Tree => _tree;

    /// <summary>What has been done so far, for the metrics page. Any thread.</summary>
    public StoreFigures Figures { get; } = new();

    /// <summary>consistent_index of the last durable commit; 0 in a new file. Any thread.</summary>
    public ulong DurableIndex => Volatile.Read(ref _durableIndex);

    /// <summary>term of the last durable commit. Any thread.</summary>
    public ulong DurableTerm => Volatile.Read(ref _durableTerm);

    /// <summary>Current revision, unpublished changes included.</summary>
    public long Revision => _revision;

    /// <summary>Last accepted compaction; -1 before any. Any thread.</summary>
    public long CompactRevision => Volatile.Read(ref _compactRevision);

    /// <summary>Last compaction whose deletes are durable; -1 before any. Any thread.</summary>
    public long FinishedCompactRevision => Volatile.Read(ref _finishedCompactRevision);

    /// <summary>Keys in the index, deleted ones not yet compacted away included.</summary>
    public long IndexedKeys => _index.Count;

    /// <summary>Native bytes held by the key index.</summary>
    public long IndexBytes => _index.ReservedBytes;

    /// <summary>Changes in the active buffer (a freeze is due at 10,000 or after 100 ms).</summary>
    public long PendingOps => _active.Ops;

    /// <summary>Bytes in the active buffer.</summary>
    public long BufferBytes => _active.Bytes;

    /// <summary>Bytes in both buffers, not yet in the tree.</summary>
    public long BufferedBytes => _active.Bytes + Volatile.Read(ref _frozenBytes);

    /// <summary>The same as of the last published View. Any thread.</summary>
    public long UncommittedBytes => Volatile.Read(ref _publishedBytes) + Volatile.Read(ref _frozenBytes);

    /// <summary>The active buffer is full and the frozen one still commits: apply must pause.</summary>
    public bool MustPause => _active.Bytes >= _options.BufferBytesMax && _frozen is not null;

    /// <summary>
    /// Something waits for readers to let go of old Views, who wake nobody: <see cref="Work"/> should look again soon.
    /// </summary>
    public bool HasDeferredWork => _compactions.Count > 0 || _retired.Count > 0 || _index.Reclaimer.Count > 0;

    /// <summary>True while a frozen buffer is with the tree actor.</summary>
    public bool IsFrozen => _frozen is not null;

    internal KeyIndex Index => _index;

    /// <summary>The frozen buffer is durable in the tree. Tree thread.</summary>
    internal void NoteFrozenDurable() => Volatile.Write(ref _frozenBytes, 0);

    internal ViewTable Views => _views;

    /// <inheritdoc/>
    public void Put(BucketId bucket, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => _active.Append(ChangeKind.Put, bucket, key, value);

    /// <inheritdoc/>
    public void Delete(BucketId bucket, ReadOnlySpan<byte> key) => _active.Append(ChangeKind.Delete, bucket, key, default);

    /// <inheritdoc/>
    public void Clear(BucketId bucket) => _active.Append(ChangeKind.Clear, bucket, default, default);

    /// <summary>Makes everything applied so far visible to readers: one release-store. After each apply batch.</summary>
    public void PublishView()
    {
        _index.Reclaimer.CurrentView = _views.Publish(Current());
        Volatile.Write(ref _publishedBytes, _active.Bytes);
    }

    /// <summary>Takes finished commits, retires buffers, frees memory, sweeps the index; a bounded slice.</summary>
    /// <returns>True if anything was done.</returns>
    public bool Work(long nowNs)
    {
        bool did = false;
        while (_reports.TryDequeue(out TreeReport report))
        {
            did = true;
            if (report.CompactionFinished)
            {
                FinishCompaction(report);
            }
            else
            {
                FinishCommit(report);
            }
        }

        if (_tree.CurrentTxId != _pin.Root.TxId)
        {
            // A commit without a buffer (compaction, shrinking): readers should let go of the old pages as well.
            Repin();
            did = true;
        }

        if (nowNs >= _nextReclaimNs && (_index.Reclaimer.Count > 0 || _retired.Count > 0))
        {
            if (_index.Reclaimer.NewestView == _views.Published)
            {
                PublishView(); // what was retired under the newest View can be freed only once there is a newer one
            }

            // Freeing goes on at once while there is a backlog that can be freed.
            int freed = _index.Reclaimer.Collect(_views.LowestPin(), ReclaimSlice);
            ReuseRetired();
            if (freed < ReclaimSlice)
            {
                _nextReclaimNs = nowNs + ReclaimIntervalNs;
            }

            did |= freed == ReclaimSlice;
        }

        return did | AdvanceCompaction();
    }

    /// <summary>Hands the active buffer to the tree actor together with the raft position. Between entries only.</summary>
    /// <returns>False while an earlier one is still committing.</returns>
    public bool TryFreeze(in FreezePoint point)
    {
        if (_frozen is not null)
        {
            return false;
        }

        if (_active.Ops == 0 && point.Index == _frozenIndex && point.ConfState.IsEmpty)
        {
            return true;
        }

        Invariant.Check(point.Index >= _frozenIndex, "the consistent index never goes back");
        if (point.Index != 0)
        {
            Span<byte> number = stackalloc byte[8];
            BinaryPrimitives.WriteUInt64BigEndian(
                number, Mutations.Is(Mutation.AppliedIndexBeforeEffects) ? _frozenIndex : point.Index);
            Put(BucketId.Meta, "consistent_index"u8, number);
            BinaryPrimitives.WriteUInt64BigEndian(number, point.Term);
            Put(BucketId.Meta, "term"u8, number);
        }

        if (!point.ConfState.IsEmpty)
        {
            Put(BucketId.Meta, "confState"u8, point.ConfState);
        }

        _frozenIndex = point.Index;
        _frozen = _active;
        Volatile.Write(ref _frozenBytes, _frozen.Bytes);
        _active = _idleBuffers.TryPop(out WriteBuffer? idle) ? idle : new WriteBuffer();
        _active.Reset(++_bufferSerial, _revision + 1);
        _active.FirstView = _views.Published + 1;
        PublishView();
        bool queued = _commands.TryEnqueue(new TreeCommand { Buffer = _frozen, Index = point.Index, Term = point.Term });
        Invariant.Check(queued, "the tree actor's ring has room for every command there can be");
        _treeActor.Waker?.Wake();
        return true;
    }

    public void Dispose()
    {
        _treeActor.Abandon();
        foreach (Retired retired in _retired)
        {
            retired.Buffer?.Free();
            if (retired.Pin.IsValid)
            {
                _tree.Unpin(retired.Pin);
            }
        }

        _retired.Clear();
        while (_idleBuffers.TryPop(out WriteBuffer? buffer))
        {
            buffer.Free();
        }

        _active.Free();
        _frozen?.Free();
        if (_pin.IsValid)
        {
            _tree.Unpin(_pin);
            _pin = default;
        }

        _txnResponses.Free();
        _sweepKey.Free();
        _index.Dispose();
    }

    /// <summary>
    /// This store was replaced by another (a snapshot of the leader): new pins are the successor's. Store thread, with the
    /// tree actor at rest.
    /// </summary>
    public void Replace(MvccStore successor) => Volatile.Write(ref _successor, successor);

    /// <summary>Frees a replaced store and its tree once nobody reads from them any more; false while somebody does.</summary>
    public bool TryEnd()
    {
        Invariant.Check(Volatile.Read(ref _successor) is not null, "only a replaced store ends before its member");
        Thread.MemoryBarrier();
        if (_views.CountPins() > 0)
        {
            return false;
        }

        if (!_isEnded)
        {
            _isEnded = true;
            Dispose();
        }

        return _tree.TryRetire();
    }

    /// <summary>Frees a replaced store and its tree at once: the member has ended.</summary>
    public void End()
    {
        if (!_isEnded)
        {
            _isEnded = true;
            Dispose();
        }

        _tree.Dispose();
    }

    /// <summary>What the store thread itself sees now: changes of the entry under way included.</summary>
    private View Current() => new()
    {
        Revision = _sub > 0 ? _revision + 1 : _revision,
        CompactRevision = _compactRevision,
        Active = _active,
        ActiveRevisions = _active.Revisions,
        Frozen = _frozen,
        Pages = _pages,
    };

    private void FinishCommit(in TreeReport report)
    {
        Invariant.Check(_frozen is not null && _frozen.Serial == report.Serial, "a commit ends with the buffer it began with");
        WriteBuffer done = _frozen;
        _frozen = null;
        Repin();
        _retired.Add(new Retired { Buffer = done, FirstView = done.FirstView, LastView = _views.Published - 1 });
        if (report.Index != 0)
        {
            Volatile.Write(ref _durableTerm, report.Term);
            Volatile.Write(ref _durableIndex, report.Index);
        }

        _committedSerial = report.Serial;
        _nextReclaimNs = 0;
    }

    /// <summary>Publishes a View on the tree's newest root and retires the old one's pin.</summary>
    private void Repin()
    {
        TreePin oldPin = _pin;
        long oldFirstView = _pinFirstView;
        PinTree();
        PublishView();
        _retired.Add(new Retired { Pin = oldPin, FirstView = oldFirstView, LastView = _views.Published - 1 });
    }

    private void PinTree()
    {
        _pin = _tree.Pin();
        _pinFirstView = _views.Published + 1;
        Invariant.Check(
            new TreeReader(_tree, _pin.Root).TryGetBucket(BucketNames.Get(BucketId.Key), out _pages),
            "the bucket of revisions exists");
    }

    private void ReuseRetired()
    {
        for (int i = _retired.Count - 1; i >= 0; i--)
        {
            Retired retired = _retired[i];
            if (_views.IsPinnedWithin(retired.FirstView, retired.LastView))
            {
                continue;
            }

            _retired.RemoveAt(i);
            if (retired.Pin.IsValid)
            {
                _tree.Unpin(retired.Pin);
            }
            else if (_idleBuffers.Count < BuffersKept)
            {
                _idleBuffers.Push(retired.Buffer!);
            }
            else
            {
                retired.Buffer!.Free();
            }
        }
    }

    /// <summary>A buffer or a pinned root that Views of [first, last] name.</summary>
    private struct Retired
    {
        public WriteBuffer? Buffer;
        public TreePin Pin;
        public long FirstView;
        public long LastView;
    }
}
