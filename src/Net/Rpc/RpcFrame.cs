// RpcFrame: the five bytes before each gRPC message: a compressed flag, and the length in network order. Pure.
// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
using System;
using System.Buffers;
using System.Buffers.Binary;

namespace Cairn.Net.Rpc;

/// <summary>What the front of a body holds.</summary>
internal enum RpcFrameState
{
    /// <summary>The five bytes or the message are not complete.</summary>
    Incomplete,

    /// <summary>A whole message.</summary>
    Complete,

    /// <summary>The announced length passes the limit; the message is not waited for.</summary>
    TooLarge,

    /// <summary>A flag other than 0 and 1.</summary>
    BadFlag,
}

/// <summary>Reading and writing of the message prefix.</summary>
internal static class RpcFrame
{
    /// <summary>Bytes of the prefix.</summary>
    public const int HeaderSize = 5;

    /// <summary>Looks at the front of <paramref name="body"/> without consuming it.</summary>
    /// <param name="body">Unread bytes of the request body.</param>
    /// <param name="maxMessageSize">Largest length accepted, in bytes.</param>
    /// <param name="length">The announced length, when five bytes are there.</param>
    /// <param name="compressed">The flag.</param>
    public static RpcFrameState TryRead(
        in ReadOnlySequence<byte> body, int maxMessageSize, out uint length, out bool compressed)
    {
        length = 0;
        compressed = false;
        if (body.Length < HeaderSize)
        {
            return RpcFrameState.Incomplete;
        }

        byte flag;
        if (body.FirstSpan.Length >= HeaderSize)
        {
            flag = body.FirstSpan[0];
            length = BinaryPrimitives.ReadUInt32BigEndian(body.FirstSpan[1..]);
        }
        else
        {
            Span<byte> header = stackalloc byte[HeaderSize];
            body.Slice(0, HeaderSize).CopyTo(header);
            flag = header[0];
            length = BinaryPrimitives.ReadUInt32BigEndian(header[1..]);
        }

        if (flag > 1)
        {
            length = flag;
            return RpcFrameState.BadFlag;
        }

        compressed = flag == 1;
        if (length > (uint)maxMessageSize)
        {
            return RpcFrameState.TooLarge;
        }

        return body.Length - HeaderSize >= length ? RpcFrameState.Complete : RpcFrameState.Incomplete;
    }

    /// <summary>The same for bytes in one piece.</summary>
    public static RpcFrameState TryRead(ReadOnlySpan<byte> body, int maxMessageSize, out uint length, out bool compressed)
    {
        length = 0;
        compressed = false;
        if (body.Length < HeaderSize)
        {
            return RpcFrameState.Incomplete;
        }

        if (body[0] > 1)
        {
            length = body[0];
            return RpcFrameState.BadFlag;
        }

        length = BinaryPrimitives.ReadUInt32BigEndian(body[1..]);
        compressed = body[0] == 1;
        return length > (uint)maxMessageSize ? RpcFrameState.TooLarge
            : (uint)(body.Length - HeaderSize) >= length ? RpcFrameState.Complete
            : RpcFrameState.Incomplete;
    }

    /// <summary>Writes the prefix into the first five bytes.</summary>
    public static void Write(Span<byte> destination, int length, bool compressed)
    {
        destination[0] = compressed ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteUInt32BigEndian(destination[1..], (uint)length);
    }
}
