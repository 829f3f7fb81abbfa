// MvccStore, apply: puts, deletes and transactions of the log, one entry at a time, on the store thread.
//
// All changes of an entry share one main revision; sub counts them. Nothing is visible to readers before the next
// View is published. Checks come first: once the first change is made, an entry cannot fail.
// Source     behaviour.md §2.4, §2.5, §2.7, §2.9.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Mvcc;

public sealed unsafe partial class MvccStore
{
    private NativeBuffer _txnResponses; // the encoded responses of the txn under way
    private byte[] _path = new byte[64]; // branch taken by each txn of the entry, outer before inner, in order
    private int _pathLength;
    private int _pathNext;
    private int _sub; // changes made by the entry under way

    private long TxnMain => _revision + 1;

    private long VisibleRevision => _sub > 0 ? _revision + 1 : _revision;

    /// <summary>Applies a PutRequest body. On success (and if wanted) the PutResponse body is appended to the output.</summary>
    /// <returns>MalformedRequest if the bytes are no such request (the caller decides that this is fatal).</returns>
    public ErrorCode Put(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output)
    {
        if (!PutRequest.TryParse(request, out PutRequest put))
        {
            return ErrorCode.MalformedRequest;
        }

        ErrorCode error = CheckPut(put, context.Leases, inTxn: false);
        if (error != ErrorCode.None)
        {
            // etcd finds a missing key by a range; a missing lease it finds before that.
            Figures.Range(error == ErrorCode.KeyNotFound ? 1 : 0);
            Figures.End();
            return error;
        }

        ApplyPut(put, context, out ReadOnlySpan<byte> previous);
        EndEntry();
        if (context.WantsResponse)
        {
            WritePutResponse(ref output, Header(context, _revision), previous);
        }

        return ErrorCode.None;
    }

    /// <summary>Applies a DeleteRangeRequest body.</summary>
    /// <inheritdoc cref="Put(ReadOnlySpan{byte}, in ApplyContext, ref NativeBuffer)"/>
    public ErrorCode DeleteRange(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output)
    {
        if (!DeleteRangeRequest.TryParse(request, out DeleteRangeRequest delete))
        {
            return ErrorCode.MalformedRequest;
        }

        RunDelete(delete, context, ref output, nested: false);
        EndEntry();
        return ErrorCode.None;
    }

    /// <summary>Applies a TxnRequest body.</summary>
    /// <inheritdoc cref="Put(ReadOnlySpan{byte}, in ApplyContext, ref NativeBuffer)"/>
    public ErrorCode Txn(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output)
    {
        if (!TxnRequest.TryParse(request, out TxnRequest txn))
        {
            return ErrorCode.MalformedRequest;
        }

        // The path is fixed by the state before the txn, nested compares included; then the ops on it are checked;
        // then they run, and cannot fail any more.
        View before = Current();
        _pathLength = 0;
        ChoosePath(before, txn);
        _pathNext = 0;
        ErrorCode error = CheckPath(before, txn, context.Leases, RequestOpKind.Put);
        if (error == ErrorCode.None)
        {
            _pathNext = 0;
            error = CheckPath(before, txn, context.Leases, RequestOpKind.Range);
        }

        Figures.End(); // what looked is one transaction of etcd's store, what acts is the next
        if (error != ErrorCode.None)
        {
            return error;
        }

        _pathNext = 0;
        _txnResponses.Reset();
        bool succeeded = RunTxn(txn, context);
        EndEntry();
        if (context.WantsResponse)
        {
            ResponseHeader header = Header(context, _revision);
            int head = TxnResponseWriter.HeadSize(header, succeeded);
            Span<byte> target = output.GetSpan(checked(head + _txnResponses.Length));
            var writer = new ProtoWriter(target);
            TxnResponseWriter.WriteHead(ref writer, header, succeeded);
            writer.WriteRaw(_txnResponses.WrittenSpan);
            output.Advance(writer.Position);
        }

        return ErrorCode.None;
    }

    /// <summary>A range that came through the log: runs on the newest state, published or not.</summary>
    public ErrorCode Range(ReadOnlySpan<byte> request, in ApplyContext context, ref NativeBuffer output)
    {
        if (!RangeRequest.TryParse(request, out RangeRequest range))
        {
            return ErrorCode.MalformedRequest;
        }

        Figures.Range();
        Figures.End();
        return context.WantsResponse ? AnswerRange(Current(), range, Header(context, _revision), ref output, nested: false) : ErrorCode.None;
    }

    /// <summary>Starts a revoke: all keys deleted until <see cref="EndRevoke"/> share one revision.</summary>
    public void BeginRevoke() => Invariant.Check(_sub == 0, "one entry at a time");

