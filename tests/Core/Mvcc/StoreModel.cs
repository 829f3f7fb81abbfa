// StoreModel: etcd's put, range, delete and txn over the revision model. Slow, obvious, nothing of src/ but the error
// names. Answers are the texts of Answers.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Core.Protocol;

namespace Cairn.Core.Tests.Mvcc;

internal sealed class StoreModel
{
    private int _changes;

    public RevisionModel Revisions { get; } = new();

    public long Revision { get; private set; } = 1;

    public HashSet<long> Leases { get; } = [];

    private long Current => _changes > 0 ? Revision + 1 : Revision;

    public (ErrorCode Error, string Text) Apply(Op op)
    {
        (ErrorCode error, string text) = op switch
        {
            PutOp put => CheckPut(put) is var code and not ErrorCode.None ? (code, "") : (ErrorCode.None, Put(put, full: true)),
            DeleteOp delete => (ErrorCode.None, Delete(delete, full: true)),
            TxnOp txn => Txn(txn),
            _ => throw new InvalidOperationException(),
        };
        Revision = Current;
        _changes = 0;

        // The top header shows the revision after the entry.
        return (error, text.Replace("rev ?", $"rev {Revision}"));
    }

    public (ErrorCode Error, string Text) Range(RangeOp op, bool full = true)
    {
        long at = op.Revision <= 0 ? Current : op.Revision;
        if (at > Current)
        {
            return (ErrorCode.FutureRev, "");
        }

        if (at < Revisions.Compacted)
        {
            return (ErrorCode.Compacted, "");
        }

        List<(byte[] Key, ModelRevision Revision)> all = Select(op.Key, op.End, at);
        long count = all.Count;
        bool filters = (op.MinMod | op.MaxMod | op.MinCreate | op.MaxCreate) != 0;
        if (op.Limit > 0 && op.Order == 0 && !filters && all.Count > op.Limit + 1)
        {
            all.RemoveRange((int)op.Limit + 1, all.Count - (int)op.Limit - 1);
        }

        all.RemoveAll(pair => (op.MinMod != 0 && pair.Revision.Main < op.MinMod)
            || (op.MaxMod != 0 && pair.Revision.Main > op.MaxMod)
            || (op.MinCreate != 0 && pair.Revision.Created < op.MinCreate)
            || (op.MaxCreate != 0 && pair.Revision.Created > op.MaxCreate));
        if (op.Target != 0 || op.Order != 0)
        {
            int sign = op.Order == 2 ? -1 : 1;
            InsertionSort(all, (x, y) => sign * Compare(op.Target, x, y));
        }

        bool more = false;
        if (op.CountOnly)
        {
            all.Clear();
        }
        else if (op.Limit > 0 && all.Count > op.Limit)
        {
            all.RemoveRange((int)op.Limit, all.Count - (int)op.Limit);
            more = true;
        }

        var text = new StringBuilder($"range rev {Current}{(full ? " full" : "")} ");
        foreach ((byte[] key, ModelRevision revision) in all)
        {
            text.Append(Render(key, revision, op.KeysOnly));
        }

        return (ErrorCode.None, text.Append(more ? "more " : "").Append(count > 0 ? $"count {count}" : "").ToString());
    }

    private static int Compare(int target, (byte[] Key, ModelRevision Revision) x, (byte[] Key, ModelRevision Revision) y) => target switch
    {
        0 => x.Key.AsSpan().SequenceCompareTo(y.Key),
        1 => x.Revision.Version.CompareTo(y.Revision.Version),
        2 => x.Revision.Created.CompareTo(y.Revision.Created),
        3 => x.Revision.Main.CompareTo(y.Revision.Main),
        _ => x.Revision.Value.AsSpan().SequenceCompareTo(y.Revision.Value),
    };

    private static void InsertionSort<T>(List<T> list, Comparison<T> comparison)
    {
        for (int i = 1; i < list.Count; i++)
        {
            for (int j = i; j > 0 && comparison(list[j], list[j - 1]) < 0; j--)
            {
                (list[j], list[j - 1]) = (list[j - 1], list[j]);
            }
        }
    }

    private static string Render(byte[] key, ModelRevision r, bool keysOnly = false) =>
        Answers.Pair(key, r.Created, r.Main, r.Version, keysOnly ? [] : r.Value, r.Lease);

    private List<(byte[] Key, ModelRevision Revision)> Select(byte[] key, byte[] end, long at)
    {
        var found = new List<(byte[], ModelRevision)>();
        foreach (byte[] candidate in Revisions.Keys.Keys)
        {
            bool inside = end.Length == 0 ? candidate.AsSpan().SequenceEqual(key)
                : candidate.AsSpan().SequenceCompareTo(key) >= 0
                    && ((end.Length == 1 && end[0] == 0) || candidate.AsSpan().SequenceCompareTo(end) < 0);
            if (inside && Revisions.Newest(candidate, at) is { IsTombstone: false } revision)
            {
                found.Add((candidate, revision));
            }
        }

        return found;
    }

    private ErrorCode CheckPut(PutOp put) => Lease(put) != ErrorCode.None ? Lease(put) : Key(put);

