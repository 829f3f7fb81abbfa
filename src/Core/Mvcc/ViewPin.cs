// ViewPin: the handle of one read on the View it works on.
namespace Cairn.Core.Mvcc;

/// <summary>A pinned View: what one read sees. A value; keep it across awaits, give it back exactly once.</summary>
public readonly struct ViewPin
{
    internal readonly View View;

    internal ViewPin(MvccStore owner, int slot, in View view)
    {
        Owner = owner;
        Slot = slot;
        View = view;
    }

    /// <summary>False for a default value, which pins nothing.</summary>
    public bool IsValid => View.Active is not null;

    /// <summary>Current revision at the time of the pin.</summary>
    public long Revision => View.Revision;

    /// <summary>Last accepted compaction; -1 before any.</summary>
    public long CompactRevision => View.CompactRevision;

    /// <summary>The store it was taken from: a member may have switched to another since.</summary>
    internal MvccStore Owner { get; }

    internal int Slot { get; }
}
