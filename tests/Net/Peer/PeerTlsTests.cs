// PeerTlsTests: members whose peer ports speak TLS: who is believed, who is not and what both sides' logs say about it; files that
// change under a running member; strangers that begin a handshake and never end it.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Net.Http;
using Cairn.Net.Tls;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Cairn.Net.Tests.Peer;

public sealed class PeerTlsTests : IDisposable
{
    private readonly Certificates _ours = new();
    private readonly Certificates _others = new();

    /// <summary>What is wrong, whose log has to say so (the dialling or the accepting side), and the words.</summary>
    public static TheoryData<string, bool, string> Refusals => new()
    {
        { "client shows nothing", false, "tls: no certificate was shown" },
        { "client of another authority", false, "x509: certificate signed by unknown authority" },
        { "client expired", false, "x509: certificate has expired or is not yet valid" },
        { "client with a certificate for servers", false, "x509: certificate specifies an incompatible key usage" },
        { "client with another common name", false, "client certificate authentication failed" },
        { "client with another host name", false, "client certificate authentication failed" },
        { "client from another address", false, "tls: the certificate is for 192.0.2.1, but its bearer comes from 127.0.0.1" },
        { "client revoked", false, "revoked" },
        { "revocation list as PEM", false, "the revocation list cannot be read" },
        { "revocation list missing", false, "no such file or directory" },
        { "server of another authority", true, "x509: certificate signed by unknown authority" },
        { "server for another host", true, "x509: certificate is valid for other.example, not 127.0.0.1" },
        { "server expired", true, "x509: certificate has expired or is not yet valid" },
        { "server in clear", true, "TLS handshake failed" },
        { "client in clear", false, "cleartext, but this port is TLS" },
        { "no version in common", true, "TLS handshake failed" },
    };

    public void Dispose()
    {
        _ours.Dispose();
        _others.Dispose();
    }

    [Theory]
    [MemberData(nameof(Refusals))]
    public async Task Member_ThatIsNotBelieved_IsRefused_AndTheLogSaysWhy(string what, bool byDialler, string words)
    {
        TlsOptions dialler = Good("dialler"), accepter = Good("accepter");
        TlsOptions? dialling = dialler, accepting = accepter;
        string? url = null;
        switch (what)
        {
            case "client shows nothing":
                dialling = new TlsOptions { TrustedCaFile = _ours.CaFile };
                break;
            case "client of another authority":
                dialling = With(dialler, _others.Issue("dialler"));
                break;
            case "client expired":
                dialling = With(dialler, _ours.Issue("dialler", endsInDays: -2));
                break;
            case "client with a certificate for servers":
                dialling = With(dialler, _ours.Issue("dialler", usages: ["server"]));
                break;
            case "client with another common name":
                accepting = accepter with { AllowedNames = ["somebody", "else"] };
                break;
            case "client with another host name":
                accepting = accepter with { AllowedHosts = ["etcd.example"] };
                break;
            case "client from another address":
                dialling = With(dialler, _ours.Issue("dialler", hosts: ["192.0.2.1"]));
                break;
            case "client revoked":
                CertificateFiles revoked = _ours.Issue("dialler");
                dialling = With(dialler, revoked);
                accepting = accepter with { CrlFile = _ours.Revoke(pem: false, _ours.Issue("x"), revoked) };
                break;
            case "revocation list as PEM":
                accepting = accepter with { CrlFile = _ours.Revoke(pem: true) };
                break;
            case "revocation list missing":
                accepting = accepter with { CrlFile = _ours.PathOf("nowhere") };
                break;
            case "server of another authority":
                accepting = With(accepter, _others.Issue("accepter"));
                break;
            case "server for another host":
                accepting = With(accepter, _ours.Issue("accepter", hosts: ["other.example"]));
                break;
            case "server expired":
                accepting = With(accepter, _ours.Issue("accepter", endsInDays: -2));
                break;
            case "server in clear":
                accepting = null;
                url = "https";
                break;
            case "client in clear":
                dialling = null;
                url = "http";
                break;
            default:
                dialling = dialler with { Protocols = SslProtocols.Tls12 };
                accepting = accepter with { Protocols = SslProtocols.Tls13 };
                break;
        }

        var diallerLog = new NotedLog();
        var accepterLog = new NotedLog();
        using var one = new PeerEnd(1, tls: dialling, log: diallerLog);
        using var two = new PeerEnd(2, tls: accepting, log: accepterLog);
        one.Transport.SetPeers([new(2, [url is null ? two.Url : url + "://127.0.0.1:" + two.Port])]);
        one.Transport.Start();
        two.Transport.Start();
        NotedLog told = byDialler ? diallerLog : accepterLog;
        await PeerEnd.Until(() => told.Contains(words), $"\"{words}\" in the log; dialler: {diallerLog}; accepter: {accepterLog}");
        Assert.Empty(one.Member.Links);
        Assert.Empty(two.Member.Messages);
    }

