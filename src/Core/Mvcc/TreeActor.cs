// TreeActor: the tree thread: puts frozen buffers, compaction deletes and shrink steps into the tree, and commits.
//
// Order      A frozen buffer goes first; a compaction batch or a shrink step rides on its commit or, with nothing
//            frozen, gets one of its own. One commit at a time, paced by the tree (TreeCommit.Poll).
// Threads    btree. Two rings to and from the store thread; it reads the key index under a pin like any reader.
// Failure    A failed write or sync is fatal inside the tree; nothing is reported before it is durable.
using System;
using System.Threading;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

/// <summary>From store to tree: a frozen buffer, or a compaction to carry out.</summary>
internal struct TreeCommand
{
    /// <summary>Null: a compaction.</summary>
    public WriteBuffer? Buffer;
    public ulong Index;
    public ulong Term;
    public long CompactRevision;
    public long PreviousCompactRevision;
    public bool RememberHash;
}

/// <summary>From tree to store: a durable commit of a buffer, or a finished compaction.</summary>
internal struct TreeReport
{
    public long Serial;
    public ulong Index;
    public ulong Term;
    public bool CompactionFinished;
    public long CompactRevision;
    public uint Hash;
}

/// <summary>The tree thread's actor; made by <see cref="MvccStore"/>.</summary>
public sealed unsafe class TreeActor : IActor
{
    private const int ChangesPerPoll = 1000;
    private const long BytesPerPoll = 1 << 20;
    private const int ShrinkPages = 256;
    private const long ShrinkWaitNs = 10_000_000;
    private const long ShrinkPatienceNs = 100_000_000;
    private const long AgeEveryNs = 1_000_000_000;
    private readonly MvccStore _store;
    private readonly Tree _tree;
    private readonly SpscRing<TreeCommand> _commands;
    private readonly SpscRing<TreeReport> _reports;
    private readonly MpscRing<DefragmentRequest> _defragments = new(64);
    private readonly CompactionRun _run;
    private readonly TreeBucket?[] _buckets = new TreeBucket?[BucketNames.Count];
    private TreeWriter? _writer;
    private TreeCommit? _commit;
    private TreeCommand _batch; // being written or committed; Buffer null when none
    private BufferCursor _cursor;
    private bool _batchWritten;
    private bool _runFinishing; // the commit under way holds the finished marker
    private DefragmentRequest _defragment; // Completed null when none
    private long _compactFirst; // the deletes of this compaction come before the shrinking
    private bool _shrinkMore;
    private bool _shrinking; // the commit under way holds a shrink step
    private bool _hurry;
    private long _nextShrinkNs;
    private long _lastShrinkNs;
    private long _nextAgeNs;
    private long _majorFaults; // at the last age

    internal TreeActor(
        MvccStore store, Tree tree, MvccOptions options, SpscRing<TreeCommand> commands, SpscRing<TreeReport> reports)
    {
        _store = store;
        _tree = tree;
        _commands = commands;
        _reports = reports;
        _run = new CompactionRun(store, options);
    }

    /// <inheritdoc/>
    public string RoleName => "btree";

    /// <summary>Woken when a commit is durable (the store thread). Set before the threads start.</summary>
    public IWaker? StoreWaker { get; set; }

    /// <summary>Major page faults of the process so far; null: there are none. Set before the threads start.</summary>
    public Func<long>? MajorFaults { get; set; }

    /// <summary>Wakes this actor; the store uses it at a freeze. Set before the threads start.</summary>
    public IWaker? Waker { get; set; }

    /// <inheritdoc/>
    public long NextDeadlineNs => Math.Min(_nextAgeNs, _commit is not null ? _commit.NextDeadlineNs : NextWorkNs);

    private long NextWorkNs => _batch.Buffer is not null ? 0
        : Math.Min(
            _defragment.Completed is not null ? _nextShrinkNs : long.MaxValue,
            _run.IsActive ? _run.NextSliceNs : long.MaxValue);

    /// <summary>Nothing is under way. Tree thread, or any once that has ended.</summary>
    internal bool IsIdle =>
        _commit is null && _writer is null && _batch.Buffer is null && !_run.IsActive && _defragment.Completed is null;

