// Writers: load whose every acknowledged write is remembered with the revision it was acknowledged at, so that after a crash
// the store can be asked for each of them. Each writer owns its keys; the first failure ends it, as the server is gone then.
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

internal sealed class Writers(string prefix)
{
    private const int KeysPerWriter = 40;

    /// <summary>Key to its last acknowledged value, its revision, and a value that was sent but never acknowledged.</summary>
    private readonly ConcurrentDictionary<string, State> _keys = [];

    /// <summary>Every revision ever acknowledged: none may come twice.</summary>
    private readonly ConcurrentDictionary<long, string> _revisions = [];

    private int _acknowledged;
    private long _highest;
    private int _sequence;

    public int Acknowledged => Volatile.Read(ref _acknowledged);

    /// <summary>Highest revision any acknowledgement told.</summary>
    public long HighestRevision => Volatile.Read(ref _highest);

    /// <summary>Waits for a condition the load will bring about.</summary>
    public static async Task Until(Func<bool> condition)
    {
        long limit = Environment.TickCount64 + 60_000;
        while (!condition())
        {
            Assert.True(Environment.TickCount64 < limit, "the load does not get on");
            await Task.Delay(1);
        }
    }

    /// <summary>Runs writers until the server is gone.</summary>
    public Task Run(ServerProcess server, int count) => Task.WhenAll(Enumerable.Range(0, count).Select(i => Task.Run(() => Write(server, i))));

    /// <summary>Every acknowledged write is there, every unacknowledged one entirely or not at all, no revision went back.</summary>
    public async Task Check(ServerProcess server)
    {
        Answer all = await server.Client.Call(Grpc.Range, new Pb().Text(1, prefix + "/").Text(2, prefix + "0"));
        Assert.True(all.Code == 0, all.ToString());
        long revision = Schema.Number(Schema.Lines("ResponseHeader", all.Body.AsSpan(2, all.Body[1])), "revision");
        Assert.True(revision >= HighestRevision, $"the store is at {revision}, but {HighestRevision} was acknowledged");
        Dictionary<string, Keyspace.Pair> found = Keyspace.Pairs(all.Body).ToDictionary(p => Encoding.UTF8.GetString(p.Key));
        foreach ((string key, State state) in _keys)
        {
            found.TryGetValue(key, out Keyspace.Pair? pair);
            string? value = pair is null ? null : Encoding.UTF8.GetString(pair.Value);
            if (state.Pending && value == state.PendingValue && pair is not null)
            {
                // Unknown outcome, and it did happen: from now on it is as good as acknowledged.
                Assert.True(pair.ModRevision > state.Revision, $"{key}: an unacknowledged write at {pair.ModRevision}, after {state.Revision}");
                _keys[key] = new State(value, pair.ModRevision);
                continue;
            }

            if (state.Pending && state.PendingValue is null && value is null)
            {
                _keys[key] = new State(null, 0);
                continue;
            }

            Assert.True(value == state.Value, $"{key}: acknowledged \"{state.Value}\" at {state.Revision}, found \"{value}\" at {pair?.ModRevision}");
            if (pair is not null)
            {
                Assert.True(pair.ModRevision == state.Revision, $"{key}: acknowledged at {state.Revision}, found at {pair.ModRevision}");
            }

            _keys[key] = new State(state.Value, state.Revision);
        }

        foreach (string key in found.Keys.Where(k => !_keys.ContainsKey(k)))
        {
            Assert.Fail($"{key} was never written");
        }

        // Both keys of a transaction have the same sequence number in their values: one without the other is half a transaction.
        foreach ((string key, Keyspace.Pair pair) in found.Where(p => p.Key.EndsWith("/pair-a", StringComparison.Ordinal)))
        {
            Keyspace.Pair twin = found[key[..^1] + "b"];
            Assert.True(pair.ModRevision == twin.ModRevision && pair.Value.AsSpan().SequenceEqual(twin.Value), $"{key}: half a transaction");
        }
    }

