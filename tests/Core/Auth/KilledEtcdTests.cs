// A real etcd 3.5 is given a seeded stream of writes by several users while users, roles, leases and alarms change,
// and is killed. Then etcd recovers one copy of its directory and a member of ours the other: every bucket must come
// out equal, byte for byte, refused entries included.
// The binary comes from CAIRN_ETCD35 or from .tools (scripts/install-test-tools); without one the test is skipped.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Threading;
using Cairn.Core.Server;
using Cairn.Core.Tests.Server;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Authorization;

public sealed class KilledEtcdTests
{
    private const int Operations = 500;

    private static readonly string[] Users = ["root", "alice", "bob", "carol", ""];
    private static readonly string[] Roles = ["root", "r1", "r2", "r3"];
    private static readonly string[] Keys = ["a", "a1", "b", "b1", "c", "d", "\0"];

    [EtcdTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void KilledEtcd_RecoveredByUs_HasEtcdsBuckets(int seed)
    {
        using var original = new TempDir();
        string data = Path.Combine(original.Path, "data");
        using (var etcd = new Etcd(data, seed))
        {
            new Workload(etcd, seed).Run(Operations);
            etcd.Kill();
        }

        using TempDir copy = TempDir.CopyOf(data);
        int peerPort = 0;
        int clientPort = 0;
        UntilCompacted(data, () =>
        {
            using var etcd = new Etcd(data, seed);
            (peerPort, clientPort) = (etcd.PeerPort, etcd.ClientPort);
            etcd.Terminate();
        });

        MemberOptions options = PolledMember.OptionsFor(copy.Path) with
        {
            Name = "m1",
            AdvertiseClientUrls = [$"http://127.0.0.1:{clientPort}"],
            InitialAdvertisePeerUrls = [$"http://127.0.0.1:{peerPort}"],
        };
        UntilCompacted(copy.Path, () =>
        {
            using PolledMember member = PolledMember.Open(options);
            member.Stop();
        });

        PlainBolt theirs = Tree(data);
        PlainBolt ours = Tree(copy.Path);
        foreach ((string bucket, SortedDictionary<string, byte[]> expected) in theirs.Buckets)
        {
            if (bucket != "meta")
            {
                Assert.Equal(Dump(bucket, expected), Dump(bucket, ours.Buckets[bucket]));
            }
        }
    }

    private static PlainBolt Tree(string data) => new(Path.Combine(data, "member/snap/db"));

    /// <summary>A stop may come between a compaction and its deletes; the next start finishes them, etcd's as ours.</summary>
    private static void UntilCompacted(string data, Action startAndStop)
    {
        for (int starts = 0; ; starts++)
        {
            startAndStop();
            SortedDictionary<string, byte[]> meta = Tree(data).Buckets["meta"];
            _ = meta.TryGetValue(PlainBolt.Hex("scheduledCompactRev"u8), out byte[]? scheduled);
            _ = meta.TryGetValue(PlainBolt.Hex("finishedCompactRev"u8), out byte[]? finished);
            if (scheduled.AsSpan().SequenceEqual(finished))
            {
                return;
            }

            Assert.True(starts < 10, $"{data}: a compaction does not end");
        }
    }

    private static string Dump(string bucket, SortedDictionary<string, byte[]> pairs)
    {
        var text = new StringBuilder(bucket).Append('\n');
        foreach ((string key, byte[] value) in pairs)
        {
            text.Append(key).Append(" = ").Append(Convert.ToHexStringLower(value)).Append('\n');
        }

        return text.ToString();
    }

    /// <summary>Random requests through the JSON gateway; what becomes of each is etcd's business.</summary>
    private sealed class Workload(Etcd etcd, int seed)
    {
        private readonly Random _random = new(seed);
        private readonly Dictionary<string, string> _tokens = [];

        public void Run(int operations)
        {
            Post("/v3/auth/user/add", new { name = "root", password = "root" });
            Post("/v3/auth/user/grant", new { user = "root", role = "root" });
            foreach (string user in Users[1..4])
            {
                Post("/v3/auth/user/add", new { name = user, password = user });
            }

            for (int i = 0; i < operations; i++)
            {
                if (_random.Next(100) < 45)
                {
                    Administrate();
                }
                else
                {
                    Use();
                }
            }

            // The tail that etcd has in its log only (a change of auth is in the tree at once): with auth enabled, one
            // write by nobody, which is refused, and one by root.
            Post("/v3/auth/enable", new { });
            Post("/v3/kv/put", new { key = Bytes("a"), value = Bytes("by nobody") });
            _tokens.Clear();
            Post("/v3/kv/put", new { key = Bytes("b"), value = Bytes("by root") }, Token("root"));
        }

        private void Administrate()
        {
            // Mostly as root, sometimes as somebody who may not.
            string user = Pick(Users[1..4]);
            string role = Pick(Roles);
            string token = Token(_random.Next(10) == 0 ? Pick(Users) : "root");
            switch (_random.Next(14))
            {
                case 0:
                    Post("/v3/auth/enable", new { }, token);
                    break;
                case 1 when _random.Next(3) == 0:
                    Post("/v3/auth/disable", new { }, token);
                    break;
                case 2:
                    Post("/v3/auth/user/add", new { name = user, password = user }, token);
                    break;
                case 3 when _random.Next(2) == 0:
                    Post("/v3/auth/user/delete", new { name = _random.Next(8) == 0 ? "root" : user }, token);
                    break;
                case 4:
                    Post("/v3/auth/user/changepw", new { name = user, password = user }, token);
                    break;
                case 5:
                case 6:
                    Post("/v3/auth/user/grant", new { user, role = role == "root" ? "r1" : role }, token);
                    break;
                case 7:
                    Post("/v3/auth/user/revoke", new { name = user, role }, token);
                    break;
                case 8:
                    Post("/v3/auth/role/add", new { name = role }, token);
                    break;
                case 9 when _random.Next(3) == 0:
                    Post("/v3/auth/role/delete", new { role }, token);
                    break;
                case 10:
                    Post("/v3/auth/role/revoke", new { role, key = Bytes(Pick(Keys)), range_end = Bytes(End()) }, token);
                    break;
                default:
                    string permission = Pick(["READ", "WRITE", "READWRITE"]);
                    var perm = new { permType = permission, key = Bytes(Pick(Keys)), range_end = Bytes(End()) };
                    Post("/v3/auth/role/grant", new { name = role, perm }, token);
                    break;
            }
        }

        private void Use()
        {
            string token = Token(Pick(Users));
            string key = Bytes(Pick(Keys));
            string value = Bytes("v" + _random.Next());
            string lease = (1 + _random.Next(4)).ToString(System.Globalization.CultureInfo.InvariantCulture);
            switch (_random.Next(12))
            {
                case 0:
                    Post("/v3/lease/grant", new { ID = lease, TTL = "1000" }, token);
                    break;
                case 1:
                    Post("/v3/lease/revoke", new { ID = lease }, token);
                    break;
                case 2:
                case 3:
                    Post("/v3/kv/put", new { key, value, lease }, token);
                    break;
                case 4:
                    Post("/v3/kv/deleterange", new { key, range_end = Bytes(End()), prev_kv = _random.Next(2) == 0 }, token);
                    break;
                case 5:
                case 6:
                    var compare = new { key = Bytes(Pick(Keys)), target = "VERSION", result = "GREATER", version = "0" };
                    object[] success = [new { request_put = new { key, value } }, new { request_delete_range = new { key = Bytes(Pick(Keys)) } }];
                    object[] inner = [new { request_put = new { key = Bytes(Pick(Keys)), value, lease } }];
                    object[] failure = [new { request_txn = new { success = inner } }];
                    Post("/v3/kv/txn", new { compare = new[] { compare }, success, failure }, token);
                    break;
                case 7 when _random.Next(4) == 0:
                    Post("/v3/kv/compaction", new { revision = _random.Next(60).ToString(System.Globalization.CultureInfo.InvariantCulture) }, token);
                    break;
                case 8 when _random.Next(6) == 0:
                    string action = Pick(["ACTIVATE", "DEACTIVATE", "DEACTIVATE"]);
                    Post("/v3/maintenance/alarm", new { action, memberID = "5", alarm = "NOSPACE" }, token);
                    break;
                default:
                    Post("/v3/kv/put", new { key, value, prev_kv = _random.Next(4) == 0 }, token);
                    break;
            }
        }

        /// <summary>A new token now and then; an old one may be stale, which is a case of its own.</summary>
        private string Token(string user)
        {
            if (user.Length == 0)
            {
                return string.Empty;
            }

            if (!_tokens.TryGetValue(user, out string? token) || token.Length == 0 || _random.Next(6) == 0)
            {
                using JsonDocument answer = JsonDocument.Parse(Post("/v3/auth/authenticate", new { name = user, password = user }));
                token = answer.RootElement.TryGetProperty("token", out JsonElement given) ? given.GetString()! : string.Empty;
                _tokens[user] = token;
            }

            return token;
        }

        private string End() => _random.Next(3) switch
        {
            0 => Pick(Keys),
            1 => "\0",
            _ => string.Empty,
        };

        private string Pick(string[] from) => from[_random.Next(from.Length)];

        private string Post(string path, object body, string token = "") => etcd.Post(path, JsonSerializer.Serialize(body), token);

        private static string Bytes(string text) => Convert.ToBase64String(Encoding.Latin1.GetBytes(text));
    }

    private sealed class Etcd : IDisposable
    {
        private readonly Process _process;
        private readonly HttpClient _client;

        public Etcd(string data, int seed)
        {
            ClientPort = FreePort();
            PeerPort = FreePort();
            var start = new ProcessStartInfo(Binary!)
            {
                RedirectStandardError = true,
                RedirectStandardOutput = true,
            };
            foreach (string argument in new[]
            {
                "--name", "m1", "--data-dir", data, "--initial-cluster-token", "killed" + seed, "--bcrypt-cost", "4",
                "--listen-client-urls", Url(ClientPort), "--advertise-client-urls", Url(ClientPort),
                "--listen-peer-urls", Url(PeerPort), "--initial-advertise-peer-urls", Url(PeerPort),
                "--initial-cluster", "m1=" + Url(PeerPort), "--log-level", "error",
            })
            {
                start.ArgumentList.Add(argument);
            }

            _process = Process.Start(start)!;
            _process.ErrorDataReceived += static (_, _) => { };
            _process.OutputDataReceived += static (_, _) => { };
            _process.BeginErrorReadLine();
            _process.BeginOutputReadLine();
            _client = new HttpClient { BaseAddress = new Uri(Url(ClientPort)) };
            var watch = Stopwatch.StartNew();
            while (!IsHealthy())
            {
                Assert.True(watch.Elapsed < TimeSpan.FromSeconds(60) && !_process.HasExited, "etcd did not start");
                Thread.Sleep(50);
            }
        }

        public static string? Binary { get; } = Find();

        public int ClientPort { get; }

        public int PeerPort { get; }

        public string Post(string path, string body, string token)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, path)
            {
                Content = new StringContent(body, Encoding.UTF8, "application/json"),
            };
            if (token.Length > 0)
            {
                request.Headers.TryAddWithoutValidation("Authorization", token);
            }

            using HttpResponseMessage response = _client.Send(request);
            using var reader = new StreamReader(response.Content.ReadAsStream());
            return reader.ReadToEnd();
        }

