// TreeOpen: from a path to a believed file: make it if missing, lock it, pick the meta, refuse what is wrong.
// Cold; runs on the thread that opens, before anybody else knows the tree.
using System;
using System.Buffers.Binary;
using System.Globalization;
using Cairn.Base;

namespace Cairn.Btree;

internal static class TreeOpen
{
    private const int FirstPages = 4;

    /// <summary>Opens the file and takes its lock; makes an empty tree if there is none.</summary>
    public static IFile OpenLocked(IFileSystem fileSystem, string path, TreeOptions options)
    {
        if (fileSystem.FileExists(path))
        {
            IFile file = fileSystem.Open(path, FileOpenMode.ReadWrite);
            try
            {
                if (!file.TryLock(FileLockKind.Flock))
                {
                    throw new TreeLockedException(path);
                }

                if (file.Length > 0)
                {
                    return file;
                }
            }
            catch
            {
                file.Dispose();
                throw;
            }

            file.Dispose();
        }

        return Create(fileSystem, path, options);
    }

    /// <summary>
    /// Makes durable what was just read. A process that died between writing a meta and its sync leaves the meta in
    /// the page cache only, and likewise the name it gave the file; we would call that state durable, let log segments
    /// go that rest on it, and lose both in a power cut.
    /// </summary>
    public static void Settle(IFileSystem fileSystem, IFile file, string path, TreeOptions options)
    {
        if (!options.NoSync)
        {
            file.Sync();
            fileSystem.SyncDirectory(Parent(path));
        }
    }

    /// <summary>Finds the newest valid meta and whether the file is long enough for it.</summary>
    public static MetaPage ReadMeta(IFile file, string path)
    {
        int pageSize = FindPageSize(file, path);
        byte[] buffer = new byte[MetaPage.Bytes];
        MetaPage best = default;
        bool found = false;
        (string What, string Expected, string Found) fault = (string.Empty, string.Empty, string.Empty);
        for (int i = 0; i < 2; i++)
        {
            int read = file.Read((long)i * pageSize, buffer);
            if (MetaPage.TryRead(buffer.AsSpan(0, read), out MetaPage meta, out (string, string, string) why) && meta.PageSize == pageSize)
            {
                if (!found || meta.TxId > best.TxId)
                {
                    best = meta;
                    found = true;
                }
            }
            else if (fault.What.Length == 0)
            {
                fault = why;
            }
        }

        if (!found)
        {
            throw new TreeCorruptException(path, 0, 0, "both meta pages: " + fault.What, fault.Expected, fault.Found);
        }

        long metaOffset = (long)(best.TxId & 1) * pageSize;
        if (best.HighWater < 3 || best.HighWater > (ulong)(long.MaxValue / pageSize))
        {
            throw new TreeCorruptException(path, best.TxId & 1, metaOffset + 56, "high-water mark", "at least 3", best.HighWater.ToString(CultureInfo.InvariantCulture));
        }

        if (best.RootPage < 2 || best.RootPage >= best.HighWater)
        {
            throw new TreeCorruptException(path, best.TxId & 1, metaOffset + 32, "root page", $"2 to {best.HighWater - 1}", best.RootPage.ToString(CultureInfo.InvariantCulture));
        }

        if (best.FreelistPage != MetaPage.NoFreelist && (best.FreelistPage < 2 || best.FreelistPage >= best.HighWater))
        {
            throw new TreeCorruptException(path, best.TxId & 1, metaOffset + 48, "freelist page", $"2 to {best.HighWater - 1}, or none", best.FreelistPage.ToString(CultureInfo.InvariantCulture));
        }

        long needed = (long)best.HighWater * pageSize;
        if (file.Length < needed)
        {
            throw new TreeCorruptException(path, best.HighWater - 1, file.Length, "file length", $"at least {needed} bytes ({best.HighWater} pages of {pageSize})", $"{file.Length} bytes");
        }

        return best;
    }

