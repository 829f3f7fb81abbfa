// TxnCompare: the conditions of a txn against a state. Source: behaviour.md §2.7.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>What a compare came to.</summary>
internal enum CompareVerdict : byte
{
    Fails,
    Holds,

    /// <summary>The View never waits and a value would have to come from the disk, or its budget is used up.</summary>
    Cold,
}

/// <summary>Evaluates compares. Any thread with the View pinned, or the store thread on its own state.</summary>
internal static unsafe class TxnCompare
{
    /// <summary>Whether every condition of the txn holds at the View's revision.</summary>
    /// <param name="view">The state.</param>
    /// <param name="index">Keys.</param>
    /// <param name="txn">The transaction.</param>
    /// <param name="looked">Conditions looked at; the first that does not hold ends it.</param>
    public static CompareVerdict AllHold(in View view, KeyIndex index, scoped in TxnRequest txn, out int looked)
    {
        looked = 0;
        foreach (Compare compare in txn.Compares)
        {
            looked++;
            CompareVerdict verdict = Evaluate(view, index, compare);
            if (verdict != CompareVerdict.Holds)
            {
                return verdict;
            }
        }

        return CompareVerdict.Holds;
    }

    private static CompareVerdict Evaluate(in View view, KeyIndex index, scoped in Compare compare)
    {
        if (compare.RangeEnd.IsEmpty)
        {
            KeyRecord* record = index.Find(compare.Key);
            return record != null && KeyHistory.TryGetLive(record, view.Revision, out KeyState state)
                ? EvaluateFor(view, compare, state)
                : Verdict(HoldsForMissing(compare));
        }

        bool openEnd = compare.RangeEnd.Length == 1 && compare.RangeEnd[0] == 0;
        bool any = false;
        var cursor = new KeyCursor(index);
        for (bool more = cursor.Seek(compare.Key); more; more = cursor.Next())
        {
            KeyRecord* record = cursor.Current;
            if (!openEnd && KeyRecord.Key(record).SequenceCompareTo(compare.RangeEnd) >= 0)
            {
                break;
            }

            if (!view.TrySpend(ReadBudget.Key))
            {
                return CompareVerdict.Cold;
            }

            if (KeyHistory.TryGetLive(record, view.Revision, out KeyState state))
            {
                any = true;
                CompareVerdict verdict = EvaluateFor(view, compare, state);
                if (verdict != CompareVerdict.Holds)
                {
                    return verdict;
                }
            }
        }

        return Verdict(any || HoldsForMissing(compare));
    }

    /// <summary>A missing key is an all-zero record, but has no value: comparing that is always false.</summary>
    private static bool HoldsForMissing(scoped in Compare compare) =>
        compare.Target != CompareTarget.Value
        && Judge(compare.Result, 0L.CompareTo(compare.NumberForTarget));

    private static CompareVerdict EvaluateFor(in View view, scoped in Compare compare, in KeyState state)
    {
        KeyValue stored = default;
        bool needsPair = compare.Target == CompareTarget.Value || (compare.Target == CompareTarget.Lease && state.IsLeased);
        if (needsPair && !TryStored(view, state, out stored))
        {
            return CompareVerdict.Cold;
        }

        int order = compare.Target switch
        {
            CompareTarget.Version => state.Version.CompareTo(compare.NumberForTarget),
            CompareTarget.Create => state.Created.CompareTo(compare.NumberForTarget),
            CompareTarget.Mod => state.Main.CompareTo(compare.NumberForTarget),
            CompareTarget.Lease => stored.Lease.CompareTo(compare.NumberForTarget),
            CompareTarget.Value => stored.Value.SequenceCompareTo(compare.ValueForTarget),
            _ => 0, // an unknown target compares as equal
        };
        return Verdict(Judge(compare.Result, order));
    }

    /// <summary>Lease of a live revision, on a View that may wait; the value is read only if it has one.</summary>
    public static long LeaseOf(in View view, in KeyState state) => state.IsLeased ? Stored(view, state).Lease : 0;

    /// <summary>The stored pair of a live revision, on a View that may wait.</summary>
    public static KeyValue Stored(scoped in View view, scoped in KeyState state)
    {
        Invariant.Check(TryStored(view, state, out KeyValue pair), "a view that may wait has every value");
        return pair;
    }

    private static bool TryStored(scoped in View view, scoped in KeyState state, out KeyValue pair)
    {
        ReadOnlySpan<byte> bytes = view.Value(state.Main, state.Sub);
        if (bytes.IsEmpty || !view.TrySpend(ReadBudget.Pair(bytes.Length)))
        {
            pair = default;
            return false;
        }

        Invariant.Check(KeyValue.TryParse(bytes, out pair), "a stored pair parses");
        return true;
    }

    private static CompareVerdict Verdict(bool holds) => holds ? CompareVerdict.Holds : CompareVerdict.Fails;

    private static bool Judge(CompareResult result, int order) => result switch
    {
        CompareResult.Equal => order == 0,
        CompareResult.NotEqual => order != 0,
        CompareResult.Greater => order > 0,
        CompareResult.Less => order < 0,
        _ => true, // an unknown result holds
    };
}
