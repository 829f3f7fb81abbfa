// PeerTransportTests: members over real sockets: what is sent arrives once, in order, on its lane; whoever does not belong is
// turned away, and told so; nothing a stranger does costs more than his socket.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Cairn.Net.Http;
using Cairn.Net.Peer;
using Cairn.Net.Tls;
using Xunit;

namespace Cairn.Net.Tests.Peer;

public sealed unsafe partial class PeerTransportTests
{
    private static bool Append(PeerEnd from, ulong to, ulong index, byte[] payload)
    {
        byte* data = (byte*)NativeMemory.Alloc((nuint)payload.Length + 1);
        payload.CopyTo(new Span<byte>(data, payload.Length));
        var entry = new RaftEntry { Term = 3, Index = index, Data = data, Length = payload.Length };
        var message = new RaftMessage { Type = MessageType.Append, To = to, Term = 3, Index = index - 1, EntryCount = 1 };
        bool taken = from.Transport.Send(in message, new ReadOnlySpan<RaftEntry>(in entry));
        NativeMemory.Free(data); // the transport has copied it
        return taken;
    }

    private static bool Heartbeat(PeerEnd from, ulong to, ulong number)
    {
        var message = new RaftMessage { Type = MessageType.Heartbeat, To = to, Term = 3, Commit = number };
        return from.Transport.Send(in message, default);
    }
}

public sealed partial class PeerTransportTests : IDisposable
{
    private Certificates? _certificates;

    private TlsOptions? Tls(bool secure)
    {
        if (!secure)
        {
            return null;
        }

        _certificates ??= new Certificates();
        CertificateFiles own = _certificates.Issue("peer");
        return new TlsOptions { CertFile = own.Cert, KeyFile = own.Key, TrustedCaFile = _certificates.CaFile, ClientCertAuth = true };
    }

    public void Dispose() => _certificates?.Dispose();

