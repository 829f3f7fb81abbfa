// CommittedEntry: one item of the ring from raft to store. Plain data.
using System;

namespace Cairn.Core.Server;

/// <summary>An entry to apply. Its bytes belong to raft's log and live until the applied index has passed it.</summary>
internal unsafe struct CommittedEntry
{
    public ulong Index;
    public ulong Term;
    public byte* Data;
    public int Length;

    /// <summary>raftpb.EntryType.</summary>
    public byte Type;

    /// <summary>Who waits for it on this member, if anybody. Raft keeps the pipeline's reference.</summary>
    public RequestSlot? Slot;

    public readonly ReadOnlySpan<byte> Payload => new(Data, Length);
}
