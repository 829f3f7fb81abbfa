// EtcdTests: a real etcd 3.5 starts on a log that we have continued, finds our entries, and we find its.
// The binary comes from CAIRN_ETCD35 or from .tools (scripts/install-test-tools); without one the tests are skipped.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Xunit;

namespace Cairn.Wal.Tests;

/// <summary>Runs only where an etcd 3.5 is at hand.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class EtcdFactAttribute : FactAttribute
{
    public EtcdFactAttribute()
    {
        if (EtcdProcess.Binary == null)
        {
            Skip = "no etcd 3.5: set CAIRN_ETCD35 or run scripts/install-test-tools";
        }
    }
}

public sealed class EtcdTests
{
    private static readonly PosixFileSystem Files = PosixFileSystem.Instance;

    [EtcdFact]
    public async Task ContinuedFixture_EtcdStarts_AndWeGoOnAgain()
    {
        using TempDirectory temp = new();
        string data = Fixtures.Copy("etcd-3.5-single", temp.Path);
        const ulong member = 0x17257a3c92e60296;
        ulong last = Continue(data, member, [("from/cairn", "one")]);
        using (EtcdProcess etcd = await EtcdProcess.StartAsync(data))
        {
            Assert.Contains(Base64("one"), await etcd.RangeAsync("from/cairn"), StringComparison.Ordinal);
            Assert.Contains(Base64("from/etcd"), await etcd.PutAndRangeAsync("from/etcd", "two"), StringComparison.Ordinal);
            await etcd.StopAsync();
        }

        // etcd has gone on in our last segment: its state records carry no mark.
        ulong next = Continue(data, member, [("from/cairn", "three"), ("x", new string('y', 100_000))]);
        Assert.True(next > last + 2);
        using (EtcdProcess etcd = await EtcdProcess.StartAsync(data))
        {
            Assert.Contains(Base64("three"), await etcd.RangeAsync("from/cairn"), StringComparison.Ordinal);
            Assert.Contains(Base64("two"), await etcd.RangeAsync("from/etcd"), StringComparison.Ordinal);
        }
    }

    [EtcdFact]
    public async Task CutManyTimes_EtcdStarts()
    {
        using TempDirectory temp = new();
        string data = Fixtures.Copy("etcd-3.5-single", temp.Path);
        List<(string, string)> puts = [];
        for (int i = 0; i < 100; i++)
        {
            puts.Add(($"cut/{i}", new string((char)('a' + (i % 26)), 5000)));
        }

        Continue(data, 0x17257a3c92e60296, puts, new WalOptions { SegmentBytes = 64 << 10 });
        Assert.True(Directory.GetFiles(data + "/member/wal", "*.wal").Length > 6);
        using EtcdProcess etcd = await EtcdProcess.StartAsync(data);
        Assert.Contains(Base64(puts[99].Item2), await etcd.RangeAsync("cut/99"), StringComparison.Ordinal);
    }

    [EtcdFact]
    public async Task FreshLogOfOurs_EtcdStarts()
    {
        using TempDirectory temp = new();
        string data = temp.Path + "/fresh";
        Directory.CreateDirectory(data + "/member/snap");
        byte[] metadata = GoldenTests.Bytes(["0882be93b0ca91a4ab4c10d9c5f2e3e995f9d89f01", "c23e050102030405"]); // and a storage id
        byte[] change = GoldenTests.Bytes(["080010001882be93b0ca91a4ab4c224d", "'{\"id\":5500742928634797826,\"peerURLs\":[\"http://127.0.0.1:42380\"],\"name\":\"ex1\"}"]);
        using (Writer writer = new(WalDirectory.Create(Files, data + "/member/wal", metadata, new WalOptions())))
        {
            writer.AppendTyped(1, 1, 1, change, new WalHardState(1, 0, 1));
            writer.Append(2, 2, [[]], new WalHardState(2, 0x4c56908ca604df02, 2));
            writer.Append(2, 3, [Put("hello", "world", 1)], new WalHardState(2, 0x4c56908ca604df02, 3));
        }

        using (EtcdProcess etcd = await EtcdProcess.StartAsync(data, name: "ex1"))
        {
            Assert.Contains(Base64("world"), await etcd.RangeAsync("hello"), StringComparison.Ordinal);
            await etcd.StopAsync();
        }

        using WalLog log = WalDirectory.OpenForAppend(Files, data + "/member/wal", default, new WalOptions(), out WalRecovery recovery);
        Assert.Equal(metadata, recovery.Metadata);
        Assert.True(recovery.HardState.Term > 2);
        recovery.Dispose();
    }

