// KeyIndex: all keys in order, each with its revisions: a B+tree in native memory.
//
// Why        etcd keeps this index on the garbage-collected heap behind a lock; here it costs the collector
//            nothing and readers never wait. About 50 bytes a key beyond the key itself while it was put once.
// Threads    One writer (store), many readers, no lock. A change of a leaf makes a new leaf and stores it into the
//            parent's slot with release; a split or merge copies the parent as well. Replaced nodes are retired
//            through the Reclaimer. A reader that still walks an old node misses only keys put after its View
//            was published, which it must not see anyway; histories hang on the record, which all copies share.
// Ordering   Keys compare as unsigned bytes; a shorter key comes before its extensions.
using System;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>The index. Writing members: store thread only. <see cref="KeyCursor"/> and Find: any thread with a pin.</summary>
internal sealed unsafe class KeyIndex : IDisposable
{
    /// <summary>Deeper than any tree that fits in memory.</summary>
    public const int DepthMax = 16;

    private const int PrefixGain = 4;
    private const int MergeBelow = IndexNode.CapacityMax / 4;
    private const int MergedMax = IndexNode.CapacityMax * 3 / 4;

    private readonly NativeArena _arena = new();
    private readonly Reclaimer _reclaimer;
    private readonly nint[] _path = new nint[DepthMax];
    private readonly int[] _pathSlot = new int[DepthMax];
    private nint _root;
    private int _depth; // branch levels on the path of the last Descend

    public KeyIndex()
    {
        _reclaimer = new Reclaimer(_arena) { IsExclusive = true };
        Histories = new KeyHistoryWriter(_arena, _reclaimer);
        _root = (nint)NewNode(IndexNode.CapacityMax, 0);
    }

    /// <summary>The writer of histories, over the same memory.</summary>
    public KeyHistoryWriter Histories { get; }

    /// <summary>Where replaced memory waits for the last reader.</summary>
    public Reclaimer Reclaimer => _reclaimer;

    /// <summary>Keys in the index, deleted ones not yet compacted away included.</summary>
    public long Count { get; private set; }

    /// <summary>Native bytes held.</summary>
    public long ReservedBytes => _arena.ReservedBytes;

    /// <summary>Native bytes in use, retired ones included.</summary>
    public long UsedBytes => _arena.UsedBytes;

    internal IndexNode* Root => (IndexNode*)Volatile.Read(ref _root);

    /// <summary>The key's record, or null.</summary>
    public KeyRecord* Find(ReadOnlySpan<byte> key)
    {
        IndexNode* node = Root;
        int known = 0;
        while (node->Level > 0)
        {
            node = IndexNode.Child(node, IndexNode.ChildFor(node, key, ref known));
        }

        int position = IndexNode.LowerBound(node, key, known, out bool found);
        return found ? (KeyRecord*)IndexNode.Slots(node)[position] : null;
    }

    /// <summary>Finds the key; where it is absent, <paramref name="position"/> remembers its place for Insert.</summary>
    public KeyRecord* FindForInsert(ReadOnlySpan<byte> key, out int position)
    {
        IndexNode* leaf = Descend(key, out int known);
        position = IndexNode.LowerBound(leaf, key, known, out bool found);
        return found ? (KeyRecord*)IndexNode.Slots(leaf)[position] : null;
    }

    /// <summary>Inserts a record at the place that the last <see cref="FindForInsert"/> found.</summary>
    public void Insert(KeyRecord* record, int position)
    {
        IndexNode* leaf = (IndexNode*)_path[_depth];
        Count++;
        if (_reclaimer.IsExclusive && leaf->Count < leaf->Capacity)
        {
            InsertInPlace(leaf, position, record);
            return;
        }

        if (leaf->Count < IndexNode.CapacityMax)
        {
            // With nobody reading, room is left for more; otherwise each insert copies anyway and fits exactly.
            int capacity = _reclaimer.IsExclusive ? IndexNode.CapacityMax : leaf->Count + 1;
            IndexNode* copy = NewNode(capacity, 0);
            CopyWithInsert(leaf, copy, position, (nint)record);
            Replace(_depth, leaf, copy);
            return;
        }

        SplitLeaf(leaf, position, record);
    }

