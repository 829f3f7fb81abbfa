// Relocation: moves single pages down. The place is taken at once, so that a page never moves to where it would not
// be lower; the commit writes it there as it writes any changed page.
//
// Why        A run of many pages (a large value) may find no gap that holds it. Placed by the commit alone it would go
//            to the end of the file, and shrinking would carry it from one end to the other for ever.
// Thread     tree.
using System;

namespace Cairn.Btree;

internal static unsafe class Relocation
{
    /// <summary>Finds whose page it is and moves it. See <see cref="TreeWriter.Relocate"/>.</summary>
    public static bool Run(TreeWriter writer, ulong page)
    {
        Tree tree = writer.Tree;
        ulong highWater = writer.Base.HighWater;
        if (tree.Free.IsFree(page) || tree.Map.TryPage(page, highWater, out byte* content) is not null)
        {
            return false;
        }

        // The bytes may be those of a page given up long ago: only the path from the root says whether it is in use.
        ReadOnlySpan<byte> key = PageFormat.Count(content) == 0 ? default
            : PageFormat.IsLeaf(content) ? PageFormat.LeafKey(content, 0) : PageFormat.BranchKey(content, 0);
        BucketReader top = new(tree.Map, highWater, writer.Base.RootPage, null, 0);
        if (IsOnPath(top, key, page))
        {
            return Move(writer, writer.Top, key, page, page);
        }

        TreeCursor cursor = top.Cursor();
        for (bool more = cursor.First(); more; more = cursor.Next())
        {
            if (cursor.TryGetBucket(out BucketReader bucket) && !bucket.IsInline && IsOnPath(bucket, key, page))
            {
                return writer.TryGetBucket(cursor.Key, out TreeBucket? owner) && Move(writer, owner, key, page, page);
            }
        }

        return false;
    }

    /// <summary>Moves the page on the path to a key to the lowest run that ends at or before a limit, if there is one.</summary>
    public static bool Move(TreeWriter writer, TreeBucket bucket, ReadOnlySpan<byte> key, ulong page, ulong limit)
    {
        uint pages = PageFormat.Overflow(writer.Tree.Map.Page(page, writer.Base.HighWater)) + 1;
        if (!writer.Tree.Free.TryTakeBelow(pages, limit, out ulong place))
        {
            return false;
        }

        Node? node = bucket.NodeForWrite(key, page);
        if (node is null || node.Place != 0)
        {
            writer.Tree.Free.Add(place, pages); // changed in this transaction already: it gets a new place anyhow
            return false;
        }

        node.Place = place;
        node.PlacePages = pages;
        return true;
    }

    private static bool IsOnPath(in BucketReader bucket, ReadOnlySpan<byte> key, ulong page)
    {
        ulong id = bucket.RootNumber;
        for (int depth = 0; id != page; depth++)
        {
            byte* at = bucket.Map.Page(id, bucket.HighWater);
            if (PageFormat.IsLeaf(at) || depth > PageFormat.DepthMax)
            {
                return false;
            }

            id = PageFormat.BranchChild(at, PageFormat.SearchBranch(at, key));
        }

        return true;
    }
}