    private ErrorCode CheckPutInTxn(PutOp put) => Key(put) != ErrorCode.None ? Key(put) : Lease(put);

    private ErrorCode Lease(PutOp put) => put.Lease != 0 && !Leases.Contains(put.Lease) ? ErrorCode.LeaseNotFound : ErrorCode.None;

    private ErrorCode Key(PutOp put) =>
        (put.IgnoreLease || put.IgnoreValue) && !Revisions.IsLive(put.Key) ? ErrorCode.KeyNotFound : ErrorCode.None;

    private string Put(PutOp put, bool full)
    {
        ModelRevision? before = Revisions.Newest(put.Key, long.MaxValue);
        before = before is { IsTombstone: false } ? before : null;
        Revisions.Put(
            put.Key,
            Revision + 1,
            _changes,
            put.IgnoreValue ? before?.Value : put.Value, // gone since the check, deleted by the same txn: etcd ends there
            put.IgnoreLease ? before?.Lease ?? 0 : put.Lease);
        _changes++;
        return $"put rev {Current}{(full ? " full" : "")} " + (put.PrevKv && before is not null ? "prev " + Render(put.Key, before) : "");
    }

    private string Delete(DeleteOp delete, bool full)
    {
        List<(byte[] Key, ModelRevision Revision)> found = Select(delete.Key, delete.End, long.MaxValue);
        foreach ((byte[] key, _) in found)
        {
            Revisions.Delete(key, Revision + 1, _changes++);
        }

        var text = new StringBuilder($"delete rev {Current}{(full ? " full" : "")} ");
        text.Append(found.Count > 0 ? $"deleted {found.Count} " : "");
        foreach ((byte[] key, ModelRevision revision) in found)
        {
            text.Append(delete.PrevKv ? Render(key, revision) : "");
        }

        return text.ToString();
    }

    private (ErrorCode Error, string Text) Txn(TxnOp txn)
    {
        var path = new Queue<bool>();
        Choose(txn, path);
        ErrorCode error = Check(txn, new Queue<bool>(path), puts: true);
        error = error != ErrorCode.None ? error : Check(txn, new Queue<bool>(path), puts: false);
        return error != ErrorCode.None ? (error, "") : (ErrorCode.None, Run(txn, path, full: true));
    }

    private void Choose(TxnOp txn, Queue<bool> path)
    {
        bool holds = Array.TrueForAll(txn.Compares, Holds);
        path.Enqueue(holds);
        foreach (Op op in holds ? txn.Success : txn.Failure)
        {
            if (op is TxnOp nested)
            {
                Choose(nested, path);
            }
        }
    }

    private bool Holds(CompareOp compare)
    {
        List<(byte[] Key, ModelRevision Revision)> found = Select(compare.Key, compare.End, long.MaxValue);
        if (found.Count == 0)
        {
            return compare.Target != 3 && Judge(compare.Result, 0L.CompareTo(compare.Operand));
        }

        return found.TrueForAll(pair => Judge(compare.Result, compare.Target switch
        {
            0 => pair.Revision.Version.CompareTo(compare.Operand),
            1 => pair.Revision.Created.CompareTo(compare.Operand),
            2 => pair.Revision.Main.CompareTo(compare.Operand),
            3 => pair.Revision.Value.AsSpan().SequenceCompareTo(compare.Value),
            _ => pair.Revision.Lease.CompareTo(compare.Operand),
        }));
    }

    private static bool Judge(int result, int order) => result switch { 0 => order == 0, 1 => order > 0, 2 => order < 0, _ => order != 0 };

    /// <summary>etcd's order, seen in the differential test: all puts of the path, then all its ranges.</summary>
    private ErrorCode Check(TxnOp txn, Queue<bool> path, bool puts)
    {
        foreach (Op op in path.Dequeue() ? txn.Success : txn.Failure)
        {
            ErrorCode error = op switch
            {
                RangeOp { Revision: var r } when !puts && r != 0 && r > Revision => ErrorCode.FutureRev,
                RangeOp { Revision: var r } when !puts && r != 0 && r < Revisions.Compacted => ErrorCode.Compacted,
                PutOp put when puts => CheckPutInTxn(put),
                TxnOp nested => Check(nested, path, puts),
                _ => ErrorCode.None,
            };
            if (error != ErrorCode.None)
            {
                return error;
            }
        }

        return ErrorCode.None;
    }

    private string Run(TxnOp txn, Queue<bool> path, bool full)
    {
        bool succeeded = path.Dequeue();
        var text = new StringBuilder(full ? "txn rev ? full " : "txn rev 0 ").Append(succeeded ? "succeeded " : "");
        foreach (Op op in succeeded ? txn.Success : txn.Failure)
        {
            text.Append('(').Append(op switch
            {
                RangeOp range => Range(range, full: false).Text,
                PutOp put => Put(put, full: false),
                DeleteOp delete => Delete(delete, full: false),
                TxnOp nested => Run(nested, path, full: false),
                _ => throw new InvalidOperationException(),
            }).Append(')');
        }

        return text.ToString();
    }
}
