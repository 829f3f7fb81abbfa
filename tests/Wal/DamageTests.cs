// DamageTests: the damages that were tried on a real etcd 3.5.30 (format notes, 3.6), tried on us with a real
// directory; and every small damage to a .snap file.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using CsCheck;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed class DamageTests
{
    private const string Segment = "0000000000000000-0000000000000000.wal";
    private static readonly PosixFileSystem Files = PosixFileSystem.Instance;

    [Theory]
    [InlineData("nothing", 84, false)]
    [InlineData("cut inside the last record", 84, true)]
    [InlineData("cut exactly after the last record", 84, false)]
    [InlineData("body of the last record zeroed", 84, true)]
    [InlineData("0xff 64 bytes behind the end", 84, false)]
    [InlineData("length word of 10^9 at the end", 84, true)]
    public void EtcdDirectory_TornTail_IsRepaired(string damage, int lastIndex, bool repaired)
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-auth", temp.Path) + "/member/wal";
        Damage(wal + "/" + Segment, damage);
        byte[] damaged = File.ReadAllBytes(wal + "/" + Segment);
        using WalLog log = WalDirectory.OpenForAppend(Files, wal, default, new WalOptions(), out WalRecovery recovery);
        using (recovery)
        {
            Assert.Equal((ulong)lastIndex, recovery.LastIndex);
            Assert.Equal(repaired, recovery.Repaired);
            Assert.Equal(repaired, File.Exists(wal + "/" + Segment + ".broken"));
            if (repaired)
            {
                Assert.Equal(damaged, File.ReadAllBytes(wal + "/" + Segment + ".broken"));
                Assert.Contains("offset", Assert.Single(recovery.Warnings), StringComparison.Ordinal);
            }
        }
    }

    [Theory]
    [InlineData("one bit flipped in the last record")]
    [InlineData("one bit flipped in an early record")]
    public void EtcdDirectory_FlippedBit_IsRefusedWithEverythingLeftAsItWas(string damage)
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-auth", temp.Path) + "/member/wal";
        byte[] whole = File.ReadAllBytes(wal + "/" + Segment);
        Damage(wal + "/" + Segment, damage);
        byte[] damaged = File.ReadAllBytes(wal + "/" + Segment);
        WalCorruptException refused = Assert.Throws<WalCorruptException>(
            () => WalDirectory.OpenForAppend(Files, wal, default, new WalOptions(), out _));
        Assert.Contains("walpb: crc mismatch", refused.Message, StringComparison.Ordinal);
        Assert.Contains(wal + "/" + Segment, refused.Message, StringComparison.Ordinal);
        Assert.Equal([wal + "/" + Segment], Directory.GetFiles(wal));
        Assert.True(damaged.AsSpan().SequenceEqual(File.ReadAllBytes(wal + "/" + Segment)));

        // The refusal holds no lock: with the bit put right the log opens.
        File.WriteAllBytes(wal + "/" + Segment, whole);
        WalDirectory.OpenForAppend(Files, wal, default, new WalOptions(), out WalRecovery recovery).Dispose();
        recovery.Dispose();
    }

    [Fact]
    public void Refusal_ByTheCaller_ChangesNothing()
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-auth", temp.Path) + "/member/wal";
        Damage(wal + "/" + Segment, "cut inside the last record");
        long length = new FileInfo(wal + "/" + Segment).Length;
        Assert.Throws<InvalidOperationException>(() => WalDirectory.OpenForAppend(
            Files, wal, default, new WalOptions(), out _, _ => throw new InvalidOperationException("no")));
        Assert.Equal([wal + "/" + Segment], Directory.GetFiles(wal));
        Assert.Equal(length, new FileInfo(wal + "/" + Segment).Length);
    }

    [Fact]
    public void SnapFile_EveryTruncationAndFlip_IsNoticed()
    {
        byte[] data = Payload.Of(5, 300);
        byte[] file = SnapFile.Encode(3, 77, [0x08, 0x01, 0x28, 0x00], data);
        Assert.True(SnapFile.TryDecode(file, out SnapContents? contents, out _));
        Assert.Equal((77UL, 3UL), (contents.Index, contents.Term));
        Assert.Equal(data, contents.Data);
        for (int length = 0; length < file.Length; length++)
        {
            Assert.False(SnapFile.TryDecode(file.AsSpan(0, length), out _, out string fault));
            Assert.NotEmpty(fault);
        }

        for (int i = 0; i < file.Length; i++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                file[i] ^= (byte)(1 << bit);


                // Only the bits above 32 of the crc's varint mean nothing.
                Assert.True(!SnapFile.TryDecode(file, out SnapContents? read, out _) || (i == 5 && bit >= 4 && read.Index == 77), $"bit {bit} of byte {i}");
                file[i] ^= (byte)(1 << bit);
            }
        }
    }

    [Fact]
    public void Decoders_Noise_NeverThrow()
    {
        Gen.Byte.Array[0, 200].Sample(bytes =>
        {
            _ = SnapFile.TryDecode(bytes, out _, out _);
            _ = FrameReader.TryEntry(bytes, out _, out _, out _, out _);
            _ = FrameReader.TryState(bytes, out _, out _);
            _ = FrameReader.TrySnapshot(bytes, out _, out _, out _);
            _ = FrameReader.RepeatsFrom(bytes);
            _ = FrameReader.TryFrame(bytes, 0, out _, out int next);
            Assert.InRange(next, 0, bytes.Length);
        });
    }

    [Fact]
    public void SegmentNames_OnlyTheExactForm_IsOne()
    {
        Assert.True(WalFormat.TryParseSegmentName("0000000000000001-00000000000002e4.wal", out ulong sequence, out ulong index));
        Assert.Equal((1UL, 0x2e4UL), (sequence, index));
        Assert.Equal("0000000000000001-00000000000002e4.wal", WalFormat.SegmentName(1, 0x2e4));
        foreach (string name in new[] { "", ".wal", "0.tmp", "1-2.wal", "0000000000000001-00000000000002e4.wal.broken", "000000000000000g-00000000000002e4.wal", "0000000000000001_00000000000002e4.wal", "+000000000000001-00000000000002e4.wal" })
        {
            Assert.False(WalFormat.TryParseSegmentName(name, out _, out _), name);
        }
    }

    [Fact]
    public void Purge_KeepsTheNewestOfEachKind()
    {
        using TempDirectory temp = new();
        for (ulong i = 1; i <= 7; i++)
        {
            SnapFile.Save(Files, temp.Path, 2, i * 100, [0x08, 0x01], [1, 2, 3]);
            File.WriteAllText($"{temp.Path}/{i * 100:x16}.snap.db", "x");
        }

        File.WriteAllText(temp.Path + "/db", "tree");
        SnapFile.Purge(Files, temp.Path, 5, warn: null);
        List<string> names = [.. Files.List(temp.Path)];
        Assert.Equal(11, names.Count);
        Assert.Contains("db", names);
        Assert.DoesNotContain(SnapFile.Name(2, 200), names);
        Assert.Contains(SnapFile.Name(2, 300), names);
        Assert.Contains($"{300:x16}.snap.db", names);
    }

    private static void Damage(string path, string damage)
    {
        byte[] head = new byte[64 << 10];
        using FileStream stream = new(path, FileMode.Open, FileAccess.ReadWrite);
        stream.ReadExactly(head);
        List<int> borders = [];
        FrameReader reader = new(head, 0);
        borders.Add(0);
        while (reader.Read(out _) == FrameStatus.Record)
        {
            borders.Add(reader.Position);
        }

        int last = borders[^2];
        int end = borders[^1];
        switch (damage)
        {
            case "nothing":
                break;
            case "cut inside the last record":
                stream.SetLength(end - 5);
                break;
            case "cut exactly after the last record":
                stream.SetLength(end);
                break;
            case "body of the last record zeroed":
                Write(stream, last + 8, new byte[end - last - 8]);
                break;
            case "0xff 64 bytes behind the end":
                byte[] junk = new byte[64];
                junk.AsSpan().Fill(0xff);
                Write(stream, end + 64, junk);
                break;
            case "length word of 10^9 at the end":
                byte[] word = new byte[8];
                BinaryPrimitives.WriteUInt64LittleEndian(word, 1_000_000_000);
                Write(stream, end, word);
                break;
            case "one bit flipped in the last record":
                Write(stream, end - 6, [(byte)(head[end - 6] ^ 4)]);
                break;
            case "one bit flipped in an early record":
                Write(stream, borders[4] + 40, [(byte)(head[borders[4] + 40] ^ 4)]);
                break;
            default:
                throw new ArgumentException(damage);
        }
    }

    private static void Write(FileStream stream, int offset, byte[] bytes)
    {
        stream.Position = offset;
        stream.Write(bytes);
    }
}
