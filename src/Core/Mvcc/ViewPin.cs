namespace Cairn.Core.Mvcc;

/// <summary>A pinned View: what one read sees. A value; keep it across awaits, give it back exactly once.</summary>
public readonly struct ViewPin
{
    internal ViewPin(int slot, in View view)
    {
        Slot = slot;
        View = view;
    }

    /// <summary>Current revision at the time of the pin.</summary>
    public long Revision => View.Revision;

    /// <summary>Last accepted compaction; -1 before any.</summary>
    public long CompactRevision => View.CompactRevision;

    internal int Slot { get; }

    internal readonly View View;
}
