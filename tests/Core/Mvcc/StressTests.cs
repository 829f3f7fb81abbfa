// StressTests: reader threads against the writer, freezes, commits, compaction, sweeps and shrinking, all at once.
//
// Why        One thread cannot show a torn View, a node freed too early or a page reused under a reader. Here every
//            answer is compared with what each key was at that revision: append-only lists the writer fills before
//            it publishes, so readers can look things up without a lock.
// Values     most of some hundred bytes, one in 400 of 20 to 120 KB: large runs of pages move beside small ones.
// Cold       CAIRN_STRESS_COLD: pages are taken out of memory again and again, so that reads meet the disk.
// Wide       CAIRN_STRESS_KEYS (3000): with some hundred thousand keys the file outgrows a memory limit set from outside.
// Length     CAIRN_STRESS_SECONDS (30 s) as a whole: the last twentieth is for the work left over to come to its end.
using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.IO;
using System.Text;
using System.Threading;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Support;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Core.Tests.Mvcc;

public sealed class StressTests(ITestOutputHelper output)
{
    private static readonly bool s_cold = Environment.GetEnvironmentVariable("CAIRN_STRESS_COLD") is { Length: > 0 };

    /// <summary>Keys that one delete, range or stream reaches at the most.</summary>
    private const int SpanMax = 3000;

    /// <summary>Revisions after which the model may forget one: nobody reads a hundredth of that behind the compaction.</summary>
    private const long KeptRevisions = 1_000_000;

    private static readonly int s_keys = Number("CAIRN_STRESS_KEYS", SpanMax);
    private static readonly HeaderFields Header = new(1, 2, 3);

