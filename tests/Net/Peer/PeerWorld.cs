// PeerWorld: transports on loopback around members that only note what they are told.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Cairn.Net.Http;
using Cairn.Net.Peer;
using Cairn.Net.Tls;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Cairn.Net.Tests.Peer;

/// <summary>A member that delivers nothing to raft.</summary>
internal sealed unsafe class NotedMember(ulong id, ulong cluster) : IPeerReceiver
{
    private long _connects;

    public PeerIdentity Identity { get; set; } = new(cluster, id, id * 1000, id * 7, "3.6.14");

    public NativePool Pool { get; } = new();

    public ConcurrentQueue<(RaftMessage Message, byte[] Body)> Messages { get; } = new();

    public ConcurrentDictionary<ulong, (ulong Boot, ulong Storage)> Links { get; } = new();

    public ConcurrentDictionary<ulong, PeerStanding> Standings { get; } = new();

    public ulong RemovedBy { get; private set; }

    public long Connects => Interlocked.Read(ref _connects);

    public ConcurrentQueue<(ulong Peer, bool Good)> SnapshotsSent { get; } = new();

    public Func<RaftMessage, long, ISnapshotSink?> OnSnapshot { get; set; } = (_, _) => null;

    public Action<PeerRequest> OnRequest { get; set; } = request => request.Reply(Core.Protocol.ErrorCode.None, request.Body);

    public PeerStanding Judge(ulong memberId, ulong storageId) => Standings.GetValueOrDefault(memberId, PeerStanding.Member);

    public bool Deliver(in RaftMessage message, NativeBlock* entries)
    {
        byte[] body = [];
        if (entries != null)
        {
            body = EntryFrame.Body(entries).ToArray();
            Pool.Return(entries);
        }

        Messages.Enqueue((message, body));
        return true;
    }

    public void Connected(ulong peer, ulong boot, ulong storageId)
    {
        Links[peer] = (boot, storageId);
        Interlocked.Increment(ref _connects);
    }

    public void Disconnected(ulong peer) => Links.TryRemove(peer, out _);

    public ConcurrentQueue<ulong> GonePeers { get; } = new();

    public void Gone(ulong peer) => GonePeers.Enqueue(peer);

    public void ToldRemoved(ulong byPeer) => RemovedBy = byPeer;

    public ISnapshotSink? BeginSnapshot(in RaftMessage message, long totalBytes) => OnSnapshot(message, totalBytes);

    void IPeerReceiver.SnapshotSent(ulong peer, bool succeeded) => SnapshotsSent.Enqueue((peer, succeeded));

    public void Receive(PeerRequest request) => OnRequest(request);
}

/// <summary>One transport with its member.</summary>
internal sealed class PeerEnd : IDisposable
{
    private readonly string _scheme;

    public PeerEnd(
        ulong id, ulong cluster = 9, int port = 0, HttpHandler? pages = null, TimeSpan? readTimeout = null, TlsOptions? tls = null,
        ILogger? log = null)
    {
        _scheme = tls is null ? "http" : "https";
        var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, port));
        listener.Listen(128);
        Port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        Member = new NotedMember(id, cluster);
        Transport = new PeerTransport(new PeerTransportOptions
        {
            Clock = SystemClock.Instance,
            Random = new SystemRandom(id),
            Fatal = NoFatal.Instance,
            Log = log ?? NullLogger.Instance,
            Listeners = tls is null ? [listener] : [],
            SecureListeners = tls is null ? [] : [listener],
            Tls = tls is null ? TlsEndpoint.None : new TlsEndpoint(tls),
            AdvertisedUrls = [Url],
            Pages = pages,
            ReadTimeout = readTimeout ?? TimeSpan.FromSeconds(5),
        });
        Transport.Attach(Member);
    }

    public int Port { get; }

    public string Url => _scheme + "://127.0.0.1:" + Port.ToString(System.Globalization.CultureInfo.InvariantCulture);

    public NotedMember Member { get; }

    public PeerTransport Transport { get; }

    public PeerAddress Address => new(Member.Identity.MemberId, [Url]);

    public void Dispose() => Transport.Dispose();

    /// <summary>Waits for a condition; generous, fails with the name of what did not come.</summary>
    public static async Task Until(Func<bool> condition, string what)
    {
        long limit = Environment.TickCount64 + 30_000;
        while (!condition())
        {
            Assert.True(Environment.TickCount64 < limit, "did not come within 30 s: " + what);
            await Task.Delay(5);
        }
    }

    /// <summary>Starts all and waits until each is linked to each.</summary>
    public static async Task Join(params PeerEnd[] ends)
    {
        foreach (PeerEnd end in ends)
        {
            var others = new List<PeerAddress>();
            foreach (PeerEnd other in ends)
            {
                if (other != end)
                {
                    others.Add(other.Address);
                }
            }

            end.Transport.SetPeers(others);
            end.Transport.Start();
        }

        foreach (PeerEnd end in ends)
        {
            await Until(() => end.Member.Links.Count == ends.Length - 1, "links of " + end.Member.Identity.MemberId);
        }
    }
}
