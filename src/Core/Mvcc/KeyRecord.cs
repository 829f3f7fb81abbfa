// KeyRecord, HistoryBlock: one key and its revisions, in native memory.
//
// Layout     KeyRecord: 24 bytes, then the key. Most keys were put once: that revision stands inline, and Head is
//            null. The second change moves the history into blocks: newest block first, each block holds revisions
//            of one generation in ascending order (a generation is the puts up to and including a tombstone).
// Threads    One writer (store), many readers. A revision becomes visible by a release-store of Count or Head;
//            what a reader has seen never changes under it. Readers skip revisions above their own. A replaced
//            block is retired, not freed. Compaction cuts the chain (Older = null) only after every reader that
//            may ask below the compaction has gone (storage.md §6.3, design §3).
// Source     The generation rules are etcd's (behaviour.md §2.4, storage.md §2, §6.2, §6.3).
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>One key. The key's bytes follow the struct.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8)]
internal unsafe struct KeyRecord
{
    /// <summary>Newest history block; null while the inline revision is all there is.</summary>
    public HistoryBlock* Head;

    /// <summary>Main revision of the first put: created here, version 1. Meaningful while Head is null.</summary>
    public long InlineMain;

    public uint InlineSubFlags;

    public int KeyLength;

    public const int HeaderBytes = 24;

    /// <summary>The key; valid while a View is pinned that could reach the record.</summary>
    public static ReadOnlySpan<byte> Key(KeyRecord* record) => new((byte*)record + HeaderBytes, record->KeyLength);

    public static byte* KeyPointer(KeyRecord* record) => (byte*)record + HeaderBytes;

    public static int Bytes(KeyRecord* record) => HeaderBytes + record->KeyLength;
}

/// <summary>One revision: main, and sub with flags.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal struct HistoryEntry
{
    public const uint Tombstone = 1;
    public const uint Leased = 2;
    public const int SubShift = 2;

    public long Main;
    public uint SubFlags;

    public readonly int Sub => (int)(SubFlags >> SubShift);

    public readonly bool IsTombstone => (SubFlags & Tombstone) != 0;
}

/// <summary>Revisions of one generation; the entries follow the struct.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8)]
internal unsafe struct HistoryBlock
{
    public const int HeaderBytes = 32;
    public const int EntryBytes = 12;

    /// <summary>A block does not grow beyond this; the next one is chained before it instead.</summary>
    public const int CapacityMax = 512;

    /// <summary>The block with older revisions, of this or an earlier generation; null at the end.</summary>
    public HistoryBlock* Older;

    /// <summary>create_revision of the generation.</summary>
    public long Created;

    /// <summary>Version of the first entry.</summary>
    public long FirstVersion;

    public int Count;

    public int Capacity;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static HistoryEntry* Entries(HistoryBlock* block) => (HistoryEntry*)((byte*)block + HeaderBytes);

    public static int Bytes(int capacity) => HeaderBytes + capacity * EntryBytes;
}

/// <summary>One revision of a key, as a reader wants to know it.</summary>
internal struct KeyState
{
    /// <summary>mod_revision.</summary>
    public long Main;

    /// <summary>create_revision of its generation.</summary>
    public long Created;

    /// <summary>Version within its generation; meaningless for a tombstone.</summary>
    public long Version;

    public uint SubFlags;

    public readonly int Sub => (int)(SubFlags >> HistoryEntry.SubShift);

    public readonly bool IsTombstone => (SubFlags & HistoryEntry.Tombstone) != 0;

    public readonly bool IsLeased => (SubFlags & HistoryEntry.Leased) != 0;
}

/// <summary>Reading one key's revisions. Any thread that has a View pinned.</summary>
internal static unsafe class KeyHistory
{
    /// <summary>The newest revision with main at or below <paramref name="main"/>, tombstones included.</summary>
    public static bool TryGet(KeyRecord* record, long main, out KeyState state)
    {
        HistoryBlock* block = (HistoryBlock*)Volatile.Read(ref *(nint*)&record->Head);
        if (block == null)
        {
            state.Main = record->InlineMain;
            state.Created = record->InlineMain;
            state.Version = 1;
            state.SubFlags = record->InlineSubFlags;
            return record->InlineMain <= main;
        }

        do
        {
            int count = Volatile.Read(ref block->Count);
            HistoryEntry* entries = HistoryBlock.Entries(block);
            if (count > 0 && entries[0].Main <= main)
            {
                int i = count - 1;
                if (entries[i].Main > main)
                {
                    i = LastAtOrBelow(entries, count, main);
                }

                state.Main = entries[i].Main;
                state.SubFlags = entries[i].SubFlags;
                state.Created = block->Created;
                state.Version = block->FirstVersion + i;
                return true;
            }

            block = (HistoryBlock*)Volatile.Read(ref *(nint*)&block->Older);
        }
        while (block != null);

        state = default;
        return false;
    }

    /// <summary>The same, if the key exists at that revision (its newest revision there is a put).</summary>
    public static bool TryGetLive(KeyRecord* record, long main, out KeyState state) =>
        TryGet(record, main, out state) && !state.IsTombstone;

    /// <summary>Whether a compaction at <paramref name="compactMain"/> keeps this very revision (storage.md §6.3).</summary>
    public static bool KeptByCompaction(KeyRecord* record, long compactMain, long main, int sub) =>
        TryGet(record, compactMain, out KeyState newest)
        && newest.Main == main
        && newest.Sub == sub
        && (!newest.IsTombstone || (newest.Main == compactMain && !Mutations.Is(Mutation.CompactionSwallowsDelete)));

    /// <summary>Whether this revision is in the keep set of a hash at <paramref name="hashMain"/> (storage.md §6.2).</summary>
    public static bool KeptByHash(KeyRecord* record, long hashMain, long main, int sub) =>
        TryGet(record, hashMain, out KeyState newest) && newest.Main == main && newest.Sub == sub && !newest.IsTombstone;

    private static int LastAtOrBelow(HistoryEntry* entries, int count, long main)
    {
        int low = 0; // entries[low].Main <= main
        int high = count - 1; // entries[high].Main > main
        while (high - low > 1)
        {
            int middle = (low + high) >>> 1;
            if (entries[middle].Main <= main)
            {
                low = middle;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }
}
