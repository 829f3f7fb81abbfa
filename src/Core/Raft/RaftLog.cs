// RaftLog: the log in memory: a ring of entries with native payloads, and what is known of the rest.
//
// Owner      The core (raft thread). Nobody else reads the ring: entries handed out are copied structs.
// Shape      (0 .. CompactedIndex] gone · (CompactedIndex .. FirstInMemory) only in WAL files · [FirstInMemory ..
//            LastIndex] in the ring. Terms of everything above CompactedIndex are known as runs (first index, term),
//            so a term is never fetched from a file and a conflict search walks terms, not entries.
// Memory     The ring doubles when full (native, no managed allocation) and never shrinks below its first size. A
//            payload is released when its entry leaves the ring, which is never before it is applied and durable; a
//            replaced entry's payload waits until the units that name it are written.
// Invariants Indexes are consecutive, terms never fall; truncation never reaches commit (R10).
using System;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Core.Raft;

/// <summary>Entries of one member, newest part in memory.</summary>
internal sealed unsafe class RaftLog : IDisposable
{
    private const int FirstCapacity = 1024;
    private readonly IPayloadOwner _owner;
    private RaftEntry* _ring;
    private ulong _mask;
    private TermRun[] _runs = new TermRun[16];
    private int _runCount;
    private Retired[] _retired = [];
    private int _retiredCount;

    public RaftLog(IPayloadOwner owner, ulong compactedIndex, ulong compactedTerm)
    {
        _owner = owner;
        _ring = (RaftEntry*)NativeMemory.AllocZeroed(FirstCapacity, (nuint)sizeof(RaftEntry));
        _mask = FirstCapacity - 1;
        CompactedIndex = compactedIndex;
        CompactedTerm = compactedTerm;
        LastIndex = compactedIndex;
        FirstInMemory = compactedIndex + 1;
    }

    /// <summary>Everything up to here is in a snapshot only.</summary>
    public ulong CompactedIndex { get; private set; }

    /// <summary>Term of the entry at <see cref="CompactedIndex"/>.</summary>
    public ulong CompactedTerm { get; private set; }

    /// <summary>Lowest index in the ring; LastIndex + 1 when the ring is empty.</summary>
    public ulong FirstInMemory { get; private set; }

    public ulong LastIndex { get; private set; }

    public ulong LastTerm => _runCount == 0 ? CompactedTerm : _runs[_runCount - 1].Term;

    /// <summary>Payload bytes in the ring.</summary>
    public long MemoryBytes { get; private set; }

    /// <summary>How often a suffix was replaced.</summary>
    public ulong TruncationEpoch { get; private set; }

    /// <summary>Appends one entry; the payload now belongs to the log.</summary>
    public void Append(in RaftEntry entry)
    {
        Invariant.Check(entry.Index == LastIndex + 1, "log indexes are consecutive");
        Invariant.Check(entry.Term >= LastTerm, "log terms never fall");
        if (LastIndex + 1 - FirstInMemory > _mask)
        {
            Grow();
        }

        if (entry.Term != LastTerm || _runCount == 0)
        {
            AddRun(new TermRun(entry.Index, entry.Term));
        }

        _ring[entry.Index & _mask] = entry;
        LastIndex = entry.Index;
        MemoryBytes += entry.Length;
    }

    /// <summary>The entry in the ring; the index must be in memory.</summary>
    public ref readonly RaftEntry At(ulong index)
    {
        Invariant.Check(index >= FirstInMemory && index <= LastIndex, "an index read from the ring is in it");
        return ref _ring[index & _mask];
    }

    /// <summary>Copies consecutive entries, all in memory: at most two pieces of the ring.</summary>
    public void CopyTo(ulong firstIndex, Span<RaftEntry> destination)
    {
        if (destination.IsEmpty)
        {
            return;
        }

        Invariant.Check(
            firstIndex >= FirstInMemory && firstIndex <= LastIndex && LastIndex - firstIndex >= (ulong)destination.Length - 1,
            "entries copied from the ring are in it");
        ulong slot = firstIndex & _mask;
        int head = (int)Math.Min((ulong)destination.Length, _mask + 1 - slot);
        new ReadOnlySpan<RaftEntry>(_ring + slot, head).CopyTo(destination);
        new ReadOnlySpan<RaftEntry>(_ring, destination.Length - head).CopyTo(destination[head..]);
    }

    /// <summary>Where the entry at an index is.</summary>
    public LogAnswer Locate(ulong index) =>
        index > LastIndex ? LogAnswer.Unavailable
        : index <= CompactedIndex ? LogAnswer.Compacted
        : index < FirstInMemory ? LogAnswer.Pending
        : LogAnswer.Ready;

