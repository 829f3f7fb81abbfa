// WalHandOff: how raft's append units reach the WAL thread: copies entry structs into native memory the WAL may read
// until the unit is durable, numbers units (raft's own and snapshot marks) in one sequence, and takes acknowledgements.
// Owned by the raft thread.
//
// The arena is a ring of WalEntry; a unit's entries are contiguous, so a unit that would wrap starts over at 0.
using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

/// <summary>The raft thread's side of the WAL ring.</summary>
internal sealed unsafe class WalHandOff : IDisposable
{
    private const int ArenaEntries = 16384;
    private const int UnitsMax = 512;

    private readonly WalActor _wal;
    private readonly NativePool _pool;
    private readonly WalEntry* _arena;
    private readonly RaftEntry[] _copied = new RaftEntry[128];
    private readonly Pending[] _pending = new Pending[UnitsMax];
    private long _arenaTail;
    private long _arenaHead;
    private int _pendingHead;
    private int _pendingCount;
    private ulong _sequence;
    private long _nowNs;
    private SnapshotJob? _marking;
    private ulong _markSequence;
    private SnapshotJob? _marked;

    internal WalHandOff(WalActor wal, NativePool pool)
    {
        _wal = wal;
        _pool = pool;
        _arena = (WalEntry*)NativeMemory.Alloc(ArenaEntries, (nuint)sizeof(WalEntry));
    }

    /// <summary>A further unit of any size raft makes will fit.</summary>
    internal bool HasRoom =>
        _pendingCount < UnitsMax && ArenaEntries - (_arenaTail - _arenaHead) >= 2 * UnitEntriesMax;

    /// <summary>Something is on its way to the disk.</summary>
    internal bool IsBusy => _pendingCount > 0;

    internal bool IsMarking => _marking is not null;

    /// <summary>Highest of raft's own sequences that is durable.</summary>
    internal ulong DurableCoreSequence { get; private set; }

    /// <summary>Index of the newest snapshot record given.</summary>
    internal ulong LastMarkIndex { get; private set; }

    /// <summary>How long the oldest unit has been waiting for the disk; 0 when none is.</summary>
    internal long OldestAgeNs(long nowNs) => _pendingCount == 0 ? 0 : nowNs - _pending[_pendingHead].GivenNs;

    /// <summary>Most entries RaftCore puts into one unit (RaftConfig.MaxUnitEntries).</summary>
    internal const int UnitEntriesMax = 1024;

    /// <summary>Hands a unit over. Only while <see cref="HasRoom"/>.</summary>
    /// <param name="core">Whose entries.</param>
    /// <param name="unit">What to write.</param>
    /// <param name="mustSync">Sync it whatever it holds: the last one of a clean stop.</param>
    /// <param name="nowNs">For <see cref="OldestAgeNs"/>.</param>
    internal void Give(RaftCore core, in AppendUnit unit, bool mustSync, long nowNs)
    {
        _nowNs = nowNs;
        WalEntry* entries = null;
        if (unit.EntryCount > 0)
        {
            entries = Reserve(unit.EntryCount);
            Fill(core, unit.FirstIndex, unit.EntryCount, entries);
        }

        NativeBlock* confState = unit.SnapshotState is null ? null : Copy(unit.SnapshotState.ToBytes());
        if (confState is not null)
        {
            // A snapshot from the leader. Segments below it go with a later mark, when the store has switched.
            LastMarkIndex = unit.SnapshotIndex;
        }

        Enqueue(
            new WalUnit
            {
                Entries = entries,
                EntryCount = unit.EntryCount,
                HasHardState = unit.HasHardState,
                Term = unit.HardState.Term,
                Vote = unit.HardState.Vote,
                Commit = unit.HardState.Commit,
                MustSync = unit.MustSync | mustSync,
                HasSnapshot = confState is not null,
                SnapshotIndex = unit.SnapshotIndex,
                SnapshotTerm = unit.SnapshotTerm,
                SnapshotConfState = confState is null ? null : NativeBlock.Data(confState),
                SnapshotConfStateLength = confState is null ? 0 : confState->Length,
            },
            unit.Sequence,
            confState);
    }

