// TreeImage: the consistent copy of a pinned root that etcd's snapshot RPC streams: both metas rewritten to say that
// root (page 0 with its number, page 1 with one less), the other pages as they are in the file.
//
// Pages that are free in the root may be rewritten while they are read; nothing in the image refers to them.
// Read by pread, not through the map: a download must not fault managed threads nor fill the page tables.
// Thread   any, with the root pinned.
using System;
using Cairn.Base;

namespace Cairn.Btree;

internal static class TreeImage
{
    public static long Bytes(Tree tree, in TreeRoot root) => (long)root.HighWater * tree.PageSize;

    public static int Read(Tree tree, in TreeRoot root, long offset, Span<byte> destination)
    {
        long total = Bytes(tree, root);
        int wanted = (int)Math.Min(destination.Length, Math.Max(0, total - offset));
        int done = 0;
        long metaEnd = 2L * tree.PageSize;
        while (done < wanted && offset + done < metaEnd)
        {
            done += CopyMeta(tree, root, offset + done, destination[done..wanted]);
        }

        if (done < wanted)
        {
            int read = tree.File.Read(offset + done, destination[done..wanted]);
            Invariant.Check(read == wanted - done, "the file reaches the mark of a pinned root");
            done += read;
        }

        return done;
    }

    private static int CopyMeta(Tree tree, in TreeRoot root, long offset, Span<byte> destination)
    {
        int index = (int)(offset / tree.PageSize);
        int inPage = (int)(offset % tree.PageSize);
        int length = Math.Min(destination.Length, tree.PageSize - inPage);
        Span<byte> page = stackalloc byte[MetaPage.Bytes];
        page.Clear();
        MetaPage meta = new()
        {
            PageSize = tree.PageSize,
            RootPage = root.RootPage,
            Sequence = root.Sequence,
            FreelistPage = MetaPage.NoFreelist,
            HighWater = root.HighWater,
            TxId = root.TxId - (ulong)index,
        };
        meta.Write(page, (ulong)index);
        destination[..length].Clear();
        if (inPage < page.Length)
        {
            ReadOnlySpan<byte> part = page[inPage..Math.Min(page.Length, inPage + length)];
            part.CopyTo(destination);
        }

        return length;
    }
}
