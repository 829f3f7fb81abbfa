// StoreTests: what the model's streams do not reach: budgets, revokes, streams, pins, restarts in the middle of a
// compaction, and that a steady stream of requests allocates nothing.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Mvcc;

public sealed class StoreTests
{
    [Fact]
    public void Open_NewFile_HasTheTenBucketsAndRevisionOne()
    {
        using var harness = new StoreHarness();
        Assert.Equal(1, harness.Store.Revision);
        Assert.Equal(-1, harness.Store.CompactRevision);
        Assert.Equal(0ul, harness.Store.DurableIndex);
        TreePin pin = harness.Tree.Pin();
        foreach (string name in (string[])["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"])
        {
            Assert.True(new TreeReader(harness.Tree, pin.Root).TryGetBucket(Encoding.ASCII.GetBytes(name), out _), name);
        }

        harness.Tree.Unpin(pin);
    }

    [Fact]
    public void Buckets_PutDeleteClear_AreInTheFileAfterAFreezeWithTheRaftPosition()
    {
        using var harness = new StoreHarness();
        MvccStore store = harness.Store;
        store.Put(BucketId.AuthUsers, "old"u8, "1"u8);
        store.Put(BucketId.Cluster, "clusterVersion"u8, "3.5.0"u8);
        harness.Freeze();
        store.Clear(BucketId.AuthUsers);
        store.Put(BucketId.AuthUsers, "root"u8, "2"u8);
        store.Put(BucketId.AuthUsers, "eve"u8, "3"u8);
        store.Delete(BucketId.AuthUsers, "eve"u8);
        store.Delete(BucketId.AuthRoles, "never there"u8);
        harness.Put(Put("k", "v"));
        harness.Freeze("{\"voters\":[1],\"auto_leave\":false}"u8);
        harness.Crash();
        Assert.Equal(["root=2"], Dump(harness, BucketId.AuthUsers));
        Assert.Equal(["clusterVersion=3.5.0"], Dump(harness, BucketId.Cluster));
        Assert.Contains("confState={\"voters\":[1],\"auto_leave\":false}", Dump(harness, BucketId.Meta));
        Assert.Equal(2, harness.Store.Revision);
    }

    [Fact]
    public void Freeze_WhileOneIsCommitting_IsRefusedAndLosesNothing()
    {
        using var harness = new StoreHarness();
        harness.Put(Put("a", "1"));
        Assert.True(harness.Store.TryFreeze(new FreezePoint(5, 2, default)));
        Assert.True(harness.Store.IsFrozen);
        harness.Put(Put("b", "2"));
        Assert.False(harness.Store.TryFreeze(new FreezePoint(6, 2, default)));
        Assert.Equal("range rev 3 full [61 c2 m2 v1 l0 31] [62 c3 m3 v1 l0 32] count 2", Everything(harness));
        harness.Pump(() => !harness.Store.IsFrozen);
        Assert.Equal(5ul, harness.Store.DurableIndex);
        Assert.Equal("range rev 3 full [61 c2 m2 v1 l0 31] [62 c3 m3 v1 l0 32] count 2", Everything(harness));
        Assert.True(harness.Store.TryFreeze(new FreezePoint(6, 2, default)));
        harness.Pump(() => !harness.Store.IsFrozen);
        Assert.Equal(6ul, harness.Store.DurableIndex);
        Assert.True(harness.Store.TryFreeze(new FreezePoint(6, 2, default)));
        Assert.False(harness.Store.IsFrozen); // nothing new: nothing to do
    }

    [Fact]
    public void MustPause_BothBuffersFull_UntilTheCommitEnds()
    {
        using var harness = new StoreHarness();
        byte[] big = Put("big", new string('x', 1 << 20));
        for (int i = 0; i < 64; i++)
        {
            Assert.False(harness.Store.MustPause);
            harness.Put(big);
        }

        Assert.False(harness.Store.MustPause); // full, but it can be frozen
        Assert.True(harness.Store.TryFreeze(new FreezePoint(5, 2, default)));
        for (int i = 0; i < 64; i++)
        {
            Assert.False(harness.Store.MustPause);
            harness.Put(big);
        }

        Assert.True(harness.Store.MustPause);
        harness.Pump(() => !harness.Store.IsFrozen);
        Assert.False(harness.Store.MustPause);
    }