    /// <summary>Removes a key that is present, and retires its record.</summary>
    public void Remove(ReadOnlySpan<byte> key)
    {
        IndexNode* leaf = Descend(key, out int known);
        int position = IndexNode.LowerBound(leaf, key, known, out bool found);
        Invariant.Check(found, "a removed key is in the index");
        KeyRecord* record = (KeyRecord*)IndexNode.Slots(leaf)[position];
        Count--;
        if (leaf->Count == 1 && _depth > 0)
        {
            RemoveChild(_depth - 1);
            Retire(leaf);
        }
        else
        {
            IndexNode* copy = NewNode(Math.Max(1, leaf->Count - 1), 0);
            CopyWithout(leaf, copy, position);
            if (!TryMerge(_depth, leaf, copy))
            {
                Replace(_depth, leaf, copy);
            }
        }

        Histories.RetireRecord(record);
    }

    public void Dispose()
    {
        _reclaimer.Dispose();
        _arena.Dispose();
    }

    private IndexNode* Descend(ReadOnlySpan<byte> key, out int known)
    {
        known = 0;
        IndexNode* node = (IndexNode*)_root;
        int depth = 0;
        _path[0] = (nint)node;
        while (node->Level > 0)
        {
            int slot = IndexNode.ChildFor(node, key, ref known);
            _pathSlot[depth] = slot;
            node = (IndexNode*)IndexNode.Slots(node)[slot];
            depth++;
            Invariant.Check(depth < DepthMax, "the key index is of bounded depth");
            _path[depth] = (nint)node;
        }

        _depth = depth;
        return node;
    }

    /// <summary>Stores a node where another stood: in the parent's slot, or as the root.</summary>
    private void Replace(int level, IndexNode* old, IndexNode* replacement)
    {
        if (level == 0)
        {
            Volatile.Write(ref _root, (nint)replacement);
        }
        else
        {
            IndexNode* parent = (IndexNode*)_path[level - 1];
            Volatile.Write(ref IndexNode.Slots(parent)[_pathSlot[level - 1]], (nint)replacement);
        }

        _path[level] = (nint)replacement;
        Retire(old);
    }

    private static void InsertInPlace(IndexNode* leaf, int position, KeyRecord* record)
    {
        nint* slots = IndexNode.Slots(leaf);
        ulong* heads = IndexNode.Heads(leaf);
        int after = leaf->Count - position;
        new Span<nint>(slots + position, after).CopyTo(new Span<nint>(slots + position + 1, after));
        new Span<ulong>(heads + position, after).CopyTo(new Span<ulong>(heads + position + 1, after));
        slots[position] = (nint)record;
        leaf->Count++;
        SummarizeInserted(leaf, position);
    }

    private static void CopyWithInsert(IndexNode* from, IndexNode* to, int position, nint record)
    {
        int after = from->Count - position;
        nint* source = IndexNode.Slots(from);
        nint* target = IndexNode.Slots(to);
        new Span<nint>(source, position).CopyTo(new Span<nint>(target, position));
        target[position] = record;
        new Span<nint>(source + position, after).CopyTo(new Span<nint>(target + position + 1, after));
        ulong* sourceHeads = IndexNode.Heads(from);
        ulong* targetHeads = IndexNode.Heads(to);
        new Span<ulong>(sourceHeads, position).CopyTo(new Span<ulong>(targetHeads, position));
        new Span<ulong>(sourceHeads + position, after).CopyTo(new Span<ulong>(targetHeads + position + 1, after));
        to->Count = from->Count + 1;
        CopyPrefix(from, to);
        SummarizeInserted(to, position);
    }

    /// <summary>A key in the middle shares the prefix of its neighbours; one at either end may shorten it.</summary>
    private static void SummarizeInserted(IndexNode* leaf, int position)
    {
        int last = leaf->Count - 1;
        if (position == 0 || position == last)
        {
            int prefix = leaf->Count >= 2 ? IndexNode.KeyAt(leaf, 0).CommonPrefixLength(IndexNode.KeyAt(leaf, last)) : 0;
            if (prefix != leaf->PrefixLength)
            {
                IndexNode.Summarize(leaf);
                return;
            }
        }

        IndexNode.Heads(leaf)[position] = IndexNode.HeadOf(IndexNode.KeyAt(leaf, position), leaf->PrefixLength);
    }

