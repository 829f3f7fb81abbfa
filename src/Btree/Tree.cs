// Tree: one open file in bbolt's format: its metas, its map, its free pages, and who has which state pinned.
//
// Why        Copy-on-write: a commit writes only pages nobody can see, then one meta page. So readers need no lock:
//            they pin a root and follow pages that cannot change until they unpin.
// Thread     One writer (the tree thread): BeginWrite and everything on TreeWriter and TreeCommit. Pin, Unpin, the
//            properties, ReadImage and readers: any thread.
// Layout     PageFormat.cs, MetaPage.cs.
// Invariants A page is rewritten only when neither the last durable root nor a pinned one reaches it.
//            The file is never shorter than the high-water mark of either meta or of a pinned root.
// Failure    Bytes that cannot be believed: TreeCorruptException. A failed write or sync: IFatal.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>An open tree file: one writer (the tree thread), many readers on pinned roots.</summary>
public sealed class Tree : IDisposable
{
    private readonly Lock _pinLock = new();
    private readonly List<PinnedRoot> _pinned = new(); // guarded by _pinLock; few: views, downloads
    private readonly ulong _firstTxId; // commit numbers are kept relative to this one in page tables
    private TreeRoot _current; // written by the tree thread under _pinLock; other threads read it under the lock
    private TreeRoot _previous; // what the other meta page says; tree thread
    private ulong _currentTxId; // of _current, for looks without the lock
    private long _highWaterBytes; // the same
    private long _fileBytes; // written by the tree thread, read by any
    private long _freeBytes; // the same
    private long _pendingBytes; // the same
    private uint[] _pinBuffer = new uint[16];
    private TreeWriter? _writer;
    private bool _disposed;
    private bool _retired; // guarded by _pinLock

    private Tree(IFile file, string path, TreeOptions options, IFatal fatal, in MetaPage meta)
    {
        File = file;
        Path = path;
        Options = options;
        Fatal = fatal;
        PageSize = meta.PageSize;
        _fileBytes = file.Length;
        _firstTxId = meta.TxId;
        _current = new TreeRoot(meta.TxId, meta.RootPage, meta.Sequence, meta.HighWater, meta.FreelistPage);
        _previous = _current;
        _currentTxId = meta.TxId;
        _highWaterBytes = (long)meta.HighWater * PageSize;
        long reserve = Math.Max(options.ReserveBytes, 2 * (long)meta.HighWater * PageSize);
        Map = new PageMap(file, path, PageSize, (reserve + 0xFFFFF) & ~0xFFFFFL);
        ulong pages = (ulong)(Map.ReserveBytes / PageSize);
        Free = new FreePages(pages) { HighWater = meta.HighWater };
        Pending = new PendingPages(pages);
    }

    /// <summary>Opens or makes the file, takes its lock, verifies its structure and finds the free pages.</summary>
    /// <exception cref="TreeLockedException">Another process has it open.</exception>
    /// <exception cref="TreeCorruptException">The file is damaged.</exception>
    public static Tree Open(IFileSystem fileSystem, string path, TreeOptions options, IFatal fatal)
    {
        IFile file = TreeOpen.OpenLocked(fileSystem, path, options);
        Tree? tree = null;
        try
        {
            MetaPage meta = TreeOpen.ReadMeta(file, path);
            tree = new Tree(file, path, options, fatal, meta);
            tree.FindFreePages(meta);
            TreeOpen.Settle(fileSystem, file, path, options);
            return tree;
        }
        catch
        {
            if (tree is null)
            {
                file.Dispose();
            }
            else
            {
                tree.Dispose();
            }

            throw;
        }
    }

    public string Path { get; }

    public int PageSize { get; }

    /// <summary>Logical size: bytes below the high-water mark (etcd's dbSize). Any thread.</summary>
    public long HighWaterBytes => Volatile.Read(ref _highWaterBytes);

    /// <summary>Logical size minus free pages (etcd's dbSizeInUse). Any thread.</summary>
    public long InUseBytes => HighWaterBytes - Volatile.Read(ref _freeBytes);

    /// <summary>
    /// Bytes of the pages the current state reaches: those that wait for older states to be let go count as free
    /// already. Any thread.
    /// </summary>
    public long LiveBytes => HighWaterBytes - Volatile.Read(ref _freeBytes) - Volatile.Read(ref _pendingBytes);

    /// <summary>Length of the file. Any thread.</summary>
    public long FileBytes => Volatile.Read(ref _fileBytes);

    /// <summary>The last durable state. Any thread, a short lock; read through it only while pinned.</summary>
    public TreeRoot CurrentRoot
    {
        get
        {
            lock (_pinLock)
            {
                return _current;
            }
        }
    }

    /// <summary>Number of the last durable commit. Any thread, no lock.</summary>
    public ulong CurrentTxId => Volatile.Read(ref _currentTxId);

