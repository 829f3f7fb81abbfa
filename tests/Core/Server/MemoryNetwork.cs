// MemoryNetwork: an ITransport that connects members of one process, for tests and the simulator.
//
// Everything goes through Schedule: the default keeps a list that Pump empties (FIFO per lane), the simulator gives a
// function that draws a latency. A cut link drops what is under way. Frames addressed to an earlier boot of a member
// are dropped, as the handshake of the real transport does.
using System;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;

namespace Cairn.Core.Tests.Server;

/// <summary>The network; one for all members. Methods may be called from any thread.</summary>
internal sealed unsafe class MemoryNetwork
{
    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, Port> _ports = [];
    private readonly HashSet<(ulong From, ulong To)> _cut = [];
    private readonly Queue<Action> _queue = new();

    /// <summary>Runs something later: lane and size let a simulator draw a delay. Default: at the next Pump.</summary>
    public Action<ulong, ulong, PeerLane, long, Action>? Schedule { get; set; }

    /// <summary>True drops a message instead of sending it.</summary>
    public Func<RaftMessage, bool>? Drop { get; set; }

    /// <summary>How many more times a message is delivered.</summary>
    public Func<RaftMessage, int>? Repeat { get; set; }

    /// <summary>Time for deadlines of calls and pacing of snapshots.</summary>
    public IClock Clock { get; set; } = SystemClock.Instance;

    /// <summary>Messages delivered, by kind.</summary>
    public long[] Delivered { get; } = new long[32];

    public long SnapshotsSent { get; private set; }

    /// <summary>A transport for one start of one member.</summary>
    public ITransport NewPort() => new Port(this);

    /// <summary>Delivers what is due; true if anything was.</summary>
    public bool Pump()
    {
        bool any = false;
        while (true)
        {
            Action? next;
            lock (_lock)
            {
                if (!_queue.TryDequeue(out next))
                {
                    return any;
                }
            }

            next();
            any = true;
        }
    }

    /// <summary>Cuts one direction, or heals it.</summary>
    public void Cut(ulong from, ulong to, bool cut = true)
    {
        lock (_lock)
        {
            _ = cut ? _cut.Add((from, to)) : _cut.Remove((from, to));
        }

        Relink();
    }

    /// <summary>Heals every direction.</summary>
    public void MendAll()
    {
        lock (_lock)
        {
            _cut.Clear();
        }

        Relink();
    }

    /// <summary>Cuts a member off in both directions, or heals it.</summary>
    public void Isolate(ulong member, bool cut = true)
    {
        foreach (ulong other in Members())
        {
            if (other != member)
            {
                Cut(member, other, cut);
                Cut(other, member, cut);
            }
        }
    }

    /// <summary>The process of a member is gone.</summary>
    public void Kill(ulong member)
    {
        lock (_lock)
        {
            if (_ports.Remove(member, out Port? port))
            {
                port.Close();
            }
        }

        Relink();
    }

    private List<ulong> Members()
    {
        lock (_lock)
        {
            return [.. _ports.Keys];
        }
    }

    private void Later(ulong from, ulong to, PeerLane lane, long bytes, Action action)
    {
        if (Schedule is { } schedule)
        {
            schedule(from, to, lane, bytes, action);
            return;
        }

        lock (_lock)
        {
            _queue.Enqueue(action);
        }
    }

    private Port? Find(ulong from, ulong to, ulong boot)
    {
        lock (_lock)
        {
            return !_cut.Contains((from, to)) && _ports.TryGetValue(to, out Port? port)
                && (boot == 0 || port.Member!.Identity.Boot == boot) ? port : null;
        }
    }

    private bool IsAlive(ulong member, ulong boot)
    {
        lock (_lock)
        {
            return _ports.TryGetValue(member, out Port? port) && port.Member!.Identity.Boot == boot;
        }
    }

    private bool IsLinked(ulong a, ulong b)
    {
        lock (_lock)
        {
            return !_cut.Contains((a, b)) && !_cut.Contains((b, a)) && _ports.ContainsKey(a) && _ports.ContainsKey(b);
        }
    }