    private static void CopyWithout(IndexNode* from, IndexNode* to, int position)
    {
        int after = from->Count - position - 1;
        nint* source = IndexNode.Slots(from);
        nint* target = IndexNode.Slots(to);
        new Span<nint>(source, position).CopyTo(new Span<nint>(target, position));
        new Span<nint>(source + position + 1, after).CopyTo(new Span<nint>(target + position, after));
        ulong* sourceHeads = IndexNode.Heads(from);
        ulong* targetHeads = IndexNode.Heads(to);
        new Span<ulong>(sourceHeads, position).CopyTo(new Span<ulong>(targetHeads, position));
        new Span<ulong>(sourceHeads + position + 1, after).CopyTo(new Span<ulong>(targetHeads + position, after));
        to->Count = from->Count - 1;

        // The old prefix is still common to what is left; it may be shorter than it could be.
        CopyPrefix(from, to);
        if (to->Count < 2)
        {
            IndexNode.Summarize(to);
        }
    }

    private static void CopyPrefix(IndexNode* from, IndexNode* to)
    {
        to->PrefixLength = from->PrefixLength;
        new ReadOnlySpan<byte>(from->Tail, IndexNode.TailMax).CopyTo(new Span<byte>(to->Tail, IndexNode.TailMax));
    }

    private void SplitLeaf(IndexNode* leaf, int position, KeyRecord* record)
    {
        // Ascending keys fill leaves to the brim: the new key alone starts the next leaf.
        int total = leaf->Count + 1;
        int leftCount = position == leaf->Count ? leaf->Count : total / 2;
        bool exclusive = _reclaimer.IsExclusive;
        IndexNode* left = NewNode(exclusive ? IndexNode.CapacityMax : leftCount, 0);
        IndexNode* right = NewNode(exclusive ? IndexNode.CapacityMax : total - leftCount, 0);
        nint* source = IndexNode.Slots(leaf);
        ulong* heads = IndexNode.Heads(leaf);
        bool keepsPrefix = SharesPrefix(leaf, KeyRecord.Key(record));
        ulong newHead = keepsPrefix ? IndexNode.HeadOf(KeyRecord.Key(record), leaf->PrefixLength) : 0;
        for (int i = 0; i < total; i++)
        {
            bool isNew = i == position;
            int from = i < position ? i : i - 1;
            IndexNode* target = i < leftCount ? left : right;
            int at = i < leftCount ? i : i - leftCount;
            IndexNode.Slots(target)[at] = isNew ? (nint)record : source[from];
            IndexNode.Heads(target)[at] = isNew ? newHead : heads[from];
        }

        left->Count = leftCount;
        right->Count = total - leftCount;
        SummarizeHalf(leaf, left, keepsPrefix);
        SummarizeHalf(leaf, right, keepsPrefix);

        // The shortest bound that still separates: what both share, and one byte more.
        ReadOnlySpan<byte> low = IndexNode.KeyAt(left, leftCount - 1);
        ReadOnlySpan<byte> high = IndexNode.KeyAt(right, 0);
        KeyBound* bound = NewBound(high[..(low.CommonPrefixLength(high) + 1)]);
        InsertIntoParent(_depth, leaf, left, bound, right);
    }

    private static bool SharesPrefix(IndexNode* node, ReadOnlySpan<byte> key)
    {
        int first = IndexNode.FirstKeyed(node);
        return node->PrefixLength == 0 || key.StartsWith(IndexNode.KeyAt(node, first)[..node->PrefixLength]);
    }

    /// <summary>
    /// A part of a split leaf, its heads copied: they stay as they are unless the common prefix has grown enough to be
    /// worth touching every key.
    /// </summary>
    private static void SummarizeHalf(IndexNode* whole, IndexNode* half, bool keepsPrefix)
    {
        if (keepsPrefix && half->Count >= 2)
        {
            int prefix = IndexNode.KeyAt(half, 0).CommonPrefixLength(IndexNode.KeyAt(half, half->Count - 1));
            if (prefix - whole->PrefixLength < PrefixGain)
            {
                CopyPrefix(whole, half);
                return;
            }
        }

        IndexNode.Summarize(half);
    }

