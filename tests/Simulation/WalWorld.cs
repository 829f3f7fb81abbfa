// WalWorld: one log on a simulated disk with a model beside it of what was given and what was acknowledged.
//
// The model is a list of states of the log, one after each record in the order they were given (snapshot marks and
// hard states change nothing in it). After a crash the log must hold one of these states, at or after the last one
// acknowledged: a prefix of what was given that covers everything promised.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Runtime.InteropServices;
using Cairn.Wal;
using Xunit;

namespace Cairn.Simulation;

internal sealed unsafe class WalWorld : ICrashWorld
{
    public static readonly WalOptions Options = new()
    {
        SegmentBytes = 32 << 10,
        FillPauseNs = 100_000,
        FillChunkBytes = 4 << 10,
        QuietNs = 20_000_000,
        PurgeIntervalNs = 50_000_000,
        MaxSegments = 0,
        QueueCapacity = 8,
        BatchBytes = 16 << 10,
    };

    private static readonly byte[] Metadata = [8, 1, 16, 2];

    private readonly SimRandom _random;
    private readonly List<nint> _memory = [];
    private readonly List<(ulong Sequence, int Record, WalHardState State)> _units = [];
    private WalLog? _log;
    private WalActor? _actor;
    private WalFillActor? _fill;
    private SimScheduler? _scheduler;
    private ulong _sequence;

    public WalWorld(SimRandom random)
    {
        _random = random;
        Files = new SimFileSystem(random.Fork("disk"));
        Files.CreateDirectory("/data");
        Files.SyncDirectory("/");
    }

    public SimFileSystem Files { get; set; }

    /// <summary>The log after each record; the first is the one recovered last.</summary>
    private List<List<(ulong Term, byte[] Payload)>> States { get; } = [[]];

    /// <summary>Position in <see cref="States"/> that must not be lost.</summary>
    private int Acknowledged { get; set; }

    private WalHardState AcknowledgedState { get; set; }

    private WalHardState GivenState { get; set; }

    /// <summary>Opens the log, or makes it, and checks what it holds against the model; nothing if it is open.</summary>
    public void Start()
    {
        if (_log is not null)
        {
            return;
        }

        _scheduler = new SimScheduler(_random.Fork("schedule"), new SimClock());
        Files.Scheduler = _scheduler;
        if (WalDirectory.Exists(Files, "/data/wal"))
        {
            _log = WalDirectory.OpenForAppend(Files, "/data/wal", default, Options, out WalRecovery recovery);
            using (recovery)
            {
                CheckRecovered(recovery);
            }
        }
        else
        {
            Assert.True(Acknowledged == 0 && AcknowledgedState.IsEmpty, "the log is gone");
            _log = WalDirectory.Create(Files, "/data/wal", Metadata, Options);
            Restart([], default);
        }

        _actor = new WalActor(_log, _scheduler.Clock, new SimFatal());
        _fill = new WalFillActor(_log, _scheduler.Clock);
        _actor.Self = _scheduler.Add(_actor);
        _fill.Self = _scheduler.Add(_fill);
        _sequence = 0;
    }

    /// <summary>Gives some units of random shape and runs until all are acknowledged.</summary>
    public void Work(int units)
    {
        for (int i = 0; i < units; i++)
        {
            Give();
            while (_random.Chance(70) && _scheduler!.Step())
            {
                TakeAcknowledgements();
            }
        }

        Assert.True(
            _scheduler!.RunUntil(() => _actor!.DurableSequence == _sequence, 60_000_000_000), "the log stands still");
        TakeAcknowledgements();
    }

    /// <summary>Lets time pass without new units, so that the last batch gets its witness.</summary>
    public void Rest() => _scheduler!.RunUntil(() => false, 200_000_000);

    /// <summary>Drops everything in memory, as a crash does. The disk must be dead.</summary>
    public void Drop()
    {
        TakeAcknowledgements();
        Abandon(_fill);
        Abandon(_actor);
        Abandon(_log);
        _actor = null;
        _fill = null;
        _log = null;
        foreach (nint block in _memory)
        {
            NativeMemory.Free((void*)block);
        }

        _memory.Clear();
        _units.Clear();
    }

    public void Dispose()
    {
        Files.Cut();
        Drop();
    }

    /// <summary>Frees memory; what it wants to tidy on the dead disk does not happen.</summary>
    private static void Abandon(IDisposable? part)
    {
        try
        {
            part?.Dispose();
        }
        catch (PowerLossException)
        {
        }
    }

