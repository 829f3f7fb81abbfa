// RaftHarness: a core with a disk and a store made of lists, driven step by step, crashed and restarted.
//
// It checks on the way what must hold whatever happens: what was applied once stays and is never applied differently,
// nothing is applied or acknowledged before it is durable, no term is led twice, payloads are released exactly once.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Xunit;

namespace Cairn.Core.Tests.Raft;

internal sealed unsafe class RaftHarness : IPayloadOwner, IDisposable
{
    public const ulong Self = 0x4c56908ca604df02;

    private readonly HashSet<nint> _live = [];
    private readonly Dictionary<ulong, int> _ledTerms = [];
    private readonly List<Unit> _pending = [];
    private readonly RaftConfig _config;
    private int _incarnation;
    private long _nowNs = 1_000_000_000;

    public RaftHarness(RaftConfig? config = null, bool bootstrap = true)
    {
        _config = config ?? new RaftConfig { Id = Self, RetainBytes = 64 * 64, RetainEntries = 8 * 64 };
        Core = new RaftCore(_config, this, default, ConfState.Empty, 0, 0, []);
        if (bootstrap)
        {
            Core.Bootstrap([ConfChangeEntry(ConfChangeType.AddNode, Self)]);
        }
    }

    /// <summary>An entry as the disk and the ledger keep it.</summary>
    public sealed record Stored(ulong Term, EntryType Type, byte[] Payload)
    {
        public bool Same(Stored other) => Term == other.Term && Type == other.Type && Payload.AsSpan().SequenceEqual(other.Payload);
    }

    private sealed record Unit(AppendUnit Append, List<(ulong Index, Stored Entry)> Entries, Mark? Snapshot = null);

    private sealed record Mark(ulong Index, ulong Term, ConfState Conf, ulong CompactTo);

    public RaftCore Core { get; private set; }

    /// <summary>What is on disk: synced entries by index, the hard state, the snapshot point.</summary>
    public SortedDictionary<ulong, Stored> Disk { get; } = [];

    public HardState DiskState { get; private set; }

    public ulong SnapshotIndex { get; private set; }

    public ulong SnapshotTerm { get; private set; }

    public ConfState SnapshotConf { get; private set; } = ConfState.Empty;

    /// <summary>Everything ever applied, by index.</summary>
    public SortedDictionary<ulong, Stored> Ledger { get; } = [];

    public List<AppendUnit> Units { get; } = [];

    public List<ReadState> Reads { get; } = [];

    public int PendingUnits => _pending.Count;

    public int LivePayloads => _live.Count;

    public void Release(nint owner)
    {
        Assert.True(_live.Remove(owner), "a payload was released twice");
        NativeMemory.Free((void*)owner);
    }

    public void Tick(long ns = 10_000_000)
    {
        _nowNs += ns;
        Core.Tick(_nowNs);
    }

    public ProposalResult Propose(int size, ProposalKind kind = ProposalKind.Normal, byte fill = 7)
    {
        byte[] bytes = new byte[size];
        Array.Fill(bytes, fill);
        return Propose(EntryType.Normal, bytes, kind);
    }

    public ProposalResult ProposeConfChange(ConfChangeType type, ulong node)
    {
        var change = new ConfChange { Type = type, NodeId = node };
        byte[] bytes = new byte[change.Size];
        var writer = new ProtoWriter(bytes);
        change.Write(ref writer);
        return Propose(EntryType.ConfChange, bytes, ProposalKind.Control);
    }

    public ProposalResult Propose(EntryType type, byte[] payload, ProposalKind kind)
    {
        RaftEntry entry = Owned(type, payload);
        Span<RaftProposal> batch =
        [
            new RaftProposal { Data = entry.Data, Length = entry.Length, Owner = entry.Owner, Type = type, Kind = kind },
        ];
        ulong last = Core.LastIndex;
        Core.Propose(batch);
        if (batch[0].Result == ProposalResult.Appended)
        {
            Assert.Equal((last + 1, Core.Term), (batch[0].Index, batch[0].Term));
        }
        else
        {
            Assert.Equal(last, Core.LastIndex);
            Release(entry.Owner);
        }

        return batch[0].Result;
    }

