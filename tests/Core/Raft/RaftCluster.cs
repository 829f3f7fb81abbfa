// RaftCluster: several cores in memory with durable images and a network that loses, repeats and reorders, for properties.
//
// A node's disk takes units in order; a crash keeps a prefix of what was queued. Messages with a release sequence stay
// with the node until its disk reached it. The ledgers here are global: who led which term, who voted for whom (from
// disk images), what stands at an index and term, what was committed.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Xunit;

namespace Cairn.Core.Tests.Raft;

internal sealed class RaftCluster : IDisposable
{
    private readonly Dictionary<ulong, (ulong Node, int Incarnation)> _leaders = [];
    private readonly Dictionary<(ulong Node, ulong Term), ulong> _votes = [];
    private readonly Dictionary<(ulong Index, ulong Term), (ulong Previous, string Payload)> _written = [];
    private readonly SplitMix _random;

    public RaftCluster(int voters, int learners, ulong seed, Func<RaftConfig, RaftConfig>? tune = null)
    {
        _random = new SplitMix(seed);
        var ids = new ulong[voters];
        for (int i = 0; i < voters; i++)
        {
            ids[i] = (ulong)i + 1;
        }

        var learnerIds = new ulong[learners];
        for (int i = 0; i < learners; i++)
        {
            learnerIds[i] = (ulong)(voters + i) + 1;
        }

        var state = new ConfState { Voters = ids, Learners = learnerIds };
        for (int i = 0; i < voters + learners; i++)
        {
            Nodes.Add(new Node(this, (ulong)i + 1, state, tune ?? (c => c), _random));
        }
    }

    public sealed record Entry(ulong Term, EntryType Type, byte[] Payload);

    public sealed record Packet(RaftMessage Message, List<(ulong Index, Entry Entry)> Entries);

    public List<Node> Nodes { get; } = [];

    public List<Packet> Network { get; } = [];

    /// <summary>Committed entries by index, whoever said so first.</summary>
    public SortedDictionary<ulong, Entry> Ledger { get; } = [];

    public int Proposed { get; private set; }

    public int ConfirmedReads { get; set; }

    public ulong HighestCommit { get; private set; }

    public Node? Leader
    {
        get
        {
            Node? found = null;
            foreach (Node node in Nodes)
            {
                if (node.Core.Role == RaftRole.Leader && (found == null || node.Core.Term > found.Core.Term))
                {
                    found = node;
                }
            }

            return found;
        }
    }

    public Node this[ulong id] => Nodes[(int)id - 1];

    public void Propose(Node node) => node.Propose(BitConverter.GetBytes(++Proposed));

    /// <summary>Delivers one packet; a copy may stay behind.</summary>
    public void Deliver(int position, bool keep)
    {
        Packet packet = Network[position];
        if (!keep)
        {
            Network.RemoveAt(position);
        }

        this[packet.Message.To].Step(packet);
    }

    /// <summary>Everything flows until nothing moves.</summary>
    public void Settle(int ticks)
    {
        for (int i = 0; i < ticks; i++)
        {
            foreach (Node node in Nodes)
            {
                node.Tick(1);
            }

            for (int round = 0; round < 200; round++)
            {
                bool moved = false;
                foreach (Node node in Nodes)
                {
                    moved |= node.Flow();
                }

                moved |= Network.Count > 0;
                while (Network.Count > 0)
                {
                    Deliver(0, keep: false);
                }

                if (!moved)
                {
                    break;
                }
            }
        }
    }

    public void Check(Node node)
    {
        RaftCore core = node.Core;
        Assert.True(core.Commit >= node.SeenCommit && core.Term >= node.SeenTerm, "commit and term never fall (R7)");
        node.SeenTerm = core.Term;
        if (core.Role == RaftRole.Leader)
        {
            (ulong, int) me = (node.Id, node.Incarnation);
            if (!_leaders.TryGetValue(core.Term, out (ulong, int) known))
            {
                _leaders[core.Term] = me;
                foreach ((ulong index, Entry entry) in Ledger)
                {
                    if (index > core.CompactedIndex)
                    {
                        Assert.Equal(LogAnswer.Ready, core.TryGetTerm(index, out ulong term));
                        Assert.True(term == entry.Term, $"leader {node.Id} of term {core.Term} lacks committed {index} (R5)");
                    }
                }
            }
            else
            {
                Assert.True(known == me, $"term {core.Term} was led twice (R1)");
            }

            if (core.Commit > node.SeenCommit)
            {
                CheckQuorumHas(core.Configuration.Incoming, core.Commit);
                CheckQuorumHas(core.Configuration.Outgoing, core.Commit);
            }
        }

        // A commit index is a claim about content: check it against the ledger where the log still has it.
        for (ulong i = Math.Max(node.SeenCommit, core.CompactedIndex) + 1; i <= core.Commit; i++)
        {
            if (core.Locate(i) != LogAnswer.Ready)
            {
                continue;
            }

            Entry entry = node.Read(i);
            if (Ledger.TryGetValue(i, out Entry? known))
            {
                Assert.True(Same(known, entry), $"index {i} was committed with two contents (R6)");
            }
            else
            {
                Ledger[i] = entry;
            }
        }

        node.SeenCommit = core.Commit;
        HighestCommit = Math.Max(HighestCommit, core.Commit);
    }

