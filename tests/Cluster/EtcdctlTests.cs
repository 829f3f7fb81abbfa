// EtcdctlTests: the real client, two generations of it, run with the same arguments against Cairn and against etcd; what it
// prints must be equal but for sizes, indexes and durations. Both members have one identity, so that ids are compared too.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed partial class EtcdctlTests
{
    private const string TxnInput =
        """
        value("k/01") = "one"
        mod("k/01") > "0"

        put txn/a "x y"
        get k/01
        del k/06

        put txn/b 1

        """;

    /// <summary>One line per call; ⏎ parts what goes to standard input.</summary>
    private static readonly (string Line, string Input)[] s_script =
    [
        ("put k/01 one", ""), ("put k/02 two", ""), ("put k/03 three", ""), ("put k/04", "from stdin"), ("put k/05 five", ""),
        ("put k/06 six", ""), ("put k/02 deux --prev-kv", ""), ("put k/02 --ignore-value", ""), ("put k/nope --ignore-value", ""),
        ("put k/01 --ignore-lease x", ""), ("put k/03 x --lease=1234", ""), ("put -- -dash v", ""), ("put other/a 1", ""), ("put k/bin \u00e9\u4e16", ""),
        ("get k/01", ""), ("get k/01 -w json", ""), ("get k/01 -w fields", ""), ("get k/01 -w protobuf", ""), ("get k/01 --hex", ""),
        ("get nope", ""), ("get k/ --prefix", ""), ("get k/02 k/05", ""), ("get k/05 --from-key", ""), ("get \"\" --prefix --keys-only", ""),
        ("get \"\" --from-key --count-only -w fields", ""), ("get k/ --prefix --keys-only", ""), ("get k/ --prefix --count-only", ""),
        ("get k/ --prefix --print-value-only", ""), ("get k/ --prefix --limit=2", ""), ("get k/ --prefix --limit=2 -w json", ""),
        ("get k/ --prefix --order=ASCEND --sort-by=VALUE", ""), ("get k/ --prefix --order=DESCEND --sort-by=KEY", ""),
        ("get k/ --prefix --order=DESCEND --sort-by=MODIFY", ""), ("get k/ --prefix --order=ASCEND --sort-by=CREATE", ""),
        ("get k/ --prefix --order=ASCEND --sort-by=VERSION", ""), ("get k/ --prefix --sort-by=MODIFY", ""), ("get k/ --prefix --consistency=s", ""),
        ("get k/ --prefix --consistency=l", ""), ("get k/02 --rev=3 -w json", ""), ("get k/02 --rev=3000", ""), ("get k/02 --rev=8", ""),
        ("get k/ --prefix --from-key", ""), ("get k/ --prefix --sort-by=NOPE", ""), ("get k/ --prefix --order=NOPE", ""),
        ("del k/05 --prev-kv", ""), ("del nope", ""), ("del k/03 k/05 --prev-kv -w json", ""), ("del other/ --prefix", ""),
        ("txn", TxnInput), ("txn", TxnInput), ("txn -w json", TxnInput), ("txn -w fields", TxnInput), ("txn", "nonsense\n\n\n\n"),
        ("compaction 8", ""), ("compaction 8", ""), ("compaction 9000", ""), ("compaction 10 --physical", ""), ("get k/02 --rev=5", ""),
        ("get k/01 -w table", ""), ("alarm list", ""), ("alarm disarm", ""), ("alarm list -w json", ""), ("member list", ""),
        ("member list -w table", ""), ("member list -w json", ""), ("member list -w fields", ""), ("endpoint health", ""), ("endpoint health -w json", ""),
        ("endpoint status", ""), ("endpoint status -w json", ""), ("endpoint status -w table", ""), ("endpoint status -w fields", ""),
        ("endpoint hashkv", ""), ("endpoint hashkv -w json", ""), ("endpoint hashkv -w fields", ""), ("endpoint hashkv --cluster=false -w table", ""),
        ("defrag", ""), ("get k/ --prefix -w json", ""), ("del k/ --prefix", ""), ("get \"\" --prefix", ""), ("put", ""), ("get a b c d", ""),
        ("put k/big " + "0123456789012345678901234567890123456789", ""),
    ];

    [Theory]
    [InlineData("3.4")]
    [InlineData("3.5")]
    public async Task Script_RunAgainstBoth_PrintsTheSame(string version)
    {
        string etcdctl = version == "3.4" ? Tools.Etcdctl34 : Tools.Etcdctl35;
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        List<string> differences = [];
        foreach ((string line, string input) in s_script)
        {
            Task<Finished> ours = Ctl(etcdctl, cairn, line, input);
            Finished theirs = await Ctl(etcdctl, etcd, line, input);
            Finished our = await ours;
            string a = Neutral(cairn, our, line), b = Neutral(etcd, theirs, line);
            if (a != b)
            {
                differences.Add($"etcdctl {line}\n--- cairn\n{a}\n--- etcd\n{b}");
            }
        }

        Assert.True(differences.Count == 0, $"{differences.Count} of {s_script.Length} calls differ\n{string.Join('\n', differences.Take(12))}");
    }

    [Theory]
    [InlineData("3.4")]
    [InlineData("3.5")]
    public async Task SnapshotSave_OfBoth_SaysTheSameAndIsASnapshot(string version)
    {
        string etcdctl = version == "3.4" ? Tools.Etcdctl34 : Tools.Etcdctl35;
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        List<string> printed = [];
        List<string> statuses = [];
        foreach (ServerProcess server in new[] { cairn, etcd })
        {
            for (int i = 0; i < 50; i++)
            {
                await server.Client.Ok(Grpc.Put, new Pb().Text(1, "k" + i).Data(2, new byte[1000]));
            }

            string file = folder["snapshot.db"];
            Finished saved = await Ctl(etcdctl, server, "snapshot save " + file, "");
            Assert.True(saved.ExitCode == 0, saved.ToString());
            printed.Add(saved.Out);
            Finished status = await Tools.Run(Tools.Etcdutl35, ["snapshot", "status", file, "-w", "json"]);
            Assert.True(status.ExitCode == 0, status.ToString());

            // Size, hash and the number of records depend on the pages and on the bookkeeping of each; the revision does not.
            statuses.Add(RevisionInJson().Match(status.Out).Value);
            File.Delete(file);
        }

        Assert.Equal(printed[1], printed[0]);
        Assert.Equal("\"revision\":51", statuses[0]);
        Assert.Equal(statuses[1], statuses[0]);
    }

    [Fact]
    public async Task CheckPerf_AgainstCairn_KeepsTheRate()
    {
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);

        // A minute each: the two generations run at the same time, under prefixes of their own.
        Finished[] runs = await Task.WhenAll(
            Tools.Run(Tools.Etcdctl34, ["--endpoints", cairn.Endpoint, "check", "perf", "--prefix=/a/"], "", 150, [KeyValuePair.Create("ETCDCTL_API", "3")]),
            Tools.Run(Tools.Etcdctl35, ["--endpoints", cairn.Endpoint, "check", "perf", "--prefix=/b/"], "", 150));
        foreach (Finished run in runs)
        {
            // The verdict may follow the progress bar on its line. The two latency verdicts are this machine's, shared with
            // everything else that runs on it; that they come, and the rate is kept, is the server's.
            string verdicts = string.Join('\n', Verdicts().Matches(run.Out).Select(m => m.Value)) + "\n" + run.Error;
            Assert.Contains("PASS: Throughput is ", verdicts, StringComparison.Ordinal);
            Assert.Contains("Slowest request took ", verdicts, StringComparison.Ordinal);
            Assert.Contains("Stddev ", verdicts, StringComparison.Ordinal);
        }
    }

    private static Task<Finished> Ctl(string etcdctl, ServerProcess server, string line, string input)
    {
        IEnumerable<string> arguments = new[] { "--endpoints", server.Endpoint }.Concat(Words().Matches(line).Select(m => m.Value.Trim('"')));
        return Tools.Run(etcdctl, arguments, input, 30, [KeyValuePair.Create("ETCDCTL_API", "3")]);
    }

    /// <summary>The output without what is bound to differ: ports, versions, sizes, raft indexes, durations, client log lines.</summary>
    private static string Neutral(ServerProcess server, Finished finished, string line)
    {
        string text = $"exit {finished.ExitCode}\n{finished.Out}\n"
            + string.Join('\n', finished.Error.Split('\n').Where(l => !l.StartsWith("{\"level\"", StringComparison.Ordinal)));
        text = text.Replace(server.Endpoint, "ENDPOINT", StringComparison.Ordinal);
        text = Durations().Replace(text, "DURATION");
        if (line.StartsWith("endpoint status", StringComparison.Ordinal))
        {
            text = StatusNumbers().Replace(text, "$1 N");
            text = StatusSizes().Replace(text, "SIZE");
            text = Versions().Replace(text, "VERSION");
            text = IndexColumns().Replace(text, ", INDEX, INDEX, ");
            text = TableIndexes().Replace(text, "| INDEX | INDEX |");
            text = Blanks().Replace(text, " ");
            text = Rules().Replace(text, "-");
        }

        return text;
    }

    [GeneratedRegex("""("[^"]*"|[^ ]+)""")]
    private static partial Regex Words();

    [GeneratedRegex("""\d+(\.\d+)?(ns|µs|ms|s)\b""")]
    private static partial Regex Durations();

    [GeneratedRegex("""("?(?:raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)"? ?:)\s?\d+""")]
    private static partial Regex StatusNumbers();

    [GeneratedRegex("""\d+(\.\d+)? [kM]?B\b""")]
    private static partial Regex StatusSizes();

    [GeneratedRegex("""\b3\.[56]\.\d+\b""")]
    private static partial Regex Versions();

    [GeneratedRegex(""", \d+, \d+, $""", RegexOptions.Multiline)]
    private static partial Regex IndexColumns();

    [GeneratedRegex("""\| +\d+ \| +\d+ \|(?= +\|)""")]
    private static partial Regex TableIndexes();

    [GeneratedRegex(""" {2,}""")]
    private static partial Regex Blanks();

    [GeneratedRegex("""-{2,}""")]
    private static partial Regex Rules();

    [GeneratedRegex("""(PASS: |FAIL: )?(Throughput|Slowest request|Stddev)[^\r\n]*""")]
    private static partial Regex Verdicts();

    [GeneratedRegex("\"revision\":\\d+")]
    private static partial Regex RevisionInJson();
}