    private void Relink()
    {
        List<Port> ports;
        lock (_lock)
        {
            ports = [.. _ports.Values];
            ports.Sort(static (a, b) => a.Id.CompareTo(b.Id));
        }

        foreach (Port port in ports)
        {
            port.Relink();
        }
    }

    private sealed class Port(MemoryNetwork network) : ITransport
    {
        private readonly Dictionary<ulong, ulong> _linked = []; // peer to its boot
        private HashSet<ulong> _peers = [];
        private bool _closed;

        public IPeerReceiver? Member { get; private set; }

        public ulong Id => Member!.Identity.MemberId;

        public void Attach(IPeerReceiver member)
        {
            Member = member;
            lock (network._lock)
            {
                network._ports[member.Identity.MemberId] = this;
            }
        }

        public void SetPeers(IReadOnlyList<PeerAddress> peers)
        {
            var ids = new HashSet<ulong>();
            foreach (PeerAddress peer in peers)
            {
                _ = ids.Add(peer.Id);
            }

            lock (network._lock)
            {
                _peers = ids;
            }

            network.Relink();
        }

        public bool Send(in RaftMessage message, ReadOnlySpan<RaftEntry> entries)
        {
            ulong boot;
            lock (network._lock)
            {
                if (_closed || !_linked.TryGetValue(message.To, out boot))
                {
                    return false;
                }
            }

            if (network.Drop?.Invoke(message) == true)
            {
                return true;
            }

            byte[] body = new byte[EntryFrame.BodyBytes(entries)];
            EntryFrame.Write(entries, body);
            RaftMessage copy = message;
            int count = entries.Length;
            for (int again = network.Repeat?.Invoke(message) ?? 0; again >= 0; again--)
            {
                network.Later(
                    Id, message.To, PeerLanes.Of(message.Type), 64 + body.Length, () => Arrive(copy, body, count, boot));
            }

            return true;
        }

        public void SendSnapshot(ulong peer, ISnapshotSource source)
        {
            ulong boot;
            lock (network._lock)
            {
                boot = _linked.GetValueOrDefault(peer);
            }

            Port? target = boot == 0 ? null : network.Find(Id, peer, boot);
            ISnapshotSink? sink = target?.Member!.BeginSnapshot(source.Message, source.TotalBytes);
            if (sink is null)
            {
                source.Dispose();
                network.Later(Id, peer, PeerLane.Bulk, 0, () => Report(peer, false));
                return;
            }

            MoveSnapshot(peer, boot, source, sink);
        }

        public void Call(PeerCall call)
        {
            ulong boot;
            lock (network._lock)
            {
                boot = _linked.GetValueOrDefault(call.To);
            }

            if (boot == 0 || network.Find(Id, call.To, boot) is null)
            {
                network.Later(Id, call.To, PeerLane.Urgent, 0, () => call.Complete(PeerCallOutcome.Unreachable));
                return;
            }

            ulong from = Id;
            network.Later(from, call.To, PeerLane.Urgent, 64 + call.Request.Length, () =>
            {
                if (network.Find(from, call.To, boot) is not { } target || network.Clock.NowNs > call.DeadlineNs)
                {
                    call.Complete(PeerCallOutcome.Unreachable);
                    return;
                }

                target.Member!.Receive(new Request(network, call, from)
                {
                    Kind = call.Kind, From = from, Body = call.Request.ToArray(),
                });
            });
        }

        public void Close()
        {
            _closed = true;
            _linked.Clear();
        }