    [Fact]
    public async Task Members_WithinTheRules_Meet()
    {
        CertificateFiles revoked = _ours.Issue("gone");
        TlsOptions rules = Good("m") with { CrlFile = _ours.Revoke(pem: false, revoked) };
        using var one = new PeerEnd(1, tls: With(rules, _ours.Issue("alpha")) with { AllowedNames = ["beta", "gamma"] });
        using var two = new PeerEnd(2, tls: With(rules, _ours.Issue("beta")) with { AllowedNames = ["alpha", "gamma"] });

        // By host name; of a certificate without a common name; by a name that resolves to the address; skipping that check.
        using var three = new PeerEnd(3, tls: With(rules, _ours.Issue("gamma")) with { AllowedHosts = ["localhost"] });
        await PeerEnd.Join(one, two, three);
        using var four = new PeerEnd(4, tls: With(rules, _ours.Issue("", hosts: ["127.0.0.1", "a.example"])) with { AllowedHosts = ["*.nowhere", "b.example"] });
        using var five = new PeerEnd(5, tls: With(rules, _ours.Issue("", hosts: ["localhost", "127.0.0.1", "b.example"])) with { AllowedHosts = ["a.example"] });
        await PeerEnd.Join(four, five);
        using var six = new PeerEnd(6, tls: With(rules, _ours.Issue("far", hosts: ["192.0.2.1", "127.0.0.1"])) with { SkipAddressCheck = true });
        TlsOptions other = With(rules, _ours.Issue("near", hosts: ["127.0.0.1"])) with
        {
            ClientCertFile = _ours.Issue("dials", hosts: ["192.0.2.7"], usages: ["client"]) is var dials ? dials.Cert : "",
            ClientKeyFile = dials.Key,
        };
        using var seven = new PeerEnd(7, tls: other);
        await PeerEnd.Join(six, seven);
    }

