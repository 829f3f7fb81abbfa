using System;
using Cairn.Base;

namespace Cairn.Btree;

/// <summary>An open tree file: one writer (the tree thread), many readers on pinned roots.</summary>
public sealed class Tree : IDisposable
{
    /// <summary>Opens or makes the file, takes its lock, verifies its structure and finds the free pages.</summary>
    /// <exception cref="TreeLockedException">Another process has it open.</exception>
    /// <exception cref="TreeCorruptException">The file is damaged.</exception>
    public static Tree Open(IFileSystem fileSystem, string path, TreeOptions options, IFatal fatal) => throw new NotImplementedException();

    public string Path => throw new NotImplementedException();

    public int PageSize => throw new NotImplementedException();

    /// <summary>Logical size: bytes below the high-water mark (etcd's dbSize). Any thread.</summary>
    public long HighWaterBytes => throw new NotImplementedException();

    /// <summary>Logical size minus free pages (etcd's dbSizeInUse). Any thread.</summary>
    public long InUseBytes => throw new NotImplementedException();

    /// <summary>Length of the file. Any thread.</summary>
    public long FileBytes => throw new NotImplementedException();

    /// <summary>The last durable state. Any thread; read through it only while pinned.</summary>
    public TreeRoot CurrentRoot => throw new NotImplementedException();

    /// <summary>Pins the last durable state. Any thread; a short lock, so once per view, not per request.</summary>
    public TreePin Pin() => throw new NotImplementedException();

    /// <summary>Gives a pin back. Any thread.</summary>
    public void Unpin(in TreePin pin) => throw new NotImplementedException();

    /// <summary>Starts the one write transaction. Tree thread only.</summary>
    public TreeWriter BeginWrite() => throw new NotImplementedException();

    /// <summary>Walks everything reachable from a pinned (or the current) root and reports what is wrong.</summary>
    /// <param name="root">The current root, or one the caller has pinned.</param>
    /// <param name="againstFreelist">Also compare with the free pages; tree thread, current root, no open writer.</param>
    public TreeCheckResult Check(TreeRoot root, bool againstFreelist = false) => throw new NotImplementedException();

    /// <summary>Size of the consistent image of a pinned root, bytes.</summary>
    public long ImageBytes(in TreePin pin) => throw new NotImplementedException();

    /// <summary>Reads a part of the image (storage §5.1) by pread; any thread, any order, at the caller's pace.</summary>
    /// <returns>Bytes read: the destination's length, less at the end of the image.</returns>
    public int ReadImage(in TreePin pin, long offset, Span<byte> destination) => throw new NotImplementedException();

    /// <summary>Ages the knowledge of which blocks are resident; call once a second.</summary>
    public void AgeResidency() => throw new NotImplementedException();

    /// <summary>Forgets which blocks are resident; call when major faults rise.</summary>
    public void ForgetResidency() => throw new NotImplementedException();

    public void Dispose() => throw new NotImplementedException();
}
