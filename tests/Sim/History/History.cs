// History: what clients asked and were told, in the order of the simulation, in the terms of a key-value store.
//
// Two numbers say when an operation ran: Call and Return, drawn from one counter, so that "returned before the other was
// called" is a comparison. An operation whose outcome is not known has no end: it may have happened at any time after
// its call, or never.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Cairn.Simulation;

internal enum StoreRequestKind : byte
{
    Range,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
}

internal enum CompareField : byte
{
    Version,
    Modified,
    Created,
    Value,
}

internal enum CompareSign : byte
{
    Equal,
    NotEqual,
    Greater,
    Less,
}

internal enum StoreOpKind : byte
{
    Put,
    Delete,
    Range,
}

internal enum StoreError : byte
{
    None,
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExists,
}

/// <summary>One compare of a transaction; an absent key has zero in every number.</summary>
internal sealed record StoreCompare(string Key, CompareField Field, CompareSign Sign, long Number, string Value = "");

/// <summary>One operation of a transaction. An empty end names one key.</summary>
internal sealed record StoreOp(StoreOpKind Kind, string Key, string End = "", string Value = "")
{
    /// <summary>Of a put; 0 for none.</summary>
    public long Lease { get; init; }
}

/// <summary>A pair as a client sees it.</summary>
internal readonly record struct StorePair(string Key, string Value, long Created, long Modified, long Version);

/// <summary>What one operation of a transaction answered.</summary>
internal sealed record StoreOpResult(long Count, StorePair[] Pairs)
{
    public static readonly StoreOpResult Nothing = new(0, []);

    public bool IsSame(StoreOpResult other) => Count == other.Count && Pairs.AsSpan().SequenceEqual(other.Pairs);
}

/// <summary>A request; put and delete are transactions of one operation.</summary>
internal sealed record StoreRequest(StoreRequestKind Kind)
{
    public StoreOp? Read { get; init; }

    /// <summary>Of a range: 0 for now. Of a compaction: up to where.</summary>
    public long Revision { get; init; }

    public long Limit { get; init; }

    /// <summary>Of a grant or a revoke.</summary>
    public long Lease { get; init; }

    /// <summary>Of a grant, seconds.</summary>
    public long Ttl { get; init; }

    public StoreCompare[] Compares { get; init; } = [];

    public StoreOp[] Success { get; init; } = [];

    public StoreOp[] Failure { get; init; } = [];

    public bool IsWrite => Kind != StoreRequestKind.Range;

    public static StoreRequest Get(string key, long revision = 0) =>
        new(StoreRequestKind.Range) { Read = new StoreOp(StoreOpKind.Range, key), Revision = revision };

    public static StoreRequest Range(string key, string end, long revision = 0, long limit = 0) =>
        new(StoreRequestKind.Range) { Read = new StoreOp(StoreOpKind.Range, key, end), Revision = revision, Limit = limit };

    public static StoreRequest Put(string key, string value) =>
        new(StoreRequestKind.Txn) { Success = [new StoreOp(StoreOpKind.Put, key, "", value)] };

    public static StoreRequest Delete(string key, string end = "") =>
        new(StoreRequestKind.Txn) { Success = [new StoreOp(StoreOpKind.Delete, key, end)] };

    public static StoreRequest Compact(long revision) => new(StoreRequestKind.Compact) { Revision = revision };

    /// <summary>An operation of the core-level state machine.</summary>
    public static StoreRequest Of(in RegisterOp op, string key)
    {
        string value = op.Value.ToString(CultureInfo.InvariantCulture);
        return op.Kind switch
        {
            RegisterKind.Put => Put(key, value),
            RegisterKind.Delete => Delete(key),
            _ => Put(key, value) with
            {
                Compares = [new StoreCompare(key, CompareField.Modified, CompareSign.Equal, op.Expected)],
            },
        };
    }

    public override string ToString()
    {
        switch (Kind)
        {
            case StoreRequestKind.Compact:
                return string.Create(CultureInfo.InvariantCulture, $"compact {Revision}");
            case StoreRequestKind.LeaseGrant or StoreRequestKind.LeaseRevoke:
                return string.Create(CultureInfo.InvariantCulture, $"{Kind} {Lease} {Ttl}");
            case StoreRequestKind.Range:
                return string.Create(CultureInfo.InvariantCulture, $"get {Read!.Key}..{Read.End} @{Revision} limit {Limit}");
        }

        var text = new StringBuilder();
        foreach (StoreCompare compare in Compares)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"if {compare.Field}({compare.Key}) {compare.Sign} {compare.Number}{compare.Value} ");
        }

        Append(text, Success);
        if (Failure.Length > 0)
        {
            _ = text.Append("else ");
            Append(text, Failure);
        }

        return text.ToString();

        static void Append(StringBuilder text, StoreOp[] ops)
        {
            foreach (StoreOp op in ops)
            {
                _ = text.Append(CultureInfo.InvariantCulture, $"{op.Kind} {op.Key}{(op.End.Length > 0 ? ".." + op.End : "")} {op.Value} ");
            }
        }
    }
}

