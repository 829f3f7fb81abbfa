// RaftNode: one member at core level: the core, its disk, its store, and what RaftActor does around them, in one Poll.
//
// Order of a poll: acknowledgements of the disk, of the store, messages, proposals and reads, time, then effects: units,
// messages, entries to apply, reads. Frames that rest on a unit leave when the disk has it, without asking raft.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftNode : IPayloadOwner, IDisposable
{
    private readonly RaftWorld _world;
    private readonly List<RaftPacket> _inbox = [];
    private readonly List<RaftPacket> _held = [];
    private readonly RaftProposal[] _batch = new RaftProposal[64];
    private readonly RaftEntry[] _copied = new RaftEntry[256];
    private readonly Queue<ClientRequest> _requests = [];
    private RaftCore? _core;
    private RaftRole _seenRole;
    private ulong _seenTerm;
    private ulong _seenCommit;
    private int _livePayloads;
    private long _polledForNs = long.MaxValue;

    public RaftNode(RaftWorld world, int number, RegisterImage start, HardState state, bool isEmpty)
    {
        _world = world;
        Number = number;
        Id = (ulong)number + 1;
        Disk = new RaftDisk(Id, world.Ledger, start, state);
        Tree = start;
        IsNew = isEmpty;
        Store = start.State.Copy();
        ClockPermille = 1000 + (world.Config.ClockErrorPermille == 0 ? 0
            : world.Random.Below((2 * world.Config.ClockErrorPermille) + 1) - world.Config.ClockErrorPermille);
    }

    public int Number { get; }

    public ulong Id { get; }

    public RaftDisk Disk { get; }

    public RaftCore Core => _core!;

    public bool IsUp => _core is not null;

    /// <summary>Its disk is empty: nothing was ever written.</summary>
    public bool IsNew { get; private set; }

    /// <summary>Was taken out of the cluster, or is about to be: not needed for anything.</summary>
    public bool IsRemoved { get; set; }

    /// <summary>Was shut down for good.</summary>
    public bool IsStopped { get; set; }

    /// <summary>Grows with every crash, so that events of former lives are void.</summary>
    public int Generation { get; private set; }

    public ulong Boot { get; private set; }

    public long PausedUntilNs { get; set; }

    public long DiskStalledUntilNs { get; set; }

    public long StoreStalledUntilNs { get; set; }

    public int ClockPermille { get; }

    public long Now => _world.NowNs / 1000 * ClockPermille;

    public void Release(nint owner) => _livePayloads--;

    /// <summary>Starts from what the disk holds.</summary>
    public void Start(ReadOnlySpan<RaftEntry> bootstrap)
    {
        Boot = _world.Random.NextUInt64();
        var entries = new List<RaftEntry>();
        for (ulong i = Disk.Mark.Index + 1; i <= Disk.LastIndex; i++)
        {
            _ = Disk.TryGet(i, out RaftEntry entry);
            entries.Add(Own(entry));
        }

        SwarmConfig config = _world.Config;
        _core = new RaftCore(
            new RaftConfig
            {
                Id = Id,
                TickNs = config.TickNs,
                ElectionTicks = config.ElectionTicks,
                HeartbeatTicks = config.HeartbeatTicks,
                PreVote = config.PreVote,
                MaxMessageEntries = config.MaxMessageEntries,
                MaxMessageBytes = config.MaxMessageBytes,
                MaxInFlightMessages = config.MaxInFlight,
                MaxUncommittedBytes = config.MaxUncommittedBytes,
                ControlReserveBytes = config.MaxUncommittedBytes / 4,
                MaxApplyingBytes = config.MaxApplyingBytes,
                MaxUnitEntries = config.MaxUnitEntries,
                RetainEntries = config.RetainEntries,
                CommitFlushNs = config.TickNs * 10,
                Boot = Boot,
            },
            this, Disk.State, Disk.Mark.Configuration, Disk.Mark.Index, Disk.Mark.Term,
            System.Runtime.InteropServices.CollectionsMarshal.AsSpan(entries), _world.Random.Fork("core"));
        if (!bootstrap.IsEmpty)
        {
            foreach (ref readonly RaftEntry entry in bootstrap)
            {
                _livePayloads += entry.Owner != 0 ? 1 : 0;
            }

            _core.Bootstrap(bootstrap);
        }

        IsNew = false;
        _seenRole = RaftRole.Follower;
        _seenTerm = _core.Term;
        _seenCommit = Disk.Mark.Index;
        StartStore();
        _core.Tick(Now);
        Check();
        Wake(0);
    }

    public void Dispose() => Crash();

    /// <summary>Ends without warning; a drawn prefix of what was being written survives.</summary>
    public void Crash()
    {
        if (_core is null)
        {
            return;
        }

        _world.Coverage.CrashedWith(_core, Disk);
        foreach (RaftPacket packet in _inbox)
        {
            _world.Return(packet);
        }

        foreach (RaftPacket packet in _held)
        {
            _world.Return(packet);
        }

        _inbox.Clear();
        _held.Clear();
        _requests.Clear();
        _world.ForgetWaiters(this);
        Generation++;
        _polledForNs = long.MaxValue;
        _core.Dispose();
        _core = null;
        SimCheck.That(_livePayloads == 0, $"{Id} kept {_livePayloads} payloads");
        Disk.Crash(_world.CrashRandom);
        CrashStore();
    }

    public void Receive(RaftPacket packet)
    {
        if (_inbox.Count >= 4096)
        {
            _world.Return(packet);
            return;
        }

        _inbox.Add(packet);
        Wake(_world.Random.Below(3_000));
    }

    public void Ask(ClientRequest request)
    {
        _requests.Enqueue(request);
        Wake(_world.Random.Below(3_000));
    }

    public void Wake(long delayNs) => WakeAt(_world.NowNs + delayNs);

    public void Poll()
    {
        _polledForNs = long.MaxValue;
        if (_world.NowNs < PausedUntilNs)
        {
            WakeAt(PausedUntilNs);
            return;
        }

        RaftCore core = Core;
        if (_durable > 0)
        {
            core.WalDurable(_durable);
            _durable = 0;
            Check();
        }

        TakeApplied();
        foreach (RaftPacket packet in _inbox)
        {
            _world.Coverage.Stepped(core, in packet.Message);
            if (packet.Message.Type == MessageType.Snapshot && packet.Image is { } image)
            {
                Disk.Files.Add(image); // its data is durable before raft hears of it
            }

            for (int i = 0; i < packet.Count; i++)
            {
                _livePayloads += packet.Entries[i].Owner != 0 ? 1 : 0;
            }

            core.Step(in packet.Message, packet.Entries.AsSpan(0, packet.Count));
            Check();
            _world.Return(packet);
        }

        _inbox.Clear();
        TakeRequests();
        core.Tick(Now);
        Check();
        GiveEffects();
        long deadline = core.NextDeadlineNs;
        if (deadline != long.MaxValue)
        {
            WakeAt(Math.Max(_world.NowNs + 1, (deadline / ClockPermille * 1000) + 1000));
        }
    }

    /// <summary>Everything a global observer can see after an input (raft.md section 3.1).</summary>
    private void Check()
    {
        RaftCore core = Core;
        ulong commit = core.Commit;
        if (core.Term == _seenTerm && core.Role == _seenRole && commit == _seenCommit)
        {
            return;
        }

        Ledger ledger = _world.Ledger;
        SimCheck.That(core.Term >= _seenTerm && commit >= _seenCommit, $"R7: term or commit of {Id} went back");
        if (core.Role == RaftRole.Leader && ledger.Leads(core.Term, Id, Boot))
        {
            _world.Elections++;
            _world.LastLeader = this;
            CheckLeaderIsComplete(ledger);
        }

        if (commit > _seenCommit)
        {
            CheckCommitted(ledger, commit);
        }

        _seenTerm = core.Term;
        _seenRole = core.Role;
        _seenCommit = commit;
    }

    /// <summary>R5. One that hears late that it was elected need not have what later terms committed.</summary>
    private void CheckLeaderIsComplete(Ledger ledger)
    {
        for (ulong i = Math.Max(Core.CompactedIndex + 1, 1); i <= ledger.LastIndex; i++)
        {
            if (ledger.Has(i) && ledger.At(i).CommittedInTerm < Core.Term)
            {
                SimCheck.That(
                    Core.TryGetTerm(i, out ulong term) == LogAnswer.Ready && term == ledger.At(i).Term,
                    $"R5: {Id} leads term {Core.Term} without the committed entry {i} of term {ledger.At(i).Term}");
            }
        }
    }

    private void CheckCommitted(Ledger ledger, ulong commit)
    {
        for (ulong i = Math.Max(_seenCommit + 1, Core.CompactedIndex + 1); i <= commit; i++)
        {
            if (Core.Locate(i) == LogAnswer.Ready)
            {
                Core.CopyEntries(i, _copied.AsSpan(0, 1));
                ledger.Commits(Id, Core.Term, in _copied[0]);
            }
        }

        _world.LastCommitNs = _world.NowNs;
        if (Core.Role == RaftRole.Leader && ledger.Has(commit))
        {
            // R8: from disk images, not from what anybody says.
            ulong term = ledger.At(commit).Term;
            SimCheck.That(
                term == Core.Term || Core.CompactedIndex >= commit, $"R8: {Id} commits {commit} of term {term} in term {Core.Term}");
            CheckHolders(Core.Configuration.Incoming, commit, term);
            CheckHolders(Core.Configuration.Outgoing, commit, term);
        }
    }

    private void CheckHolders(ulong[] half, ulong index, ulong term)
    {
        int holders = 0;
        foreach (ulong id in half)
        {
            holders += _world.Node(id) is { } node && node.Disk.Holds(index, term) ? 1 : 0;
        }

        SimCheck.That(
            half.Length == 0 || holders > half.Length / 2,
            $"R8: {Id} commits {index} of term {term}, durable on {holders} of {half.Length}");
    }

    private void WakeAt(long timeNs)
    {
        if (timeNs < _polledForNs)
        {
            _polledForNs = timeNs;
            _world.Schedule(RaftEvent.Poll, timeNs, Number, Generation, timeNs);
        }
    }

    /// <summary>An event for a time that was brought forward since is void.</summary>
    public bool IsPollFor(long timeNs) => timeNs == _polledForNs;

    public override string ToString() => _core is null
        ? $"{Id} is down"
        : string.Create(
            System.Globalization.CultureInfo.InvariantCulture,
            $"{Id} {Core.Role} term {Core.Term} leader {Core.Leader} log {Core.CompactedIndex}..{Core.LastIndex} durable {Core.Durable} commit {Core.Commit} applied {Core.Applied} store {_applied} tree {Tree.Index} snapshot {_snapshot?.Index} pending {Core.PendingSnapshot} voters {string.Join(',', Core.Configuration.Incoming)}/{string.Join(',', Core.Configuration.Outgoing)} learners {string.Join(',', Core.Configuration.Learners)}");

    private RaftEntry Own(RaftEntry entry)
    {
        _livePayloads += entry.Owner != 0 ? 1 : 0;
        return entry;
    }
}

/// <summary>A message under way with its entries.</summary>
internal sealed class RaftPacket
{
    public RaftMessage Message;
    public RaftEntry[] Entries = new RaftEntry[4];
    public int Count;
    public RegisterImage? Image;
    public ulong SenderBoot;
    public ulong ReceiverBoot;
    public int Connection;
    public int Sender;
    public int Receiver;
}

/// <summary>What a client asks of a member.</summary>
internal readonly record struct ClientRequest(int Client, ulong Serial, bool IsRead, nint Operation, EntryType Type, int Length);
