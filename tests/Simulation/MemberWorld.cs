// MemberWorld: a whole member on a simulated disk, under a seeded scheduler, with clients and a model.
//
// The model is the state of every key after each revision. A write that was answered has a revision, and what it did
// is known; one whose answer was lost in a crash may have been applied or not. After each crash the revisions found
// are walked one by one: an answered revision must hold exactly what was answered, any other must be explained by one
// unanswered write that explains nothing else. So an acknowledged write can neither be lost nor changed, and a
// revision neither repeated nor taken back. What older revisions hold, and HashKV, must not change over a crash.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Core.Tests.Server;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Cairn.Simulation;

internal sealed class MemberWorld : IDisposable
{
    private const long PatienceNs = 120_000_000_000;
    private const int KeyCount = 12;

    private static readonly NativePool Pool = new(1 << 20);

    private readonly SimRandom _random;
    private readonly SimClock _clock = new();
    private readonly List<Write> _inFlight = [];
    private readonly List<Write> _unanswered = [];
    private readonly SortedDictionary<long, Write> _answered = [];
    private readonly SortedDictionary<long, KeyState> _states = [];
    private readonly Dictionary<long, HashKvResult> _hashes = [];
    private SimScheduler? _scheduler;
    private Member? _member;
    private long _verified = 1;
    private long _compacted = -1;
    private long _compactionAsked = -1;
    private int _serial;

    public MemberWorld(SimRandom random)
    {
        _random = random;
        Files = new SimFileSystem(random.Fork("disk"));
        _states.Add(1, new KeyState());
    }

    public SimFileSystem Files { get; set; }

    public SimFatal Fatal { get; private set; } = new();

    /// <summary>What two runs of one seed must have in common.</summary>
    public string Trace => string.Create(
        CultureInfo.InvariantCulture, $"{Files.Events} events, {_scheduler?.Steps} steps, {_clock.NowNs} ns, revision {_verified}");

    /// <summary>Opens the member and checks what survived; nothing if it runs.</summary>
    public void Start()
    {
        if (_member is not null)
        {
            return;
        }

        _scheduler = new SimScheduler(_random.Fork("schedule"), _clock);
        Files.Scheduler = _scheduler;
        Fatal = new SimFatal();
        _member = Member.Open(Options(), new MemberEnvironment
        {
            FileSystem = Files,
            Clock = _clock,
            Random = _random.Fork("member"),
            Fatal = Fatal,
            Pool = Pool,
            Log = NullLogger.Instance,
        });
        foreach (MemberActor actor in _member.Actors)
        {
            actor.Attach(_scheduler.Add(actor.Actor));
        }

        Run(() => _member.Ready.IsCompleted, "ready");
        Verify();
    }

    /// <summary>Clients write, compact, freeze and defragment, several at once, until that many writes are answered.</summary>
    public void Work(int writes)
    {
        for (int i = 0; i < writes; i++)
        {
            while (_inFlight.Count >= 1 + _random.Below(8))
            {
                Step();
            }

            Issue();
            while (_random.Chance(60))
            {
                Step();
            }

            Chores();
        }

        Run(() => _inFlight.Count == 0, "all writes answered");
    }

    /// <summary>Runs without clients, so that background work ends.</summary>
    public void Rest(long ns) => _scheduler!.RunUntil(() => false, ns);

    /// <summary>What an operator does once there is room again; nothing, if no alarm was raised.</summary>
    public void DisarmSpaceAlarm()
    {
        byte[] body = Requests.Numbers(2, (long)_member!.Id, 1);
        RequestSlot slot = _member.Rent();
        slot.Lane = ProposalLane.Control;
        body.CopyTo(slot.BeginRequest(RequestKind.Alarm, body.Length));
        ValueTask<ErrorCode> pending = _member.ProposeAsync(slot);
        Run(() => slot.IsCompleted || pending.IsCompleted, "disarmed");
        Assert.Equal(ErrorCode.None, slot.Outcome);
        Assert.False(_member.Alarms.HasNoSpace);
        _member.Return(slot);
    }

    /// <summary>The stop sequence, as on SIGTERM.</summary>
    public void Stop()
    {
        _member!.BeginStop();
        Run(() => _member.Stopped.IsCompleted, "stopped");
        Files.Scheduler = null;
        _member.Dispose();
        _member = null;
    }

