// LeaseTable: id -> slot of every lease, in native memory, one writer and any number of readers.
//
// Why        A keep-alive must cost no thread change: whoever has read it from a connection finds the lease here and moves
//            its deadline with one compare-and-swap. And a million leases must be nothing to the collector.
// Thread     Written by the raft thread. Find and what is behind it may be called by any thread.
// Readers    Slots and chain arrays are never freed while the table lives, only used again, so a reader cannot touch
//            freed memory; arrays that a growth has replaced are kept (together smaller than the present one). A
//            reader that finds nothing looks whether the writer has unlinked or moved anything meanwhile, and if so
//            looks again; one that finds something proves it by the generation in the word it swaps.
// The word   generation (18 bits) | deadline (46 bits, ms since the clock's origin). The generation changes whenever a slot
//            begins or ends a life, so a swap meant for an earlier lease in the same slot fails.
// Failure    Out of memory throws; nothing else fails.
using System;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Leases;

/// <summary>One lease as the clock sees it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LeaseSlot
{
    /// <summary>0 while free.</summary>
    public long Id;

    /// <summary>Generation and deadline; see <see cref="LeaseTable"/>.</summary>
    public long Word;

    /// <summary>Granted seconds.</summary>
    public long TtlSeconds;

    /// <summary>Seconds left as of the last checkpoint; 0 = none.</summary>
    public long RemainingSeconds;

    /// <summary>When the next checkpoint is due, ms; <see cref="LeaseTable.Never"/> = none. Writer only.</summary>
    public long CheckpointAtMs;

    /// <summary>Next slot of the chain, or of the free list.</summary>
    public int Next;

    /// <summary>Position in the writer's heap; meaningless while there is none.</summary>
    public int HeapPosition;
}

/// <summary>The hash table; see the file header for who may call what.</summary>
internal sealed unsafe class LeaseTable
{
    /// <summary>No slot.</summary>
    public const int None = -1;

    /// <summary>A deadline that does not come.</summary>
    public const long Never = DeadlineMask;

    /// <summary>The deadline has passed and the revoke is under way: no renewal any more.</summary>
    public const long Expiring = DeadlineMask - 1;

    /// <summary>Largest real deadline: more than two thousand years.</summary>
    public const long LastDeadline = DeadlineMask - 2;

    private const int DeadlineBits = 46;
    private const long DeadlineMask = (1L << DeadlineBits) - 1;
    private const int ChunkShift = 12;
    private const int ChunkSlots = 1 << ChunkShift;
    private const int ChunksMax = 1 << 15;
    private const int FindSpins = 6;
    private const int StepsMax = 4096; // a chain is a few long; a reader led astray must not run for ever

    private readonly ulong _seed;
    private readonly LeaseSlot** _chunks;
    private readonly System.Collections.Generic.List<nint> _retired = [];
    private nint _chains; // Chains*
    private long _changes; // odd while the writer unlinks or moves
    private int _used;
    private int _free = None;

    /// <param name="seed">Random, so that nobody can choose ids that fall into one chain.</param>
    public LeaseTable(ulong seed)
    {
        _seed = seed;
        _chunks = (LeaseSlot**)NativeMemory.AllocZeroed(ChunksMax, (nuint)sizeof(nint));
        _chains = (nint)NewChains(1024);
    }

    ~LeaseTable()
    {
        for (int chunk = 0; chunk << ChunkShift < _used; chunk++)
        {
            NativeMemory.Free(_chunks[chunk]);
        }

        foreach (nint retired in _retired)
        {
            NativeMemory.Free((void*)retired);
        }

        NativeMemory.Free((void*)_chains);
        NativeMemory.Free(_chunks);
    }

    /// <summary>Leases in the table. Exact for the writer.</summary>
    public int Count { get; private set; }

    /// <summary>Slots that have been in use at some time: [0, Used). Grows only.</summary>
    public int Used => Volatile.Read(ref _used);

    /// <summary>The deadline in a word, ms.</summary>
    public static long Deadline(long word) => word & DeadlineMask;

    /// <summary>The same word with another deadline.</summary>
    public static long With(long word, long deadlineMs) => (word & ~DeadlineMask) | deadlineMs;

    /// <summary>A slot in use now or earlier; never freed.</summary>
    public LeaseSlot* At(int slot) => _chunks[slot >> ChunkShift] + (slot & (ChunkSlots - 1));

