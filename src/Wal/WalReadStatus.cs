// WalReadStatus: what reading old entries back can end with.
namespace Cairn.Wal;

/// <summary>Outcome of reading back.</summary>
public enum WalReadStatus : byte
{
    /// <summary>At least one entry was read; the next read goes on behind the last one.</summary>
    Ok,

    /// <summary>The first entry is no longer in any segment: the follower needs a snapshot.</summary>
    Compacted,

    /// <summary>The first entry is not written yet.</summary>
    Unavailable,

    /// <summary>The bytes on disk are not what was written. The caller stops the member.</summary>
    Damaged,
}
