// DeleteRangeRequest: a parsed view of etcdserverpb.DeleteRangeRequest. Pure, allocation-free.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>View of a range deletion; its spans live as long as the bytes it was parsed from.</summary>
public ref struct DeleteRangeRequest
{
    public ReadOnlySpan<byte> Key;

    /// <summary>Empty: the one key. One zero byte: every key from <see cref="Key"/> on. Else exclusive end.</summary>
    public ReadOnlySpan<byte> RangeEnd;

    public bool PrevKv;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes. Unknown fields are skipped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out DeleteRangeRequest request)
    {
        request = default;
        return TryParse(data, ref request, out _);
    }

    /// <summary>The same; <paramref name="unusual"/> says that the bytes may not go into the log as they are.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> data, ref DeleteRangeRequest request, out bool unusual)
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
                    // Present but empty must never reach the log: etcd would read it there as an open end.
                    request.RangeEnd = reader.ReadBytes();
                    unusual |= request.RangeEnd.IsEmpty;
                    break;
                case 3:
                    request.PrevKv = reader.ReadBool();
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
        + (PrevKv ? 2 : 0);

    /// <summary>Writes the canonical encoding, byte for byte as etcd would.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteBytesFieldIfSet(1, Key);
        writer.WriteBytesFieldIfSet(2, RangeEnd);
        writer.WriteVarintFieldIfSet(3, PrevKv ? 1u : 0);
    }
}