    /// <summary>Drops everything in memory. The disk must be dead.</summary>
    public void Drop()
    {
        TakeAnswers();
        foreach (Write write in _inFlight)
        {
            _unanswered.Add(write);
        }

        _inFlight.Clear();
        try
        {
            _member?.Dispose();
        }
        catch (PowerLossException)
        {
        }

        _member = null;
    }

    public void Dispose()
    {
        Files.Cut();
        Drop();
    }

    /// <summary>Compares everything with the model; nothing may be in flight.</summary>
    public void Verify()
    {
        ViewPin pin = _member!.Store.Pin();
        try
        {
            VerifyCompaction(pin.CompactRevision);
            long last = _answered.Count == 0 ? _verified : Math.Max(_verified, LastAnswered());
            Assert.True(pin.Revision >= last, string.Create(
                CultureInfo.InvariantCulture,
                $"revision {pin.Revision} is behind the answered revision {last}"));
            for (long revision = _verified + 1; revision <= pin.Revision; revision++)
            {
                Explain(revision, pin);
            }

            _verified = pin.Revision;
            foreach ((long revision, KeyState state) in _states)
            {
                if (revision >= Math.Max(1, _compacted) && (_random.Chance(10) || revision == _verified))
                {
                    Same(state, Read(pin, revision), revision);
                }
            }
        }
        finally
        {
            _member.Store.Unpin(pin);
        }

        VerifyHashes();
    }

    private static MemberOptions Options() => new()
    {
        Name = "m1",
        DataDir = "/var/lib/cairn",
        InitialAdvertisePeerUrls = ["http://127.0.0.1:2380"],
        AdvertiseClientUrls = ["http://127.0.0.1:2379"],
        InitialCluster = [new InitialMember("m1", ["http://127.0.0.1:2380"])],
        InitialClusterToken = "simulation",
        RequestSlots = 16,
        SnapshotCount = 40,
        CatchupEntries = 10,
        BatchLimit = 30,
        WalSegmentBytes = 64 << 10,
        MaxWals = 2,
        MaxSnapshots = 2,
        TreeReserveBytes = 8 << 20,
    };

    private static string Key(int number) => "k" + number.ToString("d2", CultureInfo.InvariantCulture);

    private long LastAnswered()
    {
        long last = 0;
        foreach (long revision in _answered.Keys)
        {
            last = revision;
        }

        return last;
    }

    private void Issue()
    {
        Write write = Draw();
        write.Slot = _member!.Rent();
        write.Body.CopyTo(write.Slot.BeginRequest(write.Kind, write.Body.Length));
        ValueTask<ErrorCode> pending = _member.ProposeAsync(write.Slot);
        if (pending.IsCompleted && !write.Slot.IsCompleted)
        {
            // Refused at the door: nothing was proposed.
            Assert.Equal(ErrorCode.TooManyRequests, pending.Result);
            _member.Return(write.Slot);
            return;
        }

        _inFlight.Add(write);
    }

    private Write Draw()
    {
        string value = "v" + (++_serial).ToString(CultureInfo.InvariantCulture);
        if (_random.Chance(10))
        {
            value += new string('x', _random.Below(5000));
        }

        string key = Key(_random.Below(KeyCount));
        int kind = _random.Below(100);
        if (kind < 55)
        {
            return new Write(RequestKind.Put, Requests.Put(key, value), state => state.Put(key, value));
        }

        string end = Key(_random.Below(KeyCount));
        if (kind < 75)
        {
            return _random.Chance(50)
                ? new Write(RequestKind.DeleteRange, Requests.Delete(key), state => state.Delete(key, string.Empty))
                : new Write(RequestKind.DeleteRange, Requests.Delete(key, end), state => state.Delete(key, end));
        }

        if (kind < 95)
        {
            string other = "t" + key;
            byte[] body = Requests.Txn(
                (3, Requests.Delete(key, end)), (2, Requests.Put(other, value)), (2, Requests.Put("u", value)));
            return new Write(RequestKind.Txn, body, state =>
            {
                state.Delete(key, end);
                state.Put(other, value);
                state.Put("u", value);
            });
        }

        long revision = Math.Max(1, _member!.Status.Revision - _random.Below(20));
        _compactionAsked = Math.Max(_compactionAsked, revision);
        return new Write(RequestKind.Compaction, Requests.Compaction(revision, _random.Chance(30)), null)
        {
            CompactRevision = revision,
        };
    }

