// WatchHub: all watchers of one member.
//
// Thread     watch (an actor). The store wakes it after each published View while there are watchers, and does nothing
//            else for them: the hub pins the View and reads the new changes from the write buffer, where each is stored
//            once as the KeyValue that goes to the client. That buffer is the shared log of events (decision 0070).
// Live       Each new revision is matched once: exact keys by hash, ranges by a tree. An event is encoded once (and once
//            more with prev_kv, if somebody wants that); each watcher's response is header, id, those bytes.
// Late       A watcher that starts in the past, or whose stream has StreamBytesMax waiting, is a revision: it reads
//            history in bounded passes (WatchHub.CatchUp.cs) and never slows apply or the others.
//            With none but late ones the store does nothing at all for them.
// Promise    A watcher that is not late loses nothing to a compaction: MvccStore.WatchFloor keeps deletes waiting until
//            the hub has read past them. Late ones are cancelled, as etcd does.
// Order      of one poll: take the poked streams, pin, live events, requests, progress, one pass of history, wake the
//            writers. The pin comes after the requests were there, so a created watcher sees every revision that its
//            client may have heard of.
// Snapshots  of the leader replace the store: a pin then belongs to another one, and all watchers become late ones there.
// Parts      WatchHub.cs (poll, requests, streams), .Watchers.cs (tables), .Emit.cs (responses), .CatchUp.cs.
using System;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>Matches changes to watchers and builds their responses.</summary>
public sealed unsafe partial class WatchHub : IActor, IDisposable
{
    private const int ClosedWatchersPerPoll = 8192;
    private const int NotifyEvery = 128;

    /// <summary>With no more watchers a poll for one revision takes microseconds.</summary>
    private const int LightWatchers = 64;

    private readonly WatchOptions _options;
    private readonly NativePool _pool;
    private readonly Func<HeaderFields> _header;
    private readonly IRandom _random;
    private readonly List<WatchStream> _dirty = new(64);
    private MvccStore _store;
    private WatchStream? _pokedHead;
    private bool _wanted;
    private long _revision; // every change up to here has been matched
    private long _limit; // bytes a stream may have waiting, this poll
    private long _progressAtNs = long.MaxValue;
    private long _nowNs;

