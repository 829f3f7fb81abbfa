// WalActor: the fsync pipeline.
//
// Why        A write waits for one fdatasync. While it runs the next units gather in the ring; the next batch takes
//            them all, writes them with one call and syncs once: group commit without a timer.
// Thread     wal owns everything here. TryEnqueue: raft. DurableSequence: anybody.
// Order      batch n+1 is written only when batch n is durable, so the mark in a batch's closing state record
//            (everything below it is durable) covers all batches before. See Tail for what that is good for.
//            A commit index alone forces no sync: it rides on the next batch, or is written after a quiet moment
//            together with the mark, so that the last batch too has a witness.
// Cut        before a batch that would pass the segment's size. The new file is already on disk as zeros under a
//            temporary name; head and batch go into it with one write and one sync, then it gets its name and the
//            directory is synced, and only then the batch counts as durable.
// Invariants DurableSequence only grows, and only over units whose bytes were synced.
// Failure    Any failed write, sync, rename or allocation ends the process through IFatal and is never retried: after
//            a failed sync the kernel counts the pages as clean, and a second one would report success.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Takes all queued units, writes them with one call, syncs once, publishes how far the log is durable.</summary>
public sealed unsafe class WalActor : IActor, IDisposable
{
    private readonly WalLog _log;
    private readonly WalOptions _options;
    private readonly IClock _clock;
    private readonly IFatal _fatal;
    private readonly IWalObserver? _observer;
    private readonly SpscRing<WalUnit> _queue; // raft produces, wal consumes; full: TryEnqueue says no, raft waits
    private readonly WalUnit[] _batch;
    private readonly RecordEncoder _encoder;
    private readonly FileOperation _operation = new(1);
    private readonly List<SparsePoint> _points = new(256);

    private Phase _phase;
    private int _batchCount;
    private int _batchTaken; // units consumed by this batch, to be published with it
    private IFile _file; // where the batch goes: the segment in use, or the next one during a cut
    private long _offset; // where in it
    private PreparedSegment? _next; // not null during a cut
    private int _nextHead;
    private ulong _nextSequence;
    private ulong _nextFirstIndex;
    private long _writeStartNs;
    private long _syncStartNs;
    private SparsePoint _lastPoint;
    private bool _jumped; // a snapshot took the place of the log since the last point

    private WalHardState _state; // newest one given, written or not
    private ulong _sequence; // newest unit of the batch in flight
    private ulong _release;
    private bool _commitUnwritten;
    private bool _unwitnessed; // the last batch has no later mark yet
    private long _quietDeadlineNs = long.MaxValue;
    private ulong _durable; // written by wal with release, read by anybody

    /// <summary>What writes and syncs took. Any thread.</summary>
    public WalFigures Figures { get; } = new();

    /// <param name="log">Opened or created; owned by this actor's thread from now on.</param>
    /// <param name="clock">Times the syncs.</param>
    /// <param name="fatal">Told about every failure.</param>
    /// <param name="observer">Metrics; may be null.</param>
    public WalActor(WalLog log, IClock clock, IFatal fatal, IWalObserver? observer = null)
    {
        _log = log;
        _options = log.Options;
        _clock = clock;
        _fatal = fatal;
        _observer = observer;
        _queue = new SpscRing<WalUnit>(_options.QueueCapacity);
        _batch = new WalUnit[_options.QueueCapacity];
        _encoder = new RecordEncoder(1 << 20);
        _encoder.Begin(log.Crc);
        _file = log.File;
        _state = log.State;
    }

    private enum Phase : byte
    {
        Idle,
        Writing,
        Syncing,
    }

    public string RoleName => "wal";

    public long NextDeadlineNs => _phase == Phase.Idle ? _quietDeadlineNs : long.MaxValue;

    /// <summary>Woken whenever <see cref="DurableSequence"/> has moved: raft. Set before the first unit.</summary>
    public IWaker? Completed { get; set; }

