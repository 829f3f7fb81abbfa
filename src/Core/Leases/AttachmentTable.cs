// AttachmentTable: which keys hang on which lease, outside the managed heap where it is large.
//
// Why        A cluster may attach millions of keys. Key bytes live in native memory, the nodes in one array of
//            plain structs, so the collector has nothing to walk. A node is found by (lease, key) through a hash
//            table and by lease through a doubly linked list; both are indexes into the array, never pointers.
// Thread     store.
// Invariants Every node is in exactly one hash chain and one lease list, or in the free list (Next only).
// Failure    Out of memory throws; nothing else fails.
using System;
using System.Numerics;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>Pairs of lease slot and key. The owner must call <see cref="Dispose"/>: key bytes are native.</summary>
internal sealed unsafe class AttachmentTable : IDisposable
{
    /// <summary>No node.</summary>
    public const int None = -1;

    private readonly ulong _seed;
    private int[] _chains;
    private Node[] _nodes;
    private int _used;
    private int _free = None;

    /// <param name="seed">Random, so that nobody can choose keys that fall into one chain.</param>
    public AttachmentTable(ulong seed)
    {
        _seed = seed;
        _chains = NewChains(64);
        _nodes = new Node[64];
    }

    /// <summary>Attachments of all leases together.</summary>
    public int Count { get; private set; }

    /// <summary>Adds a pair; false if it was there. <paramref name="head"/> is the lease's list and may move.</summary>
    public bool TryAdd(int lease, ReadOnlySpan<byte> key, ref int head)
    {
        uint hash = Hash(lease, key);
        if (Find(lease, key, hash) != None)
        {
            return false;
        }

        if (Count == _chains.Length)
        {
            GrowChains();
        }

        int index = TakeNode();
        byte* bytes = (byte*)NativeMemory.Alloc((nuint)Math.Max(key.Length, 1));
        key.CopyTo(new Span<byte>(bytes, key.Length));
        ref int chain = ref _chains[hash & (uint)(_chains.Length - 1)];
        ref Node node = ref _nodes[index];
        node = new Node
        {
            Key = bytes,
            Length = key.Length,
            Hash = hash,
            Lease = lease,
            Next = chain,
            ListNext = head,
            ListPrevious = None,
        };
        if (head != None)
        {
            _nodes[head].ListPrevious = index;
        }

        head = index;
        chain = index;
        Count++;
        return true;
    }

    /// <summary>Removes a pair; false if it was not there.</summary>
    public bool Remove(int lease, ReadOnlySpan<byte> key, ref int head)
    {
        int index = Find(lease, key, Hash(lease, key));
        if (index == None)
        {
            return false;
        }

        NativeMemory.Free(Unlink(index, ref head));
        return true;
    }

    /// <summary>Removes every pair of a lease and hands the key bytes to <paramref name="keys"/>.</summary>
    public void Drain(ref int head, LeaseKeySet keys)
    {
        while (head != None)
        {
            int length = _nodes[head].Length;
            keys.Own(Unlink(head, ref head), length);
        }
    }

    /// <summary>Copies the keys of a lease; the table keeps its own.</summary>
    public void Copy(int head, LeaseKeySet keys)
    {
        for (int index = head; index != None; index = _nodes[index].ListNext)
        {
            keys.Add(Key(index));
        }
    }

    /// <summary>The key of a node; valid until the node is removed.</summary>
    public ReadOnlySpan<byte> Key(int index) => new(_nodes[index].Key, _nodes[index].Length);

    /// <summary>The next node of the same lease.</summary>
    public int NextOfLease(int index) => _nodes[index].ListNext;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (int chain in _chains)
        {
            for (int index = chain; index != None; index = _nodes[index].Next)
            {
                NativeMemory.Free(_nodes[index].Key);
            }
        }

        _chains = NewChains(1);
        _nodes = [];
        _used = 0;
        _free = None;
        Count = 0;
    }

    private static int[] NewChains(int length)
    {
        int[] chains = new int[length];
        Array.Fill(chains, None);
        return chains;
    }

    private int Find(int lease, ReadOnlySpan<byte> key, uint hash)
    {
        for (int index = _chains[hash & (uint)(_chains.Length - 1)]; index != None; index = _nodes[index].Next)
        {
            ref Node node = ref _nodes[index];
            if (node.Hash == hash && node.Lease == lease && key.SequenceEqual(Key(index)))
            {
                return index;
            }
        }

        return None;
    }

    private int TakeNode()
    {
        if (_free != None)
        {
            int index = _free;
            _free = _nodes[index].Next;
            return index;
        }

        if (_used == _nodes.Length)
        {
            Array.Resize(ref _nodes, _nodes.Length * 2);
        }

        return _used++;
    }

    /// <summary>Takes a node out of chain and list; the caller owns the returned bytes.</summary>
    private byte* Unlink(int index, ref int head)
    {
        ref Node node = ref _nodes[index];
        ref int link = ref _chains[node.Hash & (uint)(_chains.Length - 1)];
        while (link != index)
        {
            Invariant.Check(link != None, "an attachment is in its hash chain");
            link = ref _nodes[link].Next;
        }

        link = node.Next;
        if (node.ListPrevious == None)
        {
            head = node.ListNext;
        }
        else
        {
            _nodes[node.ListPrevious].ListNext = node.ListNext;
        }

        if (node.ListNext != None)
        {
            _nodes[node.ListNext].ListPrevious = node.ListPrevious;
        }

        byte* key = node.Key;
        node = default;
        node.Next = _free;
        _free = index;
        Count--;
        return key;
    }

    private void GrowChains()
    {
        int[] chains = NewChains(_chains.Length * 2);
        foreach (int chain in _chains)
        {
            int index = chain;
            while (index != None)
            {
                ref Node node = ref _nodes[index];
                int next = node.Next;
                ref int head = ref chains[node.Hash & (uint)(chains.Length - 1)];
                node.Next = head;
                head = index;
                index = next;
            }
        }

        _chains = chains;
    }

    private uint Hash(int lease, ReadOnlySpan<byte> key)
    {
        const ulong Multiplier = 0x9E3779B97F4A7C15;
        ulong state = _seed ^ ((ulong)(uint)lease * Multiplier);
        while (key.Length >= 8)
        {
            state = Mix(state ^ System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(key));
            key = key[8..];
        }

        ulong tail = (ulong)key.Length << 56;
        for (int i = 0; i < key.Length; i++)
        {
            tail |= (ulong)key[i] << (8 * i);
        }

        state = Mix(state ^ tail);
        return (uint)(state ^ (state >> 32));

        ulong Mix(ulong value)
        {
            ulong high = Math.BigMul(value ^ _seed, Multiplier, out ulong low);
            return BitOperations.RotateLeft(high ^ low, 23) + _seed;
        }
    }

    private struct Node
    {
        public byte* Key;
        public int Length;
        public uint Hash;
        public int Lease;
        public int Next;
        public int ListNext;
        public int ListPrevious;
    }
}
