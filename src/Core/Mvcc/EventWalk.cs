// EventWalk: all changes of a span of revisions in order, from wherever a View has them: pages, then the frozen buffer,
// then the active one. What watchers read, live and late.
//
// Thread     any with the View pinned; lives on its caller's stack. Pages are made resident as the cursor enters them.
using System;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>Walks the changes of [from, to]; what a compaction removed is not there.</summary>
internal unsafe ref struct EventWalk
{
    private readonly ref readonly View _view;
    private readonly long _from;
    private readonly long _to;
    private TreeCursor _cursor;
    private WriteBuffer? _buffer;
    private Phase _phase;
    private long _next; // buffers: the revision under way
    private long _sub;
    private long _count;

    /// <param name="view">Pinned; outlives the walk.</param>
    /// <param name="from">First revision.</param>
    /// <param name="to">Last one, at most the View's.</param>
    public EventWalk(in View view, long from, long to)
    {
        _view = ref view;
        _from = from;
        _to = to;
        _next = from;
        _phase = from < PagesEnd ? Phase.Start : Phase.Buffers;
    }

    /// <summary>Main revision of the current change.</summary>
    public long Main { get; private set; }

    /// <summary>True for a delete.</summary>
    public bool IsTombstone { get; private set; }

    /// <summary>The stored KeyValue; of a delete it holds the key alone. Valid while the View is pinned.</summary>
    public byte* Pair { get; private set; }

    public int PairLength { get; private set; }

    private readonly long PagesEnd => (_view.Frozen ?? _view.Active).FirstMain;

    /// <summary>Moves to the next change; false at the end.</summary>
    public bool Next() => _phase == Phase.Buffers ? NextInBuffers() : NextInPages();

    private bool NextInPages()
    {
        bool more;
        if (_phase == Phase.Start)
        {
            Span<byte> start = stackalloc byte[RevisionKey.TombstoneSize];
            int length = RevisionKey.Write(start, _from, 0, tombstone: false);
            _cursor = _view.Pages.Cursor();
            more = _cursor.Seek(start[..length]);
            _phase = Phase.Pages;
        }
        else
        {
            more = _cursor.Next();
        }

        if (more)
        {
            bool isRevision = RevisionKey.TryRead(_cursor.Key, out long main, out _, out bool tombstone);
            Invariant.Check(isRevision, "keys of the bucket are revisions");

            // The pinned pages may already hold what the View still takes from a buffer.
            if (main < PagesEnd && main <= _to)
            {
                ReadOnlySpan<byte> pair = _cursor.Value;
                Main = main;
                IsTombstone = tombstone;
                Pair = View.Pointer(pair);
                PairLength = pair.Length;
                return true;
            }
        }

        _phase = Phase.Buffers;
        _next = Math.Max(_from, PagesEnd);
        return NextInBuffers();
    }

    private bool NextInBuffers()
    {
        while (_next <= _to)
        {
            if (_buffer is null)
            {
                bool active = _next >= _view.Active.FirstMain;
                _buffer = active ? _view.Active : _view.Frozen!;
                _sub = 0;
                _count = active
                    ? _buffer.ChangesOf(_next, _view.Revision, _view.ActiveRevisions)
                    : _buffer.ChangesOf(_next, _view.Active.FirstMain - 1, _buffer.Revisions);
            }

            if (_sub < _count)
            {
                Change* change = _buffer.Find(_next, (int)_sub++);
                Main = _next;
                IsTombstone = change->KeyLength == RevisionKey.TombstoneSize;
                Pair = Change.Value(change);
                PairLength = change->ValueLength;
                return true;
            }

            _buffer = null;
            _next++;
        }

        return false;
    }

    private enum Phase : byte
    {
        Start,
        Pages,
        Buffers,
    }
}

/// <summary>Keys of stored pairs.</summary>
internal static unsafe class StoredPair
{
    /// <summary>The key of a stored KeyValue, without reading the rest: it is the first field as etcd writes it.</summary>
    public static ReadOnlySpan<byte> Key(byte* pair, int length)
    {
        if (length > 2 && pair[0] == 0x0a && pair[1] < 0x80 && pair[1] <= length - 2)
        {
            return new ReadOnlySpan<byte>(pair + 2, pair[1]);
        }

        Invariant.Check(KeyValue.TryParse(new ReadOnlySpan<byte>(pair, length), out KeyValue parsed), "a stored pair parses");
        return parsed.Key;
    }
}
