// RaftMessages: raftpb on disk: Entry, HardState, ConfState, ConfChange, Snapshot. Pure.
//
// Why        The WAL and .snap files hold these messages as etcd up to 3.6 writes them: proto2 without packing, and
//            every scalar and embedded message written even when zero. Readers take absent for zero, so files of
//            3.7 (explicit presence) read as well.
// Source     raft.proto; storage.md §3.4, §8.2, §12.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>raftpb.EntryType.</summary>
public enum EntryType : byte
{
    Normal = 0,
    ConfChange = 1,
    ConfChangeV2 = 2,
}

/// <summary>View of raftpb.Entry.</summary>
public ref struct RaftEntryMessage
{
    public EntryType Type;
    public ulong Term;
    public ulong Index;

    /// <summary>Payload; absent and empty are the same.</summary>
    public ReadOnlySpan<byte> Data;

    public static bool TryParse(ReadOnlySpan<byte> data, out RaftEntryMessage entry)
    {
        entry = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    int type = reader.ReadInt32();
                    if (type is < 0 or > 255)
                    {
                        return false;
                    }

                    entry.Type = (EntryType)type;
                    break;
                case 2:
                    entry.Term = reader.ReadUInt64();
                    break;
                case 3:
                    entry.Index = reader.ReadUInt64();
                    break;
                case 4:
                    entry.Data = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    /// <summary>Bytes of the encoding; a null payload of a no-op is absent, so is an empty one.</summary>
    public readonly int Size =>
        ProtoSize.VarintField(1, (ulong)Type) + ProtoSize.VarintField(2, Term) + ProtoSize.VarintField(3, Index)
        + ProtoSize.BytesFieldIfSet(4, Data.Length);

    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintField(1, (ulong)Type);
        writer.WriteVarintField(2, Term);
        writer.WriteVarintField(3, Index);
        writer.WriteBytesFieldIfSet(4, Data);
    }
}

/// <summary>raftpb.HardState: what a member must never forget.</summary>
/// <param name="Term">Current term.</param>
/// <param name="Vote">Member voted for in this term, 0 for none.</param>
/// <param name="Commit">Highest index known to be committed.</param>
public readonly record struct HardState(ulong Term, ulong Vote, ulong Commit)
{
    public static bool TryParse(ReadOnlySpan<byte> data, out HardState state)
    {
        ulong term = 0, vote = 0, commit = 0;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    term = reader.ReadUInt64();
                    break;
                case 2:
                    vote = reader.ReadUInt64();
                    break;
                case 3:
                    commit = reader.ReadUInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        state = new HardState(term, vote, commit);
        return !reader.Failed;
    }

    public int Size => ProtoSize.VarintField(1, Term) + ProtoSize.VarintField(2, Vote) + ProtoSize.VarintField(3, Commit);

    public void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintField(1, Term);
        writer.WriteVarintField(2, Vote);
        writer.WriteVarintField(3, Commit);
    }
}

/// <summary>raftpb.ConfState: a membership configuration. Lists are in the order they were given.</summary>
/// <remarks>A cold object: made when a configuration changes or is read at start.</remarks>
public sealed class ConfState
{
    public static readonly ConfState Empty = new();

    public ulong[] Voters { get; init; } = [];

    public ulong[] Learners { get; init; } = [];

    /// <summary>Voters of the configuration being left; empty unless joint.</summary>
    public ulong[] VotersOutgoing { get; init; } = [];

    /// <summary>Voters of the outgoing half that become learners when it is left.</summary>
    public ulong[] LearnersNext { get; init; } = [];

    public bool AutoLeave { get; init; }

    /// <summary>Reads a message, packed or not; false on malformed bytes.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out ConfState state)
    {
        state = Empty;
        Span<int> counts = stackalloc int[5];
        if (!Scan(data, counts, null, out bool autoLeave))
        {
            return false;
        }

        // The counts are of ids that were really there, so the arrays are never larger than the input.
        var lists = new ulong[][] { new ulong[counts[1]], new ulong[counts[2]], new ulong[counts[3]], new ulong[counts[4]] };
        _ = Scan(data, counts, lists, out autoLeave);
        state = new ConfState
        {
            Voters = lists[0],
            Learners = lists[1],
            VotersOutgoing = lists[2],
            LearnersNext = lists[3],
            AutoLeave = autoLeave,
        };
        return true;
    }

    public int Size
    {
        get
        {
            int size = 2;
            foreach (ulong id in Voters)
            {
                size += ProtoSize.VarintField(1, id);
            }

            foreach (ulong id in Learners)
            {
                size += ProtoSize.VarintField(2, id);
            }

            foreach (ulong id in VotersOutgoing)
            {
                size += ProtoSize.VarintField(3, id);
            }

            foreach (ulong id in LearnersNext)
            {
                size += ProtoSize.VarintField(4, id);
            }

            return size;
        }
    }

    public void Write(scoped ref ProtoWriter writer)
    {
        foreach (ulong id in Voters)
        {
            writer.WriteVarintField(1, id);
        }

        foreach (ulong id in Learners)
        {
            writer.WriteVarintField(2, id);
        }

        foreach (ulong id in VotersOutgoing)
        {
            writer.WriteVarintField(3, id);
        }

        foreach (ulong id in LearnersNext)
        {
            writer.WriteVarintField(4, id);
        }

        writer.WriteVarintField(5, AutoLeave ? 1u : 0);
    }