/// <summary>A response. Values of 20 bytes and more are replaced by their hash before they come here.</summary>
internal sealed record StoreResponse
{
    public long Revision { get; init; }

    public StoreError Error { get; init; }

    /// <summary>The compares held.</summary>
    public bool IsSuccess { get; init; }

    /// <summary>One a transaction's operation; of a range the first.</summary>
    public StoreOpResult[] Results { get; init; } = [];

    /// <summary>What is not known of a patched operation: only that it happened, at this revision.</summary>
    public bool IsOnlyRevision { get; init; }

    public static StoreResponse OfRead(long revision, string key, in RegisterCell cell) => new()
    {
        Revision = revision,
        IsSuccess = true,
        Results =
        [
            cell.Version == 0
                ? StoreOpResult.Nothing
                : new StoreOpResult(
                    1,
                    [
                        new StorePair(
                            key, cell.Value.ToString(CultureInfo.InvariantCulture), cell.Created, cell.Modified, cell.Version),
                    ]),
        ],
    };

    public bool IsSame(StoreResponse other)
    {
        if (Error != other.Error || (Error == StoreError.None && Revision != other.Revision))
        {
            return false;
        }

        if (Error != StoreError.None || IsOnlyRevision || other.IsOnlyRevision)
        {
            return true;
        }

        if (IsSuccess != other.IsSuccess || Results.Length != other.Results.Length)
        {
            return false;
        }

        for (int i = 0; i < Results.Length; i++)
        {
            if (!Results[i].IsSame(other.Results[i]))
            {
                return false;
            }
        }

        return true;
    }

    public override string ToString() => Error != StoreError.None
        ? Error.ToString()
        : string.Create(
            CultureInfo.InvariantCulture,
            $"revision {Revision} {(IsOnlyRevision ? "(only)" : IsSuccess ? "yes" : "no")} {string.Join(' ', Array.ConvertAll(Results, r => r.Count + ":" + string.Join(',', r.Pairs)))}");
}

/// <summary>One operation of one client.</summary>
internal sealed class HistoryOperation(History history, int client, StoreRequest request, long call)
{
    public const long Never = long.MaxValue;

    public int Client => client;

    public StoreRequest Request => request;

    public long Call => call;

    /// <summary><see cref="Never"/> while the outcome is open.</summary>
    public long Return { get; private set; } = Never;

    /// <summary>Null: nothing is known.</summary>
    public StoreResponse? Response { get; private set; }

    /// <summary>Surely never happened, or says nothing (a read that failed).</summary>
    public bool IsVoid { get; private set; }

    /// <summary>Names it in the ledger.</summary>
    public ulong Tag { get; set; }

    public void Complete(StoreResponse response)
    {
        Response = response;
        Return = history.Tick();
    }

    /// <summary>A definite no.</summary>
    public void Refuse() => IsVoid = true;

    /// <summary>Found out from elsewhere: it happened, with this answer, nobody knows when.</summary>
    public void Patch(StoreResponse response) => Response = response;

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"client {client} [{call}, {(Return == Never ? "?" : Return)}] {request} -> {Response?.ToString() ?? "?"}");
}

internal sealed class History
{
    private long _clock;

    public List<HistoryOperation> Operations { get; } = [];

    public HistoryOperation Call(int client, StoreRequest request)
    {
        var operation = new HistoryOperation(this, client, request, Tick());
        Operations.Add(operation);
        return operation;
    }

    public long Tick() => ++_clock;

    /// <summary>
    /// Uses what the ledger knows: an open write that is not in it never happened, one that is has its answer. Failed
    /// reads say nothing and go.
    /// </summary>
    public void Settle(Func<HistoryOperation, StoreResponse?> find)
    {
        foreach (HistoryOperation operation in Operations)
        {
            if (operation.Return != HistoryOperation.Never || operation.IsVoid)
            {
                continue;
            }

            if (!operation.Request.IsWrite || find(operation) is not { } response)
            {
                operation.Refuse();
            }
            else
            {
                operation.Patch(response);
            }
        }

        _ = Operations.RemoveAll(static operation => operation.IsVoid);
    }
}
