// PeerTransport: ITransport over sockets. Composes the links (one a peer), the writer, the door, and what came in by it.
//
// Threads    cairn:peer-out writes, cairn:peer-door accepts, cairn:peer-ID dials and reads answers of one peer, cairn:in-ID
//            reads its urgent connection; the bulk lane is read on I/O threads. Send runs on raft and only encodes.
// State      Links and accepted connections under one lock, changed seldom; Send reads an immutable table.
// Order      Attach by the member, then Start; Stop after the member's actors have ended.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Cairn.Net.Http;
using Cairn.Net.Tls;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Peer;

/// <summary>Told about measurements as they are made; any thread, must not wait.</summary>
internal interface IPeerObserver
{
    void RoundTrip(PeerCounters peer, long nanoseconds);

    /// <summary>A snapshot was sent, or received, completely.</summary>
    void Snapshot(PeerCounters peer, bool sent, long nanoseconds);
}

/// <summary>What a transport is told.</summary>
internal sealed record PeerTransportOptions
{
    public required IClock Clock { get; init; }

    public required IRandom Random { get; init; }

    public required IFatal Fatal { get; init; }

    public required ILogger Log { get; init; }

    /// <summary>Bound and listening; the transport's from here on.</summary>
    public IReadOnlyList<Socket> Listeners { get; init; } = [];

    /// <summary>The same for those who speak TLS.</summary>
    public IReadOnlyList<Socket> SecureListeners { get; init; } = [];

    /// <summary>Certificates; verified before, if there is a secure listener.</summary>
    public TlsEndpoint Tls { get; init; } = TlsEndpoint.None;

    /// <summary>Where this member tells others to find it.</summary>
    public IReadOnlyList<string> AdvertisedUrls { get; init; } = [];

    public TimeSpan DialTimeout { get; init; } = TimeSpan.FromSeconds(2);

    public TimeSpan ReadTimeout { get; init; } = TimeSpan.FromSeconds(5);

    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Pages for plain HTTP; may be set after Attach, before Start.</summary>
    public HttpHandler? Pages { get; set; }

    public IPeerObserver? Observer { get; set; }
}

/// <summary>The way to the other members.</summary>
internal sealed unsafe partial class PeerTransport : ITransport, IDisposable
{
    private const int RemotesMax = 8;
    private const long SweepNs = 250_000_000;
    private const long RemovedGraceNs = 1_000_000_000;

    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, PeerCounters> _counters = [];
    private readonly List<Accepted> _accepted = [];
    private readonly HashSet<PeerChannel> _snapshots = [];
    private readonly List<BlockingThread> _ended = [];
    private readonly PeerWriter _writer;
    private readonly ActorThread _writerThread;
    private readonly PeerDoor _door;
    private PeerHttp? _http;
    private PeerLink[] _links = []; // immutable once published
    private IPeerReceiver? _member;
    private long _nextSweepNs;
    private bool _started;
    private bool _stopped;

    public PeerTransport(PeerTransportOptions options)
    {
        Options = options;
        Once = new OncePerMinute(options.Clock);
        _writer = new PeerWriter(Pool, Calls, options.WriteTimeout);
        _writerThread = new ActorThread(_writer, options.Clock, options.Fatal);
        _door = new PeerDoor(this, options.Listeners, options.SecureListeners);
    }

    public PeerTransportOptions Options { get; }

    public ILogger Log => Options.Log;

    /// <summary>Blocks of outgoing frames.</summary>
    public NativePool Pool { get; } = new(4 << 20);

    public PendingCalls Calls { get; } = new();

    public OncePerMinute Once { get; }

    public IWaker WriterWaker => _writerThread;

    /// <summary>Figures of those who are no members.</summary>
    public PeerCounters Strangers { get; } = new(0);

    /// <summary>The member; set by Attach.</summary>
    public IPeerReceiver Member => _member ?? throw new InvalidOperationException("no member is attached");

    public string LocalLabel { get; private set; } = "";

    /// <summary>Figures of every peer seen so far.</summary>
    public PeerCounters[] AllCounters()
    {
        lock (_lock)
        {
            return [.. _counters.Values];
        }
    }

    /// <summary>Ids of the peers in the member list.</summary>
    public IReadOnlyList<ulong> KnownPeers()
    {
        var ids = new List<ulong>();
        foreach (PeerLink link in Volatile.Read(ref _links))
        {
            if (!link.IsRemote)
            {
                ids.Add(link.Id);
            }
        }

        return ids;
    }

    /// <inheritdoc/>
    public void Attach(IPeerReceiver member)
    {
        _member = member;
        LocalLabel = MemberIds.ToText(member.Identity.MemberId);
    }

    /// <summary>Starts threads and opens the door. Once, after Attach.</summary>
    public void Start()
    {
        Invariant.Check(_member is not null, "a transport starts with its member");
        _http = Options.Pages is { } pages ? new PeerHttp(pages) : null;
        _writerThread.Start();
        lock (_lock)
        {
            _started = true;
            foreach (PeerLink link in _links)
            {
                link.Start();
            }
        }

        _door.Start();
    }