    /// <summary>The file could be cut shorter after one more commit. Tree thread.</summary>
    public bool IsTrimPending => FileTrim.IsWorthwhile(FileBytes, (long)_current.HighWater * PageSize)
        && !FileTrim.IsWorthwhile(FileBytes, (long)_previous.HighWater * PageSize);

    /// <summary>
    /// The last shrink step found nothing it may move yet, because pinned states still see the pages: wait some
    /// milliseconds before the next one. Tree thread.
    /// </summary>
    public bool IsShrinkWaiting => Shrink.StalledSteps > 0;

    /// <summary>Durations of commits. Any thread.</summary>
    public TreeFigures Figures { get; } = new();

    /// <summary>Pins that are out. Any thread.</summary>
    public int OpenPins
    {
        get
        {
            lock (_pinLock)
            {
                int pins = 0;
                foreach (PinnedRoot root in _pinned)
                {
                    pins += root.Pins;
                }

                return pins;
            }
        }
    }

    internal IFile File { get; }

    internal TreeOptions Options { get; }

    internal IFatal Fatal { get; }

    internal PageMap Map { get; }

    internal FreePages Free { get; }

    internal PendingPages Pending { get; }

    /// <summary>Where the next shrink step goes on. Tree thread.</summary>
    internal ShrinkPosition Shrink { get; } = new();

    /// <summary>Some bucket lies in another named bucket. Tree thread.</summary>
    internal bool HasDeepBuckets { get; set; }

    /// <summary>Pins the last durable state. Any thread; a short lock, so once per view, not per request.</summary>
    public TreePin Pin()
    {
        lock (_pinLock)
        {
            ObjectDisposedException.ThrowIf(_retired, this);
            int index = IndexOfPinned(_current.TxId);
            if (index < 0)
            {
                _pinned.Add(new PinnedRoot { Root = _current, Pins = 1 });
            }
            else
            {
                CollectionsMarshal.AsSpan(_pinned)[index].Pins++;
            }

            return new TreePin(_current);
        }
    }

    /// <summary>Gives a pin back. Any thread.</summary>
    public void Unpin(in TreePin pin)
    {
        lock (_pinLock)
        {
            int index = IndexOfPinned(pin.Root.TxId);
            Invariant.Check(index >= 0, "a pin is given back once");
            if (--CollectionsMarshal.AsSpan(_pinned)[index].Pins == 0)
            {
                _pinned.RemoveAt(index);
            }
        }
    }

    /// <summary>Starts the one write transaction. Tree thread only.</summary>
    public TreeWriter BeginWrite()
    {
        Invariant.Check(!_disposed, "the tree is open");
        _writer ??= new TreeWriter(this);
        Pending.Release(PinnedCommits(), Free);
        PublishFreeBytes();
        _writer.Begin(_current);
        return _writer;
    }

    /// <summary>Walks everything reachable from a pinned (or the current) root and reports what is wrong.</summary>
    /// <param name="root">The current root, or one the caller has pinned.</param>
    /// <param name="againstFreelist">Also compare with the free pages; tree thread, current root, no open writer.</param>
    public TreeCheckResult Check(TreeRoot root, bool againstFreelist = false)
    {
        List<string> errors = new();
        using TreeWalk walk = new(Map, root.HighWater, errors);
        walk.Run(root.RootPage);
        long reachable = walk.Pages; // the comparison below marks free pages too
        if (againstFreelist)
        {
            Invariant.Check(root.TxId == _current.TxId, "free pages are known for the current root only");
            CheckFreePages(root, walk, errors);
        }

        return new TreeCheckResult(errors, reachable, walk.Entries, walk.Buckets);
    }

    /// <summary>Size of the consistent image of a pinned root, bytes.</summary>
    public long ImageBytes(in TreePin pin) => TreeImage.Bytes(this, pin.Root);

    /// <summary>Reads a part of the image (storage §5.1) by pread; any thread, any order, at the caller's pace.</summary>
    /// <returns>Bytes read: the destination's length, less at the end of the image.</returns>
    public int ReadImage(in TreePin pin, long offset, Span<byte> destination) =>
        TreeImage.Read(this, pin.Root, offset, destination);

    /// <summary>Ages the knowledge of which blocks are resident; call once a second.</summary>
    public void AgeResidency() => Map.Age();

    /// <summary>Forgets which blocks are resident; call when major faults rise.</summary>
    public void ForgetResidency() => Map.ForgetResidency();

    /// <summary>
    /// Ends a tree that another has replaced, unless it is pinned (then false: ask again). Later pins are refused with
    /// <see cref="ObjectDisposedException"/>. The tree thread must be done with it.
    /// </summary>
    public bool TryRetire()
    {
        lock (_pinLock)
        {
            if (_pinned.Count > 0)
            {
                return false;
            }

            _retired = true;
        }

        Dispose();
        return true;
    }

