// IndexLoader: fills the key index at open from revisions in revision order.
//
// Why        Inserting in revision order walks to a random leaf each time: at a million keys nearly every step misses
//            the cache. Revisions are taken in batches, each sorted by key first, so that neighbours are inserted one
//            after the other. The sort compares 8 bytes of each key as a number, those after what all keys of a run
//            share; runs that tie are sorted again by the bytes that follow.
// Thread     whoever opens; nobody reads the index yet. Keys point into the pinned pages until their batch is in.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Cairn.Core.Mvcc;

/// <summary>Collects and inserts; flush, then dispose.</summary>
internal sealed unsafe class IndexLoader : IDisposable
{
    private const int BatchSize = 1 << 16;
    private const int ShortRun = 12;
    private readonly KeyIndex _index;
    private readonly Pending* _batch;
    private readonly ulong* _heads;
    private readonly int* _order;
    private int _count;

    public IndexLoader(KeyIndex index)
    {
        _index = index;
        _batch = (Pending*)NativeMemory.Alloc(BatchSize, (nuint)sizeof(Pending));
        _heads = (ulong*)NativeMemory.Alloc(BatchSize, sizeof(ulong));
        _order = (int*)NativeMemory.Alloc(BatchSize, sizeof(int));
    }

    /// <summary>Keys inserted so far that are live at their newest revision.</summary>
    public long LiveKeys { get; private set; }

    /// <summary>Takes one revision; later ones have larger revisions.</summary>
    /// <param name="key">Native memory that stays until the next flush.</param>
    /// <param name="main">Main revision.</param>
    /// <param name="subFlags">Sub and flags, packed.</param>
    /// <param name="created">create_revision; of a tombstone anything.</param>
    /// <param name="version">Version within the generation; of a tombstone anything.</param>
    public void Add(ReadOnlySpan<byte> key, long main, uint subFlags, long created, long version)
    {
        if (_count == BatchSize)
        {
            Flush();
        }

        Pending* pending = _batch + _count++;
        pending->Key = View.Pointer(key);
        pending->KeyLength = key.Length;
        pending->SubFlags = subFlags;
        pending->Main = main;
        pending->Created = created;
        pending->Version = version;
    }

    /// <summary>Inserts what was taken.</summary>
    public void Flush()
    {
        for (int i = 0; i < _count; i++)
        {
            _order[i] = i;
        }

        SortRun(0, _count);
        for (int i = 0; i < _count; i++)
        {
            Insert(_batch[_order[i]]);
        }

        _count = 0;
    }

    public void Dispose()
    {
        NativeMemory.Free(_batch);
        NativeMemory.Free(_heads);
        NativeMemory.Free(_order);
    }

    /// <summary>Sorts the places [first, end) by key.</summary>
    private void SortRun(int first, int end)
    {
        if (end - first <= ShortRun)
        {
            SortShort(first, end);
            return;
        }

        ReadOnlySpan<byte> sample = _batch[_order[first]].Bytes;
        int shared = sample.Length;
        for (int i = first + 1; i < end && shared > 0; i++)
        {
            shared = sample[..shared].CommonPrefixLength(_batch[_order[i]].Bytes);
        }

        for (int i = first; i < end; i++)
        {
            _heads[i] = IndexNode.HeadOf(_batch[_order[i]].Bytes, shared);
        }

        new Span<ulong>(_heads + first, end - first).Sort(new Span<int>(_order + first, end - first));
        for (int start = first; start < end;)
        {
            int next = start + 1;
            while (next < end && _heads[next] == _heads[start])
            {
                next++;
            }

            if (next - start == end - first)
            {
                // Nothing was told apart: one key over and over, or keys that differ only in zeros at their ends.
                new Span<int>(_order + start, next - start).Sort(new ByKey(_batch));
            }
            else if (next - start > 1)
            {
                SortRun(start, next);
            }

            start = next;
        }
    }

    private void SortShort(int first, int end)
    {
        var byKey = new ByKey(_batch);
        for (int i = first + 1; i < end; i++)
        {
            int moved = _order[i];
            int at = i;
            for (; at > first && byKey.Compare(moved, _order[at - 1]) < 0; at--)
            {
                _order[at] = _order[at - 1];
            }

            _order[at] = moved;
        }
    }

    private void Insert(in Pending pending)
    {
        bool tombstone = (pending.SubFlags & HistoryEntry.Tombstone) != 0;
        KeyRecord* record = _index.FindForInsert(pending.Bytes, out int position);
        if (record == null)
        {
            _index.Insert(
                _index.Histories.RestoreRecord(
                    pending.Bytes, pending.Main, pending.SubFlags, tombstone ? pending.Main : pending.Created, tombstone ? 1 : pending.Version),
                position);
            LiveKeys += tombstone ? 0 : 1;
        }
        else if (!tombstone)
        {
            LiveKeys += KeyHistory.TryGetLive(record, long.MaxValue, out _) ? 0 : 1;
            _index.Histories.AppendPut(record, pending.Main, pending.SubFlags);
        }
        else if (KeyHistory.TryGetLive(record, long.MaxValue, out _))
        {
            LiveKeys--;
            _index.Histories.AppendTombstone(record, pending.Main, (int)(pending.SubFlags >> HistoryEntry.SubShift));
        }
    }

    private struct Pending
    {
        public byte* Key;
        public long Main;
        public long Created;
        public long Version;
        public int KeyLength;
        public uint SubFlags;

        public readonly ReadOnlySpan<byte> Bytes => new(Key, KeyLength);
    }

    /// <summary>Key order; revisions of one key in the order they came.</summary>
    private readonly struct ByKey : IComparer<int>
    {
        private readonly Pending* _batch;

        public ByKey(Pending* batch) => _batch = batch;

        public int Compare(int x, int y)
        {
            int order = _batch[x].Bytes.SequenceCompareTo(_batch[y].Bytes);
            return order != 0 ? order : x.CompareTo(y);
        }
    }
}
