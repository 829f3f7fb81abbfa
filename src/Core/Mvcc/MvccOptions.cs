// MvccOptions and the small values that cross the store's surface. Pure data.
using System;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>Settings of one store. Immutable once given to <see cref="MvccStore.Open"/>.</summary>
public sealed class MvccOptions
{
    /// <summary>Pool for scratch buffers; the member's own.</summary>
    public required NativePool Pool { get; init; }

    /// <summary>Bytes one write buffer may hold before apply has to pause; a single entry may exceed it.</summary>
    public long BufferBytesMax { get; init; } = 64L << 20;

    /// <summary>Reads that may be under way at once, over all threads; more wait for a slot.</summary>
    public int PinSlots { get; init; } = 1024;

    /// <summary>
    /// Revisions a compaction deletes before it commits (etcd's compaction batch limit); of those that stay it looks
    /// at ten times as many.
    /// </summary>
    public int CompactionBatchLimit { get; init; } = 1000;

    /// <summary>Pause between two batches of a compaction, nanoseconds.</summary>
    public long CompactionPauseNs { get; init; } = 10_000_000;

    /// <summary>Times compactions for <see cref="MvccStore.Figures"/>; null: they are not timed.</summary>
    public IClock? Clock { get; init; }
}

/// <summary>Fields of a response header that the store does not know; the revision it adds itself.</summary>
public readonly struct HeaderFields
{
    public HeaderFields(ulong clusterId, ulong memberId, ulong raftTerm)
    {
        ClusterId = clusterId;
        MemberId = memberId;
        RaftTerm = raftTerm;
    }

    public ulong ClusterId { get; }

    public ulong MemberId { get; }

    /// <summary>Term of the last applied entry.</summary>
    public ulong RaftTerm { get; }
}

/// <summary>What one applied entry runs with.</summary>
public readonly ref struct ApplyContext
{
    public ApplyContext(ILeaseBook leases, HeaderFields header, bool wantsResponse)
    {
        Leases = leases;
        Header = header;
        WantsResponse = wantsResponse;
    }

    public ILeaseBook Leases { get; }

    public HeaderFields Header { get; }

    /// <summary>False when nobody on this member waits: nothing is encoded and ranges inside a txn are not run.</summary>
    public bool WantsResponse { get; }
}

/// <summary>The raft position that goes into the same tree commit as the frozen changes.</summary>
public readonly ref struct FreezePoint
{
    public FreezePoint(ulong index, ulong term, ReadOnlySpan<byte> confState)
    {
        Index = index;
        Term = term;
        ConfState = confState;
    }

    /// <summary>Index of the last applied entry (consistent_index); 0 is never written.</summary>
    public ulong Index { get; }

    /// <summary>Term of that entry.</summary>
    public ulong Term { get; }

    /// <summary>The ConfState as JSON, copied by the call; empty when unchanged since the last freeze.</summary>
    public ReadOnlySpan<byte> ConfState { get; }
}

/// <summary>Answer of <see cref="MvccStore.HashKv"/>.</summary>
public readonly record struct HashKvResult(uint Hash, long HashRevision, long CompactRevision, long CurrentRevision);
