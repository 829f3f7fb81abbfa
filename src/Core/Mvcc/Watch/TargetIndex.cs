// TargetIndex: which watched keys and ranges contain a key.
//
// Exact      a hash table with chains; keys are hashed with a secret, so that nobody can make all of them meet.
// Ranges     a treap ordered by (start, end), each node knowing the largest end below it: a lookup visits only
//            subtrees that can contain the key (O(log n + hits)), and insert and remove are O(log n).
// Thread     the hub's. Keys are copied into native memory of their own.
using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>All targets of one hub.</summary>
internal sealed unsafe class TargetIndex(ulong seed) : IDisposable
{
    private readonly SlabTable<WatchTarget> _targets = new();
    private ChainTable _exact;
    private int _exactCount;
    private int _root;
    private ulong _random = seed | 1;

    /// <summary>Different keys and ranges.</summary>
    public int Count => _targets.Count;

    /// <summary>Different ranges.</summary>
    public int RangeCount => Count - _exactCount;

    public WatchTarget* this[int index] => _targets[index];

    /// <summary>Finds or makes the target of a watcher.</summary>
    /// <param name="key">First key.</param>
    /// <param name="end">Behind the last one; empty unless <paramref name="endLength"/> is its length.</param>
    /// <param name="endLength">Length of end, or one of the two special values.</param>
    public int Add(ReadOnlySpan<byte> key, ReadOnlySpan<byte> end, int endLength)
    {
        if (endLength == WatchTarget.SingleKey)
        {
            int known = Find(key, out uint hash);
            return known != 0 ? known : AddExact(key, hash);
        }

        for (int at = _root; at != 0;)
        {
            int order = Compare(key, end, endLength, at);
            if (order == 0)
            {
                return at;
            }

            at = order < 0 ? _targets[at]->Left : _targets[at]->Right;
        }

        int made = Make(key, end, endLength);
        WatchTarget* target = _targets[made];
        target->Priority = NextRandom();
        target->MaxEnd = made;
        _root = Insert(_root, made, 0);
        return made;
    }

    /// <summary>Takes a target out that has no watchers any more.</summary>
    public void Remove(int index)
    {
        WatchTarget* target = _targets[index];
        if (target->EndLength == WatchTarget.SingleKey)
        {
            ref int link = ref _exact.Head(target->Hash);
            while (link != index)
            {
                link = ref _targets[link]->NextSameHash;
            }

            link = target->NextSameHash;
            _exactCount--;
        }
        else
        {
            _root = Delete(_root, index, 0);
        }

        NativeMemory.Free(target->Bytes);
        _targets.Remove(index);
        if (_exactCount == 0)
        {
            _exact.Free();
        }
    }

    /// <summary>The target of exactly this key; 0 if nobody watches it.</summary>
    public int Find(ReadOnlySpan<byte> key)
    {
        return _exactCount == 0 ? 0 : Find(key, out _);
    }

    /// <summary>Adds the ranges that contain a key.</summary>
    public void Stab(ReadOnlySpan<byte> key, ref Scratch<int> found)
    {
        if (_root != 0)
        {
            Stab(_root, key, ref found);
        }
    }

    public void Dispose()
    {
        FreeKeys(_root);
        for (uint i = 0; i < _exact.Length; i++)
        {
            for (int at = _exact.Head(i); at != 0; at = _targets[at]->NextSameHash)
            {
                NativeMemory.Free(_targets[at]->Bytes);
            }
        }

        _exact.Free();
        _targets.Dispose();
    }

    private int Find(ReadOnlySpan<byte> key, out uint hash)
    {
        hash = Hash(key);
        if (_exactCount == 0)
        {
            return 0;
        }

        for (int at = _exact.Head(hash); at != 0;)
        {
            WatchTarget* target = _targets[at];
            if (target->Hash == hash && target->Key.SequenceEqual(key))
            {
                return at;
            }

            at = target->NextSameHash;
        }

        return 0;
    }

    private int AddExact(ReadOnlySpan<byte> key, uint hash)
    {
        int wanted = _exact.Wanted(_exactCount + 1);
        if (wanted != _exact.Length)
        {
            Rehash(wanted);
        }

        int made = Make(key, default, WatchTarget.SingleKey);
        WatchTarget* target = _targets[made];
        target->Hash = hash;
        ref int head = ref _exact.Head(hash);
        target->NextSameHash = head;
        head = made;
        _exactCount++;
        return made;
    }

    private void Rehash(int length)
    {
        ChainTable old = _exact;
        _exact = default;
        _exact.Resize(length);
        for (uint i = 0; i < old.Length; i++)
        {
            for (int at = old.Head(i); at != 0;)
            {
                WatchTarget* target = _targets[at];
                int next = target->NextSameHash;
                ref int head = ref _exact.Head(target->Hash);
                target->NextSameHash = head;
                head = at;
                at = next;
            }
        }

        old.Free();
    }

    private int Make(ReadOnlySpan<byte> key, ReadOnlySpan<byte> end, int endLength)
    {
        int made = _targets.Add();
        WatchTarget* target = _targets[made];
        target->KeyLength = key.Length;
        target->EndLength = endLength;
        target->Bytes = (byte*)NativeMemory.Alloc((nuint)(key.Length + end.Length));
        key.CopyTo(new Span<byte>(target->Bytes, key.Length));
        end.CopyTo(new Span<byte>(target->Bytes + key.Length, end.Length));
        return made;
    }

