// MvccStore, for watchers: values of the past, and the revision below which nobody will ask for events that were live.
using System;
using System.Threading;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    private long _watchFloor = long.MaxValue;

    /// <summary>
    /// The hub has read every change up to here; compactions above it wait with their deletes. MaxValue: nobody
    /// watches. Written by the hub, read by the store.
    /// </summary>
    internal long WatchFloor
    {
        get => Volatile.Read(ref _watchFloor);
        set => Volatile.Write(ref _watchFloor, value);
    }

    /// <summary>The pair stored for a key as of a revision; empty if it did not exist then. Valid while pinned.</summary>
    internal ReadOnlySpan<byte> ValueAt(ReadOnlySpan<byte> key, long main, in View view)
    {
        KeyRecord* record = _index.Find(key);
        return record != null && KeyHistory.TryGetLive(record, main, out KeyState state) ? view.Value(state.Main, state.Sub) : default;
    }
}
