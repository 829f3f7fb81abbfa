using System;
using Cairn.Base;

namespace Cairn.Core.Mvcc;

/// <summary>The tree thread: writes frozen buffers, compaction deletes and shrink steps into the tree file.</summary>
public sealed class TreeActor : IActor
{
    public string RoleName => "btree";

    /// <summary>Woken when a commit is durable (the store thread). Set before the threads start.</summary>
    public IWaker? StoreWaker { get; set; }

    /// <summary>Wakes this actor; the store uses it at a freeze. Set before the threads start.</summary>
    public IWaker? Waker { get; set; }

    public long NextDeadlineNs => throw new NotImplementedException();

    public bool Poll(long nowNs) => throw new NotImplementedException();

    /// <summary>Somebody waits for the commit under way: stop pacing it. Any thread.</summary>
    public void Hurry() => throw new NotImplementedException();

    /// <summary>
    /// Any thread: moves pages down until the file cannot get smaller, in steps between commits.
    /// <paramref name="completed"/> is called on the tree thread.
    /// </summary>
    public void Defragment(Action<object?> completed, object? state) => throw new NotImplementedException();
}
