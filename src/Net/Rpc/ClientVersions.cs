// ClientVersions: how many calls came from which client version (metadata client-api-version). Any I/O thread.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Threading;

namespace Cairn.Net.Rpc;

/// <summary>Counters by version.</summary>
internal sealed class ClientVersions
{
    /// <summary>Clients choose the word; after this many different ones the rest counts as unknown.</summary>
    private const int VersionsMax = 64;

    private readonly ConcurrentDictionary<string, Counts> _byVersion = new(StringComparer.Ordinal);
    private readonly Counts _unknown = new();

    /// <summary>Counts a call; <paramref name="version"/> is null when the client did not say.</summary>
    public void Count(string? version, bool unary)
    {
        Counts counts = _unknown;
        if (version is not null && !_byVersion.TryGetValue(version, out counts!))
        {
            counts = _byVersion.Count >= VersionsMax ? _unknown : _byVersion.GetOrAdd(version, static _ => new Counts());
        }

        _ = unary ? Interlocked.Increment(ref counts.Unary) : Interlocked.Increment(ref counts.Stream);
    }

    /// <summary>Version, unary calls, streams; only those that have been seen.</summary>
    public IEnumerable<(string Version, long Unary, long Stream)> All()
    {
        yield return ("unknown", Volatile.Read(ref _unknown.Unary), Volatile.Read(ref _unknown.Stream));
        foreach ((string version, Counts counts) in _byVersion)
        {
            yield return (version, Volatile.Read(ref counts.Unary), Volatile.Read(ref counts.Stream));
        }
    }

    private sealed class Counts
    {
        public long Unary;
        public long Stream;
    }
}
