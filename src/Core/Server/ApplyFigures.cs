// ApplyFigures: durations of applied requests by kind and outcome, for the metrics page. Counted by the store thread.
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>One distribution for each kind and outcome that has occurred.</summary>
public sealed class ApplyFigures
{
    private const int KindsMax = (int)RequestKind.DowngradeInfoSet + 1;

    private static readonly long[] s_bounds = Distribution.Doubling(100_000, 20);
    private readonly OwnedDistribution?[] _good = new OwnedDistribution?[KindsMax];
    private readonly OwnedDistribution?[] _bad = new OwnedDistribution?[KindsMax];

    /// <summary>Kinds that have occurred with their outcome. Any thread; allocates.</summary>
    public IEnumerable<(RequestKind Kind, bool Success, Distribution Durations)> All()
    {
        for (int kind = 0; kind < KindsMax; kind++)
        {
            if (Volatile.Read(ref _bad[kind]) is Distribution bad)
            {
                yield return ((RequestKind)kind, false, bad);
            }

            if (Volatile.Read(ref _good[kind]) is Distribution good)
            {
                yield return ((RequestKind)kind, true, good);
            }
        }
    }

    /// <summary>Store thread. The first of its kind allocates.</summary>
    internal void Observe(RequestKind kind, bool success, long ns)
    {
        if (kind == RequestKind.None || (int)kind >= KindsMax)
        {
            return; // a leader's empty entry, a change of members
        }

        OwnedDistribution?[] all = success ? _good : _bad;
        OwnedDistribution? durations = all[(int)kind];
        if (durations is null)
        {
            durations = new OwnedDistribution(s_bounds, 1e9);
            Volatile.Write(ref all[(int)kind], durations);
        }

        durations.Observe(ns);
    }
}
