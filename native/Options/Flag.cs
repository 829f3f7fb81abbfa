// Flag: one option, declared once (FlagTable); parsing, help, environment and config file derive from it. Pure.
using System;
using Cairn.Net.Host;

namespace Cairn.Native.Options;

/// <summary>How a value is read.</summary>
internal enum FlagKind
{
    Text,
    Boolean,

    /// <summary>Unsigned, 64 bits.</summary>
    UInt,

    /// <summary>Unsigned, 32 bits.</summary>
    UInt32,

    /// <summary>Signed, 64 bits.</summary>
    Int,
    Duration,

    /// <summary>URLs with commas between.</summary>
    Urls,

    /// <summary>Words with commas between.</summary>
    List,

    /// <summary>One of <see cref="Flag.Choices"/>.</summary>
    Choice,

    /// <summary><c>Name=bool</c> pairs of <see cref="FeatureGates"/>.</summary>
    Features,
}

/// <summary>What Cairn does with an option today.</summary>
internal enum FlagStanding
{
    /// <summary>It works.</summary>
    Works,

    /// <summary>Nothing here depends on it (a knob of etcd's own innards); taken and ignored, as documented in the help.</summary>
    NoEffect,

    /// <summary>Belongs to a part that is not built yet: any value but the default refuses the start.</summary>
    NotYet,

    /// <summary>Ignored by etcd itself, with a warning.</summary>
    Ignored,
}

/// <summary>A declared option.</summary>
/// <param name="Name">Without dashes.</param>
/// <param name="Kind">How a value is read.</param>
/// <param name="Default">In the form of the command line.</param>
/// <param name="Group">Heading in the help.</param>
/// <param name="Help">One or two sentences.</param>
internal sealed record Flag(string Name, FlagKind Kind, string Default, string Group, string Help)
{
    public FlagStanding Standing { get; init; } = FlagStanding.Works;

    /// <summary>Accepted words of a <see cref="FlagKind.Choice"/>.</summary>
    public string[] Choices { get; init; } = [];

    /// <summary>The option's later name, for the <c>experimental-</c> forms.</summary>
    public string? RenamedTo { get; init; }

    /// <summary>True: the config file does not know it.</summary>
    public bool NotInFile { get; init; }

    /// <summary><c>ETCD_</c> and the name in capitals.</summary>
    public string EnvironmentName => "ETCD_" + Name.ToUpperInvariant().Replace('-', '_');

    /// <summary>Checks a value; null when it is fine, else Go's words for what is wrong.</summary>
    public string? Check(string value)
    {
        switch (Kind)
        {
            case FlagKind.Boolean:
                return GoSyntax.TryParseBool(value, out _) ? null : "parse error";
            case FlagKind.UInt:
                return GoSyntax.TryParseUInt(value, 64, out _, out string wide) ? null : wide;
            case FlagKind.UInt32:
                return GoSyntax.TryParseUInt(value, 32, out _, out string narrow) ? null : narrow;
            case FlagKind.Int:
                return GoSyntax.TryParseInt(value, out _, out string signed) ? null : signed;
            case FlagKind.Duration:
                return GoSyntax.TryParseDuration(value, out _) ? null : "parse error";
            case FlagKind.Urls:
                return CheckUrls(value);
            case FlagKind.Choice:
                // The list flags of etcd repeat the word, the older ones do not.
                return Array.IndexOf(Choices, value) >= 0 ? null
                    : Name == "v2-deprecation" ? "invalid value " + GoSyntax.Quote(value) : "invalid value";
            case FlagKind.Features:
                return FeatureGates.Check(value);
            default:
                return null;
        }
    }

    private static string? CheckUrls(string value)
    {
        if (value.Length == 0)
        {
            return null;
        }

        foreach (string part in value.Split(','))
        {
            if (!ListenUrl.TryParse(part, out _, out string error))
            {
                return error;
            }
        }

        return null;
    }
}