    /// <inheritdoc/>
    public void SetPeers(IReadOnlyList<PeerAddress> peers)
    {
        List<PeerLink> gone = [];
        lock (_lock)
        {
            if (_stopped)
            {
                return;
            }

            var kept = new List<PeerLink>();
            foreach (PeerAddress peer in peers)
            {
                PeerLink? known = Array.Find(_links, link => link.Id == peer.Id && Same(link.Urls, peer.Urls));
                known?.BecomeMember();
                kept.Add(known ?? NewLink(peer.Id, peer.Urls, isRemote: false));
            }

            foreach (PeerLink link in _links)
            {
                if (kept.Contains(link))
                {
                    continue;
                }

                if (link.IsRemote && !kept.Exists(other => other.Id == link.Id) && !IsRemoved(link.Id))
                {
                    kept.Add(link);
                    continue;
                }

                gone.Add(link);
            }

            Volatile.Write(ref _links, [.. kept]);
        }

        // Two links to one member would push each other out: one with a successor ends at once.
        for (int i = gone.Count - 1; i >= 0; i--)
        {
            if (Find(gone[i].Id) is not null)
            {
                gone[i].Stop();
                gone.RemoveAt(i);
            }
        }

        if (gone.Count != 0)
        {
            // What is queued gets a moment to leave; this thread must not wait for it.
            _ = RetireAsync(gone);
        }
    }

    /// <inheritdoc/>
    public bool Send(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
    {
        PeerWire? wire = Find(message.To)?.Wire;
        if (wire is null)
        {
            return false;
        }

        int head = PeerCodec.Measure(in message);
        long body = head + EntryFrame.BodyBytes(entries);
        if (body - head > EntryFrame.MaxBodyBytes)
        {
            return false;
        }

        int length = PeerFrame.HeaderBytes + (int)body;
        NativeBlock* frame = Pool.Rent(length);
        frame->Length = length;
        Span<byte> bytes = NativeBlock.Span(frame);
        PeerCodec.Write(in message, entries.Length, bytes[PeerFrame.HeaderBytes..]);
        EntryFrame.Write(entries, bytes[(PeerFrame.HeaderBytes + head)..]);
        PeerFrame.Seal(bytes, FrameType.Raft);
        return PeerLanes.Of(message.Type) == PeerLane.Urgent ? wire.Urgent.TrySend(frame) : wire.Bulk!.TrySend(frame);
    }

    /// <inheritdoc/>
    public void SendSnapshot(ulong peer, ISnapshotSource source)
    {
        var thread = new BlockingThread(
            "snap-out",
            () => Member.SnapshotSent(peer, PeerSnapshot.Send(this, Find(peer), peer, source)),
            Options.Fatal);
        Remember(thread);
        thread.Start();
    }

    /// <inheritdoc/>
    public void Call(PeerCall call)
    {
        PeerWire? wire = Find(call.To)?.Wire;
        if (wire is null)
        {
            call.Complete(PeerCallOutcome.Unreachable);
            return;
        }

        ulong id = Calls.Add(call, wire.Urgent);
        int length = PeerFrame.HeaderBytes + PeerCodec.CallHeadBytes + call.Request.Length;
        NativeBlock* frame = Pool.Rent(length);
        frame->Length = length;
        Span<byte> bytes = NativeBlock.Span(frame);
        long left = Math.Clamp((call.DeadlineNs - Options.Clock.NowNs) / 1_000_000, 0, uint.MaxValue);
        PeerCodec.WriteCallHead(bytes[PeerFrame.HeaderBytes..], id, (byte)call.Kind, (uint)left);
        call.Request.Span.CopyTo(bytes[(PeerFrame.HeaderBytes + PeerCodec.CallHeadBytes)..]);
        PeerFrame.Seal(bytes, FrameType.Call);
        if (!wire.Urgent.TrySend(frame) || wire.Urgent.IsAborted)
        {
            Calls.Take(id, wire.Urgent)?.Complete(PeerCallOutcome.Unreachable);
        }
    }

    /// <summary>Closes everything and ends the threads.</summary>
    public void Dispose()
    {
        PeerLink[] links;
        List<Accepted> accepted;
        List<BlockingThread> ended;
        lock (_lock)
        {
            if (_stopped)
            {
                return;
            }

            _stopped = true;
            links = _links;
            _links = [];
            accepted = [.. _accepted];
            foreach (PeerChannel channel in _snapshots)
            {
                channel.End();
            }
        }

        if (_started)
        {
            _door.Stop();
        }
        else
        {
            foreach (Socket listener in (IEnumerable<Socket>)[.. Options.Listeners, .. Options.SecureListeners])
            {
                listener.Dispose();
            }
        }

        foreach (PeerLink link in links)
        {
            link.Stop();
        }

        foreach (Accepted connection in accepted)
        {
            connection.Close();
        }

        foreach (PeerLink link in links)
        {
            link.Join();
        }

        lock (_lock)
        {
            ended = [.. _ended];
        }

        foreach (BlockingThread thread in ended)
        {
            thread.Join();
        }

        if (_started)
        {
            _writerThread.Stop();
        }

        _writer.Close();
    }
}
