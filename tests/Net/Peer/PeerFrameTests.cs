// PeerFrameTests: what goes over the wire between members comes back as it was, and nothing else gets in.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Cairn.Net.Peer;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests.Peer;

public sealed class PeerFrameTests
{
    private static readonly Gen<ulong[]> s_ids = Gen.ULong.Array[0, 5];

    private static readonly Gen<ConfState> s_configuration = Gen.Select(
        s_ids, s_ids, s_ids, s_ids, Gen.Bool, (a, b, c, d, leave) => new ConfState
        {
            Voters = a, Learners = b, VotersOutgoing = c, LearnersNext = d, AutoLeave = leave,
        });

    private static readonly Gen<RaftMessage> s_message = Gen.Select(
        Gen.Int[1, 14], Gen.ULong.Array[9], Gen.Bool, Gen.Bool, Gen.Int[0, 4096], s_configuration,
        (type, numbers, reject, transfer, entries, configuration) => new RaftMessage
        {
            Type = (MessageType)type,
            From = numbers[0],
            To = numbers[1],
            Term = numbers[2],
            LogTerm = numbers[3],
            Index = numbers[4],
            Commit = numbers[5],
            Hint = numbers[6],
            Context = numbers[7],
            Boot = numbers[8],
            IsReject = reject,
            IsTransfer = transfer,
            EntryCount = entries,
            SnapshotState = type == (int)MessageType.Snapshot ? configuration : null,
        });

    [Fact]
    public void Message_OfEveryKind_ComesBackAsItWas() => s_message.Sample(message =>
    {
        byte[] body = new byte[PeerCodec.Measure(in message)];
        PeerCodec.Write(in message, message.EntryCount, body);
        Assert.True(PeerCodec.TryRead(body, out RaftMessage back, out int length));
        Assert.Equal(body.Length, length);
        Assert.Equal(Describe(message), Describe(back));
    });

    [Fact]
    public void Message_CutShort_IsRefused() => Gen.Select(s_message, Gen.Double[0, 1]).Sample((message, where) =>
    {
        byte[] body = new byte[PeerCodec.Measure(in message)];
        PeerCodec.Write(in message, message.EntryCount, body);
        Assert.False(PeerCodec.TryRead(body.AsSpan(0, (int)(where * (body.Length - 1))), out _, out _));
    });

    [Fact]
    public void Readers_OfAnyBytes_NeverThrow() => Gen.Byte.Array[0, 300].Sample(bytes =>
    {
        _ = PeerCodec.TryRead(bytes, out _, out _);
        _ = PeerCodec.TryReadCallHead(bytes, out _, out _, out _);
        _ = PeerHandshake.TryRead(bytes, out PeerHello? _);
        _ = PeerHandshake.TryRead(bytes, out PeerRefusal _);
        if (bytes.Length >= PeerFrame.HeaderBytes)
        {
            for (int lane = 0; lane < 3; lane++)
            {
                if (PeerFrame.TryReadHeader(bytes, (ConnectionLane)lane, out FrameHeader header))
                {
                    Assert.InRange(header.Length, 0, PeerFrame.MaxBody(header.Type, (ConnectionLane)lane));
                }
            }
        }
    });

