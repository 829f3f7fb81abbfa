// CommandLine: arguments and environment to values, with Go's flag syntax and etcd's precedence. Pure: what is to
// be printed and the exit status come back as data, so every rule is a line in a table of tests.
//
// Order  arguments (unknown or bad: 2) -> help -> stray word (1) -> version -> file, or environment -> validation.
using System;
using System.Collections.Generic;

namespace Cairn.Native.Options;

/// <summary>A line to log before logging is set up.</summary>
internal sealed record EarlyLine(string Level, string Message, params (string Name, object Value)[] Fields);

/// <summary>What the command line asks for.</summary>
internal sealed class CommandLineResult
{
    /// <summary>The exit status when there is nothing to run; null to go on.</summary>
    public int? ExitCode { get; set; }

    /// <summary>For standard output.</summary>
    public string Output { get; set; } = "";

    /// <summary>For standard error, as it is.</summary>
    public string Error { get; set; } = "";

    /// <summary>For the log.</summary>
    public List<EarlyLine> Log { get; } = [];

    public FlagValues Values { get; } = new();

    /// <summary>Checked options; set when <see cref="ExitCode"/> is null.</summary>
    public ServerPlan? Plan { get; set; }
}

/// <summary>Options that refuse the start.</summary>
internal sealed class OptionException : Exception
{
    public OptionException(string message)
        : base(message)
    {
    }

    public OptionException(string message, OptionFailure failure)
        : base(message)
    {
        Failure = failure;
    }

    /// <summary>Which of etcd's ways to say it.</summary>
    public OptionFailure Failure { get; }
}

/// <summary>How a refusal is reported.</summary>
internal enum OptionFailure
{
    /// <summary>warn "failed to verify flags", status 1.</summary>
    Verify,

    /// <summary>warn "advertise client URLs are not set", status 1.</summary>
    AdvertiseUnset,

    /// <summary>fatal "discovery failed" (etcd's word for every failure while starting), status 1.</summary>
    Start,

    /// <summary>A Go panic: plain text, status 2.</summary>
    Panic,
}

/// <summary>Reads the command line.</summary>
internal static class CommandLine
{
    /// <param name="arguments">Without the program's name.</param>
    /// <param name="environment">All variables.</param>
    /// <param name="readFile">Gives a file's text, or throws <see cref="System.IO.IOException"/>.</param>
    public static CommandLineResult Read(
        string[] arguments, IReadOnlyDictionary<string, string> environment, Func<string, string> readFile)
    {
        var result = new CommandLineResult();
        string? stray = null;
        bool help = false;
        string? bad = ParseArguments(arguments, result.Values, ref stray, ref help);
        if (bad is not null)
        {
            result.Error = bad + "\n" + HelpText.Usage;
            result.ExitCode = 2;
            return result;
        }

        if (help)
        {
            result.Error = HelpText.Usage;
            result.Output = HelpText.Flags();
            result.ExitCode = 0;
            return result;
        }

        result.Log.Add(new EarlyLine("info", "Running: ", ("args", arguments)));
        if (stray is not null)
        {
            return Refuse(result, new OptionException(GoSyntax.Quote(stray) + " is not a valid flag"));
        }

        if (result.Values.Bool("version"))
        {
            result.Log.Clear();
            result.Output = VersionText.Lines;
            result.ExitCode = 0;
            return result;
        }

        try
        {
            ReadFileOrEnvironment(result, environment, readFile);
            if (result.ExitCode is null)
            {
                result.Plan = PlanBuilder.Build(result.Values, result.Log);
            }
        }
        catch (OptionException e)
        {
            return Refuse(result, e);
        }

        return result;
    }

    private static void ReadFileOrEnvironment(
        CommandLineResult result, IReadOnlyDictionary<string, string> environment, Func<string, string> readFile)
    {
        string file = result.Values.Text("config-file");
        if (file.Length == 0)
        {
            environment.TryGetValue("ETCD_CONFIG_FILE", out string? fromVariable);
            file = fromVariable ?? "";
        }

        if (file.Length == 0)
        {
            ReadEnvironment(result, environment);
            return;
        }

        result.Log.Add(new EarlyLine(
            "info",
            "Loading server configuration from a file. Other command line options and environment variables are ignored",
            ("path", file)));
        ConfigFile.Read(file, readFile, result.Values);
    }

