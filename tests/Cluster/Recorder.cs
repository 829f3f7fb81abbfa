// Recorder: clients of a real cluster whose every request and answer becomes a history, which has to have an explanation as one
// store that did one thing after another (the search of tests/Sim).
//
// Clients    each belongs to one member and does one thing at a time: reads of one key, writes of a value never used before,
//            writes if the key is unchanged. A call that fails or takes too long has an open end: it may still happen.
// Ledger     In the end a watch from the first revision tells what was written and when: every acknowledged write must stand
//            there as it was acknowledged, and an open one gets its place, or is known never to have happened.
// Alone      Nobody else may write to the store: its revisions are all explained here.
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
using Cairn.Simulation;
using Xunit;

namespace Cairn.Cluster;

internal sealed class Recorder(Members members, int clientsEach) : IAsyncDisposable
{
    private const int Keys = 5;
    private const int PaceMs = 12;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(4);

    private readonly Lock _lock = new();
    private readonly History _history = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<ClusterMember, int> _done = [];
    private readonly ConcurrentDictionary<string, int> _failures = [];
    private Task _load = Task.CompletedTask;
    private int _values;

    public string Failures => string.Join("; ", _failures.Select(f => $"{f.Value} x {f.Key}"));

    public void Start()
    {
        List<Task> clients = [];
        foreach (ClusterMember member in members.All)
        {
            for (int i = 0; i < clientsEach; i++)
            {
                int number = clients.Count;
                clients.Add(Task.Run(() => Run(number, member)));
            }
        }

        _load = Task.WhenAll(clients);
    }

    /// <summary>Waits until clients of each of these members have got so many further answers.</summary>
    public async Task More(int answers, params ClusterMember[] of)
    {
        Dictionary<ClusterMember, int> targets = of.ToDictionary(m => m, m => _done.GetValueOrDefault(m) + answers);
        long limit = Environment.TickCount64 + 60_000;
        while (targets.Any(t => _done.GetValueOrDefault(t.Key) < t.Value))
        {
            Assert.True(Environment.TickCount64 < limit, $"no {answers} answers of each of {string.Join(' ', of.Select(m => m.Name))} within 60 s; {Failures}\n{members.Logs()}");
            await Task.Delay(5);
        }
    }

    /// <summary>Stops the clients and judges.</summary>
    /// <returns>Operations in the history, and how many of them had an open end.</returns>
    public async Task<(int Operations, int Open)> Judge()
    {
        await _stop.CancelAsync();
        await _load;
        Dictionary<string, (string Key, long Revision)> ledger = await Ledger();
        foreach (HistoryOperation operation in _history.Operations)
        {
            if (operation.Request.IsWrite && operation.Response is { IsSuccess: true } response)
            {
                StoreOp put = operation.Request.Success[0];
                Assert.True(
                    ledger.TryGetValue(put.Value, out (string Key, long Revision) found) && found == (put.Key, response.Revision),
                    $"acknowledged but not to be found: {operation}\n{members.Logs()}");
            }
        }

        int open = _history.Operations.Count(o => o.Return == HistoryOperation.Never);
        _history.Settle(operation => ledger.TryGetValue(operation.Request.Success[0].Value, out (string Key, long Revision) found)
            ? Wrote(found.Revision, true) : null);
        Coverage coverage = new();
        HistoryCheck.Demand(_history, coverage);
        Assert.Equal(0, coverage.HistoriesUnknown);
        return (_history.Operations.Count, open);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _load;
        _stop.Dispose();
    }

    private static StoreResponse Wrote(long revision, bool succeeded) =>
        new() { Revision = revision, IsSuccess = succeeded, Results = succeeded ? [StoreOpResult.Nothing] : [] };

    private async Task Run(int number, ClusterMember member)
    {
        Random random = new(number);
        Dictionary<string, long> seen = [];
        Grpc client = new("http://" + member.Endpoint);
        while (!_stop.IsCancellationRequested)
        {
            string key = "k" + random.Next(Keys);
            StoreRequest request = Choose(random, key, seen);
            HistoryOperation operation;
            lock (_lock)
            {
                operation = _history.Call(number, request);
            }

            try
            {
                (string method, Pb message) = Encode(request);
                Answer answer = await client.Call(method, message.Bytes, null, s_patience);
                if (answer.Code == 0)
                {
                    Complete(operation, answer, method, seen);
                    _done.AddOrUpdate(member, 1, static (_, old) => old + 1);
                }
                else
                {
                    _failures.AddOrUpdate(answer.Message, 1, static (_, old) => old + 1);
                    await Task.Delay(50);
                }
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException)
            {
                _failures.AddOrUpdate(e.GetType().Name, 1, static (_, old) => old + 1);
                client.Dispose();
                client = new Grpc("http://" + member.Endpoint);
                await Task.Delay(50);
            }

            await Task.Delay(PaceMs);
        }

        client.Dispose();
    }

