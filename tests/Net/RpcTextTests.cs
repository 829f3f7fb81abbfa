using System;
using Cairn.Net.Rpc;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class RpcTextTests
{
    [Theory]
    [InlineData("1n", 1)]
    [InlineData("5u", 5_000)]
    [InlineData("250m", 250_000_000)]
    [InlineData("99999999S", 99_999_999_000_000_000)]
    [InlineData("2M", 120_000_000_000)]
    [InlineData("1H", 3_600_000_000_000)]
    [InlineData("0S", 0)]
    public void Timeout_WellFormed_IsNanoseconds(string text, long expected)
    {
        Assert.True(RpcText.TryParseTimeout(text, out long nanoseconds));
        Assert.Equal(expected, nanoseconds);
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("S")]
    [InlineData("123456789S")]
    [InlineData("-1S")]
    [InlineData("1s")]
    [InlineData("1 S")]
    [InlineData("1.5S")]
    public void Timeout_Malformed_IsRefused(string text) => Assert.False(RpcText.TryParseTimeout(text, out _));

    [Fact]
    public void Timeout_LongerThanClocks_DoesNotOverflow()
    {
        Assert.True(RpcText.TryParseTimeout("99999999H", out long nanoseconds));
        Assert.InRange(nanoseconds, 1, long.MaxValue / 2);
    }

    [Fact]
    public void Message_AnyText_SurvivesTheHeader()
        => Gen.String.Sample(text =>
        {
            // Unpaired surrogates cannot be sent in UTF-8; the encoder replaces them.
            string sent = System.Text.Encoding.UTF8.GetString(System.Text.Encoding.UTF8.GetBytes(text));
            string encoded = RpcText.EncodeMessage(text);
            foreach (char c in encoded)
            {
                Assert.InRange(c, ' ', '~');
            }

            Assert.Equal(sent, Uri.UnescapeDataString(encoded));
        });

    [Fact]
    public void Message_PlainText_IsTheSameObject()
    {
        string plain = "etcdserver: mvcc: required revision has been compacted";
        Assert.Same(plain, RpcText.EncodeMessage(plain));
    }

    [Theory]
    [InlineData("application/grpc", true)]
    [InlineData("application/grpc+proto", true)]
    [InlineData("application/grpc;charset=utf-8", true)]
    [InlineData("Application/GRPC", true)]
    [InlineData("application/grpcx", false)]
    [InlineData("application/json", false)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void ContentType_IsJudged(string? type, bool expected) => Assert.Equal(expected, RpcText.IsGrpcContentType(type));
}