    /// <summary>Commits that became durable since the start. Any thread.</summary>
    public long Commits => Volatile.Read(ref _commits);

    private long _commits;

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (nowNs >= _nextAgeNs)
        {
            Age();
            _nextAgeNs = nowNs + AgeEveryNs;
        }

        if (_commit is not null)
        {
            if (Volatile.Read(ref _hurry))
            {
                _commit.Urgent = true;
            }

            bool did = _commit.Poll(nowNs);
            if (_commit.IsCompleted)
            {
                Finish();
                did = true;
            }

            return did;
        }

        TakeCommands();
        if (_batch.Buffer is not null && !_batchWritten)
        {
            WriteSlice();
            if (!_batchWritten)
            {
                return true;
            }
        }

        if (_run.IsActive && nowNs >= _run.NextSliceNs)
        {
            bool alone = _writer is null;
            _runFinishing = _run.Slice(Bucket(BucketId.Key), Bucket(BucketId.Meta), nowNs);
            if (alone && !_runFinishing && _run.SliceDeletes == 0)
            {
                // Only looked at what stays: nothing to commit.
                _writer!.Rollback();
                _writer = null;
                Array.Clear(_buckets);
                return true;
            }
        }

        // Between commits; with one where they follow each other without a break.
        bool shrinks = _defragment.Completed is not null && nowNs >= _nextShrinkNs;
        if (shrinks && (_batch.Buffer is null || nowNs - _lastShrinkNs >= ShrinkPatienceNs))
        {
            ShrinkStep(nowNs);
        }

        if (_writer is null)
        {
            return false;
        }