    public void OnDisk(Node node, HardState state)
    {
        if (state.Vote == 0)
        {
            return;
        }

        Assert.True(
            !_votes.TryGetValue((node.Id, state.Term), out ulong vote) || vote == state.Vote, "one vote a term (R2)");
        _votes[(node.Id, state.Term)] = state.Vote;
    }

    public void OnDisk(ulong index, Entry entry, ulong previousTerm)
    {
        string payload = Convert.ToHexString(entry.Payload) + entry.Type;
        if (_written.TryGetValue((index, entry.Term), out (ulong Previous, string Payload) known))
        {
            Assert.True(known == (previousTerm, payload), $"two entries of term {entry.Term} at {index} (R4)");
        }

        _written[(index, entry.Term)] = (previousTerm, payload);
    }

    /// <summary>No proposal is in the ledger twice (R19: forwarded ones may arrive twice).</summary>
    public void CheckOnce()
    {
        var seen = new HashSet<int>();
        foreach (Entry entry in Ledger.Values)
        {
            if (entry.Type == EntryType.Normal && entry.Payload.Length > 0)
            {
                Assert.True(seen.Add(BitConverter.ToInt32(entry.Payload)), "a proposal was appended twice (R19)");
            }
        }
    }

    public void Dispose()
    {
        foreach (Node node in Nodes)
        {
            node.Core.Dispose();
            Assert.Empty(node.Live);
        }
    }

    public static bool Same(Entry a, Entry b) =>
        a.Term == b.Term && a.Type == b.Type && a.Payload.AsSpan().SequenceEqual(b.Payload);

    private void CheckQuorumHas(ulong[] half, ulong index)
    {
        int holders = 0;
        foreach (ulong id in half)
        {
            Node node = this[id];
            holders += node.SnapshotIndex >= index
                || (node.Disk.TryGetValue(index, out Entry? entry) && (!Ledger.TryGetValue(index, out Entry? l) || Same(l, entry))) ? 1 : 0;
        }

        Assert.True(half.Length == 0 || holders > half.Length / 2, $"commit {index} is not durable on a quorum (R8)");
    }

    /// <summary>A small seeded generator.</summary>
    public sealed class SplitMix(ulong seed) : IRandom
    {
        private ulong _state = seed;

        public ulong NextUInt64()
        {
            ulong x = _state += 0x9e3779b97f4a7c15;
            x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
            x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
            return x ^ (x >> 31);
        }
    }

    /// <summary>One member: core, disk image, what waits for the disk.</summary>
    public sealed unsafe class Node : IPayloadOwner
    {
        private readonly RaftCluster _cluster;
        private readonly Func<RaftConfig, RaftConfig> _tune;
        private readonly IRandom _random;
        private readonly List<(AppendUnit Unit, List<(ulong, Entry)> Entries)> _units = [];
        private readonly List<Packet> _waiting = [];
        private readonly Dictionary<ulong, ulong> _reads = [];
        private ConfState _snapshotState;
        private ulong _snapshotTerm;
        private ulong _nextRead;
        private long _now = 1;
        private bool _isTaking;

        public Node(RaftCluster cluster, ulong id, ConfState state, Func<RaftConfig, RaftConfig> tune, IRandom random)
        {
            _cluster = cluster;
            Id = id;
            _tune = tune;
            _random = random;
            _snapshotState = state;
            SnapshotIndex = 1; // everybody starts from the same state at index 1, term 1
            _snapshotTerm = 1;
            State = new HardState(1, 0, 1);
            SeenCommit = 1;
            Core = Start([]);
        }

        public ulong Id { get; }

        public RaftCore Core { get; private set; }

        public int Incarnation { get; private set; }

        public ulong SeenCommit { get; set; }

        public ulong SeenTerm { get; set; }

        public HashSet<nint> Live { get; } = [];

        public SortedDictionary<ulong, Entry> Disk { get; } = [];

        public HardState State { get; private set; }

        public ulong SnapshotIndex { get; private set; }

        /// <summary>What the state machine holds: the configuration at its applied index.</summary>
        public ConfState Applied { get; private set; } = ConfState.Empty;

