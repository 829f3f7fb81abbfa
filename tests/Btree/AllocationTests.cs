// AllocationTests: a commit leaves nothing for the collector, with states pinned and given back in between.
using System;
using System.Buffers.Binary;
using Xunit;

namespace Cairn.Btree.Tests;

public sealed class AllocationTests
{
    private const int Operations = 1_000_000;
    private const int PerCommit = 1000; // half puts of new revisions, half deletes of old ones
    private const int Kept = 20_000;
    private const int Windows = 5;

    [Fact]
    public void Commits_InSteadyState_AllocateNothing()
    {
        using TestTree test = new();
        Writer writer = new(test.Tree);
        writer.Run(100_000);
        long allocated = 0;
        for (int window = 0; window < Windows; window++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            writer.Run(Operations);
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            if (allocated == 0)
            {
                break; // a list that grew for the last time is no steady state yet
            }
        }

        Assert.Equal(0, allocated);
        writer.GiveBack();
        test.ExpectSound();
    }

    /// <summary>What the store does to a tree: a growing end, a compacted start, a marker, pins that last a while.</summary>
    private sealed class Writer
    {
        private readonly Tree _tree;
        private readonly TreePin[] _pins = new TreePin[8];
        private readonly byte[] _key = new byte[17];
        private readonly byte[] _value = new byte[64];
        private TreeWriteCursor? _cursor;
        private long _revision;
        private int _commits;

        public Writer(Tree tree)
        {
            _tree = tree;
            _key[8] = (byte)'_';
        }

        public void Run(int operations)
        {
            for (int done = 0; done < operations; done += PerCommit)
            {
                Commit();
                ref TreePin pin = ref _pins[_commits % _pins.Length];
                if (pin.IsValid)
                {
                    _tree.Unpin(pin);
                }

                pin = _tree.Pin();
            }
        }

        public void GiveBack()
        {
            foreach (ref TreePin pin in _pins.AsSpan())
            {
                _tree.Unpin(pin);
            }
        }

        private void Commit()
        {
            TreeWriter writer = _tree.BeginWrite();
            TreeBucket keys = writer.CreateBucketIfMissing("key"u8);
            keys.FillPercent = 0.9;
            for (int i = 0; i < PerCommit / 2; i++)
            {
                keys.Put(Key(_revision++), _value);
            }

            if (_revision > Kept)
            {
                _cursor = keys.Cursor(_cursor);
                bool more = _cursor.Seek(Key(0));
                for (int i = 0; i < PerCommit / 2 && more; i++)
                {
                    more = _cursor.DeleteCurrent();
                }
            }

            writer.CreateBucketIfMissing("meta"u8).Put("consistent_index"u8, Key(_revision));
            TreeCommit commit = writer.BeginCommit(null);
            commit.Urgent = true;
            while (!commit.IsCompleted)
            {
                commit.Poll(0);
            }

            _commits++;
        }

        private ReadOnlySpan<byte> Key(long revision)
        {
            BinaryPrimitives.WriteInt64BigEndian(_key, revision);
            return _key;
        }
    }
}
