// RaftWorld: a whole cluster at core level under one seed: members, network, disks, clients, faults, time.
//
// The loop takes the next event and hands it to whom it concerns; every member checks the global rules after every
// input (RaftNode.Check, Ledger). First the phase with faults, then the phase in which all must come to rest: faults stop,
// a connected core that contains a quorum runs, and within a bound everything must be committed, applied and equal.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

/// <summary>Kinds of <see cref="SimEvent"/> at core level.</summary>
internal enum RaftEvent : byte
{
    Poll,
    Arrive,
    DiskDone,
    StoreDone,
    TreeDone,
    Fetched,
    Client,
    ClientTimeout,
    Fault,
    FaultEnds,
    SnapshotSent,
    Retry,
}

internal sealed unsafe partial class RaftWorld : IDisposable
{
    private readonly EventQueue _events = new();
    private readonly List<RaftNode> _nodes = [];
    private readonly List<RaftPacket> _packets = [];
    private readonly Stack<int> _freePackets = [];
    private readonly Stack<RaftPacket> _pool = [];
    private readonly Links _links;
    private readonly SimRandom _network;
    private readonly SimRandom _disks;
    private readonly SimRandom _order;
    private readonly List<nint> _memory = [];
    private readonly List<Fault> _faults;
    private long _diskNs;
    private long _storeNs;
    private bool _isHealed;
    private byte* _chunk;
    private int _chunkLeft;
    private ulong _sequence;
    private ulong _nextSerial = 1;

    public RaftWorld(SwarmConfig config, Coverage coverage, List<Fault>? faults = null)
    {
        Config = config;
        Coverage = coverage;
        var random = new SimRandom(config.Seed);
        Random = random.Fork("schedule");
        CrashRandom = random.Fork("crash");
        _network = random.Fork("network");
        _disks = random.Fork("disk");
        _order = random.Fork("order");
        _clientRandom = random.Fork("clients");
        _links = new Links(config.Links, random.Fork("links"));
        _faults = faults
            ?? FaultPlan.Draw(config.FaultClasses, config.FaultCount, config.SafetyNs, config.ElectionNs, random.Fork("faults"));
        _diskNs = config.DiskNs;
        _storeNs = config.StoreNs;
        Ledger = new Ledger(config.Keys);
        StartMembers();
        StartClients();
        for (int i = 0; i < _faults.Count; i++)
        {
            Schedule(RaftEvent.Fault, _faults[i].AtNs, i, 0, 0);
        }
    }

    public SwarmConfig Config { get; }

    public Coverage Coverage { get; }

    public Ledger Ledger { get; }

    public SimRandom Random { get; }

    public SimRandom CrashRandom { get; }

    public IReadOnlyList<Fault> Faults => _faults;

    public long NowNs { get; private set; }

    /// <summary>Messages delivered, flushes of disks, client operations.</summary>
    public long Events => Delivered + DiskCompletions + Asked;

    public long Delivered { get; private set; }

    public long DiskCompletions { get; set; }

    public long Asked { get; private set; }

    /// <summary>Client operations answered: writes that are committed, reads confirmed.</summary>
    public long Completed { get; private set; }

    /// <summary>Entries applied, over all members.</summary>
    public long Committed { get; set; }

    public long Elections { get; set; }

    public long SnapshotsTaken { get; set; }

    public long SnapshotsInstalled { get; set; }

    public long FaultsDone { get; private set; }

    public long LastCommitNs { get; set; }

    public RaftNode? LastLeader { get; set; }

    /// <summary>Rolls over everything that happened, in order.</summary>
    public ulong TraceHash { get; private set; } = 14695981039346656037;

    /// <summary>Prints every event when set.</summary>
    public System.IO.TextWriter? Trace { get; set; }

    public RaftNode? Node(ulong id) => id - 1 < (ulong)_nodes.Count ? _nodes[(int)id - 1] : null;

