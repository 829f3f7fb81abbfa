// SegmentTable: the segments this process holds open and locked, oldest first.
//
// Thread     wal adds at a cut, walfill truncates and releases, any thread looks up a path; one lock, never held
//            across a system call that can block for long, never taken on the path of an ordinary batch.
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>One segment on disk.</summary>
internal sealed class Segment
{
    /// <summary>One found or made at the start.</summary>
    public Segment(ulong sequence, ulong firstIndex, string path, IFile file)
    {
        Sequence = sequence;
        FirstIndex = firstIndex;
        Path = path;
        File = file;
    }

    /// <summary>A prepared one: <see cref="Name"/> it when it is taken into use.</summary>
    public Segment(IFile file) => File = file;

    public ulong Sequence { get; private set; }

    /// <summary>The index in the name: the first entry that may be in it.</summary>
    public ulong FirstIndex { get; private set; }

    /// <summary>As found in the directory; null for one of this process, whose name follows from its numbers.</summary>
    public string? Path { get; }

    /// <summary>Open and locked; written by the WAL thread while it is the last segment.</summary>
    public IFile File { get; }

    /// <summary>Used length to which walfill shall truncate it, or -1.</summary>
    public long TruncateTo { get; set; } = -1;

    /// <summary>Gives a prepared segment its numbers; before anybody else knows it.</summary>
    public void Name(ulong sequence, ulong firstIndex)
    {
        Sequence = sequence;
        FirstIndex = firstIndex;
    }
}

internal sealed class SegmentTable
{
    private readonly Lock _lock = new();
    private readonly List<Segment> _segments = new(64); // room beforehand: a cut allocates nothing
    private readonly Dictionary<ulong, (ulong FirstIndex, string? Path)> _names = new(256); // released ones too, until they are deleted

    /// <summary>The newest segment. Opening thread only.</summary>
    public Segment Last => _segments[^1];

    /// <summary>Appends the newest; the one before, if any, has ended at a length.</summary>
    public void Add(Segment segment, long previousEnd)
    {
        lock (_lock)
        {
            if (_segments.Count > 0 && previousEnd >= 0)
            {
                _segments[^1].TruncateTo = previousEnd;
            }

            _segments.Add(segment);
            _names[segment.Sequence] = (segment.FirstIndex, segment.Path);
        }
    }

    /// <summary>A closed segment that still has its prepared length, or null.</summary>
    public Segment? TakeToTruncate(out long length)
    {
        lock (_lock)
        {
            foreach (Segment segment in _segments)
            {
                if (segment.TruncateTo >= 0)
                {
                    length = segment.TruncateTo;
                    segment.TruncateTo = -1;
                    return segment;
                }
            }
        }

        length = 0;
        return null;
    }

    /// <summary>
    /// Removes the segments that hold nothing above an index, oldest first, from the table: the newest segment whose
    /// name index is not above it stays, for that is where a start from a snapshot at this index begins to read.
    /// </summary>
    public void Release(ulong index, List<Segment> released)
    {
        lock (_lock)
        {
            int keep = 0;
            for (int i = 0; i < _segments.Count; i++)
            {
                if (_segments[i].FirstIndex <= index)
                {
                    keep = i;
                }
            }

            // One that waits for its truncation is truncated first.
            for (int i = 0; i < keep; i++)
            {
                if (_segments[i].TruncateTo >= 0)
                {
                    keep = i;
                }
            }

            released.AddRange(_segments.GetRange(0, keep));
            _segments.RemoveRange(0, keep);
        }
    }

    /// <summary>True if this process holds the segment open.</summary>
    public bool Holds(ulong sequence)
    {
        lock (_lock)
        {
            foreach (Segment segment in _segments)
            {
                if (segment.Sequence == sequence)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>Where a segment can be read, released or not; null when it is gone.</summary>
    public string? PathOf(ulong sequence, string directory)
    {
        lock (_lock)
        {
            return !_names.TryGetValue(sequence, out (ulong FirstIndex, string? Path) name) ? null
                : name.Path ?? WalFormat.Join(directory, WalFormat.SegmentName(sequence, name.FirstIndex));
        }
    }

    /// <summary>The segment's file is deleted.</summary>
    public void Forget(ulong sequence)
    {
        lock (_lock)
        {
            _names.Remove(sequence);
        }
    }

    /// <summary>Closes every file.</summary>
    public void CloseAll()
    {
        lock (_lock)
        {
            foreach (Segment segment in _segments)
            {
                segment.File.Dispose();
            }

            _segments.Clear();
        }
    }
}