    /// <summary>Checks a stored free list against what the walk has reached and marks its pages.</summary>
    /// <returns>Pages it occupies.</returns>
    public static uint ReadFreelist(IFile file, string path, in MetaPage meta, TreeWalk walk)
    {
        ulong id = meta.FreelistPage;
        long offset = (long)id * meta.PageSize;
        byte[] header = new byte[PageFormat.HeaderBytes + 8];
        file.Read(offset, header);
        ulong foundId = BinaryPrimitives.ReadUInt64LittleEndian(header);
        ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(8));
        ulong count = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(10));
        uint overflow = BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(12));
        if (foundId != id)
        {
            throw Corrupt(0, "freelist page id", id, foundId);
        }

        if (flags != PageFormat.Freelist)
        {
            throw Corrupt(8, "freelist page flags", PageFormat.Freelist, flags);
        }

        if (overflow >= meta.HighWater - id)
        {
            throw Corrupt(12, "freelist overflow pages, below", meta.HighWater - id, overflow);
        }

        long bytes = (overflow + 1L) * meta.PageSize;
        long at = PageFormat.HeaderBytes;
        if (count == 0xFFFF)
        {
            count = BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(PageFormat.HeaderBytes));
            at += 8;
        }

        if (count > (ulong)(bytes - at) / 8)
        {
            throw Corrupt(10, "freelist count, at most", (ulong)(bytes - at) / 8, count);
        }

        walk.Mark(id, overflow + 1UL);
        byte[] chunk = new byte[64 * 1024];
        ulong previous = 1;
        for (ulong done = 0; done < count;)
        {
            int take = (int)Math.Min((ulong)chunk.Length / 8, count - done);
            file.Read(offset + at, chunk.AsSpan(0, take * 8));
            for (int i = 0; i < take; i++)
            {
                ulong free = BinaryPrimitives.ReadUInt64LittleEndian(chunk.AsSpan(i * 8));
                if (free <= previous || free >= meta.HighWater)
                {
                    throw Corrupt(at + (i * 8), $"free page number, ascending and below {meta.HighWater}; after", previous, free);
                }

                if (walk.IsReached(free))
                {
                    throw new TreeCorruptException(path, id, offset + at + (i * 8), "free page number", "a page nobody refers to", $"page {free}, which is in use");
                }

                previous = free;
            }

            done += (ulong)take;
            at += take * 8L;
        }

        return overflow + 1;

        TreeCorruptException Corrupt(long inPage, string what, ulong expected, ulong found) =>
            new(path, id, offset + inPage, what, expected.ToString(CultureInfo.InvariantCulture), found.ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>The first place where a meta validates tells the page size (a damaged meta 0 leaves meta 1).</summary>
    private static int FindPageSize(IFile file, string path)
    {
        byte[] buffer = new byte[MetaPage.Bytes];
        int read = file.Read(0, buffer);
        if (MetaPage.TryRead(buffer.AsSpan(0, read), out MetaPage meta, out (string What, string Expected, string Found) fault))
        {
            return meta.PageSize;
        }

        for (int i = 0; i < 15; i++)
        {
            int size = 1024 << i;
            read = file.Read(size, buffer);
            if (MetaPage.TryRead(buffer.AsSpan(0, read), out meta, out _) && meta.PageSize == size)
            {
                return size;
            }
        }

        throw new TreeCorruptException(path, 0, PageFormat.HeaderBytes, "both meta pages: " + fault.What, fault.Expected, fault.Found);
    }

    /// <summary>
    /// Writes an empty tree beside the path, syncs it and renames it into place: a crash in between leaves either
    /// no file or a whole one.
    /// </summary>
    private static IFile Create(IFileSystem fileSystem, string path, TreeOptions options)
    {
        int pageSize = options.PageSize == 0 ? Environment.SystemPageSize : options.PageSize;
        Invariant.Check(pageSize is >= 1024 and <= 65536 && (pageSize & (pageSize - 1)) == 0, "the page size is a power of two from 1024 to 65536");
        IFile file = fileSystem.Open(path + ".new", FileOpenMode.OpenOrCreate);
        try
        {
            if (!file.TryLock(FileLockKind.Flock))
            {
                throw new TreeLockedException(path);
            }

            file.SetLength(0);
            file.Write(0, EmptyTree(pageSize, options.StoreFreelist));
            file.Sync();
            fileSystem.Rename(path + ".new", path);
            fileSystem.SyncDirectory(Parent(path));
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static string Parent(string path)
    {
        int slash = path.LastIndexOf('/');
        return slash < 0 ? "." : slash == 0 ? "/" : path[..slash];
    }

    private static byte[] EmptyTree(int pageSize, bool storeFreelist)
    {
        byte[] bytes = new byte[FirstPages * pageSize];
        for (int i = 0; i < 2; i++)
        {
            MetaPage meta = new()
            {
                PageSize = pageSize,
                RootPage = 3,
                FreelistPage = storeFreelist ? 2 : MetaPage.NoFreelist,
                HighWater = FirstPages,
                TxId = (ulong)i,
            };
            meta.Write(bytes.AsSpan(i * pageSize, pageSize), (ulong)i);
        }

        Header(2, PageFormat.Freelist);
        Header(3, PageFormat.Leaf);
        return bytes;

        void Header(int page, ushort flags)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(page * pageSize), (ulong)page);
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan((page * pageSize) + 8), flags);
        }
    }
}
