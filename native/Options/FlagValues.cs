// FlagValues: the value of every option after command line, environment or file. Pure.
using System;
using System.Collections.Generic;
using System.Globalization;
using Cairn.Net.Host;

namespace Cairn.Native.Options;

/// <summary>Checked values by name; the default where nothing was given.</summary>
internal sealed class FlagValues
{
    private readonly Dictionary<string, string> _given = new(StringComparer.Ordinal);

    /// <summary>True when the option was given, whatever the value.</summary>
    public bool IsSet(string name) => _given.ContainsKey(name);

    /// <summary>The given options.</summary>
    public IReadOnlyDictionary<string, string> Given => _given;

    /// <summary>Sets a value after checking it.</summary>
    /// <returns>Null, or Go's words for what is wrong with it.</returns>
    public string? Set(Flag flag, string value)
    {
        string? error = flag.Check(value);
        if (error is null)
        {
            // An empty URL list counts as given but leaves the default, as in etcd.
            _given[flag.Name] = flag.Kind == FlagKind.Urls && value.Length == 0 && !_given.ContainsKey(flag.Name)
                ? flag.Default
                : value;
        }

        return error;
    }

    /// <summary>Forgets everything given.</summary>
    public void Clear() => _given.Clear();

    public string Text(string name)
        => _given.TryGetValue(name, out string? value) ? value : Find(name).Default;

    public bool Bool(string name) => GoSyntax.TryParseBool(Text(name), out bool value) && value;

    public ulong UInt(string name) => GoSyntax.TryParseUInt(Text(name), 64, out ulong value, out _) ? value : 0;

    public long Int(string name) => GoSyntax.TryParseInt(Text(name), out long value, out _) ? value : 0;

    /// <summary>A count that must fit 31 bits; larger ones are as good as the largest.</summary>
    public int Count(string name) => (int)Math.Min(UInt(name), int.MaxValue - 1_000_000);

    /// <summary>Nanoseconds.</summary>
    public long Duration(string name) => GoSyntax.TryParseDuration(Text(name), out long value) ? value : 0;

    /// <summary>URLs without duplicates, in the order of their text, as etcd keeps them.</summary>
    public List<ListenUrl> Urls(string name)
    {
        var byText = new SortedDictionary<string, ListenUrl>(StringComparer.Ordinal);
        foreach (string part in Text(name).Split(','))
        {
            if (part.Length != 0 && ListenUrl.TryParse(part, out ListenUrl url, out _))
            {
                byText[url.Text] = url;
            }
        }

        return [.. byText.Values];
    }

    public string[] List(string name)
        => Text(name).Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>A number in messages.</summary>
    public static string Show(ulong value) => value.ToString(CultureInfo.InvariantCulture);

    private static Flag Find(string name)
        => FlagTable.TryGet(name, out Flag flag) ? flag : throw new ArgumentException("no such option: " + name, nameof(name));
}