    /// <summary>Moves everything the core wants written into the WAL's queue.</summary>
    public int TakeUnits()
    {
        int taken = 0;
        while (Core.TryTakeAppend(out AppendUnit unit))
        {
            var entries = new List<(ulong, Stored)>();
            var copies = new RaftEntry[unit.EntryCount];
            Core.CopyEntries(unit.FirstIndex, copies);
            foreach (RaftEntry copy in copies)
            {
                entries.Add((copy.Index, new Stored(copy.Term, copy.Type, copy.Payload.ToArray())));
            }

            Assert.Equal(Units.Count == 0 ? 1 : Units[^1].Sequence + 1, unit.Sequence);

            Units.Add(unit);
            _pending.Add(new Unit(unit, entries));
            taken++;
        }

        return taken;
    }

    /// <summary>The WAL has synced its first so many queued units.</summary>
    public void Sync(int count)
    {
        count = Math.Min(count, _pending.Count);
        if (count == 0)
        {
            return;
        }

        ulong sequence = _pending[count - 1].Append.Sequence;
        ulong compactTo = 0;
        foreach (Unit unit in _pending.GetRange(0, count))
        {
            compactTo = Math.Max(compactTo, unit.Snapshot?.CompactTo ?? 0);
        }

        Write(count);
        Core.WalDurable(sequence);
        Core.Compact(compactTo);
        CheckLeader();
    }

    /// <summary>Applies up to so many committed entries; configuration changes are reported first.</summary>
    public void Apply(int max)
    {
        if (!Core.TryTakeCommitted(max, out ulong lo, out ulong hi))
        {
            return;
        }

        Assert.True(hi - lo < (ulong)max);
        Assert.True(hi <= Core.Durable && hi <= Core.Commit);
        for (ulong index = lo; index <= hi; index++)
        {
            var copy = new RaftEntry[1];
            Core.CopyEntries(index, copy);
            var stored = new Stored(copy[0].Term, copy[0].Type, copy[0].Payload.ToArray());
            Assert.True(Disk.TryGetValue(index, out Stored? synced) && synced.Same(stored), "applied entries are on disk");
            if (Ledger.TryGetValue(index, out Stored? before))
            {
                Assert.True(before.Same(stored), $"index {index} was applied with another content before");
            }

            Ledger[index] = stored;
            if (stored.Type != EntryType.Normal)
            {
                Assert.True(ConfChange.TryParse(stored.Payload, out ConfChange change));
                _ = Core.ApplyConfChange(new ConfChangeStep(change.Type, change.NodeId));
            }
        }

        Core.ReportApplied(hi);
        while (Core.TryTakeRead(out ReadState read))
        {
            Reads.Add(read);
        }
    }

    /// <summary>Queues the record of a snapshot at the applied index; once durable, the log keeps some entries behind it.</summary>
    public void Snapshot(ulong keep)
    {
        ulong index = Core.Applied;
        if (index == 0 || index <= SnapshotIndex || !Core.Configuration.IsVoter(Self))
        {
            return;
        }

        Assert.Equal(LogAnswer.Ready, Core.TryGetTerm(index, out ulong term));
        var unit = new AppendUnit
        {
            HasHardState = true,
            HardState = new HardState(Core.Term, Core.Vote, Core.Commit),
        };
        var mark = new Mark(index, term, Core.Configuration.ToConfState(), index > keep ? index - keep : 0);
        _ = TakeUnits(); // term and vote never overtake the unit that carries them
        _pending.Add(new Unit(unit with { Sequence = Units.Count == 0 ? 0 : Units[^1].Sequence }, [], mark));
    }