    // Null, or the line Go prints before the usage.
    private static string? ParseArguments(string[] arguments, FlagValues values, ref string? stray, ref bool help)
    {
        int next = 0;
        while (next < arguments.Length)
        {
            string argument = arguments[next];
            if (argument.Length < 2 || argument[0] != '-')
            {
                break;
            }

            next++;
            if (argument == "--")
            {
                break;
            }

            string name = argument[(argument[1] == '-' ? 2 : 1)..];
            if (name[0] is '-' or '=')
            {
                return "bad flag syntax: " + argument;
            }

            int equals = name.IndexOf('=', StringComparison.Ordinal);
            string? value = equals < 0 ? null : name[(equals + 1)..];
            name = equals < 0 ? name : name[..equals];
            if (!FlagTable.TryGet(name, out Flag flag))
            {
                if (name is "help" or "h")
                {
                    help = true;
                    return null;
                }

                return "flag provided but not defined: -" + name;
            }

            if (flag.Kind == FlagKind.Boolean)
            {
                string? wrong = values.Set(flag, value ?? "true");
                if (wrong is not null)
                {
                    return "invalid boolean value " + GoSyntax.Quote(value!) + " for -" + name + ": " + wrong;
                }

                continue;
            }

            if (value is null)
            {
                if (next == arguments.Length)
                {
                    return "flag needs an argument: -" + name;
                }

                value = arguments[next++];
            }

            string? error = values.Set(flag, value);
            if (error is not null)
            {
                return "invalid value " + GoSyntax.Quote(value) + " for flag -" + name + ": " + error;
            }
        }

        stray = next < arguments.Length ? arguments[next] : null;
        return null;
    }

    private static void ReadEnvironment(CommandLineResult result, IReadOnlyDictionary<string, string> environment)
    {
        const string Prefix = "ETCD_";
        const string Conflict = "conflicting environment variable is shadowed by corresponding command-line flag "
            + "(either unset environment variable or disable flag))";
        var used = new HashSet<string>(StringComparer.Ordinal);
        var shadowed = new HashSet<string>(StringComparer.Ordinal);
        foreach (Flag flag in FlagTable.All)
        {
            if (flag.Name == "version")
            {
                continue;
            }

            if (result.Values.IsSet(flag.Name))
            {
                shadowed.Add(flag.EnvironmentName);
            }
            else if (environment.TryGetValue(flag.EnvironmentName, out string? value) && value.Length != 0)
            {
                used.Add(flag.EnvironmentName);
                string? error = result.Values.Set(flag, value);
                if (error is not null)
                {
                    throw new OptionException(
                        "invalid value " + GoSyntax.Quote(value) + " for " + flag.EnvironmentName + ": " + error);
                }

                result.Log.Add(new EarlyLine(
                    "info", "recognized and used environment variable",
                    ("variable-name", flag.EnvironmentName), ("variable-value", value)));
            }
        }

        foreach ((string name, string value) in environment)
        {
            if (used.Contains(name) || !name.StartsWith(Prefix, StringComparison.Ordinal))
            {
                continue;
            }

            if (shadowed.Contains(name))
            {
                result.Log.Add(new EarlyLine("fatal", Conflict, ("environment-variable", name)));
                result.ExitCode = 1;
                return;
            }

            if (name == "ETCD_VERSION")
            {
                result.Log.Add(new EarlyLine("warn", "cannot set special environment variable, it is ignored",
                    ("key", name), ("value", value)));
            }
            else if (name != "ETCD_UNSUPPORTED_ARCH")
            {
                result.Log.Add(new EarlyLine("warn", "unrecognized environment variable",
                    ("environment-variable", name + "=" + value)));
            }
        }
    }

    private static CommandLineResult Refuse(CommandLineResult result, OptionException refusal)
    {
        result.ExitCode = refusal.Failure == OptionFailure.Panic ? 2 : 1;
        switch (refusal.Failure)
        {
            case OptionFailure.Panic:
                result.Error = "panic: " + refusal.Message + "\n";
                break;
            case OptionFailure.AdvertiseUnset:
                result.Log.Add(new EarlyLine("warn", "advertise client URLs are not set", ("error", refusal.Message)));
                break;
            case OptionFailure.Start:
                result.Log.Add(new EarlyLine("fatal", "discovery failed", ("error", refusal.Message)));
                break;
            default:
                result.Log.Add(new EarlyLine("warn", "failed to verify flags", ("error", refusal.Message)));
                break;
        }

        return result;
    }
}
