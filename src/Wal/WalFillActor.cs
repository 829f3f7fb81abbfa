// WalFillActor: prepares the next segment, truncates closed ones, releases and purges old ones.
//
// Why        fdatasync costs least when it changes no file metadata, so a segment is made of real zeros before it is
//            used. The zeros are written slowly and pushed out piece by piece: a burst of 64 MB would sit in front of
//            every sync of the WAL thread (p99.9 of syncs 21-23 ms unpaced, 3-5 ms at 1 MiB per 20 ms).
// Thread     walfill: its own, because all of this may block on the disk.
// Failure    Nothing here is needed for durability. What fails is tried again a second later and reported once a
//            minute; if the disk stays full, the WAL thread finds no prepared segment and says so.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>The slow side of the log: nothing here is waited for by the WAL thread.</summary>
public sealed unsafe class WalFillActor : IActor, IDisposable
{
    private const long IdleNs = 1_000_000_000;
    private const long ReportEveryNs = 60_000_000_000;

    private readonly WalLog _log;
    private readonly WalOptions _options;
    private readonly byte* _zeros;
    private readonly List<Segment> _released = [];

    private Filling? _filled; // one that needs nothing more
    private IFile? _preparing;
    private string _preparingPath = "";
    private long _prepared; // bytes of zeros written to it
    private int _counter;
    private ulong _releasedIndex;
    private long _nextStepNs = long.MinValue;
    private long _nextPurgeNs = long.MinValue;
    private long _nextReportNs = long.MinValue;
    private string? _lastError;

    /// <param name="log">The log served.</param>
    /// <param name="clock">Unused outside <see cref="Poll"/>'s own time; kept for symmetry with the other actors.</param>
    public WalFillActor(WalLog log, IClock clock)
    {
        _ = clock;
        _log = log;
        _options = log.Options;
        _zeros = (byte*)NativeMemory.AllocZeroed((nuint)_options.FillChunkBytes);
    }

    public string RoleName => "walfill";

    public long NextDeadlineNs { get; private set; } = long.MinValue;

    /// <summary>Wakes this actor's own thread after a cut or a release. Set before the actors start; may stay null.</summary>
    public IWaker? Self
    {
        get => _log.FillWaker;
        set => _log.FillWaker = value;
    }

    /// <summary>The error that keeps the next segment from being prepared (full disk), or null. Any thread.</summary>
    public string? LastError => Volatile.Read(ref _lastError);

    /// <summary>
    /// Called on this actor's thread when there is no room for the next segment, with each report of it: what is left
    /// of the segment in use is all the log can still take. Set before the actors start; may stay null.
    /// </summary>
    public Action? DiskFull { get; set; }

    public bool Poll(long nowNs)
    {
        Release();
        Truncate();
        if (nowNs >= _nextPurgeNs)
        {
            _nextPurgeNs = nowNs + _options.PurgeIntervalNs;
            Purge();
        }

        if (nowNs >= _nextStepNs)
        {
            _nextStepNs = nowNs + Step(nowNs);
        }
        else if (_preparing == null && !_log.HasPrepared && LastError == null)
        {
            _nextStepNs = nowNs; // a segment was taken: do not sleep out the idle time
        }

        // Pacing is the point: never "again at once".
        NextDeadlineNs = Math.Min(_nextStepNs, _nextPurgeNs);
        return false;
    }

    /// <summary>Closes and removes a segment that is half prepared. The thread must have ended.</summary>
    public void Dispose()
    {
        if (_preparing != null)
        {
            Discard();
        }

        NativeMemory.Free(_zeros);
        GC.SuppressFinalize(this);
    }

    /// <summary>Writes one chunk of zeros somewhere; returns the pause before the next step.</summary>
    private long Step(long nowNs)
    {
        try
        {
            if (FillCurrent() || PrepareNext())
            {
                Volatile.Write(ref _lastError, null);
                return IsBehind ? 0 : _options.FillPauseNs;
            }
        }
        catch (FileSystemException e)
        {
            Volatile.Write(ref _lastError, e.Message);
            if (nowNs >= _nextReportNs)
            {
                _nextReportNs = nowNs + ReportEveryNs;
                Report(e);
            }

            if (_preparing != null)
            {
                Discard();
            }
        }

        return IdleNs;
    }

