// View: what a read sees: a revision, and where the values of every revision up to it are.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

/// <summary>One state of the store. A value; what it names lives as long as the pin it was taken with.</summary>
internal struct View
{
    /// <summary>Current revision.</summary>
    public long Revision;

    /// <summary>Last accepted compaction; -1 before any.</summary>
    public long CompactRevision;

    /// <summary>Holds revisions from its FirstMain on.</summary>
    public WriteBuffer Active;

    /// <summary>How many changes of bucket <c>key</c> in Active belong to this View.</summary>
    public long ActiveRevisions;

    /// <summary>Holds revisions from its FirstMain to before Active's; null when the pages have them.</summary>
    public WriteBuffer? Frozen;

    /// <summary>The pages of bucket <c>key</c>, pinned.</summary>
    public BucketReader Pages;

    /// <summary>
    /// The reader must not wait for the disk: <see cref="Value"/> gives an empty span, which no stored pair is, where
    /// it would have to.
    /// </summary>
    public bool NeverWaits;

    /// <summary>The stored KeyValue of a revision that exists in this View. Valid while pinned.</summary>
    public readonly unsafe ReadOnlySpan<byte> Value(long main, int sub)
    {
        Change* change;
        if (main >= Active.FirstMain)
        {
            change = Active.Find(main, sub);
        }
        else if (Frozen is not null && main >= Frozen.FirstMain)
        {
            change = Frozen.Find(main, sub);
        }
        else
        {
            return PagedValue(main, sub);
        }

        return new ReadOnlySpan<byte>(Change.Value(change), change->ValueLength);
    }

    [SkipLocalsInit]
    private readonly unsafe ReadOnlySpan<byte> PagedValue(long main, int sub)
    {
        Span<byte> key = stackalloc byte[RevisionKey.TombstoneSize];
        int length = RevisionKey.Write(key, main, sub, tombstone: false);
        bool isCold = false;
        bool found = NeverWaits
            ? Pages.TryGetNow(key[..length], out ReadOnlySpan<byte> value, out isCold)
            : Pages.TryGet(key[..length], out value);
        Invariant.Check(found | isCold, "a revision in the index has its value in the tree");
        return new ReadOnlySpan<byte>(Pointer(value), value.Length); // mapped memory, not the key above
    }

    /// <summary>Native bytes as a pointer. The memory is mapped or allocated natively, so it does not move.</summary>
    public static unsafe byte* Pointer(ReadOnlySpan<byte> native) => (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(native));
}