    /// <summary>The process dies. So many of the queued units had reached the disk although nobody was told.</summary>
    public void Crash(int unitsThatSurvive)
    {
        Write(Math.Min(unitsThatSurvive, _pending.Count));
        _pending.Clear();
        Units.Clear();
        Core.Dispose();
        Assert.Empty(_live);
        _incarnation++;
        var entries = new List<RaftEntry>();
        foreach ((ulong index, Stored stored) in Disk)
        {
            if (index > SnapshotIndex)
            {
                RaftEntry entry = Owned(stored.Type, stored.Payload);
                entry.Index = index;
                entry.Term = stored.Term;
                entries.Add(entry);
            }
        }

        Core = new RaftCore(_config, this, DiskState, SnapshotConf, SnapshotIndex, SnapshotTerm, entries.ToArray());
        Assert.True(Core.Commit <= Core.LastIndex);
        ulong lastApplied = 0;
        foreach (ulong index in Ledger.Keys)
        {
            lastApplied = index;
        }

        Assert.True(Core.LastIndex >= lastApplied, "what was applied survived");
        if (DiskState == default && Disk.Count == 0)
        {
            Core.Bootstrap([ConfChangeEntry(ConfChangeType.AddNode, Self)]);
        }
    }

    /// <summary>Runs everything until nothing is left to do.</summary>
    public void Settle(int ticks = 5)
    {
        for (int i = 0; i < ticks; i++)
        {
            Tick();
            for (int j = 0; j < 20; j++)
            {
                _ = TakeUnits();
                Sync(int.MaxValue);
                Apply(int.MaxValue);
            }
        }
    }

    public void Dispose()
    {
        Core.Dispose();
        Assert.Empty(_live);
    }

    public RaftEntry ConfChangeEntry(ConfChangeType type, ulong node)
    {
        var change = new ConfChange { Type = type, NodeId = node, Context = "{}"u8 };
        byte[] bytes = new byte[change.Size];
        var writer = new ProtoWriter(bytes);
        change.Write(ref writer);
        return Owned(EntryType.ConfChange, bytes);
    }

    private RaftEntry Owned(EntryType type, byte[] payload)
    {
        var entry = new RaftEntry { Type = type, Length = payload.Length };
        if (payload.Length > 0)
        {
            entry.Data = (byte*)NativeMemory.Alloc((nuint)payload.Length);
            entry.Owner = (nint)entry.Data;
            payload.CopyTo(new Span<byte>(entry.Data, payload.Length));
            Assert.True(_live.Add(entry.Owner));
        }

        return entry;
    }

    private void Write(int count)
    {
        for (int i = 0; i < count; i++)
        {
            Unit unit = _pending[i];
            foreach ((ulong index, Stored entry) in unit.Entries)
            {
                foreach (ulong replaced in new List<ulong>(Disk.Keys))
                {
                    if (replaced >= index)
                    {
                        _ = Disk.Remove(replaced);
                    }
                }

                Disk[index] = entry;
                Assert.True(entry.Type == EntryType.Normal || ConfChangesBelowAreKnownCommitted(index), "obligation 3");
            }

            if (unit.Append.HasHardState)
            {
                HardState state = unit.Append.HardState;
                Assert.True(state.Term >= DiskState.Term && state.Commit >= DiskState.Commit, "the hard state never goes back");
                DiskState = state;
            }

            if (unit.Snapshot is { } mark)
            {
                (SnapshotIndex, SnapshotTerm, SnapshotConf) = (mark.Index, mark.Term, mark.Conf);
            }
        }

        _pending.RemoveRange(0, count);
    }

    // At the moment a configuration change is on disk, every earlier one is covered by a commit index on disk.
    private bool ConfChangesBelowAreKnownCommitted(ulong index)
    {
        foreach ((ulong earlier, Stored stored) in Disk)
        {
            if (earlier < index && stored.Type != EntryType.Normal && earlier > Math.Max(DiskState.Commit, SnapshotIndex))
            {
                return false;
            }
        }

        return true;
    }

    private void CheckLeader()
    {
        if (Core.Role == RaftRole.Leader)
        {
            Assert.Equal((Core.Term, Self), (DiskState.Term, DiskState.Vote));
            Assert.True(!_ledTerms.TryGetValue(Core.Term, out int led) || led == _incarnation, "a term was led twice");
            _ledTerms[Core.Term] = _incarnation;
        }
    }
}
