// PlanBuilder: checked values to a plan: the validation that looks at several options, in etcd's order and words.
using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using Cairn.Core.Mvcc.Watch;
using Cairn.Core.Server;
using Cairn.Native.Logging;
using Cairn.Net.Host;
using Cairn.Net.Tls;

namespace Cairn.Native.Options;

/// <summary>Validation and composition.</summary>
internal static class PlanBuilder
{
    private const ulong ElectionMsMax = 50_000;
    private const long BatchIntervalMsMax = 60_000;

    /// <exception cref="OptionException">The first thing that is wrong.</exception>
    public static ServerPlan Build(FlagValues values, List<EarlyLine> log)
    {
        ApplyExperimental(values, log);
        LogOptions logging = BuildLogging(values);
        CheckUrls(values);
        CheckDiscovery(values);
        CheckTimes(values);
        CheckAdvertise(values);
        CheckCompaction(values);
        CheckFeatures(values);
        CheckNotYet(values);
        Warn(values, log);
        return new ServerPlan(logging, BuildHost(values));
    }

    private static void ApplyExperimental(FlagValues values, List<EarlyLine> log)
    {
        foreach (Flag flag in FlagTable.All)
        {
            if (flag.RenamedTo is null || !values.IsSet(flag.Name))
            {
                continue;
            }

            string value = values.Text(flag.Name);
            string current = flag.RenamedTo;
            if (current == "feature-gates")
            {
                string gate = GateOf(flag.Name);
                if (values.IsSet(current) && FeatureGates.Parse(values.Text(current)).ContainsKey(gate))
                {
                    throw new OptionException(
                        "cannot specify both flags: --" + flag.Name + "=" + value + " and --feature-gates="
                        + gate + "=" + value + " at the same time, please just use --feature-gates=" + gate + "=" + value);
                }

                value = (values.IsSet(current) ? values.Text(current) + "," : "") + gate + "=" + value;
            }
            else if (values.IsSet(current))
            {
                throw new OptionException(
                    "cannot set --" + flag.Name + " and --" + current + " at the same time, please use --" + current + " only");
            }

            log.Add(new EarlyLine("warn", "--" + flag.Name + " is deprecated in 3.6 and will be decommissioned in 3.7. Use --"
                + current + " instead."));
            if (FlagTable.TryGet(current, out Flag target) && values.Set(target, value) is string error)
            {
                throw new OptionException(error);
            }
        }
    }

    private static string GateOf(string experimental) => experimental switch
    {
        "experimental-initial-corrupt-check" => "InitialCorruptCheck",
        "experimental-compact-hash-check-enabled" => "CompactHashCheck",
        "experimental-enable-lease-checkpoint" => "LeaseCheckpoint",
        "experimental-enable-lease-checkpoint-persist" => "LeaseCheckpointPersist",
        "experimental-stop-grpc-service-on-defrag" => "StopGRPCServiceOnDefrag",
        _ => "TxnModeWriteWithSharedBuffer",
    };

    private static LogOptions BuildLogging(FlagValues values)
    {
        string logger = values.Text("logger");
        if (logger == "capnslog")
        {
            throw new OptionException("--logger=capnslog is removed in v3.5");
        }

        if (logger != "zap")
        {
            throw new OptionException("unknown logger option " + GoSyntax.Quote(logger));
        }

        string[] outputs = values.List("log-outputs");
        if (outputs.Length == 0)
        {
            outputs = ["default"];
        }

        if (outputs.Length > 1 && Array.IndexOf(outputs, "default") >= 0)
        {
            throw new OptionException("multi logoutput for \"default\" is not supported yet");
        }

        if (values.Bool("enable-log-rotation"))
        {
            if (outputs.Length != 1 || outputs[0] is "default" or "stderr" or "stdout")
            {
                throw new OptionException(
                    "--log-outputs requires a single file path when --log-rotate-config-json is defined");
            }
        }

        if (Array.IndexOf(outputs, "systemd/journal") >= 0)
        {
            throw new OptionException("--log-outputs=systemd/journal is not supported yet by this version of cairn");
        }

        if (!LogLevels.TryParse(values.Text("log-level"), out LogLevels.Level level))
        {
            throw new OptionException(
                "unrecognized level: " + GoSyntax.Quote(values.Text("log-level")), OptionFailure.Panic);
        }

        string format = values.Text("log-format");
        if (format is not ("json" or "console"))
        {
            throw new OptionException("unknown log format: " + format + ", supported values json, console");
        }

        return new LogOptions(outputs, level, format == "console");
    }

