// Weather: the network between the members of one cluster, in the hands of a test: every way from one member to another goes
// through a relay here, which may swallow what is said in one direction, delay it, or lose part of it.
//
// Honest     A cut is silence, as on a real network: connections stay open and nothing comes out of them. A lost segment holds
//            up what is behind it until it is sent again (TCP promises order), longer each time it is lost once more; now and
//            then a connection is reset. Nothing is ever changed, repeated or given in another order.
// Who        is read out of the handshake: the member id stands 36 bytes after the start. HTTP between members belongs to 0.
// Healing    ends the connections that swallowed something: their streams have holes.
using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;

namespace Cairn.Cluster;

/// <summary>What a direction from one member to another is like.</summary>
/// <param name="IsCut">Nothing arrives.</param>
/// <param name="DelayMs">What arrives does so this much later.</param>
/// <param name="LossPercent">Of the segments, each time one is sent.</param>
internal sealed record Sky(bool IsCut = false, int DelayMs = 0, int LossPercent = 0)
{
    public static Sky Clear { get; } = new();
}

internal sealed class Weather : IAsyncDisposable
{
    private readonly List<Relay> _relays = [];
    private readonly Dictionary<ulong, ClusterMember> _ids = [];
    private Func<ClusterMember, ClusterMember, Sky> _rule = static (_, _) => Sky.Clear;

    /// <summary>Puts a relay before each member; before they start.</summary>
    public Weather(Members members)
    {
        foreach (ClusterMember member in members.All)
        {
            Relay relay = new(this, member);
            _relays.Add(relay);
            member.PeerUrl = relay.Url;
        }
    }

    /// <summary>Learns who is who; once the members serve.</summary>
    public async Task Learn(Members members)
    {
        foreach (ClusterMember member in members.All)
        {
            List<string> status = await member.Running.Client.Ok(Grpc.Status, new Pb());
            ulong id = ulong.Parse(Schema.Value(status, "header.member_id"), System.Globalization.CultureInfo.InvariantCulture);
            lock (_ids)
            {
                _ids[id] = member;
            }
        }
    }

    /// <summary>From now on: what each direction is like. Open connections go on under it.</summary>
    public void Set(Func<ClusterMember, ClusterMember, Sky> rule) => Volatile.Write(ref _rule, rule);

    /// <summary>Nobody hears these, and they hear nobody outside.</summary>
    public void Isolate(params ClusterMember[] few) =>
        Set((from, to) => Array.IndexOf(few, from) < 0 == Array.IndexOf(few, to) < 0 ? Sky.Clear : new Sky(IsCut: true));

