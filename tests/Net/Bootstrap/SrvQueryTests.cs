// SrvQueryTests: the DNS question itself, answered by a name server of the test's own: SRV records as RFC 2782 lays them out.
using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Cairn.Net.Bootstrap;
using Cairn.Net.Host;
using Xunit;

namespace Cairn.Net.Tests.Bootstrap;

public sealed class SrvQueryTests
{
    [Fact]
    public async Task Records_OfBothServices_AreMerged_TheSecureOnesFirst()
    {
        using var server = new NameServer(new Dictionary<string, (string Target, int Port)[]>
        {
            ["_etcd-server._tcp.cluster.test"] = [("two.cluster.test", 2380), ("one.cluster.test", 2380)],
            ["_etcd-server-ssl._tcp.cluster.test"] = [("safe.cluster.test", 2381)],
        });
        List<SrvTarget> targets = await SrvDiscovery.QueryAsync(Options(server, ""), CancellationToken.None);
        Assert.Equal(
            [new("https", "safe.cluster.test", 2381), new("http", "one.cluster.test", 2380), new("http", "two.cluster.test", 2380)],
            targets);
    }

    [Fact]
    public async Task ServiceSuffix_IsPartOfTheName()
    {
        using var server = new NameServer(new Dictionary<string, (string Target, int Port)[]>
        {
            ["_etcd-server-blue._tcp.cluster.test"] = [("blue.cluster.test", 7)],
        });
        Assert.Equal([new("http", "blue.cluster.test", 7)], await SrvDiscovery.QueryAsync(Options(server, "blue"), CancellationToken.None));
    }

    [Fact]
    public async Task NoRecords_AreAFailure_ThatNamesBothQuestions()
    {
        using var server = new NameServer([]);
        MemberStartException refused = await Assert.ThrowsAsync<MemberStartException>(
            () => SrvDiscovery.QueryAsync(Options(server, ""), CancellationToken.None));
        Assert.StartsWith(
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.cluster.test",
            refused.Message, StringComparison.Ordinal);
        Assert.Contains("; error querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.cluster.test", refused.Message, StringComparison.Ordinal);
    }

    private static DiscoveryOptions Options(NameServer server, string suffix)
        => new() { SrvDomain = "cluster.test", SrvName = suffix, NameServer = server.EndPoint };

    /// <summary>Answers SRV questions over UDP; an unknown name does not exist.</summary>
    private sealed class NameServer : IDisposable
    {
        private readonly Dictionary<string, (string Target, int Port)[]> _records;
        private readonly UdpClient _socket = new(new IPEndPoint(IPAddress.Loopback, 0));
        private readonly CancellationTokenSource _stop = new();

        public NameServer(Dictionary<string, (string Target, int Port)[]> records)
        {
            _records = records;
            _ = ServeAsync();
        }

        public IPEndPoint EndPoint => (IPEndPoint)_socket.Client.LocalEndPoint!;

        public void Dispose()
        {
            _stop.Cancel();
            _socket.Dispose();
            _stop.Dispose();
        }

        private static void Name(List<byte> into, string name)
        {
            foreach (string label in name.Split('.'))
            {
                into.Add((byte)label.Length);
                into.AddRange(Encoding.ASCII.GetBytes(label));
            }

            into.Add(0);
        }

        private async Task ServeAsync()
        {
            try
            {
                while (true)
                {
                    UdpReceiveResult question = await _socket.ReceiveAsync(_stop.Token);
                    byte[] answer = Answer(question.Buffer);
                    await _socket.SendAsync(answer, question.RemoteEndPoint, _stop.Token);
                }
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException)
            {
                // Stopped.
            }
        }

        private byte[] Answer(byte[] question)
        {
            int at = 12;
            var labels = new List<string>();
            while (question[at] != 0)
            {
                labels.Add(Encoding.ASCII.GetString(question, at + 1, question[at]));
                at += 1 + question[at];
            }

            int end = at + 5; // the root label, type, class
            bool known = _records.TryGetValue(string.Join('.', labels), out (string Target, int Port)[]? found);
            found ??= [];
            var answer = new List<byte> { question[0], question[1], 0x84, (byte)(known ? 0 : 3), 0, 1, 0, (byte)found.Length, 0, 0, 0, 0 };
            answer.AddRange(question[12..end]);
            foreach ((string target, int port) in found)
            {
                var data = new List<byte> { 0, 0, 0, 0, (byte)(port >> 8), (byte)port };
                Name(data, target);
                answer.AddRange([0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, (byte)data.Count]);
                answer.AddRange(data);
            }

            return [.. answer];
        }
    }
}
