// WriteBuffer: the changes applied since the last freeze, in order, as they will be written into the tree.
//
// Why        Apply must not wait for the tree. Changes of all ten buckets go into one buffer, so that one tree
//            commit holds a whole number of entries; reads find a revision's value here until the tree has it.
// Layout     chunks of 1 MiB, linked; a change is {op, bucket, key length, value length} + key + value, padded to
//            8 bytes. Every main revision from FirstMain on has its changes here, sub counting 0,1,2…, so two
//            tables find (main, sub) without a search: first change of each main, address of each change.
// Threads    store appends; readers look up what their View covers; the tree actor walks it once frozen. It goes
//            back into use only when no View that names it is pinned any more.
using System;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>What a change does.</summary>
internal enum ChangeKind : byte
{
    Put,
    Delete,

    /// <summary>Empties the bucket.</summary>
    Clear,
}

/// <summary>Header of one change; key and value follow.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Change
{
    public ChangeKind Kind;
    public BucketId Bucket;
    public ushort KeyLength;
    public int ValueLength;

    public static ReadOnlySpan<byte> Key(Change* change) => new((byte*)(change + 1), change->KeyLength);

    public static byte* Value(Change* change) => (byte*)(change + 1) + change->KeyLength;

    public static long Bytes(int keyLength, int valueLength) => (sizeof(Change) + (long)keyLength + valueLength + 7) & ~7L;
}

/// <summary>Header of a chunk; changes follow.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BufferChunk
{
    public BufferChunk* Next;
    public long Capacity;
    public long Used;
    public long Reserved;

    public static byte* Data(BufferChunk* chunk) => (byte*)(chunk + 1);
}

/// <summary>An append-only buffer of changes; reused after retirement.</summary>
internal sealed unsafe class WriteBuffer
{
    private const int ChunkBytes = 1 << 20;
    private const int ChunksKept = 8;
    private PagedTable _firstOfMain; // by main - FirstMain: ordinal of its first change
    private PagedTable _changes; // by ordinal: Change*
    private BufferChunk* _first;
    private BufferChunk* _last;
    private BufferChunk* _spare; // kept chunks of the plain size, linked
    private int _spareCount;

    /// <summary>The buffer's number; a later buffer has a larger one.</summary>
    public long Serial { get; private set; }

    /// <summary>Main revisions at or above this one have their values here (or in a later buffer).</summary>
    public long FirstMain { get; private set; }

    /// <summary>Changes held.</summary>
    public long Ops { get; private set; }

    /// <summary>Bytes of the changes held.</summary>
    public long Bytes { get; private set; }

    /// <summary>First View that named this buffer.</summary>
    public long FirstView { get; set; }

    public BufferChunk* FirstChunk => _first;

    /// <summary>Changes of bucket <c>key</c> held. Store thread, or any once frozen.</summary>
    public long Revisions => _changes.Count;

    /// <summary>Becomes the empty buffer for revisions from <paramref name="firstMain"/> on.</summary>
    public void Reset(long serial, long firstMain)
    {
        Serial = serial;
        FirstMain = firstMain;
        Ops = 0;
        Bytes = 0;
        _firstOfMain.Reset();
        _changes.Reset();
        while (_first != null)
        {
            BufferChunk* next = _first->Next;
            if (_first->Capacity == ChunkBytes && _spareCount < ChunksKept)
            {
                _first->Next = _spare;
                _spare = _first;
                _spareCount++;
            }
            else
            {
                NativeMemory.Free(_first);
            }

            _first = next;
        }

        _last = null;
    }

    /// <summary>Appends a change of bucket <c>key</c>; subs of one main come in order from 0, mains without gaps.</summary>
    /// <returns>Where the caller writes the value's bytes, all of them, before the next View is published.</returns>
    public byte* AppendRevision(long main, int sub, bool tombstone, int valueLength)
    {
        if (sub == 0)
        {
            Invariant.Check(main == FirstMain + _firstOfMain.Count, "revisions are appended without gaps");
            _firstOfMain.Add((ulong)_changes.Count);
        }

        int keyLength = tombstone ? RevisionKey.TombstoneSize : RevisionKey.Size;
        Change* change = Append(ChangeKind.Put, BucketId.Key, keyLength, valueLength);
        _ = RevisionKey.Write(new Span<byte>(change + 1, keyLength), main, sub, tombstone);
        _changes.Add((ulong)change);
        return Change.Value(change);
    }

