// RetryingWriters: load on a whole cluster: each writer puts numbered values to its own keys at any member, tries another member
// when one fails, and remembers what was acknowledged and what has an unknown outcome. An attempt that was given up may still
// lie with its member (frozen, or cut off) and take effect after later values of the same writer: its outcome stays unknown.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

internal sealed class RetryingWriters(Members members, int count) : IAsyncDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<string, Written> _keys = [];
    private readonly ConcurrentDictionary<string, int> _failures = [];
    private readonly ConcurrentDictionary<string, bool> _doubtful = []; // value@key
    private Task _load = Task.CompletedTask;
    private long _acknowledged;
    private long _lastAcknowledged;

    public long Acknowledged => Interlocked.Read(ref _acknowledged);

    /// <summary>When the last write was acknowledged, <see cref="Environment.TickCount64"/>.</summary>
    public long LastAcknowledged => Interlocked.Read(ref _lastAcknowledged);

    /// <summary>Failures seen by text, for reports.</summary>
    public string Failures => string.Join("; ", _failures.Select(f => $"{f.Value} x {f.Key}"));

    public void Start() => _load = Task.WhenAll(Enumerable.Range(0, count).Select(i => Task.Run(() => Write(i))));

    /// <summary>Waits for so many further acknowledged writes.</summary>
    public async Task More(int writes, int seconds = 60)
    {
        long target = Acknowledged + writes, limit = Environment.TickCount64 + (seconds * 1000L);
        while (Acknowledged < target)
        {
            Assert.True(Environment.TickCount64 < limit, $"{target - Acknowledged} writes are missing after {seconds} s; {Failures}\n{members.Logs()}");
            await Task.Delay(2);
        }
    }

    public async Task Stop()
    {
        await _stop.CancelAsync();
        await _load;
    }

    /// <summary>Every key has its last acknowledged value, or one of which an attempt had an unknown outcome.</summary>
    public async Task Check()
    {
        Answer all = await members.Running.First().Running.Client.Call(Grpc.Range, new Pb().Text(1, "load/").Text(2, "load0"));
        Assert.True(all.Code == 0, all + members.Logs());
        Dictionary<string, long> found = Keyspace.Pairs(all.Body).ToDictionary(
            p => Encoding.UTF8.GetString(p.Key), p => long.Parse(Encoding.UTF8.GetString(p.Value), CultureInfo.InvariantCulture));
        foreach ((string key, Written written) in _keys)
        {
            long value = found.GetValueOrDefault(key);
            Assert.True(
                (value >= written.Acknowledged && value <= written.Sent) || _doubtful.ContainsKey(value + "@" + key),
                $"{key}: {written.Acknowledged} was acknowledged, {written.Sent} sent at last, found {value}\n{members.Logs()}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Stop();
        _stop.Dispose();
    }

    private async Task Write(int writer)
    {
        Dictionary<string, Grpc> clients = [];
        long number = 0;
        int turn = writer;
        while (!_stop.IsCancellationRequested)
        {
            string key = $"load/{writer}/{number % 20}";
            number++;
            _keys.AddOrUpdate(key, _ => new Written(0, number), (_, old) => old with { Sent = number });
            bool done = false;
            while (!done && !_stop.IsCancellationRequested)
            {
                ClusterMember member = members.All[turn % members.All.Count];
                if (!clients.TryGetValue(member.Endpoint, out Grpc? client))
                {
                    clients[member.Endpoint] = client = new Grpc("http://" + member.Endpoint);
                }

                try
                {
                    Answer answer = await client.Call(
                        Grpc.Put, new Pb().Text(1, key).Text(2, number.ToString(CultureInfo.InvariantCulture)).Bytes, null, TimeSpan.FromSeconds(3));
                    done = answer.Code == 0;
                    if (!done)
                    {
                        Note(answer.ToString());
                    }
                }
                catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException)
                {
                    Note(e.GetType().Name);
                    client.Dispose();
                    clients.Remove(member.Endpoint);
                }

                if (!done)
                {
                    _doubtful[number + "@" + key] = true;
                    turn++;
                    await Task.Delay(10);
                }
            }

            if (done)
            {
                _keys[key] = new Written(number, number);
                Interlocked.Increment(ref _acknowledged);
                Interlocked.Exchange(ref _lastAcknowledged, Environment.TickCount64);
            }
        }

        foreach (Grpc client in clients.Values)
        {
            client.Dispose();
        }
    }

    private void Note(string failure) => _failures.AddOrUpdate(failure, 1, (_, old) => old + 1);

    private sealed record Written(long Acknowledged, long Sent);
}