    private void Chores()
    {
        if (_random.Chance(2))
        {
            RequestSlot slot = _member!.Rent();
            ValueTask<ErrorCode> frozen = _member.FreezeAndWaitAsync(slot);
            Run(() => slot.IsCompleted || frozen.IsCompleted, "freeze");
            _member.Return(slot);
        }

        if (_random.Chance(1))
        {
            _ = _member!.Store.TreeActor.Defragment(static _ => { }, null);
        }

        if (_random.Chance(3) && _member!.Store.HashKv(0, out HashKvResult hash) == ErrorCode.None)
        {
            _hashes[_member.Status.Revision] = hash;
        }
    }

    private void Step()
    {
        Assert.True(_scheduler!.Step(), "nothing can happen any more");
        TakeAnswers();
    }

    private void Run(Func<bool> until, string what)
    {
        bool came = _scheduler!.RunUntil(
            () =>
            {
                TakeAnswers();
                return until();
            },
            PatienceNs);
        Assert.True(came, $"nothing came of '{what}': {_member!.Status}");
    }

    private void TakeAnswers()
    {
        for (int i = _inFlight.Count - 1; i >= 0; i--)
        {
            Write write = _inFlight[i];
            if (!write.Slot!.IsCompleted)
            {
                continue;
            }

            _inFlight.RemoveAt(i);
            switch (write.Slot.Outcome)
            {
                case ErrorCode.None when write.Apply is not null:
                    long revision = Requests.HeaderRevision(write.Slot.Response.WrittenSpan);
                    if (write.Kind != RequestKind.DeleteRange || Requests.Varint(write.Slot.Response.WrittenSpan, 2) > 0)
                    {
                        Assert.True(_answered.TryAdd(revision, write), $"revision {revision} was answered twice");
                        Assert.True(revision > _verified, $"revision {revision} was there before");
                    }

                    break;
                case ErrorCode.None:
                    _compacted = Math.Max(_compacted, write.CompactRevision);
                    break;
                case ErrorCode.Compacted:
                case ErrorCode.FutureRev:
                    Assert.Equal(RequestKind.Compaction, write.Kind);
                    break;
                default:
                    _unanswered.Add(write);
                    break;
            }

            _member!.Return(write.Slot);
        }
    }

    private void VerifyCompaction(long found)
    {
        Assert.True(found >= _compacted, $"compact revision {found} is behind the answered {_compacted}");
        Assert.True(found <= _compactionAsked, $"compact revision {found} was never asked for");
        _compacted = found;
    }

    /// <summary>Finds what made a revision, from the state before it.</summary>
    private void Explain(long revision, in ViewPin pin)
    {
        KeyState before = _states[revision - 1];
        KeyState? found = revision >= _compacted ? Read(pin, revision) : null;
        if (_answered.TryGetValue(revision, out Write? answered))
        {
            KeyState after = before.After(answered);
            if (found is not null)
            {
                Same(after, found, revision);
            }

            _answered.Remove(revision);
            _states.Add(revision, after);
            return;
        }

        foreach (Write write in _unanswered)
        {
            KeyState after = before.After(write);
            if (write.Apply is not null && after.LastRevision == revision && (found is null || after.Equals(found)))
            {
                _unanswered.Remove(write);
                _states.Add(revision, after);
                return;
            }
        }

        Assert.Fail($"revision {revision} holds what nobody wrote: {found}");
    }

    private void VerifyHashes()
    {
        foreach ((long revision, HashKvResult expected) in _hashes)
        {
            if (_member!.Store.HashKv(revision, out HashKvResult found) == ErrorCode.None
                && found.CompactRevision == expected.CompactRevision)
            {
                Assert.True(found.Hash == expected.Hash, $"HashKV({revision}) was {expected.Hash}, is {found.Hash}");
            }
        }

        _hashes.Clear();
    }

    private void Same(KeyState expected, KeyState found, long revision) => Assert.True(
        expected.Equals(found),
        $"revision {revision}:\nexpected {expected}\nfound    {found}");

    private KeyState Read(in ViewPin pin, long revision)
    {
        var output = new NativeBuffer(Pool);
        try
        {
            byte[] request = Requests.Range("\0", revision, "\0");
            Assert.Equal(ErrorCode.None, _member!.Store.Range(request, pin, _member.Header, ref output));
            return KeyState.Parse(output.WrittenSpan, revision);
        }
        finally
        {
            output.Free();
        }
    }

    /// <summary>A write and what it does to the model; no effect there for a compaction.</summary>
    internal sealed record Write(RequestKind Kind, byte[] Body, Action<KeyState>? Apply)
    {
        public RequestSlot? Slot { get; set; }

        public long CompactRevision { get; init; }
    }
}
