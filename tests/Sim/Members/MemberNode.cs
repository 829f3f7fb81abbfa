// MemberNode: one place where a member runs: its disk, its clock, its process now and then. The member is the shipping one.
//
// Crash      the object graph is dropped; what the disk model leaves is what the next process opens.
// Clock      runs a little fast or slow; its wall time steps ahead at each start, as numbering of requests by time needs.
// Pause      nothing of the process is polled (garbage collection, a moved virtual machine), or only one actor (a disk that
//            stands still under the log, a store that waits for a page).
using System;
using System.Collections.Generic;
using System.Globalization;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Microsoft.Extensions.Logging.Abstractions;

namespace Cairn.Simulation;

internal sealed class MemberNode : IApplyObserver
{
    private readonly MembersWorld _world;
    private readonly NodeClock _clock;
    private readonly List<Guard> _guards = [];
    private readonly bool _joins;
    private (ulong Index, ulong Term) _durable; // what raft took for durable when it last ran
    private int _starts;
    private int _crashes;

    public MemberNode(MembersWorld world, int number, bool joins)
    {
        _world = world;
        Number = number;
        _joins = joins;
        Files = new SimFileSystem(world.Random.Fork("disk" + Text(number)));
        int error = world.Config.ClockErrorPermille;
        _clock = new NodeClock(world, error == 0 ? 1000 : 1000 - error + world.Random.Below((2 * error) + 1));
    }

    public int Number { get; }

    /// <summary>Time as this machine has it.</summary>
    public IClock Clock => _clock;

    /// <summary>The cluster it joins, once that knows it; null before, and for the first members.</summary>
    public JoinedCluster? Joined { get; set; }

    public string Name => "m" + Text(Number);

    public SimFileSystem Files { get; private set; }

    /// <summary>Null while no process runs.</summary>
    public Member? Member { get; private set; }

    /// <summary>The id it had when it last ran; 0 before.</summary>
    public ulong Id { get; private set; }

    /// <summary>Grows with each start, so that what belongs to a former process is void.</summary>
    public int Generation { get; private set; }

    public bool NextCutIsPower { get; set; }

    /// <summary>A sync was made to fail: that the member stops itself is expected.</summary>
    public bool IsSyncFailing { get; set; }

    /// <summary>It was removed from the cluster, and knows.</summary>
    public bool IsGone { get; private set; }

    public long PausedUntilNs { get; set; }

    public long DiskStalledUntilNs { get; set; }

    public long StoreStalledUntilNs { get; set; }

    /// <summary>A client gets through to it.</summary>
    public bool IsServing => Member is not null && _world.NowNs >= PausedUntilNs && !Files.IsDead;

    public static string Url(int number) => string.Create(CultureInfo.InvariantCulture, $"http://10.0.0.{number + 1}:2380");

    public void Applied(in CommittedEntry entry, ErrorCode outcome) => _world.Ledger.Applied(this, in entry, outcome);

    public void Installed(ulong index)
    {
        _world.SnapshotsInstalled++;
        _world.Note(index);
    }

    /// <summary>Starts a process, if none runs and the member may still take part.</summary>
    public void Start()
    {
        if (Member is not null || IsGone || (_joins && Joined is null))
        {
            return;
        }

        Files.Scheduler = _world.Scheduler;
        Generation++;
        _clock.WallStepMs += 20_000;
        try
        {
            Member = Member.Open(Options(), new MemberEnvironment
            {
                FileSystem = Files,
                Clock = _clock,
                Random = _world.Random.Fork(Name + Text(++_starts)),
                Fatal = new SimFatal(),
                Pool = _world.Pool,
                Log = NullLogger.Instance,
                Transport = _world.Network.NewPort(),
                Observer = this,
            });
        }
        catch (PowerLossException)
        {
            _world.Coverage.Hit("power cut in recovery");
            Died(NextCutIsPower);
            return;
        }
        catch (MemberStartException e) when (e.Message.Contains("permanently removed", StringComparison.Ordinal))
        {
            IsGone = true;
            return;
        }
        catch (MemberStartException e) when (IsSyncFailing && e.Message.Contains("Input/output error", StringComparison.Ordinal))
        {
            _world.Coverage.Hit("start refused: a sync failed");
            Died(power: false);
            _world.StartLater(this, _world.Config.ElectionNs);
            return;
        }

        Id = Member.Id;
        CheckRecovered();
        foreach (MemberActor actor in Member.Actors)
        {
            var guard = new Guard(this, actor.Actor);
            _guards.Add(guard);
            actor.Attach(_world.Scheduler.Add(guard));
        }
    }