    /// <summary>The term at an index; known from <see cref="CompactedIndex"/> on, never Pending.</summary>
    public LogAnswer TryGetTerm(ulong index, out ulong term)
    {
        term = 0;
        if (index > LastIndex)
        {
            return LogAnswer.Unavailable;
        }

        if (index < CompactedIndex)
        {
            return LogAnswer.Compacted;
        }

        if (index == CompactedIndex)
        {
            term = CompactedTerm;
            return LogAnswer.Ready;
        }

        for (int i = _runCount - 1; i >= 0; i--)
        {
            if (_runs[i].FirstIndex <= index)
            {
                term = _runs[i].Term;
                return LogAnswer.Ready;
            }
        }

        Invariant.Throw("every index above the compacted one has a term");
        return LogAnswer.Unavailable;
    }

    /// <summary>
    /// The highest index at or below <paramref name="index"/> whose term is at most <paramref name="term"/>: the
    /// guess of a conflict search. 0 term when that lies below what is known.
    /// </summary>
    public ulong FindConflictByTerm(ulong index, ulong term, out ulong foundTerm)
    {
        index = Math.Min(index, LastIndex);
        for (int i = _runCount - 1; i >= 0; i--)
        {
            if (_runs[i].FirstIndex > index)
            {
                continue;
            }

            if (_runs[i].Term <= term)
            {
                foundTerm = _runs[i].Term;
                return index;
            }

            index = _runs[i].FirstIndex - 1;
        }

        foundTerm = index == CompactedIndex && CompactedTerm <= term ? CompactedTerm : 0;
        return index;
    }

    /// <summary>
    /// Removes everything from an index on, to be replaced. The payloads are kept until the unit
    /// <paramref name="lastSequence"/> is durable, because the WAL may still be writing them.
    /// </summary>
    public void TruncateFrom(ulong index, ulong commit, ulong lastSequence)
    {
        Invariant.Check(index > commit, "truncation never reaches the commit index (R10)");
        Invariant.Check(index <= LastIndex, "truncation removes something");
        for (ulong i = Math.Max(index, FirstInMemory); i <= LastIndex; i++)
        {
            ref RaftEntry entry = ref _ring[i & _mask];
            MemoryBytes -= entry.Length;
            if (entry.Owner != 0)
            {
                Retire(entry.Owner, lastSequence);
            }

            entry = default;
        }

        LastIndex = index - 1;
        FirstInMemory = Math.Min(FirstInMemory, index);
        while (_runCount > 0 && _runs[_runCount - 1].FirstIndex >= index)
        {
            _runCount--;
        }

        TruncationEpoch++;
    }

    /// <summary>
    /// At a start: entries below the ring are still in WAL files, down to a point. Their terms come as runs.
    /// </summary>
    /// <param name="compactedIndex">The new, lower end.</param>
    /// <param name="compactedTerm">Term of the entry there.</param>
    /// <param name="terms">First index and term of each run above it, ascending, up to the old end.</param>
    public void ExtendDown(ulong compactedIndex, ulong compactedTerm, ReadOnlySpan<(ulong FirstIndex, ulong Term)> terms)
    {
        Invariant.Check(compactedIndex < CompactedIndex, "a log is extended towards its beginning");
        Invariant.Check(terms.Length > 0 && terms[0].FirstIndex == compactedIndex + 1, "terms are known without a gap");
        Invariant.Check(terms[^1].Term == CompactedTerm, "the older part ends in the term the newer one begins behind");
        var runs = new TermRun[terms.Length + _runCount + 16];
        int count = 0;
        foreach ((ulong first, ulong term) in terms)
        {
            runs[count++] = new TermRun(first, term);
        }

        for (int i = 0; i < _runCount; i++)
        {
            if (_runs[i].Term != runs[count - 1].Term)
            {
                runs[count++] = _runs[i];
            }
        }

        (_runs, _runCount) = (runs, count);
        CompactedIndex = compactedIndex;
        CompactedTerm = compactedTerm;
    }

    /// <summary>
    /// Starts over behind an installed snapshot. Payloads wait for <paramref name="lastSequence"/> as in a truncation;
    /// those up to <paramref name="applying"/> are with the store and wait for <see cref="ReleaseApplying"/>.
    /// </summary>
    public void Restore(ulong index, ulong term, ulong lastSequence, ulong applying)
    {
        for (ulong i = FirstInMemory; i <= LastIndex; i++)
        {
            ref RaftEntry entry = ref _ring[i & _mask];
            if (entry.Owner != 0)
            {
                Retire(entry.Owner, i <= applying ? ulong.MaxValue : lastSequence);
            }

            entry = default;
        }

        MemoryBytes = 0;
        _runCount = 0;
        CompactedIndex = index;
        CompactedTerm = term;
        LastIndex = index;
        FirstInMemory = index + 1;
        TruncationEpoch++;
    }

