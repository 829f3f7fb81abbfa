// WatchHub, responses: events are encoded once each, responses are put together per watcher. The hub's thread.
//
// A response is a gRPC frame: five bytes of prefix, header (field 1, the same for all of one revision and therefore kept
// encoded), watch_id (2), flags (3..7), events (11). Source: api.md §3, §3b; field order is that of the real encoder.
using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc.Watch;

/// <summary>One change on its way to watchers; its encoded forms are made when somebody wants them.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EventRef
{
    public byte* Pair;
    public long Main;
    public int PairLength;
    public bool IsTombstone;

    /// <summary>Where the encoded field 11 is; negative: not made yet.</summary>
    public int Plain;
    public int PlainLength;
    public int WithPrevious;
    public int WithPreviousLength;

    public EventRef(byte* pair, int length, long main, bool tombstone)
    {
        Pair = pair;
        PairLength = length;
        Main = main;
        IsTombstone = tombstone;
        Plain = -1;
        WithPrevious = -1;
    }
}

public sealed unsafe partial class WatchHub
{
    private const long ProgressId = -1;
    private const int FramePrefix = 5;
    private const int EventsField = 11;
    private const int HeaderMax = 48;

    private readonly byte[] _headerBytes = new byte[HeaderMax];
    private Scratch<EventRef> _events;
    private Scratch<byte> _encoded;
    private Scratch<ulong> _hits; // who (high half) gets which event (low half)
    private Scratch<int> _found;
    private HeaderFields _headerFields;
    private long _headerRevision = -1;
    private int _headerLength;

    // One change in a revision, by far the most common: straight from the target lists.
    private void DispatchOne(in View view)
    {
        EventRef* change = _events.Items;
        ReadOnlySpan<byte> key = StoredPair.Key(change->Pair, change->PairLength);
        int exact = _targets.Find(key);
        _found.Count = 0;
        _targets.Stab(key, ref _found);
        if (exact == 0 && _found.Count == 0)
        {
            return;
        }

        SetHeader(change->Main);
        WatcherFlags drop = WatcherFlags.Lagging | (change->IsTombstone ? WatcherFlags.NoDelete : WatcherFlags.NoPut);
        if (exact != 0)
        {
            DispatchTo(exact, drop, view);
        }

        for (int i = 0; i < _found.Count; i++)
        {
            DispatchTo(_found.Items[i], drop, view);
        }
    }

    private void DispatchTo(int target, WatcherFlags drop, in View view)
    {
        long main = _events.Items->Main;
        for (int at = _targets[target]->First; at != 0;)
        {
            Watcher* watcher = _watchers[at];
            if ((watcher->Flags & drop) == 0 && main >= watcher->Next && !EmitOne(watcher, view))
            {
                Figures.ForcedLagCount++;
                BeginLag(at, Mutations.Is(Mutation.SlowBatchDropped) ? main + 1 : main);
            }

            at = watcher->NextInTarget;
        }
    }

    // Several changes share the revision: each watcher gets all of its own in one response.
    private void DispatchMany(in View view)
    {
        _hits.Count = 0;
        for (int i = 0; i < _events.Count; i++)
        {
            EventRef* change = _events.Items + i;
            ReadOnlySpan<byte> key = StoredPair.Key(change->Pair, change->PairLength);
            WatcherFlags drop = WatcherFlags.Lagging | (change->IsTombstone ? WatcherFlags.NoDelete : WatcherFlags.NoPut);
            int exact = _targets.Find(key);
            _found.Count = 0;
            _targets.Stab(key, ref _found);
            if (exact != 0)
            {
                _found.Add(exact);
            }

            for (int k = 0; k < _found.Count; k++)
            {
                for (int at = _targets[_found.Items[k]]->First; at != 0; at = _watchers[at]->NextInTarget)
                {
                    Watcher* watcher = _watchers[at];
                    if ((watcher->Flags & drop) == 0 && change->Main >= watcher->Next)
                    {
                        _hits.Add(((ulong)(uint)at << 32) | (uint)i);
                    }
                }
            }
        }

        if (_hits.Count == 0)
        {
            _events.Reset();
            return;
        }

        SetHeader(_events.Items->Main);
        _hits.Span.Sort();
        for (int start = 0; start < _hits.Count;)
        {
            int end = GroupEnd(start);
            int at = (int)(_hits.Items[start] >> 32);
            if (!EmitMany(_watchers[at], start, end, view, compacted: -1))
            {
                Figures.ForcedLagCount++;
                BeginLag(at, _events.Items->Main);
            }

            start = end;
        }

        _hits.Reset();
        _events.Reset();
        _encoded.Reset();
    }

    private int GroupEnd(int start)
    {
        ulong who = _hits.Items[start] >> 32;
        int end = start + 1;
        while (end < _hits.Count && _hits.Items[end] >> 32 == who)
        {
            end++;
        }

        return end;
    }

