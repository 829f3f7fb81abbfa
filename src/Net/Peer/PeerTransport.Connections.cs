// PeerTransport.Connections: what the door lets in and what links need of the transport: the table of links, accepted
// connections, remotes. Cold: under one lock.
using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;

namespace Cairn.Net.Peer;

internal sealed partial class PeerTransport
{
    public ulong Random()
    {
        lock (_lock)
        {
            return Options.Random.NextUInt64();
        }
    }

    public PeerHello Hello(ConnectionLane lane, ulong to)
        => new() { Lane = lane, Identity = Member.Identity, To = to, Urls = Options.AdvertisedUrls };

    public bool TryAdd(PeerWire wire)
    {
        bool added = _writer.TryAdd(wire);
        _writerThread.Wake();
        return added;
    }

    public PeerCounters CountersOf(ulong peer)
    {
        lock (_lock)
        {
            if (!_counters.TryGetValue(peer, out PeerCounters? counters))
            {
                counters = new PeerCounters(peer);
                _counters.Add(peer, counters);
            }

            return counters;
        }
    }

    public PeerStanding Judge(PeerHello hello) => Member.Judge(hello.Identity.MemberId, hello.Identity.StorageId);

    public bool TryServeHttp(PeerChannel channel, string head) => _http is { } http && http.TryServe(channel, head);

    /// <summary>A connection that Dispose has to end; false when that has happened already.</summary>
    public bool Track(PeerChannel channel)
    {
        lock (_lock)
        {
            return !_stopped && _snapshots.Add(channel);
        }
    }

    public void Untrack(PeerChannel channel)
    {
        lock (_lock)
        {
            _ = _snapshots.Remove(channel);
        }
    }

    /// <summary>A member has shaken hands on a connection it opened. The door's thread, or one of TLS handshakes.</summary>
    public void Accepted(PeerChannel channel, PeerHello hello)
    {
        ulong peer = hello.Identity.MemberId;
        PeerLink? link = Find(peer);
        if (link is null && !AddRemote(hello))
        {
            channel.Dispose();
            return;
        }

        link?.Nudge();
        if (hello.Lane == ConnectionLane.Snapshot)
        {
            channel.Settle(sendsNow: false);
            ReceiveSnapshot(channel, peer);
            return;
        }

        var connection = new Accepted(peer, hello.Identity.Boot, hello.Lane);
        if (hello.Lane == ConnectionLane.Urgent)
        {
            channel.Settle(sendsNow: true);
            channel.Socket.SendTimeout = 0;
            channel.Socket.ReceiveTimeout = (int)Options.ReadTimeout.TotalMilliseconds;
            connection.Urgent = new UrgentSocket(channel, peer, CountersOf(peer), Pool, _writerThread);
        }
        else
        {
            channel.Settle(sendsNow: false);
            channel.Socket.ReceiveTimeout = 0;
            connection.Bulk = new BulkReader(this, channel, peer);
        }

        if (!Replace(connection))
        {
            connection.Close();
            channel.Dispose();
            return;
        }

        if (connection.Urgent is { } urgent)
        {
            var thread = new BlockingThread(
                "in-" + CountersOf(peer).Label[..Math.Min(6, CountersOf(peer).Label.Length)],
                () => ReadUrgent(connection, urgent),
                Options.Fatal);
            Remember(thread);
            if (!TryAdd(new PeerWire(urgent, null)))
            {
                urgent.Abort();
                channel.Dispose();
            }

            thread.Start();
        }
        else
        {
            _ = ReadBulkAsync(connection);
        }
    }

    /// <summary>Now and then, on the door's thread: connections of members that were removed meanwhile are closed.</summary>
    public void Sweep(long nowNs)
    {
        if (nowNs < _nextSweepNs)
        {
            return;
        }

        _nextSweepNs = nowNs + SweepNs;
        List<Accepted> removed = [];
        lock (_lock)
        {
            foreach (Accepted connection in _accepted)
            {
                if (!IsRemoved(connection.Peer))
                {
                    continue;
                }

                // The entry that removes it is on its way to it: a moment for that.
                connection.RemovedSinceNs = connection.RemovedSinceNs == 0 ? nowNs : connection.RemovedSinceNs;
                if (nowNs - connection.RemovedSinceNs > RemovedGraceNs)
                {
                    removed.Add(connection);
                }
            }
        }

        foreach (Accepted connection in removed)
        {
            connection.Close();
        }
    }

