// Power cuts: after every prefix of what a series of commits did to the file, with any part of the writes since the
// last sync lost or torn, the file opens and holds exactly the state before or after the commit that was cut.
using System;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class CrashTests : IDisposable
{
    private const int SectorBytes = 512;
    private static readonly TreeOptions Options = new() { ReserveBytes = 64 << 20, PageSize = 1024 };
    private readonly string _directory = Directory.CreateTempSubdirectory("cairn-btree-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [InlineData(3, false)]
    public void Commit_CutAnywhere_LeavesTheStateBeforeOrAfter(int seed, bool storeFreelist)
    {
        Random random = new(seed);
        JournalFileSystem files = new();
        string path = Path.Combine(_directory, "db");
        TreeOptions options = new() { ReserveBytes = Options.ReserveBytes, PageSize = Options.PageSize, StoreFreelist = storeFreelist };
        using Tree tree = Tree.Open(files, path, options, new ThrowingFatal());
        List<(int Step, uint Hash)> durable = new() { (0, Hash(tree)) };
        byte[] image = Image(path);
        files.Steps.Clear();
        List<TreePin> pins = new();
        for (int commit = 0; commit < 25; commit++)
        {
            TreeWriter writer = tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("b"u8);
            for (int i = 0; i < 30; i++)
            {
                bucket.Put(TestTree.Revision(random.Next(400)), new byte[random.Next(commit < 12 ? 900 : 100)]);
                bucket.Delete(TestTree.Revision(random.Next(400)));
            }

            for (int i = 0; commit > 12 && i < 400; i++)
            {
                if (random.Next(3) != 0)
                {
                    bucket.Delete(TestTree.Revision(i));
                }
            }

            writer.ShrinkStep(40);
            if (commit % 2 == 0)
            {
                writer.Commit();
            }
            else
            {
                ModelTests.PollCommit(writer);
            }

            durable.Add((files.Steps.Count, Hash(tree)));
            byte[] now = Image(path);
            for (int i = 0; i < 2; i++)
            {
                Assert.True(MetaPage.TryRead(now.AsSpan(i * Options.PageSize), out MetaPage meta, out _));
                Assert.True(now.Length >= (long)meta.HighWater * Options.PageSize, "the file holds the states of both metas");
            }

            if (random.Next(4) == 0 && commit < 16)
            {
                pins.Add(tree.Pin());
            }

            while (pins.Count > 0 && (random.Next(3) == 0 || commit >= 18))
            {
                tree.Unpin(pins[0]);
                pins.RemoveAt(0);
            }
        }

        int cuts = 0;
        long length = 0;
        foreach (FileStep step in files.Steps)
        {
            cuts += step.Kind == StepKind.Length && step.Length < length ? 1 : 0;
            length = step.Kind == StepKind.Length ? step.Length : length;
        }

        Assert.True(cuts > 0, "the file was cut at least once");
        for (int round = 0; round < 250; round++)
        {
            int cut = random.Next(files.Steps.Count + 1);
            byte[] crashed = Crash(image, files.Steps, cut, random);
            string copy = Path.Combine(_directory, "crashed");
            File.WriteAllBytes(copy, crashed);
            using Tree reopened = TestTree.Open(copy, options);
            uint hash = Hash(reopened);
            int after = durable.FindIndex(d => d.Step >= cut);
            Assert.True(
                hash == durable[after].Hash || (after > 0 && hash == durable[after - 1].Hash),
                $"seed {seed}, round {round}: cut after {cut} of {files.Steps.Count} steps is neither state {after} nor {after - 1}");
            TreeCheckResult check = reopened.Check(reopened.CurrentRoot, againstFreelist: true);
            Assert.True(check.IsOk, string.Join('\n', check.Errors));

            // And life goes on.
            TreeWriter writer = reopened.BeginWrite();
            writer.CreateBucketIfMissing("after"u8).Put("k"u8, new byte[3000]);
            writer.Commit();
            Assert.True(reopened.Check(reopened.CurrentRoot, againstFreelist: true).IsOk);
        }

        foreach (TreePin pin in pins)
        {
            tree.Unpin(pin);
        }
    }

    [Fact]
    public void Creation_CutShort_LeavesNoHalfFile()
    {
        string path = Path.Combine(_directory, "db");
        File.WriteAllBytes(path + ".new", new byte[5000]); // what a crash may leave
        using (Tree tree = TestTree.Open(path, Options))
        {
            TreeWriter writer = tree.BeginWrite();
            writer.CreateBucket("b"u8);
            writer.Commit();
        }

        Assert.False(File.Exists(path + ".new"));
        using Tree again = TestTree.Open(path, Options);
        Assert.True(new TreeReader(again, again.CurrentRoot).TryGetBucket("b"u8, out _));
    }

    /// <summary>The file after a cut: everything synced is there, of the rest any part, torn at sectors.</summary>
    private static byte[] Crash(byte[] image, List<FileStep> steps, int cut, Random random)
    {
        int synced = 0;
        for (int i = 0; i < cut; i++)
        {
            synced = steps[i].Kind == StepKind.Sync ? i : synced;
        }

        byte[] file = (byte[])image.Clone();
        for (int i = 0; i < cut; i++)
        {
            FileStep step = steps[i];
            bool certain = i <= synced;
            switch (step.Kind)
            {
                case StepKind.Length:
                    // A length set before any write that needs it; lost only together with what came after it.
                    Array.Resize(ref file, (int)step.Length);
                    break;
                case StepKind.Hole when certain || random.Next(2) == 0:
                    int end = (int)Math.Min(file.Length, step.Offset + step.Length);
                    file.AsSpan((int)step.Offset, Math.Max(0, end - (int)step.Offset)).Clear();
                    break;
                case StepKind.Write:
                    for (int at = 0; at < step.Bytes.Length; at += SectorBytes)
                    {
                        if (certain || random.Next(3) != 0)
                        {
                            int length = Math.Min(SectorBytes, step.Bytes.Length - at);
                            step.Bytes.AsSpan(at, length).CopyTo(file.AsSpan((int)step.Offset + at));
                        }
                    }

                    break;
                default:
                    break;
            }
        }

        return file;
    }

    private static byte[] Image(string path)
    {
        using IFile file = PosixFileSystem.Instance.Open(path, FileOpenMode.Read);
        byte[] bytes = new byte[file.Length];
        file.Read(0, bytes);
        return bytes;
    }

    private static uint Hash(Tree tree)
    {
        uint crc = 0;
        TreeReader reader = new(tree, tree.CurrentRoot);
        if (!reader.TryGetBucket("b"u8, out BucketReader bucket))
        {
            return 0;
        }

        TreeCursor cursor = bucket.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            crc = Crc32C.Append(Crc32C.Append(crc, cursor.Key), cursor.Value);
        }

        return crc;
    }
}
