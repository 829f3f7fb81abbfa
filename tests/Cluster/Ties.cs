// Ties: etcd sorts a range by a target other than the key with a sort that is stable for up to 12 keys only. Beyond that the
// order of equal ones, and with a limit the choice among them, is an accident. What is left to compare then is how many keys
// came, and the sequence of the values they were sorted by.
using System;
using System.Collections.Generic;
using System.Globalization;

namespace Cairn.Cluster;

internal static class Ties
{
    private const int StableUpTo = 12;

    /// <summary>Replaces the pairs of such answers by what is determined.</summary>
    public static void Neutralize(Operation operation, List<string> lines)
    {
        List<string> request = Schema.Lines(Schema.Request(operation.Method), operation.Request);
        if (operation.Method == Grpc.Range)
        {
            One(request, "", lines, "");
            return;
        }

        Branch(request, "", lines, "");
    }

    private static void Branch(List<string> request, string requestPrefix, List<string> lines, string prefix)
    {
        string branch = Schema.Value(lines, prefix + "succeeded") == "1" ? "success" : "failure";
        for (int i = 0; ; i++)
        {
            string from = string.Create(CultureInfo.InvariantCulture, $"{requestPrefix}{branch}[{i}].");
            string to = string.Create(CultureInfo.InvariantCulture, $"{prefix}responses[{i}].");
            if (!request.Exists(l => l.StartsWith(from, StringComparison.Ordinal)))
            {
                return;
            }

            if (request.Contains(from + "request_range {}"))
            {
                One(request, from + "request_range.", lines, to + "response_range.");
            }
            else if (request.Contains(from + "request_txn {}"))
            {
                Branch(request, from + "request_txn.", lines, to + "response_txn.");
            }
        }
    }

    private static void One(List<string> request, string requestPrefix, List<string> lines, string prefix)
    {
        string? target = Schema.Number(request, requestPrefix + "sort_target") switch
        {
            1 => "version",
            2 => "create_revision",
            3 => "mod_revision",
            4 => "value",
            _ => null,
        };
        if (target is null || Schema.Number(lines, prefix + "count") <= StableUpTo)
        {
            return;
        }

        string kvs = prefix + "kvs[";
        lines.RemoveAll(l => l.StartsWith(kvs, StringComparison.Ordinal)
            && !l.EndsWith(" {}", StringComparison.Ordinal)
            && !l.Contains("]." + target + " =", StringComparison.Ordinal));
    }
}
