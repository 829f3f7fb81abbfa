// ConfChangeV2: raftpb.ConfChangeV2, the payload of an entry of type ConfChangeV2. Pure; cold (allocates its steps).
//
// Why        etcd's API makes single changes only, which are entries of the first form. The second form comes from
//            raft itself: a leader leaves a joint configuration with an empty one.
using System;
using System.Collections.Generic;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>raftpb.ConfChangeTransition.</summary>
public enum ConfChangeTransition
{
    /// <summary>Joint (left automatically) when more than one step is asked for, else simple.</summary>
    Auto = 0,

    /// <summary>Joint, left automatically.</summary>
    JointImplicit = 1,

    /// <summary>Joint, left on an explicit empty change.</summary>
    JointExplicit = 2,
}

/// <summary>A change of configuration in several steps.</summary>
public sealed class ConfChangeV2
{
    public ConfChangeTransition Transition { get; init; }

    /// <summary>Kind and member of each step, in order.</summary>
    public (ConfChangeType Type, ulong NodeId)[] Steps { get; init; } = [];

    public byte[] Context { get; init; } = [];

    /// <summary>Asks to leave a joint configuration.</summary>
    public bool IsLeave => Transition == ConfChangeTransition.Auto && Steps.Length == 0;

    public static bool TryParse(ReadOnlySpan<byte> data, out ConfChangeV2 change)
    {
        change = new ConfChangeV2();
        var transition = ConfChangeTransition.Auto;
        var steps = new List<(ConfChangeType, ulong)>();
        byte[] context = [];
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    transition = (ConfChangeTransition)reader.ReadInt32();
                    break;
                case 2:
                    if (!TryParseStep(reader.ReadBytes(), out (ConfChangeType, ulong) step))
                    {
                        return false;
                    }

                    steps.Add(step);
                    break;
                case 3:
                    context = reader.ReadBytes().ToArray();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        change = new ConfChangeV2 { Transition = transition, Steps = [.. steps], Context = context };
        return !reader.Failed;
    }

    /// <summary>The encoding as an array; empty for an empty change, as in etcd.</summary>
    public byte[] ToBytes()
    {
        if (IsLeave && Context.Length == 0)
        {
            return [];
        }

        int size = ProtoSize.VarintField(1, (ulong)(long)Transition) + ProtoSize.BytesFieldIfSet(3, Context.Length);
        foreach ((ConfChangeType type, ulong node) in Steps)
        {
            size += ProtoSize.BytesField(2, StepSize(type, node));
        }

        byte[] bytes = new byte[size];
        var writer = new ProtoWriter(bytes);
        writer.WriteVarintField(1, (ulong)(long)Transition);
        foreach ((ConfChangeType type, ulong node) in Steps)
        {
            writer.WriteTag(2, WireType.Bytes);
            writer.WriteVarint((ulong)StepSize(type, node));
            writer.WriteVarintField(1, (ulong)(long)type);
            writer.WriteVarintField(2, node);
        }

        writer.WriteBytesFieldIfSet(3, Context);
        return bytes;
    }

    private static int StepSize(ConfChangeType type, ulong node) =>
        ProtoSize.VarintField(1, (ulong)(long)type) + ProtoSize.VarintField(2, node);

    private static bool TryParseStep(ReadOnlySpan<byte> data, out (ConfChangeType Type, ulong NodeId) step)
    {
        step = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    step.Type = (ConfChangeType)reader.ReadInt32();
                    break;
                case 2:
                    step.NodeId = reader.ReadUInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }
}
