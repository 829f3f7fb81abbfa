using System;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>The revisioned key-value store and the buckets beside it.</summary>
public sealed class MvccStore : IBucketWriter, IBucketReader, IDisposable
{
    /// <summary>Makes missing buckets (first start), scans <c>key</c>, builds the index, resumes a compaction.</summary>
    public static MvccStore Open(Tree tree, MvccOptions options, IFatal fatal) => throw new NotImplementedException();

    /// <summary>The actor that commits for this store; runs on the tree thread.</summary>
    public TreeActor TreeActor => throw new NotImplementedException();

    public Tree Tree => throw new NotImplementedException();

    /// <summary>consistent_index of the last durable commit; 0 in a new file. Any thread.</summary>
    public ulong DurableIndex => throw new NotImplementedException();

    /// <summary>term of the last durable commit. Any thread.</summary>
    public ulong DurableTerm => throw new NotImplementedException();

    // ---- open, before the threads start ----

    /// <summary>Attaches every live key that carries a lease. After the leases themselves are restored.</summary>
    public void RestoreLeases(ILeaseBook leases) => throw new NotImplementedException();

    /// <summary>Reads a bucket of the durable tree; open only.</summary>
    public void ForEach<TVisitor>(BucketId bucket, ref TVisitor visitor)
        where TVisitor : struct, IBucketVisitor => throw new NotImplementedException();

    // ---- store thread only ----

    /// <summary>Current revision, unpublished changes included.</summary>
    public long Revision => throw new NotImplementedException();

    /// <summary>Last accepted compaction; -1 before any.</summary>
    public long CompactRevision => throw new NotImplementedException();

    /// <summary>Last compaction whose deletes are durable; -1 before any. Any thread.</summary>
    public long FinishedCompactRevision => throw new NotImplementedException();

    /// <summary>Applies a PutRequest body. On success (and if wanted) the PutResponse body is appended to the output.</summary>
    public ErrorCode Put(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output) => throw new NotImplementedException();

    public ErrorCode DeleteRange(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output) => throw new NotImplementedException();

    public ErrorCode Txn(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output) => throw new NotImplementedException();

    /// <summary>A range that came through the log: runs on the newest state, published or not.</summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output) => throw new NotImplementedException();

    /// <summary>
    /// Accepts a compaction: reads below it fail from the next published View on. A caller that asked for
    /// <c>physical</c> is answered once <see cref="FinishedCompactRevision"/> has reached its revision.
    /// </summary>
    public ErrorCode Compact(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output) => throw new NotImplementedException();

    /// <summary>Starts a revoke: all keys deleted until <see cref="EndRevoke"/> share one revision.</summary>
    public void BeginRevoke() => throw new NotImplementedException();

    /// <summary>Deletes one key of the lease, keys in ascending order; absent is fine. The lease book is not told.</summary>
    public void RevokeKey(ReadOnlySpan<byte> key) => throw new NotImplementedException();

    /// <summary>Ends the revoke; uses a revision only if something was deleted.</summary>
    public void EndRevoke() => throw new NotImplementedException();

    public void Put(BucketId bucket, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => throw new NotImplementedException();

    public void Delete(BucketId bucket, ReadOnlySpan<byte> key) => throw new NotImplementedException();

    public void Clear(BucketId bucket) => throw new NotImplementedException();

    /// <summary>Makes everything applied so far visible to readers: one release-store. After each apply batch.</summary>
    public void PublishView() => throw new NotImplementedException();

    /// <summary>Takes finished commits, retires buffers, frees memory, sweeps the index; a bounded slice.</summary>
    /// <returns>True if anything was done.</returns>
    public bool Work(long nowNs) => throw new NotImplementedException();

    /// <summary>Changes in the active buffer (a freeze is due at 10,000 or after 100 ms).</summary>
    public long PendingOps => throw new NotImplementedException();

    /// <summary>Bytes in the active buffer.</summary>
    public long BufferBytes => throw new NotImplementedException();

    /// <summary>The active buffer is full and the frozen one still commits: apply must pause.</summary>
    public bool MustPause => throw new NotImplementedException();

    /// <summary>True while a frozen buffer is with the tree actor.</summary>
    public bool IsFrozen => throw new NotImplementedException();

    /// <summary>Hands the active buffer to the tree actor together with the raft position. Between entries only.</summary>
    /// <returns>False while an earlier one is still committing.</returns>
    public bool TryFreeze(in FreezePoint point) => throw new NotImplementedException();

    // ---- any thread ----

    /// <summary>Pins the newest View. Waits (spinning) only if all slots are taken.</summary>
    public ViewPin Pin() => throw new NotImplementedException();

    public void Unpin(in ViewPin pin) => throw new NotImplementedException();

    /// <summary>Answers a RangeRequest body from a View: the RangeResponse body is appended to the output.</summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output) => throw new NotImplementedException();

    /// <summary>Answers a TxnRequest of plain ranges only (both branches) from a View.</summary>
    public ErrorCode ReadTxn(ReadOnlySpan<byte> request, in ViewPin pin, in HeaderFields header, ref NativeBuffer output) => throw new NotImplementedException();

    /// <summary>HashKV at a revision (0 = current). Pins by itself; long: not on an I/O thread.</summary>
    public ErrorCode HashKv(long revision, out HashKvResult result) => throw new NotImplementedException();

    /// <summary>Hash over all buckets of the durable tree (freeze and wait first). Long: not on an I/O thread.</summary>
    public uint Hash() => throw new NotImplementedException();

    public void Dispose() => throw new NotImplementedException();
}