        public void Relink()
        {
            List<(ulong Peer, ulong Boot, ulong Storage)> up = [];
            List<ulong> down = [];
            lock (network._lock)
            {
                if (_closed)
                {
                    return;
                }

                foreach (ulong peer in _peers)
                {
                    ulong boot = network.IsLinked(Id, peer) ? network._ports[peer].Member!.Identity.Boot : 0;
                    ulong before = _linked.GetValueOrDefault(peer);
                    if (before != 0 && before != boot)
                    {
                        _ = _linked.Remove(peer);
                        down.Add(peer);
                    }

                    if (boot != 0 && before != boot)
                    {
                        _linked[peer] = boot;
                        up.Add((peer, boot, network._ports[peer].Member!.Identity.StorageId));
                    }
                }

                foreach (ulong peer in new List<ulong>(_linked.Keys))
                {
                    if (!_peers.Contains(peer))
                    {
                        _ = _linked.Remove(peer);
                        down.Add(peer);
                    }
                }
            }

            foreach (ulong peer in down)
            {
                Member!.Disconnected(peer);
                bool isGone;
                lock (network._lock)
                {
                    isGone = _peers.Contains(peer) && !network._ports.ContainsKey(peer);
                }

                if (isGone)
                {
                    Member.Gone(peer); // its next dial finds nobody there
                }
            }

            foreach ((ulong peer, ulong boot, ulong storage) in up)
            {
                PeerStanding standing;
                lock (network._lock)
                {
                    standing = network._ports.TryGetValue(peer, out Port? other)
                        ? other.Member!.Judge(Id, Member!.Identity.StorageId)
                        : PeerStanding.Unknown;
                }

                if (standing == PeerStanding.Removed)
                {
                    Member!.ToldRemoved(peer);
                    continue;
                }

                Member!.Connected(peer, boot, storage);
            }
        }

        private void Arrive(in RaftMessage message, byte[] body, int count, ulong boot)
        {
            if (network.Find(message.From, message.To, boot) is not { } target)
            {
                return;
            }

            if (target.Member!.Judge(message.From, 0) == PeerStanding.Removed)
            {
                Member!.ToldRemoved(message.To);
                return;
            }

            NativeBlock* block = null;
            if (count > 0)
            {
                block = EntryFrame.Rent(target.Member.Pool, body.Length);
                body.CopyTo(EntryFrame.Body(block));
            }

            network.Delivered[(int)message.Type]++;
            _ = target.Member.Deliver(in message, block);
        }

        private void MoveSnapshot(ulong peer, ulong boot, ISnapshotSource source, ISnapshotSink sink)
        {
            byte[] chunk = new byte[64 << 10];
            network.Later(Id, peer, PeerLane.Bulk, chunk.Length, () =>
            {
                if (_closed || network.Find(Id, peer, boot) is null)
                {
                    End(false);
                    return;
                }

                bool? ended = false;
                try
                {
                    int read = source.Read(chunk, network.Clock.NowNs);
                    ended = read > 0 ? sink.Write(chunk.AsSpan(0, read)) ? null : false : sink.Complete(source.Checksum);
                    network.SnapshotsSent += ended == true ? 1 : 0;
                }
                finally
                {
                    if (ended is { } succeeded)
                    {
                        End(succeeded); // also when one of the disks has died under it
                    }
                }

                if (ended is null)
                {
                    MoveSnapshot(peer, boot, source, sink);
                }
            });

            void End(bool succeeded)
            {
                if (network.IsAlive(peer, boot))
                {
                    sink.Dispose(); // of a member that is gone nothing can be asked any more
                }

                if (!_closed)
                {
                    source.Dispose();
                }

                Report(peer, succeeded);
            }
        }

        private void Report(ulong peer, bool succeeded)
        {
            if (!_closed)
            {
                Member!.SnapshotSent(peer, succeeded);
            }
        }
    }

    private sealed class Request(MemoryNetwork network, PeerCall call, ulong asker) : PeerRequest
    {
        public override void Reply(ErrorCode error, ReadOnlyMemory<byte> body)
        {
            byte[] copy = body.ToArray();
            network.Later(call.To, asker, PeerLane.Urgent, 64 + copy.Length, () =>
            {
                bool arrives = network.Find(call.To, asker, 0) is not null;
                call.Complete(arrives ? PeerCallOutcome.Answered : PeerCallOutcome.Unreachable, error, copy);
            });
        }
    }
}