    /// <param name="store">Where changes are read.</param>
    /// <param name="options">Limits.</param>
    /// <param name="pool">For responses and requests under way.</param>
    /// <param name="random">Hash secret and jitter of progress messages.</param>
    /// <param name="header">Ids and raft term of a response made now; any thread.</param>
    public WatchHub(MvccStore store, WatchOptions options, NativePool pool, IRandom random, Func<HeaderFields> header)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(random);
        _store = store;
        _options = options;
        _pool = pool;
        _random = random;
        _header = header;
        _targets = new TargetIndex(random.NextUInt64());
        _idSeed = random.NextUInt64();
        _limit = options.StreamBytesMax;
    }

    /// <summary>Set once before the first poll.</summary>
    public IWaker? Waker { get; set; }

    /// <summary>Counters; any thread.</summary>
    public WatchFigures Figures { get; } = new();

    /// <inheritdoc/>
    public string RoleName => "watch";

    /// <inheritdoc/>
    public long NextDeadlineNs { get; private set; } = long.MaxValue;

    /// <summary>
    /// Whether new Views should wake the hub. The store asks after publishing, behind a full fence. Any thread.
    /// </summary>
    public bool IsWanted => Volatile.Read(ref _wanted);

    // Late watchers read history at the pace of their clients: for them alone the store wakes nobody and holds nothing back.
    private bool HasLive => Figures.WatcherCount != Figures.LaggingCount;

    /// <summary>A View with new revisions was published. The store's thread, after a full fence.</summary>
    public void Published()
    {
        if (!IsWanted)
        {
            return;
        }

        // A few watchers are told by the thread that carries a lone write (Carrier) sooner than by waking ours.
        if (Figures.Watchers <= LightWatchers && Figures.SlowWatchers == 0)
        {
            Waker?.Wake();
        }
        else
        {
            Waker?.WakeElsewhere();
        }
    }

    /// <summary>Opens a stream; any thread.</summary>
    /// <param name="sink">Woken when there is something to take.</param>
    /// <param name="requestsMax">Requests that may wait for the hub; 0: as many as a client's stream may have.</param>
    public WatchStream Open(IWatchSink sink, int requestsMax = 0)
    {
        var stream = new WatchStream(this, _pool, requestsMax == 0 ? _options.StreamRequestsMax : requestsMax, Figures, sink);
        Interlocked.Increment(ref Figures.StreamCount);
        return stream;
    }

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        _nowNs = nowNs;
        WatchStream? poked = TakePoked();
        if (poked is null && Figures.WatcherCount == 0)
        {
            NextDeadlineNs = long.MaxValue;
            return false;
        }

        _limit = Figures.PendingBytes > _options.TotalBytesMax ? _options.StreamBytesLow : _options.StreamBytesMax;
        if (!_wanted)
        {
            // Before the pin: whatever is published or compacted after it must wake us, or wait for us.
            Volatile.Write(ref _wanted, true);
            _store.WatchFloor = 0;
            Interlocked.MemoryBarrier();
        }

        bool worked;
        ViewPin pin = _store.Pin();
        try
        {
            if (!ReferenceEquals(pin.Owner, _store))
            {
                GoOverTo(pin.Owner, pin.Revision);
            }

            worked = ReadLive(pin.View);
            worked |= Serve(poked);
            worked |= TellProgress(nowNs);
            worked |= CatchUp(pin.View);
        }
        finally
        {
            _store.Unpin(pin);
        }

        WakeWriters();
        if (!HasLive)
        {
            Volatile.Write(ref _wanted, false);
            _store.WatchFloor = long.MaxValue;
        }
        else
        {
            _store.WatchFloor = _revision;
        }

        NextDeadlineNs = worked ? nowNs : _progressAtNs;
        return worked;
    }

    public void Dispose()
    {
        _store.WatchFloor = long.MaxValue;
        _targets.Dispose();
        _watchers.Dispose();
        _ids.Free();
        _events.Free();
        _encoded.Free();
        _hits.Free();
        _found.Free();
        _picks.Free();
        _rangePicks.Free();
    }

    internal void Push(WatchStream stream)
    {
        WatchStream? head = Volatile.Read(ref _pokedHead);
        while (true)
        {
            stream.NextPoked = head;
            WatchStream? seen = Interlocked.CompareExchange(ref _pokedHead, stream, head);
            if (ReferenceEquals(seen, head))
            {
                break;
            }

            head = seen;
        }

        Waker?.Wake();
    }

    /// <summary>
    /// A snapshot of the leader has taken the store's place: every watcher reads on from the revision it stands at, or
    /// hears that it is compacted.
    /// </summary>
    private void GoOverTo(MvccStore store, long revision)
    {
        _store.WatchFloor = long.MaxValue;
        _store = store;
        _store.WatchFloor = 0;
        foreach (WatchStream? stream in _streams)
        {
            for (int at = stream?.FirstWatcher ?? 0; at != 0; at = _watchers[at]->NextInStream)
            {
                Watcher* watcher = _watchers[at];
                if ((watcher->Flags & (WatcherFlags.Lagging | WatcherFlags.Silent)) == 0)
                {
                    BeginLag(
                        at, Mutations.Is(Mutation.WatchersRestartAfterSnapshot) ? 1 : Math.Max(watcher->Next, _revision + 1));
                }
            }
        }

        _revision = Math.Max(_revision, revision);
    }

    // The list is a stack; requests of one stream are in its own ring, so only the order among streams is turned.
    private WatchStream? TakePoked()
    {
        WatchStream? head = Interlocked.Exchange(ref _pokedHead, null);
        WatchStream? reversed = null;
        while (head is not null)
        {
            WatchStream? next = head.NextPoked;
            head.NextPoked = reversed;
            reversed = head;
            head = next;
        }

        return reversed;
    }

    private bool ReadLive(in View view)
    {
        long to = view.Revision;
        if (!HasLive)
        {
            _revision = to;
            return false;
        }

        if (_revision >= to)
        {
            return false;
        }

        var walk = new EventWalk(view, _revision + 1, to);
        int untold = 0;
        for (bool more = walk.Next(); more;)
        {
            long main = walk.Main;
            _events.Count = 0;
            _encoded.Count = 0;
            do
            {
                _events.Add(new EventRef(walk.Pair, walk.PairLength, main, walk.IsTombstone));
                more = walk.Next();
            }
            while (more && walk.Main == main);

            _revision = main;
            if (_events.Count == 1)
            {
                DispatchOne(view);
            }
            else
            {
                DispatchMany(view);
            }

            if (++untold == NotifyEvery)
            {
                untold = 0;
                WakeWriters();
            }
        }

        _revision = to;
        _encoded.Reset();
        return true;
    }

    private bool Serve(WatchStream? poked)
    {
        bool worked = false;
        while (poked is not null)
        {
            WatchStream stream = poked;
            poked = stream.NextPoked;
            stream.NextPoked = null;
            stream.Unpoke();
            worked = true;
            if (stream.IsClosed)
            {
                CloseSome(stream);
                continue;
            }

            if (stream.Index == 0)
            {
                Enter(stream);
            }

            bool any = false;
            while (stream.Frames.Queued < _limit && stream.TryTakeRequest(out WatchCommand command))
            {
                any = true;
                Run(stream, in command);
            }

            if (any)
            {
                stream.TellRequestRoom();
            }

            if (stream.HasRequests)
            {
                stream.WantFrameRoom(_limit / 2);
            }
        }

        return worked;
    }

    private void Run(WatchStream stream, in WatchCommand command)
    {
        switch (command.Kind)
        {
            case WatchCommandKind.Create:
                Create(stream, in command);
                _pool.Return(command.Bytes);
                break;
            case WatchCommandKind.Refuse:
                (int code, string message) = Errors.Get(command.Refusal);
                EmitRefused(stream, "rpc error: code = " + CodeName(code) + " desc = " + message);
                break;
            case WatchCommandKind.Cancel:
                int found = FindWatcher(stream, command.Id);
                if (found != 0)
                {
                    RemoveWatcher(found);
                    EmitState(stream, command.Id, canceled: true, compactRevision: 0);
                }

                break;
            case WatchCommandKind.Progress:
                if (IsSynced(stream))
                {
                    EmitProgress(stream, ProgressId);
                }

                break;
        }
    }

    private void Create(WatchStream stream, in WatchCommand command)
    {
        ReadOnlySpan<byte> bytes = NativeBlock.Room(command.Bytes);
        ReadOnlySpan<byte> key = bytes[..command.KeyLength];
        ReadOnlySpan<byte> end = command.EndLength > 0 ? bytes.Slice(command.KeyLength, command.EndLength) : default;
        long id = command.Id;
        if (command.Start < 0)
        {
            EmitRefused(stream, "etcdserver: mvcc: required revision has been compacted");
            return;
        }

        if (command.EndLength > 0 && key.SequenceCompareTo(end) >= 0)
        {
            EmitRefused(stream, "mvcc: watcher range is empty");
            return;
        }

        if (stream.IdCount >= _options.StreamWatchersMax)
        {
            EmitRefused(stream, Errors.Get(ErrorCode.TooManyRequests).Message);
            return;
        }

        if (id == 0)
        {
            while (FindWatcher(stream, stream.NextId) != 0)
            {
                stream.NextId++;
            }

            id = stream.NextId++;
        }
        else if (FindWatcher(stream, id) != 0)
        {
            EmitRefused(stream, "mvcc: duplicate watch ID provided on the WatchStream");
            return;
        }

        WatcherFlags flags = command.Flags;
        long next = command.Start == 0 ? _revision + 1 : command.Start;
        if (command.Start > _revision)
        {
            flags |= WatcherFlags.Future;
        }

        if (Mutations.Is(Mutation.FutureWatchEmitsOld) && next > _revision)
        {
            next = _revision + 1;
        }

        int made = AddWatcher(stream, id, key, end, command.EndLength, next, flags | WatcherFlags.Quiet);
        EmitState(stream, id, canceled: false, compactRevision: 0);
        if (next <= _revision)
        {
            BeginLag(made, next);
        }
    }

    private static string CodeName(int code) => code switch
    {
        3 => "InvalidArgument",
        7 => "PermissionDenied",
        9 => "FailedPrecondition",
        14 => "Unavailable",
        16 => "Unauthenticated",
        _ => "Unknown",
    };

    private void Enter(WatchStream stream)
    {
        int index = _freeStreams.Count > 0 ? _freeStreams.Pop() : _streams.Count;
        if (index == _streams.Count)
        {
            _streams.Add(stream);
        }
        else
        {
            _streams[index] = stream;
        }

        stream.Index = index;
        stream.NextProgressNs = _nowNs + ProgressPeriod();
    }

    // Many watchers take a while to remove: some per poll, so that live events are not held up.
    private void CloseSome(WatchStream stream)
    {
        if (stream.IsGone)
        {
            return; // an earlier poke had already shown that it is closed
        }

        for (int i = 0; i < ClosedWatchersPerPoll && stream.FirstWatcher != 0; i++)
        {
            RemoveWatcher(stream.FirstWatcher);
        }

        if (stream.FirstWatcher != 0)
        {
            stream.Poke();
            return;
        }

        while (stream.TryTakeRequest(out WatchCommand command))
        {
            if (command.Bytes != null)
            {
                _pool.Return(command.Bytes);
            }
        }

        if (stream.Index != 0)
        {
            _streams[stream.Index] = null;
            _freeStreams.Push(stream.Index);
            stream.Index = 0;
        }

        stream.IsGone = true;
        stream.Frames.Free();
        Interlocked.Decrement(ref Figures.StreamCount);
    }

    private void WakeWriters()
    {
        foreach (WatchStream stream in _dirty)
        {
            stream.IsDirty = false;
            stream.Sink.FramesReady();
        }

        _dirty.Clear();
    }

    private long ProgressPeriod()
        => _options.ProgressIntervalNs + (long)(_random.NextUInt64() % (ulong)((_options.ProgressIntervalNs / 10) + 1));

    private bool TellProgress(long nowNs)
    {
        if (nowNs < _progressAtNs)
        {
            return false;
        }

        bool any = false;
        _progressAtNs = long.MaxValue;
        for (int i = 1; i < _streams.Count; i++)
        {
            if (_streams[i] is not { ProgressCount: > 0 } stream)
            {
                continue;
            }

            if (stream.NextProgressNs <= nowNs)
            {
                any |= TellProgress(stream);
                long period = ProgressPeriod();
                long missed = (nowNs - stream.NextProgressNs) / period;
                stream.NextProgressNs += (missed + 1) * period;
            }

            _progressAtNs = Math.Min(_progressAtNs, stream.NextProgressNs);
        }

        return any;
    }

    private bool TellProgress(WatchStream stream)
    {
        bool any = false;
        for (int at = stream.FirstWatcher; at != 0; at = _watchers[at]->NextInStream)
        {
            Watcher* watcher = _watchers[at];
            if ((watcher->Flags & WatcherFlags.ProgressNotify) == 0)
            {
                continue;
            }

            bool quiet = (watcher->Flags & WatcherFlags.Quiet) != 0;
            watcher->Flags |= WatcherFlags.Quiet;
            if (quiet && IsSynced(watcher) && stream.Frames.Queued < _limit)
            {
                EmitProgress(stream, watcher->Id);
                any = true;
            }
        }

        return any;
    }
}
