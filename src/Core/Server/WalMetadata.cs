// WalMetadata: the first record of every segment: who this log belongs to. Pure.
//
// etcdserverpb.Metadata {1 NodeID, 2 ClusterID}, both always written. Field 1000 is ours (design §5): a random
// storage id made with the log, which etcd skips and copies on; peers refuse only two known, different ids.
using System;
using Cairn.Base;

namespace Cairn.Core.Server;

/// <summary>Identity of a log.</summary>
/// <param name="MemberId">NodeID.</param>
/// <param name="ClusterId">ClusterID.</param>
/// <param name="StorageId">0 when etcd made the log.</param>
internal readonly record struct WalMetadata(ulong MemberId, ulong ClusterId, ulong StorageId)
{
    private const int StorageIdField = 1000;

    internal static bool TryParse(ReadOnlySpan<byte> data, out WalMetadata metadata)
    {
        ulong member = 0, cluster = 0, storage = 0;
        var reader = new ProtoReader(data);
        while (reader.NextField())
        {
            if (reader.Wire != WireType.Varint)
            {
                reader.Skip();
                continue;
            }

            int field = reader.Field;
            ulong value = reader.ReadVarint();
            switch (field)
            {
                case 1:
                    member = value;
                    break;
                case 2:
                    cluster = value;
                    break;
                case StorageIdField:
                    storage = value;
                    break;
            }
        }

        metadata = new WalMetadata(member, cluster, storage);
        return !reader.Failed && member != 0;
    }

    internal byte[] ToBytes()
    {
        byte[] bytes = new byte[ProtoSize.VarintField(1, MemberId) + ProtoSize.VarintField(2, ClusterId)
            + ProtoSize.VarintFieldIfSet(StorageIdField, StorageId)];
        var writer = new ProtoWriter(bytes);
        writer.WriteVarintField(1, MemberId);
        writer.WriteVarintField(2, ClusterId);
        writer.WriteVarintFieldIfSet(StorageIdField, StorageId);
        return bytes;
    }
}
