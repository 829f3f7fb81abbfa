// VersionText: what --version prints. Four lines as etcd's scripts expect them; Cairn's own version stands where
// those scripts do not look (the revision line).
using System;
using System.Reflection;

namespace Cairn.Native.Options;

/// <summary>Versions of this executable.</summary>
internal static class VersionText
{
    /// <summary>The etcd version this server behaves as.</summary>
    public const string Etcd = "3.6.14";

    /// <summary>Cairn's own version.</summary>
    public static string Cairn { get; } =
        typeof(VersionText).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
        ?? "0.0.0";

    /// <summary>The output of <c>--version</c>.</summary>
    public static string Lines =>
        "etcd Version: " + Etcd + "\n"
        + "Git SHA: cairn " + Cairn + "\n"
        + "Go Version: none (.NET " + Environment.Version + ")\n"
        + "Go OS/Arch: linux/" + Architecture + "\n";

    private static string Architecture => System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture switch
    {
        System.Runtime.InteropServices.Architecture.X64 => "amd64",
        System.Runtime.InteropServices.Architecture.Arm64 => "arm64",
        var other => other.ToString(),
    };
}
