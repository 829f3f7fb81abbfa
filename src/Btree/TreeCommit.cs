// TreeCommit: a commit as a small state machine: build, write pages ascending, sync, write the meta, sync, publish.
//
// Why        One code path for two uses: run to its end (open, tests, shutdown), or polled with pacing: after each
//            MiB write-back is started and 20 ms pass, so that the log's syncs beside it stay short.
// Thread     tree.
// Failure    A failed write or sync stops the member: what the page cache holds is unknown after an error.
using System;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Btree;

#pragma warning disable CA1001 // freed by the tree through its writer; a caller's handle must not be able to
/// <summary>A commit under way: build pages, write them paced, sync, write the meta, sync, publish.</summary>
public sealed unsafe class TreeCommit
#pragma warning restore CA1001
{
    private const int StagingBytes = 1 << 20;
    private const long PaceBytes = 1 << 20;
    private const long PaceNs = 20_000_000;
    private readonly TreeWriter _writer;
    private readonly Tree _tree;
    private readonly CommitBuild _build;
    private readonly FileOperation _operation = new(1);
    private byte* _staging;
    private long _stagingBytes;
    private Step _step = Step.Done;
    private TreeRoot _root; // none until built
    private bool _synchronous;
    private bool _freelistWritten;
    private int _nextImage;
    private long _pacedBytes; // written since the last pause
    private ulong _pacedFirst;
    private ulong _pacedEnd;
    private long _startNs; // of the commit, by the clock of the options
    private long _builtNs;
    private long _pausedNs; // paces kept so far
    private long _pauseStartNs; // of the pace being kept; 0 when none

    internal TreeCommit(TreeWriter writer)
    {
        _writer = writer;
        _tree = writer.Tree;
        _build = new CommitBuild(writer);
    }

    private enum Step
    {
        Build,
        Write,
        SyncPages,
        WriteMeta,
        SyncMeta,
        Publish,
        Done,
    }

    /// <summary>True once the new root is durable and published.</summary>
    public bool IsCompleted => _step == Step.Done;

    /// <summary>The published root; only once completed.</summary>
    public TreeRoot Root
    {
        get
        {
            Invariant.Check(IsCompleted && _root.IsValid, "the commit has completed");
            return _root;
        }
    }

    /// <summary>Set to stop pacing: somebody waits for this commit.</summary>
    public bool Urgent { get; set; }

    /// <summary>When to poll again without a wake, monotonic ns; <see cref="long.MaxValue"/> when only a wake helps.</summary>
    public long NextDeadlineNs { get; private set; } = long.MaxValue;

    /// <summary>Does a bounded piece; true if anything was done.</summary>
    /// <param name="nowNs">Monotonic time of this poll.</param>
    public bool Poll(long nowNs)
    {
        if (_step == Step.Done)
        {
            return false;
        }

        if (!_operation.IsCompleted)
        {
            NextDeadlineNs = long.MaxValue;
            return false;
        }

        if (!Urgent && nowNs < NextDeadlineNs && NextDeadlineNs != long.MaxValue)
        {
            return false;
        }

        if (_pauseStartNs != 0)
        {
            _pausedNs += Now - _pauseStartNs;
            _pauseStartNs = 0;
        }

        NextDeadlineNs = nowNs;
        if (_operation.Error != 0)
        {
            Fail($"{(_operation.IsSync ? "fdatasync" : "write")} failed with error {_operation.Error}", null);
        }

        Advance(nowNs);
        return true;
    }

    internal void Begin(IWaker? owner)
    {
        _operation.Owner = owner;
        Reset(synchronous: false);
    }

    internal void RunToEnd()
    {
        Reset(synchronous: true);
        while (_step != Step.Done)
        {
            Advance(0);
        }
    }

    internal void Dispose()
    {
        NativeMemory.Free(_staging);
        _staging = null;
        _build.Dispose();
    }

    private void Reset(bool synchronous)
    {
        _synchronous = synchronous;
        _root = default;
        _step = Step.Build;
        _nextImage = 0;
        _freelistWritten = false;
        _pacedBytes = 0;
        _pausedNs = 0;
        _pauseStartNs = 0;
        Urgent = false;
        NextDeadlineNs = 0;
        _operation.PrepareSync();
        _operation.Complete(0);
    }

    private void Advance(long nowNs)
    {
        switch (_step)
        {
            case Step.Build:
                _startNs = Now;
                _root = _build.Run();
                _builtNs = Now;
                Grow((long)_root.HighWater * _tree.PageSize);
                _step = Step.Write;
                break;
            case Step.Write:
                WriteSome(nowNs);
                break;
            case Step.SyncPages:
                _step = Step.WriteMeta;
                Sync();
                break;
            case Step.WriteMeta:
                _step = Step.SyncMeta;
                WriteMeta();
                break;
            case Step.SyncMeta:
                _step = Step.Publish;
                Sync();
                break;
            case Step.Publish:
                Publish();
                Count();
                NextDeadlineNs = long.MaxValue;
                break;
            case Step.Done:
                break;
            default:
                Invariant.Throw("a commit step has its case");
                break;
        }
    }

    /// <summary>Pages that lie side by side go out in one write; a MiB at most per pause.</summary>
    private void WriteSome(long nowNs)
    {
        if (_pacedBytes >= PaceBytes)
        {
            _tree.File.StartWriteback((long)_pacedFirst * _tree.PageSize, (long)(_pacedEnd - _pacedFirst) * _tree.PageSize);
            NextDeadlineNs = nowNs + (PaceNs * _pacedBytes / PaceBytes);
            _pacedBytes = 0;
            if (!_synchronous && !Urgent)
            {
                _pauseStartNs = Now;
                return;
            }
        }

        ReadOnlySpan<PageImage> images = _build.Images;
        if (_nextImage == images.Length)
        {
            WriteFreelist();
            return;
        }

        ulong first = images[_nextImage].Page;
        ulong end = first;
        int last = _nextImage;
        long bytes = 0;
        while (last < images.Length && images[last].Page == end)
        {
            long more = (long)images[last].Pages * _tree.PageSize;
            if (last > _nextImage && bytes + more > StagingBytes)
            {
                break;
            }

            bytes += more;
            end += images[last++].Pages;
        }

        byte* target = Staging(bytes);
        for (int i = _nextImage; i < last; i++)
        {
            ref readonly PageImage image = ref images[i];
            _build.Render(image, target);
            _tree.Map.Forget(image.Page);
            _tree.Pending.NoteMade(image.Page, _tree.Relative(_writer.TxId));
            target += (long)image.Pages * _tree.PageSize;
        }

        _nextImage = last;
        _pacedFirst = _pacedBytes == 0 ? first : _pacedFirst;
        _pacedEnd = end;
        _pacedBytes += bytes;
        Write((long)first * _tree.PageSize, bytes);
    }

    private void WriteFreelist()
    {
        if (_build.FreelistPages == 0 || _freelistWritten)
        {
            _step = Step.SyncPages;
            return;
        }

        _freelistWritten = true;
        long bytes = (long)_build.FreelistPages * _tree.PageSize;
        _build.RenderFreelist(Staging(bytes));
        _tree.Pending.NoteMade(_build.FreelistPage, _tree.Relative(_writer.TxId));
        Write((long)_build.FreelistPage * _tree.PageSize, bytes);
    }

    private void WriteMeta()
    {
        MetaPage meta = new()
        {
            PageSize = _tree.PageSize,
            RootPage = _root.RootPage,
            Sequence = _root.Sequence,
            FreelistPage = _root.FreelistPage,
            HighWater = _root.HighWater,
            TxId = _root.TxId,
        };
        Span<byte> page = new(Staging(_tree.PageSize), _tree.PageSize);
        page.Clear();
        meta.Write(page, _root.TxId & 1);
        Write((long)(_root.TxId & 1) * _tree.PageSize, _tree.PageSize);
    }

    private void Publish()
    {
        uint commit = _tree.Relative(_writer.TxId);
        foreach (TreeWriter.PageRun run in _writer.GivenUp)
        {
            _tree.Pending.Add(run.Page, run.Pages, commit);
        }

        _tree.StoredFreelistPages = _build.FreelistPages;
        _tree.Publish(_root);
        _writer.End();
        if (_stagingBytes > 8 * StagingBytes)
        {
            NativeMemory.Free(_staging);
            _staging = null;
            _stagingBytes = 0;
        }

        try
        {
            _tree.TrimFile();
        }
        catch (FileSystemException e)
        {
            Fail("shortening the file failed", e);
        }

        _step = Step.Done;
    }

    private long Now => _tree.Options.Clock?.NowNs ?? 0;

    private void Count()
    {
        if (_tree.Options.Clock is null)
        {
            return;
        }

        TreeFigures figures = _tree.Figures;
        long building = _builtNs - _startNs;
        long whole = Now - _startNs - _pausedNs;
        figures.Commit.Observe(whole);
        figures.Rebalance.Observe(_build.RebalanceNs);
        figures.Spill.Observe(building - _build.RebalanceNs);
        figures.Write.Observe(whole - building);
    }

    /// <summary>The file is long enough before any root that needs the length is written, let alone published.</summary>
    private void Grow(long needed)
    {
        if (needed <= _tree.FileBytes)
        {
            return;
        }

        long target = Math.Max(needed, Math.Min(_tree.FileBytes + FileTrim.Step(_tree.FileBytes), _tree.Map.ReserveBytes));
        try
        {
            _tree.File.Allocate(_tree.FileBytes, target - _tree.FileBytes);
        }
        catch (FileSystemException e)
        {
            Fail("growing the file failed", e);
        }

        _tree.SetFileBytes(target);
    }

    private byte* Staging(long bytes)
    {
        if (bytes > _stagingBytes)
        {
            _stagingBytes = Math.Max(bytes, StagingBytes);
            NativeMemory.Free(_staging);
            _staging = (byte*)NativeMemory.Alloc((nuint)_stagingBytes);
        }

        return _staging;
    }

    private void Write(long offset, long bytes)
    {
        if (!_synchronous)
        {
            _operation.PrepareWrite(offset);
            bool added = _operation.TryAdd(_staging, checked((int)bytes));
            Invariant.Check(added, "one segment fits");
            _tree.File.Submit(_operation);
            return;
        }

        try
        {
            _tree.File.Write(offset, new ReadOnlySpan<byte>(_staging, checked((int)bytes)));
        }
        catch (FileSystemException e)
        {
            Fail("writing pages failed", e);
        }
    }

    private void Sync()
    {
        if (_tree.Options.NoSync)
        {
            return;
        }

        if (!_synchronous)
        {
            _operation.PrepareSync();
            _tree.File.Submit(_operation);
            return;
        }

        try
        {
            _tree.File.Sync();
        }
        catch (FileSystemException e)
        {
            Fail("fdatasync failed", e);
        }
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private void Fail(string what, Exception? cause) =>
        _tree.Fatal.Stop($"{_tree.Path}: commit {_writer.TxId}: {what}; what the disk holds is unknown now, check the device and start again", cause);
}