    /// <summary>Wakes this actor's own thread; <see cref="TryEnqueue"/> calls it. Set before the first unit.</summary>
    public IWaker? Self
    {
        get => _operation.Owner;
        set => _operation.Owner = value;
    }

    /// <summary>Units up to this sequence are durable. Any thread.</summary>
    public ulong DurableSequence => Volatile.Read(ref _durable);

    /// <summary>Units waiting. Any thread; approximate.</summary>
    public int Queued => _queue.Count;

    /// <summary>Queues a unit; false when the queue is full (poll DurableSequence, try again). Raft thread only.</summary>
    public bool TryEnqueue(in WalUnit unit)
    {
        if (!_queue.TryEnqueue(unit))
        {
            return false;
        }

        Self?.Wake();
        return true;
    }

    public bool Poll(long nowNs)
    {
        bool worked = false;
        if (_phase == Phase.Idle)
        {
            if (!Begin(nowNs, ref worked))
            {
                return worked;
            }

            worked = true;
        }

        if (_phase == Phase.Writing)
        {
            if (!_operation.IsCompleted)
            {
                return worked;
            }

            OnWritten();
            worked = true;
        }

        if (_phase == Phase.Syncing)
        {
            if (!_operation.IsCompleted)
            {
                return worked;
            }

            OnSynced(nowNs);
            worked = true;
        }

        return worked;
    }

    /// <summary>
    /// Writes and syncs whatever is queued, and the last commit. Call after the thread has ended, before disposal.
    /// False if the file system works in the background (simulator): call again when it has completed something.
    /// </summary>
    public bool Flush()
    {
        while (true)
        {
            while (Poll(_clock.NowNs))
            {
            }

            if (_phase != Phase.Idle || !_queue.IsEmpty)
            {
                return false;
            }

            if (!_commitUnwritten && !_unwitnessed)
            {
                return true;
            }

            _quietDeadlineNs = long.MinValue;
        }
    }

    /// <summary>Frees the native buffer. The thread must have ended; the log is disposed by its own owner.</summary>
    public void Dispose() => _encoder.Dispose();

    /// <summary>Takes what is queued. True if a write was started; sets <paramref name="worked"/> if units were taken.</summary>
    private bool Begin(long nowNs, ref bool worked)
    {
        bool mustSync = Gather(out long bytes);
        if (_batchTaken > 0)
        {
            worked = true;
            if (!mustSync)
            {
                if (_commitUnwritten && _quietDeadlineNs == long.MaxValue)
                {
                    _quietDeadlineNs = nowNs + _options.QuietNs;
                }

                Publish();
                return false;
            }
        }
        else if (nowNs < _quietDeadlineNs)
        {
            return false;
        }

        _file = _log.File;
        _offset = _log.Position;
        _encoder.Begin(_log.Crc);
        if (_log.Position + bytes > _options.SegmentBytes && _log.Position > _log.HeadEnd)
        {
            BeginCut();
        }

        Encode();
        (_next == null ? _log.CurrentFilling : _next.Filling)?.Frontier.Reserve(_offset + _encoder.Length);
        _operation.PrepareWrite(_offset);
        _operation.TryAdd(_encoder.Data, _encoder.Length);
        _phase = Phase.Writing;
        _writeStartNs = _clock.NowNs;
        _file.Submit(_operation);
        return true;
    }

