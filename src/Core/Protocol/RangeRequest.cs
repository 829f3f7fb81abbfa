// RangeRequest: a parsed view of etcdserverpb.RangeRequest. Pure, allocation-free.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>RangeRequest.SortOrder.</summary>
public enum SortOrder
{
    None = 0,
    Ascend = 1,
    Descend = 2,
}

/// <summary>RangeRequest.SortTarget.</summary>
public enum SortTarget
{
    Key = 0,
    Version = 1,
    Create = 2,
    Mod = 3,
    Value = 4,
}

/// <summary>View of a range request; its spans live as long as the bytes it was parsed from.</summary>
public ref struct RangeRequest
{
    public ReadOnlySpan<byte> Key;

    /// <summary>Empty: the one key. One zero byte: every key from <see cref="Key"/> on. Else exclusive end.</summary>
    public ReadOnlySpan<byte> RangeEnd;

    /// <summary>0 or less: no limit.</summary>
    public long Limit;

    /// <summary>0 or less: the newest.</summary>
    public long Revision;

    /// <summary>May hold an unknown number until checked.</summary>
    public SortOrder SortOrder;

    /// <summary>May hold an unknown number until checked.</summary>
    public SortTarget SortTarget;

    public bool Serializable;
    public bool KeysOnly;
    public bool CountOnly;
    public long MinModRevision;
    public long MaxModRevision;
    public long MinCreateRevision;
    public long MaxCreateRevision;

    /// <summary>
    /// The field range_end was on the wire but empty. No generated client writes that; etcd takes it for an open
    /// end in requests that do not pass through the log.
    /// </summary>
    public bool HasEmptyRangeEnd;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes. Unknown fields are skipped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out RangeRequest request)
    {
        request = default;
        return TryParse(data, ref request, out _);
    }

    /// <summary>The same; <paramref name="unusual"/> says that the bytes may not go into the log as they are.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> data, ref RangeRequest request, out bool unusual)
    {
        var reader = new MessageReader(data);
        uint seen = 0;
        unusual = false;
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Key = reader.ReadBytes();
                    unusual |= request.Key.IsEmpty;
                    break;
                case 2:
                    request.RangeEnd = reader.ReadBytes();
                    request.HasEmptyRangeEnd = request.RangeEnd.IsEmpty;
                    unusual |= request.RangeEnd.IsEmpty;
                    break;
                case 3:
                    request.Limit = reader.ReadInt64();
                    break;
                case 4:
                    request.Revision = reader.ReadInt64();
                    break;
                case 5:
                    request.SortOrder = (SortOrder)reader.ReadInt32();
                    break;
                case 6:
                    request.SortTarget = (SortTarget)reader.ReadInt32();
                    break;
                case 7:
                    request.Serializable = reader.ReadBool();
                    break;
                case 8:
                    request.KeysOnly = reader.ReadBool();
                    break;
                case 9:
                    request.CountOnly = reader.ReadBool();
                    break;
                case 10:
                    request.MinModRevision = reader.ReadInt64();
                    break;
                case 11:
                    request.MaxModRevision = reader.ReadInt64();
                    break;
                case 12:
                    request.MinCreateRevision = reader.ReadInt64();
                    break;
                case 13:
                    request.MaxCreateRevision = reader.ReadInt64();
                    break;
                default:
                    reader.Skip();
                    unusual = true;
                    continue;
            }

            uint bit = 1u << reader.Field;
            unusual |= (seen & bit) != 0;
            seen |= bit;
        }

        unusual |= reader.IsOddlyEncoded;
        return !reader.Failed;
    }

    /// <summary>Bytes of the canonical encoding.</summary>
    public readonly int Size =>
        ProtoSize.BytesFieldIfSet(1, Key.Length)
        + ProtoSize.BytesFieldIfSet(2, RangeEnd.Length)
        + ProtoSize.VarintFieldIfSet(3, (ulong)Limit)
        + ProtoSize.VarintFieldIfSet(4, (ulong)Revision)
        + ProtoSize.VarintFieldIfSet(5, (ulong)(long)SortOrder)
        + ProtoSize.VarintFieldIfSet(6, (ulong)(long)SortTarget)
        + (Serializable ? 2 : 0) + (KeysOnly ? 2 : 0) + (CountOnly ? 2 : 0)
        + ProtoSize.VarintFieldIfSet(10, (ulong)MinModRevision)
        + ProtoSize.VarintFieldIfSet(11, (ulong)MaxModRevision)
        + ProtoSize.VarintFieldIfSet(12, (ulong)MinCreateRevision)
        + ProtoSize.VarintFieldIfSet(13, (ulong)MaxCreateRevision);

    /// <summary>Writes the canonical encoding, byte for byte as etcd would.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteBytesFieldIfSet(1, Key);
        writer.WriteBytesFieldIfSet(2, RangeEnd);
        writer.WriteVarintFieldIfSet(3, (ulong)Limit);
        writer.WriteVarintFieldIfSet(4, (ulong)Revision);
        writer.WriteVarintFieldIfSet(5, (ulong)(long)SortOrder);
        writer.WriteVarintFieldIfSet(6, (ulong)(long)SortTarget);
        writer.WriteVarintFieldIfSet(7, Serializable ? 1u : 0);
        writer.WriteVarintFieldIfSet(8, KeysOnly ? 1u : 0);
        writer.WriteVarintFieldIfSet(9, CountOnly ? 1u : 0);
        writer.WriteVarintFieldIfSet(10, (ulong)MinModRevision);
        writer.WriteVarintFieldIfSet(11, (ulong)MaxModRevision);
        writer.WriteVarintFieldIfSet(12, (ulong)MinCreateRevision);
        writer.WriteVarintFieldIfSet(13, (ulong)MaxCreateRevision);
    }
}