    /// <summary>The process ends, by itself or not.</summary>
    public void Down(bool power)
    {
        if (Member is not { } member)
        {
            return;
        }

        Member = null;
        Generation++;
        foreach (Guard guard in _guards)
        {
            _world.Scheduler.Remove(guard);
        }

        _guards.Clear();
        _world.Network.Kill(member.Id);
        SimFileSystem before = Files;
        Died(power);
        before.IsAbandoned = true;
        member.Dispose();
        if (power)
        {
            before.Free(); // what is left of it was copied
        }
    }

    /// <summary>After each step of the world.</summary>
    public void Look()
    {
        if (Member is null)
        {
            return;
        }

        if (Files.IsDead)
        {
            Down(NextCutIsPower);
        }
        else if (Member.Stopped.IsCompleted)
        {
            IsGone |= Member.StopReason is not null;
            if (Member.StopReason is not null)
            {
                _world.Coverage.Hit("removed member stopped itself");
            }

            Down(power: false);
            if (!IsGone)
            {
                Start();
            }
        }
    }

    /// <summary>What a client reads, at the newest view.</summary>
    /// <returns>The outcome, the revision of the view, and the answer if there is one.</returns>
    public (ErrorCode Outcome, long Revision, StoreResponse? Response) Read(StoreRequest request)
    {
        var output = new NativeBuffer(_world.Pool);
        Cairn.Core.Mvcc.MvccStore store = Member!.Store;
        Cairn.Core.Mvcc.ViewPin pin = store.Pin();
        try
        {
            ErrorCode outcome = store.Range(Wire.Range(request), pin, Member.Header, ref output);
            return (outcome, pin.Revision, outcome == ErrorCode.None ? Wire.Decode(request, true, output.WrittenSpan) : null);
        }
        finally
        {
            store.Unpin(pin);
            output.Free();
        }
    }

    /// <summary>M1, M3: everything it holds at its revision is what the model holds there.</summary>
    public void CheckContents(string when)
    {
        StoreRequest all = StoreRequest.Range("a", "z");
        (ErrorCode outcome, long revision, StoreResponse? response) = Read(all);
        SimCheck.That(outcome == ErrorCode.None, $"M1: {Name} cannot be read {when}: {outcome}");
        StoreOpResult expected = _world.Ledger.Model.ReadAt(all.Read!, 0, revision);
        SimCheck.That(
            response!.Results[0].IsSame(expected),
            $"M1: {Name} {when} holds at revision {revision}\n  {string.Join(' ', response.Results[0].Pairs)}\nthe model\n  {string.Join(' ', expected.Pairs)}");
    }

    public override string ToString() => Member is { } member
        ? $"{Name} {member.Id:x}: {member.Status}"
        : $"{Name} {Id:x} is down{(IsGone ? " for good" : "")}";

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private void NoteDurable(RaftCore core)
    {
        if (core.TryGetTerm(core.Durable, out ulong term) == LogAnswer.Ready)
        {
            _durable = (core.Durable, term);
        }
    }

    /// <summary>R9: what raft built on before the process ended is there; M3: so is what the tree holds, and nothing else.</summary>
    private void CheckRecovered()
    {
        MemberStatus status = Member!.Status;
        RaftCore core = Member.Raft;
        bool isThere = core.CompactedIndex >= _durable.Index
            || (core.TryGetTerm(_durable.Index, out ulong term) == LogAnswer.Ready && term == _durable.Term);
        SimCheck.That(
            isThere, $"R9: {Name} had made {_durable} durable; its log begins behind {core.CompactedIndex} and ends at {core.LastIndex}");
        _world.Ledger.CheckRevision(this, status.AppliedIndex, status.Revision);
        CheckContents("after recovery");
    }

    private void Died(bool power)
    {
        _crashes++;
        _world.Coverage.Crashes++;
        _world.Crashes++;
        SimRandom random = _world.Random.Fork(Name + "crash" + Text(_crashes));
        Survival survival = (Survival)random.Below((int)Survival.Prefix + 1);
        Files = power ? Files.PowerLoss(survival, random) : Files.ProcessDeath(random);
        IsSyncFailing = false;
        PausedUntilNs = DiskStalledUntilNs = StoreStalledUntilNs = 0;
    }