    private async Task Write(ServerProcess server, int writer)
    {
        using Grpc client = new(server.Url);
        Random random = new(HashCode.Combine(writer, Acknowledged));
        string own = $"{prefix}/{writer:d2}";
        try
        {
            while (true)
            {
                string value = Interlocked.Increment(ref _sequence).ToString(CultureInfo.InvariantCulture) + new string('.', random.Next(10) == 0 ? 4000 : random.Next(200));
                Task<bool> one = random.Next(10) switch
                {
                    0 => Delete(client, $"{own}/{random.Next(KeysPerWriter):d2}"),
                    < 3 => Pair(client, own, value),
                    3 when writer == 0 && random.Next(10) == 0 => Compact(client),
                    _ => Put(client, $"{own}/{random.Next(KeysPerWriter):d2}", value),
                };
                if (!await one)
                {
                    return;
                }
            }
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException or InvalidDataException)
        {
            // The connection broke: the server is gone, what was under way stays pending.
        }
    }

    private async Task<bool> Put(Grpc client, string key, string value)
    {
        Begin(key, value);
        Answer answer = await client.Call(Grpc.Put, new Pb().Text(1, key).Text(2, value));
        return End(answer, Grpc.Put, key);
    }

    private async Task<bool> Pair(Grpc client, string own, string value)
    {
        string a = own + "/pair-a", b = own + "/pair-b";
        Begin(a, value);
        Begin(b, value);
        Answer answer = await client.Call(Grpc.Txn, new Pb()
            .Message(2, new Pb().Message(2, new Pb().Text(1, a).Text(2, value)))
            .Message(2, new Pb().Message(2, new Pb().Text(1, b).Text(2, value))));
        return End(answer, Grpc.Txn, a, b);
    }

    private async Task<bool> Delete(Grpc client, string key)
    {
        bool there = _keys.TryGetValue(key, out State? state) && state.Value is not null;
        Begin(key, null);
        Answer answer = await client.Call(Grpc.DeleteRange, new Pb().Text(1, key));
        if (answer.Code == 0 && !there)
        {
            // Nothing to delete uses no revision.
            _keys[key] = new State(null, 0);
            Interlocked.Increment(ref _acknowledged);
            return true;
        }

        return End(answer, Grpc.DeleteRange, key);
    }

    private async Task<bool> Compact(Grpc client)
    {
        Answer answer = await client.Call(Grpc.Compact, new Pb().Number(1, Math.Max(1, HighestRevision - 20)));
        return answer.Code is 0 or 11;
    }

    private void Begin(string key, string? value) => _keys.AddOrUpdate(
        key, _ => new State(null, 0) { Pending = true, PendingValue = value }, (_, state) => state with { Pending = true, PendingValue = value });

    private bool End(Answer answer, string method, params string[] keys)
    {
        if (answer.Code != 0)
        {
            // 14 and its like say that the outcome is unknown; anything else would be a bug of the server under this load.
            Assert.True(answer.Code is 14 or 2 or 1, answer.ToString());
            return false;
        }

        long revision = Schema.Number(answer.Lines(method), "header.revision");
        Assert.True(_revisions.TryAdd(revision, keys[0]), $"revision {revision} was acknowledged for {keys[0]} and before for {_revisions[revision]}");
        foreach (string key in keys)
        {
            State state = _keys[key];
            Assert.True(revision > state.Revision, $"{key}: {revision} after {state.Revision}");
            _keys[key] = new State(state.PendingValue, revision);
        }

        long highest;
        while ((highest = Volatile.Read(ref _highest)) < revision && Interlocked.CompareExchange(ref _highest, revision, highest) != highest)
        {
        }

        Interlocked.Increment(ref _acknowledged);
        return true;
    }

    private sealed record State(string? Value, long Revision)
    {
        public bool Pending { get; init; }

        public string? PendingValue { get; init; }
    }
}
