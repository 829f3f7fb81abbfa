// Connections: how many a process may hold: its descriptors less those that its own files need.
using System;
using Cairn.Net.Http;

namespace Cairn.Net.Host;

/// <summary>The limit that follows from the process's descriptors.</summary>
public static class Connections
{
    /// <summary>Descriptors kept for log, database, peers and the runtime (etcd's number).</summary>
    private const long Reserved = 150;

    /// <summary>Connections that the descriptor limit leaves room for, at least one; null where there is no limit.</summary>
    public static long? Allowed()
    {
        double limit = ProcessFigures.FileLimit();
        return limit is 0 or >= long.MaxValue ? null : Math.Max(1, (long)limit - Reserved);
    }
}
