// The command line against what etcd 3.6.14 did with the same words: exit status and message.
using System;
using System.Collections.Generic;
using System.IO;
using Cairn.Native.Logging;
using Cairn.Native.Options;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class OptionTests
{
    private const string Usual = "--listen-client-urls=http://127.0.0.1:41990 --advertise-client-urls=http://127.0.0.1:41990 ";

    [Theory]
    [InlineData("--version", 0)]
    [InlineData("-version", 0)]
    [InlineData("--version=true", 0)]
    [InlineData("--help", 0)]
    [InlineData("-h", 0)]
    [InlineData("--peer-auto-tls=1 --version", 0)]
    [InlineData("--version=false --nope", 2)]
    [InlineData("--version --nope", 2)]
    public void Command_ThatOnlyPrints_Exits(string line, int status) => Assert.Equal(status, Read(line).ExitCode);

    [Fact]
    public void Version_HasFourLines_EtcdFirst()
    {
        string[] lines = Read("--version").Output.TrimEnd('\n').Split('\n');
        Assert.Equal(4, lines.Length);
        Assert.Equal("etcd Version: 3.6.14", lines[0]);
        Assert.StartsWith("Git SHA: ", lines[1], StringComparison.Ordinal);
        Assert.StartsWith("Go Version: ", lines[2], StringComparison.Ordinal);
        Assert.StartsWith("Go OS/Arch: linux/", lines[3], StringComparison.Ordinal);
        Assert.Empty(Read("--version").Error);
        Assert.Empty(Read("--version").Log);
    }

    [Fact]
    public void Help_NamesEveryOption()
    {
        CommandLineResult help = Read("--help");
        foreach (Flag flag in FlagTable.All)
        {
            Assert.Contains("  --" + flag.Name + " '", help.Output, StringComparison.Ordinal);
        }

        Assert.StartsWith("Usage:", help.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--nope", "flag provided but not defined: -nope")]
    [InlineData("--name", "flag needs an argument: -name")]
    [InlineData("--heartbeat-interval=abc", "invalid value \"abc\" for flag -heartbeat-interval: parse error")]
    [InlineData("--heartbeat-interval=-5", "invalid value \"-5\" for flag -heartbeat-interval: parse error")]
    [InlineData("--initial-cluster-state=foo", "invalid value \"foo\" for flag -initial-cluster-state: invalid value")]
    [InlineData("--listen-client-urls=foo", "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo")]
    [InlineData("--listen-peer-urls=http://127.0.0.1", "invalid value \"http://127.0.0.1\" for flag -listen-peer-urls: URL address does not have the form \"host:port\": http://127.0.0.1")]
    [InlineData("--listen-peer-urls=http://127.0.0.1:1/x", "invalid value \"http://127.0.0.1:1/x\" for flag -listen-peer-urls: URL must not contain a path: http://127.0.0.1:1/x")]
    [InlineData("--quota-backend-bytes=abc", "invalid value \"abc\" for flag -quota-backend-bytes: parse error")]
    [InlineData("--client-cert-auth=maybe", "invalid boolean value \"maybe\" for -client-cert-auth: parse error")]
    [InlineData("--v2-deprecation=foo", "invalid value \"foo\" for flag -v2-deprecation: invalid value \"foo\"")]
    [InlineData("--snapshot-count=-1", "invalid value \"-1\" for flag -snapshot-count: parse error")]
    [InlineData("--max-txn-ops=-1", "invalid value \"-1\" for flag -max-txn-ops: parse error")]
    [InlineData("--feature-gates=Foo=true", "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo")]
    [InlineData("--feature-gates=InitialCorruptCheck=maybe", "invalid value \"InitialCorruptCheck=maybe\" for flag -feature-gates: invalid value of InitialCorruptCheck=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax")]
    [InlineData("--enable-v2", "flag provided but not defined: -enable-v2")]
    [InlineData("--proxy=on", "flag provided but not defined: -proxy")]
    [InlineData("--socket-reuse-port=2", "invalid boolean value \"2\" for -socket-reuse-port: parse error")]
    [InlineData("--force-new-cluster=x", "invalid boolean value \"x\" for -force-new-cluster: parse error")]
    [InlineData("--unsafe-no-fsync=x", "invalid boolean value \"x\" for -unsafe-no-fsync: parse error")]
    [InlineData("--max-concurrent-streams=4294967296", "invalid value \"4294967296\" for flag -max-concurrent-streams: value out of range")]
    [InlineData("---name=x", "bad flag syntax: ---name=x")]
    public void Flag_ThatDoesNotParse_ExitsTwoWithGosLine(string line, string first)
    {
        CommandLineResult result = Read(line);
        Assert.Equal(2, result.ExitCode);
        Assert.Equal(first, result.Error.Split('\n')[0]);
        Assert.Empty(result.Output);
    }

    [Theory]
    [InlineData("help", "\"help\" is not a valid flag")]
    [InlineData("extra-arg", "\"extra-arg\" is not a valid flag")]
    [InlineData("extra-arg --version", "\"extra-arg\" is not a valid flag")]
    [InlineData("--force-new-cluster true", "\"true\" is not a valid flag")]
    [InlineData("--election-timeout=200 --heartbeat-interval=100", "--election-timeout[200ms] should be at least as 5 times as --heartbeat-interval[100ms]")]
    [InlineData("--heartbeat-interval=0", "--heartbeat-interval must be >0 (set to 0ms)")]
    [InlineData("--election-timeout=60000", "--election-timeout[60000ms] is too long, and should be set less than 50000ms")]
    [InlineData("--auto-compaction-mode=foo", "unknown auto-compaction-mode \"foo\"")]
    [InlineData("--listen-client-urls=http://example.com:41990", "expected IP in URL for binding (http://example.com:41990)")]
    [InlineData("--log-format=foo", "unknown log format: foo, supported values json, console")]
    [InlineData("--config-file=/nonexistent", "open /nonexistent: no such file or directory")]
    [InlineData("--logger=capnslog", "--logger=capnslog is removed in v3.5")]
    [InlineData("--initial-cluster=a=http://127.0.0.1:1 --discovery-endpoints=x", "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \"discovery-endpoints\" or \"discovery-srv\"")]
    [InlineData("--discovery-token=x", "both --discovery-token and --discovery-endpoints must be set")]
    [InlineData("--log-outputs=default,stdout", "multi logoutput for \"default\" is not supported yet")]
    [InlineData("--log-rotation-config-json=x --enable-log-rotation", "--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    [InlineData("--experimental-initial-corrupt-check --feature-gates=InitialCorruptCheck=true", "cannot specify both flags: --experimental-initial-corrupt-check=true and --feature-gates=InitialCorruptCheck=true at the same time, please just use --feature-gates=InitialCorruptCheck=true")]
    [InlineData("--experimental-memory-mlock --memory-mlock", "cannot set --experimental-memory-mlock and --memory-mlock at the same time, please use --memory-mlock only")]
    [InlineData("--compact-hash-check-time=0s", "--compact-hash-check-time must be >0 (set to 0s)")]
    public void Options_ThatContradict_ExitOneWithEtcdsWords(string line, string error)
    {
        CommandLineResult result = Read(line);
        Assert.Equal(1, result.ExitCode);
        EarlyLine last = result.Log[^1];
        Assert.Equal(("warn", "failed to verify flags"), (last.Level, last.Message));
        Assert.Equal(("error", error), last.Fields[0]);
    }

    [Theory]
    [InlineData("--listen-client-urls=")]
    [InlineData("--listen-client-urls=http://127.0.0.1:41990")]
    public void Listen_WithoutAdvertise_IsRefused(string line)
    {
        CommandLineResult result = Read(line);
        Assert.Equal(1, result.ExitCode);
        Assert.Equal("advertise client URLs are not set", result.Log[^1].Message);
        Assert.Equal("--advertise-client-urls is required when --listen-client-urls is set explicitly", result.Log[^1].Fields[0].Value);
    }

    [Theory]
    [InlineData(Usual + "--auth-token=foo", "auth: invalid auth options")]
    [InlineData(Usual + "--initial-cluster=bad", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ")]
    [InlineData(Usual + "--auto-compaction-retention=abc", "error parsing CompactionRetention: time: invalid duration \"abc\"")]
    [InlineData("--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=https://127.0.0.1:1", "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme")]
    public void Start_ThatCannotWork_IsFatalAsDiscoveryFailed(string line, string error)
    {
        CommandLineResult result = Read(line);
        Assert.Equal(1, result.ExitCode);
        Assert.Equal(("fatal", "discovery failed"), (result.Log[^1].Level, result.Log[^1].Message));
        Assert.Equal(error, result.Log[^1].Fields[0].Value);
    }

    [Theory]
    [InlineData("--log-level=foo", "panic: unrecognized level: \"foo\"\n")]
    public void LogLevel_Unknown_Panics(string line, string error)
    {
        CommandLineResult result = Read(line);
        Assert.Equal((2, error), (result.ExitCode, result.Error));
    }

    [Theory]
    [InlineData(Usual + "--cert-file=/x", "cert-file")]
    [InlineData(Usual + "--auto-tls", "auto-tls")]
    [InlineData(Usual + "--auto-compaction-retention=1", "auto-compaction-retention")]
    [InlineData(Usual + "--discovery=http://x.example/token", "discovery")]
    [InlineData(Usual + "--feature-gates=SetMemberLocalAddr=true", "feature-gates")]
    [InlineData(Usual + "--auth-token=jwt,sign-method=RS256", "auth-token")]
    [InlineData(Usual + "--listen-metrics-urls=https://127.0.0.1:1", "listen-metrics-urls")]
    public void Option_OfALaterPart_FailsLoudly(string line, string name)
    {
        CommandLineResult result = Read(line);
        Assert.Equal(1, result.ExitCode);
        string error = Assert.IsType<string>(result.Log[^1].Fields[0].Value);
        Assert.StartsWith("--" + name, error, StringComparison.Ordinal);
        Assert.EndsWith("is not supported yet by this version of cairn", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--listen-peer-urls=https://127.0.0.1:1 --initial-advertise-peer-urls=https://127.0.0.1:1 --peer-cert-file=a --peer-key-file=b")]
    [InlineData(Usual + "--auto-tls=false --force-new-cluster=false --corrupt-check-time=0")]
    [InlineData(Usual + "--bcrypt-cost=99")]
    [InlineData("--name=m1 --discovery-srv=x.example --discovery-srv-name=a")]
    [InlineData("--name=m1 --discovery-token=t --discovery-endpoints=http://127.0.0.1:1,http://127.0.0.1:2")]
    [InlineData(Usual + "--force-new-cluster --strict-reconfig-check=false --pre-vote=false --max-learners=3")]
    [InlineData(Usual + "--experimental-compaction-batch-limit=5")]
    [InlineData(Usual + "--snapshot 5 --vv x")]
    [InlineData("")]
    public void Options_ThatEtcdTakes_AreTaken(string line) => Assert.Null(Read(line).ExitCode);

    [Theory]
    [InlineData("--compaction-batch-limit=7 --compaction-sleep-interval=3ms")]
    [InlineData("--experimental-compaction-batch-limit=7 --experimental-compaction-sleep-interval=3ms")]
    public void Compaction_PaceIsAnOption(string flags)
    {
        var member = Read(Usual + flags).Plan!.Host.Member;
        Assert.Equal(7, member.CompactionBatchLimit);
        Assert.Equal(3_000_000, member.CompactionPauseNs);
    }

    [Fact]
    public void Environment_FillsWhatIsNotGiven()
    {
        CommandLineResult result = Read("--name=a", ("ETCD_DATA_DIR", "/d"), ("ETCD_HEARTBEAT_INTERVAL", "7"), ("ETCD_WAL_DIR", ""));
        Assert.Null(result.ExitCode);
        Assert.Equal("/d", result.Plan!.Host.Member.DataDir);
        Assert.Equal(7, result.Plan.Host.Member.HeartbeatMs);
        Assert.Null(result.Plan.Host.Member.WalDir);
        Assert.Contains(result.Log, l => l.Message == "unrecognized environment variable" && (string)l.Fields[0].Value == "ETCD_WAL_DIR=");
    }

    [Fact]
    public void Environment_BesideItsFlag_IsFatal()
    {
        CommandLineResult result = Read("--name=flag", ("ETCD_NAME", "flag"));
        Assert.Equal(1, result.ExitCode);
        Assert.Equal("fatal", result.Log[^1].Level);
        Assert.StartsWith("conflicting environment variable is shadowed by corresponding command-line flag", result.Log[^1].Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ETCD_HEARTBEAT_INTERVAL", "abc", "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error")]
    [InlineData("ETCD_INITIAL_CLUSTER_STATE", "foo", "invalid value \"foo\" for ETCD_INITIAL_CLUSTER_STATE: invalid value")]
    [InlineData("ETCD_LISTEN_CLIENT_URLS", "foo", "invalid value \"foo\" for ETCD_LISTEN_CLIENT_URLS: URL scheme must be http, https, unix, or unixs: foo")]
    [InlineData("ETCD_CONFIG_FILE", "/nonexistent", "open /nonexistent: no such file or directory")]
    public void Environment_Wrong_ExitsOne(string name, string value, string error)
    {
        CommandLineResult result = Read("", (name, value));
        Assert.Equal(1, result.ExitCode);
        Assert.Equal(error, result.Log[^1].Fields[0].Value);
    }

    [Theory]
    [InlineData("ETCD_NOPE", "1", true)]
    [InlineData("ETCD_HELP", "true", true)]
    [InlineData("ETCD_VERSION", "true", false)]
    [InlineData("ETCD_UNSUPPORTED_ARCH", "arm", false)]
    [InlineData("PATH", "/bin", false)]
    public void Environment_Unknown_OnlyWarns(string name, string value, bool warns)
    {
        CommandLineResult result = Read("", (name, value));
        Assert.Null(result.ExitCode);
        Assert.Equal(warns, result.Log.Exists(l => l.Message == "unrecognized environment variable"));
    }

    [Fact]
    public void Defaults_AreEtcds()
    {
        var host = Read("").Plan!.Host;
        Assert.Equal("default", host.Member.Name);
        Assert.Equal("default.etcd", host.Member.DataDir);
        Assert.Equal(10_000UL, host.Member.SnapshotCount);
        Assert.Equal(5_000UL, host.Member.CatchupEntries);
        Assert.Equal(100, host.Member.BatchIntervalMs);
        Assert.Equal(10_000, host.Member.BatchLimit);
        Assert.Equal(1000, host.Member.CompactionBatchLimit);
        Assert.Equal(10_000_000, host.Member.CompactionPauseNs);
        Assert.Equal(128, host.Member.MaxTxnOps);
        Assert.Equal(1_572_864, host.Member.MaxRequestBytes);
        Assert.Equal(2_097_152, host.Limits.MaxMessageBytes);
        Assert.Equal("default", host.Member.InitialCluster[0].Name);
        Assert.Equal(["http://localhost:2380"], host.Member.InitialCluster[0].PeerUrls);
        Assert.Equal(2379, Assert.Single(host.ListenClientUrls).Port);
    }

    [Fact]
    public void Name_Alone_RenamesTheInitialCluster()
    {
        var member = Read("--name x --initial-advertise-peer-urls http://10.0.0.1:2380,http://10.0.0.1:2381").Plan!.Host.Member;
        Assert.Equal("x", Assert.Single(member.InitialCluster).Name);
        Assert.Equal(["http://10.0.0.1:2380", "http://10.0.0.1:2381"], member.InitialCluster[0].PeerUrls);
    }

    [Fact]
    public void InitialCluster_SeveralUrlsOfOneName_AreGathered()
    {
        var member = Read(Usual + "--initial-cluster b=http://h:2,a=http://h:3,b=http://h:1").Plan!.Host.Member;
        Assert.Equal("b", member.InitialCluster[0].Name);
        Assert.Equal(["http://h:1", "http://h:2"], member.InitialCluster[0].PeerUrls);
        Assert.Equal("a", member.InitialCluster[1].Name);
    }

    [Fact]
    public void File_AloneCounts()
    {
        const string Yaml = """
            name: filed
            Data-Dir: /f
            heartbeat-interval: 50
            election-timeout: 500
            backend-batch-interval: 200000000
            listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
            quota-backend-bytes: -1
            log-outputs: [stderr]
            log-level:
            unknown: {nested: [1, {2: 3}]}
            client-transport-security:
              cert-file:
              auto-tls: no
            """;
        CommandLineResult result = CommandLine.Read(
            ["--config-file=/etc/c.yml", "--name=flag", "--heartbeat-interval=7"],
            new Dictionary<string, string> { ["ETCD_DATA_DIR"] = "/env" },
            path => path == "/etc/c.yml" ? Yaml : throw new FileNotFoundException());
        Assert.Null(result.ExitCode);
        var host = result.Plan!.Host;
        Assert.Equal(("filed", "/f", 50, 200), (host.Member.Name, host.Member.DataDir, host.Member.HeartbeatMs, host.Member.BatchIntervalMs));
        Assert.Equal(2, host.ListenClientUrls.Count);
        Assert.Equal(["http://localhost:2379"], host.Member.AdvertiseClientUrls);
        Assert.Equal(-1, host.Member.QuotaBytes);
    }

    [Theory]
    [InlineData("heartbeat-interval: abc")]
    [InlineData("heartbeat-interval: '50'")]
    [InlineData("backend-batch-interval: 100ms")]
    [InlineData("name: 5")]
    [InlineData("name: [a]")]
    [InlineData("name: {a: b}")]
    [InlineData("force-new-cluster: maybe")]
    [InlineData("log-outputs: stderr")]
    [InlineData("client-transport-security: {cert-file: /x}")]
    [InlineData("- a list")]
    [InlineData("a: b: c")]
    [InlineData("a: [1, 2")]
    public void File_ThatMakesNoSense_IsRefused(string yaml)
    {
        CommandLineResult result = CommandLine.Read(["--config-file=f"], new Dictionary<string, string>(), _ => yaml);
        Assert.Equal(1, result.ExitCode);
        Assert.Equal("failed to verify flags", result.Log[^1].Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("# only a comment\n")]
    [InlineData("{}")]
    public void File_Empty_GivesDefaults(string yaml)
        => Assert.Null(CommandLine.Read(["--config-file=f"], new Dictionary<string, string>(), _ => yaml).ExitCode);

    [Theory]
    [InlineData("0", 0)]
    [InlineData("300ms", 300_000_000)]
    [InlineData("1h30m", 5_400_000_000_000)]
    [InlineData("1.5s", 1_500_000_000)]
    [InlineData("-2s", -2_000_000_000)]
    [InlineData("+2us", 2_000)]
    [InlineData(".5s", 500_000_000)]
    public void Duration_InGosForm_Parses(string text, long nanoseconds)
    {
        Assert.True(GoSyntax.TryParseDuration(text, out long value));
        Assert.Equal(nanoseconds, value);
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("s")]
    [InlineData("1x")]
    [InlineData("1..5s")]
    [InlineData("--1s")]
    [InlineData("9999999999h")]
    public void Duration_InNoForm_IsRefused(string text) => Assert.False(GoSyntax.TryParseDuration(text, out _));

    [Fact]
    public void Duration_Printed_ParsesBack()
        => Gen.Long[-1_000_000_000_000_000, 1_000_000_000_000_000].Sample(ns =>
        {
            Assert.True(GoSyntax.TryParseDuration(GoSyntax.FormatDuration(ns), out long back));
            Assert.Equal(ns, back);
        });

    [Theory]
    [InlineData("0x10", 16)]
    [InlineData("0o17", 15)]
    [InlineData("017", 15)]
    [InlineData("0b101", 5)]
    [InlineData("0x_1F", 31)]
    [InlineData("18446744073709551615", ulong.MaxValue)]
    public void Number_InGosForms_Parses(string text, ulong expected)
    {
        Assert.True(GoSyntax.TryParseUInt(text, 64, out ulong value, out _));
        Assert.Equal(expected, value);
    }

    [Theory]
    [InlineData("1_000", "parse error")]
    [InlineData("08", "parse error")]
    [InlineData("0x", "parse error")]
    [InlineData("0x1_", "parse error")]
    [InlineData("18446744073709551616", "value out of range")]
    [InlineData(" 1", "parse error")]
    public void Number_InNoForm_IsRefused(string text, string expected)
    {
        Assert.False(GoSyntax.TryParseUInt(text, 64, out _, out string error));
        Assert.Equal(expected, error);
    }

    [Fact]
    public void Flags_AreDeclaredWithDefaultsThatParse()
    {
        foreach (Flag flag in FlagTable.All)
        {
            Assert.Null(flag.Check(flag.Default));
        }
    }

    [Fact]
    public void Level_OfTheLog_IsRead()
    {
        Assert.Equal(LogLevels.Level.Debug, Read("--log-level=debug").Plan!.Log.Level);
        Assert.Equal(LogLevels.Level.Info, Read("").Plan!.Log.Level);
    }

    private static CommandLineResult Read(string line, params (string Name, string Value)[] environment)
    {
        var variables = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach ((string name, string value) in environment)
        {
            variables[name] = value;
        }

        return CommandLine.Read(
            line.Split(' ', StringSplitOptions.RemoveEmptyEntries), variables, path => throw new FileNotFoundException(path));
    }
}
