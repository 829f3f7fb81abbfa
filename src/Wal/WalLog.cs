// WalLog: an open log. Owned by the WAL thread once its actor runs; reading back is for any thread.
using System;

namespace Cairn.Wal;

/// <summary>The segments of one member and the position where the next record goes.</summary>
public sealed class WalLog : IDisposable
{
    /// <summary>The log directory.</summary>
    public string Directory => throw new NotImplementedException();

    /// <summary>Metadata bytes as recorded.</summary>
    public ReadOnlyMemory<byte> Metadata => throw new NotImplementedException();

    /// <summary>
    /// Reads entries back from segment files: <paramref name="lo"/> inclusive, <paramref name="hi"/> exclusive, at
    /// least one if there is any, stopping after <paramref name="maxBytes"/>. Blocks on the disk: for a slow thread.
    /// </summary>
    public WalReadStatus ReadEntries(ulong lo, ulong hi, long maxBytes, WalEntryBuffer into) =>
        throw new NotImplementedException();

    /// <summary>Closes and unlocks everything and removes the prepared next segment. The actors must have ended.</summary>
    public void Dispose()
    {
    }
}

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