    /// <summary>The node at a level of the path became two.</summary>
    private void InsertIntoParent(int level, IndexNode* old, IndexNode* left, KeyBound* bound, IndexNode* right)
    {
        if (level == 0)
        {
            IndexNode* root = NewNode(2, (short)(old->Level + 1));
            IndexNode.Slots(root)[0] = (nint)left;
            IndexNode.Slots(root)[1] = (nint)right;
            IndexNode.Bounds(root)[0] = null;
            IndexNode.Bounds(root)[1] = bound;
            root->Count = 2;
            IndexNode.Summarize(root);
            Volatile.Write(ref _root, (nint)root);
            Retire(old);
            return;
        }

        IndexNode* parent = (IndexNode*)_path[level - 1];
        int slot = _pathSlot[level - 1];
        int total = parent->Count + 1;
        if (total <= IndexNode.CapacityMax)
        {
            IndexNode* copy = NewNode(total, parent->Level);
            FillSplit(parent, slot, left, bound, right, 0, total, copy);
            SummarizeGrown(parent, copy, slot + 1);
            Replace(level - 1, parent, copy);
        }
        else
        {
            // Ascending keys again: keep the left branch full.
            int leftCount = slot == parent->Count - 1 ? total - 1 : total / 2;
            IndexNode* leftParent = NewNode(leftCount, parent->Level);
            IndexNode* rightParent = NewNode(total - leftCount, parent->Level);
            FillSplit(parent, slot, left, bound, right, 0, leftCount, leftParent);
            FillSplit(parent, slot, left, bound, right, leftCount, total, rightParent);
            IndexNode.Summarize(leftParent);
            IndexNode.Summarize(rightParent);
            KeyBound* up = IndexNode.Bounds(rightParent)[0];
            IndexNode.Bounds(rightParent)[0] = null;
            InsertIntoParent(level - 1, parent, leftParent, up, rightParent);
        }

        Retire(old);
    }

    /// <summary>Entries [from, to) of the parent as it is after the split, into a new branch.</summary>
    private static void FillSplit(
        IndexNode* parent, int slot, IndexNode* left, KeyBound* bound, IndexNode* right, int from, int to, IndexNode* target)
    {
        nint* slots = IndexNode.Slots(parent);
        KeyBound** bounds = IndexNode.Bounds(parent);
        for (int i = from; i < to; i++)
        {
            int source = i <= slot ? i : i - 1;
            IndexNode.Slots(target)[i - from] = i == slot ? (nint)left : i == slot + 1 ? (nint)right : slots[source];
            IndexNode.Bounds(target)[i - from] = i == slot + 1 ? bound : bounds[source];
        }

        target->Count = to - from;
    }

    /// <summary>A branch that got one more bound: the old heads stand if the new bound shares their prefix.</summary>
    private static void SummarizeGrown(IndexNode* old, IndexNode* grown, int added)
    {
        if (old->Count < 3 || !SharesPrefix(old, IndexNode.KeyAt(grown, added)))
        {
            IndexNode.Summarize(grown);
            return;
        }

        CopyPrefix(old, grown);
        ulong* source = IndexNode.Heads(old);
        ulong* target = IndexNode.Heads(grown);
        new Span<ulong>(source + 1, added - 1).CopyTo(new Span<ulong>(target + 1, added - 1));
        target[added] = IndexNode.HeadOf(IndexNode.KeyAt(grown, added), grown->PrefixLength);
        int after = grown->Count - added - 1;
        new Span<ulong>(source + added, after).CopyTo(new Span<ulong>(target + added + 1, after));
    }

    /// <summary>Takes the child on the path out of the branch at a level; a branch left with one child gives way to it.</summary>
    private void RemoveChild(int level)
    {
        IndexNode* branch = (IndexNode*)_path[level];
        int slot = _pathSlot[level];
        if (branch->Count == 1)
        {
            // Only a branch that lost all other children: it goes as well, or becomes an empty leaf at the root.
            if (level == 0)
            {
                Volatile.Write(ref _root, (nint)NewNode(1, 0));
            }
            else
            {
                RemoveChild(level - 1);
            }

            Retire(branch);
            return;
        }

        IndexNode* copy = NewNode(branch->Count - 1, branch->Level);
        KeyBound* dropped = null;
        int count = 0;
        for (int i = 0; i < branch->Count; i++)
        {
            if (i == slot)
            {
                continue;
            }

            IndexNode.Slots(copy)[count] = IndexNode.Slots(branch)[i];
            IndexNode.Bounds(copy)[count] = IndexNode.Bounds(branch)[i];
            count++;
        }

        // The bound of the removed child goes; if it was the first, the next one's range now starts at its lower end.
        dropped = IndexNode.Bounds(branch)[slot == 0 ? 1 : slot];
        IndexNode.Bounds(copy)[0] = null;
        FinishBranch(level, branch, copy, count);
        RetireBound(dropped);
    }

