// WalFillActor: prepares the next segment, truncates closed ones, purges released ones. A thread of its own.
using System;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>The slow side of the log: nothing here is waited for by the WAL thread.</summary>
public sealed class WalFillActor : IActor
{
    public WalFillActor(WalLog log, IClock clock)
    {
        throw new NotImplementedException();
    }

    public string RoleName => "walfill";

    public long NextDeadlineNs => throw new NotImplementedException();

    /// <summary>The error that keeps the next segment from being prepared (full disk), or null. Any thread.</summary>
    public string? LastError => throw new NotImplementedException();

    public bool Poll(long nowNs) => throw new NotImplementedException();
}