    private void Give()
    {
        List<(ulong Term, byte[] Payload)> log = States[^1];
        var unit = new WalUnit { Sequence = _sequence + 1 };
        // A torn batch may leave entries of a term whose state record is lost; raft goes on from the higher one.
        ulong lastTerm = log.Count == 0 ? 1 : log[^1].Term;
        ulong term = Math.Max(lastTerm, Math.Max(1, GivenState.Term)) + (_random.Chance(10) ? 1UL : 0UL);
        int kind = _random.Below(10);
        if (kind < 8)
        {
            // A follower's log may be cut back, never below what is committed.
            ulong first = (ulong)log.Count + 1;
            if (kind == 0 && (ulong)log.Count > GivenState.Commit)
            {
                first = GivenState.Commit + 1 + (ulong)_random.Below((long)((ulong)log.Count - GivenState.Commit));
                term++;
            }

            FillEntries(ref unit, term, first);
        }

        ulong last = (ulong)States[^1].Count;
        if (kind >= 6 || term != GivenState.Term)
        {
            GivenState = new WalHardState(
                term,
                term != GivenState.Term ? 1UL + (ulong)_random.Below(3) : GivenState.Vote,
                GivenState.Commit + (ulong)_random.Below((long)(last - GivenState.Commit) + 1));
            unit.HasHardState = true;
            (unit.Term, unit.Vote, unit.Commit) = (GivenState.Term, GivenState.Vote, GivenState.Commit);
        }

        if (_actor!.TryEnqueue(unit))
        {
            _sequence++;
            _units.Add((_sequence, States.Count - 1, GivenState));
            return;
        }

        // The queue is full: raft would hold the unit and try again.
        Assert.True(_scheduler!.RunUntil(() => _actor.TryEnqueue(unit), 60_000_000_000), "the queue stays full");
        _sequence++;
        _units.Add((_sequence, States.Count - 1, GivenState));
    }

    private void FillEntries(ref WalUnit unit, ulong term, ulong first)
    {
        int count = 1 + _random.Below(4);
        unit.Entries = (WalEntry*)Allocate(count * sizeof(WalEntry));
        unit.EntryCount = count;
        for (int i = 0; i < count; i++)
        {
            byte[] payload = new byte[_random.Chance(10) ? _random.Below(6000) : _random.Below(300)];
            if (_random.Chance(80))
            {
                // The rest stays zero: sectors of zeros are what a torn write looks like.
                _random.Fill(payload);
            }

            byte* data = (byte*)Allocate(payload.Length);
            payload.CopyTo(new Span<byte>(data, payload.Length));
            unit.Entries[i] = new WalEntry
            {
                Term = term,
                Index = first + (ulong)i,
                Data = payload.Length == 0 ? null : data,
                Length = payload.Length,
            };
            List<(ulong Term, byte[] Payload)> next = States[^1].GetRange(0, (int)(first - 1) + i);
            next.Add((term, payload));
            States.Add(next);
        }
    }

    private void TakeAcknowledgements()
    {
        if (_actor is null)
        {
            return;
        }

        foreach ((ulong sequence, int record, WalHardState state) in _units)
        {
            if (sequence <= _actor.DurableSequence)
            {
                Acknowledged = Math.Max(Acknowledged, record);
                AcknowledgedState = state;
            }
        }

        _units.RemoveAll(unit => unit.Sequence <= _actor.DurableSequence);
    }

    private void CheckRecovered(WalRecovery recovery)
    {
        var found = new List<(ulong Term, byte[] Payload)>();
        foreach (WalEntry entry in recovery.Entries)
        {
            Assert.Equal((ulong)found.Count + 1, entry.Index);
            found.Add((entry.Term, entry.Payload.ToArray()));
        }

        Assert.Equal(Metadata, recovery.Metadata);
        WalHardState state = recovery.HardState;
        int match = States.FindIndex(Acknowledged, candidate => Same(candidate, found));
        Assert.True(match >= 0, string.Create(
            CultureInfo.InvariantCulture,
            $"recovered {found.Count} entries, which is no state from the acknowledged one ({States[Acknowledged].Count} entries, record {Acknowledged} of {States.Count - 1}) on"));
        Assert.InRange(state.Term, AcknowledgedState.Term, GivenState.Term);
        Assert.True(state.Term != AcknowledgedState.Term || state.Vote == AcknowledgedState.Vote, "a vote was forgotten");
        Assert.True(state.Commit <= GivenState.Commit, "a commit index was made up");
        Assert.True(state.Commit <= (ulong)found.Count, "commit is beyond the log");
        Restart(found, state);
    }

    /// <summary>What was found is all there is now, and durable.</summary>
    private void Restart(List<(ulong Term, byte[] Payload)> log, WalHardState state)
    {
        States.Clear();
        States.Add(log);
        Acknowledged = 0;
        AcknowledgedState = state;
        GivenState = state;
    }

    private static bool Same(List<(ulong Term, byte[] Payload)> left, List<(ulong Term, byte[] Payload)> right)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        for (int i = 0; i < left.Count; i++)
        {
            if (left[i].Term != right[i].Term || !left[i].Payload.AsSpan().SequenceEqual(right[i].Payload))
            {
                return false;
            }
        }

        return true;
    }

    private void* Allocate(int bytes)
    {
        void* block = NativeMemory.Alloc((nuint)Math.Max(bytes, 1));
        _memory.Add((nint)block);
        return block;
    }
}