    /// <summary>Runs both phases.</summary>
    /// <exception cref="SimViolationException">A rule was broken.</exception>
    public void Run()
    {
        while (NowNs < Config.SafetyNs && Step())
        {
        }

        RunLiveness();
        CheckEnd();
    }

    public void Schedule(RaftEvent kind, long timeNs, int node, int generation, long argument) => _events.Add(new SimEvent
    {
        TimeNs = Math.Max(timeNs, NowNs),
        Order = (_order.NextUInt64() << 32) | (++_sequence & 0xffffffff),
        Kind = (byte)kind,
        Node = node,
        Generation = generation,
        Argument = argument,
    });

    public long DrawDiskNs()
    {
        long drawn = 1_000 + _disks.Below(2 * _diskNs);
        return Config.SlowDiskPercent > 0 && !_isHealed && _disks.Chance(Config.SlowDiskPercent) ? drawn * (2 + _disks.Below(100)) : drawn;
    }

    public long DrawStoreNs() => 500 + _disks.Below(2 * _storeNs);

    public RaftPacket Rent()
    {
        RaftPacket packet = _pool.TryPop(out RaftPacket? pooled) ? pooled : new RaftPacket();
        packet.Count = 0;
        packet.Image = null;
        return packet;
    }

    public void Return(RaftPacket packet)
    {
        packet.Image = null;
        packet.Message.SnapshotState = null;
        _pool.Push(packet);
    }

    /// <summary>Gives a packet to the network.</summary>
    public void Send(RaftNode from, RaftPacket packet)
    {
        ref RaftMessage message = ref packet.Message;
        Coverage.Sent(message.Type);
        if (Node(message.To) is not { } to || to == from)
        {
            Return(packet);
            return;
        }

        bool isSnapshot = message.Type == MessageType.Snapshot;
        bool isUrgent = message.Type is not (MessageType.Append or MessageType.Snapshot or MessageType.Propose);
        packet.Sender = from.Number;
        packet.Receiver = to.Number;
        packet.SenderBoot = from.Boot;
        packet.ReceiverBoot = to.Boot;
        packet.Connection = _links.Connection(from.Number, to.Number);
        Delivery delivery = _links.Send(from.Number, to.Number, isUrgent, NowNs);
        if (isSnapshot)
        {
            // Large: the data takes a while, and the transport knows how it ended.
            long slow = _network.Below(20 * (Config.Links.MeanNs + Config.Links.MinNs));
            delivery.FirstNs += slow;
            long giveUpNs = NowNs + (4 * Config.ElectionNs);
            bool arrives = delivery.Copies > 0 && to.IsUp && delivery.FirstNs <= giveUpNs;
            long reportNs = Math.Min(Math.Max(NowNs, delivery.FirstNs) + _network.Below(Config.ElectionNs), giveUpNs);
            if (!Mutations.Is(Mutation.SnapshotOutcomeNotReported))
            {
                Schedule(
                    RaftEvent.SnapshotSent, reportNs, from.Number, from.Generation,
                    ((long)message.To << 1) | (arrives ? 1L : 0));
            }
        }

        if (delivery.IsRefused && from.IsUp && !isSnapshot)
        {
            from.Core.ReportUnreachable(message.To);
        }

        if (delivery.Copies == 0)
        {
            Return(packet);
            return;
        }

        if (delivery.Copies == 2)
        {
            // Even a forwarded proposal: that it is appended once is up to the leader.
            RaftPacket copy = Rent();
            Copy(packet, copy);
            Schedule(RaftEvent.Arrive, delivery.SecondNs, Keep(copy), 0, 0);
        }

        Schedule(RaftEvent.Arrive, delivery.FirstNs, Keep(packet), 0, 0);
    }

    /// <summary>Memory that lives as long as the world.</summary>
    public byte* Allocate(int bytes)
    {
        bytes = (bytes + 7) & ~7;
        if (_chunkLeft < bytes)
        {
            _chunkLeft = Math.Max(bytes, 64 << 10);
            _chunk = (byte*)NativeMemory.AllocZeroed((nuint)_chunkLeft);
            _memory.Add((nint)_chunk);
        }

        byte* result = _chunk;
        _chunk += bytes;
        _chunkLeft -= bytes;
        return result;
    }

