// EtcdctlWatchTests: `etcdctl watch` of two generations against Cairn and against etcd: what it prints must be equal.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class EtcdctlWatchTests
{
    /// <summary>Arguments, and what goes to standard input of an interactive watch.</summary>
    private static readonly (string[] Arguments, string Input)[] s_watches =
    [
        (["watch", "k", "--rev=2"], ""),
        (["watch", "k", "--prefix", "--rev=2", "--prev-kv"], ""),
        (["watch", "k1", "k3", "--rev=2"], ""),
        (["watch", "k", "--rev=2", "--prefix", "-w", "json"], ""),
        (["watch", "k", "--rev=2", "--prefix", "-w", "fields"], ""),
        (["watch", "k2", "--rev=2", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE at $ETCD_WATCH_REVISION"], ""),
        (["watch", "-i"], "watch k --prefix --rev=2\nwatch other --rev=2\n"),
        (["watch", "k", "--progress-notify", "--rev=2"], ""),
    ];

    [Theory]
    [InlineData("3.4")]
    [InlineData("3.5")]
    public async Task Watch_OfBoth_PrintsTheSame(string version)
    {
        string etcdctl = version == "3.4" ? Tools.Etcdctl34 : Tools.Etcdctl35;
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"]);
        foreach (ServerProcess server in new[] { cairn, etcd })
        {
            foreach (string key in new[] { "k", "k1", "k2", "other", "k", "k2" })
            {
                await server.Client.Ok(Grpc.Put, new Pb().Text(1, key).Text(2, "value of " + key));
            }

            await server.Client.Ok(Grpc.DeleteRange, new Pb().Text(1, "k1").Text(2, "k3"));
        }

        Task<string>[] ours = s_watches.Select(w => Print(etcdctl, cairn, w.Arguments, w.Input)).ToArray();
        Task<string>[] theirs = s_watches.Select(w => Print(etcdctl, etcd, w.Arguments, w.Input)).ToArray();
        string[] our = await Task.WhenAll(ours), their = await Task.WhenAll(theirs);
        for (int i = 0; i < s_watches.Length; i++)
        {
            string what = string.Join(' ', s_watches[i].Arguments);
            Assert.True(their[i].Contains('k'), $"etcdctl {what} printed nothing of etcd: {their[i]}");
            Assert.True(our[i] == their[i], $"etcdctl {what}\n--- cairn\n{our[i]}\n--- etcd\n{their[i]}");
        }
    }

    // A watch never ends by itself; `timeout` ends it after what is in the past has long come. The lines of two watches of
    // one interactive client may come in any order.
    private static async Task<string> Print(string etcdctl, ServerProcess server, string[] arguments, string input)
    {
        // With standard input at its end the interactive client leaves; so it is kept open by a shell.
        string line = string.Join(' ', new[] { etcdctl, "--endpoints", server.Endpoint }.Concat(arguments).Select(a => "'" + a + "'"));
        string script = input.Length == 0 ? $"timeout 8 {line}" : $"(printf '%s' '{input}'; sleep 8) | timeout 8 {line}";
        Finished finished = await Tools.Run("/bin/sh", ["-c", script], "", 60, [KeyValuePair.Create("ETCDCTL_API", "3")]);
        IEnumerable<string> lines = finished.Out.Split('\n');
        return string.Join('\n', input.Length == 0 ? lines : lines.Order(StringComparer.Ordinal));
    }
}