    private static void CheckUrls(FlagValues values)
    {
        string[] listening = ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"];
        foreach (string name in listening)
        {
            foreach (ListenUrl url in values.Urls(name))
            {
                if (!url.IsUnix && url.Host != "localhost" && !IPAddress.TryParse(url.Host, out _))
                {
                    throw new OptionException("expected IP in URL for binding (" + url.Text + ")");
                }
            }
        }

        string[] advertised = ["initial-advertise-peer-urls", "advertise-client-urls"];
        foreach (string name in advertised)
        {
            foreach (ListenUrl url in values.Urls(name))
            {
                if (url.Host.Length == 0)
                {
                    throw new OptionException("--" + name + " " + GoSyntax.Quote(string.Join(',', Texts(values.Urls(name))))
                        + " must be \"host:port\" (unexpected empty host (" + url.Text + "))");
                }
            }
        }
    }

    private static void CheckDiscovery(FlagValues values)
    {
        int sources = 0;
        string[] names = ["initial-cluster", "discovery", "discovery-endpoints", "discovery-srv"];
        foreach (string name in names)
        {
            sources += values.IsSet(name) && values.Text(name).Length != 0 ? 1 : 0;
        }

        if (sources > 1)
        {
            throw new OptionException(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", "
                + "\"discovery-endpoints\" or \"discovery-srv\"");
        }

        bool token = values.Text("discovery-token").Length != 0;
        bool endpoints = values.Text("discovery-endpoints").Length != 0;
        if (token != endpoints)
        {
            throw new OptionException("both --discovery-token and --discovery-endpoints must be set");
        }
    }

    private static void CheckTimes(FlagValues values)
    {
        ulong heartbeat = values.UInt("heartbeat-interval");
        ulong election = values.UInt("election-timeout");
        if (heartbeat == 0)
        {
            throw new OptionException("--heartbeat-interval must be >0 (set to 0ms)");
        }

        if (election == 0)
        {
            throw new OptionException("--election-timeout must be >0 (set to 0ms)");
        }

        if (heartbeat > election / 5)
        {
            throw new OptionException("--election-timeout[" + FlagValues.Show(election)
                + "ms] should be at least as 5 times as --heartbeat-interval[" + FlagValues.Show(heartbeat) + "ms]");
        }

        if (election > ElectionMsMax)
        {
            throw new OptionException("--election-timeout[" + FlagValues.Show(election)
                + "ms] is too long, and should be set less than 50000ms");
        }
    }

    private static void CheckAdvertise(FlagValues values)
    {
        // Only where options come one by one; a file keeps the default (flags.md §8).
        if ((values.IsSet("listen-client-urls") || values.IsSet("listen-client-http-urls"))
            && !values.IsSet("advertise-client-urls") && !values.IsSet(ConfigFile.Marker))
        {
            throw new OptionException(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
                OptionFailure.AdvertiseUnset);
        }
    }

    private static void CheckCompaction(FlagValues values)
    {
        string mode = values.Text("auto-compaction-mode");
        if (mode.Length == 0)
        {
            throw new OptionException("undefined auto-compaction-mode");
        }

        if (mode is not ("periodic" or "revision"))
        {
            throw new OptionException("unknown auto-compaction-mode " + GoSyntax.Quote(mode));
        }

        string retention = values.Text("auto-compaction-retention");
        bool number = GoSyntax.TryParseInt(retention, out long count, out _);
        if (!number && !GoSyntax.TryParseDuration(retention, out count))
        {
            throw new OptionException(
                "error parsing CompactionRetention: time: invalid duration " + GoSyntax.Quote(retention), OptionFailure.Start);
        }

        if (count != 0)
        {
            throw NotYet("auto-compaction-retention", retention);
        }
    }

