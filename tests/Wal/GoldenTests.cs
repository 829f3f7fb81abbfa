// GoldenTests: the bytes of a real etcd 3.5.30. The worked example of the format notes, and whole fixture segments
// decoded and encoded again.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using Cairn.Base;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed unsafe class GoldenTests
{
    private const string Member = "{\"id\":5500742928634797826,\"peerURLs\":[\"http://127.0.0.1:42380\"],\"name\":\"ex1\"}";

    // The head of a fresh single-member log as etcd wrote it, to the record at offset 0x118.
    private static readonly string[] Head =
    [
        "0400000000000084", "08041000", "00000000",
        "1f00000000000081", "080110f5c8c981041a15", "0882be93b0ca91a4ab4c10d9c5f2e3e995f9d89f01", "00",
        "0e00000000000082", "080510bcb1a5e7021a0408001000", "0000",
        "6f00000000000081", "080210b2a2cba40f1a65", "080110011801225d", "080010001882be93b0ca91a4ab4c224d", "'" + Member, "00",
        "1000000000000000", "080310dee4ba8c081a06080110001801",
        "1000000000000000", "08021083c4de8b0d1a06080010021802",
        "1800000000000000", "080310b0b6f08f081a0e080210" + "82be93b0ca91a4ab4c" + "1802",
    ];

    [Fact]
    public void WorkedExample_Decodes()
    {
        byte[] bytes = Bytes(Head);
        Assert.Equal(0x118, bytes.Length);
        WalRecovery recovery = new();
        LogScan scan = new(default, recovery, new SparseIndex());
        using SegmentImage image = SegmentImage.Of("golden", bytes);
        SegmentScan end = scan.Read(image, 0);
        Assert.Equal((FrameStatus.End, 0x118, false, (string?)null), (end.Status, end.End, end.Marked, end.Fault));
        Assert.Equal("0882be93b0ca91a4ab4c10d9c5f2e3e995f9d89f01", Convert.ToHexStringLower(scan.Metadata!));
        Assert.Equal(new WalHardState(2, 0x4c56908ca604df02, 2), scan.State);
        Assert.Equal([new WalSnapshotMark(0, 0)], scan.Snapshots);
        Assert.Equal(2, recovery.Entries.Length);
        Assert.Equal((1UL, 1UL, (byte)1), (recovery.Entries[0].Term, recovery.Entries[0].Index, recovery.Entries[0].Type));
        Assert.EndsWith(Member, Encoding.UTF8.GetString(recovery.Entries[0].Payload), StringComparison.Ordinal);
        Assert.Equal((2UL, 2UL, (byte)0, 0), (recovery.Entries[1].Term, recovery.Entries[1].Index, recovery.Entries[1].Type, recovery.Entries[1].Length));
        recovery.Dispose();
    }

    [Fact]
    public void WorkedExample_EncodesToTheSameBytes()
    {
        byte[] change = Bytes(["080010001882be93b0ca91a4ab4c224d", "'" + Member]);
        using RecordEncoder encoder = new(64);
        encoder.Begin(0);
        encoder.AppendCrc();
        encoder.AppendRaw(RecordType.Metadata, Bytes(["0882be93b0ca91a4ab4c10d9c5f2e3e995f9d89f01"]));
        encoder.AppendSnapshot(0, 0, null, 0);
        fixed (byte* data = change)
        {
            encoder.AppendEntry(new WalEntry { Type = 1, Term = 1, Index = 1, Data = data, Length = change.Length });
        }

        encoder.AppendRaw(RecordType.State, Bytes(["080110001801"]));
        encoder.AppendEntry(new WalEntry { Term = 2, Index = 2 });
        encoder.AppendRaw(RecordType.State, Bytes(["08021082be93b0ca91a4ab4c1802"]));
        Assert.Equal(Convert.ToHexStringLower(Bytes(Head)), Convert.ToHexStringLower(encoder.Written));
    }

    [Fact]
    public void FreshDirectory_BeginsWithEtcdsBytes()
    {
        using TempDirectory temp = new();
        using (WalDirectory.Create(PosixFileSystem.Instance, temp.Wal, Bytes(["0882be93b0ca91a4ab4c10d9c5f2e3e995f9d89f01"]), new WalOptions()))
        {
        }

        byte[] expected = Bytes(Head[..10]);
        byte[] file = new byte[0x50];
        using FileStream stream = File.OpenRead(temp.Wal + "/0000000000000000-0000000000000000.wal");
        Assert.Equal(64_000_000, stream.Length);
        stream.ReadExactly(file);
        Assert.Equal(Convert.ToHexStringLower(expected)[..(0x50 * 2)], Convert.ToHexStringLower(file));
    }

    [Fact]
    public void StateWithMark_IsEtcdsStatePlusOneField()
    {
        using RecordEncoder encoder = new(64);
        encoder.Begin(0);
        encoder.AppendState(new WalHardState(2, 0x4c56908ca604df02, 2), 0x1234);
        FrameReader reader = new(encoder.Written, 0);
        Assert.Equal(FrameStatus.Record, reader.Read(out WalRecord record));
        Assert.Equal("08021082be93b0ca91a4ab4c1802" + "c03e" + "b424", Convert.ToHexStringLower(record.Data));
    }

    [Theory]
    [InlineData("etcd-3.5-auth", "0000000000000000-0000000000000000.wal")]
    [InlineData("etcd-3.5-single", "0000000000000000-0000000000000000.wal")]
    [InlineData("etcd-3.5-single", "0000000000000001-00000000000002e4.wal")]
    public void FixtureSegment_DecodedAndEncodedAgain_IsTheSame(string fixture, string name)
    {
        byte[] file = File.ReadAllBytes(Path.Combine(Fixtures.Wal(fixture), name));
        FrameReader reader = new(file, 0);
        using RecordEncoder encoder = new(1 << 20);
        encoder.Begin(0);
        while (reader.Read(out WalRecord record) == FrameStatus.Record)
        {
            switch (record.Type)
            {
                case RecordType.Crc:
                    encoder.Begin(record.Crc);
                    encoder.AppendCrc();
                    break;
                case RecordType.Entry:
                    Assert.True(FrameReader.TryEntry(record.Data, out ulong term, out ulong index, out byte type, out ReadOnlySpan<byte> payload));
                    fixed (byte* data = payload)
                    {
                        encoder.AppendEntry(new WalEntry { Term = term, Index = index, Type = type, Data = data, Length = payload.Length });
                    }

                    break;
                case RecordType.Snapshot:
                    Assert.True(FrameReader.TrySnapshot(record.Data, out ulong at, out ulong atTerm, out ReadOnlySpan<byte> confState));
                    fixed (byte* data = confState)
                    {
                        encoder.AppendSnapshot(at, atTerm, data, confState.Length);
                    }

                    break;
                default:
                    encoder.AppendRaw(record.Type, record.Data);
                    break;
            }
        }

        Assert.True(encoder.Length > 1000);
        Assert.True(encoder.Written.SequenceEqual(file.AsSpan(0, encoder.Length)));
        Assert.False(file.AsSpan(encoder.Length).ContainsAnyExcept((byte)0));
    }

    /// <summary>Hexadecimal, or text after an apostrophe.</summary>
    internal static byte[] Bytes(IEnumerable<string> parts)
    {
        List<byte> bytes = [];
        foreach (string part in parts)
        {
            if (part.StartsWith('\''))
            {
                bytes.AddRange(Encoding.UTF8.GetBytes(part[1..]));
                continue;
            }

            for (int i = 0; i < part.Length; i += 2)
            {
                bytes.Add(byte.Parse(part.AsSpan(i, 2), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            }
        }

        return [.. bytes];
    }
}
