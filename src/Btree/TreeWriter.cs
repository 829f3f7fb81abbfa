using System;
using System.Diagnostics.CodeAnalysis;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>The one write transaction. Tree thread; ends with a commit or <see cref="Rollback"/>.</summary>
public sealed class TreeWriter
{
    /// <summary>Number this commit will have.</summary>
    public ulong TxId => throw new NotImplementedException();

    /// <summary>Bytes held by changed keys and values so far.</summary>
    public long DirtyBytes => throw new NotImplementedException();

    public bool TryGetBucket(ReadOnlySpan<byte> name, [NotNullWhen(true)] out TreeBucket? bucket) => throw new NotImplementedException();

    /// <exception cref="InvalidOperationException">The name is taken.</exception>
    public TreeBucket CreateBucket(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    public TreeBucket CreateBucketIfMissing(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    /// <summary>Removes a bucket with everything in it; false if there is none.</summary>
    public bool DeleteBucket(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    /// <summary>Puts up to this many pages from the end of the file on the list to be rewritten low.</summary>
    /// <returns>True while there is more to gain; call again in a later transaction.</returns>
    public bool ShrinkStep(int maxPages) => throw new NotImplementedException();

    /// <summary>Writes, syncs and publishes, without pacing; returns when durable. Any failure is fatal.</summary>
    public void Commit() => throw new NotImplementedException();

    /// <summary>The same as work to be polled, paced so that the log's syncs do not suffer.</summary>
    /// <param name="owner">Woken when a submitted operation ends later. May be null.</param>
    public TreeCommit BeginCommit(IWaker? owner) => throw new NotImplementedException();

    /// <summary>Forgets everything done in this transaction.</summary>
    public void Rollback() => throw new NotImplementedException();
}

/// <summary>A bucket as the open transaction sees it; valid until the transaction ends or the bucket is deleted.</summary>
public sealed unsafe class TreeBucket
{
    /// <summary>How full split pages are made, 0.1 to 1.0; 0.5 unless set. 0.9 suits ascending keys.</summary>
    public double FillPercent { get => throw new NotImplementedException(); set => throw new NotImplementedException(); }

    /// <summary>Sets a value. Key 1..32768 bytes; both are copied.</summary>
    /// <exception cref="InvalidOperationException">The key names a nested bucket.</exception>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => throw new NotImplementedException();

    /// <summary>The same without copying the value: it must stay unchanged until the commit has ended.</summary>
    public void PutBorrowed(ReadOnlySpan<byte> key, byte* value, int valueLength) => throw new NotImplementedException();

    /// <summary>Removes a key; false if it is absent.</summary>
    public bool Delete(ReadOnlySpan<byte> key) => throw new NotImplementedException();

    /// <summary>Finds a value; the span is valid until the next change in this transaction.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value) => throw new NotImplementedException();

    public bool TryGetBucket(ReadOnlySpan<byte> name, [NotNullWhen(true)] out TreeBucket? bucket) => throw new NotImplementedException();

    public TreeBucket CreateBucket(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    public TreeBucket CreateBucketIfMissing(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    public bool DeleteBucket(ReadOnlySpan<byte> name) => throw new NotImplementedException();

    /// <summary>A cursor over the bucket with this transaction's changes; any change makes it invalid until it seeks.</summary>
    public TreeWriteCursor Cursor() => throw new NotImplementedException();
}

/// <summary>A position in a bucket as the open transaction sees it.</summary>
public sealed class TreeWriteCursor
{
    public bool IsValid => throw new NotImplementedException();

    public bool First() => throw new NotImplementedException();

    public bool Last() => throw new NotImplementedException();

    public bool Seek(ReadOnlySpan<byte> key) => throw new NotImplementedException();

    public bool Next() => throw new NotImplementedException();

    public bool Prev() => throw new NotImplementedException();

    public ReadOnlySpan<byte> Key => throw new NotImplementedException();

    public ReadOnlySpan<byte> Value => throw new NotImplementedException();

    public bool IsBucket => throw new NotImplementedException();

    /// <summary>Removes the entry and moves to the next one; returns <see cref="IsValid"/>.</summary>
    public bool DeleteCurrent() => throw new NotImplementedException();
}

/// <summary>A commit under way: build pages, write them paced, sync, write the meta, sync, publish.</summary>
public sealed class TreeCommit
{
    /// <summary>True once the new root is durable and published.</summary>
    public bool IsCompleted => throw new NotImplementedException();

    /// <summary>The published root; only once completed.</summary>
    public TreeRoot Root => throw new NotImplementedException();

    /// <summary>Set to stop pacing: somebody waits for this commit.</summary>
    public bool Urgent { get => throw new NotImplementedException(); set => throw new NotImplementedException(); }

    /// <summary>When to poll again without a wake, monotonic ns; <see cref="long.MaxValue"/> when only a wake helps.</summary>
    public long NextDeadlineNs => throw new NotImplementedException();

    /// <summary>Does a bounded piece; true if anything was done.</summary>
    public bool Poll(long nowNs) => throw new NotImplementedException();
}
