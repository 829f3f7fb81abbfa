// WatchHub, tables: adding, finding and removing watchers, and who among them lags. The hub's thread.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Core.Mvcc.Watch;

public sealed unsafe partial class WatchHub
{
    private readonly SlabTable<Watcher> _watchers = new();
    private readonly TargetIndex _targets;
    private readonly List<WatchStream?> _streams = new(64) { null }; // place 0 is nobody's
    private readonly Stack<int> _freeStreams = new();
    private readonly List<WatchStream> _laggingStreams = new(16);
    private readonly ulong _idSeed;
    private ChainTable _ids;

    private int AddWatcher(
        WatchStream stream, long id, ReadOnlySpan<byte> key, ReadOnlySpan<byte> end, int endLength, long next, WatcherFlags flags)
    {
        int wanted = _ids.Wanted(_watchers.Count + 1);
        if (wanted != _ids.Length)
        {
            RehashIds(wanted);
        }

        int target = _targets.Add(key, end, endLength);
        int made = _watchers.Add();
        Watcher* watcher = _watchers[made];
        watcher->Id = id;
        watcher->Next = next;
        watcher->Flags = flags;
        watcher->Stream = stream.Index;
        watcher->Target = target;

        WatchTarget* list = _targets[target];
        watcher->NextInTarget = list->First;
        if (list->First != 0)
        {
            _watchers[list->First]->PreviousInTarget = made;
        }

        list->First = made;
        list->Count++;

        watcher->NextInStream = stream.FirstWatcher;
        if (stream.FirstWatcher != 0)
        {
            _watchers[stream.FirstWatcher]->PreviousInStream = made;
        }

        stream.FirstWatcher = made;
        stream.WatcherCount++;
        stream.IdCount++;

        ref int head = ref _ids.Head(IdHash(stream.Index, id));
        watcher->NextSameHash = head;
        head = made;

        stream.FutureCount += (flags & WatcherFlags.Future) != 0 ? 1 : 0;
        if ((flags & WatcherFlags.ProgressNotify) != 0 && stream.ProgressCount++ == 0)
        {
            if (stream.NextProgressNs <= _nowNs)
            {
                stream.NextProgressNs = _nowNs + ProgressPeriod();
            }

            _progressAtNs = Math.Min(_progressAtNs, stream.NextProgressNs);
        }

        Figures.WatcherCount++;
        return made;
    }

    private int FindWatcher(WatchStream stream, long id)
    {
        if (_ids.Length == 0)
        {
            return 0;
        }

        int at = _ids.Head(IdHash(stream.Index, id));
        while (at != 0)
        {
            Watcher* watcher = _watchers[at];
            if (watcher->Id == id && watcher->Stream == stream.Index)
            {
                return at;
            }

            at = watcher->NextSameHash;
        }

        return 0;
    }

    private void RemoveWatcher(int index)
    {
        Watcher* watcher = _watchers[index];
        WatchStream stream = _streams[watcher->Stream]!;
        Silence(index);
        if (watcher->PreviousInStream != 0)
        {
            _watchers[watcher->PreviousInStream]->NextInStream = watcher->NextInStream;
        }
        else
        {
            stream.FirstWatcher = watcher->NextInStream;
        }

        if (watcher->NextInStream != 0)
        {
            _watchers[watcher->NextInStream]->PreviousInStream = watcher->PreviousInStream;
        }

        stream.IdCount--;
        ref int link = ref _ids.Head(IdHash(watcher->Stream, watcher->Id));
        while (link != index)
        {
            link = ref _watchers[link]->NextSameHash;
        }

        link = watcher->NextSameHash;
        _watchers.Remove(index);
        if (_watchers.Count == 0)
        {
            _ids.Free();
        }
    }

    /// <summary>
    /// The watcher gets nothing more. Its id stays taken until the client cancels it or the stream ends, as etcd has it
    /// for those that a compaction ended.
    /// </summary>
    private void Silence(int index)
    {
        Watcher* watcher = _watchers[index];
        if ((watcher->Flags & WatcherFlags.Silent) != 0)
        {
            return;
        }

        WatchStream stream = _streams[watcher->Stream]!;
        if ((watcher->Flags & WatcherFlags.Lagging) != 0)
        {
            EndLag(index);
        }

        WatchTarget* target = _targets[watcher->Target];
        if (watcher->PreviousInTarget != 0)
        {
            _watchers[watcher->PreviousInTarget]->NextInTarget = watcher->NextInTarget;
        }
        else
        {
            target->First = watcher->NextInTarget;
        }

        if (watcher->NextInTarget != 0)
        {
            _watchers[watcher->NextInTarget]->PreviousInTarget = watcher->PreviousInTarget;
        }

        if (--target->Count == 0)
        {
            _targets.Remove(watcher->Target);
        }

        stream.WatcherCount--;
        stream.FutureCount -= (watcher->Flags & WatcherFlags.Future) != 0 ? 1 : 0;
        stream.ProgressCount -= (watcher->Flags & WatcherFlags.ProgressNotify) != 0 ? 1 : 0;
        watcher->Flags = WatcherFlags.Silent;
        Figures.WatcherCount--;
    }