    private MemberOptions Options()
    {
        MemberSwarm config = _world.Config;
        return new MemberOptions
        {
            Name = Name,
            DataDir = "/var/lib/cairn",
            InitialAdvertisePeerUrls = [Url(Number)],
            AdvertiseClientUrls = [string.Create(CultureInfo.InvariantCulture, $"http://10.0.0.{Number + 1}:2379")],
            InitialCluster = _world.Initial,
            InitialClusterToken = "simulation",
            InitialClusterState = _joins ? InitialClusterState.Existing : InitialClusterState.New,
            Joined = Joined,
            StrictReconfigCheck = config.StrictReconfigCheck,
            MaxLearners = 2,
            RequestSlots = 16,
            ColdReaders = 1,
            ElectionMs = config.ElectionMs,
            HeartbeatMs = config.HeartbeatMs,
            SnapshotCount = config.SnapshotCount,
            CatchupEntries = config.CatchupEntries,
            BatchLimit = config.BatchLimit,
            BatchIntervalMs = config.BatchIntervalMs,
            WalSegmentBytes = config.WalSegmentBytes,
            CompactionBatchLimit = config.CompactionBatchLimit,
            MaxWals = 2,
            MaxSnapshots = 2,
            TreeReserveBytes = 16 << 20,
            WatchLimits = new Cairn.Core.Mvcc.Watch.WatchOptions
            {
                StreamBytesMax = config.WatchStreamBytes,
                StreamBytesLow = config.WatchStreamBytes,
                ProgressIntervalNs = config.ElectionNs,
                CatchUpRevisions = config.WatchStreamBytes < 1 << 20 ? 4 : 4096,
                ResponseRevisionsMax = config.WatchStreamBytes < 1 << 20 ? 3 : 1000,
            },
        };
    }

    private sealed class NodeClock(MembersWorld world, int permille) : IClock
    {
        public long WallStepMs { get; set; }

        public long NowNs => Here(world.NowNs);

        public long UnixMilliseconds => 1_800_000_000_000 + WallStepMs + (NowNs / 1_000_000);

        public long Here(long simNs) => MembersWorld.StartNs + ((simNs - MembersWorld.StartNs) * permille / 1000);

        public long There(long nodeNs) => nodeNs > 1L << 52 ? long.MaxValue
            : nodeNs <= MembersWorld.StartNs ? nodeNs
            : MembersWorld.StartNs + ((((nodeNs - MembersWorld.StartNs) * 1000) + permille - 1) / permille);
    }

    /// <summary>An actor whose disk may die under it, that may be held up, and whose clock is the node's.</summary>
    private sealed class Guard(MemberNode node, IActor actor) : IActor
    {
        private readonly bool _isRaft = actor.RoleName == "raft";
        private readonly bool _isWal = actor.RoleName == "wal";
        private readonly bool _isStore = actor.RoleName == "store";
        private bool _owesPoll;

        public string RoleName => actor.RoleName;

        public long NextDeadlineNs => node.Files.IsDead ? long.MaxValue
            : _owesPoll ? HeldUntilNs
            : Math.Max(node._clock.There(actor.NextDeadlineNs), HeldUntilNs);

        private long HeldUntilNs => Math.Max(
            node.PausedUntilNs, _isWal ? node.DiskStalledUntilNs : _isStore ? node.StoreStalledUntilNs : 0);

        public bool Poll(long nowNs)
        {
            if (node.Files.IsDead)
            {
                return false;
            }

            if (nowNs < HeldUntilNs)
            {
                _owesPoll = true;
                return false;
            }

            _owesPoll = false;
            try
            {
                bool worked = actor.Poll(node._clock.NowNs);
                if (node.Member is { } member)
                {
                    if (_isRaft)
                    {
                        node.NoteDurable(member.Raft);
                        node._world.LookAtLeader(node, member);
                    }
                    else if (_isStore)
                    {
                        MemberStatus status = member.Status;
                        node._world.Ledger.CheckRevision(node, status.AppliedIndex, status.Revision);
                    }
                }

                return worked;
            }
            catch (PowerLossException)
            {
                return false;
            }
            catch (MemberStoppedException e)
            {
                SimCheck.That(node.IsSyncFailing, $"{node.Name} stopped itself: {e}");
                node._world.Coverage.Hit("member stopped by a failed sync");
                node.NextCutIsPower = false;
                node.Files.Cut();
                return false;
            }
        }
    }
}
