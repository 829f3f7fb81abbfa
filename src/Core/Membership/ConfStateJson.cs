// ConfStateJson: the raft configuration as it stands in bucket meta, key confState.
using System;
using System.Buffers;

namespace Cairn.Core.Membership;

/// <summary>Writes a ConfState as Go's encoding/json does: empty lists left out, auto_leave always there.</summary>
public static class ConfStateJson
{
    /// <summary>Appends the object.</summary>
    public static void Write(
        IBufferWriter<byte> output,
        ReadOnlySpan<ulong> voters,
        ReadOnlySpan<ulong> learners = default,
        ReadOnlySpan<ulong> votersOutgoing = default,
        ReadOnlySpan<ulong> learnersNext = default,
        bool autoLeave = false)
    {
        var json = new GoJsonWriter(output);
        json.Raw("{"u8);
        List(ref json, "\"voters\":"u8, voters);
        List(ref json, "\"learners\":"u8, learners);
        List(ref json, "\"voters_outgoing\":"u8, votersOutgoing);
        List(ref json, "\"learners_next\":"u8, learnersNext);
        json.Raw("\"auto_leave\":"u8);
        json.Boolean(autoLeave);
        json.Raw("}"u8);
    }

    private static void List(ref GoJsonWriter json, ReadOnlySpan<byte> name, ReadOnlySpan<ulong> values)
    {
        if (!values.IsEmpty)
        {
            json.Raw(name);
            json.Numbers(values);
            json.Raw(","u8);
        }
    }
}
