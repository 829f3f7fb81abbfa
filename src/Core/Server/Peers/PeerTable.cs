// PeerTable: what this member knows about its links: since when a peer is connected, its boot and storage id.
//
// Thread     Written by the transport's threads under a lock (links change seldom); read by raft and by the checks of
//            membership changes. Nothing here is on the path of a request.
using System.Collections.Generic;
using System.Threading;

namespace Cairn.Core.Server;

/// <summary>Links to peers.</summary>
internal sealed class PeerTable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, Link> _links = [];
    private long _changes;

    /// <summary>Counts every change, so that raft looks only when there was one.</summary>
    internal long Changes => Volatile.Read(ref _changes);

    internal void Connected(ulong peer, ulong boot, ulong storageId, long nowNs)
    {
        lock (_lock)
        {
            _links.TryGetValue(peer, out Link link);
            _links[peer] = new Link(
                link.ActiveSinceNs != 0 && link.Boot == boot ? link.ActiveSinceNs : nowNs,
                boot,
                storageId != 0 ? storageId : link.StorageId,
                link.Losses + (link.Boot != 0 && link.Boot != boot ? 1 : 0),
                link.Deaths);
            Volatile.Write(ref _changes, _changes + 1);
        }
    }

    internal void Disconnected(ulong peer)
    {
        lock (_lock)
        {
            _links.TryGetValue(peer, out Link link);
            _links[peer] = link with { ActiveSinceNs = 0, Losses = link.Losses + 1 };
            Volatile.Write(ref _changes, _changes + 1);
        }
    }

    /// <summary>Its process has ended.</summary>
    internal void Gone(ulong peer)
    {
        lock (_lock)
        {
            _links.TryGetValue(peer, out Link link);
            _links[peer] = link with { Deaths = link.Deaths + 1 };
            Volatile.Write(ref _changes, _changes + 1);
        }
    }

    /// <summary>How often a peer's process was seen to have ended since the start.</summary>
    internal long Deaths(ulong peer)
    {
        lock (_lock)
        {
            return _links.TryGetValue(peer, out Link link) ? link.Deaths : 0;
        }
    }

    /// <summary>Remembers the first storage id of a member; false when it comes with another one.</summary>
    internal bool IsSameStorage(ulong peer, ulong storageId)
    {
        lock (_lock)
        {
            if (storageId == 0)
            {
                return true;
            }

            _links.TryGetValue(peer, out Link link);
            if (link.StorageId == 0)
            {
                _links[peer] = link with { StorageId = storageId };
                return true;
            }

            return link.StorageId == storageId;
        }
    }

    /// <summary>Since when a peer is connected, monotonic ns; 0: it is not.</summary>
    internal long ActiveSince(ulong peer)
    {
        lock (_lock)
        {
            return _links.TryGetValue(peer, out Link link) ? link.ActiveSinceNs : 0;
        }
    }

    /// <summary>How often frames to a peer may have been lost since the start.</summary>
    internal long Losses(ulong peer)
    {
        lock (_lock)
        {
            return _links.TryGetValue(peer, out Link link) ? link.Losses : 0;
        }
    }

    private readonly record struct Link(long ActiveSinceNs, ulong Boot, ulong StorageId, long Losses, long Deaths);
}
