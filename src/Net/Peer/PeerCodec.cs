// PeerCodec: the bodies of frames: one fixed layout for raft messages of every kind, fixed heads for calls. Pure.
//
// Layout     Raft, little endian: 0 type u8 | 1 marks u8 (1 reject, 2 transfer) | 2 words u16 | 4 entries u32 | 8 from |
//            16 to | 24 term | 32 log term | 40 index | 48 commit | 56 hint | 64 context | 72 boot, all u64 | 80 the
//            configuration of a snapshot (8 bytes a member, in the order of its lists) | the entries (EntryFrame).
//            A snapshot's configuration: 4 counts u16, auto-leave u32, then the ids: voters, learners,
//            outgoing voters, next learners. "words" is its length in bytes over 4.
// Why fixed  The leader writes one heartbeat a peer and tick, one append a batch: eighty bytes that cost nothing to write
//            and nothing to check.
// Bad input  Readers return false. Nothing is believed that was not counted before.
using System;
using System.Buffers.Binary;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Writers and readers of frame bodies.</summary>
internal static class PeerCodec
{
    /// <summary>The fixed part of a raft message.</summary>
    public const int MessageBytes = 80;

    /// <summary>The fixed part of a call: id u64, kind u8, three zero bytes, milliseconds left u32. A reply: id, outcome u8, zeros.</summary>
    public const int CallHeadBytes = 16;

    /// <summary>Members a snapshot's configuration may name in all its lists together.</summary>
    public const int MaxConfigurationMembers = 1024;

    public const int MaxConfigurationBytes = ConfigurationHeadBytes + (8 * MaxConfigurationMembers);

    private const int ConfigurationHeadBytes = 12;
    private const byte RejectMark = 1;
    private const byte TransferMark = 2;

    /// <summary>Bytes of a message without its entries.</summary>
    public static int Measure(in RaftMessage message)
        => MessageBytes + (message.SnapshotState is { } state ? Measure(state) : 0);

    /// <summary>Writes a message; the entries go behind it.</summary>
    /// <param name="message">What to write.</param>
    /// <param name="entries">How many entries follow.</param>
    /// <param name="body">At least <see cref="Measure(in RaftMessage)"/> bytes.</param>
    public static void Write(in RaftMessage message, int entries, Span<byte> body)
    {
        int configuration = Measure(in message) - MessageBytes;
        body[0] = (byte)message.Type;
        body[1] = (byte)((message.IsReject ? RejectMark : 0) | (message.IsTransfer ? TransferMark : 0));
        BinaryPrimitives.WriteUInt16LittleEndian(body[2..], (ushort)(configuration / 4));
        BinaryPrimitives.WriteInt32LittleEndian(body[4..], entries);
        BinaryPrimitives.WriteUInt64LittleEndian(body[8..], message.From);
        BinaryPrimitives.WriteUInt64LittleEndian(body[16..], message.To);
        BinaryPrimitives.WriteUInt64LittleEndian(body[24..], message.Term);
        BinaryPrimitives.WriteUInt64LittleEndian(body[32..], message.LogTerm);
        BinaryPrimitives.WriteUInt64LittleEndian(body[40..], message.Index);
        BinaryPrimitives.WriteUInt64LittleEndian(body[48..], message.Commit);
        BinaryPrimitives.WriteUInt64LittleEndian(body[56..], message.Hint);
        BinaryPrimitives.WriteUInt64LittleEndian(body[64..], message.Context);
        BinaryPrimitives.WriteUInt64LittleEndian(body[72..], message.Boot);
        if (message.SnapshotState is { } state)
        {
            Write(state, body[MessageBytes..]);
        }
    }

