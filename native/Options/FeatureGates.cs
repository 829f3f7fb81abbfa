// FeatureGates: the names of --feature-gates, their defaults, and the syntax of the option. Pure.
using System;
using System.Collections.Generic;

namespace Cairn.Native.Options;

/// <summary>etcd 3.6's feature gates.</summary>
internal static class FeatureGates
{
    /// <summary>Name, default, stage (for the metric).</summary>
    public static readonly (string Name, bool Default, string Stage)[] All =
    [
        ("AllAlpha", false, "ALPHA"),
        ("AllBeta", false, "BETA"),
        ("CompactHashCheck", false, "ALPHA"),
        ("InitialCorruptCheck", false, "ALPHA"),
        ("LeaseCheckpoint", false, "ALPHA"),
        ("LeaseCheckpointPersist", false, "ALPHA"),
        ("SetMemberLocalAddr", false, "ALPHA"),
        ("StopGRPCServiceOnDefrag", false, "ALPHA"),
        ("TxnModeWriteWithSharedBuffer", true, "BETA"),
    ];

    /// <summary>Null when every pair is fine.</summary>
    public static string? Check(string value)
    {
        foreach (string part in value.Split(','))
        {
            string pair = part.Trim();
            if (pair.Length == 0)
            {
                continue;
            }

            int equals = pair.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? pair : pair[..equals].Trim();
            if (equals < 0)
            {
                return "missing bool value for " + name;
            }

            string text = pair[(equals + 1)..].Trim();
            if (!GoSyntax.TryParseBool(text, out _))
            {
                return "invalid value of " + name + "=" + text + ", err: strconv.ParseBool: parsing "
                    + GoSyntax.Quote(text) + ": invalid syntax";
            }

            if (!TryFind(name, out _))
            {
                return "unrecognized feature gate: " + name;
            }
        }

        return null;
    }

    /// <summary>The gates set by a checked value.</summary>
    public static Dictionary<string, bool> Parse(string value)
    {
        var gates = new Dictionary<string, bool>(StringComparer.Ordinal);
        foreach (string part in value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            int equals = part.IndexOf('=', StringComparison.Ordinal);
            _ = GoSyntax.TryParseBool(part[(equals + 1)..].Trim(), out bool on);
            gates[part[..equals].Trim()] = on;
        }

        return gates;
    }

    /// <summary>Every gate as a checked value leaves it.</summary>
    public static List<Cairn.Net.Host.FeatureState> States(string value)
    {
        Dictionary<string, bool> given = Parse(value);
        var states = new List<Cairn.Net.Host.FeatureState>();
        foreach ((string name, bool byDefault, string stage) in All)
        {
            bool on = given.TryGetValue(name, out bool set) ? set
                : given.GetValueOrDefault(stage == "ALPHA" ? "AllAlpha" : "AllBeta") || byDefault;
            states.Add(new Cairn.Net.Host.FeatureState(name, stage, on));
        }

        return states;
    }

    /// <summary>The gate's default.</summary>
    public static bool TryFind(string name, out bool byDefault)
    {
        foreach ((string known, bool value, _) in All)
        {
            if (known == name)
            {
                byDefault = value;
                return true;
            }
        }

        byDefault = false;
        return false;
    }
}
