// Wire: requests of the simulator's clients as protobuf, and answers read back. Written for itself, so that a mistake in the
// server's own codecs is a difference and not a habit.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Simulation;

/// <summary>One WatchResponse.</summary>
internal sealed record WatchAnswer(
    long Revision, long Id, bool IsCreated, bool IsCanceled, long Compacted, bool IsFragment, List<(KvEvent Event, KvEvent? Before)> Events);

internal static class Wire
{
    /// <summary>The request's kind in the log, and its bytes.</summary>
    /// <param name="request">A write.</param>
    /// <param name="plain">A single put or delete as the call of its own, not as a transaction.</param>
    public static (RequestKind Kind, byte[] Body) Encode(StoreRequest request, bool plain)
    {
        switch (request.Kind)
        {
            case StoreRequestKind.Compact:
                return (RequestKind.Compaction, Build(b => Number(b, 1, request.Revision)));
            case StoreRequestKind.LeaseGrant:
                return (RequestKind.LeaseGrant, Build(b =>
                {
                    Number(b, 1, request.Ttl);
                    Number(b, 2, request.Lease);
                }));
            case StoreRequestKind.LeaseRevoke:
                return (RequestKind.LeaseRevoke, Build(b => Number(b, 1, request.Lease)));
        }

        if (plain)
        {
            StoreOp only = request.Success[0];
            return (only.Kind == StoreOpKind.Put ? RequestKind.Put : RequestKind.DeleteRange, Body(only));
        }

        return (RequestKind.Txn, Build(b =>
        {
            foreach (StoreCompare compare in request.Compares)
            {
                Bytes(b, 1, Build(c =>
                {
                    Number(c, 1, compare.Sign == CompareSign.Equal ? 0 : 1);
                    Number(c, 2, 2); // MOD
                    Bytes(c, 3, Text(compare.Key));
                    Number(c, 6, compare.Number, always: true);
                }));
            }

            foreach (StoreOp operation in request.Success)
            {
                Bytes(b, 2, Build(o => Bytes(o, Field(operation), Body(operation), always: true)));
            }

            foreach (StoreOp operation in request.Failure)
            {
                Bytes(b, 3, Build(o => Bytes(o, Field(operation), Body(operation), always: true)));
            }
        }));
    }

    public static byte[] Range(StoreRequest request) => Build(b =>
    {
        Bytes(b, 1, Text(request.Read!.Key));
        Bytes(b, 2, Text(request.Read.End));
        Number(b, 3, request.Limit);
        Number(b, 4, request.Revision);
    });

    /// <summary>Reads an answer back.</summary>
    public static StoreResponse Decode(StoreRequest request, bool plain, ReadOnlySpan<byte> body)
    {
        switch (request.Kind)
        {
            case StoreRequestKind.Range:
                (long seen, StoreOpResult range) = ReadRange(body);
                return new StoreResponse { Revision = seen, IsSuccess = true, Results = [range] };
            case StoreRequestKind.Txn when plain:
                long deleted = request.Success[0].Kind == StoreOpKind.Delete ? (long)Varint(body, 2) : 0;
                return new StoreResponse
                {
                    Revision = Header(body), IsSuccess = true,
                    Results = [request.Success[0].Kind == StoreOpKind.Delete ? new StoreOpResult(deleted, []) : StoreOpResult.Nothing],
                };
            case StoreRequestKind.Txn:
                return Txn(body);
            default:
                return new StoreResponse { Revision = Header(body), IsSuccess = true };
        }
    }

    public static WatchAnswer Watch(ReadOnlySpan<byte> body)
    {
        long revision = 0, id = 0, compacted = 0;
        bool created = false, canceled = false, fragment = false;
        var events = new List<(KvEvent, KvEvent?)>();
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    revision = (long)Varint(reader.ReadBytes(), 3);
                    break;
                case 2:
                    id = reader.ReadInt64();
                    break;
                case 3:
                    created = reader.ReadBool();
                    break;
                case 4:
                    canceled = reader.ReadBool();
                    break;
                case 5:
                    compacted = reader.ReadInt64();
                    break;
                case 7:
                    fragment = reader.ReadBool();
                    break;
                case 11:
                    events.Add(Event(reader.ReadBytes()));
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        SimCheck.That(!reader.Failed, "a watch response does not decode");
        return new WatchAnswer(revision, id, created, canceled, compacted, fragment, events);
    }

    /// <summary>Reads a LeaseRevokeRequest.</summary>
    public static long LeaseId(ReadOnlySpan<byte> body) => (long)Varint(body, 1);