    private static bool Same(IReadOnlyList<string> left, IReadOnlyList<string> right)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        for (int i = 0; i < left.Count; i++)
        {
            if (left[i] != right[i])
            {
                return false;
            }
        }

        return true;
    }

    private bool IsRemoved(ulong peer) => Member.Judge(peer, 0) == PeerStanding.Removed;

    /// <summary>What this link sees is what the member is told: not when another has taken its place.</summary>
    public bool Speaks(PeerLink link)
    {
        PeerLink? current = Find(link.Id);
        return current is null || current == link;
    }

    private PeerLink? Find(ulong peer)
    {
        foreach (PeerLink link in Volatile.Read(ref _links))
        {
            if (link.Id == peer)
            {
                return link;
            }
        }

        return null;
    }

    // Under the lock.
    private PeerLink NewLink(ulong id, IReadOnlyList<string> urls, bool isRemote)
    {
        var link = new PeerLink(this, id, urls, isRemote);
        if (_started)
        {
            link.Start();
        }

        return link;
    }

    private bool AddRemote(PeerHello hello)
    {
        lock (_lock)
        {
            if (_stopped || Array.Exists(_links, link => link.Id == hello.Identity.MemberId))
            {
                return !_stopped;
            }

            int remotes = 0;
            foreach (PeerLink link in _links)
            {
                remotes += link.IsRemote ? 1 : 0;
            }

            var urls = new List<string>();
            foreach (string url in hello.Urls)
            {
                if (ListenUrl.TryParse(url, out _, out _))
                {
                    urls.Add(url);
                }
            }

            if (remotes == RemotesMax || urls.Count == 0)
            {
                return false;
            }

            Volatile.Write(ref _links, [.. _links, NewLink(hello.Identity.MemberId, urls, isRemote: true)]);
        }

        PeerLog.AcceptedUnknown(Log, LocalLabel, MemberIds.ToText(hello.Identity.MemberId), string.Join(',', hello.Urls));
        return true;
    }

    // One connection a peer and lane: a new one ends the old, which the peer has given up.
    private bool Replace(Accepted connection)
    {
        Accepted? old;
        lock (_lock)
        {
            if (_stopped)
            {
                return false;
            }

            old = _accepted.Find(other => other.Peer == connection.Peer && other.Lane == connection.Lane);
            if (old is not null)
            {
                _ = _accepted.Remove(old);
            }

            _accepted.Add(connection);
        }

        old?.Close();
        return true;
    }

    private void Forget(Accepted connection)
    {
        lock (_lock)
        {
            _ = _accepted.Remove(connection);
        }
    }

    private void ReadUrgent(Accepted connection, UrgentSocket urgent)
    {
        _ = new UrgentReader(this, urgent, isDialler: false).Run();
        urgent.Abort();
        Forget(connection);
        if (Find(connection.Peer) is { } link)
        {
            link.Nudge();
        }
    }

    private async Task ReadBulkAsync(Accepted connection)
    {
        _ = await connection.Bulk!.RunAsync().ConfigureAwait(false);
        Forget(connection);
    }

    private void ReceiveSnapshot(PeerChannel channel, ulong peer)
    {
        if (!Track(channel))
        {
            channel.Dispose();
            return;
        }

        var thread = new BlockingThread(
            "snap-in",
            () =>
            {
                PeerSnapshot.Receive(this, channel, peer);
                Untrack(channel);
            },
            Options.Fatal);
        Remember(thread);
        thread.Start();
    }

    private void Remember(BlockingThread thread)
    {
        lock (_lock)
        {
            _ = _ended.RemoveAll(static other => other.HasEnded);
            _ended.Add(thread);
        }
    }

    private static async Task RetireAsync(List<PeerLink> links)
    {
        await Task.Delay(1000).ConfigureAwait(false);
        foreach (PeerLink link in links)
        {
            link.Stop();
        }
    }
}

/// <summary>A connection that a peer opened.</summary>
internal sealed class Accepted(ulong peer, ulong boot, ConnectionLane lane)
{
    public ulong Peer { get; } = peer;

    public ulong Boot { get; } = boot;

    public ConnectionLane Lane { get; } = lane;

    public UrgentSocket? Urgent { get; set; }

    public BulkReader? Bulk { get; set; }

    /// <summary>When its removal was first seen, monotonic ns; 0: it is a member.</summary>
    public long RemovedSinceNs { get; set; }

    public void Close()
    {
        Urgent?.Abort();
        Bulk?.Close();
    }
}
