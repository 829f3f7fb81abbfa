// Samples: medians with their spread, and ratios of pairs. A ratio is taken inside each A/B pair, so that what the machine
// did in that minute concerns both sides; the median of those ratios is what is compared with a limit.
using System;
using System.Collections.Generic;
using System.Globalization;

namespace Cairn.Bench;

internal static class Samples
{
    public static double Quantile(IReadOnlyList<double> values, double q)
    {
        double[] sorted = [.. values];
        Array.Sort(sorted);
        double at = q * (sorted.Length - 1);
        int low = (int)at;
        return low + 1 < sorted.Length ? sorted[low] + ((at - low) * (sorted[low + 1] - sorted[low])) : sorted[low];
    }

    public static double Median(IReadOnlyList<double> values) => Quantile(values, 0.5);

    /// <summary>`median (least … most)`.</summary>
    public static string Show(IReadOnlyList<double> values, string format) => values.Count == 1
        ? values[0].ToString(format, CultureInfo.InvariantCulture)
        : string.Create(CultureInfo.InvariantCulture,
            $"{Median(values).ToString(format, CultureInfo.InvariantCulture)} ({Quantile(values, 0).ToString(format, CultureInfo.InvariantCulture)} … {Quantile(values, 1).ToString(format, CultureInfo.InvariantCulture)})");

    public static List<double> Ratios(IReadOnlyList<double> ours, IReadOnlyList<double> theirs)
    {
        List<double> ratios = [];
        for (int i = 0; i < ours.Count; i++)
        {
            ratios.Add(ours[i] / theirs[i]);
        }

        return ratios;
    }
}
