// How a commit meets the file: the order of writes, the pace, held-back operations, and every failure.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Cairn.Base;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class CommitTests : IDisposable
{
    private static readonly TreeOptions Options = new() { ReserveBytes = 256 << 20, PageSize = 4096 };
    private readonly string _directory = Directory.CreateTempSubdirectory("cairn-btree-").FullName;
    private readonly JournalFileSystem _files = new();

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Commit_WritesPagesAscending_ThenSyncs_ThenTheMeta_ThenSyncs(bool polled)
    {
        using Tree tree = Open();
        Fill(tree, 3000, polled);
        _files.Steps.Clear();
        Fill(tree, 3000, polled);

        List<FileStep> steps = _files.Steps;
        Assert.Equal(StepKind.Sync, steps[^1].Kind);
        Assert.Equal(StepKind.Sync, steps[^3].Kind);
        FileStep meta = steps[^2];
        Assert.Equal((StepKind.Write, (long)(tree.CurrentRoot.TxId & 1) * 4096, 4096), (meta.Kind, meta.Offset, meta.Bytes.Length));
        long end = 2 * 4096;
        long length = 0;
        foreach (FileStep step in steps.Take(steps.Count - 3))
        {
            if (step.Kind == StepKind.Length)
            {
                Assert.Equal(2 * 4096, end); // before the first page
                length = step.Length;
                continue;
            }

            Assert.Equal(StepKind.Write, step.Kind);
            Assert.True(step.Offset >= end, "ascending, and never a meta");
            end = step.Offset + step.Bytes.Length;
        }

        Assert.True(end <= length);
    }

    [Fact]
    public void Commit_Polled_PausesTwentyMillisecondsAMebibyte()
    {
        using Tree tree = Open();
        TreeWriter writer = tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucket("b"u8);
        for (int i = 0; i < 5 * 256; i++)
        {
            bucket.Put(TestTree.Revision(i), new byte[3500]); // one a page: 5 MiB
        }

        TreeCommit commit = writer.BeginCommit(null);
        long now = 0;
        long written = 0;
        while (!commit.IsCompleted)
        {
            int before = _files.Steps.Count;
            if (!commit.Poll(now))
            {
                now = commit.NextDeadlineNs;
                continue;
            }

            written += _files.Steps.Skip(before).Where(s => s.Kind == StepKind.Write).Sum(s => (long)s.Bytes.Length);
            Assert.True(written <= ((now / 20_000_000) + 2) << 20, $"{written} bytes after {now} ns");
        }

        Assert.InRange(now, 80_000_000, 140_000_000);
        Assert.Equal(written >> 20, _files.Last!.Writebacks.Sum() >> 20);
    }

    [Fact]
    public void Commit_Urgent_DoesNotPause()
    {
        using Tree tree = Open();
        TreeWriter writer = tree.BeginWrite();
        writer.CreateBucket("b"u8).Put("k"u8, new byte[5 << 20]);
        TreeCommit commit = writer.BeginCommit(null);
        commit.Urgent = true;
        int polls = 0;
        while (!commit.IsCompleted)
        {
            Assert.True(commit.Poll(0));
            Assert.True(++polls < 100);
        }
    }

    [Fact]
    public void Commit_WithOperationsHeldBack_WaitsAndPublishesLast()
    {
        using Tree tree = Open();
        _files.HoldsSubmitted = true;
        TreeRoot before = tree.CurrentRoot;
        TreeWriter writer = tree.BeginWrite();
        writer.CreateBucket("b"u8).Put("k"u8, "v"u8);
        TreeCommit commit = writer.BeginCommit(null);
        int operations = 0;
        while (!commit.IsCompleted)
        {
            Assert.Equal(before, tree.CurrentRoot);
            if (!commit.Poll(1))
            {
                Assert.Equal(1, _files.Last!.Held);
                Assert.False(commit.Poll(long.MaxValue - 1));
                _files.Last.CompleteHeld();
                operations++;
            }
        }

        Assert.Equal(4, operations); // pages, sync, meta, sync
        Assert.Equal(commit.Root, tree.CurrentRoot);
        Assert.Equal(before.TxId + 1, tree.CurrentRoot.TxId);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Commit_AnyCallFails_StopsTheMember(bool polled)
    {
        int stops = 0;
        for (int failAt = 1; failAt < 50; failAt++)
        {
            string path = Path.Combine(_directory, $"fail-{failAt}");
            using Tree tree = Tree.Open(_files, path, Options, new ThrowingFatal());
            _files.FailAfter = failAt;
            try
            {
                Fill(tree, 300, polled);
                _files.FailAfter = 0;
                break;
            }
            catch (FatalException e)
            {
                Assert.Contains(path, e.Message, StringComparison.Ordinal);
                Assert.Equal(1UL, tree.CurrentRoot.TxId);
                stops++;
            }
        }

        Assert.Equal(6, stops); // grow, pages in two runs (2 is free in a new file, 3 is the old root), sync, meta, sync
    }

    [Fact]
    public void Reservation_UsedUp_StopsTheMemberWithTheSize()
    {
        using Tree tree = Tree.Open(_files, Path.Combine(_directory, "small"), new TreeOptions { ReserveBytes = 1 << 20, PageSize = 4096 }, new ThrowingFatal());
        TreeWriter writer = tree.BeginWrite();
        writer.CreateBucket("b"u8).Put("k"u8, new byte[2 << 20]);
        FatalException e = Assert.Throws<FatalException>(writer.Commit);
        Assert.Contains("1048576 bytes of address space", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BorrowedValues_AreWrittenFromWhereTheyLie()
    {
        using Tree tree = Open();
        byte[] value = GC.AllocateArray<byte>(100_000, pinned: true);
        new Random(1).NextBytes(value);
        unsafe
        {
            fixed (byte* pointer = value)
            {
                TreeWriter writer = tree.BeginWrite();
                writer.CreateBucket("b"u8).PutBorrowed("k"u8, pointer, value.Length);
                Assert.InRange(writer.DirtyBytes, value.Length, value.Length + 200);
                writer.Commit();
            }
        }

        Assert.True(new TreeReader(tree, tree.CurrentRoot).TryGetBucket("b"u8, out BucketReader bucket));
        Assert.True(bucket.TryGet("k"u8, out ReadOnlySpan<byte> read));
        Assert.True(read.SequenceEqual(value));
    }

    [Fact]
    public void Open_Twice_IsRefusedUntilTheFirstIsClosed()
    {
        string path = Path.Combine(_directory, "db");
        using (Tree first = TestTree.Open(path, Options))
        {
            TreeLockedException e = Assert.Throws<TreeLockedException>(() => TestTree.Open(path, Options));
            Assert.Equal(path, e.Path);
        }

        TestTree.Open(path, Options).Dispose();
    }

    [Fact]
    public void Handles_AfterTheirTransaction_AreRefused()
    {
        using Tree tree = Open();
        TreeWriter writer = tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucket("b"u8);
        Assert.Throws<ArgumentException>(() => bucket.Put([], [1]));
        Assert.Throws<ArgumentException>(() => bucket.Put(new byte[32769], [1]));
        bucket.Put(new byte[32768], [1]);
        TreeBucket gone = bucket.CreateBucket("n"u8);
        bucket.DeleteBucket("n"u8);
        Assert.Throws<InvariantException>(() => gone.Put([1], [1]));
        Assert.Throws<InvalidOperationException>(() => writer.CreateBucket("b"u8));
        Assert.Throws<InvariantException>(() => tree.BeginWrite());
        writer.Commit();
        Assert.Throws<InvariantException>(() => bucket.Put([1], [1]));
        Assert.Throws<InvariantException>(writer.Rollback);
        TreePin pin = tree.Pin();
        tree.Unpin(pin);
        Assert.Throws<InvariantException>(() => tree.Unpin(pin));
    }

    private static void Fill(Tree tree, int count, bool polled)
    {
        TreeWriter writer = tree.BeginWrite();
        TreeBucket bucket = writer.CreateBucketIfMissing("b"u8);
        for (int i = 0; i < count; i++)
        {
            bucket.Put(TestTree.Revision(i), new byte[200]);
        }

        if (polled)
        {
            ModelTests.PollCommit(writer);
        }
        else
        {
            writer.Commit();
        }
    }

    private Tree Open() => Tree.Open(_files, Path.Combine(_directory, "db"), Options, new ThrowingFatal());
}