    /// <summary>The encoding as an array; cold.</summary>
    public byte[] ToBytes()
    {
        byte[] bytes = new byte[Size];
        var writer = new ProtoWriter(bytes);
        Write(ref writer);
        return bytes;
    }

    /// <summary>Same configuration, whatever the order of the lists.</summary>
    public bool IsEquivalentTo(ConfState other) =>
        AutoLeave == other.AutoLeave && SameSet(Voters, other.Voters) && SameSet(Learners, other.Learners)
        && SameSet(VotersOutgoing, other.VotersOutgoing) && SameSet(LearnersNext, other.LearnersNext);

    private static bool SameSet(ulong[] left, ulong[] right)
    {
        if (left.Length != right.Length)
        {
            return false;
        }

        ulong[] a = (ulong[])left.Clone();
        ulong[] b = (ulong[])right.Clone();
        Array.Sort(a);
        Array.Sort(b);
        return a.AsSpan().SequenceEqual(b);
    }

    private static bool Scan(ReadOnlySpan<byte> data, Span<int> counts, ulong[][]? lists, out bool autoLeave)
    {
        counts.Clear();
        autoLeave = false;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case >= 1 and <= 4 when reader.Wire == WireType.Bytes:
                    int field = reader.Field;
                    var packed = new PackedVarints(reader.ReadBytes());
                    while (packed.TryRead(out ulong packedId))
                    {
                        Take(field, packedId, counts, lists);
                    }

                    if (packed.Failed)
                    {
                        return false;
                    }

                    break;
                case >= 1 and <= 4:
                    Take(reader.Field, reader.ReadUInt64(), counts, lists);
                    break;
                case 5:
                    autoLeave = reader.ReadBool();
                    break;
                default:
                    reader.Skip();
                    break;
            }

            if (reader.Failed)
            {
                return false;
            }
        }

        return !reader.Failed;
    }

    private static void Take(int field, ulong id, Span<int> counts, ulong[][]? lists)
    {
        if (lists != null)
        {
            lists[field - 1][counts[field]] = id;
        }

        counts[field]++;
    }
}

/// <summary>raftpb.ConfChangeType.</summary>
public enum ConfChangeType
{
    AddNode = 0,
    RemoveNode = 1,
    UpdateNode = 2,
    AddLearnerNode = 3,
}

/// <summary>View of raftpb.ConfChange, the payload of an entry of type ConfChange.</summary>
public ref struct ConfChange
{
    /// <summary>Request id that matches the waiter; 0 for bootstrap.</summary>
    public ulong Id;

    public ConfChangeType Type;

    /// <summary>The member; 0 makes the change a no-op.</summary>
    public ulong NodeId;

    /// <summary>JSON of the member; empty for a removal.</summary>
    public ReadOnlySpan<byte> Context;

    public static bool TryParse(ReadOnlySpan<byte> data, out ConfChange change)
    {
        change = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    change.Id = reader.ReadUInt64();
                    break;
                case 2:
                    change.Type = (ConfChangeType)reader.ReadInt32();
                    break;
                case 3:
                    change.NodeId = reader.ReadUInt64();
                    break;
                case 4:
                    change.Context = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    public readonly int Size =>
        ProtoSize.VarintField(1, Id) + ProtoSize.VarintField(2, (ulong)(long)Type) + ProtoSize.VarintField(3, NodeId)
        + ProtoSize.BytesFieldIfSet(4, Context.Length);

    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteVarintField(1, Id);
        writer.WriteVarintField(2, (ulong)(long)Type);
        writer.WriteVarintField(3, NodeId);
        writer.WriteBytesFieldIfSet(4, Context);
    }
}

/// <summary>View of raftpb.Snapshot, the payload of a .snap file.</summary>
public ref struct RaftSnapshotMessage
{
    /// <summary>The v2 store as JSON.</summary>
    public ReadOnlySpan<byte> Data;

    /// <summary>raftpb.ConfState bytes.</summary>
    public ReadOnlySpan<byte> ConfState;

    public ulong Index;
    public ulong Term;

    public static bool TryParse(ReadOnlySpan<byte> data, out RaftSnapshotMessage snapshot)
    {
        snapshot = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    snapshot.Data = reader.ReadBytes();
                    break;
                case 2:
                    if (!TryParseMetadata(reader.ReadBytes(), ref snapshot))
                    {
                        return false;
                    }

                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    public readonly int Size =>
        ProtoSize.BytesFieldIfSet(1, Data.Length) + ProtoSize.BytesField(2, MetadataSize);

    public readonly void Write(scoped ref ProtoWriter writer)
    {
        writer.WriteBytesFieldIfSet(1, Data);
        writer.WriteTag(2, WireType.Bytes);
        writer.WriteVarint((ulong)MetadataSize);
        writer.WriteBytesField(1, ConfState);
        writer.WriteVarintField(2, Index);
        writer.WriteVarintField(3, Term);
    }

    private readonly int MetadataSize =>
        ProtoSize.BytesField(1, ConfState.Length) + ProtoSize.VarintField(2, Index) + ProtoSize.VarintField(3, Term);

    private static bool TryParseMetadata(ReadOnlySpan<byte> data, ref RaftSnapshotMessage snapshot)
    {
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    snapshot.ConfState = reader.ReadBytes();
                    break;
                case 2:
                    snapshot.Index = reader.ReadUInt64();
                    break;
                case 3:
                    snapshot.Term = reader.ReadUInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }
}