        public void Kill()
        {
            _process.Kill();
            _process.WaitForExit();
        }

        public void Terminate()
        {
            using Process kill = Process.Start("kill", ["-TERM", _process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
            kill.WaitForExit();
            Assert.True(_process.WaitForExit(TimeSpan.FromSeconds(30)), "etcd did not stop");
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                Kill();
            }

            _process.Dispose();
            _client.Dispose();
        }

        private bool IsHealthy()
        {
            try
            {
                using HttpResponseMessage response = _client.Send(new HttpRequestMessage(HttpMethod.Get, "/health?exclude=NOSPACE"));
                return response.IsSuccessStatusCode;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }

        private static string Url(int port) => "http://127.0.0.1:" + port.ToString(System.Globalization.CultureInfo.InvariantCulture);

        private static int FreePort()
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            return ((IPEndPoint)listener.LocalEndpoint).Port;
        }

        private static string? Find([CallerFilePath] string here = "")
        {
            string? given = Environment.GetEnvironmentVariable("CAIRN_ETCD35");
            if (!string.IsNullOrEmpty(given))
            {
                return given;
            }

            string tools = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../../.tools"));
            foreach (string suite in new[] { "sid", "trixie" })
            {
                string path = Path.Combine(tools, suite, "etcd");
                if (File.Exists(path))
                {
                    return path;
                }
            }

            return null;
        }
    }

    /// <summary>A theory that needs the binary.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    private sealed class EtcdTheoryAttribute : TheoryAttribute
    {
        public EtcdTheoryAttribute()
        {
            if (Etcd.Binary is null)
            {
                Skip = "no etcd 3.5: scripts/install-test-tools";
            }
        }
    }
}
