// KeyValue: mvccpb.KeyValue, the value stored under a revision and the pair in answers. Pure, allocation-free.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>View of a pair; spans live as long as the bytes it was parsed from (or was made of).</summary>
public ref struct KeyValue
{
    public ReadOnlySpan<byte> Key;
    public long CreateRevision;
    public long ModRevision;
    public long Version;
    public ReadOnlySpan<byte> Value;
    public long Lease;

    /// <summary>Reads a message; an empty one is fine (a restore writes such a revision).</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out KeyValue pair)
    {
        pair = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    pair.Key = reader.ReadBytes();
                    break;
                case 2:
                    pair.CreateRevision = reader.ReadInt64();
                    break;
                case 3:
                    pair.ModRevision = reader.ReadInt64();
                    break;
                case 4:
                    pair.Version = reader.ReadInt64();
                    break;
                case 5:
                    pair.Value = reader.ReadBytes();
                    break;
                case 6:
                    pair.Lease = reader.ReadInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    /// <summary>Bytes of the encoding, as etcd stores it. A tombstone has only <see cref="Key"/> set.</summary>
    public readonly int Size =>
        ProtoSize.BytesFieldIfSet(1, Key.Length)
        + ProtoSize.VarintFieldIfSet(2, (ulong)CreateRevision)
        + ProtoSize.VarintFieldIfSet(3, (ulong)ModRevision)
        + ProtoSize.VarintFieldIfSet(4, (ulong)Version)
        + ProtoSize.BytesFieldIfSet(5, Value.Length)
        + ProtoSize.VarintFieldIfSet(6, (ulong)Lease);

    /// <summary>Writes the encoding, byte for byte as etcd stores it.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteBytesFieldIfSet(1, Key);
        writer.WriteVarintFieldIfSet(2, (ulong)CreateRevision);
        writer.WriteVarintFieldIfSet(3, (ulong)ModRevision);
        writer.WriteVarintFieldIfSet(4, (ulong)Version);
        writer.WriteBytesFieldIfSet(5, Value);
        writer.WriteVarintFieldIfSet(6, (ulong)Lease);
    }

    /// <summary>The same pair without its value (keys_only).</summary>
    public readonly KeyValue WithoutValue()
    {
        KeyValue copy = this;
        copy.Value = default;
        return copy;
    }
}