    [Fact]
    public void ReadersAndWriter_AllBackgroundWorkRunning_EveryAnswerIsTheModels()
    {
        int seconds = Number("CAIRN_STRESS_SECONDS", 30);
        string directory = Directory.CreateTempSubdirectory("cairn-stress-").FullName;
        var failures = new ConcurrentQueue<string>();
        var files = new ColdFiles();
        try
        {
            using Tree tree = Tree.Open(
                files, Path.Combine(directory, "db"), new TreeOptions { NoSync = true, ReserveBytes = 8L << 30 }, new ThrowingFatal());
            using var world = new World(tree, files, failures, seconds * 0.95, output);
            world.Run();
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }

        Assert.True(failures.IsEmpty, string.Join("\n", failures));
    }

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out int asked) ? asked : otherwise;

    private static byte[] KeyOf(int i) => Encoding.ASCII.GetBytes($"/registry/{i:d7}");

    /// <summary>A value that says whose it is: revision, then bytes drawn from it.</summary>
    private static byte[] ValueOf(int key, long main)
    {
        long draw = key + main;
        byte[] value = new byte[draw % 400 == 0 ? 20_000 + (draw / 400 % 100 * 1000) : 16 + (draw % 97 * 7)];
        BinaryPrimitives.WriteInt64BigEndian(value, main);
        BinaryPrimitives.WriteInt32BigEndian(value.AsSpan(8), key);
        value.AsSpan(12).Fill((byte)main);
        return value;
    }

    /// <summary>The revisions one key had; filled by the writer, read by anybody.</summary>
    private sealed class Line
    {
        private Revisions _all = new(new (long, long, long)[4]);

        public void Append(long main, long created, long version)
        {
            Revisions all = _all;
            if (all.Count == all.Rows.Length)
            {
                // The newest of those that may be forgotten still says what the key was.
                int kept = Math.Max(0, all.NewestAt(main - KeptRevisions));
                var bigger = new Revisions(new (long, long, long)[Math.Max(4, (all.Count - kept) * 2)]);
                all.Rows.AsSpan(kept, all.Count - kept).CopyTo(bigger.Rows);
                bigger.Count = all.Count - kept;
                all = bigger;
            }

            all.Rows[all.Count] = (main, created, version);
            Volatile.Write(ref all.Count, all.Count + 1);
            Volatile.Write(ref _all, all);
        }

        /// <summary>The newest at or below; version 0 stands for deleted or never there.</summary>
        public (long Main, long Created, long Version) At(long main)
        {
            Revisions all = Volatile.Read(ref _all);
            int newest = all.NewestAt(main);
            return newest < 0 ? default : all.Rows[newest];
        }

        private sealed class Revisions((long Main, long Created, long Version)[] rows)
        {
            public readonly (long Main, long Created, long Version)[] Rows = rows;
            public int Count;

            /// <summary>Index of the newest row at or below; -1: none.</summary>
            public int NewestAt(long main)
            {
                int high = Volatile.Read(ref Count);
                int low = 0;
                while (low < high)
                {
                    int middle = (low + high) / 2;
                    if (Rows[middle].Main <= main)
                    {
                        low = middle + 1;
                    }
                    else
                    {
                        high = middle;
                    }
                }

                return low - 1;
            }
        }
    }

    private sealed class World : IDisposable
    {
        private readonly Tree _tree;
        private readonly ColdFiles _files;
        private readonly ITestOutputHelper _output;
        private readonly ConcurrentQueue<string> _failures;
        private readonly long _endNs;
        private readonly NativePool _pool = new();
        private readonly MvccStore _store;
        private readonly ActorThread _treeThread;
        private readonly Line[] _lines = new Line[s_keys];
        private long _answers;
        private long _pairs;
        private long _hashes;
        private long _chunks;
        private long _cold;
        private int _defragments;

        public World(Tree tree, ColdFiles files, ConcurrentQueue<string> failures, double seconds, ITestOutputHelper output)
        {
            _tree = tree;
            _files = files;
            _output = output;
            _failures = failures;
            _endNs = SystemClock.Instance.NowNs + (long)(seconds * 1e9);
            _store = MvccStore.Open(
                tree,
                new MvccOptions { Pool = _pool, BufferBytesMax = 4 << 20, PinSlots = 8, CompactionPauseNs = 100_000, CompactionBatchLimit = 2000 },
                new ThrowingFatal());
            _treeThread = new ActorThread(_store.TreeActor, SystemClock.Instance, new RecordingFatal(failures));
            _store.TreeActor.Waker = _treeThread;
            for (int i = 0; i < s_keys; i++)
            {
                _lines[i] = new Line();
            }
        }

        private bool IsOver => SystemClock.Instance.NowNs >= _endNs || !_failures.IsEmpty;

        public void Run()
        {
            _treeThread.Start();
            var threads = new Thread[4];
            for (int i = 0; i < threads.Length; i++)
            {
                int seed = i;
                threads[i] = new Thread(() => Guard(() =>
                {
                    if (seed == 3)
                    {
                        HashLoop(new Random(seed));
                    }
                    else
                    {
                        ReadLoop(new Random(seed));
                    }
                }));
                threads[i].Start();
            }

            Guard(() => WriteLoop(new Random(99)));
            foreach (Thread thread in threads)
            {
                thread.Join();
            }

            if (!_failures.IsEmpty)
            {
                return; // a reader that failed has left its pin behind
            }

            Guard(Finish);
            _output.WriteLine(
                $"{_store.Revision} revisions, {_answers} ranges of {_pairs} pairs ({_cold} had to wait for the disk), {_chunks} chunks, "
                + $"{_hashes} hashes, {_store.TreeActor.Commits} commits, {_defragments} defragmentations, compacted to "
                + $"{_store.FinishedCompactRevision}, {_tree.HighWaterBytes >> 20} MiB");
            Assert.True(!s_cold || _cold > 0, "no page went cold");
            Assert.InRange(_answers, 100, long.MaxValue);
            Assert.InRange(_pairs, 1000, long.MaxValue);
            Assert.InRange(_hashes, 1, long.MaxValue);
            Assert.InRange(_defragments, 1, int.MaxValue);
            Assert.InRange(_chunks, 1, long.MaxValue);
        }

        public void Dispose()
        {
            _treeThread.Dispose();
            _store.Dispose();
        }

        private void Guard(Action body)
        {
            try
            {
                body();
            }
            catch (Exception exception)
            {
                _failures.Enqueue(exception.ToString());
            }
        }

        // ---- the store thread ----

        private void WriteLoop(Random random)
        {
            using var leases = new Lessor(2, 1);
            var output = new NativeBuffer(_pool);
            ulong index = 1;
            long nextFreeze = 0;
            long nextCompact = 0;
            while (!IsOver)
            {
                long now = SystemClock.Instance.NowNs;
                int batch = random.Next(1, 20);
                for (int i = 0; i < batch && !_store.MustPause; i++)
                {
                    index++;
                    Write(random, new ApplyContext(leases, Header, wantsResponse: true), ref output);
                }

                _store.PublishView();
                while (_store.Work(now) && random.Next(4) != 0)
                {
                }

                if (now >= nextFreeze && _store.TryFreeze(new FreezePoint(index, 2, default)))
                {
                    nextFreeze = now + random.Next(1, 10) * 1_000_000L;
                }

                if (now >= nextCompact)
                {
                    nextCompact = now + random.Next(5, 80) * 1_000_000L;
                    Compact(random, new ApplyContext(leases, Header, wantsResponse: false), ref output);
                    _store.PublishView();
                    if (random.Next(3) == 0)
                    {
                        _ = _store.TreeActor.Defragment(_ => Interlocked.Increment(ref _defragments), null);
                    }
                }
            }

            output.Free();
        }

        private void Write(Random random, ApplyContext context, ref NativeBuffer output)
        {
            output.Reset();
            long main = _store.Revision + 1;
            int first = random.Next(s_keys);
            ErrorCode error;
            if (random.Next(200) == 0)
            {
                int count = random.Next(2) == 0 ? random.Next(1, 20) : random.Next(1, SpanMax);
                int last = Math.Min(s_keys, first + count);
                error = _store.DeleteRange(new DeleteOp(KeyOf(first), KeyOf(last), random.Next(2) == 0).Encode(), context, ref output);
                for (int i = first; i < last; i++)
                {
                    Forget(i, main);
                }
            }
            else if (random.Next(10) == 0)
            {
                int second = (first + 1 + random.Next(s_keys - 1)) % s_keys;
                error = _store.Txn(
                    new TxnOp([], [Put(first, main), Put(second, main), new RangeOp(KeyOf(second), [])], []).Encode(), context, ref output);
                Remember(first, main);
                Remember(second, main);
            }
            else
            {
                error = _store.Put(Put(first, main).Encode(), context, ref output);
                Remember(first, main);
            }

            Assert.Equal(ErrorCode.None, error);
        }

        private static PutOp Put(int key, long main) => new(KeyOf(key), ValueOf(key, main)) { PrevKv = main % 5 == 0 };

        private void Remember(int key, long main)
        {
            (_, long created, long version) = _lines[key].At(long.MaxValue);
            _lines[key].Append(main, version == 0 ? main : created, version + 1);
        }

        private void Forget(int key, long main)
        {
            if (_lines[key].At(long.MaxValue).Version != 0)
            {
                _lines[key].Append(main, 0, 0);
            }
        }

        private void Compact(Random random, ApplyContext context, ref NativeBuffer output)
        {
            long at = _store.Revision - random.Next(0, 2000);
            if (at <= _store.CompactRevision)
            {
                return;
            }

            byte[] request = new byte[16];
            var writer = new ProtoWriter(request);
            writer.WriteVarintField(1, (ulong)at);
            Assert.Equal(ErrorCode.None, _store.Compact(writer.Written, context, ref output));
        }

        // ---- readers ----

        private void ReadLoop(Random random)
        {
            var output = new NativeBuffer(_pool);
            while (!IsOver)
            {
                ViewPin pin = _store.Pin();
                int reads = random.Next(1, 6);
                for (int i = 0; i < reads; i++)
                {
                    ReadOnce(random, pin, ref output);
                }

                if (random.Next(50) == 0)
                {
                    // A slow client: what it has pinned stays as it was.
                    long until = SystemClock.Instance.NowNs + random.Next(30) * 1_000_000L;
                    while (SystemClock.Instance.NowNs < until)
                    {
                        ReadOnce(random, pin, ref output);
                    }
                }

                _store.Unpin(pin);
                if (random.Next(20) == 0)
                {
                    ReadStream(random, ref output);
                }

                if (random.Next(500) == 0)
                {
                    if (s_cold)
                    {
                        _files.Evict();
                    }

                    _tree.ForgetResidency(); // every block is asked for again
                }
            }

            output.Free();
        }

        /// <summary>A range in chunks, each under a pin of its own, all as of the first; a compaction may end it.</summary>
        private void ReadStream(Random random, ref NativeBuffer output)
        {
            int first = random.Next(s_keys);
            int last = Math.Min(s_keys, first + SpanMax);
            int next = first;
            long at = 0;
            RangeStream stream = default;
            byte[] bytes = new RangeOp(KeyOf(first), KeyOf(last)).Encode();
            Assert.True(RangeRequest.TryParse(bytes, out RangeRequest request));
            while (!stream.IsFinished)
            {
                ViewPin pin = _store.Pin();
                at = at == 0 ? pin.Revision : at;
                output.Reset();
                ErrorCode error;
                if (!_store.TryRangeChunk(request, ref stream, pin, Header, 100, 1 << 20, mayWait: false, ref output, out error))
                {
                    Assert.True(_store.TryRangeChunk(request, ref stream, pin, Header, 100, 1 << 20, mayWait: true, ref output, out error));
                }

                bool compacted = error == ErrorCode.Compacted && pin.CompactRevision > at;
                _store.Unpin(pin);
                if (compacted)
                {
                    stream.Dispose();
                    return;
                }

                Assert.Equal(ErrorCode.None, error);
                var reader = new ProtoReader(output.WrittenSpan);
                while (reader.NextField())
                {
                    if (reader.Field == 2)
                    {
                        next = Check(reader.ReadBytes(), next, last, at);
                    }
                    else
                    {
                        reader.Skip();
                    }
                }

                Interlocked.Increment(ref _chunks);
            }

            stream.Dispose();
            for (; next < last; next++)
            {
                Assert.Equal((next, at, 0L), (next, at, _lines[next].At(at).Version));
            }
        }

        private void ReadOnce(Random random, in ViewPin pin, ref NativeBuffer output)
        {
            long lowest = Math.Max(1, pin.CompactRevision);
            long revision = random.Next(2) == 0 ? 0 : random.NextInt64(lowest, pin.Revision + 1);
            long at = revision == 0 ? pin.Revision : revision;
            int first = random.Next(s_keys);
            int last = Math.Min(s_keys, first + (random.Next(8) == 0 ? random.Next(SpanMax) : random.Next(1, 30)));
            var request = new RangeOp(KeyOf(first), last == first + 1 ? [] : KeyOf(last)) { Revision = revision };
            output.Reset();
            byte[] bytes = request.Encode();
            bool answered = _store.TryRangeNow(bytes, pin, Header, ref output, out ErrorCode error);
            if (!answered)
            {
                Interlocked.Increment(ref _cold);
                error = _store.Range(bytes, pin, Header, ref output);
            }

            Assert.Equal(ErrorCode.None, error);
            int next = first;
            long count = 0;
            var reader = new ProtoReader(output.WrittenSpan);
            while (reader.NextField())
            {
                switch (reader.Field)
                {
                    case 2:
                        next = Check(reader.ReadBytes(), next, last, at);
                        count++;
                        break;
                    case 4:
                        Assert.Equal(count, reader.ReadInt64());
                        break;
                    default:
                        reader.Skip();
                        break;
                }
            }

            for (; next < last; next++)
            {
                Assert.Equal((next, at, 0L), (next, at, _lines[next].At(at).Version));
            }

            Interlocked.Increment(ref _answers);
            Interlocked.Add(ref _pairs, count);
        }

        /// <summary>The next pair of an answer; keys passed over must have been absent. Returns the key after it.</summary>
        private int Check(ReadOnlySpan<byte> stored, int next, int last, long at)
        {
            Assert.True(KeyValue.TryParse(stored, out KeyValue pair));
            while (next < last && !pair.Key.SequenceEqual(KeyOf(next)))
            {
                Assert.Equal((next, at, 0L), (next, at, _lines[next].At(at).Version));
                next++;
            }

            Assert.InRange(next, 0, last - 1);
            Assert.Equal((next, at, _lines[next].At(at)), (next, at, (pair.ModRevision, pair.CreateRevision, pair.Version)));
            Assert.True(pair.Value.SequenceEqual(ValueOf(next, pair.ModRevision)), $"value of key {next} at {pair.ModRevision}");
            return next + 1;
        }

        private void HashLoop(Random random)
        {
            while (!IsOver)
            {
                ViewPin pin = _store.Pin();
                long revision = random.NextInt64(Math.Max(1, pin.CompactRevision), pin.Revision + 1);
                _store.Unpin(pin);
                if (_store.HashKv(revision, out HashKvResult first) == ErrorCode.None
                    && _store.HashKv(revision, out HashKvResult second) == ErrorCode.None
                    && first.CompactRevision == second.CompactRevision)
                {
                    Assert.Equal((revision, first.Hash), (revision, second.Hash));
                    _hashes++;
                }
            }
        }

        /// <summary>All work ends, memory comes back, the file is sound, and a second open sees the same.</summary>
        private void Finish()
        {
            long deadline = SystemClock.Instance.NowNs + 120_000_000_000;
            bool done = false;
            while (!done)
            {
                Assert.True(
                    SystemClock.Instance.NowNs < deadline,
                    $"the background work comes to an end: frozen {_store.IsFrozen}, compacted {_store.FinishedCompactRevision} of "
                    + $"{_store.CompactRevision} at {_store.Revision}, retired {_store.Index.Reclaimer.Count}, pins {_store.Views.CountPins()}, "
                    + $"commits {_store.TreeActor.Commits}, defragments {_defragments}, pages {_tree.HighWaterBytes / _tree.PageSize}");
                long now = SystemClock.Instance.NowNs;
                bool did = _store.Work(now);
                done = !did && _store.TryFreeze(new FreezePoint(ulong.MaxValue / 2, 2, default)) && !_store.IsFrozen
                    && _store.FinishedCompactRevision == _store.CompactRevision && _store.Index.Reclaimer.Count == 0;
            }

            _treeThread.Stop();
            while (_store.TreeActor.Poll(SystemClock.Instance.NowNs) | _store.Work(SystemClock.Instance.NowNs) || !_store.TreeActor.IsIdle)
            {
                Assert.True(SystemClock.Instance.NowNs < deadline, $"the last steps end, pages {_tree.HighWaterBytes / _tree.PageSize}");
            }

            TreeCheckResult check = _tree.Check(_tree.CurrentRoot, againstFreelist: true);
            Assert.True(check.IsOk, string.Join("\n", check.Errors));
            using MvccStore second = MvccStore.Open(_tree, new MvccOptions { Pool = _pool, PinSlots = 8 }, new ThrowingFatal());
            Assert.Equal(_store.Revision, second.Revision);
            Assert.Equal(_store.CompactRevision, second.CompactRevision);
            Assert.Equal(_store.IndexedKeys, second.IndexedKeys);
            Assert.Equal(ErrorCode.None, _store.HashKv(0, out HashKvResult live));
            Assert.Equal(ErrorCode.None, second.HashKv(0, out HashKvResult reopened));
            Assert.Equal(live.Hash, reopened.Hash);
        }
    }

    private sealed class RecordingFatal(ConcurrentQueue<string> failures) : IFatal
    {
        [System.Diagnostics.CodeAnalysis.DoesNotReturn]
        public void Stop(string message, Exception? cause = null)
        {
            failures.Enqueue("fatal: " + message + cause);
            throw new InvalidOperationException(message, cause);
        }
    }
}