    /// <summary>From now on the watcher reads history from a revision on.</summary>
    private void BeginLag(int index, long next)
    {
        Watcher* watcher = _watchers[index];
        WatchStream stream = _streams[watcher->Stream]!;
        watcher->Flags |= WatcherFlags.Lagging;
        watcher->Next = next;
        AppendLagging(stream, index);
        stream.LaggingCount++;
        Figures.LaggingCount++;
        if (!stream.InLaggingList)
        {
            stream.InLaggingList = true;
            _laggingStreams.Add(stream);
        }
    }

    private void EndLag(int index)
    {
        Watcher* watcher = _watchers[index];
        WatchStream stream = _streams[watcher->Stream]!;
        UnlinkLagging(stream, index);
        watcher->Flags &= ~WatcherFlags.Lagging;
        stream.LaggingCount--;
        Figures.LaggingCount--;
    }

    private void AppendLagging(WatchStream stream, int index)
    {
        Watcher* watcher = _watchers[index];
        watcher->PreviousLagging = stream.LastLagging;
        watcher->NextLagging = 0;
        if (stream.LastLagging != 0)
        {
            _watchers[stream.LastLagging]->NextLagging = index;
        }
        else
        {
            stream.FirstLagging = index;
        }

        stream.LastLagging = index;
    }

    private void UnlinkLagging(WatchStream stream, int index)
    {
        Watcher* watcher = _watchers[index];
        if (watcher->PreviousLagging != 0)
        {
            _watchers[watcher->PreviousLagging]->NextLagging = watcher->NextLagging;
        }
        else
        {
            stream.FirstLagging = watcher->NextLagging;
        }

        if (watcher->NextLagging != 0)
        {
            _watchers[watcher->NextLagging]->PreviousLagging = watcher->PreviousLagging;
        }
        else
        {
            stream.LastLagging = watcher->PreviousLagging;
        }
    }

    /// <summary>Everything up to the current revision was sent, and it has begun.</summary>
    private bool IsSynced(Watcher* watcher)
    {
        if ((watcher->Flags & WatcherFlags.Future) != 0 && _revision >= watcher->Next)
        {
            watcher->Flags &= ~WatcherFlags.Future;
            _streams[watcher->Stream]!.FutureCount--;
        }

        return (watcher->Flags & (WatcherFlags.Lagging | WatcherFlags.Future)) == 0
            || Mutations.Is(Mutation.ProgressAheadOfStream);
    }

    private bool IsSynced(WatchStream stream)
    {
        // An id whose watcher a compaction ended counts as one that is behind until its client cancels it: so does etcd.
        if (stream.WatcherCount == 0 || stream.LaggingCount != 0 || stream.IdCount != stream.WatcherCount)
        {
            return false;
        }

        for (int at = stream.FirstWatcher; at != 0 && stream.FutureCount > 0; at = _watchers[at]->NextInStream)
        {
            if (!IsSynced(_watchers[at]))
            {
                return false;
            }
        }

        return true;
    }

    private void RehashIds(int length)
    {
        _ids.Resize(length);
        foreach (WatchStream? stream in _streams)
        {
            for (int at = stream?.FirstWatcher ?? 0; at != 0; at = _watchers[at]->NextInStream)
            {
                Watcher* watcher = _watchers[at];
                ref int head = ref _ids.Head(IdHash(watcher->Stream, watcher->Id));
                watcher->NextSameHash = head;
                head = at;
            }
        }
    }

    private uint IdHash(int stream, long id)
    {
        ulong high = Math.BigMul((ulong)id ^ _idSeed, ((ulong)(uint)stream * 0x9E3779B97F4A7C15) ^ 0xE7037ED1A0B428DB, out ulong low);
        return (uint)((high ^ low) >> 7);
    }
}
