// HelpText: what --help prints, made from the option table.
using System.Collections.Generic;
using System.Text;

namespace Cairn.Native.Options;

/// <summary>Usage and the list of options.</summary>
internal static class HelpText
{
    private const int Width = 100;
    private const string Indent = "        ";

    /// <summary>The short form, also printed after a mistake.</summary>
    public const string Usage =
        "Usage:\n"
        + "\n"
        + "  cairn [options]\n"
        + "    Start a server. Options are etcd's; each may also be given as an environment variable:\n"
        + "    --listen-client-urls as ETCD_LISTEN_CLIENT_URLS. Giving both is an error.\n"
        + "\n"
        + "  cairn --config-file FILE\n"
        + "    Start with the options in a YAML file; other options and variables then do not count.\n"
        + "\n"
        + "  cairn --version\n"
        + "    Print the version.\n"
        + "\n"
        + "  cairn --help\n"
        + "    List all options.\n";

    /// <summary>All options by group.</summary>
    public static string Flags()
    {
        var text = new StringBuilder();
        var groups = new List<string>();
        foreach (Flag flag in FlagTable.All)
        {
            if (!groups.Contains(flag.Group))
            {
                groups.Add(flag.Group);
            }
        }

        foreach (string group in groups)
        {
            text.Append(group).Append(":\n\n");
            foreach (Flag flag in FlagTable.All)
            {
                if (flag.Group == group)
                {
                    Add(text, flag);
                }
            }
        }

        return text.ToString();
    }

    private static void Add(StringBuilder text, Flag flag)
    {
        text.Append("  --").Append(flag.Name);
        if (flag.Default.Length != 0)
        {
            text.Append(" '").Append(flag.Default).Append('\'');
        }
        else
        {
            text.Append(" ''");
        }

        text.Append('\n');
        Wrap(text, flag.Help + flag.Standing switch
        {
            FlagStanding.NotYet => " [not supported yet: any other value refuses the start]",
            FlagStanding.NoEffect => " [accepted, no effect]",
            FlagStanding.Ignored => " [ignored]",
            _ => "",
        });
        text.Append('\n');
    }

    private static void Wrap(StringBuilder text, string sentence)
    {
        int column = 0;
        foreach (string word in sentence.Split(' '))
        {
            if (column == 0 || column + word.Length + 1 > Width)
            {
                text.Append(column == 0 ? "" : "\n").Append(Indent).Append(word);
                column = Indent.Length + word.Length;
            }
            else
            {
                text.Append(' ').Append(word);
                column += word.Length + 1;
            }
        }

        text.Append('\n');
    }
}
