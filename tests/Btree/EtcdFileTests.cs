// Files between etcd and us, both ways: what a real etcd 3.5.30 wrote we read and go on writing; what we write and
// stream, etcd's own tool checks page by page and hashes to the same number.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Cairn.Base;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Btree.Tests;

public sealed class EtcdFileTests : IDisposable
{
    private readonly ITestOutputHelper _output;
    private readonly string _directory = Directory.CreateTempSubdirectory("cairn-btree-").FullName;

    public EtcdFileTests(ITestOutputHelper output) => _output = output;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void SingleFixture_ReadsAsEtcdSaysItIs()
    {
        using Tree tree = OpenFixture("etcd-3.5-single");
        Assert.Equal(265UL, tree.CurrentRoot.HighWater);
        Assert.Equal(5UL, tree.CurrentRoot.TxId);
        Assert.Equal(1085440, tree.HighWaterBytes); // dbSize of its Status

        // The server counted what its last commit gave up as in use; after a stop these pages are free.
        TreeCheckResult check = tree.Check(tree.CurrentRoot, againstFreelist: true);
        Assert.True(check.IsOk);
        Assert.Equal((check.ReachablePages + 2) * 4096, tree.InUseBytes);
        Assert.Equal(2097152, tree.FileBytes);

        TreeReader reader = new(tree, tree.CurrentRoot);
        List<string> names = new();
        TreeCursor cursor = reader.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            names.Add(Encoding.ASCII.GetString(cursor.Key));
        }

        Assert.Equal(["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"], names);
        Assert.True(reader.TryGetBucket("meta"u8, out BucketReader meta));
        Assert.True(meta.TryGet("consistent_index"u8, out ReadOnlySpan<byte> index));
        Assert.Equal(824UL, BinaryPrimitives.ReadUInt64BigEndian(index));
        Assert.True(reader.TryGetBucket("cluster"u8, out BucketReader cluster));
        Assert.True(cluster.TryGet("clusterVersion"u8, out ReadOnlySpan<byte> version));
        Assert.Equal("3.5.0", Encoding.ASCII.GetString(version));

        Assert.True(reader.TryGetBucket("key"u8, out BucketReader key));
        TreeCursor revisions = key.Cursor();
        int entries = 0;
        long last = 0;
        for (bool more = revisions.First(); more; more = revisions.Next())
        {
            entries++;
            last = BinaryPrimitives.ReadInt64BigEndian(revisions.Key);
        }

        Assert.Equal(408, entries);
        Assert.Equal(800, last);