    /// <summary>Joins a shrunken node with a neighbour under the same parent when both fit well into one.</summary>
    private bool TryMerge(int level, IndexNode* old, IndexNode* shrunken)
    {
        if (level == 0 || shrunken->Count >= MergeBelow)
        {
            return false;
        }

        IndexNode* parent = (IndexNode*)_path[level - 1];
        int slot = _pathSlot[level - 1];
        int leftSlot;
        if (slot > 0 && ChildCount(parent, slot - 1) + shrunken->Count <= MergedMax)
        {
            leftSlot = slot - 1;
        }
        else if (slot + 1 < parent->Count && ChildCount(parent, slot + 1) + shrunken->Count <= MergedMax)
        {
            leftSlot = slot;
        }
        else
        {
            return false;
        }

        IndexNode* neighbour = (IndexNode*)IndexNode.Slots(parent)[leftSlot == slot ? slot + 1 : leftSlot];
        IndexNode* left = leftSlot == slot ? shrunken : neighbour;
        IndexNode* right = leftSlot == slot ? neighbour : shrunken;
        KeyBound* between = IndexNode.Bounds(parent)[leftSlot + 1];
        IndexNode* merged = NewNode(left->Count + right->Count, shrunken->Level);
        for (int i = 0; i < left->Count + right->Count; i++)
        {
            bool fromLeft = i < left->Count;
            int source = fromLeft ? i : i - left->Count;
            IndexNode.Slots(merged)[i] = IndexNode.Slots(fromLeft ? left : right)[source];
            if (merged->Level > 0)
            {
                IndexNode.Bounds(merged)[i] = fromLeft ? IndexNode.Bounds(left)[source]
                    : source == 0 ? between
                    : IndexNode.Bounds(right)[source];
            }
        }

        merged->Count = left->Count + right->Count;
        IndexNode.Summarize(merged);

        IndexNode* copy = NewNode(parent->Count - 1, parent->Level);
        int count = 0;
        for (int i = 0; i < parent->Count; i++)
        {
            if (i == leftSlot + 1)
            {
                continue;
            }

            IndexNode.Slots(copy)[count] = i == leftSlot ? (nint)merged : IndexNode.Slots(parent)[i];
            IndexNode.Bounds(copy)[count] = IndexNode.Bounds(parent)[i];
            count++;
        }

        FinishBranch(level - 1, parent, copy, count);
        if (merged->Level == 0)
        {
            RetireBound(between);
        }

        Retire(old);
        Retire(neighbour);
        Free(shrunken);
        return true;
    }

    /// <summary>Publishes a branch that lost a child: in place of the old one, merged, or handing over to its only child.</summary>
    private void FinishBranch(int level, IndexNode* old, IndexNode* copy, int count)
    {
        copy->Count = count;
        IndexNode.Summarize(copy);
        if (count == 1 && level == 0)
        {
            Volatile.Write(ref _root, IndexNode.Slots(copy)[0]);
            Retire(old);
            Free(copy);
            return;
        }

        if (!TryMerge(level, old, copy))
        {
            Replace(level, old, copy);
        }
    }

    private static int ChildCount(IndexNode* parent, int slot) => ((IndexNode*)IndexNode.Slots(parent)[slot])->Count;

    private IndexNode* NewNode(int capacity, short level)
    {
        IndexNode* node = (IndexNode*)_arena.Allocate(IndexNode.Bytes(capacity, level == 0));
        node->Count = 0;
        node->Capacity = (short)capacity;
        node->Level = level;
        node->PrefixLength = 0;
        return node;
    }

    private KeyBound* NewBound(ReadOnlySpan<byte> key)
    {
        KeyBound* bound = (KeyBound*)_arena.Allocate(KeyBound.Bytes(key.Length));
        bound->Length = key.Length;
        key.CopyTo(new Span<byte>((byte*)bound + sizeof(KeyBound), key.Length));
        return bound;
    }

    private void Retire(IndexNode* node) => _reclaimer.Retire(node, IndexNode.Bytes(node));

    private void Free(IndexNode* node) => _arena.Free((byte*)node, IndexNode.Bytes(node));

    private void RetireBound(KeyBound* bound) => _reclaimer.Retire(bound, KeyBound.Bytes(bound->Length));
}
