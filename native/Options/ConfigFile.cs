// ConfigFile: the YAML file of --config-file.
using System;
using System.IO;

namespace Cairn.Native.Options;

/// <summary>Reads options from a file.</summary>
internal static class ConfigFile
{
    /// <summary>The option that is set when values came from a file.</summary>
    public const string Marker = "config-file";

    /// <exception cref="OptionException">The file cannot be read, or says something impossible.</exception>
    public static void Read(string path, Func<string, string> readFile, FlagValues values)
    {
        string text;
        try
        {
            text = readFile(path);
        }
        catch (FileNotFoundException)
        {
            throw new OptionException("open " + path + ": no such file or directory");
        }
        catch (DirectoryNotFoundException)
        {
            throw new OptionException("open " + path + ": no such file or directory");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException("open " + path + ": " + e.Message);
        }

        _ = text;
        _ = values;
        throw new OptionException("--config-file is not supported yet by this version of cairn");
    }
}
