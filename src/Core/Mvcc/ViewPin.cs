namespace Cairn.Core.Mvcc;

/// <summary>A pinned View: what one read sees. A value; keep it across awaits, give it back exactly once.</summary>
public readonly struct ViewPin
{
    /// <summary>Current revision at the time of the pin.</summary>
    public long Revision { get; init; }

    /// <summary>Last accepted compaction; -1 before any.</summary>
    public long CompactRevision { get; init; }
}