    private bool EmitOne(Watcher* watcher, in View view)
    {
        WatchStream stream = _streams[watcher->Stream]!;
        if (stream.Frames.Queued >= _limit)
        {
            return false;
        }

        ReadOnlySpan<byte> encoded = Encoded(_events.Items, watcher, view, compacted: -1);
        int idLength = ProtoSize.VarintFieldIfSet(2, (ulong)watcher->Id);
        int length = _headerLength + idLength + encoded.Length;
        byte* at = stream.Frames.Begin(FramePrefix + length);
        *at = 0;
        BinaryPrimitives.WriteInt32BigEndian(new Span<byte>(at + 1, 4), length);
        at += FramePrefix;
        new ReadOnlySpan<byte>(_headerBytes, 0, _headerLength).CopyTo(new Span<byte>(at, _headerLength));
        at += _headerLength;
        if (idLength != 0)
        {
            var writer = new ProtoWriter(new Span<byte>(at, idLength));
            writer.WriteVarintField(2, (ulong)watcher->Id);
            at += idLength;
        }

        encoded.CopyTo(new Span<byte>(at, encoded.Length));
        Commit(stream, FramePrefix + length, 1);
        watcher->Flags &= ~WatcherFlags.Quiet;
        return true;
    }

    /// <summary>Sends a group of hits as one response, or as fragments if the watcher allows that.</summary>
    private bool EmitMany(Watcher* watcher, int start, int end, in View view, long compacted)
    {
        WatchStream stream = _streams[watcher->Stream]!;
        if (stream.Frames.Queued >= _limit)
        {
            return false;
        }

        long eventBytes = 0;
        for (int i = start; i < end; i++)
        {
            eventBytes += Encoded(_events.Items + (uint)_hits.Items[i], watcher, view, compacted).Length;
        }

        watcher->Flags &= ~WatcherFlags.Quiet;
        int fixedLength = _headerLength + ProtoSize.VarintFieldIfSet(2, (ulong)watcher->Id);
        if ((watcher->Flags & WatcherFlags.Fragment) == 0 || end - start < 2 || fixedLength + eventBytes < _options.FragmentBytes)
        {
            EmitPart(stream, watcher, start, end, eventBytes, fragment: false, view, compacted);
            return true;
        }

        while (start < end)
        {
            // At least one event; then as many as stay below the limit (the mark of a fragment takes two bytes).
            long size = fixedLength + 2L;
            int stop = start;
            long partBytes = 0;
            while (stop < end)
            {
                int more = Encoded(_events.Items + (uint)_hits.Items[stop], watcher, view, compacted).Length;
                if (stop > start && size + partBytes + more >= _options.FragmentBytes)
                {
                    break;
                }

                partBytes += more;
                stop++;
            }

            EmitPart(stream, watcher, start, stop, partBytes, fragment: stop < end, view, compacted);
            start = stop;
        }

        return true;
    }

    private void EmitPart(
        WatchStream stream, Watcher* watcher, int start, int end, long eventBytes, bool fragment, in View view, long compacted)
    {
        int idLength = ProtoSize.VarintFieldIfSet(2, (ulong)watcher->Id);
        int length = checked((int)(_headerLength + idLength + (fragment ? 2 : 0) + eventBytes));
        byte* at = stream.Frames.Begin(FramePrefix + length);
        *at = 0;
        BinaryPrimitives.WriteInt32BigEndian(new Span<byte>(at + 1, 4), length);
        var writer = new ProtoWriter(new Span<byte>(at + FramePrefix, length));
        writer.WriteRaw(new ReadOnlySpan<byte>(_headerBytes, 0, _headerLength));
        writer.WriteVarintFieldIfSet(2, (ulong)watcher->Id);
        writer.WriteVarintFieldIfSet(7, fragment ? 1u : 0);
        for (int i = start; i < end; i++)
        {
            writer.WriteRaw(Encoded(_events.Items + (uint)_hits.Items[i], watcher, view, compacted));
        }

        Commit(stream, FramePrefix + length, end - start);
    }

    private void EmitProgress(WatchStream stream, long id)
    {
        SetHeader(_revision);
        EmitControl(stream, id, created: false, canceled: false, 0, "");
    }

    /// <summary>A watcher was created, or ends: at its client's wish, or because what it needs is compacted.</summary>
    private void EmitState(WatchStream stream, long id, bool canceled, long compactRevision)
    {
        SetHeader(compactRevision != 0 ? 0 : _revision);
        EmitControl(stream, id, !canceled, canceled, compactRevision, "");
    }

    private void EmitRefused(WatchStream stream, string reason)
    {
        SetHeader(_revision);
        EmitControl(stream, -1, created: true, canceled: true, 0, reason);
    }