    [Fact]
    public async Task Members_WithCertificatesOfTheirOwnMaking_Meet_AndUseThemAgain()
    {
        string folder = _ours.PathOf("auto");
        var auto = new TlsOptions { AutoTls = true };
        TlsOptions first = SelfSigned.Use(auto, Path.Combine(folder, "one"), ["127.0.0.1"], SystemClock.Instance, out bool made);
        Assert.True(made);
        TlsOptions second = SelfSigned.Use(auto, Path.Combine(folder, "two"), ["127.0.0.1"], SystemClock.Instance, out made);
        Assert.True(made);
        string before = File.ReadAllText(first.CertFile);
        Assert.Equal(first, SelfSigned.Use(auto, Path.Combine(folder, "one"), ["127.0.0.1"], SystemClock.Instance, out made));
        Assert.False(made);
        Assert.Equal(before, File.ReadAllText(first.CertFile));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(first.KeyFile));
        using var one = new PeerEnd(1, tls: first);
        using var two = new PeerEnd(2, tls: second);
        await PeerEnd.Join(one, two);
    }

    [Fact]
    public async Task Files_ThatAreReplaced_AreUsedWithoutARestart()
    {
        TlsOptions mine = Good("dialler");
        CertificateFiles wrong = _others.Issue("dialler"), right = _ours.Issue("dialler");
        string cert = _ours.PathOf("mine.crt"), key = _ours.PathOf("mine.key");
        File.Copy(wrong.Cert, cert);
        File.Copy(wrong.Key, key);
        var log = new NotedLog();
        using var one = new PeerEnd(1, tls: mine with { CertFile = cert, KeyFile = key });
        using var two = new PeerEnd(2, tls: Good("accepter"), log: log);
        one.Transport.SetPeers([two.Address]);
        two.Transport.SetPeers([]);
        one.Transport.Start();
        two.Transport.Start();
        await PeerEnd.Until(() => log.Contains("unknown authority"), "the refusal");

        // Not at once: a key without its certificate is just another failed handshake.
        File.Copy(right.Key, key, overwrite: true);
        File.Copy(right.Cert, cert, overwrite: true);
        await PeerEnd.Until(() => one.Member.Links.ContainsKey(2), "the link");
    }

    [Fact]
    public async Task Handshakes_ThatNeverEnd_AreBounded_AndMembersGetIn()
    {
        var log = new NotedLog();
        using var one = new PeerEnd(1, tls: Good("one"), log: log);
        one.Transport.Start();
        List<Socket> strangers = [];
        for (int i = 0; i < 150; i++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            await socket.ConnectAsync("127.0.0.1", one.Port);

            // The head of a TLS record that is announced and never comes.
            await socket.SendAsync(new byte[] { 0x16, 3, 1, 2, 0, 1 }, SocketFlags.None);
            strangers.Add(socket);
        }

        using var two = new PeerEnd(2, tls: Good("two"));
        two.Transport.SetPeers([one.Address]);
        two.Transport.Start();
        await PeerEnd.Until(() => two.Member.Links.ContainsKey(1), "the door is open for members");

        // Their five seconds end, or the next ones push them out.
        await PeerEnd.Until(() => one.Transport.Strangers.ReceiveFailures >= strangers.Count, "the end of every stranger");
        foreach (Socket socket in strangers)
        {
            socket.Dispose();
        }
    }

    [Fact]
    public async Task Pages_AreServedUnderTls()
    {
        HttpHandler pages = call =>
        {
            call.Reply(200, "text/plain", "here is " + call.Path);
            return ValueTask.CompletedTask;
        };
        using var one = new PeerEnd(1, tls: Good("one") with { ClientCertAuth = false, TrustedCaFile = "" }, pages: pages);
        one.Transport.Start();
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        using var client = new TcpClient();
        await client.ConnectAsync("127.0.0.1", one.Port, limit.Token);
        await using var tls = new SslStream(client.GetStream(), false, (_, shown, _, _) => shown is not null);
        await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "localhost" }, limit.Token);
        await tls.WriteAsync(Encoding.ASCII.GetBytes("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"), limit.Token);
        using var reader = new StreamReader(tls);
        string answer = await reader.ReadToEndAsync(limit.Token);
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", answer, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\nhere is /version", answer, StringComparison.Ordinal);
    }

    [Fact]
    public void Flags_AndFilesThatCannotBe_AreRefusedAsEtcdRefusesThem()
    {
        TlsOptions good = Good("m");
        Refused("KeyFile and CertFile must both be present[key: , cert: a]", new TlsOptions { CertFile = "a" });
        Refused("KeyFile and CertFile must both be present[key: b, cert: ]", new TlsOptions { KeyFile = "b" });
        Refused(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: c]", good with { ClientCertFile = "c" });
        Refused(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\" \"b\"], hostnames=[\"c\"])",
            good with { AllowedNames = ["a", "b"], AllowedHosts = ["c"] });
        string missing = _ours.PathOf("missing");
        Refused($"open {missing}: no such file or directory", good with { CertFile = missing });
        Refused($"open {missing}: no such file or directory", good with { TrustedCaFile = missing });
        Refused("tls: private key does not match public key", good with { KeyFile = _ours.Issue("other").Key });
        Refused("tls: failed to find any PEM data in certificate input", good with { CertFile = good.KeyFile });
        Refused("tls: failed to find any PEM data in key input", good with { KeyFile = good.CertFile });
        Refused("no certificate in " + good.KeyFile, good with { TrustedCaFile = good.KeyFile });
        new TlsEndpoint(good).Verify();

        static void Refused(string words, TlsOptions options)
        {
            TlsException refused = Assert.Throws<TlsException>(new TlsEndpoint(options).Verify);
            Assert.StartsWith(words, refused.Message, StringComparison.Ordinal);
        }
    }

    private static TlsOptions With(TlsOptions options, CertificateFiles files) => options with { CertFile = files.Cert, KeyFile = files.Key };

    private TlsOptions Good(string name) =>
        With(new TlsOptions { TrustedCaFile = _ours.CaFile, ClientCertAuth = true }, _ours.Issue(name));
}

/// <summary>Remembers every field of every line.</summary>
internal sealed class NotedLog : ILogger
{
    private readonly ConcurrentQueue<string> _lines = new();

    public bool Contains(string words)
    {
        foreach (string line in _lines)
        {
            if (line.Contains(words, StringComparison.Ordinal))
            {
                return true;
            }
        }

        return false;
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        var line = new StringBuilder(formatter(state, exception));
        foreach (KeyValuePair<string, object?> field in state as IReadOnlyList<KeyValuePair<string, object?>> ?? [])
        {
            line.Append("; ").Append(field.Key).Append('=').Append(field.Value);
        }

        _lines.Enqueue(line.ToString());
    }

    public override string ToString() => string.Join('\n', _lines);
}