    /// <summary>Deletes one key of the lease, keys in ascending order; absent is fine. The lease book is not told.</summary>
    public void RevokeKey(ReadOnlySpan<byte> key)
    {
        Figures.Delete();
        KeyRecord* record = _index.Find(key);
        if (record != null && KeyHistory.TryGetLive(record, long.MaxValue, out _))
        {
            DeleteRecord(record);
        }
    }

    /// <summary>Ends the revoke; uses a revision only if something was deleted.</summary>
    public void EndRevoke() => EndEntry();

    private static ResponseHeader Header(in ApplyContext context, long revision) => new()
    {
        ClusterId = context.Header.ClusterId,
        MemberId = context.Header.MemberId,
        Revision = revision,
        RaftTerm = context.Header.RaftTerm,
    };

    /// <summary>Headers of operations inside a txn carry the revision alone.</summary>
    private static ResponseHeader NestedHeader(long revision) => new() { Revision = revision };

    private void EndEntry()
    {
        Figures.End();
        if (_sub > 0)
        {
            _revision++;
            _sub = 0;
        }
    }

    /// <summary>What a put needs to be there. A put of its own asks for the lease first, one in a txn for the key.</summary>
    private ErrorCode CheckPut(scoped in PutRequest put, ILeaseBook leases, bool inTxn)
    {
        bool leaseMissing = put.Lease != 0 && !leases.Exists(put.Lease);
        bool keyMissing = false;
        if (put.IgnoreValue || put.IgnoreLease)
        {
            Figures.Range(inTxn ? 1 : 0); // a put of its own is counted where it is made
            KeyRecord* record = _index.Find(put.Key);
            keyMissing = record == null || !KeyHistory.TryGetLive(record, long.MaxValue, out _);
        }

        return keyMissing && (inTxn || !leaseMissing) ? ErrorCode.KeyNotFound
            : leaseMissing ? ErrorCode.LeaseNotFound
            : ErrorCode.None;
    }

    /// <summary>Makes one put. The previous pair is looked up only if asked for.</summary>
    private void ApplyPut(scoped in PutRequest put, in ApplyContext context, out ReadOnlySpan<byte> previous)
    {
        previous = default;
        KeyRecord* record = _index.FindForInsert(put.Key, out int position);
        KeyState state = default;
        bool exists = record != null && KeyHistory.TryGetLive(record, long.MaxValue, out state);
        KeyValue pair = default;
        pair.Key = put.Key;
        pair.Value = put.Value;
        pair.Lease = put.Lease;
        pair.ModRevision = TxnMain;
        pair.CreateRevision = exists ? state.Created : TxnMain;
        pair.Version = exists ? state.Version + 1 : 1;
        long oldLease = 0;
        if (put.IgnoreValue || put.IgnoreLease || put.PrevKv)
        {
            Figures.Range();
        }

        if (exists && (state.IsLeased || put.IgnoreValue || (put.PrevKv && context.WantsResponse)))
        {
            ReadOnlySpan<byte> stored = Current().Value(state.Main, state.Sub);
            Invariant.Check(KeyValue.TryParse(stored, out KeyValue old), "a stored pair parses");
            oldLease = old.Lease;
            if (put.IgnoreValue)
            {
                pair.Value = old.Value;
            }

            if (put.PrevKv)
            {
                previous = stored;
            }
        }

        // A key that was there when the txn was checked may have been deleted by an earlier op of it (an open-ended
        // delete passes the duplicate rule). etcd's member ends itself there; here nothing is taken over: the put
        // stores an empty value, no lease, the same on every member.
        if (put.IgnoreLease)
        {
            pair.Lease = oldLease;
        }

        int size = pair.Size;
        byte* target = _active.AppendRevision(TxnMain, _sub, tombstone: false, size);
        var writer = new ProtoWriter(new Span<byte>(target, size));
        pair.Write(ref writer);
        uint packed = KeyHistoryWriter.Pack(_sub, tombstone: false, leased: pair.Lease != 0);
        if (record == null)
        {
            _index.Insert(_index.Histories.NewRecord(put.Key, TxnMain, packed), position);
        }
        else
        {
            _index.Histories.AppendPut(record, TxnMain, packed);
        }

        Figures.Put(pair.Key.Length + pair.Value.Length);
        if (!exists)
        {
            Figures.KeyAppeared();
        }

        _sub++;
        if (oldLease != pair.Lease)
        {
            if (oldLease != 0)
            {
                context.Leases.Detach(oldLease, put.Key);
            }

            if (pair.Lease != 0)
            {
                context.Leases.Attach(pair.Lease, put.Key);
            }
        }
    }

    private static void WritePutResponse(ref NativeBuffer output, scoped in ResponseHeader header, ReadOnlySpan<byte> previous)
    {
        int size = PutResponseWriter.Size(header, !previous.IsEmpty, previous.Length);
        var writer = new ProtoWriter(output.GetSpan(size));
        PutResponseWriter.Write(ref writer, header, !previous.IsEmpty, previous);
        output.Advance(writer.Position);
    }