    private void EmitControl(WatchStream stream, long id, bool created, bool canceled, long compactRevision, string reason)
    {
        int reasonLength = System.Text.Encoding.UTF8.GetByteCount(reason);
        int length = _headerLength
            + ProtoSize.VarintFieldIfSet(2, (ulong)id)
            + (created ? 2 : 0)
            + (canceled ? 2 : 0)
            + ProtoSize.VarintFieldIfSet(5, (ulong)compactRevision)
            + ProtoSize.BytesFieldIfSet(6, reasonLength);
        byte* at = stream.Frames.Begin(FramePrefix + length);
        *at = 0;
        BinaryPrimitives.WriteInt32BigEndian(new Span<byte>(at + 1, 4), length);
        var room = new Span<byte>(at + FramePrefix, length);
        var writer = new ProtoWriter(room);
        writer.WriteRaw(new ReadOnlySpan<byte>(_headerBytes, 0, _headerLength));
        writer.WriteVarintFieldIfSet(2, (ulong)id);
        writer.WriteVarintFieldIfSet(3, created ? 1u : 0);
        writer.WriteVarintFieldIfSet(4, canceled ? 1u : 0);
        writer.WriteVarintFieldIfSet(5, (ulong)compactRevision);
        if (reasonLength != 0)
        {
            writer.WriteTag(6, WireType.Bytes);
            writer.WriteVarint((ulong)reasonLength);
            _ = System.Text.Encoding.UTF8.GetBytes(reason, room[writer.Position..]);
        }

        Commit(stream, FramePrefix + length, 0);
    }

    private void Commit(WatchStream stream, int bytes, int events)
    {
        stream.Frames.Commit(bytes, events);
        Figures.EventCount += events;
        if (!stream.IsDirty)
        {
            stream.IsDirty = true;
            _dirty.Add(stream);
        }
    }

    /// <summary>Field 1 of the responses that follow.</summary>
    private void SetHeader(long revision)
    {
        HeaderFields fields = _header();
        if (revision == _headerRevision && fields.RaftTerm == _headerFields.RaftTerm)
        {
            return;
        }

        _headerFields = fields;
        _headerRevision = revision;
        var header = new ResponseHeader
        {
            ClusterId = fields.ClusterId,
            MemberId = fields.MemberId,
            Revision = revision,
            RaftTerm = fields.RaftTerm,
        };
        var writer = new ProtoWriter(_headerBytes);
        header.WriteField(ref writer);
        _headerLength = writer.Position;
    }

    /// <summary>An event as field 11, in the form the watcher wants; valid until the next call.</summary>
    /// <param name="change">The change.</param>
    /// <param name="watcher">Who gets it.</param>
    /// <param name="view">Pinned.</param>
    /// <param name="compacted">Previous values below this revision are gone; -1: those of live events never are.</param>
    private ReadOnlySpan<byte> Encoded(EventRef* change, Watcher* watcher, in View view, long compacted)
    {
        if ((watcher->Flags & WatcherFlags.PrevKv) != 0)
        {
            if (change->WithPrevious < 0)
            {
                ReadOnlySpan<byte> previous = Previous(change, view, compacted);
                change->WithPrevious = _encoded.Count;
                change->WithPreviousLength = Encode(change, previous);
            }

            return new ReadOnlySpan<byte>(_encoded.Items + change->WithPrevious, change->WithPreviousLength);
        }

        if (change->Plain < 0)
        {
            change->Plain = _encoded.Count;
            change->PlainLength = Encode(change, default);
        }

        return new ReadOnlySpan<byte>(_encoded.Items + change->Plain, change->PlainLength);
    }

    private ReadOnlySpan<byte> Previous(EventRef* change, in View view, long compacted)
    {
        if (change->Main - 1 < compacted)
        {
            return default;
        }

        var pair = new ReadOnlySpan<byte>(change->Pair, change->PairLength);
        Invariant.Check(KeyValue.TryParse(pair, out KeyValue parsed), "a stored pair parses");
        bool created = !change->IsTombstone && parsed.CreateRevision == parsed.ModRevision;
        return created ? default : _store.ValueAt(parsed.Key, change->Main - 1, view);
    }

    private int Encode(EventRef* change, ReadOnlySpan<byte> previous)
    {
        int kvLength = change->PairLength + (change->IsTombstone ? ProtoSize.VarintField(3, (ulong)change->Main) : 0);
        int inner = (change->IsTombstone ? 2 : 0) + ProtoSize.BytesField(2, kvLength) + ProtoSize.BytesFieldIfSet(3, previous.Length);
        int length = ProtoSize.BytesField(EventsField, inner);
        var writer = new ProtoWriter(_encoded.Extend(length));
        writer.WriteTag(EventsField, WireType.Bytes);
        writer.WriteVarint((ulong)inner);
        writer.WriteVarintFieldIfSet(1, change->IsTombstone ? 1u : 0);
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)kvLength);
        writer.WriteRaw(new ReadOnlySpan<byte>(change->Pair, change->PairLength));
        if (change->IsTombstone)
        {
            writer.WriteVarintField(3, (ulong)change->Main);
        }

        writer.WriteBytesFieldIfSet(3, previous);
        return length;
    }
}