    [Fact]
    public void Revoke_KeysOfALease_DeletedInOneRevision()
    {
        using var harness = new StoreHarness();
        Grant(harness, 7);
        for (int i = 0; i < 20; i++)
        {
            harness.Put(new PutOp(Encoding.ASCII.GetBytes($"k{i:d2}"), [1]) { Lease = 7 }.Encode());
        }

        harness.Freeze();
        harness.Put(new PutOp("k05"u8.ToArray(), [2]).Encode()); // leaves the lease
        using var keys = new LeaseKeySet();
        Assert.Equal(ErrorCode.None, harness.Leases.ApplyRevoke([8, 7], harness.Store, keys));
        Assert.Equal(19, keys.Count);
        harness.Store.BeginRevoke();
        for (int i = 0; i < keys.Count; i++)
        {
            harness.Store.RevokeKey(keys[i]);
        }

        harness.Store.RevokeKey("absent"u8);
        harness.Store.EndRevoke();
        harness.Store.PublishView();
        Assert.Equal(23, harness.Store.Revision);
        Assert.Equal("range rev 23 full [6B3035 c7 m22 v2 l0 02] count 1", Everything(harness));
        harness.Store.BeginRevoke();
        harness.Store.EndRevoke();
        Assert.Equal(23, harness.Store.Revision); // nothing deleted, no revision
        harness.Reopen();
        Assert.Equal("range rev 23 full [6B3035 c7 m22 v2 l0 02] count 1", Everything(harness));
    }

    [Fact]
    public void Compaction_InterruptedByACrash_GoesOnAfterOpen()
    {
        using var harness = new StoreHarness(compactionBatchLimit: 10);
        for (int i = 0; i < 500; i++)
        {
            harness.Put(Put($"k{i % 7}", $"{i}"));
        }

        Assert.Equal(ErrorCode.None, harness.Compact([8, 144, 3]).Error); // 400
        harness.Freeze();
        for (int i = 0; i < 12; i++)
        {
            _ = harness.Step();
        }

        Assert.Equal(-1, harness.Store.FinishedCompactRevision);
        int left = Dump(harness, BucketId.Key).Count;
        Assert.InRange(left, 120, 499); // some deleted, not all
        harness.Crash();
        Assert.Equal(400, harness.Store.CompactRevision);
        string before = Everything(harness);
        long finished = 0;
        harness.Store.CompactionFinished = revision => finished = revision;
        harness.Settle();
        Assert.Equal(400, finished);
        Assert.Equal(108, Dump(harness, BucketId.Key).Count); // 101 above, and the newest at or below of each key
        Assert.Equal(before, Everything(harness));
        harness.Reopen();
        Assert.Equal(400, harness.Store.FinishedCompactRevision);
        Assert.Equal(before, Everything(harness));
    }