    private void Stab(int at, ReadOnlySpan<byte> key, ref Scratch<int> found)
    {
        while (at != 0)
        {
            WatchTarget* target = _targets[at];
            if (!_targets[target->MaxEnd]->EndsAfter(key))
            {
                return;
            }

            if (target->Left != 0)
            {
                Stab(target->Left, key, ref found);
            }

            if (target->Key.SequenceCompareTo(key) > 0)
            {
                return; // this one and all to its right start behind the key
            }

            if (target->EndsAfter(key))
            {
                found.Add(at);
            }

            at = target->Right;
        }
    }

    private int Compare(ReadOnlySpan<byte> key, ReadOnlySpan<byte> end, int endLength, int at)
    {
        WatchTarget* target = _targets[at];
        int order = key.SequenceCompareTo(target->Key);
        if (order != 0)
        {
            return order;
        }

        bool open = endLength == WatchTarget.OpenEnd;
        bool otherOpen = target->EndLength == WatchTarget.OpenEnd;
        return open || otherOpen ? open.CompareTo(otherOpen) : end.SequenceCompareTo(target->End);
    }

    private int CompareNodes(int left, int right)
    {
        WatchTarget* target = _targets[left];
        return Compare(target->Key, target->End, target->EndLength, right);
    }

    // The depth of a treap is logarithmic with overwhelming probability; the check stops a broken one.
    private int Insert(int at, int node, int depth)
    {
        Invariant.Check(depth < 256, "the tree of watched ranges is balanced");
        if (at == 0)
        {
            return node;
        }

        WatchTarget* target = _targets[at];
        if (CompareNodes(node, at) < 0)
        {
            int child = Insert(target->Left, node, depth + 1);
            target->Left = child;
            if (_targets[child]->Priority > target->Priority)
            {
                target->Left = _targets[child]->Right;
                _targets[child]->Right = at;
                Update(at);
                at = child;
            }
        }
        else
        {
            int child = Insert(target->Right, node, depth + 1);
            target->Right = child;
            if (_targets[child]->Priority > target->Priority)
            {
                target->Right = _targets[child]->Left;
                _targets[child]->Left = at;
                Update(at);
                at = child;
            }
        }

        Update(at);
        return at;
    }

    private int Delete(int at, int node, int depth)
    {
        Invariant.Check(depth < 256 && at != 0, "a watched range is in the tree");
        WatchTarget* target = _targets[at];
        if (at == node)
        {
            return Merge(target->Left, target->Right);
        }

        if (CompareNodes(node, at) < 0)
        {
            target->Left = Delete(target->Left, node, depth + 1);
        }
        else
        {
            target->Right = Delete(target->Right, node, depth + 1);
        }

        Update(at);
        return at;
    }

    private int Merge(int left, int right)
    {
        if (left == 0 || right == 0)
        {
            return left | right;
        }

        if (_targets[left]->Priority > _targets[right]->Priority)
        {
            _targets[left]->Right = Merge(_targets[left]->Right, right);
            Update(left);
            return left;
        }

        _targets[right]->Left = Merge(left, _targets[right]->Left);
        Update(right);
        return right;
    }

    private void Update(int at)
    {
        WatchTarget* target = _targets[at];
        int largest = at;
        if (target->Left != 0 && EndsLater(_targets[target->Left]->MaxEnd, largest))
        {
            largest = _targets[target->Left]->MaxEnd;
        }

        if (target->Right != 0 && EndsLater(_targets[target->Right]->MaxEnd, largest))
        {
            largest = _targets[target->Right]->MaxEnd;
        }

        target->MaxEnd = largest;
    }

    private bool EndsLater(int left, int right)
    {
        WatchTarget* other = _targets[right];
        return other->EndLength != WatchTarget.OpenEnd
            && (_targets[left]->EndLength == WatchTarget.OpenEnd || _targets[left]->End.SequenceCompareTo(other->End) > 0);
    }

    private void FreeKeys(int at)
    {
        while (at != 0)
        {
            FreeKeys(_targets[at]->Left);
            NativeMemory.Free(_targets[at]->Bytes);
            at = _targets[at]->Right;
        }
    }

    private uint NextRandom()
    {
        _random ^= _random << 13;
        _random ^= _random >> 7;
        _random ^= _random << 17;
        return (uint)(_random >> 32);
    }

    // Multiply and fold, eight bytes at a time, with a secret start.
    private uint Hash(ReadOnlySpan<byte> key)
    {
        ulong state = seed ^ ((ulong)key.Length * 0x9E3779B97F4A7C15);
        while (key.Length >= 8)
        {
            state = Fold(state ^ BinaryPrimitives.ReadUInt64LittleEndian(key));
            key = key[8..];
        }

        ulong rest = 0;
        for (int i = 0; i < key.Length; i++)
        {
            rest |= (ulong)key[i] << (8 * i);
        }

        state = Fold(state ^ rest ^ 0xA0761D6478BD642F);
        return (uint)(state ^ (state >> 32));

        static ulong Fold(ulong value)
        {
            ulong high = Math.BigMul(value, 0xE7037ED1A0B428DBUL, out ulong low);
            return high ^ low;
        }
    }
}