        _commit = _writer.BeginCommit(Waker);
        _commit.Urgent = Volatile.Read(ref _hurry);
        return true;
    }

    private void ShrinkStep(long nowNs)
    {
        if (_store.FinishedCompactRevision < _compactFirst)
        {
            // What it deletes would leave gaps behind the walk. It waits for old Views, which end soon.
            _nextShrinkNs = nowNs + ShrinkWaitNs;
            return;
        }

        _shrinkMore = Writer().ShrinkStep(ShrinkPages);
        _nextShrinkNs = _tree.IsShrinkWaiting ? nowNs + ShrinkWaitNs : 0;
        _lastShrinkNs = nowNs;
        _shrinking = true;
        if (_batch.Buffer is null && !_writer!.IsWorthCommitting)
        {
            // Only looked at what stays, or waits for pins.
            _writer.Rollback();
            _writer = null;
            Array.Clear(_buckets);
            FinishShrinkStep();
        }
    }

    private void FinishShrinkStep()
    {
        _shrinking = false;
        if (_shrinkMore)
        {
            return;
        }

        DefragmentRequest done = _defragment;
        _defragment = default;
        done.Completed!(done.State);

        // Asked for meanwhile: the file is as small as it gets for them too, unless more is to be deleted first.
        while (_store.FinishedCompactRevision >= _store.CompactRevision && _defragments.TryDequeue(out done))
        {
            done.Completed!(done.State);
        }
    }

    /// <summary>Somebody waits for the commit under way, or the next: stop pacing it. Any thread.</summary>
    public void Hurry()
    {
        Volatile.Write(ref _hurry, true);
        Waker?.Wake();
    }

    /// <summary>
    /// Any thread: moves pages down until the file cannot get smaller, in steps between commits and after the deletes
    /// of every compaction accepted so far.
    /// <paramref name="completed"/> is called on the tree thread.
    /// </summary>
    /// <returns>False if too many such requests wait already.</returns>
    public bool Defragment(Action<object?> completed, object? state)
    {
        bool queued = _defragments.TryEnqueue(new DefragmentRequest { Completed = completed, State = state });
        Waker?.Wake();
        return queued;
    }

    /// <summary>
    /// Tree thread: lets go of everything because another tree takes this one's place; false while a commit is under way.
    /// Not to be polled afterwards.
    /// </summary>
    internal bool TryRest()
    {
        if (_commit is not null)
        {
            _commit.Urgent = true;
            return false;
        }

        Abandon();
        _writer = null;
        Array.Clear(_buckets);
        _batch = default;
        do
        {
            _defragment.Completed?.Invoke(_defragment.State); // the file they asked about is no longer in use
            _defragment = default;
        }
        while (_defragments.TryDequeue(out _defragment));
        return true;
    }

    /// <summary>Forgets an open transaction; the threads have stopped.</summary>
    internal void Abandon()
    {
        if (_commit is null)
        {
            _writer?.Rollback();
        }

        _writer = null;
        _run.Dispose();
    }

    /// <summary>Blocks nobody has made resident for two ages are asked for again before they are touched.</summary>
    private void Age()
    {
        _tree.AgeResidency();
        if (MajorFaults is null)
        {
            return;
        }

        // A rise says that memory is short and pages go: what was resident a second ago may not be. Reading cold pages
        // on purpose counts as well; then this costs one more call per block and second, beside a disk read.
        long faults = MajorFaults();
        if (faults > _majorFaults)
        {
            _tree.ForgetResidency();
        }

        _majorFaults = faults;
    }

    private void TakeCommands()
    {
        // A second buffer cannot be frozen before the first one's commit was reported, and a second compaction not
        // before the first has finished, so one place for each is enough.
        while (_commands.TryDequeue(out TreeCommand command))
        {
            if (command.Buffer is null)
            {
                _run.Start(command.CompactRevision, command.PreviousCompactRevision, command.RememberHash);
                continue;
            }

            Invariant.Check(_batch.Buffer is null, "one frozen buffer at a time");
            _batch = command;
            _cursor = new BufferCursor(command.Buffer);
            _batchWritten = false;
        }

        if (_defragment.Completed is null && _defragments.TryDequeue(out _defragment))
        {
            _compactFirst = _store.CompactRevision;
        }
    }

    private void WriteSlice()
    {
        long bytes = 0;
        for (int i = 0; i < ChangesPerPoll && bytes < BytesPerPoll; i++)
        {
            Change* change = _cursor.Next();
            if (change == null)
            {
                _batchWritten = true;
                _ = Writer();
                return;
            }

            bytes += change->ValueLength;
            Write(change);
        }
    }

    private void Write(Change* change)
    {
        switch (change->Kind)
        {
            case ChangeKind.Put:
                // The buffer outlives the commit, so the tree need not copy the value.
                Bucket(change->Bucket).PutBorrowed(Change.Key(change), Change.Value(change), change->ValueLength);
                break;
            case ChangeKind.Delete:
                _ = Bucket(change->Bucket).Delete(Change.Key(change));
                break;
            case ChangeKind.Clear:
                ReadOnlySpan<byte> name = BucketNames.Get(change->Bucket);
                _ = Writer().DeleteBucket(name);
                _buckets[(int)change->Bucket] = Writer().CreateBucket(name);
                break;
            default:
                Invariant.Throw("a change has a kind");
                break;
        }
    }

    private TreeWriter Writer() => _writer ??= _tree.BeginWrite();

    private TreeBucket Bucket(BucketId id)
    {
        TreeBucket? bucket = _buckets[(int)id];
        if (bucket is null)
        {
            bucket = Writer().CreateBucketIfMissing(BucketNames.Get(id));
            if (id == BucketId.Key)
            {
                bucket.FillPercent = 0.9; // revisions only grow
            }

            _buckets[(int)id] = bucket;
        }

        return bucket;
    }

    private void Finish()
    {
        _commit = null;
        _writer = null;
        Array.Clear(_buckets);
        Volatile.Write(ref _commits, _commits + 1);
        if (_batch.Buffer is not null)
        {
            Volatile.Write(ref _hurry, false);
            _store.NoteFrozenDurable();
            Report(new TreeReport { Serial = _batch.Buffer.Serial, Index = _batch.Index, Term = _batch.Term });
            _batch = default;
            _batchWritten = false;
        }

        if (_runFinishing)
        {
            _runFinishing = false;
            Report(new TreeReport { CompactionFinished = true, CompactRevision = _run.Revision, Hash = _run.Hash });
            _run.End();
        }

        if (_shrinking)
        {
            FinishShrinkStep();
        }

        StoreWaker?.Wake();
    }

    private void Report(in TreeReport report) =>
        Invariant.Check(_reports.TryEnqueue(report), "the store takes reports faster than commits end");

    private struct DefragmentRequest
    {
        public Action<object?>? Completed;
        public object? State;
    }
}
