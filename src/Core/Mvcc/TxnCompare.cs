// TxnCompare: the conditions of a txn against a state. Source: behaviour.md §2.7.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

/// <summary>Evaluates compares. Any thread with the View pinned, or the store thread on its own state.</summary>
internal static unsafe class TxnCompare
{
    /// <summary>True if every condition of the txn holds at the View's revision.</summary>
    public static bool AllHold(in View view, KeyIndex index, scoped in TxnRequest txn)
    {
        foreach (Compare compare in txn.Compares)
        {
            if (!Holds(view, index, compare))
            {
                return false;
            }
        }

        return true;
    }

    private static bool Holds(in View view, KeyIndex index, scoped in Compare compare)
    {
        if (compare.RangeEnd.IsEmpty)
        {
            KeyRecord* record = index.Find(compare.Key);
            return record != null && KeyHistory.TryGetLive(record, view.Revision, out KeyState state)
                ? HoldsFor(view, compare, state)
                : HoldsForMissing(compare);
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

            if (KeyHistory.TryGetLive(record, view.Revision, out KeyState state))
            {
                any = true;
                if (!HoldsFor(view, compare, state))
                {
                    return false;
                }
            }
        }

        return any || HoldsForMissing(compare);
    }

    /// <summary>A missing key is an all-zero record, but has no value: comparing that is always false.</summary>
    private static bool HoldsForMissing(scoped in Compare compare) =>
        compare.Target != CompareTarget.Value
        && Judge(compare.Result, 0L.CompareTo(compare.NumberForTarget));

    private static bool HoldsFor(in View view, scoped in Compare compare, in KeyState state)
    {
        int order = compare.Target switch
        {
            CompareTarget.Version => state.Version.CompareTo(compare.NumberForTarget),
            CompareTarget.Create => state.Created.CompareTo(compare.NumberForTarget),
            CompareTarget.Mod => state.Main.CompareTo(compare.NumberForTarget),
            CompareTarget.Lease => LeaseOf(view, state).CompareTo(compare.NumberForTarget),
            CompareTarget.Value => Stored(view, state).Value.SequenceCompareTo(compare.ValueForTarget),
            _ => 0, // an unknown target compares as equal
        };
        return Judge(compare.Result, order);
    }

    /// <summary>Lease of a live revision; the value is read only if it has one.</summary>
    public static long LeaseOf(in View view, in KeyState state) => state.IsLeased ? Stored(view, state).Lease : 0;

    /// <summary>The stored pair of a live revision.</summary>
    public static KeyValue Stored(in View view, in KeyState state)
    {
        ReadOnlySpan<byte> bytes = view.Value(state.Main, state.Sub);
        Invariant.Check(KeyValue.TryParse(bytes, out KeyValue pair), "a stored pair parses");
        return pair;
    }

    private static bool Judge(CompareResult result, int order) => result switch
    {
        CompareResult.Equal => order == 0,
        CompareResult.NotEqual => order != 0,
        CompareResult.Greater => order > 0,
        CompareResult.Less => order < 0,
        _ => true, // an unknown result holds
    };
}
