// Damage: whatever single byte of a file is changed, opening and reading it either gives valid answers or our own
// exception with path, page and offset; never a crash, a hang or a read outside the file.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using Cairn.Base;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class CorruptionTests : IDisposable
{
    private const int PageSize = 1024;
    private static readonly TreeOptions Options = new() { ReserveBytes = 4 << 20, PageSize = PageSize, NoSync = true };
    private readonly string _directory = Directory.CreateTempSubdirectory("cairn-btree-").FullName;

    private string FilePath => Path.Combine(_directory, "db");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    public void AnyByte_Changed_IsRefusedOrHarmless(bool checksums, bool storeFreelist)
    {
        byte[] good = SmallFile(checksums, storeFreelist, out HashSet<uint> states);
        using IFile file = PosixFileSystem.Instance.Open(FilePath, FileOpenMode.CreateOrTruncate);
        file.Write(0, good);
        int refused = 0;
        int unseen = 0;
        for (int i = 0; i < good.Length; i++)
        {
            byte flip = (byte)(i % 3 == 0 ? 0xFF : 1 << (i % 8));
            file.Write(i, [(byte)(good[i] ^ flip)]);
            if (TryReadAll(out uint hash))
            {
                unseen += states.Contains(hash) ? 0 : 1;
            }
            else
            {
                refused++;
            }

            file.Write(i, good.AsSpan(i, 1));
        }

        Assert.True(refused > 500, $"{refused} refused");

        // With checksums no change of content goes unseen: what is read is the last state, or the one before it
        // when its meta page was hit. Without checksums a changed value is just a value.
        Assert.Equal(!checksums, unseen > 0);
    }

    [Fact]
    public void AnyLength_CutShort_IsRefused()
    {
        byte[] good = SmallFile(checksums: true, storeFreelist: false, out _);
        for (int length = 1; length < good.Length; length += 61)
        {
            File.WriteAllBytes(FilePath, good[..length]);
            Assert.False(TryReadAll(out _), $"{length} of {good.Length} bytes");
        }
    }

    [Fact]
    public void RandomDamage_OfAnEtcdFile_IsRefusedOrHarmless()
    {
        // etcd's pages carry no checksum: content may change unseen, but the structure must hold or be refused.
        Oracle.Unpack("etcd-3.5-single", _directory);
        byte[] good = File.ReadAllBytes(FilePath)[..(265 * 4096)];
        List<int> pages = new(); // most of the file is the inside of a few large values
        for (int i = 2; i < 265; i++)
        {
            if (BitConverter.ToInt64(good, i * 4096) == i)
            {
                pages.Add(i);
            }
        }

        Random random = new(11);
        int refused = 0;
        for (int round = 0; round < 300; round++)
        {
            byte[] bad = (byte[])good.Clone();
            int page = pages[random.Next(pages.Count)] * 4096;
            for (int i = random.Next(1, 8); i > 0; i--)
            {
                // Headers and element tables are where damage hurts.
                bad[page + random.Next(random.Next(2) == 0 ? 256 : 4096)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(FilePath, bad);
            refused += TryReadAll(out _) ? 0 : 1;
        }

        Assert.InRange(refused, 50, 299);
    }

    [Fact]
    public void Damage_IsReportedWithPathPageOffsetAndBothValues()
    {
        byte[] good = SmallFile(checksums: false, storeFreelist: false, out _);
        MetaPage meta = Newest(good);
        int root = (int)meta.RootPage * PageSize;
        string rootText = meta.RootPage.ToString(CultureInfo.InvariantCulture);

        Expect([(16 + 4, 3), (PageSize + 16 + 4, 3)], 0, 16, "both meta pages: meta format version", "2", "3");
        Expect([(16, 0), (PageSize + 16, 0)], 0, 16, "both meta pages: meta magic", "0xed0cdaed", "0xed0cda00");
        Expect([(root, 77)], meta.RootPage, root, "page id", rootText, "77");
        Expect([(root + 8, 7)], meta.RootPage, root + 8, "page flags", "1 (branch) or 2 (leaf)", "7");
        Expect([(root + 8, 3)], meta.RootPage, root + 8, "page flags", "1 (branch) or 2 (leaf)", "3");
        Expect([(root + 12, 99)], meta.RootPage, root + 12, "overflow pages", null, "99");
        Expect([(root + 16 + 6, 1)], meta.RootPage, root + 16, "key and value position", null, null);
        Expect([(root + 16 + 8, 0)], meta.RootPage, root + 16, "key size", "1 to 32768", "0");
        Expect([(root + 11, 255)], meta.RootPage, root + 10, "leaf element count", null, null);

        void Expect((int Offset, byte Value)[] changes, ulong page, long offset, string what, string? expected, string? found)
        {
            byte[] bad = (byte[])good.Clone();
            foreach ((int at, byte value) in changes)
            {
                bad[at] = value;
            }

            File.WriteAllBytes(FilePath, bad);
            TreeCorruptException e = Assert.Throws<TreeCorruptException>(() => TestTree.Open(FilePath, Options));
            Assert.Equal((what, FilePath, page, offset), (e.What, e.Path, e.Page, e.Offset));
            Assert.Equal((expected ?? e.Expected, found ?? e.Found), (e.Expected, e.Found));
            Assert.StartsWith($"{FilePath}: page {page}, file offset {offset}: {what}: expected {e.Expected}, found {e.Found}", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ChildPage_ThatIsItsOwnAncestor_IsRefused()
    {
        byte[] good = SmallFile(checksums: false, storeFreelist: false, out _);

        // Let the first child of every branch page be that page itself: a circle.
        int circles = 0;
        for (int page = 2 * PageSize; page < good.Length; page += PageSize)
        {
            if (good[page + 8] == PageFormat.Branch && BitConverter.ToUInt64(good, page) == (ulong)(page / PageSize))
            {
                BitConverter.TryWriteBytes(good.AsSpan(page + 16 + 8), (ulong)(page / PageSize));
                circles++;
            }
        }

        Assert.True(circles > 0);
        File.WriteAllBytes(FilePath, good);
        TreeCorruptException e = Assert.Throws<TreeCorruptException>(() => TestTree.Open(FilePath, Options));
        Assert.Equal("owner of the page", e.What);
    }

    [Fact]
    public void Page_DamagedAfterOpen_IsRefusedAtItsFirstVisit()
    {
        using TestTree test = new(Options);
        for (int commit = 0; commit < 6; commit++)
        {
            // Pages are reused, and each has been visited in its earlier life.
            Assert.True(test.Tree.Check(test.Tree.CurrentRoot).IsOk);
            TreeWriter writer = test.Tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("b"u8);
            for (int i = 0; i < 500; i++)
            {
                bucket.Put(TestTree.Revision(i), new byte[50]);
            }

            writer.Commit();
        }

        ulong victim = FirstLeaf(test.Tree);
        using (IFile file = PosixFileSystem.Instance.Open(test.FilePath, FileOpenMode.ReadWrite))
        {
            file.Write(((long)victim * PageSize) + 200, [0xAB, 0xCD]);
        }

        // Nobody has visited the page since it was written, so its checksum is compared now.
        TreeReader reader = new(test.Tree, test.Tree.CurrentRoot);
        Assert.True(reader.TryGetBucket("b"u8, out BucketReader b));
        TreeCorruptException e = Assert.Throws<TreeCorruptException>(() => b.TryGet(TestTree.Revision(0), out _));
        Assert.Equal((victim, "page checksum"), (e.Page, e.What));

        TreeCheckResult check = test.Tree.Check(test.Tree.CurrentRoot);
        Assert.Contains(check.Errors, error => error.Contains("page checksum", StringComparison.Ordinal));
    }

    private static unsafe ulong FirstLeaf(Tree tree)
    {
        TreeReader reader = new(tree, tree.CurrentRoot);
        reader.TryGetBucket("b"u8, out BucketReader bucket);
        byte* page = bucket.RootPage();
        ulong id = 0;
        while (id == 0 || !PageFormat.IsLeaf(tree.Map.Page(id, tree.CurrentRoot.HighWater)))
        {
            id = PageFormat.BranchChild(page, 0);
            byte[] head = new byte[16];
            tree.File.Read((long)id * PageSize, head);
            if (head[8] == PageFormat.Leaf)
            {
                return id; // found without visiting it through the map
            }

            page = tree.Map.Page(id, tree.CurrentRoot.HighWater);
        }

        return id;
    }

    private static MetaPage Newest(byte[] file)
    {
        MetaPage.TryRead(file, out MetaPage first, out _);
        MetaPage.TryRead(file.AsSpan(PageSize), out MetaPage second, out _);
        return first.TxId > second.TxId ? first : second;
    }

    /// <summary>Branches, leaves, overflow, inline and nested buckets in a dozen pages, with two good states.</summary>
    private byte[] SmallFile(bool checksums, bool storeFreelist, out HashSet<uint> states)
    {
        states = new HashSet<uint>();
        TreeOptions options = new() { ReserveBytes = 4 << 20, PageSize = PageSize, NoSync = true, PageChecksums = checksums, StoreFreelist = storeFreelist };
        using TestTree test = new(options);
        for (int commit = 0; commit < 3; commit++)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            writer.CreateBucketIfMissing("alarm"u8);
            writer.CreateBucketIfMissing("meta"u8).Put("consistent_index"u8, [0, 0, 0, 0, 0, 0, 0, (byte)commit]);
            TreeBucket key = writer.CreateBucketIfMissing("key"u8);
            for (int i = 0; i < 24; i++)
            {
                key.Put(TestTree.Revision((commit * 10) + i), new byte[60 + (i % 3)]);
            }

            key.Put(TestTree.Revision(900), new byte[1500]);
            TreeBucket nested = writer.CreateBucketIfMissing("outer"u8).CreateBucketIfMissing("inner"u8);
            for (int i = 0; i < 6; i++)
            {
                nested.Put([(byte)('a' + i)], new byte[70]);
            }

            writer.Commit();
            states.Add(HashAll(test.Tree));
        }

        byte[] bytes = FormatTests.ReadFile(test)[..(int)test.Tree.HighWaterBytes];
        return bytes;
    }

    private bool TryReadAll(out uint hash)
    {
        hash = 0;
        try
        {
            using Tree tree = TestTree.Open(FilePath, Options);
            hash = HashAll(tree);
            TreeReader reader = new(tree, tree.CurrentRoot);
            if (reader.TryGetBucket("key"u8, out BucketReader key))
            {
                key.TryGet(TestTree.Revision(900), out _);
                TreeCursor cursor = key.Cursor();
                for (bool more = cursor.Last(); more; more = cursor.Prev())
                {
                    cursor.TryGetBucket(out _);
                }
            }

            // Building on it must not fall over either; nothing is written.
            TreeWriter writer = tree.BeginWrite();
            if (writer.TryGetBucket("key"u8, out TreeBucket? bucket))
            {
                bucket.Put([1], [2]);
                bucket.Delete(TestTree.Revision(12));
            }

            writer.Rollback();
            return tree.Check(tree.CurrentRoot, againstFreelist: true).IsOk;
        }
        catch (TreeCorruptException e)
        {
            Assert.Equal(FilePath, e.Path);
            return false;
        }
    }

    private static uint HashAll(Tree tree) => Hash(0, new TreeReader(tree, tree.CurrentRoot).Cursor());

    private static uint Hash(uint crc, TreeCursor cursor)
    {
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            crc = Crc32C.Append(crc, cursor.Key);
            crc = cursor.TryGetBucket(out BucketReader inner) ? Hash(crc, inner.Cursor()) : Crc32C.Append(crc, cursor.Value);
        }

        return crc;
    }
}
