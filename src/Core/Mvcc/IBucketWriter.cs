// IBucketWriter, IBucketReader: how Leases, Auth and Membership reach their buckets without knowing the tree.
//
// Why      The store buffers bucket changes with the revisions of the same entry, so that one tree commit holds
//          both and consistent_index with them. The small state machines only name bucket, key and value.
// Thread   store.
using System;

namespace Cairn.Core.Mvcc;

/// <summary>Takes changes of small buckets; they become durable with the freeze that holds the same entry.</summary>
public interface IBucketWriter
{
    /// <summary>Sets a key. Both spans are borrowed for the call.</summary>
    void Put(BucketId bucket, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value);

    /// <summary>Removes a key; absent is fine.</summary>
    void Delete(BucketId bucket, ReadOnlySpan<byte> key);

    /// <summary>Removes every key of the bucket.</summary>
    void Clear(BucketId bucket);
}

/// <summary>Reads whole buckets at open, before anything is written.</summary>
public interface IBucketReader
{
    /// <summary>Visits every pair in key order. The spans live for one call of the visitor.</summary>
    void ForEach<TVisitor>(BucketId bucket, ref TVisitor visitor)
        where TVisitor : struct, IBucketVisitor;
}

/// <summary>What <see cref="IBucketReader.ForEach"/> calls.</summary>
public interface IBucketVisitor
{
    /// <summary>One pair of the bucket; the spans are valid during the call only.</summary>
    void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value);
}