    private StoreRequest Choose(Random random, string key, Dictionary<string, long> seen)
    {
        int dice = random.Next(100);
        if (dice < 45)
        {
            return StoreRequest.Get(key);
        }

        StoreRequest put = StoreRequest.Put(key, "v" + Interlocked.Increment(ref _values).ToString(CultureInfo.InvariantCulture));
        return dice < 80 ? put : put with
        {
            Compares = [new StoreCompare(key, CompareField.Modified, CompareSign.Equal, seen.GetValueOrDefault(key))],
        };
    }

    private static (string Method, Pb Message) Encode(StoreRequest request)
    {
        if (!request.IsWrite)
        {
            return (Grpc.Range, new Pb().Text(1, request.Read!.Key));
        }

        StoreOp put = request.Success[0];
        Pb body = new Pb().Text(1, put.Key).Text(2, put.Value);
        if (request.Compares.Length == 0)
        {
            return (Grpc.Put, body);
        }

        // Compare: result EQUAL, target MOD, key, mod_revision.
        Pb compare = new Pb().Number(2, 2).Text(3, put.Key).ExplicitNumber(6, request.Compares[0].Number);
        return (Grpc.Txn, new Pb().Message(1, compare).Message(2, new Pb().Message(2, body)));
    }

    private void Complete(HistoryOperation operation, Answer answer, string method, Dictionary<string, long> seen)
    {
        List<string> lines = answer.Lines(method);
        long revision = Schema.Number(lines, "header.revision");
        StoreResponse response;
        if (operation.Request.IsWrite)
        {
            response = Wrote(revision, method == Grpc.Put || Schema.Number(lines, "succeeded") != 0);
            string key = operation.Request.Success[0].Key;
            seen[key] = response.IsSuccess ? revision : 0;
        }
        else
        {
            StorePair[] pairs = [.. Keyspace.Pairs(answer.Body).Select(p => new StorePair(
                Encoding.UTF8.GetString(p.Key), Encoding.UTF8.GetString(p.Value), p.CreateRevision, p.ModRevision, p.Version))];
            response = new StoreResponse { Revision = revision, IsSuccess = true, Results = [new StoreOpResult(Schema.Number(lines, "count"), pairs)] };
            seen[operation.Request.Read!.Key] = pairs.Length == 0 ? 0 : pairs[0].Modified;
        }

        lock (_lock)
        {
            operation.Complete(response);
        }
    }

    /// <summary>Value to key and revision, of everything that was ever written.</summary>
    private async Task<Dictionary<string, (string Key, long Revision)>> Ledger()
    {
        ServerProcess server = members.Running.First().Running;
        long last = Schema.Number(await server.Client.Ok(Grpc.Range, new Pb().Text(1, "k0")), "header.revision");
        Dictionary<string, (string Key, long Revision)> ledger = [];
        await using GrpcStream stream = server.Client.Open(Grpc.Watch);
        await stream.Send(new Pb().Message(1, new Pb().Data(1, [0]).Data(2, [0]).Number(3, 2)));
        long reached = 1;
        while (reached < last)
        {
            byte[]? message = await stream.Receive();
            Assert.True(message is not null, $"the watch ended at {reached} of {last}: {stream.End}\n{members.Logs()}");
            foreach ((string key, string value, long revision) in Events(message))
            {
                Assert.True(revision > reached, $"revision {revision} after {reached}");
                Assert.True(ledger.TryAdd(value, (key, revision)), $"{value} was written at {revision} and at {ledger[value].Revision}");
                reached = revision;
            }
        }

        return ledger;
    }

    private static List<(string Key, string Value, long Revision)> Events(byte[] watchResponse)
    {
        List<(string, string, long)> events = [];
        Base.ProtoReader response = new(watchResponse);
        while (response.NextField())
        {
            if (response.Field != 11)
            {
                response.Skip();
                continue;
            }

            Base.ProtoReader one = new(response.ReadBytes());
            while (one.NextField())
            {
                if (one.Field != 2)
                {
                    one.Skip();
                    continue;
                }

                string key = "", value = "";
                long revision = 0;
                Base.ProtoReader pair = new(one.ReadBytes());
                while (pair.NextField())
                {
                    switch (pair.Field)
                    {
                        case 1: key = Encoding.UTF8.GetString(pair.ReadBytes()); break;
                        case 3: revision = pair.ReadInt64(); break;
                        case 5: value = Encoding.UTF8.GetString(pair.ReadBytes()); break;
                        default: pair.Skip(); break;
                    }
                }

                events.Add((key, value, revision));
            }
        }

        return events;
    }
}
