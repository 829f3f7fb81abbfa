// EntryFrame: entries between members, as the log holds them: a fixed head an entry, then its payload, untouched.
//
// Layout     Block = 16 bytes of the receiver's own, then the body. Body, little endian, EntryCount times:
//              0 term u64 | 8 index u64 | 16 payload length i32 | 20 type u8 | 21 three zero bytes | 24 payload
//            The wire carries the body only; nothing is aligned.
// Ownership  One received block holds all entries of a message; each entry given to the core counts as one reference,
//            kept in the first four bytes of the block, which only the raft thread touches. The log's owner value is
//            the block's address with the low bit set, so that PoolPayloads can tell it from a block of one entry.
// Bad input  IsValid looks at every head before anything is believed; entries themselves are judged by RaftCore.Step.
using System;
using System.Buffers.Binary;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>Encodes and takes apart the entries of a message.</summary>
public static unsafe class EntryFrame
{
    /// <summary>Bytes in front of the body in a received block.</summary>
    public const int HeadBytes = 16;

    /// <summary>Bytes in front of each payload.</summary>
    public const int EntryHeadBytes = 24;

    /// <summary>Largest body a receiver has to take: 1 MiB of entries or one entry of the largest request, with heads.</summary>
    public const int MaxBodyBytes = 64 << 20;

    /// <summary>Bytes of the body.</summary>
    public static long BodyBytes(ReadOnlySpan<RaftEntry> entries)
    {
        long bytes = 0;
        foreach (ref readonly RaftEntry entry in entries)
        {
            bytes += EntryHeadBytes + entry.Length;
        }

        return bytes;
    }

    /// <summary>Writes the body.</summary>
    /// <param name="entries">Whose payloads are alive.</param>
    /// <param name="body">Exactly <see cref="BodyBytes"/> long.</param>
    public static void Write(ReadOnlySpan<RaftEntry> entries, Span<byte> body)
    {
        foreach (ref readonly RaftEntry entry in entries)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(body, entry.Term);
            BinaryPrimitives.WriteUInt64LittleEndian(body[8..], entry.Index);
            BinaryPrimitives.WriteInt32LittleEndian(body[16..], entry.Length);
            BinaryPrimitives.WriteInt32LittleEndian(body[20..], (byte)entry.Type);
            entry.Payload.CopyTo(body[EntryHeadBytes..]);
            body = body[(EntryHeadBytes + entry.Length)..];
        }

        Invariant.Check(body.IsEmpty, "a body is as long as was measured");
    }

    /// <summary>True if a body holds exactly so many entries. Never throws, whatever the bytes.</summary>
    public static bool IsValid(ReadOnlySpan<byte> body, int count)
    {
        for (int i = 0; i < count; i++)
        {
            if (body.Length < EntryHeadBytes)
            {
                return false;
            }

            int length = BinaryPrimitives.ReadInt32LittleEndian(body[16..]);
            int type = BinaryPrimitives.ReadInt32LittleEndian(body[20..]);
            if (length < 0 || length > body.Length - EntryHeadBytes || type is < 0 or > (int)EntryType.ConfChangeV2)
            {
                return false;
            }

            body = body[(EntryHeadBytes + length)..];
        }

        return count >= 0 && body.IsEmpty;
    }

    /// <summary>A block with room for a body; its Length covers head and body, the body is undefined.</summary>
    public static NativeBlock* Rent(NativePool pool, int bodyBytes)
    {
        NativeBlock* block = pool.Rent(HeadBytes + bodyBytes);
        block->Length = HeadBytes + bodyBytes;
        new Span<byte>(NativeBlock.Data(block), HeadBytes).Clear();
        return block;
    }

    /// <summary>The body of a block from <see cref="Rent"/>.</summary>
    public static Span<byte> Body(NativeBlock* block) => NativeBlock.Span(block)[HeadBytes..];

    /// <summary>Copies entries into a fresh block: what a transport within one process sends.</summary>
    public static NativeBlock* Pack(NativePool pool, ReadOnlySpan<RaftEntry> entries)
    {
        NativeBlock* block = Rent(pool, checked((int)BodyBytes(entries)));
        Write(entries, Body(block));
        return block;
    }

    /// <summary>Takes a valid block apart; every entry holds a reference to it from here on. Raft thread.</summary>
    internal static void Split(NativeBlock* block, Span<RaftEntry> into)
    {
        byte* at = NativeBlock.Data(block) + HeadBytes;
        for (int i = 0; i < into.Length; i++)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(new ReadOnlySpan<byte>(at + 16, 4));
            into[i] = new RaftEntry
            {
                Term = BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(at, 8)),
                Index = BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(at + 8, 8)),
                Length = length,
                Data = length == 0 ? null : at + EntryHeadBytes,
                Type = (EntryType)at[20],
                Owner = (nint)block | 1,
            };
            at += EntryHeadBytes + length;
        }

        *(int*)NativeBlock.Data(block) = into.Length;
    }

    /// <summary>An owner value made by <see cref="Split"/>.</summary>
    internal static bool IsShared(nint owner) => (owner & 1) != 0;

    /// <summary>One entry of a shared block is done with; the last one returns it.</summary>
    internal static void Release(NativePool pool, nint owner)
    {
        var block = (NativeBlock*)(owner & ~(nint)1);
        int* references = (int*)NativeBlock.Data(block);
        Invariant.Check(*references > 0, "a shared block has as many references as entries");
        if (--*references == 0)
        {
            pool.Return(block);
        }
    }
}