        public void Release(nint owner)
        {
            Assert.True(Live.Remove(owner), "a payload was released twice");
            NativeMemory.Free((void*)owner);
        }

        public void Tick(int ticks)
        {
            for (int i = 0; i < ticks; i++)
            {
                Core.Tick(_now += 1_000_000);
            }

            _cluster.Check(this);
        }

        public void Propose(byte[] payload, EntryType type = EntryType.Normal)
        {
            RaftEntry entry = Own(new Entry(0, type, payload));
            Span<RaftProposal> batch = [new RaftProposal { Data = entry.Data, Length = entry.Length, Owner = entry.Owner, Type = type }];
            Core.Propose(batch);
            if (batch[0].Result != ProposalResult.Appended)
            {
                if (entry.Owner != 0)
                {
                    Release(entry.Owner);
                }

                if (batch[0].Result == ProposalResult.Forward)
                {
                    _cluster.Network.Add(new Packet(Core.ForwardHeader(batch[0].Index, 1), [(0, new Entry(0, type, payload))]));
                }
            }

            _cluster.Check(this);
        }

        public void Step(Packet packet)
        {
            var entries = new RaftEntry[packet.Entries.Count];
            for (int i = 0; i < entries.Length; i++)
            {
                entries[i] = Own(packet.Entries[i].Entry);
                entries[i].Index = packet.Entries[i].Index;
            }

            RaftMessage message = packet.Message;
            Core.Step(in message, entries);
            _cluster.Check(this);
        }

        public void Read()
        {
            ulong committed = _cluster.HighestCommit;
            ulong context = ++_nextRead;
            switch (Core.ReadIndex(context, out ulong index))
            {
                case ReadIndexResult.Ready:
                    Assert.True(index >= committed, "a read is not older than what was committed before it (R14)");
                    break;
                case ReadIndexResult.Waiting:
                    _reads[context] = committed;
                    break;
            }
        }

        /// <summary>Takes units and messages; what may leave at once leaves.</summary>
        public bool Take()
        {
            bool any = false;
            while (Core.TryTakeAppend(out AppendUnit unit))
            {
                any = true;
                var entries = new List<(ulong, Entry)>();
                for (int i = 0; i < unit.EntryCount; i++)
                {
                    entries.Add((unit.FirstIndex + (ulong)i, Read(unit.FirstIndex + (ulong)i)));
                }

                _units.Add((unit, entries));
            }

            while (Core.TryTakeMessage(out RaftMessage message))
            {
                any = true;
                Assert.NotEqual(Id, message.To);
                var entries = new List<(ulong, Entry)>();
                for (int i = 1; i <= message.EntryCount; i++)
                {
                    entries.Add((message.Index + (ulong)i, message.IsFetched ? Disk[message.Index + (ulong)i] : Read(message.Index + (ulong)i)));
                }

                var packet = new Packet(message, entries);
                if (message.ReleaseSequence == 0)
                {
                    _cluster.Network.Add(packet);
                }
                else
                {
                    _waiting.Add(packet);
                }
            }

            if (Core.IsSnapshotWanted && !_isTaking)
            {
                _isTaking = true;
                Snapshot(ulong.MaxValue);
                _isTaking = false;
            }

            while (Core.TryTakeFetch(out FetchRequest request))
            {
                any = true;
                int count = 0;
                while (count < Math.Min(request.MaxCount, 3) && Disk.ContainsKey(request.FirstIndex + (ulong)count))
                {
                    count++;
                }

                _ = Core.Fetched(request.Peer, request.FirstIndex, count, count * 4);
            }

            while (Core.TryTakeRead(out ReadState read))
            {
                if (_reads.Remove(read.Context, out ulong committed) && read.IsConfirmed)
                {
                    _cluster.ConfirmedReads++;
                    Assert.True(read.Index >= committed, "a read is not older than what was committed before it (R14)");
                }
            }

            _cluster.Check(this);
            return any;
        }

        public bool Sync(int count)
        {
            count = Math.Min(count, _units.Count);
            if (count == 0)
            {
                return false;
            }

            ulong sequence = _units[count - 1].Unit.Sequence;
            Write(count);
            Core.WalDurable(sequence);
            for (int i = 0; i < _waiting.Count;)
            {
                if (_waiting[i].Message.ReleaseSequence <= sequence)
                {
                    _cluster.Network.Add(_waiting[i]);
                    _waiting.RemoveAt(i);
                }
                else
                {
                    i++;
                }
            }

            _cluster.Check(this);
            return true;
        }

