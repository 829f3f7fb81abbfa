// MemberWatch: a client that watches, follows its watches from member to member, and checks every response against the events
// of the log (raft.md section 3.4).
//
// Each watcher knows the first revision it has not been told about. A response with events must hold exactly the matching
// events from there to its last revision, that one complete (Filter, Ordered, Unique, Atomic, Reliable, Resumable, Future
// start in one comparison); a progress response promises that there was nothing up to its revision (Bookmarkable); a
// cancellation needs a compaction beyond it. In the end nothing may be owed.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Protocol;

namespace Cairn.Simulation;

internal sealed class MemberWatch(MembersWorld world, int number, SimRandom random)
{
    private readonly List<Watcher> _watchers = [];
    private Session? _session;

    private sealed class Watcher
    {
        public long Id;
        public string Key = string.Empty;
        public string End = string.Empty;
        public bool WantsBefore;
        public bool NoPut;
        public bool NoDelete;
        public bool WantsProgress;

        /// <summary>First revision not heard about; 0 until the watch was created "from now".</summary>
        public long Next;

        /// <summary>The server knows of it in this session.</summary>
        public bool IsAsked;
        public bool IsCreated;

        public override string ToString() => string.Create(
            CultureInfo.InvariantCulture,
            $"watch {Id} of {Key}..{End}{(NoPut ? " no puts" : "")}{(NoDelete ? " no deletes" : "")} from {Next}");

        public bool Wants(KvEvent change) => !(change.IsDelete ? NoDelete : NoPut)
            && (End.Length == 0 ? change.Key == Key
                : string.CompareOrdinal(change.Key, Key) >= 0 && string.CompareOrdinal(change.Key, End) < 0);
    }

    private sealed class Session(MemberWatch owner, MemberNode node) : IWatchSink
    {
        private bool _drains;

        public MemberNode Node => node;

        public int Generation { get; } = node.Generation;

        public WatchStream? Stream { get; set; }

        public void FramesReady()
        {
            if (!_drains)
            {
                _drains = true;
                owner.After(owner.DrawDrain(), () =>
                {
                    _drains = false;
                    owner.Drain(this);
                });
            }
        }

        public void RoomForRequests()
        {
        }
    }

    public int EventsSeen { get; private set; }

    /// <summary>Begins a life of watching.</summary>
    public void Start()
    {
        int count = 1 + random.Below(4);
        for (int i = 0; i < count; i++)
        {
            _watchers.Add(NewWatcher(i + 1));
        }

        Connect();
    }