    /// <summary>Fills the batch from the ring; says whether it has to be synced and how many bytes it takes at most.</summary>
    private bool Gather(out long bytes)
    {
        _batchCount = 0;
        _batchTaken = 0;
        bytes = RecordEncoder.MaxFrameBytes(64); // the closing state record
        bool mustSync = false;
        while (_batchTaken < _batch.Length && bytes < _options.BatchBytes && _queue.TryDequeue(out WalUnit unit))
        {
            _batchTaken++;
            Invariant.Check(unit.Sequence > _sequence, "append units ascend by sequence");
            _sequence = unit.Sequence;
            mustSync |= unit.MustSync | unit.EntryCount > 0 | unit.HasSnapshot;
            if (unit.HasHardState)
            {
                WalHardState state = new(unit.Term, unit.Vote, unit.Commit);
                Invariant.Check(state.Term >= _state.Term, "terms never go back");
                mustSync |= state.Term != _state.Term | state.Vote != _state.Vote;
                _commitUnwritten |= state != _state;
                _state = state;
            }

            _release = Math.Max(_release, unit.ReleaseIndex);
            if (Mutations.Is(Mutation.LogReleasedBeforeMarker) && unit.ReleaseIndex != 0)
            {
                _log.RequestRelease(unit.ReleaseIndex);
            }

            if (unit.EntryCount > 0 || unit.HasSnapshot)
            {
                bytes += RecordEncoder.MaxFrameBytes(32L + unit.SnapshotConfStateLength);
                for (int i = 0; i < unit.EntryCount; i++)
                {
                    bytes += RecordEncoder.MaxEntryBytes(unit.Entries[i].Length);
                }

                _batch[_batchCount++] = unit;
            }
        }

        return mustSync;
    }

    /// <summary>A snapshot record, then entries, of each unit; one state record closes the batch.</summary>
    private void Encode()
    {
        ulong sequence = _next == null ? _log.Sequence : _nextSequence;
        ulong last = _log.LastWritten;
        for (int i = 0; i < _batchCount; i++)
        {
            ref WalUnit unit = ref _batch[i];
            if (unit.HasSnapshot)
            {
                Invariant.Check(
                    unit.SnapshotIndex == 0 || unit.SnapshotConfStateLength > 0,
                    "a snapshot record carries its ConfState: etcd refuses one without");
                _encoder.AppendSnapshot(unit.SnapshotIndex, unit.SnapshotTerm, unit.SnapshotConfState, unit.SnapshotConfStateLength);
                if (unit.SnapshotIndex > last)
                {
                    last = unit.SnapshotIndex; // taken over from a leader: the log goes on behind it
                    _jumped = true;
                    _lastPoint = default;
                }
            }

            for (int j = 0; j < unit.EntryCount; j++)
            {
                ref WalEntry entry = ref unit.Entries[j];
                Invariant.Check(
                    j == 0 ? entry.Index != 0 && entry.Index <= last + 1 : entry.Index == last + 1,
                    "entries are appended without a gap");
                long offset = _offset + _encoder.Length;
                if (SparseIndex.Wants(_lastPoint, sequence, offset, entry.Index, last))
                {
                    _lastPoint = new SparsePoint(entry.Index, sequence, (int)offset, _encoder.Crc, _jumped ? 0 : last);
                    _points.Add(_lastPoint);
                    _jumped = false;
                }

                _encoder.AppendEntry(entry);
                last = entry.Index;
            }
        }

        _log.LastWritten = last;
        _encoder.AppendState(_state, _next == null ? _log.Synced : 0);
    }

    private void BeginCut()
    {
        Invariant.Check(_log.Synced == _log.Position, "a segment is closed only when it is durable");
        _log.CurrentFilling?.Frontier.Close();
        _nextSequence = _log.Sequence + 1;
        _nextFirstIndex = _log.LastWritten + 1;
        _next = _log.TakePrepared() ?? MakeNext();
        _encoder.AppendCrc();
        _encoder.AppendRaw(RecordType.Metadata, _log.Metadata.Span);
        _encoder.AppendState(_log.State, 0);
        _nextHead = _encoder.Length;
        _file = _next.Segment.File;
        _offset = 0;
    }

