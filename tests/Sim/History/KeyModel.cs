// KeyModel: one key as a register, for histories that have only operations on single keys. What a response says about the
// whole store (the revision in its header) is only used as the place where the key changed. So keys cannot influence
// each other and each may be checked alone, which lets long histories be searched.
using System;
using System.Collections.Generic;

namespace Cairn.Simulation;

internal sealed record KeyValueState(string Value, long Created, long Modified, long Version)
{
    public static KeyValueState Absent { get; } = new(string.Empty, 0, 0, 0);
}

internal sealed class KeyModel : IHistoryModel<KeyValueState>
{
    public static KeyModel Instance { get; } = new();

    public KeyValueState Start => KeyValueState.Absent;

    public KeyValueState? Step(KeyValueState state, HistoryOperation operation)
    {
        StoreRequest request = operation.Request;
        StoreResponse? response = operation.Response;
        if (!request.IsWrite)
        {
            StorePair[] found = response!.Results[0].Pairs;
            bool isSame = found.Length == 0
                ? state.Version == 0
                : found[0].Value == state.Value && found[0].Version == state.Version && found[0].Modified == state.Modified;
            return isSame ? state : null;
        }

        foreach (StoreCompare compare in request.Compares)
        {
            bool holds = compare.Field == CompareField.Modified
                ? state.Modified == compare.Number : state.Version == compare.Number;
            if (response is { IsOnlyRevision: false } && holds != response.IsSuccess)
            {
                return null;
            }

            if (!holds)
            {
                return state;
            }
        }

        StoreOp op = request.Success[0];
        if (op.Kind == StoreOpKind.Delete)
        {
            bool existed = state.Version > 0;
            return response is { IsOnlyRevision: false } && response.Results[0].Count != (existed ? 1 : 0)
                ? null : KeyValueState.Absent;
        }

        long revision = response?.Revision ?? state.Modified + 1;
        return revision > state.Modified
            ? new KeyValueState(op.Value, state.Version == 0 ? revision : state.Created, revision, state.Version + 1)
            : null;
    }

    /// <summary>The history by key; null if an operation concerns more than one.</summary>
    public static SortedDictionary<string, List<HistoryOperation>>? Split(IReadOnlyList<HistoryOperation> operations)
    {
        var keys = new SortedDictionary<string, List<HistoryOperation>>(StringComparer.Ordinal);
        foreach (HistoryOperation operation in operations)
        {
            StoreRequest request = operation.Request;
            StoreOp? op = request.Kind == StoreRequestKind.Range ? request.Read
                : request.Success.Length == 1 && request.Failure.Length == 0 ? request.Success[0] : null;
            if (op is null || op.End.Length > 0 || request.Kind == StoreRequestKind.Compact
                || (request.Kind == StoreRequestKind.Range && request.Revision != 0)
                || request.Compares.Length > 1
                || (request.Compares.Length == 1
                    && (request.Compares[0].Key != op.Key || request.Compares[0].Sign != CompareSign.Equal
                        || request.Compares[0].Field is not (CompareField.Modified or CompareField.Version)))
                || (operation.Response is null && operation.Request.IsWrite))
            {
                return null;
            }

            if (!keys.TryGetValue(op.Key, out List<HistoryOperation>? list))
            {
                keys.Add(op.Key, list = []);
            }

            list.Add(operation);
        }

        return keys;
    }
}
