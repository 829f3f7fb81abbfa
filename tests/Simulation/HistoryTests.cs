// The search for an order that explains a history: right histories are accepted, wrong ones are not.
using System.Collections.Generic;
using CsCheck;
using Xunit;

namespace Cairn.Simulation;

public sealed class HistoryTests
{
    [Fact]
    public void Search_ReadOfAnOverwrittenValue_IsRefused()
    {
        var history = new History();
        Put(history, "a", "1", 2);
        Put(history, "a", "2", 3);
        Read(history, "a", 3, new StorePair("a", "1", 2, 2, 1));
        Assert.Equal(SearchResult.Violation, Store(history));
        Assert.Equal(SearchResult.Violation, OneKey(history));
    }

    [Fact]
    public void Search_WriteThatWasLost_IsRefused()
    {
        var history = new History();
        Put(history, "a", "1", 2);
        Read(history, "a", 1);
        Assert.Equal(SearchResult.Violation, Store(history));
        Assert.Equal(SearchResult.Violation, OneKey(history));
    }

    [Fact]
    public void Search_RevisionGivenTwice_IsRefused()
    {
        var history = new History();
        Put(history, "a", "1", 2);
        Put(history, "b", "1", 2);
        Assert.Equal(SearchResult.Violation, Store(history));
    }

    [Fact]
    public void Search_ConcurrentWrites_MayRunInEitherOrder_ButReadsAgree()
    {
        var history = new History();
        HistoryOperation first = history.Call(0, StoreRequest.Put("a", "1"));
        HistoryOperation second = history.Call(1, StoreRequest.Put("a", "2"));
        second.Complete(Wrote(2));
        first.Complete(Wrote(3));
        Read(history, "a", 3, new StorePair("a", "1", 2, 3, 2));
        Assert.Equal(SearchResult.Linearizable, Store(history));
        Assert.Equal(SearchResult.Linearizable, OneKey(history));
        Read(history, "a", 3, new StorePair("a", "2", 2, 3, 2));
        Assert.Equal(SearchResult.Violation, Store(history));
    }

    [Fact]
    public void Search_OpenWrite_MayHaveHappenedLateOrNever()
    {
        foreach (bool happened in new[] { false, true })
        {
            var history = new History();
            _ = history.Call(0, StoreRequest.Put("a", "1")); // nobody ever heard
            Put(history, "b", "1", 2);
            if (happened)
            {
                Read(history, "a", 3, new StorePair("a", "1", 3, 3, 1));
            }
            else
            {
                Read(history, "a", 2);
            }

            Assert.Equal(SearchResult.Linearizable, Store(history));
        }
    }

    [Fact]
    public void Search_OpenWrite_CannotHappenBeforeItWasAsked()
    {
        var history = new History();
        Read(history, "a", 2, new StorePair("a", "1", 2, 2, 1));
        _ = history.Call(0, StoreRequest.Put("a", "1"));
        Assert.Equal(SearchResult.Violation, Store(history));
    }

    [Fact]
    public void Model_CompactedAndFutureRevisions_AreErrorsAsInEtcd()
    {
        StoreState state = StoreModel.Apply(StoreState.Empty, StoreRequest.Put("a", "1")).Next;
        Assert.Equal(2, state.Revision);
        Assert.Equal(StoreError.FutureRevision, StoreModel.Apply(state, StoreRequest.Compact(3)).Response.Error);
        Assert.Equal(StoreError.FutureRevision, StoreModel.Apply(state, StoreRequest.Get("a", 3)).Response.Error);
        state = StoreModel.Apply(state, StoreRequest.Compact(2)).Next;
        Assert.Equal(StoreError.Compacted, StoreModel.Apply(state, StoreRequest.Compact(2)).Response.Error);
        Assert.Equal(StoreError.Compacted, StoreModel.Apply(state, StoreRequest.Get("a", 1)).Response.Error);
        Assert.Equal(StoreError.None, StoreModel.Apply(state, StoreRequest.Get("a", 2)).Response.Error);
    }

    [Fact]
    public void Search_GeneratedHistories_RightOnesAreAccepted_AndAFalsifiedReadIsNot() =>
        Gen.Int[1, int.MaxValue].Sample(
            seed =>
            {
                History history = Generate(new SimRandom((ulong)seed), out HistoryOperation? read);
                Assert.Equal(SearchResult.Linearizable, Store(history));
                Assert.Equal(SearchResult.Linearizable, OneKey(history));
                if (read is not null)
                {
                    read.Patch(new StoreResponse
                    {
                        Revision = read.Response!.Revision,
                        IsSuccess = true,
                        Results = [new StoreOpResult(1, [new StorePair("a", "never written", 2, 2, 1)])],
                    });
                    Assert.Equal(SearchResult.Violation, Store(history));
                }
            },
            iter: 300);

    /// <summary>Clients whose operations take effect at a moment between call and return.</summary>
    private static History Generate(SimRandom random, out HistoryOperation? read)
    {
        var history = new History();
        StoreState state = StoreState.Empty;
        var asking = new List<HistoryOperation>();
        var done = new Dictionary<HistoryOperation, StoreResponse>();
        read = null;
        for (int step = 0; step < 120; step++)
        {
            if (asking.Count < 4 && random.Chance(50))
            {
                string key = random.Chance(50) ? "a" : "b";
                StoreRequest request = random.Below(4) switch
                {
                    0 => StoreRequest.Get("a"),
                    1 => StoreRequest.Delete(key),
                    2 => StoreRequest.Put(key, "v" + step) with
                    {
                        Compares = [new StoreCompare(key, CompareField.Modified, CompareSign.Equal, state.Find(key)?.Modified ?? 0)],
                    },
                    _ => StoreRequest.Put(key, "v" + step),
                };
                asking.Add(history.Call(step, request));
                continue;
            }

            if (asking.Count == 0)
            {
                continue;
            }

            HistoryOperation chosen = asking[random.Below(asking.Count)];
            if (!done.TryGetValue(chosen, out StoreResponse? response))
            {
                (state, response) = StoreModel.Apply(state, chosen.Request);
                done.Add(chosen, response);
            }
            else if (random.Chance(90))
            {
                chosen.Complete(response);
                _ = asking.Remove(chosen);
                read = chosen.Request.IsWrite ? read : chosen;
            }
            else
            {
                _ = asking.Remove(chosen); // its answer was lost
            }
        }

        history.Settle(operation => done.TryGetValue(operation, out StoreResponse? known) ? known : null);
        return history;
    }

    private static void Put(History history, string key, string value, long revision) =>
        history.Call(0, StoreRequest.Put(key, value)).Complete(Wrote(revision));

    private static StoreResponse Wrote(long revision) =>
        new() { Revision = revision, IsSuccess = true, Results = [StoreOpResult.Nothing] };

    private static void Read(History history, string key, long revision, params StorePair[] pairs) =>
        history.Call(1, StoreRequest.Get(key)).Complete(new StoreResponse
        {
            Revision = revision, IsSuccess = true, Results = [new StoreOpResult(pairs.Length, pairs)],
        });

    private static SearchResult Store(History history) =>
        LinearSearch.Run(StoreModel.Instance, history.Operations, 1_000_000, out _);

    private static SearchResult OneKey(History history)
    {
        foreach (List<HistoryOperation> own in KeyModel.Split(history.Operations)!.Values)
        {
            SearchResult result = LinearSearch.Run(KeyModel.Instance, own, 1_000_000, out _);
            if (result != SearchResult.Linearizable)
            {
                return result;
            }
        }

        return SearchResult.Linearizable;
    }
}
