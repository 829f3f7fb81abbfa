// MetricsWriter: the lines of a metrics page. Used by one thread at a time; allocates, pages are rare.
using System;
using System.Buffers;
using System.Globalization;
using System.Text;
using Cairn.Base;

namespace Cairn.Net.Http;

/// <summary>Writes families and samples.</summary>
internal sealed class MetricsWriter
{
    private readonly ArrayBufferWriter<byte> _page = new(64 * 1024);
    private string _name = "";
    private string _head = "";

    /// <summary>Everything written so far.</summary>
    public ReadOnlyMemory<byte> Written => _page.WrittenMemory;

    /// <summary>Renders labels, ordered by name: <c>a="x",b="y"</c>.</summary>
    public static string Labels(params (string Name, string Value)[] labels)
    {
        Array.Sort(labels, static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        var text = new StringBuilder();
        foreach ((string name, string value) in labels)
        {
            text.Append(text.Length == 0 ? "" : ",").Append(name).Append("=\"");
            text.Append(value.Replace("\\", "\\\\", StringComparison.Ordinal)
                .Replace("\"", "\\\"", StringComparison.Ordinal)
                .Replace("\n", "\\n", StringComparison.Ordinal)).Append('"');
        }

        return text.ToString();
    }

    /// <summary>A number in Go's shortest form: 20480, 1.5e-05, 2.147483648e+09.</summary>
    public static string Number(double value)
    {
        if (double.IsNaN(value))
        {
            return "NaN";
        }

        if (double.IsInfinity(value))
        {
            return value > 0 ? "+Inf" : "-Inf";
        }

        // The shortest digits that read back as the same number: d.dddE±x.
        string text = value.ToString("E16", CultureInfo.InvariantCulture);
        for (int digits = 0; digits < 16; digits++)
        {
            string shorter = value.ToString("E" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
            if (double.Parse(shorter, CultureInfo.InvariantCulture) == value)
            {
                text = shorter;
                break;
            }
        }

        int mark = text.IndexOf('E', StringComparison.Ordinal);
        int exponent = int.Parse(text.AsSpan(mark + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        string sign = text[0] == '-' ? "-" : "";
        string all = text[sign.Length..mark].Replace(".", "", StringComparison.Ordinal);
        if (exponent is < -4 or >= 6)
        {
            string more = all.Length > 1 ? "." + all[1..] : "";
            string size = Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture);
            return sign + all[0] + more + "e" + (exponent < 0 ? "-" : "+") + size;
        }

        if (exponent < 0)
        {
            return sign + "0." + new string('0', -exponent - 1) + all;
        }

        return all.Length <= exponent + 1
            ? sign + all.PadRight(exponent + 1, '0')
            : sign + all[..(exponent + 1)] + "." + all[(exponent + 1)..];
    }

    /// <summary>Starts a family.</summary>
    public void Begin(string name, string help, MetricKind kind)
    {
        _name = name;
        string type = kind switch
        {
            MetricKind.Counter => "counter",
            MetricKind.Gauge => "gauge",
            _ => "histogram",
        };
        _head = "# HELP " + name + " " + help.Replace("\\", "\\\\", StringComparison.Ordinal) + "\n# TYPE " + name + " " + type + "\n";
    }

    /// <summary>The family's only sample.</summary>
    public void Sample(double value) => Line("", "", value);

    /// <summary>One sample.</summary>
    /// <param name="labels">Rendered by <see cref="Labels"/>.</param>
    /// <param name="value">The number.</param>
    public void Sample(string labels, double value) => Line("", labels, value);

    /// <summary>The samples of one histogram.</summary>
    /// <param name="labels">Rendered by <see cref="Labels"/>, or empty.</param>
    /// <param name="values">The numbers.</param>
    public void Samples(string labels, Distribution values)
    {
        ReadOnlySpan<long> bounds = values.Bounds;
        Span<long> counts = stackalloc long[bounds.Length + 1];
        long sum = values.Read(counts);
        string before = labels.Length == 0 ? "" : labels + ",";
        long total = 0;
        for (int i = 0; i < bounds.Length; i++)
        {
            total += counts[i];
            Line("_bucket", before + "le=\"" + Number(bounds[i] / values.Unit) + "\"", total);
        }

        total += counts[bounds.Length];
        Line("_bucket", before + "le=\"+Inf\"", total);
        Line("_sum", labels, sum / values.Unit);
        Line("_count", labels, total);
    }

    // A family without samples does not appear at all, as in etcd's page.
    private void Line(string suffix, string labels, double value)
    {
        string set = labels.Length == 0 ? "" : "{" + labels + "}";
        _ = Encoding.UTF8.GetBytes(_head + _name + suffix + set + " " + Number(value) + "\n", _page);
        _head = "";
    }
}