    /// <summary>Reads a message; false when it is none.</summary>
    /// <param name="body">From the start of the body; may end before the entries.</param>
    /// <param name="message">The result.</param>
    /// <param name="length">Bytes it took: where the entries begin.</param>
    public static bool TryRead(ReadOnlySpan<byte> body, out RaftMessage message, out int length)
    {
        message = default;
        length = MessageBytes;
        if (body.Length < MessageBytes || body[0] is 0 or > (byte)MessageType.TransferLeader
            || (body[1] & ~(RejectMark | TransferMark)) != 0)
        {
            return false;
        }

        int configuration = BinaryPrimitives.ReadUInt16LittleEndian(body[2..]) * 4;
        int entries = BinaryPrimitives.ReadInt32LittleEndian(body[4..]);
        if (entries < 0 || entries > EntryFrame.MaxBodyBytes / EntryFrame.EntryHeadBytes)
        {
            return false;
        }

        message = new RaftMessage
        {
            Type = (MessageType)body[0],
            IsReject = (body[1] & RejectMark) != 0,
            IsTransfer = (body[1] & TransferMark) != 0,
            EntryCount = entries,
            From = BinaryPrimitives.ReadUInt64LittleEndian(body[8..]),
            To = BinaryPrimitives.ReadUInt64LittleEndian(body[16..]),
            Term = BinaryPrimitives.ReadUInt64LittleEndian(body[24..]),
            LogTerm = BinaryPrimitives.ReadUInt64LittleEndian(body[32..]),
            Index = BinaryPrimitives.ReadUInt64LittleEndian(body[40..]),
            Commit = BinaryPrimitives.ReadUInt64LittleEndian(body[48..]),
            Hint = BinaryPrimitives.ReadUInt64LittleEndian(body[56..]),
            Context = BinaryPrimitives.ReadUInt64LittleEndian(body[64..]),
            Boot = BinaryPrimitives.ReadUInt64LittleEndian(body[72..]),
        };
        if (configuration == 0)
        {
            return message.Type != MessageType.Snapshot;
        }

        if (message.Type != MessageType.Snapshot || body.Length < MessageBytes + configuration
            || !TryRead(body.Slice(MessageBytes, configuration), out ConfState state))
        {
            return false;
        }

        message.SnapshotState = state;
        length += configuration;
        return true;
    }

    /// <summary>Bytes of the configuration that a message head says follows it; what has to be waited for.</summary>
    public static int ConfigurationBytes(ReadOnlySpan<byte> head) => BinaryPrimitives.ReadUInt16LittleEndian(head[2..]) * 4;

    /// <summary>Writes the head of a call or reply.</summary>
    public static void WriteCallHead(Span<byte> body, ulong id, byte kind, uint milliseconds)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(body, id);
        BinaryPrimitives.WriteUInt32LittleEndian(body[8..], kind);
        BinaryPrimitives.WriteUInt32LittleEndian(body[12..], milliseconds);
    }

    /// <summary>Reads the head of a call or reply.</summary>
    public static bool TryReadCallHead(ReadOnlySpan<byte> body, out ulong id, out byte kind, out uint milliseconds)
    {
        id = 0;
        kind = 0;
        milliseconds = 0;
        if (body.Length < CallHeadBytes || body[9] != 0 || body[10] != 0 || body[11] != 0)
        {
            return false;
        }

        id = BinaryPrimitives.ReadUInt64LittleEndian(body);
        kind = body[8];
        milliseconds = BinaryPrimitives.ReadUInt32LittleEndian(body[12..]);
        return true;
    }

    private static int Measure(ConfState state)
        => ConfigurationHeadBytes + (8 * (state.Voters.Length + state.Learners.Length + state.VotersOutgoing.Length
            + state.LearnersNext.Length));

    private static void Write(ConfState state, Span<byte> into)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(into, (ushort)state.Voters.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(into[2..], (ushort)state.Learners.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(into[4..], (ushort)state.VotersOutgoing.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(into[6..], (ushort)state.LearnersNext.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(into[8..], state.AutoLeave ? 1u : 0);
        int at = ConfigurationHeadBytes;
        foreach (ulong[] list in new[] { state.Voters, state.Learners, state.VotersOutgoing, state.LearnersNext })
        {
            foreach (ulong id in list)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(into[at..], id);
                at += 8;
            }
        }
    }

    private static bool TryRead(ReadOnlySpan<byte> from, out ConfState state)
    {
        state = ConfState.Empty;
        if (from.Length < ConfigurationHeadBytes || BinaryPrimitives.ReadUInt32LittleEndian(from[8..]) > 1)
        {
            return false;
        }

        int total = 0;
        for (int i = 0; i < 4; i++)
        {
            total += BinaryPrimitives.ReadUInt16LittleEndian(from[(2 * i)..]);
        }

        if (total > MaxConfigurationMembers || from.Length != ConfigurationHeadBytes + (8 * total))
        {
            return false;
        }

        int at = ConfigurationHeadBytes;
        state = new ConfState
        {
            Voters = Ids(from, BinaryPrimitives.ReadUInt16LittleEndian(from), ref at),
            Learners = Ids(from, BinaryPrimitives.ReadUInt16LittleEndian(from[2..]), ref at),
            VotersOutgoing = Ids(from, BinaryPrimitives.ReadUInt16LittleEndian(from[4..]), ref at),
            LearnersNext = Ids(from, BinaryPrimitives.ReadUInt16LittleEndian(from[6..]), ref at),
            AutoLeave = BinaryPrimitives.ReadUInt32LittleEndian(from[8..]) == 1,
        };
        return true;
    }

    private static ulong[] Ids(ReadOnlySpan<byte> from, int count, ref int at)
    {
        var ids = new ulong[count];
        for (int i = 0; i < count; i++)
        {
            ids[i] = BinaryPrimitives.ReadUInt64LittleEndian(from[at..]);
            at += 8;
        }

        return ids;
    }
}
