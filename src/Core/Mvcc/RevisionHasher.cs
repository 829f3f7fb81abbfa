// RevisionHasher: CRC-32C over revisions, as HashKV and a compaction compute it. Source: storage.md §6.2.
using System;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>Takes the revisions up to one revision in order. A mutable struct.</summary>
internal unsafe struct RevisionHasher
{
    private readonly long _compactRevision;
    private readonly bool _keepsAny;

    /// <param name="revision">Revision that is hashed; the caller adds none above it.</param>
    /// <param name="compactRevision">Revisions at or below it count only if kept.</param>
    /// <param name="keepsAny">False when no key keeps a revision: then that rule is off.</param>
    public RevisionHasher(long revision, long compactRevision, bool keepsAny)
    {
        Revision = revision;
        _compactRevision = compactRevision;
        _keepsAny = keepsAny;
        Value = Crc32C.Compute("key"u8);
    }

    public long Revision { get; }

    public uint Value { get; private set; }

    public readonly long CompactRevision => _compactRevision;

    /// <summary>Whether an entry's place in the keep set matters at all.</summary>
    public readonly bool AsksKeep(long main) => main <= _compactRevision && _keepsAny;

    /// <summary>Adds one entry of the bucket, raw.</summary>
    public void Add(long main, bool tombstone, bool kept, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        if (AsksKeep(main) && !kept)
        {
            return;
        }

        // Older versions delete this tombstone when they compact, newer ones keep it: neither counts it.
        if (tombstone && main == _compactRevision)
        {
            return;
        }

        Value = Crc32C.Append(Crc32C.Append(Value, key), value);
    }

    /// <summary>Whether any key keeps a revision at <paramref name="revision"/>. Under a pin.</summary>
    public static bool KeepsAny(KeyIndex index, long revision, bool forCompaction)
    {
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(default); more; more = cursor.Next())
        {
            if (KeyHistory.TryGet(cursor.Current, revision, out KeyState newest)
                && (!newest.IsTombstone || (forCompaction && newest.Main == revision)))
            {
                return true;
            }
        }

        return false;
    }
}