    /// <summary>
    /// The segment in use fills up faster than the next one is prepared: pacing would leave the WAL thread without
    /// one, and making it there costs every writer more than a burst of zeros.
    /// </summary>
    private bool IsBehind => !_log.HasPrepared && _log.Position > _options.SegmentBytes / 4 * 3;

    private void Report(FileSystemException e)
    {
        string advice = e.IsDiskFull ? "Free space on" : "Check";
        _options.Warn?.Invoke(
            $"the next log segment cannot be prepared: {e.Message}. {advice} the disk of {_log.Directory}: when the segment in use is full and none is ready, the member stops");
        if (e.IsDiskFull)
        {
            DiskFull?.Invoke();
        }
    }

    private bool FillCurrent()
    {
        Filling? current = _log.CurrentFilling;
        if (current == null || ReferenceEquals(current, _filled))
        {
            return false;
        }

        if (!current.Frontier.TryClaim(_options.FillChunkBytes, out long offset, out int length))
        {
            _filled = current;
            return false;
        }

        try
        {
            current.File.Write(offset, new ReadOnlySpan<byte>(_zeros, length));
            current.File.StartWriteback(offset, length);
        }
        finally
        {
            current.Frontier.Release();
        }

        return true;
    }

    private bool PrepareNext()
    {
        if (_preparing == null)
        {
            if (_log.HasPrepared)
            {
                return false;
            }

            _preparingPath = WalFormat.Join(_log.Directory, (_counter++ & 1) + WalFormat.TemporarySuffix);
            _preparing = WalDirectory.NewFile(_log.Files, _preparingPath, default, _options);
            _prepared = 0;
        }

        int length = (int)Math.Min(_options.FillChunkBytes, _options.SegmentBytes - _prepared);
        _preparing.Write(_prepared, new ReadOnlySpan<byte>(_zeros, length));
        _preparing.StartWriteback(_prepared, length);
        _prepared += length;
        if (_prepared == _options.SegmentBytes)
        {
            _preparing.Sync();
            IFile file = _preparing;
            _preparing = null;
            _prepared = 0;
            _log.OfferPrepared(new PreparedSegment(new Segment(file), _preparingPath, Filling: null));
        }

        return true;
    }

    private void Discard()
    {
        _preparing!.Dispose();
        _preparing = null;
        try
        {
            _log.Files.DeleteFile(_preparingPath);
        }
        catch (FileSystemException)
        {
            // It is overwritten at the next attempt, or removed at the next start.
        }
    }

    private void Truncate()
    {
        while (_log.Segments.TakeToTruncate(out long length) is { } segment)
        {
            try
            {
                segment.File.SetLength(length);
            }
            catch (FileSystemException e)
            {
                _options.Warn?.Invoke($"a closed log segment keeps its prepared size: {e.Message}");
            }
        }
    }

    private void Release()
    {
        ulong index = _log.ReleaseIndex;
        if (index == _releasedIndex)
        {
            return;
        }

        _releasedIndex = index;
        _log.Segments.Release(index, _released);
        foreach (Segment segment in _released)
        {
            segment.File.Dispose();
        }

        _released.Clear();
    }

    /// <summary>Deletes the oldest segments while there are too many, up to the first that somebody holds.</summary>
    private void Purge()
    {
        if (_options.MaxSegments <= 0)
        {
            return;
        }

        try
        {
            List<SegmentFile> names = WalDirectory.SegmentFiles(_log.Files, _log.Directory, warn: null);
            for (int i = 0; names.Count - i > _options.MaxSegments; i++)
            {
                if (_log.Segments.Holds(names[i].Sequence))
                {
                    break;
                }

                using (IFile file = _log.Files.Open(names[i].Path, FileOpenMode.ReadWrite))
                {
                    if (!file.TryLock(FileLockKind.OpenFileDescription))
                    {
                        break; // a backup tool may be reading it
                    }

                    _log.Files.DeleteFile(names[i].Path);
                }

                _log.Segments.Forget(names[i].Sequence);
                _log.Index.DropBelow(names[i].Sequence + 1);
            }
        }
        catch (Exception e) when (e is FileSystemException or WalException)
        {
            _options.Warn?.Invoke($"old log segments were not removed: {e.Message}");
        }
    }
}
