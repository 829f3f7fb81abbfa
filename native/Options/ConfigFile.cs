// ConfigFile: the YAML file of --config-file.
//
// Why        etcd decodes YAML through JSON rules: keys match in any case, unknown ones are ignored silently, a key
//            without value keeps its default, a value of the wrong type fails. Durations are whole nanoseconds, URL
//            lists one string with commas, the TLS and discovery options sit in maps. Only the event parser of
//            YamlDotNet is used: no reflection, so nothing for the trimmer to lose.
using System;
using System.Collections.Generic;
using System.IO;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Cairn.Native.Options;

/// <summary>Reads options from a file.</summary>
internal static class ConfigFile
{
    /// <summary>The option that is set when values came from a file.</summary>
    public const string Marker = "config-file";

    /// <summary>Deeper files than this are no configuration.</summary>
    private const int DepthMax = 32;

    private static readonly Dictionary<string, string> Maps = new(StringComparer.OrdinalIgnoreCase)
    {
        ["client-transport-security"] = "",
        ["peer-transport-security"] = "peer-",
        ["socket-options"] = "socket-",
    };

    private static readonly Dictionary<string, string> Renamed = new(StringComparer.OrdinalIgnoreCase)
    {
        ["experimental-snapshot-catch-up-entries"] = "experimental-snapshot-catchup-entries",
    };

    /// <summary>Fills the values from a file; what the command line said about options is forgotten.</summary>
    /// <exception cref="OptionException">The file cannot be read, or says something impossible.</exception>
    public static void Read(string path, Func<string, string> readFile, FlagValues values)
    {
        string text = ReadText(path, readFile);
        values.Clear();
        _ = FlagTable.TryGet(Marker, out Flag marker);
        _ = values.Set(marker, path);
        try
        {
            var parser = new Parser(new StringReader(text));
            parser.Consume<StreamStart>();
            if (parser.TryConsume<DocumentStart>(out _))
            {
                ReadDocument(parser, values);
            }
        }
        catch (YamlException e)
        {
            throw new OptionException("error converting YAML to JSON: yaml: line " + FlagValues.Show((ulong)e.Start.Line) + ": " + e.Message);
        }
    }

    private static string ReadText(string path, Func<string, string> readFile)
    {
        try
        {
            return readFile(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new OptionException("open " + path + ": no such file or directory");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException("open " + path + ": " + e.Message);
        }
    }

    private static void ReadDocument(Parser parser, FlagValues values)
    {
        if (parser.TryConsume<Scalar>(out Scalar? only))
        {
            if (only.Value.Length != 0)
            {
                throw new OptionException("error unmarshaling JSON: the file is not a map of options");
            }

            return;
        }

        parser.Consume<MappingStart>();
        while (!parser.TryConsume<MappingEnd>(out _))
        {
            string key = parser.Consume<Scalar>().Value;
            if (parser.Accept<MappingStart>(out _) && Maps.TryGetValue(key, out string? prefix))
            {
                ReadMap(parser, prefix, values);
            }
            else if (FindFlag(key, out Flag flag) && !flag.NotInFile)
            {
                SetFrom(parser, flag, key, values);
            }
            else if (key.Equals("discovery-config", StringComparison.OrdinalIgnoreCase))
            {
                throw new OptionException("discovery-config is not supported yet by this version of cairn");
            }
            else
            {
                Skip(parser, 0);
            }
        }
    }

    private static void ReadMap(Parser parser, string prefix, FlagValues values)
    {
        parser.Consume<MappingStart>();
        while (!parser.TryConsume<MappingEnd>(out _))
        {
            string key = parser.Consume<Scalar>().Value;
            string name = prefix + key.ToLowerInvariant() switch
            {
                "allowed-cn" => "cert-allowed-cn",
                "allowed-hostname" => prefix.Length == 0 ? "client-cert-allowed-hostname" : "cert-allowed-hostname",
                var other => other,
            };
            if (FlagTable.TryGet(name, out Flag flag))
            {
                SetFrom(parser, flag, key, values);
            }
            else
            {
                Skip(parser, 0);
            }
        }
    }

    private static bool FindFlag(string key, out Flag flag)
    {
        string name = Renamed.GetValueOrDefault(key, key);
        return FlagTable.TryGet(name.ToLowerInvariant(), out flag);
    }

    private static void SetFrom(Parser parser, Flag flag, string key, FlagValues values)
    {
        string? value = parser.Accept<SequenceStart>(out _) ? ReadList(parser, flag, key) : ReadScalar(parser, flag, key);
        if (value is null)
        {
            return;
        }

        string? error = values.Set(flag, value);
        if (error is not null)
        {
            throw new OptionException("invalid value " + GoSyntax.Quote(value) + " for " + key + ": " + error);
        }
    }

    private static string ReadList(Parser parser, Flag flag, string key)
    {
        if (flag.Kind != FlagKind.List)
        {
            throw WrongType("array", key);
        }

        var words = new List<string>();
        parser.Consume<SequenceStart>();
        while (!parser.TryConsume<SequenceEnd>(out _))
        {
            words.Add(parser.Consume<Scalar>().Value);
        }

        return string.Join(',', words);
    }

    private static string? ReadScalar(Parser parser, Flag flag, string key)
    {
        if (!parser.TryConsume<Scalar>(out Scalar? scalar))
        {
            throw WrongType("object", key);
        }

        bool quoted = scalar.Style is not ScalarStyle.Plain;
        string value = scalar.Value;
        if (!quoted && value is "" or "~" or "null" or "Null" or "NULL")
        {
            return null;
        }

        switch (flag.Kind)
        {
            case FlagKind.Boolean:
                return quoted ? throw WrongType("string", key) : Boolean(value) ?? throw WrongType("string", key);
            case FlagKind.UInt or FlagKind.UInt32 or FlagKind.Int:
                return quoted || flag.Check(value) is not null ? throw WrongType("string", key) : value;
            case FlagKind.Duration:
                return quoted || !GoSyntax.TryParseInt(value, out long nanoseconds, out _)
                    ? throw WrongType("string", key)
                    : nanoseconds.ToString(System.Globalization.CultureInfo.InvariantCulture) + "ns";
            case FlagKind.List when flag.Name is "log-outputs" or "cipher-suites":
                throw WrongType("string", key);
            default:
                return !quoted && IsOtherThanText(value) ? throw WrongType("number", key) : value;
        }
    }

    // The words YAML 1.1 takes for true and false.
    private static string? Boolean(string value) => value.ToLowerInvariant() switch
    {
        "true" or "yes" or "on" or "y" => "true",
        "false" or "no" or "off" or "n" => "false",
        _ => null,
    };

    // A plain number or boolean where a text is wanted: JSON has no text there.
    private static bool IsOtherThanText(string value)
        => GoSyntax.TryParseInt(value, out _, out _) || Boolean(value) is not null && value.Length > 1;

    private static void Skip(Parser parser, int depth)
    {
        if (depth == DepthMax)
        {
            throw new OptionException("error converting YAML to JSON: the file nests too deeply");
        }

        if (parser.TryConsume<MappingStart>(out _))
        {
            while (!parser.TryConsume<MappingEnd>(out _))
            {
                Skip(parser, depth + 1);
            }
        }
        else if (parser.TryConsume<SequenceStart>(out _))
        {
            while (!parser.TryConsume<SequenceEnd>(out _))
            {
                Skip(parser, depth + 1);
            }
        }
        else
        {
            parser.MoveNext();
        }
    }

    private static OptionException WrongType(string what, string key)
        => new("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal " + what + " into field " + key);
}
