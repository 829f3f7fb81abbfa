// PeerHandshake: the first frame each way: who dials, who answers, and whether they may talk. Pure.
//
// Layout     Hello and Welcome, little endian: 0 protocol u16 | 2 oldest protocol u16 | 4 lane u8 | 5 three zero bytes |
//            8 cluster | 16 from | 24 to | 32 boot | 40 storage id, all u64 | 48 version length u8, text |
//            count u8 of peer URLs, each length u16, text.
//            Refuse: 0 reason u8 | 1 length u16 | text.
// Judgement  by the accepting side (PeerDoor): protocol, cluster, addressee, then what the member itself says (Judge). A
//            member this one does not know yet is let in when the cluster is the same: it may have been added by entries
//            this member has still to receive, from exactly that member. It names its URLs, so that it can be answered.
// Bad input  Readers return false; texts are bounded and control characters in them are replaced before they are logged.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using Cairn.Core.Membership;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Why a connection was not accepted. Numbers go over the wire.</summary>
internal enum RefusalReason : byte
{
    None = 0,
    Protocol = 1,
    ClusterMismatch = 2,
    NotAddressee = 3,
    Removed = 4,
    OtherStorage = 5,
    Stopping = 6,
    Busy = 7,
}

/// <summary>What a side says about itself.</summary>
internal sealed record PeerHello
{
    public ushort Protocol { get; init; } = PeerFrame.ProtocolVersion;

    public ushort OldestProtocol { get; init; } = PeerFrame.ProtocolVersion;

    public ConnectionLane Lane { get; init; }

    public required PeerIdentity Identity { get; init; }

    /// <summary>The member meant; 0 when it is not known who listens there.</summary>
    public ulong To { get; init; }

    /// <summary>Where this side listens for its peers.</summary>
    public IReadOnlyList<string> Urls { get; init; } = [];
}

/// <summary>A refusal as it goes over the wire.</summary>
internal readonly record struct PeerRefusal(RefusalReason Reason, string Text);

/// <summary>Writers, readers and the judgement.</summary>
internal static class PeerHandshake
{
    public const int MaxBodyBytes = 4096;

    private const int FixedBytes = 48;
    private const int UrlsMax = 16;
    private const int UrlBytesMax = 200;
    private const int VersionBytesMax = 64;
    private const int TextBytesMax = 512;

    /// <summary>A whole frame.</summary>
    public static byte[] Frame(PeerHello hello, FrameType type)
    {
        byte[] version = Bounded(hello.Identity.ServerVersion, VersionBytesMax);
        int length = FixedBytes + 1 + version.Length + 1;
        var urls = new List<byte[]>();
        foreach (string url in hello.Urls)
        {
            byte[] text = Encoding.UTF8.GetBytes(url);
            if (urls.Count < UrlsMax && text.Length <= UrlBytesMax)
            {
                urls.Add(text);
                length += 2 + text.Length;
            }
        }

        byte[] frame = new byte[PeerFrame.HeaderBytes + length];
        Span<byte> body = frame.AsSpan(PeerFrame.HeaderBytes);
        BinaryPrimitives.WriteUInt16LittleEndian(body, hello.Protocol);
        BinaryPrimitives.WriteUInt16LittleEndian(body[2..], hello.OldestProtocol);
        body[4] = (byte)hello.Lane;
        BinaryPrimitives.WriteUInt64LittleEndian(body[8..], hello.Identity.ClusterId);
        BinaryPrimitives.WriteUInt64LittleEndian(body[16..], hello.Identity.MemberId);
        BinaryPrimitives.WriteUInt64LittleEndian(body[24..], hello.To);
        BinaryPrimitives.WriteUInt64LittleEndian(body[32..], hello.Identity.Boot);
        BinaryPrimitives.WriteUInt64LittleEndian(body[40..], hello.Identity.StorageId);
        body = body[FixedBytes..];
        body[0] = (byte)version.Length;
        version.CopyTo(body[1..]);
        body = body[(1 + version.Length)..];
        body[0] = (byte)urls.Count;
        body = body[1..];
        foreach (byte[] url in urls)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(body, (ushort)url.Length);
            url.CopyTo(body[2..]);
            body = body[(2 + url.Length)..];
        }

