using System;
using System.Buffers;
using Cairn.Net.Rpc;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class RpcFrameTests
{
    [Fact]
    public void Frame_CutAnywhere_IsIncompleteUntilItsLastByte()
        => Gen.Select(Gen.Byte.Array[0, 300], Gen.Int[1, 7]).Sample((message, step) =>
        {
            byte[] frame = GrpcClient.Frame(message);
            for (int length = 0; length <= frame.Length; length++)
            {
                RpcFrameState state = RpcFrame.TryRead(Split(frame.AsSpan(0, length), step), 1000, out uint announced, out bool compressed);
                Assert.Equal(length < frame.Length ? RpcFrameState.Incomplete : RpcFrameState.Complete, state);
                Assert.False(compressed);
                if (length >= RpcFrame.HeaderSize)
                {
                    Assert.Equal((uint)message.Length, announced);
                }
            }
        }, iter: 50);

    [Fact]
    public void Frame_LongerThanAllowed_IsRefusedByItsHeaderAlone()
    {
        byte[] header = [0, 0x7f, 0xff, 0xff, 0xff];
        Assert.Equal(RpcFrameState.TooLarge, RpcFrame.TryRead(Split(header, 2), 100, out uint length, out _));
        Assert.Equal(0x7fffffffu, length);
        byte[] negative = [0, 0xff, 0xff, 0xff, 0xff];
        Assert.Equal(RpcFrameState.TooLarge, RpcFrame.TryRead(Split(negative, 5), int.MaxValue, out _, out _));
    }

    [Fact]
    public void Frame_OfExactlyTheLimit_IsAccepted()
    {
        Assert.Equal(RpcFrameState.Complete, RpcFrame.TryRead(Split(GrpcClient.Frame(new byte[100]), 64), 100, out _, out _));
        Assert.Equal(RpcFrameState.TooLarge, RpcFrame.TryRead(Split(GrpcClient.Frame(new byte[101]), 64), 100, out _, out _));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(255)]
    public void Frame_UnknownFlag_IsNamed(byte flag)
    {
        Assert.Equal(RpcFrameState.BadFlag, RpcFrame.TryRead(Split(GrpcClient.Frame([1], flag), 3), 100, out uint named, out _));
        Assert.Equal(flag, named);
    }

    [Fact]
    public void Frame_Written_ReadsBack()
        => Gen.Int[0, 1 << 24].Sample(length =>
        {
            byte[] header = new byte[RpcFrame.HeaderSize];
            RpcFrame.Write(header, length, compressed: true);
            RpcFrame.TryRead(Split(header, 5), int.MaxValue, out uint read, out bool compressed);
            Assert.Equal((uint)length, read);
            Assert.True(compressed);
        });

    // The bytes as a sequence of segments of the given length.
    private static ReadOnlySequence<byte> Split(ReadOnlySpan<byte> bytes, int step)
    {
        Segment? first = null;
        Segment? last = null;
        for (int offset = 0; offset < bytes.Length; offset += step)
        {
            byte[] part = bytes.Slice(offset, Math.Min(step, bytes.Length - offset)).ToArray();
            var segment = new Segment(part, last);
            first ??= segment;
            last = segment;
        }

        return first is null ? ReadOnlySequence<byte>.Empty : new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(byte[] bytes, Segment? previous)
        {
            Memory = bytes;
            if (previous is not null)
            {
                RunningIndex = previous.RunningIndex + previous.Memory.Length;
                previous.Next = this;
            }
        }
    }
}
