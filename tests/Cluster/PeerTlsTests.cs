// PeerTlsTests: real processes whose peer ports speak TLS: they form, grow, catch up by snapshot and survive a kill; a member
// without a certificate stays outside; flags that cannot be are refused in etcd's words.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Cairn.Net.Tests.Peer;
using Xunit;

namespace Cairn.Cluster;

public sealed class PeerTlsTests : IDisposable
{
    private readonly Certificates _authority = new();

    public void Dispose() => _authority.Dispose();

    [Fact]
    public async Task Cluster_UnderTls_FormsGrowsAndCatchesUp()
    {
        CertificateFiles own = _authority.Issue("member");
        await using Members members = new(
            "tls", 2, "--peer-cert-file", own.Cert, "--peer-key-file", own.Key, "--peer-trusted-ca-file", _authority.CaFile,
            "--peer-client-cert-auth", "--peer-cert-allowed-cn", "other,member", "--snapshot-count", "100", "--snapshot-catchup-entries", "10");
        await members.Start();
        await using RetryingWriters writers = new(members, 4);
        writers.Start();
        await writers.More(300);

        // The third asks the others who they are (HTTP under TLS), and what it missed is a snapshot away.
        ClusterMember third = members.New("m3");
        Finished added = new(1, "", "");
        for (long limit = Environment.TickCount64 + 60_000; added.ExitCode != 0; await Task.Delay(100))
        {
            Assert.True(Environment.TickCount64 < limit, added + members.Logs());
            added = await Tools.Run(
                Tools.Etcdctl35, ["member", "add", third.Name, "--peer-urls=" + third.PeerUrl, "--endpoints=" + members[0].Endpoint],
                environment: [KeyValuePair.Create("ETCDCTL_API", "3")]);
        }

        third.Start(added.Out.Split('\n').Single(l => l.StartsWith("ETCD_INITIAL_CLUSTER=", StringComparison.Ordinal)).Split('"')[1], "existing");
        await third.Running.WaitUntilServing();
        await writers.More(100);
        await Writers.Until(() => third.Running.Log.Contains("receiving database snapshot", StringComparison.Ordinal));
        ClusterMember leader = await members.Leader();
        await leader.Kill();
        await writers.More(50);
        await members.Restart(leader);
        await writers.More(50);
        await writers.Stop();
        await members.RequireEqualHashes();
        await writers.Check();
    }

    [Fact]
    public async Task Members_WithAutoTls_FormACluster()
    {
        await using Members members = new("autotls", 2, "--peer-auto-tls");
        await members.Start();
        await members[0].Running.Client.Ok(Grpc.Put, new Pb().Text(1, "a").Text(2, "1"));
        await members.RequireEqualHashes();
        foreach (ClusterMember member in members.All)
        {
            Assert.Equal(["cert.pem", "key.pem"], System.IO.Directory.GetFiles(System.IO.Path.Combine(member.DataDir, "fixtures", "peer")).Select(System.IO.Path.GetFileName).Order());
        }
    }

    /// <summary>What etcd 3.5.30 and 3.6.14 say, each with exit code 1.</summary>
    [Theory]
    [InlineData("cannot listen on TLS for 127.0.0.1:@PORT@: KeyFile and CertFile are not presented")]
    [InlineData("KeyFile and CertFile must both be present[key: , cert: @CERT@]", "--peer-cert-file", "@CERT@")]
    [InlineData("open @NOWHERE@: no such file or directory", "--peer-cert-file", "@NOWHERE@", "--peer-key-file", "@KEY@")]
    [InlineData("open @NOWHERE@: no such file or directory", "--peer-cert-file", "@CERT@", "--peer-key-file", "@KEY@", "--peer-trusted-ca-file", "@NOWHERE@")]
    [InlineData("selfSignedCertValidity is invalid,it should be greater than 0", "--peer-auto-tls", "--self-signed-cert-validity", "0")]
    [InlineData(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\\\"a\\\"], hostnames=[\\\"b\\\"])",
        "--peer-cert-file", "@CERT@", "--peer-key-file", "@KEY@", "--peer-cert-allowed-cn", "a", "--peer-cert-allowed-hostname", "b")]
    [InlineData("unexpected TLS version \\\"TLS1.1\\\" (must be one of: TLS1.2, TLS1.3)", "--tls-min-version", "TLS1.1")]
    [InlineData("min version (TLS1.3) is greater than max version (TLS1.2)", "--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2")]
    public async Task Start_WithImpossibleFlags_EndsWithEtcdsWords(string words, params string[] flags)
    {
        CertificateFiles own = _authority.Issue("m");
        int port = Tools.FreePort();
        string Real(string text) => text.Replace("@CERT@", own.Cert, StringComparison.Ordinal).Replace("@KEY@", own.Key, StringComparison.Ordinal)
            .Replace("@NOWHERE@", _authority.PathOf("nowhere"), StringComparison.Ordinal)
            .Replace("@PORT@", port.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal);
        using TempFolder folder = new();
        string url = $"https://127.0.0.1:{port}", client = $"http://127.0.0.1:{Tools.FreePort()}";
        string[] arguments =
        [
            "--name", "m", "--data-dir", folder["d"], "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", url, "--initial-advertise-peer-urls", url, "--initial-cluster", "m=" + url, .. flags.Select(Real),
        ];
        Finished ended = await Tools.Run(Tools.Cairn, arguments);
        Assert.True(ended.ExitCode == 1 && (ended.Error + ended.Out).Contains('"' + Real(words) + '"', StringComparison.Ordinal), ended.ToString());
    }
}