    /// <summary>No segment was ready (written faster than it is prepared, or a full disk): one is made now.</summary>
    private PreparedSegment MakeNext()
    {
        string path = WalFormat.Join(_log.Directory, "2" + WalFormat.TemporarySuffix);
        try
        {
            IFile file = WalDirectory.NewFile(_log.Files, path, default, _options);
            return new PreparedSegment(new Segment(file), path, WalDirectory.FillingFor(file, 0, _options));
        }
        catch (FileSystemException e)
        {
            Fail("make the next segment", path, 0, e.Message, e);
            throw; // unreachable: Fail does not return
        }
    }

    private void OnWritten()
    {
        if (_operation.Error != 0)
        {
            Fail("write", _file.Path, _offset, Marshal.GetPInvokeErrorMessage(_operation.Error), null);
        }

        _phase = Phase.Syncing;
        _syncStartNs = _clock.NowNs;
        Figures.Write.Observe(_syncStartNs - _writeStartNs);
        Figures.Wrote(_encoder.Length);
        if (!_options.NoSync && !Mutations.Is(Mutation.LogDurableWhenWritten))
        {
            _operation.PrepareSync();
            _file.Submit(_operation);
        }
    }

    private void OnSynced(long nowNs)
    {
        if (_operation.Error != 0 && Mutations.Is(Mutation.FailedSyncRetried))
        {
            _operation.PrepareSync();
            _file.Submit(_operation);
            return;
        }

        if (_operation.Error != 0)
        {
            Fail("sync", _file.Path, _offset, Marshal.GetPInvokeErrorMessage(_operation.Error), null);
        }

        long syncNs = _clock.NowNs - _syncStartNs;
        Figures.Sync.Observe(syncNs);
        long previousEnd = _log.Position;
        if (_next != null)
        {
            EndCut(previousEnd);
        }

        _log.Position = _offset + _encoder.Length;
        _log.Synced = _log.Position;
        _log.Crc = _encoder.Crc;
        _log.State = _state;
        foreach (ref readonly SparsePoint point in CollectionsMarshal.AsSpan(_points))
        {
            _log.Index.Add(point);
            _log.Index.SetLast(point.Index);
        }

        _points.Clear();
        _log.Index.SetLast(_log.LastWritten);
        _commitUnwritten = false;
        _unwitnessed = _batchTaken > 0;
        _quietDeadlineNs = _unwitnessed ? nowNs + _options.QuietNs : long.MaxValue;
        _phase = Phase.Idle;
        _observer?.Synced(syncNs, _encoder.Length, _batchTaken);
        if (_batchTaken > 0)
        {
            Publish();
        }
    }

    private void EndCut(long previousEnd)
    {
        Span<char> name = stackalloc char[WalFormat.SegmentNameLength];
        WalFormat.WriteSegmentName(name, _nextSequence, _nextFirstIndex);
        try
        {
            _log.Files.Rename(_next!.TemporaryPath, _log.Directory, name);
            _log.Files.SyncDirectory(_log.Directory);
        }
        catch (FileSystemException e)
        {
            Fail("name the next segment", WalFormat.Join(_log.Directory, name.ToString()), 0, e.Message, e);
        }

        _next.Segment.Name(_nextSequence, _nextFirstIndex);
        _log.Use(_next.Segment, previousEnd, _nextHead, _next.Filling);
        _next = null;
        _log.FillWaker?.Wake();
    }

    private void Publish()
    {
        Invariant.Check(_sequence > _durable, "the durable sequence only grows");
        Volatile.Write(ref _durable, _sequence);
        if (_release != 0)
        {
            _log.RequestRelease(_release);
        }

        Completed?.Wake();
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private void Fail(string what, string path, long offset, string error, Exception? cause)
    {
        _fatal.Stop(
            string.Create(
                CultureInfo.InvariantCulture,
                $"could not {what}: {path} at offset {offset}: {error}. Nothing after the last acknowledged write can be trusted to be on disk, so the member stops; check the disk (full? read-only? failing?) and start it again: it will recover from what is durable"),
            cause);
    }
}