    private static Task Until(Func<bool> condition, string what) => PeerEnd.Until(condition, what);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Messages_OnBothLanes_ArriveOnceAndInOrder(bool secure)
    {
        using var one = new PeerEnd(1, tls: Tls(secure));
        using var two = new PeerEnd(2, tls: Tls(secure));
        using var three = new PeerEnd(3, tls: Tls(secure));
        await PeerEnd.Join(one, two, three);
        Assert.Equal((2000UL, 14UL), one.Member.Links[2]);

        const int Count = 3000;
        for (ulong i = 1; i <= Count; i++)
        {
            byte[] payload = new byte[(i * 37) % 5000];
            Array.Fill(payload, (byte)i);
            await Until(() => Append(one, 2, i, payload), "room for an append");
            await Until(() => Heartbeat(one, 2, i), "room for a heartbeat");
        }

        await Until(() => two.Member.Messages.Count == 2 * Count, "all messages");
        ulong appends = 0, beats = 0;
        foreach ((RaftMessage message, byte[] body) in two.Member.Messages)
        {
            Assert.Equal((1UL, 2UL), (message.From, message.To));
            if (message.Type == MessageType.Heartbeat)
            {
                Assert.Equal(++beats, message.Commit);
                continue;
            }

            appends++;
            Assert.Equal(appends - 1, message.Index);
            Assert.Equal((int)((appends * 37) % 5000), body.Length - EntryFrame.EntryHeadBytes);
            Assert.Equal(-1, body.AsSpan(EntryFrame.EntryHeadBytes).IndexOfAnyExcept((byte)appends));
        }

        Assert.Equal((ulong)Count, appends);
        Assert.Empty(three.Member.Messages);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Append_AsLargeAsARequestMayBe_ArrivesWhole_AndHeartbeatsPassIt(bool secure)
    {
        using var one = new PeerEnd(1, tls: Tls(secure));
        using var two = new PeerEnd(2, tls: Tls(secure));
        await PeerEnd.Join(one, two);
        byte[] payload = new byte[40 << 20];
        new Random(1).NextBytes(payload);
        Assert.True(Append(one, 2, 1, payload));
        Assert.True(Heartbeat(one, 2, 1));
        await Until(() => two.Member.Messages.Count == 2, "both");
        two.Member.Messages.TryDequeue(out (RaftMessage Message, byte[] Body) first);
        two.Member.Messages.TryDequeue(out (RaftMessage Message, byte[] Body) second);
        Assert.Equal(MessageType.Heartbeat, first.Message.Type);
        Assert.True(payload.AsSpan().SequenceEqual(second.Body.AsSpan(EntryFrame.EntryHeadBytes)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Send_ToAPeerThatTakesNothing_SaysNoInTheEnd_AndNeverBlocks(bool secure)
    {
        using var one = new PeerEnd(1, readTimeout: TimeSpan.FromMinutes(1), tls: Tls(secure));
        using var two = new PeerEnd(2, readTimeout: TimeSpan.FromMinutes(1), tls: Tls(secure));
        await PeerEnd.Join(one, two);
        byte[] payload = new byte[1 << 20];
        int taken = 0;
        while (taken < 10_000 && Append(one, 2, (ulong)taken + 1, payload))
        {
            taken++;
        }

        // 64 MiB of queue and what has left meanwhile; without a bound this would go on.
        Assert.InRange(taken, 32, 9_999);
        Assert.True(Heartbeat(one, 2, 1));
        await Until(() => two.Member.Messages.Count == taken + 1, "everything that was taken");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Call_IsAnsweredOrUnreachable_ExactlyOnce(bool secure)
    {
        using var one = new PeerEnd(1, tls: Tls(secure));
        var two = new PeerEnd(2, tls: Tls(secure));
        await PeerEnd.Join(one, two);
        long deadline = SystemClock.Instance.NowNs + 30_000_000_000;
        var calls = new List<PeerCall>();
        for (int i = 0; i < 200; i++)
        {
            byte[] body = Encoding.ASCII.GetBytes("question " + i);
            var call = new PeerCall(PeerCallKind.HashKv, 2, body, deadline);
            one.Transport.Call(call);
            calls.Add(call);
        }

        var large = new PeerCall(PeerCallKind.MemberList, 2, new byte[PeerCall.MaxBodyBytes], deadline);
        one.Transport.Call(large);
        for (int i = 0; i < calls.Count; i++)
        {
            await calls[i].Completion.WaitAsync(TimeSpan.FromSeconds(30));
            Assert.Equal(PeerCallOutcome.Answered, calls[i].Outcome);
            Assert.Equal("question " + i, Encoding.ASCII.GetString(calls[i].Response.Span));
        }

        await large.Completion.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(PeerCall.MaxBodyBytes, large.Response.Length);

        two.Member.OnRequest = request => request.Reply(ErrorCode.LeaseNotFound, default);
        var refused = new PeerCall(PeerCallKind.LeaseRenew, 2, default, deadline);
        one.Transport.Call(refused);
        await refused.Completion.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal((PeerCallOutcome.Answered, ErrorCode.LeaseNotFound), (refused.Outcome, refused.Error));

        two.Member.OnRequest = _ => { };
        var late = new PeerCall(PeerCallKind.HashKv, 2, default, SystemClock.Instance.NowNs + 50_000_000);
        one.Transport.Call(late);
        await late.Completion.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(PeerCallOutcome.Unreachable, late.Outcome);

        var orphan = new PeerCall(PeerCallKind.HashKv, 2, default, deadline);
        one.Transport.Call(orphan);
        two.Dispose();
        await orphan.Completion.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Equal(PeerCallOutcome.Unreachable, orphan.Outcome);
        var stranger = new PeerCall(PeerCallKind.HashKv, 77, default, deadline);
        one.Transport.Call(stranger);
        Assert.Equal(PeerCallOutcome.Unreachable, stranger.Outcome);
    }

    [Fact]
    public async Task Peer_ThatRestarts_IsFoundAgain_WithItsNewBoot()
    {
        using var one = new PeerEnd(1);
        var two = new PeerEnd(2);
        int port = two.Port;
        await PeerEnd.Join(one, two);
        two.Dispose();
        await Until(() => one.Member.Links.IsEmpty, "the end of the link");
        Assert.False(Heartbeat(one, 2, 1));

        // Nobody listens there any more: its process has ended, which is told once.
        await Until(() => !one.Member.GonePeers.IsEmpty, "the news that it is gone");

        using var again = new PeerEnd(2, port: port);
        again.Member.Identity = again.Member.Identity with { Boot = 4711 };
        again.Transport.SetPeers([one.Address]);
        again.Transport.Start();
        await Until(() => one.Member.Links.TryGetValue(2, out (ulong Boot, ulong Storage) link) && link.Boot == 4711, "the new boot");
        await Until(() => Heartbeat(one, 2, 2), "a link that takes messages");
        await Until(() => again.Member.Messages.Count == 1, "the message");
        Assert.Equal([2UL], one.Member.GonePeers);
    }

    [Fact]
    public async Task Member_ThatWasRemoved_IsToldAndCutOff()
    {
        using var one = new PeerEnd(1);
        using var two = new PeerEnd(2);
        await PeerEnd.Join(one, two);
        one.Member.Standings[2] = PeerStanding.Removed;
        one.Transport.SetPeers([]);
        await Until(() => two.Member.RemovedBy == 1, "the news");
        await Until(() => two.Member.Links.IsEmpty && one.Member.Links.IsEmpty, "the end of both links");
    }

    [Fact]
    public async Task Member_OfAnotherCluster_IsRefused()
    {
        using var one = new PeerEnd(1);
        using var other = new PeerEnd(2, cluster: 10);
        one.Transport.SetPeers([other.Address]);
        other.Transport.SetPeers([one.Address]);
        one.Transport.Start();
        other.Transport.Start();
        await Until(() => one.Transport.Strangers.ReceiveFailures > 0 && other.Transport.Strangers.ReceiveFailures > 0, "refusals");
        Assert.Empty(one.Member.Links);
        Assert.Empty(other.Member.Links);
        Assert.False(Heartbeat(one, 2, 1));
    }

    [Fact]
    public async Task Member_NotKnownYet_CanTalkAndBeAnswered()
    {
        using var one = new PeerEnd(1);
        using var newcomer = new PeerEnd(2);
        one.Member.Standings[2] = PeerStanding.Unknown;
        one.Transport.Start();
        newcomer.Transport.SetPeers([one.Address]);
        newcomer.Transport.Start();
        await Until(() => Heartbeat(newcomer, 1, 1), "a link to the member");
        await Until(() => one.Member.Messages.Count == 1, "its message");
        await Until(() => Heartbeat(one, 2, 2), "a way back");
        await Until(() => newcomer.Member.Messages.Count == 1, "the answer");

        // It becomes a member: the link it has stays, a second one would push it out again and again.
        one.Member.Standings[2] = PeerStanding.Member;
        one.Transport.SetPeers([newcomer.Address]);
        for (ulong i = 3; i < 200; i++)
        {
            Assert.True(Heartbeat(one, 2, i));
            await Task.Delay(1);
        }

        await Until(() => newcomer.Member.Messages.Count == 198, "everything that was sent");
        Assert.Equal((1L, 1L), (one.Member.Connects, newcomer.Member.Connects));
    }

    [Theory]
    [InlineData("GET /raft/stream/msgapp/1 HTTP/1.1\r\n\r\n", "HTTP/1.1 404")]
    [InlineData("GET /page HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200")]
    [InlineData("NONSENSE\r\n\r\n", "HTTP/1.1 400")]
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "")]
    [InlineData("\u0016\u0003\u0001\u0002\u0000\u0001", "")]
    [InlineData("hello", "")]
    public async Task Stranger_IsAnsweredOrTurnedAway_AndMembersGoOn(string said, string answer)
    {
        HttpHandler pages = call =>
        {
            if (call.Path == "/page")
            {
                call.Reply(200, "text/plain", "here");
            }
            else
            {
                call.NotFound();
            }

            return ValueTask.CompletedTask;
        };
        using var one = new PeerEnd(1, pages: pages);
        using var two = new PeerEnd(2);
        await PeerEnd.Join(one, two);
        string heard = await Say(one.Port, Encoding.Latin1.GetBytes(said));
        Assert.StartsWith(answer, heard, StringComparison.Ordinal);
        Assert.Equal(answer.Length == 0, heard.Length == 0);
        Assert.True(Heartbeat(one, 2, 1));
        await Until(() => two.Member.Messages.Count == 1, "a message between members");
    }

    [Fact]
    public async Task Strangers_OfEveryKindAtOnce_AreTurnedAway_AndMembersGoOn()
    {
        using var one = new PeerEnd(1);
        using var two = new PeerEnd(2);
        await PeerEnd.Join(one, two);
        var random = new Random(7);
        var silent = new List<Socket>();
        for (int i = 0; i < 300; i++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            await socket.ConnectAsync("127.0.0.1", one.Port);
            silent.Add(socket);
        }

        for (int i = 0; i < 100; i++)
        {
            byte[] bytes = new byte[random.Next(1, 6000)];
            random.NextBytes(bytes);
            if (i % 2 == 0)
            {
                // A preface and then anything: an absurd length among them.
                PeerFrame.Preface[..Math.Min(8, bytes.Length)].CopyTo(bytes);
            }

            _ = await Say(one.Port, bytes);
        }

        Assert.True(Heartbeat(one, 2, 1));
        await Until(() => two.Member.Messages.Count == 1, "a message between members");
        foreach (Socket socket in silent)
        {
            socket.Dispose();
        }

        using var three = new PeerEnd(3);
        three.Transport.SetPeers([one.Address]);
        three.Transport.Start();
        await Until(() => three.Member.Links.ContainsKey(1), "the door is still open");
    }

    [Theory]
    [InlineData(0, 0, true, false)]
    [InlineData(3_000_000, 0, true, false)]
    [InlineData(3_000_000, 1_000_000, false, false)]
    [InlineData(3_000_000, 0, true, true)]
    [InlineData(3_000_000, 1_000_000, false, true)]
    public async Task Snapshot_ArrivesWhole_OrIsReported(int length, int failAt, bool expected, bool secure)
    {
        using var one = new PeerEnd(1, tls: Tls(secure));
        using var two = new PeerEnd(2, tls: Tls(secure));
        await PeerEnd.Join(one, two);
        var image = new byte[Math.Max(1, length)];
        new Random(3).NextBytes(image);
        var sink = new NotedSink(failAt);
        RaftMessage offered = default;
        two.Member.OnSnapshot = (message, _) =>
        {
            offered = message;
            return sink;
        };
        one.Transport.SendSnapshot(2, new ArraySource(image, new RaftMessage
        {
            Type = MessageType.Snapshot, To = 2, Term = 5, Index = 77, LogTerm = 4, SnapshotState = new ConfState { Voters = [1, 2] },
        }));
        await Until(() => !one.Member.SnapshotsSent.IsEmpty, "the report");
        Assert.Equal([(2UL, expected)], one.Member.SnapshotsSent.ToArray());
        await Until(() => sink.IsDisposed, "the end of the sink");
        Assert.Equal((1UL, 77UL, 4UL), (offered.From, offered.Index, offered.LogTerm));
        Assert.Equal([1UL, 2UL], offered.SnapshotState!.Voters);
        if (expected)
        {
            Assert.Equal(image, sink.Taken);
            Assert.Equal(Crc32C.Compute(image), sink.Checksum);
        }
    }

    [Fact]
    public async Task Snapshot_NotWantedOrNobodyThere_IsReportedOnce()
    {
        using var one = new PeerEnd(1);
        using var two = new PeerEnd(2);
        await PeerEnd.Join(one, two);
        var offer = new RaftMessage { Type = MessageType.Snapshot, Index = 1, SnapshotState = new ConfState { Voters = [1] } };
        one.Transport.SendSnapshot(2, new ArraySource(new byte[10], offer));
        await Until(() => one.Member.SnapshotsSent.Count == 1, "the refusal");
        one.Transport.SendSnapshot(99, new ArraySource(new byte[10], offer));
        await Until(() => one.Member.SnapshotsSent.Count == 2, "the failure");
        Assert.Equal([(2UL, false), (99UL, false)], one.Member.SnapshotsSent.ToArray());
    }

    [Fact]
    public async Task RoundTrip_IsMeasured_AndBytesAreCounted()
    {
        using var one = new PeerEnd(1);
        using var two = new PeerEnd(2);
        await PeerEnd.Join(one, two);
        PeerCounters counters = one.Transport.CountersOf(2);
        await Until(() => counters.RoundTripNs > 0, "a round trip");
        Assert.True(counters.IsActive);
        Assert.True(counters.BytesSent > 0 && counters.BytesReceived > 0 && counters.UrgentFramesSent > 0);
        Assert.Equal([2UL], one.Transport.KnownPeers());
    }

    private static async Task<string> Say(int port, byte[] bytes)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync("127.0.0.1", port);
        using var limit = new System.Threading.CancellationTokenSource(TimeSpan.FromSeconds(30));
        var heard = new StringBuilder();
        try
        {
            await socket.SendAsync(bytes, SocketFlags.None, limit.Token);
            byte[] buffer = new byte[4096];
            int count;
            while ((count = await socket.ReceiveAsync(buffer, SocketFlags.None, limit.Token)) > 0)
            {
                heard.Append(Encoding.Latin1.GetString(buffer, 0, count));
            }
        }
        catch (SocketException)
        {
            // Turned away before everything was said.
        }

        return heard.ToString();
    }

    private sealed class ArraySource(byte[] image, RaftMessage message) : ISnapshotSource
    {
        public RaftMessage Message => message;

        public long TotalBytes => image.Length;

        public long Position { get; private set; }

        public uint Checksum { get; private set; }

        public long NextReadNs => 0;

        public int Read(Span<byte> destination, long nowNs)
        {
            int count = (int)Math.Min(destination.Length, image.Length - Position);
            image.AsSpan((int)Position, count).CopyTo(destination);
            Checksum = Crc32C.Append(Checksum, destination[..count]);
            Position += count;
            return count;
        }

        public void Dispose()
        {
        }
    }

    private sealed class NotedSink(int failAt) : ISnapshotSink
    {
        private readonly List<byte> _taken = [];

        public byte[] Taken => [.. _taken];

        public uint Checksum { get; private set; }

        public bool IsDisposed { get; private set; }

        public bool Write(ReadOnlySpan<byte> chunk)
        {
            _taken.AddRange(chunk);
            return failAt == 0 || _taken.Count < failAt;
        }

        public bool Complete(uint checksum)
        {
            Checksum = checksum;
            return true;
        }

        public void Dispose() => IsDisposed = true;
    }
}