    /// <summary>No matching event up to a revision is owed; asked in the end.</summary>
    public bool IsUpTo(long revision)
    {
        foreach (Watcher watcher in _watchers)
        {
            if (watcher.Next == 0 || !IsServed)
            {
                return false;
            }

            for (int i = world.Ledger.Model.FirstEvent(watcher.Next); i < world.Ledger.Model.Events.Count; i++)
            {
                if (world.Ledger.Model.Events[i].Revision <= revision && watcher.Wants(world.Ledger.Model.Events[i]))
                {
                    return false;
                }
            }
        }

        return true;
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        _ = text.Append(CultureInfo.InvariantCulture, $"watcher {number} at {_session?.Node.Name}:");
        foreach (Watcher watcher in _watchers)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $" [{watcher} created {watcher.IsCreated}]");
        }

        return text.ToString();
    }

    private bool IsServed => _session is { } session && session.Node.IsServing && session.Node.Generation == session.Generation;

    private Watcher NewWatcher(long id)
    {
        bool isRange = random.Chance(50);
        int first = random.Below(world.Config.Keys);
        return new Watcher
        {
            Id = id,
            Key = isRange && random.Chance(50) ? "k" : MembersWorld.Key(first),
            End = isRange ? (random.Chance(50) ? "l" : MembersWorld.Key(first + 1 + random.Below(world.Config.Keys))) : string.Empty,
            WantsBefore = random.Chance(40),
            NoPut = random.Chance(10),
            NoDelete = random.Chance(10),
            WantsProgress = random.Chance(50),
            Next = random.Below(4) switch
            {
                0 => Math.Max(1, world.Ledger.Model.Revision - random.Below(20)),
                1 => world.Ledger.Model.Revision + random.Below(6),
                _ => 0,
            },
        };
    }

    private void After(long delayNs, Action action) => world.After(delayNs, action);

    private long DrawDrain() => random.Below(world.IsHealed ? Math.Min(world.Config.WatchDrainNs, world.Config.ElectionNs / 20) + 1 : world.Config.WatchDrainNs + 1);

    /// <summary>Looks now and then whether the connection is there, and makes another one.</summary>
    private void Connect()
    {
        if (!IsServed && (_session is null || _session.Node.Generation != _session.Generation || random.Chance(50)))
        {
            MemberNode node = world.Nodes[random.Below(world.Nodes.Count)];
            if (node.IsServing)
            {
                Leave();
                _session = new Session(this, node);
                _session.Stream = node.Member!.Watch.Open(_session);
                foreach (Watcher watcher in _watchers)
                {
                    watcher.IsAsked = watcher.IsCreated = false;
                }
            }
        }
        else if (IsServed && !world.IsHealed && random.Chance(3))
        {
            Leave(); // the client goes elsewhere
        }

        if (IsServed)
        {
            Ask();
        }

        After(1 + random.Below(world.Config.ElectionNs / 2), Connect);
    }

    private void Leave()
    {
        if (_session is { } session && session.Node.Generation == session.Generation && session.Node.Member is not null)
        {
            session.Stream!.Close();
        }

        _session = null;
    }

    private void Ask()
    {
        WatchStream stream = _session!.Stream!;
        foreach (Watcher watcher in _watchers)
        {
            if (!watcher.IsAsked)
            {
                watcher.IsAsked = stream.TryCreate(
                    new WatchCreateRequest
                    {
                        Key = Encoding.Latin1.GetBytes(watcher.Key),
                        RangeEnd = Encoding.Latin1.GetBytes(watcher.End),
                        StartRevision = watcher.Next,
                        PrevKv = watcher.WantsBefore,
                        NoPut = watcher.NoPut,
                        NoDelete = watcher.NoDelete,
                        ProgressNotify = watcher.WantsProgress,
                        WatchId = watcher.Id,
                    },
                    ErrorCode.None);
            }
        }

        if (random.Chance(20))
        {
            _ = stream.TryProgress();
        }
    }

    private void Drain(Session session)
    {
        if (session != _session || !IsServed)
        {
            if (session == _session && session.Node.Generation == session.Generation)
            {
                session.FramesReady(); // held up, not gone
            }

            return;
        }

        ReadOnlySpan<byte> frames = session.Stream!.Peek();
        int taken = 0;
        int most = random.Chance(50) ? int.MaxValue : 1 + random.Below(3);
        while (taken < frames.Length && most-- > 0)
        {
            int length = (int)BinaryPrimitives.ReadUInt32BigEndian(frames[(taken + 1)..]);
            Take(session, Wire.Watch(frames.Slice(taken + 5, length)));
            taken += 5 + length;
        }

        if (taken > 0)
        {
            _ = session.Stream.Take(taken);
            world.Note((ulong)taken);
            session.FramesReady(); // there may be more
        }
    }

    private void Take(Session session, WatchAnswer answer)
    {
        if (answer.Id < 0)
        {
            // Progress of the whole stream: each watcher that exists has heard of everything up to there.
            foreach (Watcher each in _watchers)
            {
                if (each.IsCreated)
                {
                    TakeProgress(session, each, answer.Revision);
                }
            }

            return;
        }

        Watcher watcher = _watchers.Find(each => each.Id == answer.Id)
            ?? throw new SimViolationException($"a response for watch {answer.Id}, which nobody asked for");
        KvModel model = world.Ledger.Model;
        if (answer.IsCreated)
        {
            watcher.IsCreated = true;
            watcher.Next = watcher.Next == 0 ? answer.Revision + 1 : watcher.Next;
            SimCheck.That(answer.Events.Count == 0, "a created response has no events");
        }
        else if (answer.IsCanceled)
        {
            SimCheck.That(
                answer.Compacted > 0 && watcher.Next < answer.Compacted && answer.Compacted <= model.Compacted,
                $"Resumable: {watcher} at {session.Node.Name} was cancelled with compact revision {answer.Compacted}; compacted is {model.Compacted}");
            world.Coverage.Hit("watch cancelled by a compaction");
            _watchers[_watchers.IndexOf(watcher)] = NewWatcher(watcher.Id + 100);
        }
        else if (answer.Events.Count == 0)
        {
            TakeProgress(session, watcher, answer.Revision);
        }
        else
        {
            TakeEvents(session, watcher, answer);
        }
    }

    private void TakeProgress(Session session, Watcher watcher, long revision)
    {
        foreach (KvEvent owed in Owed(watcher, revision))
        {
            SimCheck.Fail(
                $"Bookmarkable: {session.Node.Name} told {watcher} of progress up to {revision}, but not of {owed}");
        }

        watcher.Next = Math.Max(watcher.Next, revision + 1);
        world.Coverage.Hit("watch progress");
    }

    private void TakeEvents(Session session, Watcher watcher, WatchAnswer answer)
    {
        long last = answer.Events[^1].Event.Revision;
        List<KvEvent> expected = Owed(watcher, last);
        bool isSame = expected.Count == answer.Events.Count && watcher.IsCreated;
        for (int i = 0; isSame && i < expected.Count; i++)
        {
            // A delete shows key and revision only.
            isSame = expected[i] == answer.Events[i].Event;
        }

        SimCheck.That(
            isSame,
            $"Watch: {session.Node.Name} sent {watcher}\n  {string.Join("\n  ", answer.Events.ConvertAll(e => e.Event))}\nthe log has\n  {string.Join("\n  ", expected)}");
        SimCheck.That(answer.Revision >= last, $"Watch: a header of revision {answer.Revision} above an event of {last}");
        foreach ((KvEvent change, KvEvent? before) in answer.Events)
        {
            EventsSeen++;
            KvEvent? held = world.Ledger.Model.At(change.Key, change.Revision - 1);
            held = held is { IsDelete: false } ? held : null;
            if (!watcher.WantsBefore)
            {
                SimCheck.That(before is null, "prev value: nobody asked for it");
            }
            else if (before is not null || change.Revision - 1 >= world.Ledger.Model.Compacted)
            {
                SimCheck.That(
                    before == held, $"prev value: {session.Node.Name} sent {before} before {change}; the log has {held}");
            }
        }

        watcher.Next = last + 1;
    }

    private List<KvEvent> Owed(Watcher watcher, long revision)
    {
        KvModel model = world.Ledger.Model;
        var owed = new List<KvEvent>();
        for (int i = model.FirstEvent(watcher.Next); i < model.Events.Count && model.Events[i].Revision <= revision; i++)
        {
            if (watcher.Wants(model.Events[i]))
            {
                owed.Add(model.Events[i]);
            }
        }

        return owed;
    }
}