    /// <summary>Opens the log, appends puts in a new term, closes. Returns the last index.</summary>
    private static ulong Continue(string data, ulong member, IReadOnlyList<(string Key, string Value)> puts, WalOptions? options = null)
    {
        string wal = data + "/member/wal";
        List<WalSnapshotMark> usable = WalDirectory.ValidSnapshots(Files, wal);
        SnapContents? snap = SnapFile.LoadNewest(Files, data + "/member/snap", usable, warn: null);
        WalSnapshotMark start = snap == null ? default : new WalSnapshotMark(snap.Index, snap.Term);
        WalLog log = WalDirectory.OpenForAppend(Files, wal, start, options ?? new WalOptions(), out WalRecovery recovery);
        using Writer writer = new(log);
        ulong term = recovery.HardState.Term + 1;
        ulong index = recovery.LastIndex + 1;
        recovery.Dispose();
        writer.Append(term, index, [[]], new WalHardState(term, member, index));
        foreach ((string key, string value) in puts)
        {
            index++;
            writer.Append(term, index, [Put(key, value, index)], new WalHardState(term, member, index));
        }

        writer.Clock.NowNs += 1_000_000_000;
        writer.Settle();
        return index;
    }

    /// <summary>InternalRaftRequest { 4 put { key, value }, 100 header { ID } }.</summary>
    private static byte[] Put(string key, string value, ulong id)
    {
        byte[] buffer = new byte[key.Length + value.Length + 64];
        ProtoWriter put = new(new byte[buffer.Length]);
        put.WriteBytesField(1, Encoding.UTF8.GetBytes(key));
        put.WriteBytesField(2, Encoding.UTF8.GetBytes(value));
        ProtoWriter header = new(new byte[16]);
        header.WriteVarintField(1, id);
        ProtoWriter request = new(buffer);
        request.WriteBytesField(4, put.Written);
        request.WriteBytesField(100, header.Written);
        return request.Written.ToArray();
    }

    private static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));
}

/// <summary>One etcd on free ports, killed at disposal.</summary>
internal sealed class EtcdProcess : IDisposable
{
    private readonly Process _process;
    private readonly HttpClient _client;
    private readonly StringBuilder _log = new();

    private EtcdProcess(Process process, int port)
    {
        _process = process;
        _client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}"), Timeout = TimeSpan.FromSeconds(10) };
        process.ErrorDataReceived += (_, line) => Add(line.Data);
        process.OutputDataReceived += (_, line) => Add(line.Data);
        process.BeginErrorReadLine();
        process.BeginOutputReadLine();
    }

    public static string? Binary { get; } = Find();

    public static async Task<EtcdProcess> StartAsync(string data, string name = "m1")
    {
        int client = FreePort();
        int peer = FreePort();
        ProcessStartInfo start = new(Binary!)
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        };
        foreach (string argument in new[]
        {
            "--name", name, "--data-dir", data,
            "--listen-client-urls", $"http://127.0.0.1:{client}", "--advertise-client-urls", $"http://127.0.0.1:{client}",
            "--listen-peer-urls", $"http://127.0.0.1:{peer}",
        })
        {
            start.ArgumentList.Add(argument);
        }

        EtcdProcess etcd = new(Process.Start(start)!, client);
        try
        {
            await etcd.WaitHealthyAsync();
            return etcd;
        }
        catch
        {
            etcd.Dispose();
            throw;
        }
    }

    public async Task<string> RangeAsync(string key) =>
        await PostAsync("/v3/kv/range", $"{{\"key\":\"{Convert.ToBase64String(Encoding.UTF8.GetBytes(key))}\"}}");

    public async Task<string> PutAndRangeAsync(string key, string value)
    {
        await PostAsync(
            "/v3/kv/put",
            $"{{\"key\":\"{Convert.ToBase64String(Encoding.UTF8.GetBytes(key))}\",\"value\":\"{Convert.ToBase64String(Encoding.UTF8.GetBytes(value))}\"}}");
        return await RangeAsync(key);
    }

    /// <summary>SIGTERM, then waits.</summary>
    public async Task StopAsync()
    {
        Fixtures.Run("kill", "-TERM", _process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture));
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(20));
        await _process.WaitForExitAsync(limit.Token);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            _process.WaitForExit();
        }

        _process.Dispose();
        _client.Dispose();
    }

    private static string? Find()
    {
        string? given = Environment.GetEnvironmentVariable("CAIRN_ETCD35");
        if (!string.IsNullOrEmpty(given))
        {
            return given;
        }

        foreach (string suite in new[] { "sid", "trixie" })
        {
            string path = Path.Combine(Fixtures.Root(), ".tools", suite, "etcd");
            if (File.Exists(path))
            {
                return path;
            }
        }

        return null;
    }

    private static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private void Add(string? line)
    {
        lock (_log)
        {
            _log.AppendLine(line);
        }
    }

    private async Task<string> PostAsync(string path, string body)
    {
        using StringContent content = new(body, Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await _client.PostAsync(new Uri(path, UriKind.Relative), content);
        return await response.Content.ReadAsStringAsync();
    }

    private async Task WaitHealthyAsync()
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (watch.Elapsed < TimeSpan.FromSeconds(40))
        {
            if (_process.HasExited)
            {
                break;
            }

            try
            {
                if ((await _client.GetStringAsync(new Uri("/health", UriKind.Relative))).Contains("\"true\"", StringComparison.Ordinal))
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
            }

            await Task.Delay(50);
        }

        lock (_log)
        {
            Assert.Fail("etcd did not start:\n" + _log);
        }
    }
}