    /// <summary>The store is done with everything that was handed to it before a snapshot took its place.</summary>
    public void ReleaseApplying()
    {
        for (int i = 0; i < _retiredCount; i++)
        {
            if (_retired[i].Sequence == ulong.MaxValue)
            {
                _retired[i] = new Retired(_retired[i].Owner, 0); // its unit was durable before it was handed out
            }
        }

        ReleaseRetired(0);
    }

    /// <summary>Releases replaced payloads whose units are durable.</summary>
    public void ReleaseRetired(ulong durableSequence)
    {
        int kept = 0;
        for (int i = 0; i < _retiredCount; i++)
        {
            if (_retired[i].Sequence <= durableSequence)
            {
                _owner.Release(_retired[i].Owner);
            }
            else
            {
                _retired[kept++] = _retired[i];
            }
        }

        _retiredCount = kept;
    }

    /// <summary>
    /// Lets go of entries up to <paramref name="limit"/> (all applied and durable) as far as more is kept than the
    /// two bounds allow.
    /// </summary>
    public void Trim(ulong limit, long retainBytes, ulong retainEntries)
    {
        while (FirstInMemory <= limit
            && (MemoryBytes > retainBytes || LastIndex + 1 - FirstInMemory > retainEntries))
        {
            DropFirst();
        }
    }

    /// <summary>A snapshot now stands for everything up to an index.</summary>
    public void Compact(ulong index)
    {
        Invariant.Check(index <= LastIndex, "compaction stays within the log");
        if (index <= CompactedIndex)
        {
            return;
        }

        Invariant.Check(TryGetTerm(index, out ulong term) == LogAnswer.Ready, "the term at the compaction point is known");
        while (FirstInMemory <= index)
        {
            DropFirst();
        }

        CompactedIndex = index;
        CompactedTerm = term;
        int first = 0;
        while (first + 1 < _runCount && _runs[first + 1].FirstIndex <= index + 1)
        {
            first++;
        }

        if (index == LastIndex)
        {
            _runCount = 0;
            return;
        }

        Array.Copy(_runs, first, _runs, 0, _runCount - first);
        _runCount -= first;
        _runs[0] = new TermRun(Math.Max(_runs[0].FirstIndex, index + 1), _runs[0].Term);
    }

    public void Dispose()
    {
        if (_ring == null)
        {
            return;
        }

        while (FirstInMemory <= LastIndex)
        {
            DropFirst();
        }

        ReleaseRetired(ulong.MaxValue);
        NativeMemory.Free(_ring);
        _ring = null;
    }

    private void DropFirst()
    {
        ref RaftEntry entry = ref _ring[FirstInMemory & _mask];
        MemoryBytes -= entry.Length;
        FirstInMemory++;
        nint owner = entry.Owner;
        entry = default;
        if (owner != 0)
        {
            _owner.Release(owner);
        }
    }

    private void Retire(nint owner, ulong sequence)
    {
        if (_retiredCount == _retired.Length)
        {
            Array.Resize(ref _retired, Math.Max(16, _retired.Length * 2));
        }

        _retired[_retiredCount++] = new Retired(owner, sequence);
    }

    private void AddRun(TermRun run)
    {
        if (_runCount == _runs.Length)
        {
            Array.Resize(ref _runs, _runs.Length * 2);
        }

        _runs[_runCount++] = run;
    }

    private void Grow()
    {
        ulong capacity = (_mask + 1) * 2;
        RaftEntry* larger = (RaftEntry*)NativeMemory.AllocZeroed((nuint)capacity, (nuint)sizeof(RaftEntry));
        for (ulong i = FirstInMemory; i <= LastIndex; i++)
        {
            larger[i & (capacity - 1)] = _ring[i & _mask];
        }

        NativeMemory.Free(_ring);
        _ring = larger;
        _mask = capacity - 1;
    }

    /// <summary>Entries from an index up to the next run have this term.</summary>
    private readonly record struct TermRun(ulong FirstIndex, ulong Term);

    /// <summary>A replaced payload and the unit after which nobody reads it any more.</summary>
    private readonly record struct Retired(nint Owner, ulong Sequence);
}
