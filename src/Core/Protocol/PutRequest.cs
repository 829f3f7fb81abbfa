// PutRequest: a parsed view of etcdserverpb.PutRequest. Pure, allocation-free.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>View of a put; its spans live as long as the bytes it was parsed from.</summary>
public ref struct PutRequest
{
    public ReadOnlySpan<byte> Key;
    public ReadOnlySpan<byte> Value;

    /// <summary>0 detaches the key from its lease (unless <see cref="IgnoreLease"/>).</summary>
    public long Lease;

    public bool PrevKv;
    public bool IgnoreValue;
    public bool IgnoreLease;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes. Unknown fields are skipped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out PutRequest request)
    {
        request = default;
        return TryParse(data, ref request, out _);
    }

    /// <summary>The same; <paramref name="unusual"/> says that the bytes may not go into the log as they are.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> data, ref PutRequest request, out bool unusual)
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
                    request.Value = reader.ReadBytes();
                    unusual |= request.Value.IsEmpty;
                    break;
                case 3:
                    request.Lease = reader.ReadInt64();
                    break;
                case 4:
                    request.PrevKv = reader.ReadBool();
                    break;
                case 5:
                    request.IgnoreValue = reader.ReadBool();
                    break;
                case 6:
                    request.IgnoreLease = reader.ReadBool();
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
        + ProtoSize.BytesFieldIfSet(2, Value.Length)
        + ProtoSize.VarintFieldIfSet(3, (ulong)Lease)
        + (PrevKv ? 2 : 0) + (IgnoreValue ? 2 : 0) + (IgnoreLease ? 2 : 0);

    /// <summary>Writes the canonical encoding, byte for byte as etcd would.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteBytesFieldIfSet(1, Key);
        writer.WriteBytesFieldIfSet(2, Value);
        writer.WriteVarintFieldIfSet(3, (ulong)Lease);
        writer.WriteVarintFieldIfSet(4, PrevKv ? 1u : 0);
        writer.WriteVarintFieldIfSet(5, IgnoreValue ? 1u : 0);
        writer.WriteVarintFieldIfSet(6, IgnoreLease ? 1u : 0);
    }
}