    private static void CheckFeatures(FlagValues values)
    {
        Dictionary<string, bool> gates = FeatureGates.Parse(values.Text("feature-gates"));
        if (gates.GetValueOrDefault("LeaseCheckpointPersist") && !gates.GetValueOrDefault("LeaseCheckpoint"))
        {
            throw new OptionException("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
        }

        if (values.Duration("compact-hash-check-time") <= 0)
        {
            throw new OptionException("--compact-hash-check-time must be >0 (set to "
                + GoSyntax.FormatDuration(values.Duration("compact-hash-check-time")) + ")");
        }

        foreach ((string name, bool on) in gates)
        {
            // TxnModeWriteWithSharedBuffer names an inner of etcd's; the others change what is served.
            if (on && name is not ("TxnModeWriteWithSharedBuffer" or "AllBeta" or "InitialCorruptCheck" or "CompactHashCheck"
                or "LeaseCheckpoint" or "LeaseCheckpointPersist"))
            {
                throw NotYet("feature-gates", name + "=true");
            }
        }

        if (values.Text("discovery-fallback") == "proxy")
        {
            throw new OptionException("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
        }
    }

    private static void CheckTlsVersions(FlagValues values)
    {
        string lowest = values.Text("tls-min-version"), highest = values.Text("tls-max-version");
        foreach (string version in (ReadOnlySpan<string>)[lowest, highest])
        {
            if (version is not ("" or "TLS1.2" or "TLS1.3"))
            {
                throw new OptionException("unexpected TLS version " + GoSyntax.Quote(version) + " (must be one of: TLS1.2, TLS1.3)");
            }
        }

        if (lowest == "TLS1.3" && highest == "TLS1.2")
        {
            throw new OptionException("min version (TLS1.3) is greater than max version (TLS1.2)");
        }

        if (lowest == "TLS1.3" && values.List("cipher-suites").Length != 0)
        {
            throw new OptionException("cipher suites cannot be configured when only TLS1.3 is enabled");
        }
    }

    private static void CheckNotYet(FlagValues values)
    {
        CheckTlsVersions(values);
        foreach (ListenUrl url in values.Urls("listen-client-urls"))
        {
            if (url.IsSecure && values.Text("cert-file").Length == 0 && values.Text("key-file").Length == 0 && !values.Bool("auto-tls"))
            {
                throw new OptionException(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url " + url.Text + " with HTTPS scheme",
                    OptionFailure.Start);
            }
        }

        foreach (Flag flag in FlagTable.All)
        {
            if (flag.Standing == FlagStanding.NotYet && values.IsSet(flag.Name) && !IsDefault(flag, values.Text(flag.Name)))
            {
                throw NotYet(flag.Name, values.Text(flag.Name));
            }
        }

        string[] listening = ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"];
        foreach (string name in listening)
        {
            foreach (ListenUrl url in values.Urls(name))
            {
                if (url.IsSecure && name != "listen-peer-urls")
                {
                    throw NotYet(name, url.Text);
                }
            }
        }

        string token = values.Text("auth-token");
        string kind = token.Split(',')[0];
        if (kind == "jwt")
        {
            throw NotYet("auth-token", token);
        }

        if (token != "simple")
        {
            throw new OptionException("auth: invalid auth options", OptionFailure.Start);
        }
    }

    private static bool IsDefault(Flag flag, string value) => flag.Kind switch
    {
        FlagKind.Boolean => GoSyntax.TryParseBool(value, out bool on) && on == (flag.Default == "true"),
        FlagKind.Duration => GoSyntax.TryParseDuration(value, out long given)
            && GoSyntax.TryParseDuration(flag.Default, out long usual) && given == usual,
        _ => value == flag.Default,
    };

    private static void Warn(FlagValues values, List<EarlyLine> log)
    {
        foreach (Flag flag in FlagTable.All)
        {
            if (flag.Standing == FlagStanding.Ignored && values.IsSet(flag.Name))
            {
                log.Add(new EarlyLine("warn", "ignoring unsupported flag", ("flag", flag.Name)));
            }
        }

        if (values.IsSet("max-snapshots"))
        {
            log.Add(new EarlyLine("warn", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."));
        }

        if (values.IsSet("v2-deprecation"))
        {
            log.Add(new EarlyLine("warn", "--v2-deprecation is deprecated and scheduled for removal in v3.8. The value does not count."));
        }

        if (values.Text("data-dir").Length == 0)
        {
            log.Add(new EarlyLine("warn", "'data-dir' was empty; using default", ("data-dir", DataDir(values))));
        }

        if (values.Text("name") == "default")
        {
            log.Add(new EarlyLine("warn", "it isn't recommended to use default name, please set a value for --name. "
                + "Note that etcd might run into issue when multiple members have the same default name", ("name", "default")));
        }

        if (values.UInt("max-request-bytes") > 10 * 1024 * 1024)
        {
            log.Add(new EarlyLine("warn", "exceeded recommended request limit",
                ("max-request-bytes", values.Text("max-request-bytes")), ("recommended-request-bytes", "10485760")));
        }

        if (values.Int("quota-backend-bytes") > 8L << 30)
        {
            log.Add(new EarlyLine("warn", "quota exceeds the maximum value",
                ("given-quota-bytes", values.Text("quota-backend-bytes")), ("recommended-max-quota-bytes", "8589934592")));
        }
    }

    /// <summary>Progress messages: 0 is etcd's ten minutes, and less than 100 ms becomes that.</summary>
    private static WatchOptions WatchLimits(FlagValues values)
    {
        const long Least = 100_000_000;
        var limits = new WatchOptions
        {
            FragmentBytes = (int)Math.Min(int.MaxValue / 2, values.Count("max-request-bytes") + (long)FrontEndLimits.RequestOverheadBytes),
        };
        long progress = values.Duration("watch-progress-notify-interval");
        return progress == 0 ? limits : limits with { ProgressIntervalNs = Math.Max(progress, Least) };
    }

    private static HostOptions BuildHost(FlagValues values)
    {
        List<ListenUrl> clients = values.Urls("listen-client-urls");
        List<ListenUrl> peers = values.Urls("listen-peer-urls");
        foreach (ListenUrl url in values.Urls("listen-client-http-urls"))
        {
            if (clients.Contains(url))
            {
                throw new OptionException(
                    "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url " + url.Text,
                    OptionFailure.Start);
            }
        }

        List<string> advertisedPeers = Advertised(values, "initial-advertise-peer-urls", peers);
        string name = values.Text("name");
        string cluster = values.Text("initial-cluster");
        bool discovers = values.Text("discovery-srv").Length != 0 || values.Text("discovery-token").Length != 0;
        if (cluster.Length == 0 && !discovers)
        {
            string owner = name.Length == 0 ? "default" : name;
            cluster = string.Join(',', advertisedPeers.ConvertAll(url => owner + "=" + url));
        }

        Dictionary<string, bool> gates = FeatureGates.Parse(values.Text("feature-gates"));
        long interval = values.Duration("backend-batch-interval") / 1_000_000;
        return new HostOptions
        {
            Member = new MemberOptions
            {
                Name = name,
                DataDir = DataDir(values),
                WalDir = values.Text("wal-dir") is { Length: > 0 } wal ? wal : null,
                InitialAdvertisePeerUrls = advertisedPeers,
                AdvertiseClientUrls = Advertised(values, "advertise-client-urls", clients),
                InitialCluster = ParseCluster(cluster),
                InitialClusterToken = values.Text("initial-cluster-token"),
                InitialClusterState = values.Text("initial-cluster-state") == "new"
                    ? InitialClusterState.New
                    : InitialClusterState.Existing,
                InitialCorruptCheck = gates.GetValueOrDefault("InitialCorruptCheck"),
                CompactHashCheck = gates.GetValueOrDefault("CompactHashCheck"),
                CorruptCheckMs = Math.Max(0, values.Duration("corrupt-check-time") / 1_000_000),
                CompactHashCheckMs = values.Duration("compact-hash-check-time") / 1_000_000,
                ForceNewCluster = values.Bool("force-new-cluster"),
                StrictReconfigCheck = values.Bool("strict-reconfig-check"),
                PreVote = values.Bool("pre-vote"),
                MaxLearners = (int)Math.Clamp(values.Int("max-learners"), 0, int.MaxValue),
                InitialElectionTickAdvance = values.Bool("initial-election-tick-advance"),
                SnapshotCount = values.UInt("snapshot-count"),
                CatchupEntries = values.UInt("snapshot-catchup-entries"),
                QuotaBytes = values.Int("quota-backend-bytes"),
                MaxRequestBytes = values.Count("max-request-bytes"),
                MaxTxnOps = values.Count("max-txn-ops"),
                WatchLimits = WatchLimits(values),
                BatchIntervalMs = interval <= 0 ? 100 : (int)Math.Min(interval, BatchIntervalMsMax),
                CompactionBatchLimit = values.Int("compaction-batch-limit") is > 0 and var deletes
                    ? (int)Math.Min(deletes, int.MaxValue / 16) : 1000,
                CompactionPauseNs = values.Duration("compaction-sleep-interval") is > 0 and var pause ? pause : 10_000_000,
                BatchLimit = values.Int("backend-batch-limit") is > 0 and var limit ? (int)Math.Min(limit, int.MaxValue) : 10_000,
                MaxWals = values.Count("max-wals"),
                MaxSnapshots = values.Count("max-snapshots"),
                HeartbeatMs = values.Count("heartbeat-interval"),
                ElectionMs = values.Count("election-timeout"),
                LeaseCheckpoint = gates.GetValueOrDefault("LeaseCheckpoint"),
                LeaseCheckpointPersist = gates.GetValueOrDefault("LeaseCheckpointPersist"),
                ServerVersion = VersionText.Etcd,
                UnsafeNoSync = values.Bool("unsafe-no-fsync"),
                WarningApplyDurationMs = (int)Math.Clamp(values.Duration("warning-apply-duration") / 1_000_000, 0, int.MaxValue),
            },
            ListenClientUrls = clients,
            ListenClientHttpUrls = values.Urls("listen-client-http-urls"),
            ListenPeerUrls = peers,
            ListenMetricsUrls = values.Urls("listen-metrics-urls"),
            Limits = new FrontEndLimits
            {
                MaxRequestBytes = (uint)values.Count("max-request-bytes"),
                MaxConnections = Connections.Allowed(),
                MaxConcurrentStreams = (uint)Math.Min(values.UInt("max-concurrent-streams"), uint.MaxValue),
                KeepAliveInterval = TimeSpan.FromMilliseconds(values.Duration("grpc-keepalive-interval") / 1_000_000),
                KeepAliveMinTime = TimeSpan.FromMilliseconds(values.Duration("grpc-keepalive-min-time") / 1_000_000),
                KeepAliveTimeout = TimeSpan.FromMilliseconds(values.Duration("grpc-keepalive-timeout") / 1_000_000),
            },
            Discovery = new DiscoveryOptions
            {
                SrvDomain = values.Text("discovery-srv"),
                SrvName = values.Text("discovery-srv-name"),
                Token = values.Text("discovery-token"),
                Endpoints = values.List("discovery-endpoints"),
                DialTimeout = Time(values, "discovery-dial-timeout"),
                RequestTimeout = Time(values, "discovery-request-timeout"),
            },
            PeerTls = new TlsOptions
            {
                CertFile = values.Text("peer-cert-file"),
                KeyFile = values.Text("peer-key-file"),
                ClientCertFile = values.Text("peer-client-cert-file"),
                ClientKeyFile = values.Text("peer-client-key-file"),
                TrustedCaFile = values.Text("peer-trusted-ca-file"),
                CrlFile = values.Text("peer-crl-file"),
                ClientCertAuth = values.Bool("peer-client-cert-auth"),
                AutoTls = values.Bool("peer-auto-tls"),
                SelfSignedYears = values.UInt("self-signed-cert-validity"),
                AllowedNames = values.List("peer-cert-allowed-cn"),
                AllowedHosts = values.List("peer-cert-allowed-hostname"),
                SkipAddressCheck = values.Bool("peer-skip-client-san-verification"),
                ServerName = values.Text("peer-trusted-ca-file").Length == 0 ? values.Text("discovery-srv") : "",
                Protocols = TlsVersions(values.Text("tls-min-version"), values.Text("tls-max-version")),
            },
            PeerReadTimeout = PeerTime(values, "raft-read-timeout"),
            PeerWriteTimeout = PeerTime(values, "raft-write-timeout"),
            Engine = Engine(values.Text("experimental-http2-engine")),
            Cors = values.List("cors"),
            HostWhitelist = values.List("host-whitelist"),
            ExtensiveMetrics = values.Text("metrics") == "extensive",
            WarningUnaryNs = values.Duration("warning-unary-request-duration"),
            NullMethods = Environment.GetEnvironmentVariable("CAIRN_NULL_METHODS") == "1",
            Features = FeatureGates.States(values.Text("feature-gates")),
            CairnVersion = VersionText.Cairn,
        };
    }

    // Both ends; an empty one is open.
    private static SslProtocols TlsVersions(string lowest, string highest)
    {
        SslProtocols all = SslProtocols.Tls12 | SslProtocols.Tls13;
        return highest == "TLS1.2" ? SslProtocols.Tls12 : lowest == "TLS1.3" ? SslProtocols.Tls13 : all;
    }

    private static Http2Engine Engine(string name) => name switch
    {
        "kestrel" => Http2Engine.Kestrel,
        "cairn" => Http2Engine.Cairn,
        _ => throw new OptionException("unknown --experimental-http2-engine " + GoSyntax.Quote(name) + "; it is kestrel or cairn"),
    };

    private static TimeSpan Time(FlagValues values, string name)
        => TimeSpan.FromMilliseconds(values.Duration(name) / 1_000_000);

    // etcd takes these flags only to raise the five seconds.
    private static TimeSpan PeerTime(FlagValues values, string name)
        => Time(values, name) is var given && given > TimeSpan.FromSeconds(5) ? given : TimeSpan.FromSeconds(5);

    private static string DataDir(FlagValues values)
        => values.Text("data-dir") is { Length: > 0 } given ? given : values.Text("name") + ".etcd";

    // Listening everywhere with the default advertised address: tell others the address of the default route.
    private static List<string> Advertised(FlagValues values, string name, List<ListenUrl> listening)
    {
        List<string> urls = Texts(values.Urls(name));
        if (!values.IsSet(name) && listening.Count != 0 && listening[0].Host == "0.0.0.0" && RouteAddress() is string address)
        {
            urls[0] = "http://" + address + ":" + FlagValues.Show((ulong)listening[0].Port);
        }

        return urls;
    }

    private static string? RouteAddress()
    {
        try
        {
            // Connecting a datagram socket sends nothing; it makes the kernel choose the address.
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Connect(new IPAddress([192, 0, 2, 1]), 9);
            return (socket.LocalEndPoint as IPEndPoint)?.Address.ToString();
        }
        catch (SocketException)
        {
            return null;
        }
    }

    private static List<InitialMember> ParseCluster(string text)
    {
        var names = new List<string>();
        var urls = new Dictionary<string, List<string>>(StringComparer.Ordinal);
        foreach (string part in text.Split(','))
        {
            if (part.Length == 0)
            {
                continue;
            }

            int equals = part.IndexOf('=', StringComparison.Ordinal);
            string name = (equals < 0 ? part : part[..equals]).Trim();
            string address = equals < 0 ? "" : part[(equals + 1)..];
            if (!ListenUrl.TryParse(address, out ListenUrl url, out string error))
            {
                throw new OptionException("error setting up initial cluster: " + error, OptionFailure.Start);
            }

            if (!urls.TryGetValue(name, out List<string>? known))
            {
                names.Add(name);
                urls.Add(name, known = []);
            }

            known.Add(url.Text);
        }

        var members = new List<InitialMember>();
        foreach (string name in names)
        {
            urls[name].Sort(StringComparer.Ordinal);
            members.Add(new InitialMember(name, urls[name]));
        }

        return members;
    }

    private static List<string> Texts(List<ListenUrl> urls) => urls.ConvertAll(url => url.Text);

    private static OptionException NotYet(string name, string value)
        => new("--" + name + "=" + value + " is not supported yet by this version of cairn");
}