    /// <summary>Unmaps and unlocks; nobody may read any more.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        _writer?.Dispose();
        File.Dispose();
        Map.Free();
        Free.Dispose();
        Pending.Dispose();
    }

    /// <summary>A commit number as page tables hold it: distance from the root found at open (which is 0).</summary>
    internal uint Relative(ulong txId) => (uint)(txId - _firstTxId);

    internal void SetFileBytes(long bytes) => Volatile.Write(ref _fileBytes, bytes);

    /// <summary>Makes a durable commit the current state. Tree thread.</summary>
    internal void Publish(in TreeRoot root)
    {
        lock (_pinLock)
        {
            _previous = _current;
            _current = root;
            Volatile.Write(ref _currentTxId, root.TxId);
            Volatile.Write(ref _highWaterBytes, (long)root.HighWater * PageSize);
        }

        PublishFreeBytes();
    }

    /// <summary>Gives the file's unused end back: cuts it, or punches holes while something old still reaches there.</summary>
    internal void TrimFile()
    {
        long mark = (long)_current.HighWater * PageSize;
        if (!FileTrim.IsWorthwhile(FileBytes, mark))
        {
            return;
        }

        ulong keep = Math.Max(_current.HighWater, _previous.HighWater);
        lock (_pinLock)
        {
            foreach (ref readonly PinnedRoot pinned in CollectionsMarshal.AsSpan(_pinned))
            {
                keep = Math.Max(keep, pinned.Root.HighWater);
            }
        }

        long keepBytes = (long)keep * PageSize;
        if (FileTrim.IsWorthwhile(FileBytes, keepBytes))
        {
            File.SetLength(keepBytes);
            SetFileBytes(keepBytes);
        }

        // The pages between the new mark and the end were free when this commit began: neither the other meta's
        // root nor a pinned one reaches them, only their numbers lie below those marks.
        if (_current.HighWater < _previous.HighWater && FileBytes > mark)
        {
            File.PunchHole(mark, FileBytes - mark);
        }
    }

    private void PublishFreeBytes()
    {
        Volatile.Write(ref _freeBytes, Free.Count * PageSize);
        Volatile.Write(ref _pendingBytes, Pending.Count * PageSize);
    }

    /// <summary>Under the pin lock.</summary>
    private int IndexOfPinned(ulong txId)
    {
        ReadOnlySpan<PinnedRoot> pinned = CollectionsMarshal.AsSpan(_pinned);
        for (int i = pinned.Length - 1; i >= 0; i--)
        {
            if (pinned[i].Root.TxId == txId)
            {
                return i;
            }
        }

        return -1;
    }

    private ReadOnlySpan<uint> PinnedCommits()
    {
        lock (_pinLock)
        {
            if (_pinBuffer.Length < _pinned.Count)
            {
                _pinBuffer = new uint[_pinned.Count * 2];
            }

            for (int i = 0; i < _pinned.Count; i++)
            {
                _pinBuffer[i] = Relative(_pinned[i].Root.TxId);
            }

            Span<uint> pins = _pinBuffer.AsSpan(0, _pinned.Count);
            pins.Sort();
            return pins;
        }
    }

    private void FindFreePages(in MetaPage meta)
    {
        Map.PopulatesLargeChunks = true;
        using TreeWalk walk = new(Map, meta.HighWater, errors: null);
        walk.Run(meta.RootPage);
        if (meta.FreelistPage != MetaPage.NoFreelist)
        {
            StoredFreelistPages = TreeOpen.ReadFreelist(File, Path, meta, walk);
        }

        for (ulong page = 2; page < meta.HighWater; page++)
        {
            ulong first = page;
            while (page < meta.HighWater && !walk.IsReached(page))
            {
                page++;
            }

            if (page > first)
            {
                Free.Add(first, checked((uint)(page - first)));
            }
        }

        HasDeepBuckets = walk.HasDeepBuckets;
        Map.PopulatesLargeChunks = false;
        PublishFreeBytes();
    }

    /// <summary>Pages the current root's stored free list occupies; 0 without one. Tree thread.</summary>
    internal uint StoredFreelistPages { get; set; }

    private void CheckFreePages(in TreeRoot root, TreeWalk walk, List<string> errors)
    {
        if (root.FreelistPage != MetaPage.NoFreelist)
        {
            walk.Mark(root.FreelistPage, StoredFreelistPages);
        }

        for (ulong page = Free.NextFree(0); page < Free.HighWater; page = Free.NextFree(page + 1))
        {
            walk.Mark(page, 1);
        }

        List<PendingRun> pending = new();
        Pending.CopyTo(pending);
        foreach (PendingRun run in CollectionsMarshal.AsSpan(pending))
        {
            walk.Mark(run.Page, run.Pages);
        }

        for (ulong page = 2; page < root.HighWater && errors.Count < 100; page++)
        {
            if (!walk.IsReached(page))
            {
                errors.Add($"{Path}: page {page}: neither reachable nor free");
            }
        }
    }

    /// <summary>A state and how often it is pinned; more than zero.</summary>
    private struct PinnedRoot
    {
        public TreeRoot Root;
        public int Pins;
    }
}
