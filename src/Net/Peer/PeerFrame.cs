// PeerFrame: the outer form of everything members say to each other, and its checks. Pure.
//
// Layout     little endian: 0 body length u32 | 4 type u8 | 5 flags u8 | 6 zero u16 | 8 CRC-32C u32 | 12 body.
//            The checksum covers the first eight bytes and the body.
// Preface    A connection opens with eight bytes that no HTTP request, TLS hello or HTTP/2 preface begins with; so the
//            peer port can tell who knocks by the first byte.
// Bad input  A header is judged before a byte of its body is waited for: each type has its own longest body.
using System;
using System.Buffers.Binary;
using Cairn.Base;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Kinds of frames. Numbers go over the wire.</summary>
internal enum FrameType : byte
{
    None = 0,

    /// <summary>Who dials, first frame of the dialling side.</summary>
    Hello = 1,

    /// <summary>Who accepts: the dialler may go on.</summary>
    Welcome = 2,

    /// <summary>Why not; the connection ends.</summary>
    Refuse = 3,

    /// <summary>A raft message with its entries.</summary>
    Raft = 16,

    /// <summary>A question to the accepting side.</summary>
    Call = 32,

    /// <summary>Its answer.</summary>
    Reply = 33,

    /// <summary>Asks for a Pong with the same eight bytes.</summary>
    Ping = 48,
    Pong = 49,

    /// <summary>A raft message of type Snapshot, and the length of the image.</summary>
    SnapshotBegin = 64,

    /// <summary>Bytes of the image.</summary>
    SnapshotChunk = 65,

    /// <summary>CRC-32C of the whole image.</summary>
    SnapshotEnd = 66,

    /// <summary>The receiver's word: one byte, 1 for taken.</summary>
    SnapshotResult = 67,
}

/// <summary>What a connection is for; chosen by the dialling side.</summary>
internal enum ConnectionLane : byte
{
    Urgent = 0,
    Bulk = 1,
    Snapshot = 2,
}

/// <summary>A parsed header.</summary>
internal readonly record struct FrameHeader(int Length, FrameType Type, byte Flags, uint Checksum);

/// <summary>Headers, checksums and the preface.</summary>
internal static class PeerFrame
{
    public const int HeaderBytes = 12;

    public const int PrefaceBytes = 8;

    /// <summary>Version of everything in src/Net/Peer; a later one says which older it still speaks.</summary>
    public const ushort ProtocolVersion = 1;

    /// <summary>Bytes of the image in one frame.</summary>
    public const int ChunkBytes = 128 << 10;

    /// <summary>Not a letter, not 0x16: no HTTP, no TLS.</summary>
    public static ReadOnlySpan<byte> Preface => [0xF3, (byte)'c', (byte)'a', (byte)'i', (byte)'r', (byte)'n', (byte)'p', 0x0A];

    /// <summary>Longest body of a type on a lane; -1: that type does not belong there.</summary>
    public static int MaxBody(FrameType type, ConnectionLane lane) => type switch
    {
        FrameType.Hello or FrameType.Welcome or FrameType.Refuse => PeerHandshake.MaxBodyBytes,
        FrameType.Ping or FrameType.Pong when lane == ConnectionLane.Urgent => 8,
        FrameType.Call or FrameType.Reply when lane == ConnectionLane.Urgent => PeerCodec.CallHeadBytes + PeerCall.MaxBodyBytes,
        FrameType.Raft when lane == ConnectionLane.Urgent => PeerCodec.MessageBytes,
        FrameType.Raft when lane == ConnectionLane.Bulk =>
            PeerCodec.MessageBytes + PeerCodec.MaxConfigurationBytes + EntryFrame.MaxBodyBytes,
        FrameType.SnapshotBegin when lane == ConnectionLane.Snapshot =>
            8 + PeerCodec.MessageBytes + PeerCodec.MaxConfigurationBytes,
        FrameType.SnapshotChunk when lane == ConnectionLane.Snapshot => ChunkBytes,
        FrameType.SnapshotEnd when lane == ConnectionLane.Snapshot => 4,
        FrameType.SnapshotResult when lane == ConnectionLane.Snapshot => 1,
        _ => -1,
    };

    /// <summary>Reads a header; false when it cannot be one on that lane.</summary>
    /// <param name="bytes">At least <see cref="HeaderBytes"/>.</param>
    /// <param name="lane">Of the connection.</param>
    /// <param name="header">The result.</param>
    public static bool TryReadHeader(ReadOnlySpan<byte> bytes, ConnectionLane lane, out FrameHeader header)
    {
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        var type = (FrameType)bytes[4];
        header = new FrameHeader(
            length > int.MaxValue ? -1 : (int)length, type, bytes[5], BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]));
        return header.Length >= 0 && header.Length <= MaxBody(type, lane)
            && bytes[6] == 0 && bytes[7] == 0;
    }

    /// <summary>The checksum of a frame begun by these eight bytes; extend it by the body.</summary>
    public static uint Begin(ReadOnlySpan<byte> header) => Crc32C.Compute(header[..8]);

    /// <summary>True if a whole body belongs to its header.</summary>
    public static bool IsIntact(ReadOnlySpan<byte> header, ReadOnlySpan<byte> body)
        => Crc32C.Append(Begin(header), body) == BinaryPrimitives.ReadUInt32LittleEndian(header[8..]);

    /// <summary>Writes the header over a frame whose body is in place.</summary>
    /// <param name="frame">Header and body.</param>
    /// <param name="type">What it is.</param>
    public static void Seal(Span<byte> frame, FrameType type)
    {
        BinaryPrimitives.WriteInt32LittleEndian(frame, frame.Length - HeaderBytes);
        frame[4] = (byte)type;
        frame[5] = 0;
        frame[6] = 0;
        frame[7] = 0;
        uint checksum = Crc32C.Append(Begin(frame), frame[HeaderBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(frame[8..], checksum);
    }
}
