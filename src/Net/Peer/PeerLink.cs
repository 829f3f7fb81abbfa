// PeerLink: the way to one peer: a thread that dials both lanes, keeps them, reads answers, and dials again.
//
// Thread     cairn:peer-ID owns the state; Wire is published for senders. The wait between two dials is jittered and ends
//            early when the peer itself knocks.
// Boot       Both lanes must reach the same boot of the peer. Queues belong to the connections, so nothing that was queued
//            for one boot can reach the next.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Keeps the connections to one peer.</summary>
internal sealed class PeerLink : System.IDisposable
{
    private const int FirstWaitMs = 20;
    private const int LongestWaitMs = 500;
    private const int RefusedWaitMs = 2000;

    private readonly PeerTransport _transport;
    private readonly BlockingThread _thread;
    private readonly AutoResetEvent _nudge = new(false);
    private readonly string _label;
    private PeerWire? _wire;
    private Socket? _dialing;
    private int _waitMs = FirstWaitMs;
    private bool _wasHeld; // and nobody has been told yet that the process behind it has ended
    private volatile bool _stopping;

    public PeerLink(PeerTransport transport, ulong id, IReadOnlyList<string> urls, bool isRemote)
    {
        _transport = transport;
        Id = id;
        Urls = urls;
        IsRemote = isRemote;
        Counters = transport.CountersOf(id);
        _label = MemberIds.ToText(id);
        _thread = new BlockingThread("peer-" + _label[..Math.Min(6, _label.Length)], Run, transport.Options.Fatal);
    }

    public ulong Id { get; }

    public IReadOnlyList<string> Urls { get; }

    /// <summary>Not in the member list here: somebody of the same cluster that this member does not know yet.</summary>
    public bool IsRemote { get; private set; }

    public PeerCounters Counters { get; }

    /// <summary>The connections of now; null while there are none.</summary>
    public PeerWire? Wire => Volatile.Read(ref _wire);

    public void Start() => _thread.Start();

    /// <summary>It is in the member list now; the connections stay. Under the transport's lock.</summary>
    public void BecomeMember() => IsRemote = false;

    /// <summary>The peer shows signs of life: dial now rather than later.</summary>
    public void Nudge() => _nudge.Set();

    /// <summary>Asks the thread to end; <see cref="Join"/> waits.</summary>
    public void Stop()
    {
        _stopping = true;
        Wire?.Urgent.Abort();
        Volatile.Read(ref _dialing)?.Dispose();
        _nudge.Set();
    }

    /// <summary>Waits for the thread to end.</summary>
    public void Join() => _thread.Join();

    /// <summary>After <see cref="Join"/>.</summary>
    public void Dispose() => _nudge.Dispose();

    private void Run()
    {
        int next = 0;
        while (!_stopping)
        {
            // A member may have been updated to no URL at all.
            string url = Urls.Count == 0 ? "" : Urls[next++ % Urls.Count];
            PeerWire? wire = Dial(url, out ulong boot, out PeerHello? welcome);
            if (wire is not null)
            {
                _waitMs = FirstWaitMs;
                Hold(wire, boot, welcome!, url);
            }

            if (!_stopping)
            {
                // Half to one and a half of the wait, so that members that lost each other do not dial in step.
                int wait = (_waitMs / 2) + (int)(_transport.Random() % (uint)_waitMs);
                _ = _nudge.WaitOne(wait);
                _waitMs = Math.Min(_waitMs * 2, LongestWaitMs);
            }
        }
    }

