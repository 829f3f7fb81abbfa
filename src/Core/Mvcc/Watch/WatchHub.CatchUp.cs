// WatchHub, history: watchers that are behind read it in passes. The hub's thread.
//
// A pass     takes up to CatchUpWatchers watchers that stand near one another, from streams that have room, and walks the
//            store's revisions once for all of them, until a budget of bytes or revisions is used up. Each then gets one
//            response with all its events and stands at the next revision; who has reached the hub's revision is live.
// Fair       streams take turns to name the first watcher of a pass, and its watchers queue; so one that is a million
//            revisions behind does not hold up one that is ten behind. Live events come before every pass.
// Source     behaviour.md §4.1 (compacted), §4.2 (batches), §4.5.
using System;
using System.Runtime.InteropServices;

namespace Cairn.Core.Mvcc.Watch;

public sealed unsafe partial class WatchHub
{
    private Scratch<Pick> _picks;
    private Scratch<int> _rangePicks; // targets
    private int _pass;
    private int _turn;

    private bool CatchUp(in View view)
    {
        if (Figures.LaggingCount == 0)
        {
            return false;
        }

        bool worked = Choose(view, out long from);
        if (_picks.Count == 0)
        {
            return worked;
        }

        Figures.CatchUpPassCount++;
        long reached = Collect(view, from);
        bool moved = Deliver(view, reached);
        _picks.Reset();
        _hits.Reset();
        _events.Reset();
        _encoded.Reset();
        return worked | moved;
    }

    // Fills _picks and marks their targets. True if a watcher was ended or became live.
    private bool Choose(in View view, out long from)
    {
        for (int i = _laggingStreams.Count - 1; i >= 0; i--)
        {
            if (_laggingStreams[i].LaggingCount == 0)
            {
                _laggingStreams[i].InLaggingList = false;
                _laggingStreams[i] = _laggingStreams[^1];
                _laggingStreams.RemoveAt(_laggingStreams.Count - 1);
            }
        }

        bool worked = false;
        long first = -1;
        from = long.MaxValue;
        _pass++;
        _turn++;
        _picks.Count = 0;
        _rangePicks.Count = 0;
        for (int k = 0; k < _laggingStreams.Count && _picks.Count < _options.CatchUpWatchers; k++)
        {
            WatchStream stream = _laggingStreams[(int)((uint)(_turn + k) % (uint)_laggingStreams.Count)];
            if (stream.Frames.Queued > _limit / 2)
            {
                stream.WantFrameRoom(_limit / 2);
                continue;
            }

            int next;
            int seen = 0;
            for (int at = stream.FirstLagging;
                 at != 0 && seen++ < _options.CatchUpWatchers && _picks.Count < _options.CatchUpWatchers;
                 at = next)
            {
                Watcher* watcher = _watchers[at];
                next = watcher->NextLagging;
                if (watcher->Next < view.CompactRevision)
                {
                    Silence(at);
                    EmitState(stream, watcher->Id, canceled: true, view.CompactRevision);
                    worked = true;
                }
                else if (watcher->Next > _revision)
                {
                    EndLag(at);
                    worked = true;
                }
                else if (first < 0 || Math.Abs(watcher->Next - first) <= _options.CatchUpRevisions)
                {
                    first = first < 0 ? watcher->Next : first;
                    from = Math.Min(from, watcher->Next);
                    AddPick(at, watcher);
                }
            }
        }

        return worked;
    }

    private void AddPick(int index, Watcher* watcher)
    {
        WatchTarget* target = _targets[watcher->Target];
        if (target->Pass != _pass)
        {
            target->Pass = _pass;
            target->FirstInPass = 0;
            if (target->EndLength != WatchTarget.SingleKey)
            {
                _rangePicks.Add(watcher->Target);
            }
        }

        _picks.Add(new Pick { Watcher = index, NextInTarget = target->FirstInPass });
        target->FirstInPass = _picks.Count; // its place plus one
    }

    // Walks history and notes who gets what; returns the last revision that was looked at completely.
    private long Collect(in View view, long from)
    {
        _events.Count = 0;
        _encoded.Count = 0;
        _hits.Count = 0;
        long bytes = 0;
        long revisions = 0;
        bool full = false;
        long main = from - 1;
        var walk = new EventWalk(view, from, _revision);
        while (walk.Next())
        {
            if (walk.Main != main)
            {
                if (full || bytes >= _options.CatchUpBytes || revisions++ >= _options.CatchUpRevisions)
                {
                    return walk.Main - 1;
                }

                main = walk.Main;
            }

            ReadOnlySpan<byte> key = StoredPair.Key(walk.Pair, walk.PairLength);
            int before = _hits.Count;
            int exact = _targets.Find(key);
            if (exact != 0 && _targets[exact]->Pass == _pass)
            {
                full |= Note(exact, walk);
            }

            for (int i = 0; i < _rangePicks.Count; i++)
            {
                WatchTarget* target = _targets[_rangePicks.Items[i]];
                if (target->Key.SequenceCompareTo(key) <= 0 && target->EndsAfter(key))
                {
                    full |= Note(_rangePicks.Items[i], walk);
                }
            }

            if (_hits.Count != before)
            {
                _events.Add(new EventRef(walk.Pair, walk.PairLength, walk.Main, walk.IsTombstone));
                bytes += (long)(_hits.Count - before) * walk.PairLength;
            }
        }

        return _revision;
    }

    // The change (which will be the next of _events) goes to those picks of the target that want it.
    private bool Note(int targetIndex, in EventWalk walk)
    {
        bool full = false;
        WatcherFlags drop = walk.IsTombstone ? WatcherFlags.NoDelete : WatcherFlags.NoPut;
        for (int at = _targets[targetIndex]->FirstInPass; at != 0;)
        {
            Pick* pick = _picks.Items + (at - 1);
            Watcher* watcher = _watchers[pick->Watcher];
            if ((watcher->Flags & drop) == 0 && walk.Main >= watcher->Next)
            {
                _hits.Add(((ulong)(uint)(at - 1) << 32) | (uint)_events.Count);
                if (pick->LastMain != walk.Main)
                {
                    pick->LastMain = walk.Main;
                    full |= ++pick->Revisions >= _options.ResponseRevisionsMax;
                }
            }

            at = pick->NextInTarget;
        }

        return full;
    }

    // Responses for everybody with events; true if anybody got further.
    private bool Deliver(in View view, long reached)
    {
        SetHeader(_revision);
        _hits.Span.Sort();
        bool moved = false;
        int start = 0;
        for (int i = 0; i < _picks.Count; i++)
        {
            int index = _picks.Items[i].Watcher;
            Watcher* watcher = _watchers[index];
            WatchStream stream = _streams[watcher->Stream]!;
            if (start < _hits.Count && (int)(_hits.Items[start] >> 32) == i)
            {
                int end = GroupEnd(start);
                bool sent = EmitMany(watcher, start, end, view, view.CompactRevision);
                start = end;
                if (!sent)
                {
                    stream.WantFrameRoom(_limit / 2);
                    continue;
                }
            }

            if (reached < watcher->Next)
            {
                continue; // the budget ended before its turn; it keeps its place
            }

            moved = true;
            watcher->Next = reached + 1;
            if (reached == _revision)
            {
                EndLag(index);
            }
            else
            {
                UnlinkLagging(stream, index);
                AppendLagging(stream, index);
            }
        }

        return moved;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Pick
    {
        public int Watcher;

        /// <summary>The next pick of the same target, its place plus one.</summary>
        public int NextInTarget;
        public int Revisions;
        public long LastMain;
    }
}
