// HPACK against RFC 7541's own examples (Appendix C) and against bytes that no encoder makes.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Net.Http2;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class HpackTests
{
    private readonly HpackDecoder _decoder = new();
    private readonly RequestHead _head = new(65536);
    private readonly byte[] _scratch = new byte[200_000];

    [Theory]
    [InlineData("0a", 5, 10)]
    [InlineData("1f9a0a", 5, 1337)]
    [InlineData("2a", 8, 42)]
    public void Integer_Examples_OfC1(string hex, int prefix, int value)
    {
        ReadOnlySpan<byte> bytes = Convert.FromHexString(hex);
        Assert.True(HpackDecoder.TryReadInteger(ref bytes, prefix, out int read));
        Assert.Equal(value, read);
        Assert.True(bytes.IsEmpty);
    }

    [Theory]
    [InlineData("1f")]
    [InlineData("1fff")]
    [InlineData("1fffffffffffffffffff01")]
    [InlineData("1fffffffff7f")]
    public void Integer_TooLongOrCut_IsRefused(string hex)
    {
        ReadOnlySpan<byte> bytes = Convert.FromHexString(hex);
        Assert.False(HpackDecoder.TryReadInteger(ref bytes, 5, out _));
    }

    // C.3 (plain) and C.4 (Huffman): three requests on one connection; sizes of the table after each are the RFC's.
    [Theory]
    [InlineData("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865", "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565")]
    [InlineData("828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")]
    public void Requests_Examples_OfC3AndC4(string first, string second, string third)
    {
        Decode(first);
        Assert.Equal(("GET", "http", "/", "www.example.com"), Pseudo());
        Assert.Equal((1, 57), (_decoder.Table.Count, _decoder.Table.Size));
        Decode(second);
        Assert.Equal(("GET", "http", "/", "www.example.com"), Pseudo());
        Assert.Equal((2, 110), (_decoder.Table.Count, _decoder.Table.Size));
        Decode(third);
        Assert.Equal(("GET", "https", "/index.html", "www.example.com"), Pseudo());
        Assert.Equal((3, 164), (_decoder.Table.Count, _decoder.Table.Size));
        Assert.True(_decoder.Table.TryGet(0, out _, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value));
        Assert.Equal(("custom-key", "custom-value"), (Encoding.ASCII.GetString(name), Encoding.ASCII.GetString(value)));
    }

    [Fact]
    public void Table_Evicts_TheOldestFirst()
    {
        // 40 entries of 4096 / 16 bytes each: at most 16 stay, the newest ones.
        for (int i = 0; i < 40; i++)
        {
            string name = "n" + i.ToString("D3", System.Globalization.CultureInfo.InvariantCulture);
            _head.Clear();
            Assert.True(_decoder.TryDecode(Literal(name, new string('v', 220)), _scratch, _head));
            Assert.InRange(_decoder.Table.Size, 1, HpackTable.Limit);
            Assert.True(_decoder.Table.TryGet(0, out _, out ReadOnlySpan<byte> newest, out _));
            Assert.Equal(name, Encoding.ASCII.GetString(newest));
        }

        Assert.Equal(16, _decoder.Table.Count);
        Assert.True(_decoder.Table.TryGet(15, out _, out ReadOnlySpan<byte> oldest, out ReadOnlySpan<byte> value));
        Assert.Equal("n024", Encoding.ASCII.GetString(oldest));
        Assert.Equal(220, value.Length);
        Assert.False(_decoder.Table.TryGet(16, out _, out _, out _));
    }

    [Theory]
    [InlineData("80")] // index 0
    [InlineData("be")] // beyond the tables
    [InlineData("8220")] // a size update behind a header
    [InlineData("3fe21f")] // a size update above what we announced: 4097
    [InlineData("0003616263")] // no value
    [InlineData("0085ffffffffff00")] // end-of-string code in a string
    [InlineData("00816e00")] // padding that is not all ones
    public void Block_Malformed_IsRefused(string hex)
    {
        _head.Clear();
        Assert.False(_decoder.TryDecode(Convert.FromHexString(hex), _scratch, _head));
    }

    [Theory]
    [InlineData("connection", "close")]
    [InlineData("te", "gzip")]
    [InlineData("Upper", "x")]
    [InlineData(":status", "200")]
    [InlineData("bad name", "x")]
    [InlineData("x", "a\nb")]
    public void Header_AgainstTheRules_IsMalformed(string name, string value)
    {
        _head.Clear();
        Assert.True(_decoder.TryDecode(Literal(name, value), _scratch, _head));
        Assert.True(_head.IsMalformed);
    }

    // Every flip of one bit and every truncation of a real block: an answer, never an exception, never more than the limits.
    [Fact]
    public void Block_Damaged_NeverThrows()
    {
        byte[] block = Convert.FromHexString("828684418cf1e3c2e5f23a6ba0ab90f4ff408825a849e95ba97d7f8925a849e95bb8e8b4bfbe5886a8eb10649cbf");
        for (int length = 0; length <= block.Length; length++)
        {
            for (int bit = 0; bit < length * 8; bit++)
            {
                byte[] damaged = block[..length];
                damaged[bit / 8] ^= (byte)(1 << (bit % 8));
                var decoder = new HpackDecoder();
                _head.Clear();
                _ = decoder.TryDecode(damaged, _scratch, _head);
                Assert.InRange(decoder.Table.Size, 0, HpackTable.Limit);
            }
        }
    }

    private static byte[] Literal(string name, string value)
    {
        var bytes = new List<byte> { 0x40, (byte)name.Length };
        bytes.AddRange(Encoding.ASCII.GetBytes(name));
        if (value.Length < 127)
        {
            bytes.Add((byte)value.Length);
        }
        else
        {
            bytes.AddRange([127, (byte)(value.Length - 127)]);
        }

        bytes.AddRange(Encoding.ASCII.GetBytes(value));
        return [.. bytes];
    }

    private void Decode(string hex)
    {
        _head.Clear();
        Assert.True(_decoder.TryDecode(Convert.FromHexString(hex), _scratch, _head));
        Assert.False(_head.IsMalformed);
    }

    private (string Method, string Scheme, string Path, string Authority) Pseudo()
        => (Text(HeaderName.Method), Text(HeaderName.Scheme), Text(HeaderName.Path), Text(HeaderName.Authority));

    private string Text(HeaderName name) => Encoding.ASCII.GetString(_head.Get(name));
}