    private void Hold(PeerWire wire, ulong boot, PeerHello welcome, string url)
    {
        Volatile.Write(ref _wire, wire);
        if (_stopping)
        {
            wire.Urgent.Abort();
        }

        IPeerReceiver member = _transport.Member;
        PeerLog.Established(_transport.Log, _transport.LocalLabel, _label, url, welcome.Identity.ServerVersion);
        if (_transport.Speaks(this))
        {
            Counters.BecameActive();
            member.Connected(Id, boot, welcome.Identity.StorageId);
        }

        string reason = new UrgentReader(_transport, wire.Urgent, isDialler: true).Run();
        Volatile.Write(ref _wire, null);
        wire.Urgent.Abort();
        wire.Bulk!.Abort();
        _transport.Calls.Fail(wire.Urgent);
        if (_transport.Speaks(this))
        {
            Counters.BecameInactive();
            member.Disconnected(Id);
            _wasHeld = true;
        }

        if (!_stopping)
        {
            PeerLog.Lost(_transport.Log, _transport.LocalLabel, _label, reason);
        }
    }

    private PeerWire? Dial(string url, out ulong boot, out PeerHello? welcome)
    {
        boot = 0;
        welcome = null;
        PeerChannel? urgent = Shake(url, ConnectionLane.Urgent, out PeerHello? first);
        if (urgent is null)
        {
            return null;
        }

        PeerChannel? bulk = Shake(url, ConnectionLane.Bulk, out PeerHello? second);
        if (bulk is null || second!.Identity.Boot != first!.Identity.Boot)
        {
            urgent.Dispose();
            bulk?.Dispose();
            return null;
        }

        welcome = first;
        boot = first.Identity.Boot;
        urgent.Settle(sendsNow: true);
        urgent.Socket.ReceiveTimeout = (int)_transport.Options.ReadTimeout.TotalMilliseconds;
        urgent.Socket.SendTimeout = 0;
        bulk.Socket.ReceiveTimeout = 0;
        bulk.Socket.SendTimeout = 0;
        var wire = new PeerWire(
            new UrgentSocket(urgent, Id, Counters, _transport.Pool, _transport.WriterWaker) { Pings = true },
            new BulkPipe(bulk, Counters, _transport.Pool, _transport.WriterWaker));
        if (_transport.TryAdd(wire))
        {
            return wire;
        }

        wire.Urgent.Abort();
        wire.Bulk!.Abort();
        wire.Bulk.Drain();
        urgent.Dispose();
        return null;
    }

    private PeerChannel? Shake(string url, ConnectionLane lane, out PeerHello? welcome)
    {
        DialOutcome outcome = PeerDialer.Dial(
            _transport.Options, url, _transport.Hello(lane, Id), _transport.Options.DialTimeout, socket => Volatile.Write(ref _dialing, socket));
        Volatile.Write(ref _dialing, null);
        welcome = outcome.Welcome;
        if (outcome.Channel is { } channel)
        {
            if (!_stopping && welcome!.Identity.MemberId == Id && welcome.Identity.ClusterId == _transport.Member.Identity.ClusterId)
            {
                return channel;
            }

            channel.Dispose();
            Complain(url, "member " + MemberIds.ToText(welcome!.Identity.MemberId) + " of cluster "
                + MemberIds.ToText(welcome.Identity.ClusterId) + " listens there");
            return null;
        }

        if (_stopping)
        {
            return null;
        }

        if (outcome.Refusal.Reason == RefusalReason.None)
        {
            Counters.SendFailed();
            if (outcome.IsRefusedByHost && _wasHeld)
            {
                _wasHeld = false;
                _transport.Member.Gone(Id);
            }

            if (_transport.Once.May("unreachable " + _label))
            {
                PeerLog.Unreachable(_transport.Log, _transport.LocalLabel, _label, url, outcome.Error);
            }

            return null;
        }

        Complain(url, outcome.Refusal.Text);
        if (outcome.Refusal.Reason == RefusalReason.Removed)
        {
            _transport.Member.ToldRemoved(Id);
        }

        return null;
    }

    private void Complain(string url, string reason)
    {
        Counters.SendFailed();
        _waitMs = RefusedWaitMs;
        if (_transport.Once.May("refused by " + _label + reason))
        {
            PeerLog.Refused(_transport.Log, _transport.LocalLabel, _label, url, reason);
        }
    }
}