    /// <summary>
    /// Writes a snapshot record with the present hard state; the snapshot file is durable already. After all of raft's
    /// units were given, so that the state names nothing that is not written before it.
    /// </summary>
    /// <param name="core">Whose state.</param>
    /// <param name="job">The snapshot.</param>
    /// <param name="releaseIndex">Segments that hold nothing above it may go.</param>
    internal void GiveMark(RaftCore core, SnapshotJob job, ulong releaseIndex)
    {
        _marking = job;
        LastMarkIndex = job.Index;
        NativeBlock* confState = Copy(job.ConfState);
        Enqueue(
            new WalUnit
            {
                HasHardState = true,
                Term = core.Term,
                Vote = core.Vote,
                Commit = core.Commit,
                MustSync = true,
                HasSnapshot = true,
                SnapshotIndex = job.Index,
                SnapshotTerm = job.Term,
                SnapshotConfState = NativeBlock.Data(confState),
                SnapshotConfStateLength = job.ConfState.Length,
                ReleaseIndex = releaseIndex,
            },
            0,
            confState);
        _markSequence = _sequence;
    }

    /// <summary>The mark that became durable since the last call.</summary>
    internal bool TakeMarked([NotNullWhen(true)] out SnapshotJob? job)
    {
        job = _marked;
        _marked = null;
        return job is not null;
    }

    /// <summary>Passes acknowledgements on to raft.</summary>
    internal bool TakeDurable(RaftCore core)
    {
        ulong durable = _wal.DurableSequence;
        ulong acknowledged = 0;
        bool any = false;
        while (_pendingCount > 0 && _pending[_pendingHead].Sequence <= durable)
        {
            ref Pending unit = ref _pending[_pendingHead];
            if (unit.CoreSequence != 0)
            {
                acknowledged = unit.CoreSequence;
            }

            if (unit.ConfState is not null)
            {
                _pool.Return(unit.ConfState);
                unit.ConfState = null;
            }

            _arenaHead = unit.ArenaEnd;
            _pendingHead = (_pendingHead + 1) % UnitsMax;
            _pendingCount--;
            any = true;
        }

        if (acknowledged != 0)
        {
            DurableCoreSequence = acknowledged;
            core.WalDurable(acknowledged);
        }

        if (_marking is not null && _markSequence <= durable)
        {
            _marked = _marking;
            _marking = null;
        }

        return any;
    }

    public void Dispose()
    {
        for (; _pendingCount > 0; _pendingCount--)
        {
            ref Pending unit = ref _pending[_pendingHead];
            if (unit.ConfState is not null)
            {
                _pool.Return(unit.ConfState);
            }

            _pendingHead = (_pendingHead + 1) % UnitsMax;
        }

        NativeMemory.Free(_arena);
    }

    private WalEntry* Reserve(int count)
    {
        Invariant.Check(count <= UnitEntriesMax, "a unit is no longer than the arena was measured for");
        long position = _arenaTail % ArenaEntries;
        if (position + count > ArenaEntries)
        {
            _arenaTail += ArenaEntries - position;
            position = 0;
        }

        _arenaTail += count;
        Invariant.Check(_arenaTail - _arenaHead <= ArenaEntries, "the arena never overwrites entries in flight");
        return _arena + position;
    }

    private void Fill(RaftCore core, ulong firstIndex, int count, WalEntry* into)
    {
        for (int done = 0; done < count;)
        {
            int n = Math.Min(_copied.Length, count - done);
            core.CopyEntries(firstIndex + (ulong)done, _copied.AsSpan(0, n));
            for (int i = 0; i < n; i++)
            {
                ref RaftEntry entry = ref _copied[i];
                into[done + i] = new WalEntry
                {
                    Term = entry.Term,
                    Index = entry.Index,
                    Type = (byte)entry.Type,
                    Data = entry.Data,
                    Length = entry.Length,
                };
            }

            done += n;
        }
    }

    private NativeBlock* Copy(ReadOnlySpan<byte> bytes)
    {
        NativeBlock* block = _pool.Rent(bytes.Length);
        block->Length = bytes.Length;
        bytes.CopyTo(NativeBlock.Span(block));
        return block;
    }

    private void Enqueue(WalUnit unit, ulong coreSequence, NativeBlock* confState)
    {
        unit.Sequence = ++_sequence;
        _pending[(_pendingHead + _pendingCount++) % UnitsMax] = new Pending
        {
            Sequence = unit.Sequence,
            CoreSequence = coreSequence,
            ArenaEnd = _arenaTail,
            GivenNs = _nowNs,
            ConfState = confState,
        };
        bool taken = _wal.TryEnqueue(in unit);
        Invariant.Check(taken, "the WAL ring holds more units than may be pending");
    }

    private struct Pending
    {
        public ulong Sequence;
        public ulong CoreSequence; // 0: not one of raft's
        public long ArenaEnd;
        public long GivenNs;
        public NativeBlock* ConfState; // of a snapshot record; returned when durable
    }
}