    /// <summary>Deletes a range and appends its response (as a nested op: with its place in the txn's list).</summary>
    private void RunDelete(scoped in DeleteRangeRequest delete, in ApplyContext context, ref NativeBuffer output, bool nested)
    {
        View now = Current();
        if (delete.PrevKv)
        {
            Figures.Range();
        }

        Figures.Delete();
        if (!context.WantsResponse)
        {
            _ = DeleteKeys(delete, context.Leases, now);
            return;
        }

        if (!delete.PrevKv)
        {
            long deleted = DeleteKeys(delete, context.Leases, now);
            ResponseHeader header = nested ? NestedHeader(VisibleRevision) : Header(context, VisibleRevision);
            int size = DeleteRangeResponseWriter.HeadSize(header, deleted);
            ProtoWriter writer = BeginResponse(ref output, RequestOpKind.DeleteRange, size, nested);
            DeleteRangeResponseWriter.WriteHead(ref writer, header, deleted);
            output.Advance(writer.Position);
            return;
        }

        // The pairs are gathered before they are deleted; their bytes stay where they are.
        RangeRequest range = default;
        range.Key = delete.Key;
        range.RangeEnd = delete.RangeEnd;
        RangeHit* local = stackalloc RangeHit[RangeReader.LocalHits];
        var reader = new RangeReader(_pool, local);
        try
        {
            ErrorCode error = reader.Run(now, _index, range);
            Invariant.Check(error == ErrorCode.None, "the newest revision can be read");
            long deleted = DeleteKeys(delete, context.Leases, now);
            Invariant.Check(deleted == reader.HitCount, "what was read is what is deleted");
            ResponseHeader header = nested ? NestedHeader(VisibleRevision) : Header(context, VisibleRevision);
            long size = DeleteRangeResponseWriter.HeadSize(header, deleted);
            for (int i = 0; i < reader.HitCount; i++)
            {
                size += DeleteRangeResponseWriter.PrevKvSize(reader.PairAt(i).Length);
            }

            ProtoWriter writer = BeginResponse(ref output, RequestOpKind.DeleteRange, checked((int)size), nested);
            DeleteRangeResponseWriter.WriteHead(ref writer, header, deleted);
            for (int i = 0; i < reader.HitCount; i++)
            {
                DeleteRangeResponseWriter.WritePrevKv(ref writer, reader.PairAt(i));
            }

            output.Advance(writer.Position);
        }
        finally
        {
            reader.Dispose();
        }
    }

    /// <summary>A writer over exactly the room of one response, its place in a txn's list written first.</summary>
    private static ProtoWriter BeginResponse(ref NativeBuffer output, RequestOpKind kind, int size, bool nested)
    {
        if (!nested)
        {
            return new ProtoWriter(output.GetSpan(size));
        }

        var writer = new ProtoWriter(output.GetSpan(TxnResponseWriter.ResponseSize(kind, size)));
        TxnResponseWriter.WriteResponseStart(ref writer, kind, size);
        return writer;
    }

    private long DeleteKeys(scoped in DeleteRangeRequest delete, ILeaseBook leases, in View now)
    {
        if (delete.RangeEnd.IsEmpty)
        {
            KeyRecord* only = _index.Find(delete.Key);
            if (only == null || !KeyHistory.TryGetLive(only, long.MaxValue, out KeyState state))
            {
                return 0;
            }

            DetachAndDelete(only, state, leases, now);
            return 1;
        }

        bool openEnd = delete.RangeEnd.Length == 1 && delete.RangeEnd[0] == 0;
        long deleted = 0;
        var cursor = new KeyCursor(_index);
        for (bool more = cursor.Seek(delete.Key); more; more = cursor.Next())
        {
            KeyRecord* record = cursor.Current;
            if (!openEnd && KeyRecord.Key(record).SequenceCompareTo(delete.RangeEnd) >= 0)
            {
                break;
            }

            if (KeyHistory.TryGetLive(record, long.MaxValue, out KeyState state))
            {
                DetachAndDelete(record, state, leases, now);
                deleted++;
            }
        }

        return deleted;
    }

    private void DetachAndDelete(KeyRecord* record, in KeyState state, ILeaseBook leases, in View now)
    {
        if (state.IsLeased)
        {
            leases.Detach(TxnCompare.LeaseOf(now, state), KeyRecord.Key(record));
        }

        DeleteRecord(record);
    }

    /// <summary>Appends a tombstone: its stored pair holds the key alone.</summary>
    private void DeleteRecord(KeyRecord* record)
    {
        KeyValue pair = default;
        pair.Key = KeyRecord.Key(record);
        int size = pair.Size;
        byte* target = _active.AppendRevision(TxnMain, _sub, tombstone: true, size);
        var writer = new ProtoWriter(new Span<byte>(target, size));
        pair.Write(ref writer);
        _index.Histories.AppendTombstone(record, TxnMain, _sub);
        Figures.KeyWent();
        _sub++;
    }

