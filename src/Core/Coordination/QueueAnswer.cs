// QueueAnswer: what the logic of locks and elections needs of the answers of range, txn and delete. Pure; allocates copies.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Coordination;

/// <summary>A pair in an answer.</summary>
/// <param name="Key">Its key.</param>
/// <param name="CreateRevision">Its place in the queue.</param>
/// <param name="ModRevision">Of the last put.</param>
/// <param name="Value">Its value.</param>
/// <param name="Bytes">The whole KeyValue, encoded.</param>
internal sealed record QueuedKey(byte[] Key, long CreateRevision, long ModRevision, byte[] Value, byte[] Bytes)
{
    public static QueuedKey Of(ReadOnlySpan<byte> bytes)
    {
        Invariant.Check(KeyValue.TryParse(bytes, out KeyValue pair), "a pair in our own answer parses");
        return new QueuedKey(
            pair.Key.ToArray(), pair.CreateRevision, pair.ModRevision, pair.Value.ToArray(), bytes.ToArray());
    }
}

/// <summary>The answer of one request of ours.</summary>
internal readonly struct QueueAnswer
{
    private QueueAnswer(byte[] header, long revision, bool succeeded, QueuedKey? first, QueuedKey? second)
    {
        Header = header;
        Revision = revision;
        Succeeded = succeeded;
        First = first;
        Second = second;
    }

    /// <summary>Its ResponseHeader, encoded.</summary>
    public byte[] Header { get; }

    /// <summary>The header's revision.</summary>
    public long Revision { get; }

    /// <summary>Of a txn: the compare held.</summary>
    public bool Succeeded { get; }

    /// <summary>The first pair of a range, or of the first operation of a txn.</summary>
    public QueuedKey? First { get; }

    /// <summary>The first pair of the second operation of a txn.</summary>
    public QueuedKey? Second { get; }

    /// <summary>Reads a RangeResponse {1 header, 2 kvs} or DeleteRangeResponse {1 header}.</summary>
    public static QueueAnswer OfRange(ReadOnlySpan<byte> response)
    {
        byte[] header = [];
        QueuedKey? first = null;
        var reader = new MessageReader(response);
        while (reader.NextField())
        {
            if (reader.Field == 1)
            {
                header = reader.ReadBytes().ToArray();
            }
            else if (reader.Field == 2 && reader.Wire == WireType.Bytes && first is null)
            {
                first = QueuedKey.Of(reader.ReadBytes());
            }
            else
            {
                reader.Skip();
            }
        }

        Invariant.Check(!reader.Failed, "our own answer parses");
        return new QueueAnswer(header, RevisionOf(header), true, first, null);
    }

    /// <summary>Reads a TxnResponse {1 header, 2 succeeded, 3 responses}.</summary>
    public static QueueAnswer OfTxn(ReadOnlySpan<byte> response)
    {
        byte[] header = [];
        bool succeeded = false;
        int operation = 0;
        QueuedKey? first = null, second = null;
        var reader = new MessageReader(response);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    header = reader.ReadBytes().ToArray();
                    break;
                case 2:
                    succeeded = reader.ReadBool();
                    break;
                case 3:
                    QueuedKey? pair = FirstPair(reader.ReadBytes());
                    (first, second) = operation++ == 0 ? (pair, second) : (first, pair);
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        Invariant.Check(!reader.Failed, "our own answer parses");
        return new QueueAnswer(header, RevisionOf(header), succeeded, first, second);
    }

    // ResponseOp {1 response_range}; other operations carry no pair.
    private static QueuedKey? FirstPair(ReadOnlySpan<byte> operation)
    {
        var reader = new MessageReader(operation);
        while (reader.NextField())
        {
            if (reader.Field == (int)RequestOpKind.Range)
            {
                return OfRange(reader.ReadBytes()).First;
            }

            reader.Skip();
        }

        return null;
    }

    private static long RevisionOf(ReadOnlySpan<byte> header)
    {
        var reader = new MessageReader(header);
        while (reader.NextField())
        {
            if (reader.Field == 3)
            {
                return reader.ReadInt64();
            }

            reader.Skip();
        }

        return 0;
    }
}