    public void Dispose()
    {
        foreach (RaftNode node in _nodes)
        {
            node.Crash();
        }

        foreach (nint chunk in _memory)
        {
            NativeMemory.Free((void*)chunk);
        }

        _memory.Clear();
    }

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"core seed {Config.Seed} options {Config.ToDigest()} trace {TraceHash:x16}: {Events} events, {NowNs / 1e9:f3} s, {Completed} operations, index {Ledger.LastIndex}, {Elections} leaders, {FaultsDone} faults");

    private static void Copy(RaftPacket from, RaftPacket to)
    {
        to.Message = from.Message;
        if (to.Entries.Length < from.Count)
        {
            to.Entries = new RaftEntry[from.Count];
        }

        Array.Copy(from.Entries, to.Entries, from.Count);
        to.Count = from.Count;
        to.Image = from.Image;
        to.SenderBoot = from.SenderBoot;
        to.ReceiverBoot = from.ReceiverBoot;
        to.Connection = from.Connection;
        to.Sender = from.Sender;
        to.Receiver = from.Receiver;
    }

    private int Keep(RaftPacket packet)
    {
        if (_freePackets.TryPop(out int slot))
        {
            _packets[slot] = packet;
            return slot;
        }

        _packets.Add(packet);
        return _packets.Count - 1;
    }

    private void StartMembers()
    {
        int count = Config.Voters + Config.Learners;
        var voters = new ulong[Config.Voters];
        var learners = new ulong[Config.Learners];
        for (int i = 0; i < count; i++)
        {
            (i < Config.Voters ? voters : learners)[i < Config.Voters ? i : i - Config.Voters] = (ulong)i + 1;
        }

        ulong first = Config.Bootstrap ? 0UL : 1;
        var state = new ConfState { Voters = voters, Learners = learners };
        Ledger.StartAt(first);
        _bootstrap = new RaftEntry[Config.Bootstrap ? count : 0];
        for (int i = 0; i < _bootstrap.Length; i++)
        {
            nint data = Encode(
                i < Config.Voters ? ConfChangeType.AddNode : ConfChangeType.AddLearnerNode, (ulong)i + 1, out int length);
            _bootstrap[i] = new RaftEntry { Type = EntryType.ConfChange, Data = (byte*)data, Length = length, Owner = data };
        }

        _start = new RegisterImage(
            new RegisterState(Config.Keys).StartAt(first), first, first, Config.Bootstrap ? ConfState.Empty : state);
        for (int i = 0; i < count; i++)
        {
            _nodes.Add(new RaftNode(this, i, _start, Config.Bootstrap ? default : new HardState(1, 0, 1), Config.Bootstrap));
            Start(_nodes[i]);
        }
    }

    private RaftEntry[] _bootstrap = [];
    private RegisterImage? _start;

    private void Start(RaftNode node)
    {
        // The first entries and the commit index over them are one piece; a crash before it is durable begins anew.
        bool isFirst = node.Number < _bootstrap.Length && node.Disk.Mark.Index == 0
            && node.Disk.State.Commit < (ulong)_bootstrap.Length;
        if (isFirst)
        {
            node.Disk.Wipe();
        }

        node.Start(isFirst ? _bootstrap : []);
    }

    /// <summary>Does one thing; false if nothing can happen any more.</summary>
    private bool Step()
    {
        if (_events.Count == 0)
        {
            return false;
        }

        SimEvent next = _events.Take();
        NowNs = Math.Max(NowNs, next.TimeNs);
        var kind = (RaftEvent)next.Kind;
        Mix((ulong)NowNs ^ ((ulong)next.Kind << 56) ^ ((ulong)(uint)next.Node << 40) ^ (ulong)next.Argument);
        if (Trace is not null)
        {
            WriteTrace(in next);
        }

        if (kind <= RaftEvent.Fetched && kind != RaftEvent.Arrive)
        {
            RaftNode node = _nodes[next.Node];
            if (node.Generation == next.Generation && node.IsUp)
            {
                Guard(node, in next);
            }

            return true;
        }

        switch (kind)
        {
            case RaftEvent.Arrive:
                Arrive(next.Node);
                break;
            case RaftEvent.Client:
                ClientAsks(next.Node);
                break;
            case RaftEvent.ClientTimeout:
                ClientGivesUp(next.Node, (ulong)next.Argument);
                break;
            case RaftEvent.Fault:
                FaultsDone++;
                Begin(next.Node);
                break;
            case RaftEvent.FaultEnds:
                End(next.Node, (int)next.Argument);
                break;
            case RaftEvent.SnapshotSent:
                if (_nodes[next.Node].IsUp && _nodes[next.Node].Generation == next.Generation)
                {
                    _nodes[next.Node].Core.ReportSnapshot((ulong)next.Argument >> 1, (next.Argument & 1) != 0);
                    _nodes[next.Node].Wake(0);
                }

                break;
        }

        return true;
    }

    private void Guard(RaftNode node, in SimEvent next)
    {
        switch ((RaftEvent)next.Kind)
        {
            case RaftEvent.Poll when node.IsPollFor(next.Argument):
                node.Poll();
                Mix(node.Core.Term ^ (node.Core.Commit << 20) ^ (node.Core.LastIndex << 42) ^ ((ulong)node.Core.Role << 62));
                break;
            case RaftEvent.DiskDone:
                node.DiskDone();
                break;
            case RaftEvent.StoreDone:
                node.StoreDone();
                break;
            case RaftEvent.TreeDone:
                node.TreeDone();
                break;
            case RaftEvent.Fetched:
                node.Fetched((ulong)next.Argument);
                break;
        }
    }

    private void Arrive(int slot)
    {
        RaftPacket packet = _packets[slot];
        _freePackets.Push(slot);
        _links.Left(packet.Sender, packet.Receiver);
        RaftNode to = _nodes[packet.Receiver];
        bool isLost = !to.IsUp || to.IsRemoved && to.IsStopped || _links.IsCut(packet.Sender, packet.Receiver)
            || !_links.Survives(packet.Sender, packet.Receiver, packet.Connection)
            || (Config.ChecksBoot && packet.ReceiverBoot != to.Boot);
        if (isLost)
        {
            Coverage.LostInNetwork++;
            Return(packet);
            return;
        }

        Delivered++;
        to.Receive(packet);
    }

    private void Mix(ulong value)
    {
        TraceHash = (TraceHash ^ value) * 0x9E3779B97F4A7C15;
        TraceHash ^= TraceHash >> 32;
    }

    private void WriteTrace(in SimEvent next)
    {
        string detail = (RaftEvent)next.Kind switch
        {
            RaftEvent.Arrive => Describe(_packets[next.Node]),
            RaftEvent.Fault => _faults[next.Node].ToString(),
            RaftEvent.Client or RaftEvent.ClientTimeout => "client " + next.Node.ToString(CultureInfo.InvariantCulture),
            RaftEvent.FaultEnds => "fault " + next.Node.ToString(CultureInfo.InvariantCulture),
            _ => _nodes[next.Node].ToString(),
        };
        Trace!.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{NowNs / 1e6,12:f4} {(RaftEvent)next.Kind,-13} {detail}"));
    }

    private static string Describe(RaftPacket packet)
    {
        RaftMessage m = packet.Message;
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{packet.Sender + 1}->{packet.Receiver + 1} {m.Type} term {m.Term} index {m.Index}/{m.LogTerm} +{m.EntryCount} commit {m.Commit} hint {m.Hint} context {m.Context}{(m.IsReject ? " reject" : "")}");
    }
}
