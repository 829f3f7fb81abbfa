// Bytes decoded by hand from a real etcd 3.5.30's file: our reader must see what was put there, and our writer must
// produce the same bytes for the same content.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Cairn.Base;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class FormatTests
{
    /// <summary>Meta page 1 of the worked example, header included.</summary>
    private const string MetaExample =
        "0100000000000000" + "0400" + "0000" + "00000000" +
        "edda0ced" + "02000000" + "00100000" + "00000000" +
        "0300000000000000" + "0000000000000000" +
        "ffffffffffffffff" + "0700000000000000" +
        "0d00000000000000" + "ca10b6637e884ed3";

    [Fact]
    public void Meta_OfEtcd_ReadsAndWritesTheSameBytes()
    {
        byte[] expected = Convert.FromHexString(MetaExample);
        Assert.True(MetaPage.TryRead(expected, out MetaPage meta, out _));
        Assert.Equal(4096, meta.PageSize);
        Assert.Equal(3UL, meta.RootPage);
        Assert.Equal(MetaPage.NoFreelist, meta.FreelistPage);
        Assert.Equal(7UL, meta.HighWater);
        Assert.Equal(13UL, meta.TxId);

        byte[] written = new byte[expected.Length];
        meta.Write(written, 1);
        Assert.Equal(expected, written);
    }

    [Fact]
    public void Meta_AnyBitFlipped_IsRefused()
    {
        byte[] good = Convert.FromHexString(MetaExample);
        for (int i = PageFormat.HeaderBytes; i < good.Length; i++)
        {
            for (int bit = 0; bit < 8; bit++)
            {
                byte[] bad = (byte[])good.Clone();
                bad[i] ^= (byte)(1 << bit);
                Assert.False(MetaPage.TryRead(bad, out _, out (string What, string Expected, string Found) fault));
                Assert.NotEmpty(fault.What);
            }
        }
    }

    [Fact]
    public void NewFile_IsFourPagesWithRootThree()
    {
        using TestTree test = new();
        byte[] file = ReadFile(test);
        Assert.Equal(4 * 4096, file.Length);
        for (int i = 0; i < 2; i++)
        {
            Assert.True(MetaPage.TryRead(file.AsSpan(i * 4096), out MetaPage meta, out _));
            Assert.Equal((ulong)i, meta.TxId);
            Assert.Equal(3UL, meta.RootPage);
            Assert.Equal(4UL, meta.HighWater);
            Assert.Equal((ulong)i, BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(i * 4096)));
        }

        Assert.Equal("03000000000000000200000000000000", Convert.ToHexStringLower(file.AsSpan(3 * 4096, 16)));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(test.FilePath));
    }

    [Fact]
    public void InlineBuckets_AreWrittenAsEtcdWritesThem()
    {
        using TestTree test = new();
        TreeWriter writer = test.Tree.BeginWrite();
        writer.CreateBucket("alarm"u8);
        writer.CreateBucket("auth"u8).Put("authRevision"u8, [0, 0, 0, 0, 0, 0, 0, 1]);
        writer.Commit();

        // Two elements of 16 bytes, then the data; each position counts from its own element.
        string expected =
            "0200" + "0200" + "00000000" + // leaf, 2 elements, no overflow
            "01000000" + "20000000" + "05000000" + "20000000" +
            "01000000" + "35000000" + "04000000" + "44000000" + // +5+32 bytes of the first, -16 for the element
            Hex("alarm") + "0000000000000000" + "0000000000000000" +
            "0000000000000000" + "0200" + "0000" + "00000000" +
            Hex("auth") + "0000000000000000" + "0000000000000000" +
            "0000000000000000" + "0200" + "0100" + "00000000" +
            "00000000" + "10000000" + "0c000000" + "08000000" +
            Hex("authRevision") + "0000000000000001";
        byte[] file = ReadFile(test);
        int root = (int)test.Tree.CurrentRoot.RootPage * 4096;
        Assert.Equal(expected, Convert.ToHexStringLower(file.AsSpan(root + 8, expected.Length / 2)));
        Assert.Equal(test.Tree.CurrentRoot.RootPage, BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(root)));
    }

    [Fact]
    public void LargeBucket_IsABranchWithElementsOfSixteenBytes()
    {
        using TestTree test = new();
        TreeWriter writer = test.Tree.BeginWrite();
        TreeBucket key = writer.CreateBucket("key"u8);
        key.FillPercent = 0.9;
        for (int i = 122; i < 250; i++)
        {
            key.Put(TestTree.Revision(i), new byte[200]);
        }

        writer.Commit();
        byte[] file = ReadFile(test);
        int root = (int)test.Tree.CurrentRoot.RootPage * 4096;
        Assert.Equal("01000000" + "10000000" + "03000000" + "10000000", Convert.ToHexStringLower(file.AsSpan(root + 16, 16)));
        Assert.Equal("key", Encoding.ASCII.GetString(file, root + 32, 3));
        int branch = (int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(root + 35)) * 4096;
        Assert.Equal(1, BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(branch + 8)));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(branch + 10));

        // 15 entries of 16 + 17 + 200 bytes and the header are just under nine tenths of a page.
        Assert.Equal((128 + 14) / 15, count);
        for (int i = 0; i < count; i++)
        {
            // One more per element: the key before adds 17 bytes, the element itself takes 16.
            int element = branch + 16 + (16 * i);
            Assert.Equal((uint)((16 * count) + i), BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(element)));
            Assert.Equal(17u, BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(element + 4)));
        }

        Assert.Equal("000000000000007a5f0000000000000000", Convert.ToHexStringLower(file.AsSpan(branch + 16 + (16 * count), 17)));
    }

    [Fact]
    public void Pages_WithRoomLeft_CarryAChecksumInTheirTail()
    {
        using TestTree test = new();
        TreeWriter writer = test.Tree.BeginWrite();
        writer.CreateBucket("b"u8).Put("k"u8, "v"u8);
        writer.Commit();
        byte[] file = ReadFile(test);
        Span<byte> page = file.AsSpan((int)test.Tree.CurrentRoot.RootPage * 4096, 4096);
        Assert.Equal("CrnP"u8.ToArray(), page[4088..4092].ToArray());

        // CRC-32C bit by bit, the slow way.
        uint crc = uint.MaxValue;
        foreach (byte b in page[..4088])
        {
            crc ^= b;
            for (int i = 0; i < 8; i++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0x82F63B78);
            }
        }

        Assert.Equal(~crc, BinaryPrimitives.ReadUInt32LittleEndian(page[4092..]));
    }

    [Fact]
    public void Freelist_WhenStored_NamesEveryPageNobodyReaches()
    {
        using TestTree test = new(new TreeOptions { ReserveBytes = 1L << 30, PageSize = 1024, NoSync = true, StoreFreelist = true });
        for (int round = 0; round < 3; round++)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("b"u8);
            for (int i = 0; i < 70_000 / 20; i++)
            {
                bucket.Put(TestTree.Revision(i), new byte[round == 2 ? 10 : 900]);
            }

            writer.Commit();
            test.ExpectSound();
        }

        byte[] file = ReadFile(test);
        MetaPage.TryRead(file.AsSpan((int)(test.Tree.CurrentRoot.TxId & 1) * 1024), out MetaPage meta, out _);
        int page = (int)meta.FreelistPage * 1024;
        Assert.Equal(0x10, BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(page + 8)));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(page + 10));
        HashSet<ulong> free = new();
        for (int i = 0; i < count; i++)
        {
            Assert.True(free.Add(BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(page + 16 + (8 * i)))));
        }

        using TreeWalk walk = new(test.Tree.Map, meta.HighWater, errors: null);
        walk.Run(meta.RootPage);
        uint own = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(page + 12)) + 1;
        walk.Mark(meta.FreelistPage, own);
        for (ulong id = 2; id < meta.HighWater; id++)
        {
            Assert.Equal(!walk.IsReached(id), free.Contains(id));
        }

        test.Reopen();
        test.ExpectSound();

        // Opened without the option, the next commit gives the list up, as etcd does.
        test.Options = TestTree.Fast;
        test.Reopen();
        test.Tree.BeginWrite().Commit();
        test.ExpectSound();
        Assert.Equal(MetaPage.NoFreelist, test.Tree.CurrentRoot.FreelistPage);
    }

    [Fact]
    public void FreelistOver65534Pages_StoresItsCountInTheFirstId()
    {
        using TestTree test = new(new TreeOptions { ReserveBytes = 1L << 30, PageSize = 1024, NoSync = true, StoreFreelist = true });
        TreeWriter writer = test.Tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucket("b"u8);
        byte[] value = new byte[900];
        for (int i = 0; i < 70_000; i++)
        {
            bucket.Put(TestTree.Revision(i), value);
        }

        writer.CreateBucket("c"u8).Put("high"u8, new byte[5000]);
        writer.Commit();
        TreePin pin = test.Tree.Pin(); // keeps the mark up
        writer = test.Tree.BeginWrite();
        writer.DeleteBucket("b"u8);
        writer.Commit();
        byte[] file = ReadFile(test);
        int page = (int)test.Tree.CurrentRoot.FreelistPage * 1024;
        Assert.Equal(0xFFFF, BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(page + 10)));
        Assert.InRange(BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(page + 16)), 70_000UL, 80_000UL);
        test.Tree.Unpin(pin);
        test.Reopen();
        test.ExpectSound();
    }

    [Theory]
    [InlineData(1024)]
    [InlineData(16384)]
    [InlineData(65536)]
    public void PageSize_OfTheFile_IsFoundAlsoWithTheFirstMetaDamaged(int pageSize)
    {
        using TestTree test = new(new TreeOptions { ReserveBytes = 1L << 30, PageSize = pageSize, NoSync = true });
        TreeWriter writer = test.Tree.BeginWrite();
        writer.CreateBucket("b"u8).Put("k"u8, "v"u8); // commit 2 is in page 0
        writer.Commit();
        writer = test.Tree.BeginWrite();
        writer.CreateBucket("c"u8); // commit 3 is in page 1
        writer.Commit();
        test.Tree.Dispose();
        using (FileStream file = File.OpenWrite(test.FilePath))
        {
            file.Position = 20;
            file.WriteByte(99);
        }

        test.Options = TestTree.Fast;
        test.Reopen();
        Assert.Equal(pageSize, test.Tree.PageSize);
        Assert.Equal(3UL, test.Tree.CurrentRoot.TxId);
        test.ExpectSound();
    }

    /// <summary>The file's bytes; .NET's own file classes would take a lock, and the tree holds it.</summary>
    internal static byte[] ReadFile(TestTree test)
    {
        using IFile file = PosixFileSystem.Instance.Open(test.FilePath, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(0, bytes);
        return bytes;
    }

    private static string Hex(string text) => Convert.ToHexStringLower(Encoding.ASCII.GetBytes(text));
}
