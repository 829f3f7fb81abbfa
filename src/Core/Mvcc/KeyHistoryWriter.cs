// KeyHistoryWriter: the writing half of a key's revisions: append, restore, compact.
//
// Thread     store. Readers may be looking at the same record; see KeyRecord.cs for what they rely on.
using System;
using System.Threading;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>Changes histories; memory comes from the arena and goes through the reclaimer.</summary>
internal readonly unsafe struct KeyHistoryWriter
{
    private readonly NativeArena _arena;
    private readonly Reclaimer _reclaimer;

    public KeyHistoryWriter(NativeArena arena, Reclaimer reclaimer)
    {
        _arena = arena;
        _reclaimer = reclaimer;
    }

    /// <summary>Packs sub and flags as they are stored.</summary>
    public static uint Pack(int sub, bool tombstone, bool leased)
    {
        Invariant.Check((uint)sub < 1u << 30, "a transaction has fewer than 2^30 changes");
        return ((uint)sub << HistoryEntry.SubShift)
            | (tombstone ? HistoryEntry.Tombstone : 0)
            | (leased ? HistoryEntry.Leased : 0);
    }

    /// <summary>A record whose history is one put that created the key. Not yet reachable by anybody.</summary>
    public KeyRecord* NewRecord(ReadOnlySpan<byte> key, long main, uint subFlags)
    {
        KeyRecord* record = (KeyRecord*)_arena.Allocate(checked(KeyRecord.HeaderBytes + key.Length));
        record->Head = null;
        record->InlineMain = main;
        record->InlineSubFlags = subFlags;
        record->KeyLength = key.Length;
        key.CopyTo(new Span<byte>(KeyRecord.KeyPointer(record), key.Length));
        return record;
    }

    /// <summary>A record read back from the file, whose first known revision may be a later version or a tombstone.</summary>
    public KeyRecord* RestoreRecord(ReadOnlySpan<byte> key, long main, uint subFlags, long created, long version)
    {
        KeyRecord* record = NewRecord(key, main, subFlags);
        if (created != main || version != 1 || (subFlags & HistoryEntry.Tombstone) != 0)
        {
            record->Head = NewBlock(null, created, version, 1, main, subFlags);
        }

        return record;
    }

    /// <summary>Appends a put; it opens a new generation after a tombstone.</summary>
    public void AppendPut(KeyRecord* record, long main, uint subFlags)
    {
        HistoryBlock* head = EnsureBlock(record, out HistoryEntry newest);
        if (newest.IsTombstone)
        {
            HistoryBlock* generation = NewBlock(head, main, 1, 1, main, subFlags);
            Volatile.Write(ref *(nint*)&record->Head, (nint)generation);
            return;
        }

        Append(record, head, main, subFlags);
    }

    /// <summary>Appends a tombstone; it closes the generation. The key must be live.</summary>
    public void AppendTombstone(KeyRecord* record, long main, int sub)
    {
        HistoryBlock* head = EnsureBlock(record, out HistoryEntry newest);
        Invariant.Check(!newest.IsTombstone, "only a live key is deleted");
        Append(record, head, main, Pack(sub, tombstone: true, leased: false));
    }

    /// <summary>Drops what a compaction at <paramref name="compactMain"/> does not keep.</summary>
    /// <returns>False if nothing is left: the caller unlinks and retires the record.</returns>
    /// <remarks>Only after every reader that may ask below the compaction has gone.</remarks>
    public bool Compact(KeyRecord* record, long compactMain)
    {
        HistoryBlock* block = record->Head;
        if (block == null)
        {
            return true; // one put: it is the newest at or below the compaction, or above it
        }

        HistoryBlock* newer = null;
        while (HistoryBlock.Entries(block)[0].Main > compactMain)
        {
            newer = block;
            block = block->Older;
            if (block == null)
            {
                return true; // everything is above the compaction
            }
        }

        // This block holds the newest revision at or below: older blocks go, and so do the entries before it.
        DropChain(block);
        HistoryEntry* entries = HistoryBlock.Entries(block);
        int keep = block->Count - 1;
        while (entries[keep].Main > compactMain)
        {
            keep--;
        }

        bool drop = entries[keep].IsTombstone && entries[keep].Main < compactMain;
        if (drop)
        {
            // A tombstone closes its generation, so it is the last of its block.
            if (newer == null)
            {
                // The block stays with the record until that is retired: a reader on its way must find the
                // tombstone, not the inline revision that a null Head stands for.
                return false;
            }

            Volatile.Write(ref *(nint*)&newer->Older, 0);
            Retire(block);
            return true;
        }

        // Trimming copies the block: worth it once at least half of it is dead, which also bounds its growth.
        if (keep < block->Count - keep)
        {
            return true;
        }

        HistoryBlock* trimmed = Copy(block, keep, block->Count - keep);
        if (newer == null)
        {
            Volatile.Write(ref *(nint*)&record->Head, (nint)trimmed);
        }
        else
        {
            Volatile.Write(ref *(nint*)&newer->Older, (nint)trimmed);
        }

        Retire(block);
        return true;
    }

    /// <summary>Retires a record that nothing links to any more, with its history.</summary>
    public void RetireRecord(KeyRecord* record)
    {
        HistoryBlock* block = record->Head;
        while (block != null)
        {
            HistoryBlock* older = block->Older;
            Retire(block);
            block = older;
        }

        _reclaimer.Retire(record, KeyRecord.Bytes(record));
    }

    private HistoryBlock* EnsureBlock(KeyRecord* record, out HistoryEntry newest)
    {
        HistoryBlock* head = record->Head;
        if (head == null)
        {
            // Room for two: the inline revision and the one that is about to follow.
            head = NewBlock(null, record->InlineMain, 1, 2, record->InlineMain, record->InlineSubFlags);
            Volatile.Write(ref *(nint*)&record->Head, (nint)head);
        }

        newest = HistoryBlock.Entries(head)[head->Count - 1];
        return head;
    }

    private void Append(KeyRecord* record, HistoryBlock* head, long main, uint subFlags)
    {
        if (head->Count < head->Capacity)
        {
            HistoryEntry* entry = HistoryBlock.Entries(head) + head->Count;
            entry->Main = main;
            entry->SubFlags = subFlags;
            Volatile.Write(ref head->Count, head->Count + 1);
            return;
        }

        if (head->Capacity >= HistoryBlock.CapacityMax)
        {
            HistoryBlock* next = NewBlock(head, head->Created, head->FirstVersion + head->Count, 8, main, subFlags);
            Volatile.Write(ref *(nint*)&record->Head, (nint)next);
            return;
        }

        HistoryBlock* bigger = Copy(head, 0, Math.Min(head->Capacity * 2, HistoryBlock.CapacityMax));
        HistoryEntry* last = HistoryBlock.Entries(bigger) + bigger->Count;
        last->Main = main;
        last->SubFlags = subFlags;
        bigger->Count++;
        Volatile.Write(ref *(nint*)&record->Head, (nint)bigger);
        Retire(head);
    }

    private HistoryBlock* NewBlock(HistoryBlock* older, long created, long version, int capacity, long main, uint subFlags)
    {
        HistoryBlock* block = (HistoryBlock*)_arena.Allocate(HistoryBlock.Bytes(capacity));
        block->Older = older;
        block->Created = created;
        block->FirstVersion = version;
        block->Count = 1;
        block->Capacity = capacity;
        HistoryEntry* entry = HistoryBlock.Entries(block);
        entry->Main = main;
        entry->SubFlags = subFlags;
        return block;
    }

    private HistoryBlock* Copy(HistoryBlock* source, int skip, int capacity)
    {
        int count = source->Count - skip;
        HistoryBlock* copy = (HistoryBlock*)_arena.Allocate(HistoryBlock.Bytes(capacity));
        copy->Older = source->Older;
        copy->Created = source->Created;
        copy->FirstVersion = source->FirstVersion + skip;
        copy->Count = count;
        copy->Capacity = capacity;
        new ReadOnlySpan<byte>(HistoryBlock.Entries(source) + skip, count * HistoryBlock.EntryBytes)
            .CopyTo(new Span<byte>(HistoryBlock.Entries(copy), capacity * HistoryBlock.EntryBytes));
        return copy;
    }

    private void DropChain(HistoryBlock* block)
    {
        HistoryBlock* dead = block->Older;
        if (dead == null)
        {
            return;
        }

        Volatile.Write(ref *(nint*)&block->Older, 0);
        while (dead != null)
        {
            HistoryBlock* older = dead->Older;
            Retire(dead);
            dead = older;
        }
    }

    private void Retire(HistoryBlock* block) => _reclaimer.Retire(block, HistoryBlock.Bytes(block->Capacity));
}
