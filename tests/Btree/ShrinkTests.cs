// Online shrinking: the mark comes down to what is in use, the file is cut only when both metas and all pins allow it,
// and until then the blocks of its end are given back.
using System;
using System.Diagnostics;
using Cairn.Base;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class ShrinkTests
{
    [Fact]
    public void Shrink_AfterMassDelete_BringsTheFileDown()
    {
        using TestTree test = new();
        FillAndEmpty(test.Tree);
        long before = test.Tree.FileBytes;
        int steps = Shrink(test.Tree, 100);
        Assert.InRange(steps, 2, 400);
        Assert.True(test.Tree.FileBytes < before / 3, $"{before} to {test.Tree.FileBytes}");
        Assert.True(test.Tree.HighWaterBytes <= test.Tree.InUseBytes * 5 / 4);
        Assert.Equal(Length(test), test.Tree.FileBytes);
        test.ExpectSound();
        test.Reopen();
        test.ExpectSound();
    }

    [Fact]
    public void Shrink_WithAnOldPin_KeepsTheFileAndTheState_ThenCutsIt()
    {
        using TestTree test = new();
        Fill(test.Tree, 0, 4000, 500);
        TreePin pin = test.Tree.Pin();
        (uint Hash, long Keys) expected = Oracle.HashOf(new TreeReader(test.Tree, pin.Root));
        long before = test.Tree.FileBytes;
        Empty(test.Tree, 4000);
        for (int i = 0; i < 50; i++)
        {
            Step(test.Tree, 100);
        }

        // A pin held for long does not make it run for ever.
        Assert.True(test.Tree.IsShrinkWaiting);
        Shrink(test.Tree, 100);
        Assert.False(test.Tree.IsShrinkWaiting);
        Assert.True(test.Tree.FileBytes >= (long)pin.Root.HighWater * 4096);
        Assert.Equal(expected, Oracle.HashOf(new TreeReader(test.Tree, pin.Root)));
        test.ExpectSound();

        test.Tree.Unpin(pin);
        Shrink(test.Tree, 100);
        Assert.True(test.Tree.FileBytes < before / 3, $"{before} to {test.Tree.FileBytes}");
        test.ExpectSound();
    }

    [Fact]
    public void PinOfAnOldRoot_HoldsOnlyWhatItSees()
    {
        // A download may pin a state for minutes; commits meanwhile must reuse each other's pages.
        using TestTree test = new();
        Fill(test.Tree, 0, 1000, 200);
        TreePin pin = test.Tree.Pin();
        for (int i = 0; i < 20; i++)
        {
            Fill(test.Tree, 0, 100, 200 + i);
        }

        long settled = test.Tree.HighWaterBytes;
        for (int i = 0; i < 300; i++)
        {
            Fill(test.Tree, 0, 100, 200 + (i % 20));
        }

        Assert.True(test.Tree.HighWaterBytes <= settled + (16 * 4096), $"{settled} to {test.Tree.HighWaterBytes}");
        test.Tree.Unpin(pin);
        test.ExpectSound();
    }

    [Fact]
    public void Trim_BeforeTheFileMayBeCut_PunchesItsEnd()
    {
        string directory = System.IO.Directory.CreateTempSubdirectory("cairn-btree-").FullName;
        JournalFileSystem files = new();
        using (Tree tree = Tree.Open(files, directory + "/db", TestTree.Fast, new ThrowingFatal()))
        {
            // Pin the state just before the mark falls: it lies low already, but its own mark is still high.
            FillAndEmpty(tree);
            TreePin pin = tree.Pin();
            files.Steps.Clear();
            while (Step(tree, 1000) && tree.CurrentRoot.HighWater == pin.Root.HighWater)
            {
                tree.Unpin(pin);
                pin = tree.Pin();
                files.Steps.Clear();
            }

            ulong held = pin.Root.HighWater;
            tree.BeginWrite().Commit();
            tree.BeginWrite().Commit();
            Assert.True(tree.CurrentRoot.HighWater < held - 200);
            Assert.Contains(files.Steps, s => s.Kind == StepKind.Hole && s.Offset >= (long)tree.CurrentRoot.HighWater * 4096);
            Assert.DoesNotContain(files.Steps, s => s.Kind == StepKind.Length);
            Assert.True(tree.FileBytes >= (long)held * 4096);
            tree.Unpin(pin);
            tree.BeginWrite().Commit();
            Assert.True(tree.FileBytes < (long)held * 4096);
        }

        System.IO.Directory.Delete(directory, recursive: true);
    }

    [Fact]
    public void Shrink_OfACompactTree_HasNothingToDo()
    {
        using TestTree test = new();
        Fill(test.Tree, 0, 1000, 500);
        Assert.InRange(Shrink(test.Tree, 100), 1, 3);
        test.ExpectSound();
    }

    [Fact]
    public void Shrink_NestedBuckets_MovesTheirPagesToo()
    {
        using TestTree test = new();
        TreeWriter writer = test.Tree.BeginWrite();
        TreeBucket low = writer.CreateBucket("low"u8);
        for (int i = 0; i < 3000; i++)
        {
            low.Put(TestTree.Revision(i), new byte[400]);
        }

        writer.Commit();
        writer = test.Tree.BeginWrite();
        TreeBucket nested = writer.CreateBucket("outer"u8).CreateBucket("middle"u8).CreateBucket("inner"u8);
        for (int i = 0; i < 300; i++)
        {
            nested.Put(TestTree.Revision(i), new byte[400]);
        }

        writer.Commit();
        writer = test.Tree.BeginWrite();
        writer.DeleteBucket("low"u8);
        writer.Commit();
        Shrink(test.Tree, 50);
        Assert.True(test.Tree.HighWaterBytes <= test.Tree.InUseBytes + (20 * 4096), $"mark {test.Tree.HighWaterBytes}, in use {test.Tree.InUseBytes}");
        test.ExpectSound();
    }

    [Fact]
    public void DeletedBucket_OfAnyShape_GivesAllItsPagesBack()
    {
        using TestTree test = new();
        test.Tree.BeginWrite().Commit();
        test.Tree.BeginWrite().Commit();
        long empty = test.Tree.InUseBytes;
        TreeWriter writer = test.Tree.BeginWrite();
        TreeBucket outer = writer.CreateBucket("outer"u8);
        for (int i = 0; i < 3000; i++)
        {
            outer.Put(TestTree.Revision(i), new byte[i % 100 == 0 ? 9000 : 100]);
        }

        TreeBucket inner = outer.CreateBucket("inner"u8);
        for (int i = 0; i < 500; i++)
        {
            inner.Put(TestTree.Revision(i), new byte[100]);
        }

        writer.Commit();
        writer = test.Tree.BeginWrite();
        Assert.True(writer.TryGetBucket("outer"u8, out TreeBucket? again));
        again.Put(TestTree.Revision(1500), new byte[50]); // part of it changed, part clean
        Assert.True(again.TryGetBucket("inner"u8, out TreeBucket? innerAgain));
        innerAgain.Put("x"u8, "y"u8);
        Assert.True(writer.DeleteBucket("outer"u8));
        writer.Commit();
        test.Tree.BeginWrite().Commit();
        test.Tree.BeginWrite().Commit();
        Assert.Equal(empty, test.Tree.InUseBytes);
        test.ExpectSound();
    }

    [Fact]
    public void RandomPutsOfManyKeys_InOneCommit_StayCheap()
    {
        // Nodes split in memory: without it, 200,000 random keys in one leaf would move terabytes.
        using TestTree test = new();
        long begin = Stopwatch.GetTimestamp();
        TreeWriter writer = test.Tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucket("b"u8);
        for (int i = 0; i < 200_000; i++)
        {
            bucket.Put(TestTree.Revision((long)(((uint)i * 2654435761u) % 1_000_003)), "value"u8);
        }

        writer.Commit();
        Assert.True(Stopwatch.GetElapsedTime(begin).TotalSeconds < 20);
        test.ExpectSound();
    }

    private static int Shrink(Tree tree, int maxPages)
    {
        int steps = 1;
        while (Step(tree, maxPages))
        {
            Assert.True(++steps < 1000, "shrinking ends");
        }

        return steps;
    }

    private static bool Step(Tree tree, int maxPages)
    {
        TreeWriter writer = tree.BeginWrite();
        bool more = writer.ShrinkStep(maxPages);
        writer.Commit();
        return more;
    }

    private static void FillAndEmpty(Tree tree)
    {
        Fill(tree, 0, 4000, 500);
        Empty(tree, 4000);
        tree.BeginWrite().Commit();
    }

    private static void Fill(Tree tree, int from, int count, int valueBytes)
    {
        for (int done = 0; done < count; done += 500)
        {
            TreeWriter writer = tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
            bucket.FillPercent = 0.9;
            for (int i = done; i < Math.Min(count, done + 500); i++)
            {
                bucket.Put(TestTree.Revision(from + i), new byte[valueBytes]);
            }

            writer.Commit();
        }
    }

    private static void Empty(Tree tree, int count)
    {
        TreeWriter writer = tree.BeginWrite();
        Assert.True(writer.TryGetBucket("key"u8, out TreeBucket? bucket));
        for (int i = 0; i < count; i++)
        {
            if (i < count * 9 / 10)
            {
                Assert.True(bucket.Delete(TestTree.Revision(i)));
            }
        }

        writer.Commit();
    }

    private static long Length(TestTree test)
    {
        using IFile file = PosixFileSystem.Instance.Open(test.FilePath, FileOpenMode.Read);
        return file.Length;
    }
}
