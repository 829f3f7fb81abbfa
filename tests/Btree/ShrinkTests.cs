// Online shrinking: the mark comes down to what is in use, the file is cut only when both metas and all pins allow it,
// and until then the blocks of its end are given back.
using System;
using System.Diagnostics;
using Cairn.Base;
using CsCheck;
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

    [Fact]
    public void Shrink_GapsSmallerThanTheLargeValues_EndsWithoutThem()
    {
        // 100 KB values (25 pages each) between gaps of 15 pages: no large run fits any gap as it is.
        using TestTree test = new();
        for (int i = 0; i < 300; i += 10)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
            for (int j = i; j < i + 10; j++)
            {
                bucket.Put(TestTree.Revision(j), new byte[j % 2 == 0 ? 100_000 : 60_000]);
            }

            writer.Commit();
        }

        TreeWriter deleting = test.Tree.BeginWrite();
        Assert.True(deleting.TryGetBucket("key"u8, out TreeBucket? emptied));
        for (int i = 1; i < 300; i += 2)
        {
            Assert.True(emptied.Delete(TestTree.Revision(i)));
        }

        deleting.Commit();
        (uint Hash, long Keys) expected = HashOf(test);
        long before = test.Tree.HighWaterBytes;
        ulong firstCommit = test.Tree.CurrentTxId;
        Shrink(test.Tree, 256);
        Assert.Equal(expected, HashOf(test));
        Assert.True(test.Tree.HighWaterBytes < before * 7 / 10, $"{before} to {test.Tree.HighWaterBytes}");
        Assert.True(test.Tree.HighWaterBytes <= test.Tree.InUseBytes + (64 * 4096), $"mark {test.Tree.HighWaterBytes}, in use {test.Tree.InUseBytes}");
        Assert.InRange(test.Tree.CurrentTxId - firstCommit, 1ul, 200ul);
        test.ExpectSound();
    }

    [Fact]
    public void Shrink_AnyMixOfSizesAndGaps_EndsSmallAndKeepsEverything()
    {
        Gen.Select(Gen.Int[1, 4], Gen.Int[20, 99], Gen.Int[1, 400], Gen.Int[0, 1 << 20]).Sample(
            (kinds, deletePercent, maxPages, seed) =>
            {
                using TestTree test = new();
                Random random = new(seed);
                int[] sizes = [100, 3_000, 20_000, 300_000];
                int keys = 0;
                for (int commit = 0; commit < 12; commit++)
                {
                    TreeWriter writer = test.Tree.BeginWrite();
                    TreeBucket bucket = writer.CreateBucketIfMissing("key"u8);
                    for (int i = 0; i < 20; i++)
                    {
                        bucket.Put(TestTree.Revision(keys++), new byte[random.Next(1, sizes[random.Next(kinds)])]);
                    }

                    writer.Commit();
                }

                TreeWriter deleting = test.Tree.BeginWrite();
                Assert.True(deleting.TryGetBucket("key"u8, out TreeBucket? emptied));
                for (int i = 0; i < keys; i++)
                {
                    _ = random.Next(100) < deletePercent && emptied.Delete(TestTree.Revision(i));
                }

                deleting.Commit();
                (uint Hash, long Keys) expected = HashOf(test);
                Shrink(test.Tree, maxPages);
                Assert.Equal(expected, HashOf(test));
                long largest = 300_000 / 4096;
                Assert.True(
                    test.Tree.HighWaterBytes <= (test.Tree.InUseBytes * 9 / 8) + ((16 + largest) * 4096),
                    $"mark {test.Tree.HighWaterBytes}, in use {test.Tree.InUseBytes}");
                test.ExpectSound();
            },
            iter: 40,
            threads: 1);
    }

    [Fact]
    public void Relocate_EveryPageFromTheEndDown_LeavesTheDataAndTheFileShort()
    {
        using TestTree test = new();
        FillAndEmpty(test.Tree);
        test.Tree.BeginWrite().Commit();
        (uint Hash, long Keys) expected = HashOf(test);
        long before = test.Tree.HighWaterBytes;
        int moved = 0;
        for (ulong page = (ulong)(before / 4096) - 1; page >= 2; page--)
        {
            TreeWriter writer = test.Tree.BeginWrite();
            bool moves = writer.Relocate(page);
            moved += moves ? 1 : 0;
            if (moves)
            {
                writer.Commit();
            }
            else
            {
                writer.Rollback();
            }

            if (page * 4096 < (ulong)test.Tree.InUseBytes)
            {
                break;
            }
        }

        test.Tree.BeginWrite().Commit();
        test.Tree.BeginWrite().Commit();
        Assert.InRange(moved, 10, 4000);
        Assert.Equal(expected, HashOf(test));
        Assert.True(test.Tree.HighWaterBytes < before / 3, $"{before} to {test.Tree.HighWaterBytes}");
        test.ExpectSound();
    }

    [Fact]
    public void Relocate_OfWhatCannotMove_ChangesNothing()
    {
        using TestTree test = new();
        Fill(test.Tree, 0, 500, 500);
        Empty(test.Tree, 20); // leaves a few free pages low in the file
        test.Tree.BeginWrite().Commit();
        long free = test.Tree.HighWaterBytes - test.Tree.InUseBytes;
        TreeWriter writer = test.Tree.BeginWrite();
        Assert.False(writer.Relocate(0)); // a meta page
        Assert.False(writer.Relocate(2)); // nothing lower is free
        Assert.False(writer.Relocate((ulong)(test.Tree.HighWaterBytes / 4096))); // beyond the mark
        Assert.False(writer.IsWorthCommitting);
        writer.Rollback();

        writer = test.Tree.BeginWrite();
        Assert.True(writer.Relocate(test.Tree.CurrentRoot.HighWater - 1) || writer.Relocate(test.Tree.CurrentRoot.HighWater - 2));
        writer.Rollback(); // gives the place back
        Assert.Equal(free, test.Tree.HighWaterBytes - test.Tree.InUseBytes);
        test.ExpectSound();
    }

    private static (uint Hash, long Keys) HashOf(TestTree test) => Oracle.HashOf(new TreeReader(test.Tree, test.Tree.CurrentRoot));

    private static int Shrink(Tree tree, int maxPages)
    {
        int steps = 1;
        while (Step(tree, maxPages))
        {
            Assert.True(++steps < 5000, "shrinking ends");
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
