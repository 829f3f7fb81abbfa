// FlagTable: every option of the server, declared once. Names, kinds and defaults are etcd 3.6.14's; what Cairn does
// with each is its standing. An option that would change what is served and is not built yet refuses the start
// when it is used: silence would be a lie.
using System;
using System.Collections.Frozen;
using System.Collections.Generic;

namespace Cairn.Native.Options;

/// <summary>The options by name.</summary>
internal static class FlagTable
{
    private const FlagStanding NotYet = FlagStanding.NotYet;
    private const FlagStanding NoEffect = FlagStanding.NoEffect;
    private const FlagStanding Ignored = FlagStanding.Ignored;

    /// <summary>In the order of the help.</summary>
    public static readonly Flag[] All =
    [
        new("name", FlagKind.Text, "default", "Member",
            "Human readable name of this member."),
        new("data-dir", FlagKind.Text, "", "Member",
            "Data directory. Empty means NAME.etcd in the working directory."),
        new("wal-dir", FlagKind.Text, "", "Member",
            "Directory of the write-ahead log. Empty means member/wal inside the data directory; another disk keeps other writes from disturbing the log."),
        new("snapshot-count", FlagKind.UInt, "10000", "Member",
            "Applied entries between two snapshot files."),
        new("snapshot-catchup-entries", FlagKind.UInt, "5000", "Member",
            "Entries kept behind a snapshot for members that lag."),
        new("heartbeat-interval", FlagKind.UInt, "100", "Member",
            "Milliseconds between two heartbeats of a leader; the raft tick."),
        new("election-timeout", FlagKind.UInt, "1000", "Member",
            "Milliseconds without a leader after which a member stands for election. At least 5 heartbeats, at most 50000."),
        new("initial-election-tick-advance", FlagKind.Boolean, "true", "Member",
            "Shorten the first election wait after a start."),
        new("listen-peer-urls", FlagKind.Urls, "http://localhost:2380", "Member",
            "URLs to listen on for other members."),
        new("listen-client-urls", FlagKind.Urls, "http://localhost:2379", "Member",
            "URLs to listen on for clients: gRPC and HTTP/1.1 on the same port."),
        new("listen-client-http-urls", FlagKind.Urls, "", "Member",
            "URLs for HTTP/1.1 alone. When given, --listen-client-urls serve gRPC alone."),
        new("listen-metrics-urls", FlagKind.Urls, "", "Member",
            "Further URLs for /metrics and the health pages."),
        new("max-snapshots", FlagKind.UInt, "5", "Member",
            "Snapshot files kept; 0 keeps all."),
        new("max-wals", FlagKind.UInt, "5", "Member",
            "Log segments kept after they are no longer needed; 0 keeps all."),
        new("memory-mlock", FlagKind.Boolean, "false", "Member",
            "Lock the memory of the process.")
            { Standing = NotYet },
        new("quota-backend-bytes", FlagKind.Int, "0", "Member",
            "Size of the database at which writes are refused, bytes. 0 means 2 GiB, negative means no limit."),
        new("backend-bbolt-freelist-type", FlagKind.Text, "", "Member",
            "Kind of freelist of bbolt. Cairn has one of its own.")
            { Standing = NoEffect },
        new("backend-batch-interval", FlagKind.Duration, "0s", "Member",
            "Longest time between two commits of the database. 0 means 100ms."),
        new("backend-batch-limit", FlagKind.Int, "0", "Member",
            "Operations after which the database is committed at once. 0 means 10000."),
        new("max-txn-ops", FlagKind.UInt, "128", "Member",
            "Operations allowed in each branch of a transaction."),
        new("max-request-bytes", FlagKind.UInt, "1572864", "Member",
            "Largest client request, bytes."),
        new("max-concurrent-streams", FlagKind.UInt32, "4294967295", "Member",
            "Requests one client connection may have open at once."),
        new("grpc-keepalive-min-time", FlagKind.Duration, "5s", "Member",
            "Shortest interval at which a client may ping. Enforced by --experimental-http2-engine=cairn only."),
        new("grpc-keepalive-interval", FlagKind.Duration, "2h0m0s", "Member",
            "How long a client connection may be idle before the server pings it; 0 never."),
        new("grpc-keepalive-timeout", FlagKind.Duration, "20s", "Member",
            "How long the server waits for the answer to its ping."),
        new("socket-reuse-port", FlagKind.Boolean, "false", "Member",
            "Set SO_REUSEPORT on listeners.")
            { Standing = NotYet, NotInFile = true },
        new("socket-reuse-address", FlagKind.Boolean, "false", "Member",
            "Set SO_REUSEADDR on listeners.")
            { Standing = NoEffect, NotInFile = true },
        new("enable-grpc-gateway", FlagKind.Boolean, "true", "Member",
            "Serve the JSON gateway under /v3/. Not there yet, whatever the value.")
            { Standing = NoEffect },
        new("raft-read-timeout", FlagKind.Duration, "5s", "Member",
            "Read timeout of peer connections.")
            { NotInFile = true },
        new("raft-write-timeout", FlagKind.Duration, "5s", "Member",
            "Write timeout of peer connections.")
            { NotInFile = true },
        new("feature-gates", FlagKind.Features, "", "Member",
            "Name=bool pairs that switch etcd's feature gates."),
        new("max-learners", FlagKind.Int, "1", "Member",
            "Learners allowed in the cluster."),
        new("warning-apply-duration", FlagKind.Duration, "100ms", "Member",
            "Applying one request longer than this is logged."),
        new("warning-unary-request-duration", FlagKind.Duration, "300ms", "Member",
            "Serving one unary call longer than this is logged."),
        new("watch-progress-notify-interval", FlagKind.Duration, "0s", "Member",
            "Interval of watch progress messages."),
        new("corrupt-check-time", FlagKind.Duration, "0s", "Member",
            "Interval of comparing hashes between members; 0 never."),
        new("compact-hash-check-time", FlagKind.Duration, "1m0s", "Member",
            "Interval of comparing compaction hashes."),
        new("compaction-batch-limit", FlagKind.Int, "0", "Member",
            "Revisions deleted in one step of a compaction. 0 means 1000."),
        new("compaction-sleep-interval", FlagKind.Duration, "0s", "Member",
            "Pause between two steps of a compaction. 0 means 10ms."),
        new("downgrade-check-time", FlagKind.Duration, "5s", "Member",
            "Interval of looking for the end of a downgrade.")
            { Standing = NoEffect },
        new("bootstrap-defrag-threshold-megabytes", FlagKind.UInt, "0", "Member",
            "Defragment at start when it frees this much; 0 never.")
            { Standing = NotYet },
        new("initial-advertise-peer-urls", FlagKind.Urls, "http://localhost:2380", "Cluster",
            "Peer URLs this member tells the others."),
        new("advertise-client-urls", FlagKind.Urls, "http://localhost:2379", "Cluster",
            "Client URLs this member publishes in the member list."),
        new("initial-cluster", FlagKind.Text, "", "Cluster",
            "Members a new cluster is made of: NAME=URL,NAME=URL. Empty means this member alone."),
        new("initial-cluster-state", FlagKind.Choice, "new", "Cluster",
            "new makes a cluster, existing joins one. Ignored once there is data.")
            { Choices = ["new", "existing"] },
        new("initial-cluster-token", FlagKind.Text, "etcd-cluster", "Cluster",
            "Salt of the ids of cluster and members; keeps clusters of the same addresses apart."),
        new("strict-reconfig-check", FlagKind.Boolean, "true", "Cluster",
            "Refuse membership changes that endanger the quorum."),
        new("pre-vote", FlagKind.Boolean, "true", "Cluster",
            "Ask before standing for election."),
        new("auto-compaction-mode", FlagKind.Text, "periodic", "Cluster",
            "periodic or revision."),
        new("auto-compaction-retention", FlagKind.Text, "0", "Cluster",
            "What auto compaction keeps: a duration (a bare number means hours) or a number of revisions; 0 is off.")
            { Standing = NotYet },
        new("v2-deprecation", FlagKind.Choice, "write-only", "Cluster",
            "Stage of the removal of the v2 store. Warns when set.")
            { Standing = NoEffect, Choices = ["write-only", "write-only-drop-data", "write-only-skip-check", "gone"] },
        new("discovery", FlagKind.Text, "", "Discovery",
            "URL of a v2 discovery service.")
            { Standing = NotYet },
        new("discovery-proxy", FlagKind.Text, "", "Discovery",
            "HTTP proxy for v2 discovery.")
            { Standing = NotYet },
        new("discovery-srv", FlagKind.Text, "", "Discovery",
            "DNS domain to find members in."),
        new("discovery-srv-name", FlagKind.Text, "", "Discovery",
            "Suffix of the DNS service name."),
        new("discovery-token", FlagKind.Text, "", "Discovery",
            "Token of v3 discovery.")
            { NotInFile = true },
        new("discovery-endpoints", FlagKind.List, "", "Discovery",
            "Endpoints of v3 discovery.")
            { NotInFile = true },
        new("discovery-dial-timeout", FlagKind.Duration, "2s", "Discovery",
            "v3 discovery: dial timeout.")
            { NotInFile = true },
        new("discovery-request-timeout", FlagKind.Duration, "5s", "Discovery",
            "v3 discovery: request timeout.")
            { NotInFile = true },
        new("discovery-keepalive-time", FlagKind.Duration, "2s", "Discovery",
            "v3 discovery: keep-alive time.")
            { Standing = NoEffect, NotInFile = true },
        new("discovery-keepalive-timeout", FlagKind.Duration, "6s", "Discovery",
            "v3 discovery: keep-alive timeout.")
            { Standing = NoEffect, NotInFile = true },
        new("discovery-insecure-transport", FlagKind.Boolean, "true", "Discovery",
            "v3 discovery: plain transport.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-insecure-skip-tls-verify", FlagKind.Boolean, "false", "Discovery",
            "v3 discovery: do not verify.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-cert", FlagKind.Text, "", "Discovery",
            "v3 discovery: client certificate.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-key", FlagKind.Text, "", "Discovery",
            "v3 discovery: its key.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-cacert", FlagKind.Text, "", "Discovery",
            "v3 discovery: CA.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-user", FlagKind.Text, "", "Discovery",
            "v3 discovery: user[:password].")
            { Standing = NotYet, NotInFile = true },
        new("discovery-password", FlagKind.Text, "", "Discovery",
            "v3 discovery: password.")
            { Standing = NotYet, NotInFile = true },
        new("discovery-fallback", FlagKind.Choice, "exit", "Discovery",
            "What to do when discovery fails; exit is the only effect.")
            { Choices = ["exit", "proxy"] },
        new("cert-file", FlagKind.Text, "", "Security",
            "Certificate for clients.")
            { Standing = NotYet, NotInFile = true },
        new("key-file", FlagKind.Text, "", "Security",
            "Its key.")
            { Standing = NotYet, NotInFile = true },
        new("client-cert-file", FlagKind.Text, "", "Security",
            "Certificate used when this server is a client.")
            { Standing = NotYet, NotInFile = true },
        new("client-key-file", FlagKind.Text, "", "Security",
            "Its key.")
            { Standing = NotYet, NotInFile = true },
        new("client-cert-auth", FlagKind.Boolean, "false", "Security",
            "Ask clients for certificates.")
            { Standing = NotYet, NotInFile = true },
        new("client-crl-file", FlagKind.Text, "", "Security",
            "Revocation list for clients.")
            { Standing = NotYet, NotInFile = true },
        new("client-cert-allowed-hostname", FlagKind.List, "", "Security",
            "Host names accepted in client certificates.")
            { Standing = NotYet, NotInFile = true },
        new("trusted-ca-file", FlagKind.Text, "", "Security",
            "CA of clients.")
            { Standing = NotYet, NotInFile = true },
        new("auto-tls", FlagKind.Boolean, "false", "Security",
            "Self-signed TLS for clients.")
            { Standing = NotYet, NotInFile = true },
        new("peer-cert-file", FlagKind.Text, "", "Security",
            "Certificate for peers.")
            { NotInFile = true },
        new("peer-key-file", FlagKind.Text, "", "Security",
            "Its key.")
            { NotInFile = true },
        new("peer-client-cert-file", FlagKind.Text, "", "Security",
            "Certificate for connections to peers.")
            { NotInFile = true },
        new("peer-client-key-file", FlagKind.Text, "", "Security",
            "Its key.")
            { NotInFile = true },
        new("peer-client-cert-auth", FlagKind.Boolean, "false", "Security",
            "Ask peers for certificates.")
            { NotInFile = true },
        new("peer-trusted-ca-file", FlagKind.Text, "", "Security",
            "CA of peers.")
            { NotInFile = true },
        new("peer-auto-tls", FlagKind.Boolean, "false", "Security",
            "Self-signed TLS for peers.")
            { NotInFile = true },
        new("peer-crl-file", FlagKind.Text, "", "Security",
            "Revocation list for peers.")
            { NotInFile = true },
        new("peer-cert-allowed-cn", FlagKind.List, "", "Security",
            "Common names accepted in peer certificates.")
            { NotInFile = true },
        new("peer-cert-allowed-hostname", FlagKind.List, "", "Security",
            "Host names accepted in peer certificates.")
            { NotInFile = true },
        new("peer-skip-client-san-verification", FlagKind.Boolean, "false", "Security",
            "Do not compare peer certificates with addresses.")
            { NotInFile = true },
        new("cipher-suites", FlagKind.List, "", "Security",
            "TLS cipher suites.")
            { Standing = NotYet },
        new("self-signed-cert-validity", FlagKind.UInt, "1", "Security",
            "Years a self-signed certificate lasts."),
        new("tls-min-version", FlagKind.Text, "TLS1.2", "Security",
            "Lowest TLS version."),
        new("tls-max-version", FlagKind.Text, "", "Security",
            "Highest TLS version."),
        new("cors", FlagKind.List, "*", "Security",
            "Origins allowed by CORS."),
        new("host-whitelist", FlagKind.List, "*", "Security",
            "Host names accepted in cleartext HTTP requests."),
        new("auth-token", FlagKind.Text, "simple", "Auth",
            "Token provider: simple, or jwt with its options."),
        new("bcrypt-cost", FlagKind.UInt, "10", "Auth",
            "Cost of password hashes.")
            { Standing = NoEffect },
        new("auth-token-ttl", FlagKind.UInt, "300", "Auth",
            "Seconds a simple token lives.")
            { Standing = NoEffect },
        new("enable-pprof", FlagKind.Boolean, "false", "Monitoring",
            "Serve Go's profiles; Cairn has none.")
            { Standing = NoEffect },
        new("metrics", FlagKind.Text, "basic", "Monitoring",
            "basic, or extensive for the durations of gRPC calls too."),
        new("enable-distributed-tracing", FlagKind.Boolean, "false", "Monitoring",
            "Send traces.")
            { Standing = NotYet },
        new("distributed-tracing-address", FlagKind.Text, "localhost:4317", "Monitoring",
            "Collector of traces.")
            { Standing = NoEffect },
        new("distributed-tracing-service-name", FlagKind.Text, "etcd", "Monitoring",
            "Service name in traces.")
            { Standing = NoEffect },
        new("distributed-tracing-instance-id", FlagKind.Text, "", "Monitoring",
            "Instance id in traces.")
            { Standing = NoEffect },
        new("distributed-tracing-sampling-rate", FlagKind.Int, "0", "Monitoring",
            "Samples per million.")
            { Standing = NoEffect },
        new("logger", FlagKind.Text, "zap", "Logging",
            "Only zap, the name of etcd's log format."),
        new("log-outputs", FlagKind.List, "default", "Logging",
            "Where log lines go: default (= stderr), stderr, stdout, or file paths."),
        new("log-level", FlagKind.Text, "info", "Logging",
            "debug, info, warn, error, dpanic, panic or fatal."),
        new("log-format", FlagKind.Text, "json", "Logging",
            "json or console."),
        new("enable-log-rotation", FlagKind.Boolean, "false", "Logging",
            "Rotate the log file.")
            { Standing = NotYet },
        new("log-rotation-config-json", FlagKind.Text, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", "Logging",
            "How to rotate.")
            { Standing = NoEffect },
        new("force-new-cluster", FlagKind.Boolean, "false", "Unsafe",
            "Make a one-member cluster of the data."),
        new("unsafe-no-fsync", FlagKind.Boolean, "false", "Unsafe",
            "Do not sync files. Loses acknowledged data when the machine stops."),
        new("config-file", FlagKind.Text, "", "General",
            "YAML file with the options; all other options and variables are then ignored.")
            { NotInFile = true },
        new("version", FlagKind.Boolean, "false", "General",
            "Print the version and exit.")
            { NotInFile = true },
        new("experimental-http2-engine", FlagKind.Text, "cairn", "Experimental",
            "Who serves HTTP/2 without TLS: cairn (an engine of its own: fewer thread changes per request), or kestrel. Cairn's own option."),
        new("experimental-initial-corrupt-check", FlagKind.Boolean, "false", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-corrupt-check-time", FlagKind.Duration, "0s", "Experimental",
            "Older name of --corrupt-check-time.")
            { RenamedTo = "corrupt-check-time" },
        new("experimental-compact-hash-check-enabled", FlagKind.Boolean, "false", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-compact-hash-check-time", FlagKind.Duration, "1m0s", "Experimental",
            "Older name of --compact-hash-check-time.")
            { RenamedTo = "compact-hash-check-time" },
        new("experimental-enable-lease-checkpoint", FlagKind.Boolean, "false", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-enable-lease-checkpoint-persist", FlagKind.Boolean, "false", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-compaction-batch-limit", FlagKind.Int, "0", "Experimental",
            "Older name of --compaction-batch-limit.")
            { RenamedTo = "compaction-batch-limit" },
        new("experimental-compaction-sleep-interval", FlagKind.Duration, "0s", "Experimental",
            "Older name of --compaction-sleep-interval.")
            { RenamedTo = "compaction-sleep-interval" },
        new("experimental-watch-progress-notify-interval", FlagKind.Duration, "0s", "Experimental",
            "Older name of --watch-progress-notify-interval.")
            { RenamedTo = "watch-progress-notify-interval" },
        new("experimental-downgrade-check-time", FlagKind.Duration, "5s", "Experimental",
            "Older name of --downgrade-check-time.")
            { RenamedTo = "downgrade-check-time" },
        new("experimental-warning-apply-duration", FlagKind.Duration, "100ms", "Experimental",
            "Older name of --warning-apply-duration.")
            { RenamedTo = "warning-apply-duration" },
        new("experimental-warning-unary-request-duration", FlagKind.Duration, "0s", "Experimental",
            "Older name of --warning-unary-request-duration.")
            { RenamedTo = "warning-unary-request-duration" },
        new("experimental-memory-mlock", FlagKind.Boolean, "false", "Experimental",
            "Older name of --memory-mlock.")
            { RenamedTo = "memory-mlock" },
        new("experimental-txn-mode-write-with-shared-buffer", FlagKind.Boolean, "true", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-stop-grpc-service-on-defrag", FlagKind.Boolean, "false", "Experimental",
            "Older name of --feature-gates.")
            { RenamedTo = "feature-gates" },
        new("experimental-bootstrap-defrag-threshold-megabytes", FlagKind.UInt, "0", "Experimental",
            "Older name of --bootstrap-defrag-threshold-megabytes.")
            { RenamedTo = "bootstrap-defrag-threshold-megabytes" },
        new("experimental-snapshot-catchup-entries", FlagKind.UInt, "5000", "Experimental",
            "Older name of --snapshot-catchup-entries.")
            { RenamedTo = "snapshot-catchup-entries" },
        new("experimental-peer-skip-client-san-verification", FlagKind.Boolean, "false", "Experimental",
            "Older name of --peer-skip-client-san-verification.")
            { RenamedTo = "peer-skip-client-san-verification" },
        new("experimental-enable-distributed-tracing", FlagKind.Boolean, "false", "Experimental",
            "Older name of --enable-distributed-tracing.")
            { RenamedTo = "enable-distributed-tracing" },
        new("experimental-distributed-tracing-address", FlagKind.Text, "localhost:4317", "Experimental",
            "Older name of --distributed-tracing-address.")
            { RenamedTo = "distributed-tracing-address" },
        new("experimental-distributed-tracing-service-name", FlagKind.Text, "etcd", "Experimental",
            "Older name of --distributed-tracing-service-name.")
            { RenamedTo = "distributed-tracing-service-name" },
        new("experimental-distributed-tracing-instance-id", FlagKind.Text, "", "Experimental",
            "Older name of --distributed-tracing-instance-id.")
            { RenamedTo = "distributed-tracing-instance-id" },
        new("experimental-distributed-tracing-sampling-rate", FlagKind.Int, "0", "Experimental",
            "Older name of --distributed-tracing-sampling-rate.")
            { RenamedTo = "distributed-tracing-sampling-rate" },
        new("cluster-active-size", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("cluster-remove-delay", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("cluster-sync-interval", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("config", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("force", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("max-result-buffer", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("max-retry-attempts", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("peer-heartbeat-interval", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("peer-election-timeout", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("retry-interval", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("snapshot", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("v", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("vv", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("test.coverprofile", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
        new("test.outputdir", FlagKind.Text, "", "Ignored",
            "Ignored, as by etcd.")
            { Standing = Ignored, NotInFile = true },
    ];

    private static readonly FrozenDictionary<string, Flag> ByName = Index();

    /// <summary>The option of that name.</summary>
    public static bool TryGet(string name, out Flag flag) => ByName.TryGetValue(name, out flag!);

    private static FrozenDictionary<string, Flag> Index()
    {
        var byName = new Dictionary<string, Flag>(StringComparer.Ordinal);
        foreach (Flag flag in All)
        {
            byName.Add(flag.Name, flag);
        }

        return byName.ToFrozenDictionary(StringComparer.Ordinal);
    }
}