    private static (KvEvent Event, KvEvent? Before) Event(ReadOnlySpan<byte> body)
    {
        bool isDelete = false;
        ReadOnlySpan<byte> pair = default;
        ReadOnlySpan<byte> before = default;
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    isDelete = reader.ReadVarint() == 1;
                    break;
                case 2:
                    pair = reader.ReadBytes();
                    break;
                case 3:
                    before = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return (Version(pair, isDelete), before.IsEmpty ? null : Version(before, false));
    }

    private static KvEvent Version(ReadOnlySpan<byte> pair, bool isDelete)
    {
        string key = string.Empty, value = string.Empty;
        long created = 0, modified = 0, version = 0, lease = 0;
        var reader = new ProtoReader(pair);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    key = Encoding.Latin1.GetString(reader.ReadBytes());
                    break;
                case 2:
                    created = reader.ReadInt64();
                    break;
                case 3:
                    modified = reader.ReadInt64();
                    break;
                case 4:
                    version = reader.ReadInt64();
                    break;
                case 5:
                    value = Encoding.Latin1.GetString(reader.ReadBytes());
                    break;
                case 6:
                    lease = reader.ReadInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return new KvEvent(modified, isDelete, key, value, created, version, lease);
    }

    private static StoreResponse Txn(ReadOnlySpan<byte> body)
    {
        long revision = 0;
        bool succeeded = false;
        var results = new List<StoreOpResult>();
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    revision = (long)Varint(reader.ReadBytes(), 3);
                    break;
                case 2:
                    succeeded = reader.ReadBool();
                    break;
                case 3:
                    var inner = new ProtoReader(reader.ReadBytes());
                    while (inner.NextField())
                    {
                        ReadOnlySpan<byte> answer = inner.ReadBytes();
                        results.Add(inner.Field switch
                        {
                            1 => ReadRange(answer).Result,
                            3 => new StoreOpResult((long)Varint(answer, 2), []),
                            _ => StoreOpResult.Nothing,
                        });
                    }

                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return new StoreResponse { Revision = revision, IsSuccess = succeeded, Results = [.. results] };
    }

    private static (long Revision, StoreOpResult Result) ReadRange(ReadOnlySpan<byte> body)
    {
        long revision = 0, count = 0;
        var pairs = new List<StorePair>();
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    revision = (long)Varint(reader.ReadBytes(), 3);
                    break;
                case 2:
                    KvEvent held = Version(reader.ReadBytes(), false);
                    pairs.Add(new StorePair(held.Key, held.Value, held.Created, held.Revision, held.Version));
                    break;
                case 4:
                    count = reader.ReadInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return (revision, new StoreOpResult(count, [.. pairs]));
    }

    private static long Header(ReadOnlySpan<byte> body)
    {
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field == 1 && reader.Wire == WireType.Bytes)
            {
                return (long)Varint(reader.ReadBytes(), 3);
            }

            reader.Skip();
        }

        return 0;
    }

    private static ulong Varint(ReadOnlySpan<byte> body, int field)
    {
        var reader = new ProtoReader(body);
        while (reader.NextField())
        {
            if (reader.Field == field && reader.Wire == WireType.Varint)
            {
                return reader.ReadVarint();
            }

            reader.Skip();
        }

        return 0;
    }

    private static int Field(StoreOp operation) => operation.Kind switch
    {
        StoreOpKind.Range => 1,
        StoreOpKind.Put => 2,
        _ => 3,
    };

    private static byte[] Body(StoreOp operation) => Build(b =>
    {
        Bytes(b, 1, Text(operation.Key));
        if (operation.Kind == StoreOpKind.Put)
        {
            Bytes(b, 2, Text(operation.Value));
            Number(b, 3, operation.Lease);
        }
        else
        {
            Bytes(b, 2, Text(operation.End));
        }
    });

    private static byte[] Text(string text) => Encoding.Latin1.GetBytes(text);

    private static byte[] Build(Action<List<byte>> fill)
    {
        var bytes = new List<byte>();
        fill(bytes);
        return [.. bytes];
    }

    private static void Number(List<byte> to, int field, long value, bool always = false)
    {
        if (value == 0 && !always)
        {
            return;
        }

        Varint(to, (ulong)(field << 3));
        Varint(to, (ulong)value);
    }

    private static void Bytes(List<byte> to, int field, byte[] value, bool always = false)
    {
        if (value.Length == 0 && !always)
        {
            return;
        }

        Varint(to, (ulong)((field << 3) | 2));
        Varint(to, (ulong)value.Length);
        to.AddRange(value);
    }

    private static void Varint(List<byte> to, ulong value)
    {
        for (; value >= 0x80; value >>= 7)
        {
            to.Add((byte)(value | 0x80));
        }

        to.Add((byte)value);
    }
}
