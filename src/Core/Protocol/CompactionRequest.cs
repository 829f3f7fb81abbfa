// CompactionRequest: a parsed view of etcdserverpb.CompactionRequest. Pure, allocation-free.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>A compaction request.</summary>
public struct CompactionRequest
{
    public long Revision;

    /// <summary>Answer only when the deletions are done and committed at the serving member.</summary>
    public bool Physical;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes. Unknown fields are skipped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out CompactionRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Revision = reader.ReadInt64();
                    break;
                case 2:
                    request.Physical = reader.ReadBool();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    /// <summary>Bytes of the canonical encoding.</summary>
    public readonly int Size => ProtoSize.VarintFieldIfSet(1, (ulong)Revision) + (Physical ? 2 : 0);

    /// <summary>Writes the canonical encoding, byte for byte as etcd would.</summary>
    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintFieldIfSet(1, (ulong)Revision);
        writer.WriteVarintFieldIfSet(2, Physical ? 1u : 0);
    }
}
