// HistoryCheck: both searches over one history, and the message when one fails.
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Cairn.Simulation;

internal static class HistoryCheck
{
    private const long MaxSteps = 400_000;

    /// <summary>C1 over a settled history: as one store, and key by key where that is allowed.</summary>
    /// <exception cref="SimViolationException">No order explains it.</exception>
    public static void Demand(History history, Coverage coverage)
    {
        List<HistoryOperation> operations = history.Operations;
        coverage.HistoryOperations += operations.Count;
        Judge(LinearSearch.Run(StoreModel.Instance, operations, MaxSteps, out List<HistoryOperation> longest), "store", operations, longest, coverage);
        if (KeyModel.Split(operations) is { } keys)
        {
            foreach ((string key, List<HistoryOperation> own) in keys)
            {
                Judge(LinearSearch.Run(KeyModel.Instance, own, MaxSteps, out longest), "key " + key, own, longest, coverage);
            }
        }
    }

    private static void Judge(
        SearchResult result, string what, List<HistoryOperation> operations, List<HistoryOperation> longest, Coverage coverage)
    {
        if (result == SearchResult.Unknown)
        {
            coverage.HistoriesUnknown++;
        }

        if (result != SearchResult.Violation)
        {
            return;
        }

        var text = new StringBuilder();
        _ = text.Append(
            CultureInfo.InvariantCulture, $"C1: no order explains the history of the {what} ({operations.Count} operations)\nlongest prefix, last ten:\n");
        for (int i = System.Math.Max(0, longest.Count - 10); i < longest.Count; i++)
        {
            _ = text.Append("  ").Append(longest[i]).Append('\n');
        }

        _ = text.Append("next, not explained:\n");
        int shown = 0;
        foreach (HistoryOperation operation in operations)
        {
            if (!longest.Contains(operation) && shown++ < 10)
            {
                _ = text.Append("  ").Append(operation).Append('\n');
            }
        }

        SimCheck.Fail(text.ToString());
    }
}
