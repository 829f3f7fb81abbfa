using System;

namespace Cairn.Btree;

/// <summary>Reads one pinned root. Any thread that holds the pin; nothing is allocated.</summary>
public readonly struct TreeReader
{
    public TreeReader(Tree tree, TreeRoot root) => throw new NotImplementedException();

    /// <summary>Finds a bucket of the top level.</summary>
    public bool TryGetBucket(ReadOnlySpan<byte> name, out BucketReader bucket) => throw new NotImplementedException();

    /// <summary>Walks the names of the top level.</summary>
    public TreeCursor Cursor() => throw new NotImplementedException();
}

/// <summary>Reads one bucket of a pinned root; may be kept as long as the pin.</summary>
public readonly struct BucketReader
{
    /// <summary>Finds a value; the span is valid while the root is pinned. False for a nested bucket's name.</summary>
    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value) => throw new NotImplementedException();

    public bool TryGetBucket(ReadOnlySpan<byte> name, out BucketReader bucket) => throw new NotImplementedException();

    public TreeCursor Cursor() => throw new NotImplementedException();
}

/// <summary>A position in a bucket of a pinned root. A mutable struct: keep it in a local or a field, do not copy.</summary>
public struct TreeCursor
{
    /// <summary>True if the cursor stands on an entry.</summary>
    public bool IsValid => throw new NotImplementedException();

    public bool First() => throw new NotImplementedException();

    public bool Last() => throw new NotImplementedException();

    /// <summary>Moves to the first entry whose key is at or after <paramref name="key"/>.</summary>
    public bool Seek(ReadOnlySpan<byte> key) => throw new NotImplementedException();

    public bool Next() => throw new NotImplementedException();

    public bool Prev() => throw new NotImplementedException();

    /// <summary>Valid while the root is pinned.</summary>
    public ReadOnlySpan<byte> Key => throw new NotImplementedException();

    /// <summary>Valid while the root is pinned; empty for a nested bucket.</summary>
    public ReadOnlySpan<byte> Value => throw new NotImplementedException();

    public bool IsBucket => throw new NotImplementedException();

    /// <summary>Opens the nested bucket at the cursor.</summary>
    public bool TryGetBucket(out BucketReader bucket) => throw new NotImplementedException();
}