    /// <summary>Appends a change of another bucket. Both spans are copied.</summary>
    public void Append(ChangeKind kind, BucketId bucket, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        Invariant.Check(key.Length <= 32768, "a bucket's key has at most 32768 bytes");
        Change* change = Append(kind, bucket, key.Length, value.Length);
        key.CopyTo(new Span<byte>(change + 1, key.Length));
        value.CopyTo(new Span<byte>(Change.Value(change), value.Length));
    }

    /// <summary>The change of a revision that a View covers and that is not older than this buffer.</summary>
    public Change* Find(long main, int sub)
    {
        long ordinal = (long)_firstOfMain[main - FirstMain] + sub;
        return (Change*)_changes[ordinal];
    }

    /// <summary>How many changes a main revision has.</summary>
    /// <param name="main">One that the View covers.</param>
    /// <param name="lastMain">The newest one of this buffer that the View covers.</param>
    /// <param name="revisions">Changes of bucket <c>key</c> up to that one.</param>
    public long ChangesOf(long main, long lastMain, long revisions)
    {
        long end = main < lastMain ? (long)_firstOfMain[main + 1 - FirstMain] : revisions;
        return end - (long)_firstOfMain[main - FirstMain];
    }

    public void Free()
    {
        Reset(Serial, FirstMain);
        while (_spare != null)
        {
            BufferChunk* next = _spare->Next;
            NativeMemory.Free(_spare);
            _spare = next;
        }

        _spareCount = 0;
        _firstOfMain.Free();
        _changes.Free();
    }

    private Change* Append(ChangeKind kind, BucketId bucket, int keyLength, int valueLength)
    {
        long bytes = Change.Bytes(keyLength, valueLength);
        if (_last == null || _last->Capacity - _last->Used < bytes)
        {
            AddChunk(bytes);
        }

        Change* change = (Change*)(BufferChunk.Data(_last) + _last->Used);
        _last->Used += bytes;
        Ops++;
        Bytes += bytes;
        change->Kind = kind;
        change->Bucket = bucket;
        change->KeyLength = (ushort)keyLength;
        change->ValueLength = valueLength;
        return change;
    }

    private void AddChunk(long atLeast)
    {
        BufferChunk* chunk;
        if (atLeast <= ChunkBytes && _spare != null)
        {
            chunk = _spare;
            _spare = chunk->Next;
            _spareCount--;
        }
        else
        {
            long capacity = Math.Max(atLeast, ChunkBytes);
            chunk = (BufferChunk*)NativeMemory.Alloc((nuint)(sizeof(BufferChunk) + capacity));
            chunk->Capacity = capacity;
        }

        chunk->Next = null;
        chunk->Used = 0;
        if (_last == null)
        {
            _first = chunk;
        }
        else
        {
            _last->Next = chunk;
        }

        _last = chunk;
    }
}

/// <summary>Walks the changes of a frozen buffer in order.</summary>
internal unsafe struct BufferCursor
{
    private BufferChunk* _chunk;
    private long _offset;

    public BufferCursor(WriteBuffer buffer)
    {
        _chunk = buffer.FirstChunk;
        _offset = 0;
    }

    /// <summary>The next change, or null at the end.</summary>
    public Change* Next()
    {
        while (_chunk != null)
        {
            if (_offset < _chunk->Used)
            {
                Change* change = (Change*)(BufferChunk.Data(_chunk) + _offset);
                _offset += Change.Bytes(change->KeyLength, change->ValueLength);
                return change;
            }

            _chunk = _chunk->Next;
            _offset = 0;
        }

        return null;
    }
}
