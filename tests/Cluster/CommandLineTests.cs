// CommandLineTests: exit codes and messages of the command line as etcd 3.6.14 gives them, for the flags that exist so far.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class CommandLineTests
{
    [Theory]
    [InlineData("--version")]
    [InlineData("-version")]
    [InlineData("--version=true")]
    public async Task Version_Asked_PrintsEtcdsFourLines(string argument)
    {
        Finished finished = await Run([argument]);
        Assert.True(finished.ExitCode == 0, finished.ToString());
        Assert.StartsWith("etcd Version: 3.", finished.Out, StringComparison.Ordinal);
        string[] lines = finished.Out.Split('\n');
        Assert.True(Tools.SubjectIsEtcd || lines[0] == "etcd Version: 3.6.14", lines[0]);
        Assert.StartsWith("Git SHA: ", lines[1], StringComparison.Ordinal);
        Assert.Equal("", finished.Error);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("-h")]
    public async Task Help_Asked_PrintsUsage(string argument)
    {
        Finished finished = await Run([argument]);
        Assert.True(finished.ExitCode == 0, finished.ToString());
        Assert.Contains("Usage:", finished.Out + finished.Error, StringComparison.Ordinal);
        Assert.Contains("--listen-client-urls", finished.Out, StringComparison.Ordinal);
    }

    /// <summary>What does not parse: exit 2, one line that begins as Go's flag package begins it, nothing on stdout.</summary>
    [Theory]
    [InlineData("--nope", "flag provided but not defined: -nope")]
    [InlineData("--version --nope", "flag provided but not defined: -nope")]
    [InlineData("--version=false --nope", "flag provided but not defined: -nope")]
    [InlineData("--name", "flag needs an argument: -name")]
    [InlineData("--heartbeat-interval=abc", "invalid value \"abc\" for flag -heartbeat-interval: parse error")]
    [InlineData("--heartbeat-interval=-5", "invalid value \"-5\" for flag -heartbeat-interval: parse error")]
    [InlineData("--initial-cluster-state=foo", "invalid value \"foo\" for flag -initial-cluster-state: invalid value")]
    [InlineData("--listen-client-urls=foo", "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo")]
    [InlineData("--listen-peer-urls=http://127.0.0.1", "invalid value \"http://127.0.0.1\" for flag -listen-peer-urls: URL address does not have the form \"host:port\": http://127.0.0.1")]
    [InlineData("--quota-backend-bytes=abc", "invalid value \"abc\" for flag -quota-backend-bytes: parse error")]
    [InlineData("--snapshot-count=-1", "invalid value \"-1\" for flag -snapshot-count: parse error")]
    [InlineData("--max-txn-ops=-1", "invalid value \"-1\" for flag -max-txn-ops: parse error")]
    public async Task Flag_DoesNotParse_ExitsTwoWithGosLine(string arguments, string message)
    {
        Finished finished = await Run(arguments.Split(' '));
        Assert.True(finished.ExitCode == 2, finished.ToString());
        Assert.Equal(message, finished.Error.Split('\n')[0]);
        Assert.Equal("", finished.Out);
    }

    /// <summary>What parses but cannot be: exit 1 after a log line with etcd's text.</summary>
    [Theory]
    [InlineData("--election-timeout=200 --heartbeat-interval=100", "--election-timeout[200ms] should be at least as 5 times as --heartbeat-interval[100ms]")]
    [InlineData("--heartbeat-interval=0", "--heartbeat-interval must be >0 (set to 0ms)")]
    [InlineData("--election-timeout=60000", "--election-timeout[60000ms] is too long, and should be set less than 50000ms")]
    [InlineData("--listen-client-urls=", "--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    [InlineData("--listen-client-urls=http://127.0.0.1:41990", "--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    [InlineData("--listen-client-urls=http://example.com:41990", "expected IP in URL for binding (http://example.com:41990)")]
    [InlineData("help", "\"help\" is not a valid flag")]
    [InlineData("extra-arg", "\"extra-arg\" is not a valid flag")]
    [InlineData("extra-arg --version", "\"extra-arg\" is not a valid flag")]
    [InlineData("--log-format=foo", "unknown log format: foo, supported values json, console")]
    [InlineData("--log-outputs=default,stdout", "multi logoutput for \"default\" is not supported yet")]
    [InlineData("--log-outputs=/nonexistent/x.log", "open sink \"/nonexistent/x.log\": open /nonexistent/x.log: no such file or directory")]
    [InlineData("--name=zz --initial-cluster=a=http://127.0.0.1:2380", "couldn't find local name \"zz\" in the initial cluster configuration")]
    [InlineData("--initial-cluster=default=http://127.0.0.1:1", "--initial-cluster has default=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=http://localhost:2380")]
    [InlineData("--initial-cluster=bad", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ")]
    public async Task Flags_Contradict_ExitsOneWithEtcdsText(string arguments, string message)
    {
        using TempFolder folder = new();
        int client = Tools.FreePort(), peer = Tools.FreePort();
        List<string> all = [.. arguments.Split(' ')];

        // As in the recording: what fails only while starting had ports of its own and a directory of its own.
        if (arguments.Contains("--initial-cluster=", StringComparison.Ordinal))
        {
            all.AddRange([$"--listen-client-urls=http://127.0.0.1:{client}", $"--advertise-client-urls=http://127.0.0.1:{client}", $"--listen-peer-urls=http://127.0.0.1:{peer}"]);
        }

        all.Add("--data-dir=" + folder["data"]);
        Finished finished = await Run(all);
        Assert.True(finished.ExitCode == 1, finished.ToString());
        string plain = (finished.Out + finished.Error).Replace("\\\"", "\"", StringComparison.Ordinal);
        if (Tools.SubjectIsEtcd)
        {
            plain = plain.Replace("'help'", "\"help\"", StringComparison.Ordinal).Replace("'extra-arg'", "\"extra-arg\"", StringComparison.Ordinal);
        }

        Assert.Contains(message, plain.Replace("\\u003e", ">", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ETCD_HEARTBEAT_INTERVAL=abc", "", 1, "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error")]
    [InlineData("ETCD_INITIAL_CLUSTER_STATE=foo", "", 1, "invalid value \"foo\" for ETCD_INITIAL_CLUSTER_STATE: invalid value")]
    [InlineData("ETCD_LISTEN_CLIENT_URLS=foo", "", 1, "invalid value \"foo\" for ETCD_LISTEN_CLIENT_URLS: URL scheme must be http, https, unix, or unixs: foo")]
    [InlineData("ETCD_NOPE=1", "--election-timeout=60000", 1, "unrecognized environment variable")]
    [InlineData("ETCD_NAME=envname", "--name=flag --election-timeout=60000", 1, "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))")]
    [InlineData("ETCD_ELECTION_TIMEOUT=60000", "", 1, "--election-timeout[60000ms] is too long, and should be set less than 50000ms")]
    [InlineData("ETCD_ELECTION_TIMEOUT=", "--heartbeat-interval=100000", 1, "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[100000ms]")]
    public async Task Environment_Wrong_SaysWhatEtcdSays(string variable, string arguments, int exit, string message)
    {
        using TempFolder folder = new();
        string[] pair = variable.Split('=', 2);
        Finished finished = await Tools.Run(
            Tools.Cairn, arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries).Append("--data-dir=" + folder["data"]), "", 20,
            [KeyValuePair.Create(pair[0], pair[1])]);
        Assert.True(finished.ExitCode == exit, finished.ToString());
        string plain = (finished.Out + finished.Error).Replace("\\\"", "\"", StringComparison.Ordinal);
        Assert.Contains(message, plain, StringComparison.Ordinal);
    }

    private static Task<Finished> Run(IEnumerable<string> arguments) => Tools.Run(Tools.Cairn, arguments, "", 20);
}
