// RevisionKey: the key of bucket `key` in the file: main int64 BE, '_', sub int64 BE, and 't' for a tombstone.
using System;
using System.Buffers.Binary;

namespace Cairn.Core.Mvcc;

/// <summary>Reads and writes revisions as the file holds them (storage.md §2).</summary>
internal static class RevisionKey
{
    /// <summary>Bytes of a revision; also its form in the meta bucket.</summary>
    public const int Size = 17;

    /// <summary>Bytes of a tombstone's key.</summary>
    public const int TombstoneSize = 18;

    private const byte Separator = (byte)'_';
    private const byte TombstoneMark = (byte)'t';

    /// <summary>Writes 17 or 18 bytes and returns how many.</summary>
    public static int Write(Span<byte> target, long main, long sub, bool tombstone)
    {
        BinaryPrimitives.WriteInt64BigEndian(target, main);
        target[8] = Separator;
        BinaryPrimitives.WriteInt64BigEndian(target[9..], sub);
        if (!tombstone)
        {
            return Size;
        }

        target[17] = TombstoneMark;
        return TombstoneSize;
    }

    /// <summary>False if the bytes are not a revision.</summary>
    public static bool TryRead(ReadOnlySpan<byte> key, out long main, out long sub, out bool tombstone)
    {
        main = 0;
        sub = 0;
        tombstone = key.Length == TombstoneSize;
        if ((key.Length != Size && !tombstone) || key[8] != Separator || (tombstone && key[17] != TombstoneMark))
        {
            return false;
        }

        main = BinaryPrimitives.ReadInt64BigEndian(key);
        sub = BinaryPrimitives.ReadInt64BigEndian(key[9..]);
        return true;
    }
}