        PeerFrame.Seal(frame, type);
        return frame;
    }

    /// <summary>Reads the body of a Hello or Welcome; false when it is none.</summary>
    public static bool TryRead(ReadOnlySpan<byte> body, out PeerHello? hello)
    {
        hello = null;
        if (body.Length < FixedBytes + 2 || body[4] > (byte)ConnectionLane.Snapshot)
        {
            return false;
        }

        ReadOnlySpan<byte> rest = body[FixedBytes..];
        int versionLength = rest[0];
        if (versionLength > VersionBytesMax || rest.Length < 1 + versionLength + 1)
        {
            return false;
        }

        string version = Printable(rest.Slice(1, versionLength));
        rest = rest[(1 + versionLength)..];
        int count = rest[0];
        rest = rest[1..];
        if (count > UrlsMax)
        {
            return false;
        }

        var urls = new string[count];
        for (int i = 0; i < count; i++)
        {
            int length = rest.Length < 2 ? int.MaxValue : BinaryPrimitives.ReadUInt16LittleEndian(rest);
            if (length > UrlBytesMax || rest.Length < 2 + length)
            {
                return false;
            }

            urls[i] = Printable(rest.Slice(2, length));
            rest = rest[(2 + length)..];
        }

        // What a later version adds goes behind; this one does not look at it.
        hello = new PeerHello
        {
            Protocol = BinaryPrimitives.ReadUInt16LittleEndian(body),
            OldestProtocol = BinaryPrimitives.ReadUInt16LittleEndian(body[2..]),
            Lane = (ConnectionLane)body[4],
            Identity = new PeerIdentity(
                BinaryPrimitives.ReadUInt64LittleEndian(body[8..]),
                BinaryPrimitives.ReadUInt64LittleEndian(body[16..]),
                BinaryPrimitives.ReadUInt64LittleEndian(body[32..]),
                BinaryPrimitives.ReadUInt64LittleEndian(body[40..]),
                version),
            To = BinaryPrimitives.ReadUInt64LittleEndian(body[24..]),
            Urls = urls,
        };
        return hello.Identity.MemberId != 0;
    }

    /// <summary>A whole frame.</summary>
    public static byte[] Frame(PeerRefusal refusal)
    {
        byte[] text = Bounded(refusal.Text, TextBytesMax);
        byte[] frame = new byte[PeerFrame.HeaderBytes + 3 + text.Length];
        Span<byte> body = frame.AsSpan(PeerFrame.HeaderBytes);
        body[0] = (byte)refusal.Reason;
        BinaryPrimitives.WriteUInt16LittleEndian(body[1..], (ushort)text.Length);
        text.CopyTo(body[3..]);
        PeerFrame.Seal(frame, FrameType.Refuse);
        return frame;
    }

    /// <summary>Reads the body of a Refuse; false when it is none.</summary>
    public static bool TryRead(ReadOnlySpan<byte> body, out PeerRefusal refusal)
    {
        refusal = default;
        if (body.Length < 3 || body.Length - 3 != BinaryPrimitives.ReadUInt16LittleEndian(body[1..])
            || body.Length - 3 > TextBytesMax)
        {
            return false;
        }

        refusal = new PeerRefusal((RefusalReason)body[0], Printable(body[3..]));
        return true;
    }

    /// <summary>Whether whoever says hello may talk to this member.</summary>
    /// <param name="hello">From a complete, intact frame.</param>
    /// <param name="self">This member.</param>
    /// <param name="standing">What the member says about it; asked only when the rest is right.</param>
    public static PeerRefusal Judge(PeerHello hello, PeerIdentity self, Func<PeerHello, PeerStanding> standing)
    {
        if (hello.OldestProtocol > PeerFrame.ProtocolVersion || hello.Protocol < PeerFrame.ProtocolVersion)
        {
            return new PeerRefusal(
                RefusalReason.Protocol,
                string.Create(CultureInfo.InvariantCulture, $"peer protocol {hello.OldestProtocol} to {hello.Protocol} is spoken there, {PeerFrame.ProtocolVersion} here"));
        }

        if (hello.Identity.ClusterId != self.ClusterId)
        {
            return new PeerRefusal(
                RefusalReason.ClusterMismatch,
                "cluster ID mismatch: " + MemberIds.ToText(hello.Identity.ClusterId) + " there, " + MemberIds.ToText(self.ClusterId)
                + " here");
        }

        if ((hello.To != 0 && hello.To != self.MemberId) || hello.Identity.MemberId == self.MemberId)
        {
            return new PeerRefusal(
                RefusalReason.NotAddressee,
                "member " + MemberIds.ToText(self.MemberId) + " listens here, not " + MemberIds.ToText(hello.To));
        }

        return standing(hello) switch
        {
            PeerStanding.Removed => new PeerRefusal(
                RefusalReason.Removed, "the member has been permanently removed from the cluster"),
            PeerStanding.OtherStorage => new PeerRefusal(
                RefusalReason.OtherStorage,
                "the member was known with other storage: its data directory was replaced; remove the member and add it anew"),
            _ => default,
        };
    }

    /// <summary>Text from outside, safe to log.</summary>
    public static string Printable(ReadOnlySpan<byte> utf8)
    {
        char[] text = Encoding.UTF8.GetString(utf8).ToCharArray();
        for (int i = 0; i < text.Length; i++)
        {
            text[i] = char.IsControl(text[i]) ? '?' : text[i];
        }

        return new string(text);
    }

    private static byte[] Bounded(string text, int bytes)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        return utf8.Length <= bytes ? utf8 : utf8[..bytes];
    }
}
