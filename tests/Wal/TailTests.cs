// TailTests: a small log, cut at every length and flipped at every byte. The verdicts must be those of the tables:
// etcd's for a log without marks (computed here a second time, in the plainest way), ours for a log with marks.
using System;
using System.Collections.Generic;
using System.Buffers.Binary;
using CsCheck;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed unsafe class TailTests
{
    private const int Room = 1024; // zeros behind the log, as in a prepared segment

    [Fact]
    public void Unmarked_EveryTruncation_KeepsExactlyTheWholeRecords()
    {
        Sample log = Sample.Make(marked: false);
        for (int length = 0; length <= log.Used; length++)
        {
            (TailVerdict verdict, SegmentScan scan, int entries) = Judge(log.Bytes.AsSpan(0, length));
            Assert.Equal(log.BorderAtOrBelow(length), scan.End);
            Assert.Equal(scan.End == length ? TailVerdict.Clean : TailVerdict.Torn, verdict);
            Assert.Equal(log.EntriesBelow(scan.End), entries);
        }
    }

    [Fact]
    public void Unmarked_EveryTruncationInPreparedSpace_IsRepairedOrRefusedAsEtcdDoes()
    {
        Sample log = Sample.Make(marked: false);
        for (int length = 0; length <= log.Used; length++)
        {
            byte[] bytes = (byte[])log.Bytes.Clone();
            bytes.AsSpan(length).Clear();
            Compare(bytes);
        }
    }

    [Fact]
    public void Unmarked_EveryFlip_GetsEtcdsVerdict()
    {
        Sample log = Sample.Make(marked: false);
        byte[] bytes = (byte[])log.Bytes.Clone();
        for (int i = 0; i < log.Used; i++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                bytes[i] ^= (byte)(1 << bit);
                Compare(bytes);
                bytes[i] ^= (byte)(1 << bit);
            }
        }
    }

    [Fact]
    public void Marked_EveryFlip_BelowTheMarkIsRefused_AboveItIsCut()
    {
        Sample log = Sample.Make(marked: true);
        byte[] bytes = (byte[])log.Bytes.Clone();
        int refused = 0;
        int cut = 0;
        for (int i = 0; i < log.Used; i++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                bytes[i] ^= (byte)(1 << bit);
                (TailVerdict verdict, SegmentScan scan, int entries) = Judge(bytes);
                if (verdict == TailVerdict.Corrupt)
                {
                    refused++;
                }
                else if (scan.End == log.Used)
                {
                    // Padding, or bits of the length word that mean nothing: all of it was read.
                    Assert.Equal(TailVerdict.Clean, verdict);
                    Assert.Equal(log.EntriesBelow(log.Used), entries);
                }
                else
                {
                    Assert.True(i >= log.Synced, $"flip of bit {bit} at {i}, below {log.Synced}, was cut off at {scan.End}");
                    Assert.True(scan.End >= log.Synced);
                    Assert.Equal(TailVerdict.Torn, verdict);
                    Assert.Equal(log.EntriesBelow(scan.End), entries);
                    cut++;
                }

                bytes[i] ^= (byte)(1 << bit);
            }
        }

        Assert.True(refused > log.Synced * 4, $"{refused} flips refused");
        Assert.True(cut > 100, $"{cut} flips cut");
    }

    [Fact]
    public void Marked_EveryZeroedSector_BelowTheMarkIsRefused()
    {
        Sample log = Sample.Make(marked: true);
        for (int at = 0; at < log.Used; at += 512)
        {
            byte[] bytes = (byte[])log.Bytes.Clone();
            bytes.AsSpan(at, Math.Min(512, bytes.Length - at)).Clear();
            (TailVerdict verdict, SegmentScan scan, _) = Judge(bytes);
            if (at < log.Synced)
            {
                Assert.Equal(TailVerdict.Corrupt, verdict);
            }
            else
            {
                Assert.NotEqual(TailVerdict.Corrupt, verdict);
                Assert.True(scan.End >= log.Synced);
            }
        }
    }

    [Fact]
    public void Marked_JunkBehindTheEnd_IsTorn_Unmarked_IsJunk()
    {
        foreach (bool marked in new[] { true, false })
        {
            Sample log = Sample.Make(marked);
            log.Bytes.AsSpan(log.Used + 64, 32).Fill(0xff);
            (TailVerdict verdict, SegmentScan scan, _) = Judge(log.Bytes);
            Assert.Equal(marked ? TailVerdict.Torn : TailVerdict.Junk, verdict);
            Assert.Equal(log.Used, scan.End);
        }
    }

    [Fact]
    public void Mark_AboveItsOwnRecord_MeansNothing()
    {
        // As a server that copies fields it does not know would leave it in a later segment.
        using RecordEncoder encoder = new(64);
        encoder.Begin(0);
        encoder.AppendCrc();
        encoder.AppendRaw(RecordType.Metadata, [0x08, 0x01]);
        encoder.AppendState(new WalHardState(1, 1, 0), 1_000_000);
        (_, SegmentScan scan, _) = Judge(encoder.Written);
        Assert.False(scan.Marked);
        Assert.Equal(0, scan.SyncedUpTo);
    }

    [Fact]
    public void Scan_RandomBytes_EndsWithAVerdict()
    {
        Gen.Byte.Array[0, 600].Sample(bytes =>
        {
            (_, SegmentScan scan, int entries) = Judge(bytes);
            Assert.InRange(scan.End, 0, bytes.Length);
            Assert.InRange(entries, 0, bytes.Length);
        });
    }

    [Fact]
    public void Marked_AnythingWrittenOver_BelowTheMarkIsRefused()
    {
        Sample log = Sample.Make(marked: true);
        Gen.Select(Gen.Int[0, log.Used], Gen.Byte.Array[1, 700]).Sample((at, junk) =>
        {
            byte[] bytes = (byte[])log.Bytes.Clone();
            junk.AsSpan(0, Math.Min(junk.Length, log.Used - at)).CopyTo(bytes.AsSpan(at));
            (TailVerdict verdict, SegmentScan scan, int entries) = Judge(bytes);
            if (verdict != TailVerdict.Corrupt && scan.End != log.Used)
            {
                Assert.True(at + junk.Length > log.Synced, $"{junk.Length} bytes at {at}");
                Assert.True(scan.End >= log.Synced || at < log.Synced);
                Assert.Equal(log.EntriesBelow(scan.End), entries);
            }
        });
    }

    private static (TailVerdict Verdict, SegmentScan Scan, int Entries) Judge(ReadOnlySpan<byte> bytes)
    {
        using SegmentImage image = SegmentImage.Of("sample", bytes);
        using WalRecovery recovery = new();
        LogScan scan = new(default, recovery, new SparseIndex());
        SegmentScan end = scan.Read(image, 0);
        TailVerdict verdict = Tail.Judge(image, end, out string found);
        Assert.Equal(verdict == TailVerdict.Corrupt, found.Length > 0);
        return (verdict, end, recovery.Entries.Length);
    }

    private static void Compare(byte[] bytes)
    {
        (TailVerdict verdict, SegmentScan scan, _) = Judge(bytes);
        (string expected, int end) = EtcdReference.Judge(bytes);
        string actual = scan.Fault != null ? "crc or nonsense" : verdict switch
        {
            TailVerdict.Clean or TailVerdict.Junk => "clean",
            TailVerdict.Torn => "torn",
            _ => "crc or nonsense",
        };

        // We refuse more than etcd does where the content contradicts the unprotected type; never less.
        if (actual != expected || (actual != "crc or nonsense" && scan.End != end))
        {
            Assert.True(scan.Fault != null || (verdict == TailVerdict.Corrupt && expected != "torn"), $"{actual} at {scan.End}, etcd says {expected} at {end}");
        }
    }

    /// <summary>The rules of the format notes, section 3.6, written down once more without an eye to speed.</summary>
    private static class EtcdReference
    {
        public static (string Verdict, int End) Judge(byte[] file)
        {
            int at = 0;
            uint crc = 0;
            while (true)
            {
                if (at == file.Length)
                {
                    return ("clean", at);
                }

                if (file.Length - at < 8)
                {
                    return ("torn", at);
                }

                long word = BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(at));
                if (word == 0)
                {
                    return ("clean", at);
                }

                long length = word & 0x00ffffffffffffff;
                int padding = word < 0 ? (int)((word >> 56) & 7) : 0;
                if (length + padding > file.Length - at - 8)
                {
                    return ("torn", at);
                }

                int body = (int)length + padding;
                if (body % 8 != 0 || !Record(file.AsSpan(at + 8, (int)length), ref crc))
                {
                    return (HasZeroPiece(file, at + 8, at + 8 + body) ? "torn" : "crc or nonsense", at);
                }

                at += 8 + body;
            }
        }

        private static bool Record(ReadOnlySpan<byte> bytes, ref uint crc)
        {
            Base.ProtoReader reader = new(bytes);
            ulong type = 0;
            uint stored = 0;
            ReadOnlySpan<byte> data = default;
            while (reader.NextField())
            {
                if (reader.Field == 1 && reader.Wire == Base.WireType.Varint)
                {
                    type = reader.ReadVarint();
                }
                else if (reader.Field == 2 && reader.Wire == Base.WireType.Varint)
                {
                    stored = (uint)reader.ReadVarint();
                }
                else if (reader.Field == 3 && reader.Wire == Base.WireType.Bytes)
                {
                    data = reader.ReadBytes();
                }
                else if (reader.Field <= 3)
                {
                    return false;
                }
                else
                {
                    reader.Skip();
                }
            }

            if (reader.Failed || type is 0 or > 5)
            {
                return false;
            }

            if (type == 4)
            {
                bool good = crc == 0 || crc == stored;
                crc = stored;
                return good;
            }

            foreach (byte b in data)
            {
                crc = Slow(crc, b);
            }

            return crc == stored;
        }

        private static uint Slow(uint crc, byte b)
        {
            uint state = ~crc ^ b;
            for (int i = 0; i < 8; i++)
            {
                state = (state & 1) != 0 ? (state >> 1) ^ 0x82F63B78 : state >> 1;
            }

            return ~state;
        }

        private static bool HasZeroPiece(byte[] file, int start, int end)
        {
            for (int sector = start / 512; sector <= (end - 1) / 512; sector++)
            {
                bool zero = true;
                for (int i = Math.Max(start, sector * 512); i < Math.Min(end, (sector + 1) * 512); i++)
                {
                    zero &= file[i] == 0;
                }

                if (zero && end > start)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>A log of five batches and a restated mark.</summary>
    private sealed class Sample
    {
        private readonly List<int> _borders = [];
        private readonly List<int> _entryEnds = [];

        public byte[] Bytes { get; private init; } = [];

        public int Used { get; private set; }

        /// <summary>Everything below is covered by a later mark.</summary>
        public int Synced { get; private set; }

        public static Sample Make(bool marked)
        {
            using RecordEncoder encoder = new(1 << 16);
            Sample sample = new() { Bytes = new byte[8192 + Room] };
            void Border() => sample._borders.Add(encoder.Length);
            Border();
            encoder.Begin(0);
            encoder.AppendCrc();
            Border();
            encoder.AppendRaw(RecordType.Metadata, [0x08, 0x81, 0x01, 0x10, 0x07]);
            Border();
            encoder.AppendSnapshot(0, 0, null, 0);
            Border();
            ulong index = 0;
            for (int batch = 0; batch < 5; batch++)
            {
                int start = encoder.Length;
                for (int i = 0; i < 3; i++)
                {
                    byte[] payload = Payload.Of(batch + (i * 5), new[] { 0, 61, 700 }[i]);
                    fixed (byte* data = payload)
                    {
                        encoder.AppendEntry(new WalEntry { Term = 2, Index = ++index, Data = data, Length = payload.Length });
                    }

                    Border();
                    sample._entryEnds.Add(encoder.Length);
                }

                if (marked)
                {
                    encoder.AppendState(new WalHardState(2, 9, index - 1), batch == 0 ? 0 : start);
                    sample.Synced = start;
                }
                else
                {
                    encoder.AppendRaw(RecordType.State, [0x08, 0x02, 0x10, 0x09, 0x18, (byte)(index - 1)]);
                }

                Border();
            }

            sample.Used = encoder.Length;
            encoder.Written.CopyTo(sample.Bytes);
            return sample;
        }

        public int BorderAtOrBelow(int length) => _borders[^(1 + _borders.FindAll(b => b > length).Count)];

        public int EntriesBelow(int end) => _entryEnds.FindAll(e => e <= end).Count;
    }
}
