// TreeBuckets: the small buckets of one pinned state of a tree file: raft's point, members. For snapshots: their index,
// configuration and v2 store come from the same pages that are sent, so nothing can contradict them.
//
// Thread     any slow thread, with the root pinned.
using System;
using System.Buffers;
using System.Buffers.Binary;
using System.IO;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>What a state of the tree says about where it stands.</summary>
internal sealed record TreePoint(ulong Index, ulong Term, ConfState ConfState, byte[] V2Json);

/// <summary>Reads buckets of a pinned root.</summary>
internal sealed class TreeBuckets(Tree tree, TreeRoot root) : IBucketReader
{
    /// <inheritdoc/>
    public void ForEach<TVisitor>(BucketId bucket, ref TVisitor visitor)
        where TVisitor : struct, IBucketVisitor
    {
        if (!new TreeReader(tree, root).TryGetBucket(BucketNames.Get(bucket), out BucketReader reader))
        {
            return;
        }

        TreeCursor cursor = reader.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            visitor.Visit(cursor.Key, cursor.Value);
        }
    }

    /// <summary>Index, term, configuration and members of a pinned root.</summary>
    /// <exception cref="InvalidDataException">It has no index or a record does not parse.</exception>
    internal static TreePoint ReadPoint(Tree tree, TreeRoot root)
    {
        var buckets = new TreeBuckets(tree, root);
        ulong index = 0, term = 0;
        if (new TreeReader(tree, root).TryGetBucket(BucketNames.Get(BucketId.Meta), out BucketReader meta))
        {
            index = meta.TryGet("consistent_index"u8, out ReadOnlySpan<byte> value) ? Number(value) : 0;
            term = meta.TryGet("term"u8, out value) ? Number(value) : 0;
        }

        if (index == 0 || term == 0)
        {
            throw new InvalidDataException($"{tree.Path}: bucket meta has no consistent_index and term");
        }

        var cluster = new Cluster(0, 0);
        cluster.RestoreFromBuckets(buckets, takeMembers: true);
        var output = new ArrayBufferWriter<byte>(1024);
        cluster.WriteV2Store(output);
        return new TreePoint(index, term, StateMachine.ConfStateOf(cluster.View), output.WrittenSpan.ToArray());
    }

    private static ulong Number(ReadOnlySpan<byte> value) =>
        value.Length == 8 ? BinaryPrimitives.ReadUInt64BigEndian(value) : 0;
}
