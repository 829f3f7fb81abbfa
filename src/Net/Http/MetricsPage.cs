// MetricsPage: the metrics of one member in Prometheus' text form, version 0.0.4.
//
// Why        Numbers live where they are counted (Base/Figures.cs); a page is a list of names and of how to get at
//            the numbers. Nothing is kept here, so nothing can be forgotten to be brought up to date.
// Threads    Families are added before the first page is asked for; then any thread may write a page, each its own.
// Form       etcd's families by name, then those with names of our own, labels by name inside each sample, numbers as Go prints them: a page can be compared
//            with etcd's line by line.
// Source     https://prometheus.io/docs/instrumenting/exposition_formats/
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Net.Http;

/// <summary>What a family is.</summary>
internal enum MetricKind
{
    Counter,
    Gauge,
    Histogram,
}

/// <summary>Writes the samples of one family.</summary>
internal delegate void MetricSamples(MetricsWriter writer);

/// <summary>All families of one member.</summary>
internal sealed class MetricsPage
{
    private readonly SortedDictionary<string, Family> _families = new(Comparer<string>.Create(static (a, b) =>
        IsOurs(a) == IsOurs(b) ? string.CompareOrdinal(a, b) : IsOurs(a) ? 1 : -1));

    /// <summary>Adds a family that may have any number of samples.</summary>
    public void Add(string name, string help, MetricKind kind, MetricSamples samples)
        => _families.Add(name, new Family(help, kind, samples));

    /// <summary>Adds a family without labels whose value is zero, unless somebody has added it with better knowledge.</summary>
    public void ZeroUnlessKnown(string name, string help, MetricKind kind)
    {
        if (!_families.ContainsKey(name))
        {
            Add(name, help, kind, static writer => writer.Sample(0));
        }
    }

    /// <summary>The same for a histogram that nothing is ever added to.</summary>
    public void EmptyUnlessKnown(string name, string help, long[] boundsNs)
    {
        if (!_families.ContainsKey(name))
        {
            Histogram(name, help, new OwnedDistribution(boundsNs, 1e9));
        }
    }

    /// <summary>Adds a counter without labels.</summary>
    public void Counter(string name, string help, Func<double> value)
        => Add(name, help, MetricKind.Counter, writer => writer.Sample(value()));

    /// <summary>Adds a gauge without labels.</summary>
    public void Gauge(string name, string help, Func<double> value)
        => Add(name, help, MetricKind.Gauge, writer => writer.Sample(value()));

    /// <summary>Adds a gauge that is 1 for one label value.</summary>
    public void Info(string name, string help, string label, string value)
    {
        string labels = MetricsWriter.Labels((label, value));
        Add(name, help, MetricKind.Gauge, writer => writer.Sample(labels, 1));
    }

    /// <summary>Adds a histogram without labels.</summary>
    public void Histogram(string name, string help, Distribution values)
        => Add(name, help, MetricKind.Histogram, writer => writer.Samples("", values));

    /// <summary>The page of this moment.</summary>
    public ReadOnlyMemory<byte> Write()
    {
        var writer = new MetricsWriter();
        foreach ((string name, Family family) in _families)
        {
            writer.Begin(name, family.Help, family.Kind);
            family.Samples(writer);
        }

        return writer.Written;
    }

    private static bool IsOurs(string name)
        => name.StartsWith("cairn_", StringComparison.Ordinal) || name.StartsWith("dotnet_", StringComparison.Ordinal);

    private sealed record Family(string Help, MetricKind Kind, MetricSamples Samples);
}
