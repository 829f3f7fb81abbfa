// View: what a read sees: a revision, and where the values of every revision up to it are.
using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Btree;

namespace Cairn.Core.Mvcc;

/// <summary>
/// What a read may cost on a thread that serves other clients as well. A unit is about 100 ns, so the whole is well under a
/// millisecond; a read that turns out larger is done again by a thread for long reads, which costs it at most this much more.
/// </summary>
internal static class ReadBudget
{
    /// <summary>Units of one request.</summary>
    public const int Units = 4096;

    /// <summary>A key looked at in the index.</summary>
    public const int Key = 1;

    /// <summary>A stored pair looked up, and copied.</summary>
    public static int Pair(int bytes) => 4 + (bytes >> 8);
}

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

    /// <summary>
    /// What a reader on a thread that serves others may still do (<see cref="ReadBudget"/>); null: as much as it takes.
    /// </summary>
    public unsafe int* Work;

    /// <summary>Counts work. False: this is not a read for this thread.</summary>
    public readonly unsafe bool TrySpend(int units) => Work == null || (*Work -= units) >= 0;

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