    [Fact]
    public void Compaction_WithAnOlderPin_WaitsForIt()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 50; i++)
        {
            harness.Put(Put("k", $"{i}"));
        }

        harness.Freeze();
        ViewPin pin = harness.Store.Pin();
        Assert.Equal(ErrorCode.None, harness.Compact([8, 40]).Error);
        harness.Freeze();
        for (int i = 0; i < 100; i++)
        {
            _ = harness.Step();
        }

        Assert.Equal(-1, harness.Store.FinishedCompactRevision);
        var output = new NativeBuffer(harness.Pool);
        for (long revision = 2; revision <= 51; revision++)
        {
            output.Reset();
            Assert.Equal(
                ErrorCode.None,
                harness.Store.Range(new RangeOp("k"u8.ToArray(), []) { Revision = revision }.Encode(), pin, harness.Header, ref output));
            Assert.Contains($" m{revision} v{revision - 1} ", Answers.Range(output.WrittenSpan));
        }

        output.Free();
        harness.Store.Unpin(pin);
        harness.Settle();
        Assert.Equal(40, harness.Store.FinishedCompactRevision);
        Assert.Equal(ErrorCode.Compacted, harness.Range(new RangeOp("k"u8.ToArray(), []) { Revision = 39 }.Encode()).Error);
        Assert.Equal(ErrorCode.None, harness.Range(new RangeOp("k"u8.ToArray(), []) { Revision = 40 }.Encode()).Error);
    }

    [Fact]
    public void Defragment_AfterMassDeletion_ShrinksTheFileAndCallsBack()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 3000; i++)
        {
            harness.Put(Put($"k{i}", new string('v', 1000)));
            if (i % 500 == 0)
            {
                harness.Freeze();
            }
        }

        harness.DeleteRange(new DeleteOp([0], [0], false).Encode());
        harness.Put(Put("last", "1"));
        Assert.Equal(ErrorCode.None, harness.Compact([8, 186, 23]).Error); // 3002
        harness.Settle();
        long before = harness.Tree.HighWaterBytes;
        bool done = false;
        Assert.True(harness.Store.TreeActor.Defragment(_ => done = true, null));
        harness.Pump(() => done);
        harness.Pump(() => !harness.Step());
        Assert.InRange(harness.Tree.HighWaterBytes, 1, before / 10);
        Assert.True(harness.Tree.Check(harness.Tree.CurrentRoot).IsOk);
        Assert.Contains("6C617374", Everything(harness));
    }

    [Theory]
    [InlineData(1, 10, 13)] // a slice as soon as it is due: as many deletes as the limit
    [InlineData(5, 2, 4)] // five were due meanwhile
    public void Compaction_Slices_DeleteTheLimitForEachPauseThatPassed(int pausesBetween, int commitsMin, int commitsMax)
    {
        const int PauseSteps = 1000;
        using var harness = new StoreHarness(compactionBatchLimit: 10, compactionPauseSteps: PauseSteps);
        for (int i = 0; i < 101; i++)
        {
            harness.Put(Put("k", $"{i}"));
        }

        harness.Compact([8, 102]);
        harness.Freeze();
        long before = harness.Store.TreeActor.Commits;
        while (harness.Store.FinishedCompactRevision < 102)
        {
            harness.Pass(pausesBetween * PauseSteps);
            harness.Pump(() => !harness.Step());
            Assert.InRange(harness.Store.TreeActor.Commits - before, 0, commitsMax);
        }

        Assert.InRange(harness.Store.TreeActor.Commits - before, commitsMin, commitsMax);
    }

    [Fact]
    public void Compactions_AcceptedBeforeEveryCommit_AreCarriedOutAllTheSame()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 300; i++)
        {
            harness.Put(Put("k", $"{i}"));
            var request = new byte[12];
            var writer = new ProtoWriter(request);
            writer.WriteVarintField(1, (ulong)harness.Store.Revision);
            Assert.Equal(ErrorCode.None, harness.Compact(writer.Written.ToArray()).Error);
            _ = harness.Store.TryFreeze(new FreezePoint(1000 + (ulong)i, 3, default));
            _ = harness.Step();
        }

        Assert.InRange(harness.Store.FinishedCompactRevision, 200, 301);
    }

    [Fact]
    public void Defragment_AskedForWhileACompactionDeletes_EndsAfterItAtTheSmallestFile()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 6000; i++)
        {
            harness.Put(Put($"k{i}", new string('v', 1000)));
            if (i % 500 == 0)
            {
                harness.Freeze();
            }
        }

        harness.DeleteRange(new DeleteOp([0], [0], false).Encode());
        harness.Put(Put("last", "1"));
        harness.Settle();
        Assert.Equal(ErrorCode.None, harness.Compact([8, 243, 46]).Error); // 6003
        bool done = false;
        Assert.True(harness.Store.TreeActor.Defragment(_ => done = true, null));
        harness.Freeze();
        harness.Pump(() => done);
        long first = harness.Tree.HighWaterBytes;
        Assert.Equal(6003, harness.Store.FinishedCompactRevision);

        // A second call has nothing left to do.
        harness.Settle();
        done = false;
        Assert.True(harness.Store.TreeActor.Defragment(_ => done = true, null));
        harness.Pump(() => done);
        Assert.InRange(harness.Tree.HighWaterBytes, first - (16 * 4096), first + (16 * 4096));
        Assert.InRange(first, 1, 64 * 4096);
        Assert.True(harness.Tree.Check(harness.Tree.CurrentRoot).IsOk);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void MajorFaults_Rising_MakeEveryBlockColdAtTheNextAge(bool rising)
    {
        using var harness = new StoreHarness(files: new ColdFiles { IsCold = true });
        long faults = 5;
        harness.Store.TreeActor.MajorFaults = () => faults;
        harness.Put(Put("k", new string('v', 3000))); // too large to lie in the bucket's own entry
        harness.Freeze();
        harness.Pump(() => !harness.Step());
        TreePin pin = harness.Tree.Pin();
        byte[] key = new byte[17];
        Assert.Equal(key.Length, RevisionKey.Write(key, 2, 0, tombstone: false));
        Assert.True(new TreeReader(harness.Tree, pin.Root).TryGetBucket("key"u8, out BucketReader bucket));
        harness.Tree.ForgetResidency();
        Assert.True(bucket.TryGet(key, out _));
        Assert.True(bucket.TryGetNow(key, out _, out bool cold) && !cold);
        faults += rising ? 1 : 0;
        _ = harness.Step();
        Assert.Equal(!rising, bucket.TryGetNow(key, out _, out cold));
        Assert.Equal(rising, cold);
        harness.Tree.Unpin(pin);
    }

    [Fact]
    public void Compaction_OfAnIdleStore_GivesItsMemoryBack()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 2000; i++)
        {
            harness.Put(Put($"k{i}", "v"));
        }

        harness.DeleteRange(new DeleteOp([0], [0], false).Encode());
        harness.Put(Put("last", "1"));
        Assert.Equal(ErrorCode.None, harness.Compact([8, 211, 15]).Error); // 2003
        harness.Settle();
        harness.Pump(() => !harness.Store.HasDeferredWork); // no request comes any more
        Assert.Equal(1, harness.Store.IndexedKeys);
        Assert.Equal(0, harness.Store.Index.Reclaimer.Count);
    }

    [Fact]
    public void RangeStream_InPieces_GivesTheRangeAtTheFirstPiecesRevision()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 100; i++)
        {
            harness.Put(Put($"k{i:d3}", $"{i}"));
        }

        foreach (long limit in new long[] { 0, 1, 37, 100, 101 })
        {
            var op = new RangeOp([(byte)'k'], [(byte)'l']) { Limit = limit };
            string expected = Answers.Range(harness.Range(op.Encode()).Body);
            (int start, int end) = (expected.IndexOf("rev ", StringComparison.Ordinal), expected.IndexOf('['));
            var pairs = new StringBuilder();
            string last = "";
            var stream = default(RangeStream);
            var output = new NativeBuffer(harness.Pool);
            int pieces = 0;
            while (!stream.IsFinished)
            {
                Assert.True(RangeRequest.TryParse(op.Encode(), out RangeRequest request));
                ViewPin pin = harness.Store.Pin();
                output.Reset();
                Assert.True(harness.Store.TryRangeChunk(request, ref stream, pin, harness.Header, 7, 100, true, ref output, out ErrorCode chunk));
                Assert.Equal(ErrorCode.None, chunk);
                harness.Store.Unpin(pin);
                pieces++;
                string text = Answers.Range(output.WrittenSpan)["range ".Length..];
                if (stream.IsFinished)
                {
                    last = text;
                }
                else
                {
                    pairs.Append(text);
                }

                // The world moves on between two pieces; the stream does not see it.
                harness.Put(Put($"k{random.Next(200):d3}", "changed"));
                harness.DeleteRange(new DeleteOp(Encoding.ASCII.GetBytes($"k{random.Next(200):d3}"), [], false).Encode());
                if (random.Next(3) == 0)
                {
                    harness.Freeze();
                }
            }

            stream.Dispose();
            output.Free();
            int tail = last.IndexOf('[') is var bracket and >= 0 ? bracket : last.Length;
            string together = pairs.ToString() + last[tail..];
            if (last.IndexOf('[') < 0)
            {
                together = pairs.ToString() + last[(last.IndexOf("full ", StringComparison.Ordinal) + 5)..];
            }

            Assert.Equal(expected[end..], together);
            Assert.Contains("rev ", last);
            Assert.True(start > 0 && pieces >= Math.Min(limit == 0 ? 100 : limit, 100) / 7);
        }
    }

    private readonly Random random = new(5);

    [Fact]
    public void RangeStream_CompactedUnderway_EndsWithCompacted()
    {
        using var harness = new StoreHarness();
        for (int i = 0; i < 20; i++)
        {
            harness.Put(Put($"k{i:d3}", "1"));
        }

        Assert.True(RangeRequest.TryParse(new RangeOp([0], [0]).Encode(), out RangeRequest request));
        var stream = default(RangeStream);
        var output = new NativeBuffer(harness.Pool);
        ViewPin pin = harness.Store.Pin();
        Assert.True(harness.Store.TryRangeChunk(request, ref stream, pin, harness.Header, 5, 1 << 20, true, ref output, out ErrorCode outcome));
        Assert.Equal(ErrorCode.None, outcome);
        harness.Store.Unpin(pin);
        harness.Put(Put("k", "2"));
        harness.Compact([8, 22]);
        pin = harness.Store.Pin();
        Assert.True(harness.Store.TryRangeChunk(request, ref stream, pin, harness.Header, 5, 1 << 20, true, ref output, out outcome));
        Assert.Equal(ErrorCode.Compacted, outcome);
        harness.Store.Unpin(pin);
        stream.Dispose();
        output.Free();
    }

    [Fact]
    public void PutsRangesTxnsAndDeletes_SteadyState_AllocateNothing()
    {
        using var harness = new StoreHarness();
        MvccStore store = harness.Store;
        Grant(harness, 7);
        byte[][] puts = new byte[500][];
        for (int i = 0; i < puts.Length; i++)
        {
            puts[i] = new PutOp(Encoding.ASCII.GetBytes($"/registry/pods/{i:d4}"), new byte[100 + i])
            {
                PrevKv = i % 3 == 0,
                Lease = i % 10 == 0 ? 7 : 0,
            }.Encode();
        }

        byte[] one = new RangeOp("/registry/pods/0123"u8.ToArray(), []).Encode();
        byte[] many = new RangeOp("/registry/pods/"u8.ToArray(), "/registry/pods0"u8.ToArray()) { Limit = 50 }.Encode();
        byte[] sorted = new RangeOp("/registry/pods/"u8.ToArray(), "/registry/pods0"u8.ToArray()) { Order = 2, Target = 3 }.Encode();
        byte[] delete = new DeleteOp("/registry/pods/0007"u8.ToArray(), "/registry/pods/0010"u8.ToArray(), true).Encode();
        byte[] txn = new TxnOp(
            [new CompareOp(1, 2, "/registry/pods/0123"u8.ToArray(), [], 0, [])],
            [new PutOp("/registry/pods/0123"u8.ToArray(), new byte[64]), new RangeOp("/registry/pods/0123"u8.ToArray(), []), new TxnOp([], [new PutOp([1], [2])], [])],
            [new RangeOp([1], [])]).Encode();
        byte[] readTxn = new TxnOp([], [new RangeOp("/registry/pods/0123"u8.ToArray(), [])], []).Encode();
        var output = new NativeBuffer(harness.Pool);
        long index = 10;
        long before = 0;
        const int rounds = 60_000;
        for (int round = -20_000; round < rounds; round++)
        {
            if (round == 0)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }

            output.Reset();
            var context = new ApplyContext(harness.Leases, harness.Header, wantsResponse: true);
            index++;
            ErrorCode error = (round & 15) switch
            {
                3 => store.DeleteRange(delete, context, ref output),
                7 => store.Txn(txn, context, ref output),
                _ => store.Put(puts[(round + 20_000) % puts.Length], context, ref output),
            };
            store.PublishView();
            ViewPin pin = store.Pin();
            output.Reset();
            error |= (round & 63) switch
            {
                1 => store.Range(sorted, pin, harness.Header, ref output),
                < 4 => store.Range(many, pin, harness.Header, ref output),
                < 10 => store.ReadTxn(readTxn, pin, harness.Header, ref output),
                _ => store.Range(one, pin, harness.Header, ref output),
            };
            store.Unpin(pin);
            if (error != ErrorCode.None)
            {
                Assert.Fail($"round {round}: {error}");
            }

            _ = store.Work(round);
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        output.Free();
        Assert.InRange(allocated, 0, 1024); // none a request; a list that grows once is fine
    }

    [Fact]
    public void Txn_NestedAsDeepAsIsServed_RunsOnAnActorsStack()
    {
        using var harness = new StoreHarness();
        Op op = new PutOp("k"u8.ToArray(), "deep"u8.ToArray());
        for (int i = 0; i < RequestChecks.MaxDepth - 1; i++)
        {
            op = new TxnOp([], [op, new RangeOp("k"u8.ToArray(), [])], []);
        }

        byte[] bytes = op.Encode();
        Assert.True(TxnRequest.TryParse(bytes, out TxnRequest txn));
        Assert.Equal(ErrorCode.None, RequestChecks.CheckTxn(txn, 100_000));
        Exception? failure = null;
        var thread = new System.Threading.Thread(
            () =>
            {
                try
                {
                    (ErrorCode error, byte[] body) = harness.Txn(bytes);
                    Assert.Equal(ErrorCode.None, error);
                    Assert.StartsWith("txn rev 2 full succeeded (txn rev 0 succeeded (txn", Answers.Txn(body));
                }
                catch (Exception exception)
                {
                    failure = exception;
                }
            },
            1536 * 1024);
        thread.Start();
        thread.Join();
        Assert.Null(failure);
        Assert.Equal("range rev 2 full [6B c2 m2 v1 l0 64656570] count 1", Everything(harness));
    }

    [Fact]
    public void ReadsNow_ValueOnTheDisk_GiveUpWithoutTouchingIt()
    {
        var files = new ColdFiles { IsCold = true };
        using var harness = new StoreHarness(files: files);
        harness.Put(Put("paged", new string('v', 9000)));
        harness.Freeze();
        harness.Pump(() => !harness.Step());
        harness.Put(Put("buffered", "1"));
        harness.Tree.ForgetResidency();
        ViewPin pin = harness.Store.Pin();
        var output = new NativeBuffer(harness.Pool);
        int populates = files.Populates;
        Assert.True(Now("buffered", [], out ErrorCode outcome));
        Assert.Equal(ErrorCode.None, outcome);
        Assert.True(Now("absent", [], out _));
        output.Reset();
        Assert.False(Now("paged", [], out _));
        Assert.False(Now("a", [0], out _));
        Assert.Equal(0, output.Length);
        Assert.Equal(populates, files.Populates);

        RangeStream stream = default;
        Assert.True(RangeRequest.TryParse(new RangeOp([0], [0]).Encode(), out RangeRequest all));
        Assert.False(harness.Store.TryRangeChunk(all, ref stream, pin, harness.Header, 10, 1 << 20, false, ref output, out _));
        Assert.Equal(0, output.Length);
        Assert.True(harness.Store.TryRangeChunk(all, ref stream, pin, harness.Header, 10, 1 << 20, true, ref output, out _));
        Assert.True(stream.IsFinished && files.Populates > populates);
        stream.Dispose();

        // Read once, the block is warm.
        Assert.True(Now("paged", [], out outcome));
        Assert.Equal(ErrorCode.None, outcome);
        output.Free();
        harness.Store.Unpin(pin);
        harness.Store.Unpin(default); // no pin: ignored

        bool Now(string key, byte[] end, out ErrorCode error) => harness.Store.TryRangeNow(
            new RangeOp(Encoding.ASCII.GetBytes(key), end).Encode(), pin, harness.Header, ref output, out error);
    }

    private static string Everything(StoreHarness harness)
    {
        (ErrorCode error, byte[] body) = harness.Range(new RangeOp([0], [0]).Encode());
        Assert.Equal(ErrorCode.None, error);
        return Answers.Range(body);
    }

    private static byte[] Put(string key, string value) => new PutOp(Encoding.ASCII.GetBytes(key), Encoding.ASCII.GetBytes(value)).Encode();

    private static void Grant(StoreHarness harness, byte id) =>
        Assert.Equal(ErrorCode.None, harness.Leases.ApplyGrant([8, 100, 16, id], harness.Store, out _));

    private static List<string> Dump(StoreHarness harness, BucketId bucket)
    {
        var visitor = new Lines { Found = [] };
        harness.Store.ForEach(bucket, ref visitor);
        return visitor.Found;
    }

    private struct Lines : IBucketVisitor
    {
        public List<string> Found;

        public readonly void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) =>
            Found.Add($"{Encoding.ASCII.GetString(key)}={Encoding.ASCII.GetString(value)}");
    }
}