    // Random bytes seldom look like a handshake: take a good one and change it.
    [Fact]
    public void Hello_ChangedInOneByte_IsCaughtByTheChecksum_AndNeverThrows() => Gen.Select(
        Gen.ULong, Gen.String[0, 100], Gen.Int[0, 3], Gen.Int, Gen.Byte[1, 255]).Sample((id, text, urls, where, change) =>
    {
        var hello = new PeerHello
        {
            Identity = new PeerIdentity(1, id | 1, 3, 4, text),
            Urls = urls == 0 ? [] : ["http://" + text, "http://127.0.0.1:1"],
        };
        byte[] frame = PeerHandshake.Frame(hello, FrameType.Hello);
        Assert.True(PeerFrame.TryReadHeader(frame, ConnectionLane.Urgent, out FrameHeader header));
        Assert.Equal(frame.Length, PeerFrame.HeaderBytes + header.Length);
        Assert.True(PeerFrame.IsIntact(frame, frame.AsSpan(PeerFrame.HeaderBytes)));
        Assert.True(PeerHandshake.TryRead(frame.AsSpan(PeerFrame.HeaderBytes), out PeerHello? back));
        Assert.Equal(hello.Identity.MemberId, back!.Identity.MemberId);

        int at = (where & int.MaxValue) % frame.Length;
        frame[at] ^= change;
        if (at >= PeerFrame.HeaderBytes)
        {
            Assert.False(PeerFrame.IsIntact(frame, frame.AsSpan(PeerFrame.HeaderBytes)));
        }

        _ = PeerHandshake.TryRead(frame.AsSpan(PeerFrame.HeaderBytes), out PeerHello? _);
    });

    [Theory]
    [InlineData(0xFFFFFFFFu)]
    [InlineData(0x80000000u)]
    [InlineData(0x7FFFFFFFu)]
    public void Header_OfAbsurdLength_IsRefusedOnEveryLane(uint length)
    {
        byte[] header = new byte[PeerFrame.HeaderBytes];
        BitConverter.TryWriteBytes(header, length);
        for (int type = 0; type < 256; type++)
        {
            header[4] = (byte)type;
            for (int lane = 0; lane < 3; lane++)
            {
                Assert.False(PeerFrame.TryReadHeader(header, (ConnectionLane)lane, out _));
            }
        }
    }

    [Theory]
    [InlineData(2, 3, 1, 2UL, 0UL, PeerStanding.Member, "Protocol")]
    [InlineData(0, 0, 1, 2UL, 0UL, PeerStanding.Member, "Protocol")]
    [InlineData(1, 2, 9, 2UL, 0UL, PeerStanding.Member, "ClusterMismatch")]
    [InlineData(1, 2, 1, 7UL, 0UL, PeerStanding.Member, "NotAddressee")]
    [InlineData(1, 2, 1, 2UL, 2UL, PeerStanding.Member, "NotAddressee")]
    [InlineData(1, 2, 1, 2UL, 0UL, PeerStanding.Removed, "Removed")]
    [InlineData(1, 2, 1, 2UL, 0UL, PeerStanding.OtherStorage, "OtherStorage")]
    [InlineData(1, 2, 1, 2UL, 0UL, PeerStanding.Unknown, "None")]
    [InlineData(1, 2, 1, 0UL, 0UL, PeerStanding.Member, "None")]
    public void Hello_IsJudgedByProtocolClusterAndStanding(
        int oldest, int newest, int cluster, ulong to, ulong from, PeerStanding standing, string expected)
    {
        var hello = new PeerHello
        {
            OldestProtocol = (ushort)oldest,
            Protocol = (ushort)newest,
            Identity = new PeerIdentity((ulong)cluster, from == 0 ? 5 : from, 6, 7, "3.6.14"),
            To = to,
        };
        var self = new PeerIdentity(1, 2, 3, 4, "3.6.14");
        Assert.Equal(expected, PeerHandshake.Judge(hello, self, _ => standing).Reason.ToString());
    }

    private static string Describe(in RaftMessage message)
    {
        var parts = new List<string>
        {
            $"{message.Type} {message.IsReject} {message.IsTransfer} {message.EntryCount} {message.From} {message.To} {message.Term}",
            $"{message.LogTerm} {message.Index} {message.Commit} {message.Hint} {message.Context} {message.Boot}",
        };
        if (message.SnapshotState is { } state)
        {
            foreach (ulong[] list in new[] { state.Voters, state.Learners, state.VotersOutgoing, state.LearnersNext })
            {
                parts.Add(string.Join(',', list));
            }

            parts.Add(state.AutoLeave.ToString());
        }

        return string.Join('|', parts);
    }
}