        public bool Apply(int max)
        {
            if (Core.TryTakeSnapshot(out SnapshotInstall install))
            {
                Core.SnapshotInstalled(install.Index);
                Applied = _snapshotState;
                return true;
            }

            if (!Core.TryTakeCommitted(max, out ulong lo, out ulong hi))
            {
                return false;
            }

            for (ulong i = lo; i <= hi; i++)
            {
                Entry entry = Read(i);
                Assert.True(_cluster.Ledger.TryGetValue(i, out Entry? known) && Same(known, entry), "applied is committed (R6)");
                if (entry.Type != EntryType.Normal)
                {
                    Applied = Core.ApplyConfChange(entry.Type, entry.Payload);
                }
            }

            Core.ReportApplied(hi);
            _cluster.Check(this);
            return true;
        }

        public bool Flow()
        {
            bool moved = Take();
            moved |= Sync(int.MaxValue);
            return moved | Apply(int.MaxValue);
        }

        /// <summary>A snapshot at the applied index; the log keeps some entries.</summary>
        public void Snapshot(ulong keep)
        {
            Core.FlushCommit();
            _ = Take();
            _ = Sync(int.MaxValue);
            ulong index = Core.Applied;
            if (index <= SnapshotIndex || Core.PendingSnapshot != 0 || index > Core.Durable || State.Commit < index)
            {
                return;
            }

            Assert.Equal(LogAnswer.Ready, Core.TryGetTerm(index, out ulong term));
            ConfState state = Core.Configuration.ToConfState();
            (SnapshotIndex, _snapshotTerm, _snapshotState) = (index, term, state);
            Core.SnapshotTaken(index, state);
            if (index > keep)
            {
                Core.Compact(Math.Max(Core.CompactedIndex, index - keep));
            }
        }

        public void Crash(int unitsThatSurvive)
        {
            Write(Math.Min(unitsThatSurvive, _units.Count));
            _units.Clear();
            _waiting.Clear();
            _reads.Clear();
            Core.Dispose();
            Assert.Empty(Live);
            Incarnation++;
            SeenCommit = 0;
            SeenTerm = 0;
            var entries = new List<RaftEntry>();
            foreach ((ulong index, Entry stored) in Disk)
            {
                if (index > SnapshotIndex)
                {
                    RaftEntry entry = Own(stored);
                    entry.Index = index;
                    entries.Add(entry);
                }
            }

            Core = Start(entries.ToArray());
            _cluster.Check(this);
        }

        public Entry Read(ulong index)
        {
            var copy = new RaftEntry[1];
            Core.CopyEntries(index, copy);
            return new Entry(copy[0].Term, copy[0].Type, copy[0].Payload.ToArray());
        }

        private RaftCore Start(RaftEntry[] entries)
        {
            RaftConfig config = _tune(new RaftConfig
            {
                Id = Id, TickNs = 1_000_000, ElectionTicks = 10, HeartbeatTicks = 2, RetainEntries = 6, RetainBytes = 1 << 20,
                Boot = (ulong)Incarnation + 1,
            });
            var core = new RaftCore(config, this, State, _snapshotState, SnapshotIndex, _snapshotTerm, entries, _random);
            core.Tick(_now);
            return core;
        }

        private void Write(int count)
        {
            for (int i = 0; i < count; i++)
            {
                (AppendUnit unit, List<(ulong Index, Entry Entry)> entries) = _units[i];
                if (unit.SnapshotState is { } state)
                {
                    Cut(0);
                    (SnapshotIndex, _snapshotTerm, _snapshotState) = (unit.SnapshotIndex, unit.SnapshotTerm, state);
                }

                foreach ((ulong index, Entry entry) in entries)
                {
                    Cut(index);
                    Disk[index] = entry;
                    ulong previous = Disk.TryGetValue(index - 1, out Entry? before) ? before.Term
                        : index - 1 == SnapshotIndex ? _snapshotTerm : 0;
                    if (previous != 0)
                    {
                        _cluster.OnDisk(index, entry, previous);
                    }
                }

                if (unit.HasHardState)
                {
                    Assert.True(unit.HardState.Term >= State.Term && unit.HardState.Commit >= State.Commit, "never goes back");
                    State = unit.HardState;
                    _cluster.OnDisk(this, State);
                }
            }

            _units.RemoveRange(0, count);
        }

        private void Cut(ulong from)
        {
            foreach (ulong replaced in new List<ulong>(Disk.Keys))
            {
                if (replaced >= from)
                {
                    _ = Disk.Remove(replaced);
                }
            }
        }

        private RaftEntry Own(Entry stored)
        {
            var entry = new RaftEntry { Term = stored.Term, Type = stored.Type, Length = stored.Payload.Length };
            if (entry.Length > 0)
            {
                entry.Data = (byte*)NativeMemory.Alloc((nuint)entry.Length);
                entry.Owner = (nint)entry.Data;
                stored.Payload.CopyTo(new Span<byte>(entry.Data, entry.Length));
                _ = Live.Add(entry.Owner);
            }

            return entry;
        }
    }
}
