// Varints, CRC-32C and the proto reader against published values and slow obvious references.
using System;
using System.Text;
using CsCheck;
using Xunit;

namespace Cairn.Base.Tests;

public sealed class CodecTests
{
    [Theory]
    [InlineData("", 0u)]
    [InlineData("123456789", 0xE3069283u)] // the check value of CRC-32/ISCSI in Williams' catalogue
    [InlineData("a", 0xC1D04330u)]
    public void Crc32C_KnownInputs_GiveCataloguedValues(string text, uint expected) =>
        Assert.Equal(expected, Crc32C.Compute(Encoding.ASCII.GetBytes(text)));

    [Fact]
    public void Crc32C_AnySplit_EqualsOnePiece() =>
        Gen.Select(Gen.Byte.Array[0, 200], Gen.Int[0, 200]).Sample((data, cut) =>
        {
            cut = Math.Min(cut, data.Length);
            uint parts = Crc32C.Append(Crc32C.Append(0, data.AsSpan(0, cut)), data.AsSpan(cut));
            return parts == Crc32C.Compute(data) && parts == SlowCrc(data);
        });

    [Fact]
    public void Varint_AnyValue_RoundTripsInItsComputedSize() =>
        Gen.Select(Gen.ULong, Gen.Int[0, 63]).Sample((value, shift) =>
        {
            value >>= shift;
            byte[] buffer = new byte[16];
            var writer = new ProtoWriter(buffer);
            writer.WriteVarint(value);
            var reader = new ProtoReader(writer.Written);
            return writer.Position == ProtoSize.Varint(value) && reader.ReadVarint() == value && reader.AtEnd
                && !reader.Failed;
        });

    [Fact]
    public void Reader_AnyBytes_NeverThrowsNorReadsOutside() =>
        Gen.Byte.Array[0, 60].Sample(data =>
        {
            var reader = new ProtoReader(data);
            int fields = 0;
            while (reader.NextField())
            {
                reader.Skip();
                fields++;
            }

            return reader.Position <= data.Length && fields <= data.Length && (reader.Failed || reader.AtEnd);
        });

    [Theory]
    [InlineData("0a05616263", true)] // length beyond the end
    [InlineData("08ffffffffffffffffffff01", true)] // varint of more than ten bytes
    [InlineData("00", true)] // field number 0
    [InlineData("0f", true)] // wire type 7
    [InlineData("0b", true)] // group that never ends
    [InlineData("0b0c", false)]
    [InlineData("0b14", true)] // group closed by another number
    [InlineData("0803120161", false)]
    public void Reader_Skipping_AcceptsOnlyWellFormed(string hex, bool fails)
    {
        var reader = new ProtoReader(Convert.FromHexString(hex));
        while (reader.NextField())
        {
            reader.Skip();
        }

        Assert.Equal(fails, reader.Failed);
    }

    private static uint SlowCrc(byte[] data)
    {
        uint crc = ~0u;
        foreach (byte b in data)
        {
            crc ^= b;
            for (int i = 0; i < 8; i++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
            }
        }

        return ~crc;
    }
}