    /// <summary>
    /// The slot of a lease, or <see cref="None"/>. Any thread; for others than the writer the slot may end its life at
    /// any time.
    /// </summary>
    public int Find(long id)
    {
        for (int attempt = 0; ; attempt++)
        {
            long changes = Volatile.Read(ref _changes);
            var chains = (Chains*)Volatile.Read(ref _chains);
            int slot = Volatile.Read(ref *Head(chains, id));
            int steps = 0;
            while (slot != None && steps++ < StepsMax)
            {
                LeaseSlot* at = At(slot);
                if (Volatile.Read(ref at->Id) == id)
                {
                    return slot;
                }

                slot = Volatile.Read(ref at->Next);
            }

            if ((changes & 1) == 0 && Volatile.Read(ref _changes) == changes)
            {
                return None;
            }

            // The writer is at work: for well under a microsecond, but for a growth, or when it has lost its core.
            if (attempt < FindSpins)
            {
                Thread.SpinWait(4 << attempt);
            }
            else
            {
                _ = Thread.Yield();
            }
        }
    }

    /// <summary>Writer: adds a lease that is not there.</summary>
    public int Add(long id, long ttlSeconds, long remainingSeconds, long deadlineMs)
    {
        if ((uint)Count > ((Chains*)_chains)->Mask)
        {
            Grow();
        }

        int slot = TakeSlot();
        LeaseSlot* at = At(slot);
        at->TtlSeconds = ttlSeconds;
        at->RemainingSeconds = remainingSeconds;
        at->CheckpointAtMs = Never;
        at->HeapPosition = None;
        Volatile.Write(ref at->Word, With(at->Word, deadlineMs));
        int* head = Head((Chains*)_chains, id);
        Volatile.Write(ref at->Next, *head);
        Volatile.Write(ref at->Id, id);
        Volatile.Write(ref *head, slot);
        Count++;
        return slot;
    }

    /// <summary>Writer: takes a lease out; its slot may be used again at once.</summary>
    public void Remove(int slot)
    {
        LeaseSlot* at = At(slot);
        int* link = Head((Chains*)_chains, at->Id);
        while (*link != slot)
        {
            Invariant.Check(*link != None, "a lease is in its hash chain");
            link = &At(*link)->Next;
        }

        // A new generation first: from here on no renewal of the old lease succeeds.
        Volatile.Write(ref at->Word, NextGeneration(at->Word));
        Interlocked.Increment(ref _changes);
        Volatile.Write(ref *link, at->Next);
        Volatile.Write(ref at->Id, 0);
        at->Next = _free;
        Interlocked.Increment(ref _changes);
        _free = slot;
        Count--;
    }

    private static long NextGeneration(long word) => unchecked((word & ~DeadlineMask) + (1L << DeadlineBits)) | Never;

    private static Chains* NewChains(int length)
    {
        var chains = (Chains*)NativeMemory.Alloc((nuint)sizeof(Chains) + ((nuint)length * sizeof(int)));
        chains->Mask = (uint)length - 1;
        chains->Heads = (int*)(chains + 1);
        new Span<int>(chains->Heads, length).Fill(None);
        return chains;
    }

    private int TakeSlot()
    {
        if (_free != None)
        {
            int slot = _free;
            _free = At(slot)->Next;
            return slot;
        }

        int fresh = _used;
        if ((fresh & (ChunkSlots - 1)) == 0)
        {
            int chunk = fresh >> ChunkShift;
            Invariant.Check(chunk < ChunksMax, "there are at most 134 million leases");

            _chunks[chunk] = (LeaseSlot*)NativeMemory.AllocZeroed(ChunkSlots, (nuint)sizeof(LeaseSlot));
        }

        Volatile.Write(ref _used, fresh + 1);
        return fresh;
    }

    private void Grow()
    {
        var old = (Chains*)_chains;
        Chains* chains = NewChains(checked((int)(old->Mask + 1) * 2));
        Interlocked.Increment(ref _changes);
        for (uint i = 0; i <= old->Mask; i++)
        {
            int slot = old->Heads[i];
            while (slot != None)
            {
                LeaseSlot* at = At(slot);
                int next = at->Next;
                int* head = Head(chains, at->Id);
                Volatile.Write(ref at->Next, *head);
                *head = slot;
                slot = next;
            }
        }

        _retired.Add((nint)old);
        Volatile.Write(ref _chains, (nint)chains);
        Interlocked.Increment(ref _changes);
    }

    private int* Head(Chains* chains, long id) => chains->Heads + (Hash(id) & chains->Mask);

    private uint Hash(long id)
    {
        ulong high = Math.BigMul((ulong)id ^ _seed, 0x9E3779B97F4A7C15, out ulong low);
        ulong mixed = (high ^ low) + _seed;
        return (uint)(mixed ^ BitOperations.RotateRight(mixed, 29));
    }

    /// <summary>In one block with the heads of 2^n chains.</summary>
    private struct Chains
    {
        public int* Heads;
        public uint Mask;
    }
}