        // The same content as the saved snapshot, whose status of a real etcdutl is known.
        Assert.Equal((1122725216u, 423L), Oracle.HashOf(reader));
    }

    [Fact]
    public void AuthFixture_WithoutCompaction_HashesAsEtcdSays()
    {
        using Tree tree = OpenFixture("etcd-3.5-auth");
        TreeReader reader = new(tree, tree.CurrentRoot);
        Assert.True(reader.TryGetBucket("key"u8, out BucketReader key));
        uint crc = Crc32C.Compute("key"u8);
        TreeCursor cursor = key.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            crc = Crc32C.Append(Crc32C.Append(crc, cursor.Key), cursor.Value);
        }

        Assert.Equal(4200646986u, crc); // HashKV(42), never compacted
    }

    [Fact]
    public void Fixture_WrittenOn_StaysSoundForBoth()
    {
        using Tree tree = OpenFixture("etcd-3.5-single");
        for (int round = 0; round < 3; round++)
        {
            TreeWriter writer = tree.BeginWrite();
            Assert.True(writer.TryGetBucket("key"u8, out TreeBucket? key));
            for (int i = 0; i < 500; i++)
            {
                key.Put(TestTree.Revision(801 + (round * 500) + i), KeyValue("/added"u8, new byte[100 * (round + 1)]));
            }

            if (round == 2)
            {
                for (int i = 737; i < 1500; i++)
                {
                    key.Delete(TestTree.Revision(i));
                }
            }

            writer.Commit();
            TreeCheckResult check = tree.Check(tree.CurrentRoot, againstFreelist: true);
            Assert.True(check.IsOk, string.Join('\n', check.Errors));
        }

        ExpectOracleAgrees(tree, revision: 2300);
    }

    [Fact]
    public void Image_OfACommittedRoot_IsAFileEtcdAccepts()
    {
        using TestTree test = new();
        Random random = new(5);
        for (int commit = 0; commit < 12; commit++)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            foreach (string name in (string[])["alarm", "auth", "cluster", "key", "lease", "meta"])
            {
                writer.CreateBucketIfMissing(Encoding.ASCII.GetBytes(name));
            }

            Assert.True(writer.TryGetBucket("key"u8, out TreeBucket? key));
            key.FillPercent = 0.9;
            for (int i = 0; i < 300; i++)
            {
                byte[] value = new byte[random.Next(50) == 0 ? 20_000 : random.Next(600)];
                key.Put(TestTree.Revision(2 + (commit * 300) + i), KeyValue("k"u8, value));
                if (random.Next(3) == 0)
                {
                    key.Delete(TestTree.Revision(2 + random.Next((commit * 300) + 1)));
                }
            }

            key.Put(TestTree.Revision(2 + (commit * 300) + 299), KeyValue("last"u8, new byte[1_500_000]));
            Assert.True(writer.TryGetBucket("meta"u8, out TreeBucket? meta));
            meta.Put("consistent_index"u8, [0, 0, 0, 0, 0, 0, 0, (byte)commit]);
            writer.Commit();
        }

        ExpectOracleAgrees(test.Tree, revision: 2 + (11 * 300) + 299);
        test.ExpectSound();
    }

    [Fact]
    public void Image_WhileTheWriterGoesOn_IsThePinnedState()
    {
        using TestTree test = new();
        Fill(test.Tree, 0, 3000, 100);
        TreePin pin = test.Tree.Pin();
        (uint Hash, long Keys) expected = Oracle.HashOf(new TreeReader(test.Tree, pin.Root));
        string path = Path.Combine(_directory, "image");
        using (FileStream image = File.Create(path))
        {
            byte[] chunk = new byte[10_000]; // neither a divisor nor a multiple of the page size
            long offset = 0;
            int round = 0;
            while (true)
            {
                int read = test.Tree.ReadImage(pin, offset, chunk);
                image.Write(chunk, 0, read);
                offset += read;
                if (read < chunk.Length)
                {
                    break;
                }

                Fill(test.Tree, round * 20, 20, 300 + round++); // overwrites what is being read
            }

            Assert.Equal(test.Tree.ImageBytes(pin), offset);
        }

        byte[] head = File.ReadAllBytes(path)[..8192];
        Assert.True(MetaPage.TryRead(head, out MetaPage first, out _));
        Assert.True(MetaPage.TryRead(head.AsSpan(4096), out MetaPage second, out _));
        Assert.Equal(pin.Root.TxId, first.TxId);
        Assert.Equal(pin.Root.TxId - 1, second.TxId);
        Assert.Equal(first.RootPage, second.RootPage);
        using (Tree copy = TestTree.Open(path))
        {
            Assert.Equal(expected, Oracle.HashOf(new TreeReader(copy, copy.CurrentRoot)));
        }

        test.Tree.Unpin(pin);
        test.ExpectSound();
    }

    private static void Fill(Tree tree, int from, int count, int valueBytes)
    {
        TreeWriter writer = tree.BeginWrite();
        TreeBucket key = writer.CreateBucketIfMissing("key"u8);
        for (int i = from; i < from + count; i++)
        {
            key.Put(TestTree.Revision(i), new byte[valueBytes]);
        }

        writer.Commit();
    }

    /// <summary>A minimal mvccpb.KeyValue, which the tool decodes.</summary>
    private static byte[] KeyValue(ReadOnlySpan<byte> key, byte[] value)
    {
        byte[] buffer = new byte[key.Length + value.Length + 40];
        ProtoWriter writer = new(buffer);
        writer.WriteBytesField(1, key);
        writer.WriteVarintField(2, 1);
        writer.WriteVarintField(3, 1);
        writer.WriteVarintField(4, 1);
        writer.WriteBytesField(5, value);
        return writer.Written.ToArray();
    }

    private void ExpectOracleAgrees(Tree tree, long revision)
    {
        if (Oracle.Etcdutl is null)
        {
            _output.WriteLine(Oracle.Absent);
            return;
        }

        TreePin pin = tree.Pin();
        string path = Path.Combine(_directory, "oracle.db");
        using (FileStream image = File.Create(path))
        {
            byte[] chunk = new byte[32 * 1024];
            long offset = 0;
            for (int read = 1; read > 0; offset += read)
            {
                read = tree.ReadImage(pin, offset, chunk);
                image.Write(chunk, 0, read);
            }
        }

        (uint hash, long keys) = Oracle.HashOf(new TreeReader(tree, pin.Root));
        (uint Hash, long Revision, long TotalKeys, long TotalSize) status = Oracle.Status(path);
        Assert.Equal((hash, revision, keys, tree.ImageBytes(pin)), status);

        // The live file itself, metas and all.
        string live = Path.Combine(_directory, "live.db");
        using (IFile file = PosixFileSystem.Instance.Open(tree.Path, FileOpenMode.Read))
        {
            byte[] bytes = new byte[file.Length];
            file.Read(0, bytes);
            File.WriteAllBytes(live, bytes);
        }

        Assert.Equal(hash, Oracle.Status(live).Hash);
        tree.Unpin(pin);
    }

    private Tree OpenFixture(string name)
    {
        Oracle.Unpack(name, _directory);
        return TestTree.Open(Path.Combine(_directory, "db"));
    }
}