    /// <summary>All clear; what has holes ends.</summary>
    public void Heal()
    {
        Set(static (_, _) => Sky.Clear);
        foreach (Relay relay in _relays)
        {
            relay.EndHoles();
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (Relay relay in _relays)
        {
            await relay.DisposeAsync();
        }
    }

    private Sky Between(ulong dialler, ClusterMember target, bool forward)
    {
        ClusterMember? other;
        lock (_ids)
        {
            _ = _ids.TryGetValue(dialler, out other);
        }

        return other is null ? Sky.Clear : forward ? Volatile.Read(ref _rule)(other, target) : Volatile.Read(ref _rule)(target, other);
    }

    /// <summary>The way to one member.</summary>
    private sealed class Relay : IAsyncDisposable
    {
        private const int FirstResendMs = 200;
        private const int SegmentBytes = 1448;

        private readonly Weather _weather;
        private readonly ClusterMember _target;
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly ConcurrentDictionary<Pair, byte> _open = [];
        private readonly CancellationTokenSource _stop = new();
        private readonly Task _accepting;

        public Relay(Weather weather, ClusterMember target)
        {
            _weather = weather;
            _target = target;
            _listener.Start();
            _accepting = Accept();
        }

        public string Url => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

        public void EndHoles()
        {
            foreach (Pair pair in _open.Keys)
            {
                if (pair.HasHole)
                {
                    pair.End();
                }
            }
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            _listener.Stop();
            foreach (Pair pair in _open.Keys)
            {
                pair.End();
            }

            await _accepting;
            _stop.Dispose();
        }

        private async Task Accept()
        {
            try
            {
                while (!_stop.IsCancellationRequested)
                {
                    _ = Join(await _listener.AcceptTcpClientAsync(_stop.Token));
                }
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // Stopped.
            }
        }

        private async Task Join(TcpClient dialler)
        {
            Pair pair = new(dialler);
            _open[pair] = 0;
            try
            {
                byte[] first = new byte[44];
                int count = await dialler.GetStream().ReadAtLeastAsync(first, 1, false, _stop.Token);
                if (count > 0 && first[0] == 0xF3 && count < first.Length)
                {
                    count += await dialler.GetStream().ReadAtLeastAsync(first.AsMemory(count), first.Length - count, false, _stop.Token);
                }

                if (count > 0)
                {
                    pair.Dialler = count == first.Length && first[0] == 0xF3
                        ? BinaryPrimitives.ReadUInt64LittleEndian(first.AsSpan(36)) : 0;
                    await pair.Accepter.ConnectAsync(IPAddress.Loopback, _target.PeerPort, _stop.Token);
                    await Task.WhenAny(
                        Carry(pair, dialler, pair.Accepter, first.AsMemory(0, count), forward: true),
                        Carry(pair, pair.Accepter, dialler, default, forward: false));
                }
            }
            catch (Exception e) when (IsEnd(e))
            {
                // Nobody there, or one side left.
            }

            pair.End();
            _ = _open.TryRemove(pair, out _);
        }

        private async Task Carry(Pair pair, TcpClient from, TcpClient to, ReadOnlyMemory<byte> first, bool forward)
        {
            Channel<(byte[] Bytes, long Due)> way = Channel.CreateBounded<(byte[], long)>(512);
            Task giving = Give(pair, to, way.Reader, forward);
            Random random = new();
            byte[] buffer = new byte[64 << 10];
            try
            {
                if (!first.IsEmpty)
                {
                    await way.Writer.WriteAsync((first.ToArray(), 0), _stop.Token);
                }

                int count;
                while ((count = await from.GetStream().ReadAsync(buffer, _stop.Token)) > 0)
                {
                    Sky sky = _weather.Between(pair.Dialler, _target, forward);
                    long due = sky.DelayMs == 0 && sky.LossPercent == 0 ? 0 : Environment.TickCount64 + sky.DelayMs + Resends(sky, count, random);
                    if (sky.LossPercent > 0 && random.Next(1000) < 2)
                    {
                        break; // a reset
                    }

                    await way.Writer.WriteAsync((buffer.AsSpan(0, count).ToArray(), due), _stop.Token);
                }
            }
            catch (Exception e) when (IsEnd(e))
            {
                // One side ended.
            }

            _ = way.Writer.TryComplete();
            await giving;
        }

        // Every segment on its way may be lost, and lost again; what is behind it waits.
        private static int Resends(Sky sky, int bytes, Random random)
        {
            int longest = 0;
            for (int at = 0; at < bytes; at += SegmentBytes)
            {
                int wait = 0;
                for (int timeout = FirstResendMs; random.Next(100) < sky.LossPercent && timeout < 3000; timeout *= 2)
                {
                    wait += timeout;
                }

                longest = Math.Max(longest, wait);
            }

            return longest;
        }

        private async Task Give(Pair pair, TcpClient to, ChannelReader<(byte[] Bytes, long Due)> way, bool forward)
        {
            try
            {
                await foreach ((byte[] bytes, long due) in way.ReadAllAsync(_stop.Token))
                {
                    long wait = due - Environment.TickCount64;
                    if (wait > 0)
                    {
                        await Task.Delay((int)wait, _stop.Token);
                    }

                    if (pair.HasHole || _weather.Between(pair.Dialler, _target, forward).IsCut)
                    {
                        pair.HasHole = true; // a stream with a hole gives nothing any more
                        continue;
                    }

                    await to.GetStream().WriteAsync(bytes, _stop.Token);
                }
            }
            catch (Exception e) when (IsEnd(e))
            {
                // One side ended.
            }

            pair.End();
        }

        private static bool IsEnd(Exception e) =>
            e is OperationCanceledException or SocketException or ObjectDisposedException or IOException or InvalidOperationException;
    }

    /// <summary>The two connections of one relayed one.</summary>
    private sealed class Pair(TcpClient dialling)
    {
        private volatile bool _hasHole;

        public TcpClient Accepter { get; } = new() { NoDelay = true };

        public ulong Dialler { get; set; }

        public bool HasHole
        {
            get => _hasHole;
            set => _hasHole = value;
        }

        public void End()
        {
            dialling.Close();
            Accepter.Close();
        }
    }
}