    private void ChoosePath(in View before, scoped in TxnRequest txn)
    {
        // Never cold: the store thread waits.
        bool success = TxnCompare.AllHold(before, _index, txn, out int looked) == CompareVerdict.Holds;
        Figures.Range(looked);
        if (_pathLength == _path.Length)
        {
            Array.Resize(ref _path, _path.Length * 2);
        }

        _path[_pathLength++] = success ? (byte)1 : (byte)0;
        foreach (RequestOp op in txn.Branch(success))
        {
            if (op.Kind == RequestOpKind.Txn)
            {
                ChoosePath(before, op.AsTxn());
            }
        }
    }

    /// <summary>Checks the ops of one kind on the chosen path: etcd looks at all puts, then at all ranges.</summary>
    private ErrorCode CheckPath(in View before, scoped in TxnRequest txn, ILeaseBook leases, RequestOpKind kind)
    {
        foreach (RequestOp op in txn.Branch(_path[_pathNext++] != 0))
        {
            ErrorCode error = op.Kind switch
            {
                RequestOpKind.Range when kind == RequestOpKind.Range => CheckRange(before, op.AsRange().Revision),
                RequestOpKind.Put when kind == RequestOpKind.Put => CheckPut(op.AsPut(), leases, inTxn: true),
                RequestOpKind.Txn => CheckPath(before, op.AsTxn(), leases, kind),
                _ => ErrorCode.None,
            };
            if (error != ErrorCode.None)
            {
                return error;
            }
        }

        return ErrorCode.None;
    }

    private static ErrorCode CheckRange(in View view, long revision)
    {
        if (revision == 0)
        {
            return ErrorCode.None;
        }

        return revision > view.Revision ? ErrorCode.FutureRev
            : revision < view.CompactRevision ? ErrorCode.Compacted
            : ErrorCode.None;
    }

    private bool RunTxn(scoped in TxnRequest txn, in ApplyContext context)
    {
        bool success = _path[_pathNext++] != 0;
        foreach (RequestOp op in txn.Branch(success))
        {
            switch (op.Kind)
            {
                case RequestOpKind.Range:
                    Figures.Range();
                    if (context.WantsResponse)
                    {
                        ErrorCode error = AnswerRange(
                            Current(), op.AsRange(), NestedHeader(VisibleRevision), ref _txnResponses, nested: true);
                        Invariant.Check(error == ErrorCode.None, "a checked range can be read");
                    }

                    break;
                case RequestOpKind.Put:
                    ApplyPut(op.AsPut(), context, out ReadOnlySpan<byte> previous);
                    if (context.WantsResponse)
                    {
                        ResponseHeader header = NestedHeader(TxnMain);
                        int size = PutResponseWriter.Size(header, !previous.IsEmpty, previous.Length);
                        ProtoWriter writer = BeginResponse(ref _txnResponses, RequestOpKind.Put, size, nested: true);
                        PutResponseWriter.Write(ref writer, header, !previous.IsEmpty, previous);
                        _txnResponses.Advance(writer.Position);
                    }

                    break;
                case RequestOpKind.DeleteRange:
                    RunDelete(op.AsDeleteRange(), context, ref _txnResponses, nested: true);
                    break;
                case RequestOpKind.Txn:
                    RunNestedTxn(op.AsTxn(), context);
                    break;
            }
        }

        return success;
    }

    /// <summary>A txn inside a txn: its length is known when it has run, so its body is moved up by that much.</summary>
    private void RunNestedTxn(scoped in TxnRequest txn, in ApplyContext context)
    {
        if (!context.WantsResponse)
        {
            _ = RunTxn(txn, context);
            return;
        }

        int start = _txnResponses.Length;
        bool succeeded = RunTxn(txn, context);
        int responses = _txnResponses.Length - start;
        ResponseHeader header = default; // present and empty, also its revision
        int inner = TxnResponseWriter.HeadSize(header, succeeded) + responses;
        int prefix = TxnResponseWriter.ResponseSize(RequestOpKind.Txn, inner) - responses;
        _ = _txnResponses.GetSpan(prefix);
        byte* at = _txnResponses.Pointer + start;
        new ReadOnlySpan<byte>(at, responses).CopyTo(new Span<byte>(at + prefix, responses));
        var writer = new ProtoWriter(new Span<byte>(at, prefix));
        TxnResponseWriter.WriteResponseStart(ref writer, RequestOpKind.Txn, inner);
        TxnResponseWriter.WriteHead(ref writer, header, succeeded);
        _txnResponses.Advance(prefix);
    }
}
